"""What marketing owes sales: the leads behind every targeted customer, by the company's own rates and lag."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.funnel.conversion import STAGES, Conversion, estimate_conversion
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Check, Notes
from micromarket.rounding import largest_remainder, spread_whole
from micromarket.workspace import Workspace

_FEW_WINS = 30
_COLUMNS = ("leads", *STAGES)


@dataclass(frozen=True)
class FunnelResult:
    """The table ``funnel`` (``None``: can't be told, the notes say why) and the stage's notes.

    ``won`` equals the target's new customers, row by row. ``leads`` have to be *created*, and ``mql``, ``sal``, ``sql``
    reached, in the period; whole counts, empty for stages that the company does not record. In the notes, ``rates`` are
    shares of leads that reach a stage; ``lag_days`` is the mean time from a lead to its win.
    """

    funnel: pd.DataFrame | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        """Leaves the table, if any, and the notes in ``workspace``."""
        if self.funnel is not None:
            workspace.write("funnel", self.funnel)
        workspace.write_notes("funnel", self.notes)


def back_solve(
    data: MarketData, targets: pd.DataFrame | None, budget: pd.DataFrame | None, settings: Settings
) -> FunnelResult:
    """Leads, MQL, SAL and SQL that the targets need, per market x segment x period.

    Each stage of a cell is ``won * share of leads that reach the stage / share that are won``, moved earlier by its
    part of the mean lag. The lag runs around the end of the plan: the leads of its last weeks, whose wins fall after
    it, are taken to be as many as those that the pipeline open today still owes its first weeks. So every stage's
    total over the plan is the total that its wins need.

    Parameters
    ----------
    data : MarketData
    targets : DataFrame or None
    budget : DataFrame or None
        Not used yet: the mix of channels is the one of the past.
    settings : Settings
    """
    if targets is None or targets.empty:
        return _nothing("No funnel: there are no targets to work back from.")
    if data.leads is None or data.leads.empty:
        return _nothing("No funnel: there are no leads in the data, so the rates at which they turn into customers are"
                        " unknown. Benchmarks of others are not used in their place.")  # fmt: skip
    targets = targets.sort_values(["market_id", "segment", "period"], kind="stable").reset_index(drop=True)
    cells = targets[["market_id", "segment"]].drop_duplicates().reset_index(drop=True)
    conversion = estimate_conversion(data.leads, cells, pd.Timestamp(settings.as_of))
    if conversion is None:
        return _nothing("No funnel: none of the leads in the data was won yet, so no rate can be told.")

    periods = len(targets) // len(cells)
    won = targets["new_customers"].to_numpy(dtype=np.int64).reshape(len(cells), periods)
    days = settings.plan.days / periods
    reach = {s: conversion.cells[s].to_numpy(float) for s in conversion.stages}
    counts: dict[str, np.ndarray] = {"won": won}
    later = won
    steps = ["leads", *conversion.stages[:-1]]
    for position in range(len(steps) - 1, -1, -1):
        stage = steps[position]
        lag = conversion.lag_days * (len(steps) - position) / len(steps) / days
        share = reach[stage] if stage in reach else np.ones(len(cells))
        needed = won.sum(axis=1) * share / reach["won"]
        whole = np.maximum(largest_remainder(needed), later.sum(axis=1))
        # a period can't hold fewer than the next stage has in it: those first, the rest as the lag has it
        later = later + spread_whole(whole - later.sum(axis=1), _surplus(_earlier(won, lag), whole, later))
        counts[stage] = later
    table = targets[["market_id", "segment", "period"]].copy()
    for column in _COLUMNS:
        table[column] = counts[column].ravel() if column in counts else pd.array([pd.NA] * len(table), dtype="Int64")
        table[column] = table[column].astype("Int64")
    return FunnelResult(table, _notes(table, conversion, won))


def _nothing(why: str) -> FunnelResult:
    return FunnelResult(None, Notes(warnings=(why,)))


def _earlier(won: np.ndarray, periods: float) -> np.ndarray:
    """``won`` moved ahead in time by a (fractional) number of periods, around the end; row sums are kept."""
    whole = int(np.floor(periods))
    part = periods - whole
    return (1 - part) * np.roll(won, -whole, axis=1) + part * np.roll(won, -whole - 1, axis=1)


def _surplus(profile: np.ndarray, totals: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Where the wanted profile exceeds what is there already; the profile itself where it does nowhere."""
    sums = profile.sum(axis=1, keepdims=True)
    wanted = np.where(sums > 0, profile / np.where(sums > 0, sums, 1), 1 / profile.shape[1]) * totals[:, None]
    return np.maximum(wanted - floor, 0.0)


def _notes(table: pd.DataFrame, conversion: Conversion, won: np.ndarray) -> Notes:
    recorded = [c for c in _COLUMNS if c == "leads" or c in conversion.stages]
    numbers: dict[str, Any] = {
        "total": {c: int(table[c].sum()) if c in recorded else None for c in _COLUMNS},
        "rates": {s: conversion.company.get(s) for s in STAGES},
        "lag_days": round(conversion.lag_days, 1),
        "source": f"own leads: {conversion.leads:,} leads, {conversion.won:,} won",
        "unplaced_share": conversion.unplaced,
    }
    warnings = []
    if conversion.won < _FEW_WINS:
        warnings.append(f"Only {conversion.won} leads were won so far: the rates behind the leads needed are rough.")
    if conversion.unplaced > 0.05:
        warnings.append(f"{conversion.unplaced:.0%} of the leads name no market or no segment. They count for the rates"
                        " of their channel, so markets differ less in this funnel than they may in truth.")  # fmt: skip
    if int(won.sum()) == 0:
        warnings.append("The targets ask for no new customers, so no leads are needed for them.")
    assumptions = (
        Assumption("Every new customer is won through a lead, in today's mix of channels", "default of ours"),
        Assumption(f"A lead takes {conversion.lag_days:.0f} days to be won; the leads that win after the plan's end are"
                   " as many as those open at its start", "own leads; steady pipeline"),
        Assumption("The time from lead to win is exponential: leads too young to be decided count in part",
                   "default of ours"),
    )  # fmt: skip
    order = [table[c].to_numpy(dtype=float) for c in recorded]
    falling = all((a >= b).all() for a, b in pairwise(order))
    checks = (
        Check("won equals the targets' new customers", int(table["won"].sum()) == int(won.sum())),
        Check("no stage holds more than the one before it", falling),
    )
    return Notes(numbers, assumptions, tuple(warnings), checks)
