"""What the funnel's stage says: rates, channels, service levels, how far open leads carry the plan."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import shown
from micromarket.formats import count, listed, percent, plural
from micromarket.funnel.conversion import STAGES, Conversion
from micromarket.funnel.pipeline import Projection
from micromarket.notes import Assumption, Check, Notes

_FEW_WINS = 30
_COLUMNS = ("leads", *STAGES)
_WEEKS = 1.0  # less than this is no shortage worth a line


def _named(text: object) -> str:
    return shown(str(text), 40).strip("'")


def short_regions(pipeline: pd.DataFrame) -> pd.DataFrame:
    """Rows of a level below the company whose open leads fall short beyond chance, most weeks first."""
    level = "region" if (pipeline["level"] == "region").any() else "territory"
    rows = pipeline[pipeline["level"] == level]
    rows = rows[(rows["weeks_short"] >= _WEEKS) & (rows["expected_high"] < rows["needed"])]
    return rows.sort_values(["weeks_short", "key"], ascending=[False, True], kind="stable")


def coverage_in_words(pipeline: pd.DataFrame) -> str:
    """One or two sentences on the open leads."""
    company = pipeline[pipeline["level"] == "company"].iloc[0]
    if not np.isfinite(company["weeks_needed"]):
        return "The targets' first weeks ask for no new customers through leads."
    text = (
        f"The leads open today should bring {count(company['expected_wins'])} wins; the plan needs"
        f" {count(company['needed'])} from them before new leads can mature."
    )
    short = short_regions(pipeline)
    if len(short):
        first = short.iloc[0]
        text += f" The pipeline is {_weeks(first['weeks_short'])} short in {first['level']} {_named(first['key'])}"
        others = [f"{_named(r.key)} ({_weeks(r.weeks_short)})" for r in short.iloc[1:4].itertuples()]
        text += f", then {listed(others)}" if others else ""
        text += f"; {plural(len(short), first['level'])} in all." if len(short) > 4 else "."
    elif company["weeks_short"] >= _WEEKS and company["expected_high"] < company["needed"]:
        text += f" That is {_weeks(company['weeks_short'])} short."
    else:
        text += " That is enough."
    return text


def _weeks(value: Any) -> str:
    return plural(round(float(value)), "week") if value >= 1.5 else f"{value:.1f} weeks"


def notes_of(
    table: pd.DataFrame, conversion: Conversion, won: np.ndarray, share: float, channels: pd.DataFrame,
    pipeline: pd.DataFrame | None, projection: Projection | None, reasons: list[dict[str, Any]],
) -> Notes:  # fmt: skip
    recorded = [c for c in _COLUMNS if c == "leads" or c in conversion.stages]
    numbers: dict[str, Any] = {
        "total": {c: int(table[c].sum()) if c in recorded else None for c in _COLUMNS},
        "rates": {s: conversion.company.get(s) for s in STAGES},
        "lag_days": round(conversion.lag_days, 1),
        "source": f"own leads: {conversion.leads:,} leads, {conversion.won:,} won",
        "unplaced_share": conversion.unplaced,
        "through_leads": share,
        "channels": channels.to_dict("records"),
        "pipeline": None,
        "service": None,
        "rejection_reasons": reasons,
    }
    warnings = []
    if conversion.won < _FEW_WINS:
        warnings.append(f"Only {conversion.won} leads were won so far: the rates behind the leads needed are rough.")
    if conversion.unplaced > 0.05:
        warnings.append(f"{conversion.unplaced:.0%} of the leads name no market or no segment. They count for the rates"
                        " of their channel, so markets differ less in this funnel than they may in truth.")  # fmt: skip
    if int(won.sum()) == 0:
        warnings.append("The targets ask for no new customers, so no leads are needed for them.")
    elif share < 0.9:
        warnings.append(f"Leads brought about {percent(share)} of last year's new customers; the others came without"
                        f" one. If that goes on, {count(numbers['total']['leads'] * share)} leads are enough, not the"
                        f" {count(numbers['total']['leads'])} behind all new customers.")  # fmt: skip
    dear = _dear(channels)
    if dear:
        warnings.append(dear)
    if pipeline is not None and projection is not None:
        company = pipeline[pipeline["level"] == "company"].iloc[0]
        numbers["pipeline"] = {
            "open_leads": company["open_leads"], "expected_wins": company["expected_wins"],
            "low": company["expected_low"], "high": company["expected_high"], "needed": company["needed"],
            "weeks_covered": company["weeks_covered"], "weeks_needed": company["weeks_needed"],
            "weeks_short": company["weeks_short"], "text": coverage_in_words(pipeline),
            "short": short_regions(pipeline)[["key", "weeks_short"]].to_dict("records"),
        }  # fmt: skip
        if np.isfinite(company["accepted"]):
            service = {c: company[c] for c in ("acceptance_days", "accepted", "rejected", "waiting", "overdue")}
            numbers["service"] = service
            if company["overdue"] > 0 and company["overdue"] > 0.2 * company["waiting"]:
                warnings.append(f"{count(company['overdue'])} qualified leads wait for sales longer than nine in ten"
                                " accepted ones did: call them or send them back.")  # fmt: skip
        short = short_regions(pipeline)
        if len(short) or (company["weeks_short"] >= _WEEKS and company["expected_high"] < company["needed"]):
            warnings.append(numbers["pipeline"]["text"])
    assumptions = [
        Assumption("Every new customer is won through a lead, in today's mix of channels", "default of ours"),
        Assumption(f"A lead takes {conversion.lag_days:.0f} days to be won; the leads that win after the plan's end are"
                   " as many as those open at its start", "own leads; steady pipeline"),
    ]  # fmt: skip
    if projection is None:
        assumptions.append(Assumption("The time from lead to win is exponential: leads too young to be decided count in"
                                      " part", "default of ours"))  # fmt: skip
    else:
        assumptions.append(Assumption("Leads still open go on as earlier ones of their channel did after as long in the"
                                      " same stage", "own leads; life tables"))  # fmt: skip
    order = [table[c].to_numpy(dtype=float) for c in recorded]
    checks = [
        Check("won equals the targets' new customers", int(table["won"].sum()) == int(won.sum())),
        Check("no stage holds more than the one before it", all((a >= b).all() for a, b in pairwise(order))),
    ]
    return Notes(numbers, tuple(assumptions), tuple(warnings), tuple(checks))


def _dear(channels: pd.DataFrame) -> str:
    """The channel whose wins cost most, where they cost twice the cheapest paid channel's or more."""
    paid = channels[channels["cost_per_won"].notna() & (channels["leads"] * channels["won"] >= _FEW_WINS)]
    if len(paid) < 2:
        return ""
    paid = paid.sort_values(["cost_per_won", "channel"], kind="stable")
    cheap, dear = paid.iloc[0], paid.iloc[-1]
    times = dear["cost_per_won"] / cheap["cost_per_won"]
    if times < 2:
        return ""
    wins = channels["leads"] * channels["won"]
    part = float(dear["leads"] / channels["leads"].sum()), float(dear["leads"] * dear["won"] / wins.sum())
    return (
        f"A customer won through {_named(dear['channel'])} costs {times:.1f} times as much as one through"
        f" {_named(cheap['channel'])}: it brings {percent(part[0])} of the leads and {percent(part[1])} of their wins."
    )
