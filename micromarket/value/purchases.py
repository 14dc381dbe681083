"""Purchase histories without a contract, and the purchase model of each segment fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from micromarket.value.model import Cells
from micromarket.value.models.bgnbd import BetaGeoNBD
from micromarket.value.models.mbgnbd import ModifiedBetaGeoNBD
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.models.weibullnbd import WeibullNBD

#: A segment with fewer customers, or fewer repeat buyers, shares the fit of all segments.
FEWEST_CUSTOMERS, FEWEST_REPEATERS = 200, 30


@dataclass(frozen=True)
class Histories:
    """Compressed histories with their cell and segment: arrays over distinct (cell, x, t_x, T), times in days."""

    cell: np.ndarray
    segment: np.ndarray
    x: np.ndarray
    t_x: np.ndarray
    T: np.ndarray
    customers: np.ndarray
    amount: np.ndarray

    @classmethod
    def of(cls, counts: pd.DataFrame, cells: Cells) -> tuple[Histories, pd.DataFrame]:
        """From :func:`~micromarket.value.summaries.count_purchases`; also the rows of ``counts`` that were used."""
        cell = cells.locate(counts)
        counts = counts[cell >= 0]
        cell = cell[cell >= 0]
        x, t_x, T, n, amount = (
            counts[c].to_numpy(float, na_value=np.nan) for c in ("x", "t_x", "T", "customers", "amount")
        )
        return cls(cell, cells.segment[cell], x, t_x, T, n, amount), counts


class PurchaseModel(Protocol):
    """What the cells need of an estimator of purchases."""

    converged_: bool
    covariance_: np.ndarray

    def fit(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None) -> Any: ...

    def parameters(self) -> dict[str, float]: ...

    def expected_purchases(self, t: float | np.ndarray) -> np.ndarray: ...


#: Purchase models to choose from, by the name that users see. Each starts at a wide prior, so that any data fit.
FAMILIES: dict[str, Callable[[], PurchaseModel]] = {
    "BG/NBD": lambda: BetaGeoNBD(prior_sd=2.0),
    "MBG/NBD": lambda: ModifiedBetaGeoNBD(prior_sd=2.0),
    "Pareto/NBD": lambda: ParetoNBD(prior_sd=2.0),
    "Weibull/NBD": lambda: WeibullNBD(prior_sd=2.0),
}
SIMPLEST = "BG/NBD"


def fit_segments(histories: Histories, segments: int, family: str = SIMPLEST) -> list[PurchaseModel]:
    """The purchase model of each segment over all its markets; thin segments share the fit of everyone."""
    h, make = histories, FAMILIES[family]
    everyone: PurchaseModel | None = None
    fits = []
    for s in range(segments):
        rows = h.segment == s
        n = h.customers[rows]
        thin = n.sum() < FEWEST_CUSTOMERS or n[h.x[rows] > 0].sum() < FEWEST_REPEATERS
        if thin or segments == 1:
            if everyone is None:
                everyone = make().fit(h.x, h.t_x, h.T, h.customers)
            fits.append(everyone)
        else:
            fits.append(make().fit(h.x[rows], h.t_x[rows], h.T[rows], n))
    return fits


def within_markets(shape: float, variance: float) -> float:
    """Shape of a gamma (in customers) once a log-normal spread between markets is taken out of it.

    Squared coefficients of variation multiply: 1 + 1/shape = (1 + 1/within) exp(variance). Held at five times the
    shape seen, as moments can ask for more than there is.
    """
    left = (1 + 1 / shape) * np.exp(-variance) - 1
    return float(1 / max(left, 0.2 / shape))


def concentration_within_markets(kappa: float, share: float, variance: float) -> float:
    """The same for a Beta's a + b; ``variance``: of the logit of its mean between markets."""
    left = 1 / (kappa + 1) - share * (1 - share) * variance
    return float(1 / max(left, 0.2 / (kappa + 1)) - 1)
