"""What the targets' stage says: the gap to the goal, warnings, assumptions and checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.formats import listed, money, percent, plural
from micromarket.notes import Assumption, Check, Notes
from micromarket.targets.cells import HIGHEST, LOWEST, CellForecast
from micromarket.targets.forecast import CellHistory
from micromarket.targets.limits import CONFLICTS, CONTRACT, Limits

LAST_YEAR = "same months of last year"


def _verb(n: int) -> str:
    return "is" if n == 1 else "are"


def base_source(past: CellHistory) -> str:
    """What the goal's growth is measured against; a run rate where the history holds no whole year."""
    months = len(past.months)
    return LAST_YEAR if months >= 12 else f"run rate of the last {months} months"


def conflicts_of(bounds: Limits, cells: CellForecast) -> list[dict[str, Any]]:
    """Where a limit contradicts the forecast: what, how many cells, and their forecast revenue (money)."""
    return [
        {"limit": kind, "what": words, "cells": int(hit.sum()), "revenue": round(float(cells.mu[hit].sum()), 2)}
        for kind, words in CONFLICTS.items()
        if (hit := bounds.conflict == kind).any()
    ]


def notes_of(
    numbers: dict[str, Any], table: pd.DataFrame, cells: CellForecast, bounds: Limits, past: CellHistory,
    settings: Settings, margin_rate: float | None, value_cells: pd.DataFrame | None, budget: pd.DataFrame | None,
) -> Notes:  # fmt: skip
    warnings, assumptions = [], []
    low, high = bounds.low, bounds.high
    months = len(past.months)
    unit = numbers["set_by"]
    base = "last year" if numbers["base_source"] == LAST_YEAR else "that run rate"
    if months < 24:
        how = "and no year could be held back to test it" if not cells.backtest_months else "so its test was short"
        warnings.append(f"Only {months} months of history: the forecast behind the targets knows little of season and"
                        f" growth, {how}. Treat the odds as rough.")  # fmt: skip
    if numbers["base_source"] != LAST_YEAR:
        warnings.append(f"There is no whole last year to grow from: the goal's {settings.targets.growth:+.0%} and the"
                        f" limits of the targets are against the {numbers['base_source']}.")  # fmt: skip
    below = int((LOWEST * cells.base > cells.mu * (1 + 1e-9)).sum())
    above = int((HIGHEST * cells.base < cells.mu * (1 - 1e-9)).sum())
    if below:
        warnings.append(f"{below:,} of {plural(len(low), unit)} {_verb(below)} forecast below {LOWEST:.0%} of {base};"
                        " their target may fall that far, as a target out of reach moves nobody.")  # fmt: skip
    if above:
        warnings.append(f"{above:,} of {plural(len(low), unit)} {_verb(above)} forecast above {HIGHEST:.0%} of {base};"
                        " their target may rise that far.")  # fmt: skip
    if numbers["floors_gave_way"] is not None:
        warnings.append(f"The goal is lower than {LOWEST:.0%} of {base} added up over all of them: that floor doesn't"
                        " hold here, so that the targets add up to the goal and not to more.")  # fmt: skip
    over = next((c for c in numbers["conflicts"] if c["limit"] == CONTRACT), None)
    if over:
        warnings.append(f"In {plural(over['cells'], unit)} contracts alone bring more than {HIGHEST:.0%} of {base};"
                        " their target is at least that.")  # fmt: skip
    if cells.capped_by_reps.any():
        warnings.append(f"In {plural(int(cells.capped_by_reps.sum()), unit)} the reps can't win all the customers"
                        " of forecast and budget; their target stops at the reps' capacity.")  # fmt: skip
    if cells.capped_by_potential.any():
        warnings.append(f"In {plural(int(cells.capped_by_potential.sum()), unit)} the forecast would exceed the"
                        " market's potential; their target stops there.")  # fmt: skip
    if numbers["gap"]:
        warnings.append(numbers["gap"]["text"])
    staff = numbers["capacity"]
    if staff and staff["utilisation"] is not None:
        busy = (f"The targets ask {percent(staff['utilisation'])} of what the reps can win;"
                f" {plural(staff['overloaded'], 'territory', 'territories')} {_verb(staff['overloaded'])} above 100%,"
                f" {staff['idle']:,} below half.")  # fmt: skip
        if staff["moved"]:
            first = listed([f"{m['reps']} from {m['from']} to {m['to']}" for m in staff["moves"][:3]])
            busy += (f" Moving {plural(staff['moved'], 'rep')} brings about"
                     f" {money(staff['gain'], settings.company.currency)} of margin over the horizon: {first}"
                     + (" and more." if len(staff["moves"]) > 3 else "."))  # fmt: skip
        if staff["overloaded"] or staff["moved"]:
            warnings.append(busy)
    if value_cells is None:
        warnings.append("No customer values: a new customer is taken to bring the revenue of today's average customer.")
    if budget is None:
        warnings.append("The targets count on today's spend, as there is no recommended budget.")
    if margin_rate is None:
        warnings.append("No margin: neither plan.yml nor the purchases say what share of revenue is margin.")
    if numbers["entry_segments"] is not None:
        into = listed([f"“{name}”" for name in numbers["entry_segments"]]) or "none of them of late"
        text = (
            "Customers pass from segment to segment as they buy, so targets, odds and limits are set by market. A"
            " market's revenue is split as last year's purchases were, by the segment that the buyer was in then; new"
            f" customers are won into {into}"
        )
        assumptions.append(Assumption(text, "how the segments are made"))
    if cells.spread.source == "assumed":
        assumptions.append(Assumption(f"A typical {unit} ends within about 10% of its forecast, the company"
                                      " within 6% (standard deviations)", "default of ours"))  # fmt: skip
    assumptions.append(Assumption(f"A target lies between {LOWEST:.0%} and {HIGHEST:.0%} of {base} unless the"
                                  " forecast itself lies outside", "default of ours"))  # fmt: skip
    if numbers["base_source"] == LAST_YEAR:
        assumptions.append(Assumption("Three quarters of last year's growth carry on into the next year",
                                      "Gardner and McKenzie (1985), damped trends"))  # fmt: skip
    rows = int(np.round(table["revenue"].to_numpy() * 100).astype(np.int64).sum())
    checks = (
        Check("targets add up to the published total to the cent", rows == round(numbers["published_revenue"] * 100),
              f"rows {rows / 100:,.2f}, published {numbers['published_revenue']:,.2f}"),
        Check(f"every {unit} has the same odds inside its limits", True if numbers["field_notes"] else
              bool(np.ptp(_free_odds(cells, table, low, high)) < 0.02), f"{numbers['p_cell']:.0%}"),
    )  # fmt: skip
    return Notes(numbers, tuple(assumptions), tuple(warnings), checks)


def _free_odds(cells: CellForecast, table: pd.DataFrame, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Odds of the cells whose target stands at no limit (big enough that a cent doesn't matter)."""
    periods = len(table) // len(low)
    money = table["revenue"].to_numpy().reshape(-1, periods).sum(axis=1)
    free = (money > low + 0.02) & (money < high - 0.02) & (cells.mu > 100)
    return table["p_attain"].to_numpy()[::periods][free] if free.any() else np.zeros(1)
