"""Tenure counts of contracts, and the retention model of each segment fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from micromarket.value.model import Cells
from micromarket.value.models.bdw import BetaDiscreteWeibull
from micromarket.value.models.sbg import ShiftedBetaGeometric

FEWEST_CUSTOMERS, FEWEST_LOST = 100, 20


@dataclass(frozen=True)
class Tenures:
    """Rows of :func:`~micromarket.value.summaries.count_contracts` with their cell and segment (ages in months).

    ``last_month``: how much of their last month customers stayed on average: 1/2, on any day; 1, at renewals.
    """

    cell: np.ndarray
    segment: np.ndarray
    entry: np.ndarray
    age: np.ndarray
    gone: np.ndarray
    customers: np.ndarray
    entry_part: np.ndarray
    age_part: np.ndarray
    value: np.ndarray
    last_month: float

    @classmethod
    def of(cls, counts: pd.DataFrame, cells: Cells) -> tuple[Tenures, pd.DataFrame]:
        cell = cells.locate(counts)
        counts, cell = counts[cell >= 0], cell[cell >= 0]
        entry, age, left = (counts[c].to_numpy(int) for c in ("entry", "age", "gone"))
        n, entry_part, age_part, value = (
            counts[c].to_numpy(float) for c in ("customers", "entry_part", "age_part", "value")
        )
        gone = left == 1
        lost = n[gone].sum()
        last_month = float(np.clip(age_part[gone].sum() / lost, 0.5, 1.0)) if lost >= FEWEST_LOST else 0.5
        segment = cells.segment[cell]
        return cls(cell, segment, entry, age, left, n, entry_part, age_part, value, last_month), counts

    @property
    def partial(self) -> float:
        """How much a begun month exposes to leaving, per fraction of it lived: 1 where customers leave at any time,
        0 where they leave at renewals only (at the month's end)."""
        return 2 * (1 - self.last_month)

    def weighted_by_value(self, segments: int) -> Tenures:
        """Each customer counted by monthly value over the segment's mean: its retention is that of revenue.

        Who pays more may stay longer or shorter; money times a lifetime of heads would miss it.
        """
        total = np.bincount(self.segment, weights=self.value, minlength=segments)
        heads = np.bincount(self.segment, weights=self.customers, minlength=segments)
        level = np.where(total > 0, total / np.maximum(heads, 1e-300), 1.0)[self.segment]
        weight = np.where(total[self.segment] > 0, self.value / np.maximum(self.customers, 1e-300) / level, 1.0)
        weight = np.maximum(weight, 0.0)
        return replace(
            self,
            customers=self.customers * weight,
            entry_part=self.entry_part * weight,
            age_part=self.age_part * weight,
        )

    def lost_and_stayed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Customers who left, and who stayed (fractions of months at the ends of observation), at each age."""
        size = int(self.age[rows].max()) + 1
        entry, age, n, gone = self.entry[rows], self.age[rows], self.customers[rows], self.gone[rows] == 1
        lost = np.bincount(age[gone], weights=n[gone], minlength=size)
        change = np.bincount(entry, weights=n, minlength=size + 1) - np.bincount(age, weights=n, minlength=size + 1)
        stayed = np.cumsum(change)[:size]
        stayed += np.bincount(age[~gone], weights=self.partial * self.age_part[rows][~gone], minlength=size)
        late = ~gone | (entry < age)
        stayed -= np.bincount(entry[late], weights=self.partial * self.entry_part[rows][late], minlength=size)
        return lost, np.maximum(stayed, 0.0)


class RetentionModel(Protocol):
    """What the cells need of :class:`~micromarket.value.models.sbg.ShiftedBetaGeometric` and its likes."""

    converged_: bool
    covariance_: np.ndarray

    def fit(self, lost: np.ndarray, stayed: np.ndarray) -> Any: ...

    def hazard(self, age: np.ndarray) -> np.ndarray: ...

    def parameters(self) -> dict[str, float]: ...

    def discounted_lifetime(self, horizon_months: int, discount_rate: float, age: int = 0) -> float: ...


#: Retention models to choose from, by the name that users see.
FAMILIES: dict[str, Callable[[], RetentionModel]] = {
    "shifted-beta-geometric": lambda: ShiftedBetaGeometric(prior_sd=2.0),
    "beta-discrete-Weibull": lambda: BetaDiscreteWeibull(prior_sd=2.0),
}
SIMPLEST = "shifted-beta-geometric"


def fit_segments(tenures: Tenures, segments: int, family: str = SIMPLEST) -> list[RetentionModel]:
    """The retention model of each segment over all its markets; thin segments share the fit of everyone."""
    make = FAMILIES[family]
    everyone: RetentionModel | None = None
    fits = []
    for s in range(segments):
        rows = tenures.segment == s
        n = tenures.customers[rows]
        if n.sum() < FEWEST_CUSTOMERS or n[tenures.gone[rows] == 1].sum() < FEWEST_LOST:
            if everyone is None:
                everyone = make().fit(*tenures.lost_and_stayed(tenures.segment >= 0))
            fits.append(everyone)
        else:
            fits.append(make().fit(*tenures.lost_and_stayed(rows)))
    return fits


def shape_of(fit: RetentionModel) -> tuple[float, float, float]:
    """alpha, beta, c of a fit: 1 - survival's base ~ Beta(alpha, beta), survival base^(age^c) (c = 1: sBG)."""
    found = fit.parameters()
    return found["alpha"], found["beta"], found.get("c", 1.0)
