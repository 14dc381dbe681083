"""What a test could try: a channel's money times a factor, or the plan as a whole; what each should bring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.gain import Draws, joint_draws, new_customer_value
from micromarket.allocation.limits import Cells as Curves
from micromarket.allocation.limits import build_cells
from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.proof.estimators.simplex import Array

FACTORS = (1.5, 2.0, 3.0)  # of today's money in a channel; as far as budget.cell_change allows
MATERIAL = 0.10  # smallest relative change of a market's money that counts as a move
WHOLE = "the plan's moves"


@dataclass(frozen=True)
class Trial:
    """One thing to try. Money at the rate of the plan period; arrays by market.

    Attributes
    ----------
    name : str
        Channel, or :data:`WHOLE`.
    factor : float or None
        Of today's money in the channel; None: what the plan recommends, market by market.
    eligible : bool array
        Markets where it may be tried: never against the direction in which the plan moves them.
    tried, kept, planned : arrays
        Money of treated markets, of control markets, and of the plan, in the channels that the trial touches.
    extra : array of shape (markets, draws)
        New customers that ``tried`` brings more than ``kept``, over a whole plan period.
    worth : array of shape (markets, 2)
        Expected value (money, plan period) that ``tried`` and that the plan bring more than ``kept``.
    money : array of shape (markets, channels)
        ``tried`` less ``kept`` by channel.
    """

    name: str
    factor: float | None
    eligible: NDArray[np.bool_]
    tried: Array
    kept: Array
    planned: Array
    extra: Array
    worth: Array
    money: Array

    @property
    def text(self) -> str:
        """ "search doubled", for people."""
        if self.factor is None:
            return self.name
        words = {0.0: "switched off", 0.5: "halved", 2.0: "doubled", 3.0: "tripled"}
        return f"{self.name} {words.get(self.factor, f'at {self.factor:.0%} of today')}"


@dataclass(frozen=True)
class Stage:
    """All that is known about response when tests are designed; rows of arrays: ``curves.markets``."""

    curves: Curves
    draws: Draws
    recommended: Array
    total: float

    def grid(self, values: Array) -> Array:
        """(markets, channels) from one entry a cell."""
        out = np.zeros((len(self.curves.markets), len(self.curves.channels)))
        out[self.curves.market, self.curves.channel] = values
        return out


def stage_of(
    data: MarketData,
    budget: pd.DataFrame,
    curves: pd.DataFrame,
    curve_draws: pd.DataFrame,
    value_markets: pd.DataFrame,
    settings: Settings,
    blocked: set[str],
) -> Stage:
    """Curves, posterior draws and the plan as arrays of cells."""
    markets = pd.Index(sorted(curves["market_id"].unique()), name="market_id")
    value, _ = new_customer_value(value_markets, tuple(markets))
    cells = build_cells(data, curves, value, markets, blocked)
    draws = joint_draws(cells, curve_draws, value_markets, settings.seed)
    keys = pd.MultiIndex.from_arrays([np.array(cells.markets)[cells.market], np.array(cells.channels)[cells.channel]])
    money = budget.groupby(["market_id", "channel"])["recommended"].sum().reindex(keys)
    recommended = money.to_numpy(float)
    recommended = np.where(np.isfinite(recommended), recommended, cells.current)
    return Stage(cells, draws, recommended, float(recommended.sum()))


def trials_of(stage: Stage, settings: Settings, wanted: tuple[str, ...] | None) -> list[Trial]:
    """Every trial that today's money and the plan's direction leave room for.

    Parameters
    ----------
    wanted : tuple of str, optional
        Channels to test; default: all.
    """
    curves, limits = stage.curves, settings.budget
    now, planned = stage.grid(curves.current), stage.grid(stage.recommended)
    free = ~stage.grid(curves.blocked.astype(float)).any(axis=1)
    out = []
    for c, channel in enumerate(curves.channels):
        if wanted is not None and channel not in wanted:
            continue
        spent = free & (now[:, c] > 0)
        up = spent & (planned[:, c] >= (1 - MATERIAL) * now[:, c])
        down = spent & (planned[:, c] <= (1 + MATERIAL) * now[:, c])
        for factor in FACTORS:
            if factor <= limits.cell_change[1] + 1e-9:
                out.append(_trial(stage, channel, factor, up, now, np.where(_only(now, c), factor * now, now), planned))
        if limits.cell_change[0] <= 0.5:
            factor = max(limits.cell_change[0], 0.0)
            out.append(_trial(stage, channel, factor, down, now, np.where(_only(now, c), factor * now, now), planned))
    rise, total = planned.sum(axis=1) - now.sum(axis=1), now.sum(axis=1)
    rises = free & (rise >= MATERIAL * np.maximum(total, 1e-9)) & (rise > 0)
    if rises.any() and wanted is None:
        out.append(_trial(stage, WHOLE, None, rises, now, planned, planned))
    return [t for t in out if t.eligible.any()]


def _only(now: Array, channel: int) -> NDArray[np.bool_]:
    mask = np.zeros(now.shape, dtype=bool)
    mask[:, channel] = True
    return mask


def _trial(
    stage: Stage, name: str, factor: float | None, eligible: NDArray[np.bool_], now: Array, tried: Array, planned: Array
) -> Trial:
    touched = np.ones(now.shape[1], dtype=bool) if factor is None else (tried != now).any(axis=0)
    curves, draws = stage.curves, stage.draws
    count = len(curves.markets)
    inside = touched[curves.channel]
    extra, plan = np.zeros((count, len(draws))), np.zeros((count, len(draws)))
    half = draws.half_spend if draws.half_spend.shape[1] > 1 else np.broadcast_to(draws.half_spend, (len(inside), 1))
    for c in np.flatnonzero(touched):
        at = np.flatnonzero(inside & (curves.channel == c))
        rows = curves.market[at]
        x = now[rows, c][:, None]
        base = x / (x + half[at])
        for target, money in ((extra, tried), (plan, planned)):
            y = money[rows, c][:, None]
            target[rows] += draws.amplitude[at] * (y / (y + half[at]) - base)
    worth = np.column_stack([(extra * draws.value).mean(axis=1), (plan * draws.value).mean(axis=1)])
    sums = [np.where(touched, a, 0.0).sum(axis=1) for a in (tried, now, planned)]
    money = np.where(touched, tried - now, 0.0)
    return Trial(name, factor, eligible, sums[0], sums[1], sums[2], extra, worth, money)
