"""Which reader reads which key of each section of ``plan.yml``."""

from __future__ import annotations

from collections.abc import Callable

from micromarket import _readers as read
from micromarket.settings import (
    FORMATS,
    PERIODS,
    RELATIONSHIPS,
    Alarms,
    Budget,
    Company,
    Economics,
    FieldRound,
    Keep,
    Objective,
    PlanPeriod,
    RepMoves,
    Report,
    RunRules,
    Targets,
    Tests,
    WriteBack,
)

_FIELD_ROUND: dict[str, Callable] = {
    "cap": read.number(0, 0.5, "a fraction from 0 to 0.5"),
    "weight": read.number(0, 1, "a fraction from 0 to 1"),
    "within": read.choice(("region", "company")),
}
_REP_MOVES: dict[str, Callable] = {
    "max_moves": read.number(0, 1, "a fraction from 0 to 1"),
    "within": read.choice(("region", "company")),
    "ramp_months": read.number(0, 24, "months from 0 to 24"),
    "min_gain": read.number(0, 1, "a fraction from 0 to 1"),
}
_KEEP: dict[str, Callable] = {
    "runs": read.whole(1, 100_000, "a whole number of runs, at least 1"),
    "months": read.whole(1, 1200, "a whole number of months, at least 1"),
}
_ALARMS: dict[str, Callable] = {
    **{name: read.number(0.001, 100, "a fraction above 0") for name in ("rows", "amounts", "figures")},
    **{name: read.number(0.001, 1, "a fraction above 0, at most 1") for name in ("holes", "mix")},
    "rank": read.number(-1, 1, "a rank correlation from -1 to 1"),
}
READERS: dict[type, dict[str, Callable]] = {
    WriteBack: {"connection": read.text, "schema": read.identifier, "prefix": read.identifier},
    Company: {"name": read.text, "currency": read.currency},
    PlanPeriod: {"start": read.date, "end": read.date},
    Economics: {
        "relationship": read.choice(RELATIONSHIPS),
        "margin_rate": read.number(0, 1, "a fraction from 0 to 1"),
        "discount_rate": read.number(0, 1, "a fraction per year from 0 to 1"),
        "horizon_months": read.whole(1, 600, "a whole number of months from 1 to 600"),
        "servicing_cost": read.number(0, 1e12, "money per customer and month, at least 0"),
    },
    Budget: {
        "total": read.total,
        "max_shift": read.number(0, 1, "a fraction from 0 to 1"),
        "market_change": read.band,
        "cell_change": read.band,
        "channel_change": read.band,
        "region_change": read.band,
        "min_return": read.number(0, 1e9, "value per unit of money, at least 0"),
        "risk_aversion": read.number(0, 100, "a number from 0 (none) to 100"),
        "test_reserve": read.number(0, 0.5, "a fraction from 0 to 0.5"),
        "min_ticket": read.number(0, 1e12, "money, at least 0"),
        "round_to": read.number(0.01, 1e9, "money, at least 0.01"),
    },
    Targets: {
        "growth": read.number(-0.9, 10, "a fraction from -0.9 to 10"),
        "split": read.choices(("market", "segment"), first="market"),
        "period": read.choice(PERIODS),
        "attainment": read.number(0.05, 0.95, "a probability from 0.05 to 0.95"),
        "objective": lambda raw: Objective(**read.weights(raw, ("acquire", "deepen", "retain"))),
        "field_round": lambda raw: FieldRound(**read.mapping(raw, _FIELD_ROUND)),
        "reps": lambda raw: RepMoves(**read.mapping(raw, _REP_MOVES)),
    },
    Tests: {
        "channels": read.names,
        "force_in": read.names,
        "force_out": read.names,
        "most_markets": read.whole(1, 100_000, "a whole number of markets, at least 1"),
        "cells": read.whole(1, 6, "a whole number from 1 to 6"),
        "most_volume": read.number(0.01, 1, "a fraction from 0.01 to 1"),
        "buffer": read.flag,
        "run": read.choice(("where it pays", "always")),
    },
    RunRules: {
        "log": read.text,
        "on_success": read.command,
        "on_failure": read.command,
        "hook_timeout": read.number(1, 86_400, "seconds from 1 to 86400"),
        "hook_required": read.flag,
        "keep": lambda raw: Keep(**read.mapping(raw, _KEEP)),
        "alarms": lambda raw: Alarms(**read.mapping(raw, _ALARMS)),
    },
    Report: {
        "formats": read.choices(FORMATS),
        "min_cell": read.whole(1, 10_000, "a whole number of customers, at least 1"),
    },
}
REQUIRED: dict[type, tuple[str, ...]] = {
    Company: ("name",), PlanPeriod: ("start", "end"), Economics: ("relationship",), Budget: (), Targets: (), Tests: (),
    Report: (), RunRules: (), WriteBack: ("connection",),
}  # fmt: skip
