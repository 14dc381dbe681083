"""What both kinds of relationship hand to the money: behaviour and spend of every cell, with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from micromarket.notes import Assumption
from micromarket.value.pooling import Posterior
from micromarket.value.signal import Component

#: Above this, market x segment pairs that don't occur are left out.
MOST_CELLS = 100_000
EVERYBODY = "All"


@dataclass(frozen=True)
class Cells:
    """Market x segment pairs in order of market then segment.

    ``market`` and ``label`` index into ``market_ids`` and ``labels``, the names that are published. ``segment`` indexes
    into ``segments``, which the models are fitted by: the same, but where segments were made from behaviour; a model of
    behaviour fitted inside them would take the selection for a trait, so there all customers share one fit.
    """

    market: np.ndarray
    segment: np.ndarray
    market_ids: tuple[str, ...]
    segments: tuple[str, ...]
    label: np.ndarray
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.market)

    @classmethod
    def of(cls, pairs: pd.DataFrame, market_ids: list[str], together: bool = False) -> Cells:
        """Every market with every segment, so that none is without value (of a great many, the ``pairs`` that occur,
        and every segment for markets without any). ``together``: the models are fitted to all segments at once."""
        pairs = pairs[["market_id", "segment"]].drop_duplicates()
        pairs = pairs[pairs["market_id"].isin(market_ids)]
        segments = sorted(pairs["segment"].unique()) or [EVERYBODY]
        few = len(set(market_ids)) * len(segments) <= MOST_CELLS
        without = sorted(set(market_ids) if few else set(market_ids) - set(pairs["market_id"]))
        more = pd.DataFrame([(m, s) for m in without for s in segments], columns=["market_id", "segment"])
        pairs = pd.concat([pairs, more]).drop_duplicates().sort_values(["market_id", "segment"])
        ids = sorted(set(market_ids))
        label = pd.Index(segments).get_indexer(pd.Index(pairs["segment"]))
        return cls(
            market=pd.Index(ids).get_indexer(pd.Index(pairs["market_id"])),
            segment=0 * label if together else label,
            market_ids=tuple(ids),
            segments=(EVERYBODY,) if together else tuple(segments),
            label=label,
            labels=tuple(segments),
        )

    def locate(self, frame: pd.DataFrame) -> np.ndarray:
        """Index of the cell of each row (market_id, segment by its published name), -1 where there is none."""
        m = pd.Index(self.market_ids).get_indexer(pd.Index(frame["market_id"]))
        s = pd.Index(self.labels).get_indexer(pd.Index(frame["segment"]))
        table = np.full((len(self.market_ids) + 1, len(self.labels) + 1), -1)
        table[self.market, self.label] = np.arange(len(self))
        return np.where((m >= 0) & (s >= 0), table[m, s], -1)

    def total(self, index: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums by cell."""
        return np.bincount(index, weights=values, minlength=len(self))

    def by_segment(self, values: np.ndarray) -> np.ndarray:
        """Sums over the cells of each segment that models are fitted by."""
        return np.bincount(self.segment, weights=values, minlength=len(self.segments))

    def by_label(self, values: np.ndarray) -> np.ndarray:
        """Sums over the cells of each published segment."""
        return np.bincount(self.label, weights=values, minlength=len(self.labels))


@dataclass(frozen=True)
class LogQuadratic:
    """A positive quantity of each cell, exp(centre + slope . d + bend . d^2), d: departure from the posterior mean."""

    centre: np.ndarray
    slope: np.ndarray
    bend: np.ndarray

    @classmethod
    def around(cls, function: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, step: float) -> list[LogQuadratic]:
        """One for each column of ``function``: (cells, k) -> positive (cells, q), by central differences."""
        middle = np.log(np.maximum(function(theta), 1e-300))
        slope, bend = np.empty((*middle.shape, theta.shape[1])), np.empty((*middle.shape, theta.shape[1]))
        for j in range(theta.shape[1]):
            move = np.zeros(theta.shape[1])
            move[j] = step
            up = np.log(np.maximum(function(theta + move), 1e-300))
            down = np.log(np.maximum(function(theta - move), 1e-300))
            slope[:, :, j], bend[:, :, j] = (up - down) / (2 * step), (up + down - 2 * middle) / (2 * step**2)
        return [cls(middle[:, q], slope[:, q], bend[:, q]) for q in range(middle.shape[1])]

    def at(self, departure: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """``departure``: (draws, cells, k) -> (draws, cells)."""
        log = np.einsum("dck,ck->dc", departure, self.slope[cells])
        log += np.einsum("dck,ck->dc", departure**2, self.bend[cells])
        return np.exp(self.centre[cells] + np.clip(log, -8, 8))


@dataclass(frozen=True)
class CellModel:
    """Behaviour and money of each cell.

    Attributes
    ----------
    behaviour, money : Posterior
        Effects on purchasing or leaving (k = 2 or 1), on the logarithm of money per purchase or month (k = 1).
    new_count, new_months : LogQuadratic
        Expected discounted purchases (or paid months), and months alive, of a new customer within the horizon.
    current_revenue, current_months : LogQuadratic
        Mean over customers now on the books: discounted revenue (money), months alive.
    unit : array (cells,)
        Money per purchase or month of a new customer.
    current_sd : array (cells,)
        Standard error of log current revenue from which customers a market happens to hold today.
    money_slope : array (cells,)
        How spend per purchase goes with the purchase rate (elasticity): a market that by luck holds busy customers
        shows both too high.
    money_share : array (cells,)
        Elasticity of current revenue to ``money`` (0 where today's revenue is known).
    margin_rate, margin_sd : arrays (cells,)
        Margin per unit of revenue, and its standard error.
    first_year_count, retention : arrays (cells,)
        Undiscounted purchases or paid months in a new customer's first year; monthly retention of today's revenue.
    path_count, path_months : arrays (cells, months + 1)
        Cumulative discounted purchases (paid months) and months alive of a new customer, after 0, 1, ... months.
    shared_sd, current_shared_sd : arrays (cells,)
        Standard errors of the log lifetime of new and of current customers from what all markets of a segment share:
        the fit's parameters and the look back's calibration.
    market_sd : array (cells,)
        Standard deviation of a market's log lifetime about the model, beyond chance (from a look back).
    customers : array (cells,)
        Customers in the model's data.
    """

    cells: Cells
    behaviour: Posterior
    money: Posterior
    new_count: LogQuadratic
    new_months: LogQuadratic
    current_revenue: LogQuadratic
    current_months: LogQuadratic
    unit: np.ndarray
    current_sd: np.ndarray
    money_slope: np.ndarray
    money_share: np.ndarray
    margin_rate: np.ndarray
    margin_sd: np.ndarray
    first_year_count: np.ndarray
    retention: np.ndarray
    path_count: np.ndarray
    path_months: np.ndarray
    shared_sd: np.ndarray
    current_shared_sd: np.ndarray
    market_sd: np.ndarray
    customers: np.ndarray
    models: list[dict[str, Any]]
    components: list[Component]
    warnings: list[str] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)
