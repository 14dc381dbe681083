"""Results of tests as plain figures for notes and pages, and the earlier plan's test read out by the next plan."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.errors import InputError, MicromarketWarning
from micromarket.market_data import MarketData
from micromarket.notes import plain
from micromarket.potential.previous_run import previous_files
from micromarket.proof.history import period_ends
from micromarket.proof.readout import CellReadout, Range, TestReadout, read_test
from micromarket.proof.readout_words import cell_words, in_words
from micromarket.proof.record import periods_of, read_record


def earlier_tests(settings: Settings, data: MarketData) -> list[TestReadout]:
    """The test that the plan before designed (``previous_run`` in plan.yml), read out on this plan's history.

    Empty where there is none, or where this plan's markets or periods are not those of the test.

    Warns
    -----
    MicromarketWarning
        Where the frozen record cannot be read or was changed: what it holds is then nobody's result.
    """
    files = previous_files(settings)
    path = files["scores"].parent.parent / "tests.json" if "scores" in files else None
    if path is None or not path.is_file() or data.panel is None or data.panel.empty:
        return []
    try:
        record = read_record(path)
    except InputError as error:
        warnings.warn(f"The test of the plan before is not read out. {error}", MicromarketWarning, stacklevel=2)
        return []
    ids = set(data.markets["market_id"].astype(str))
    if data.frequency != record.frequency or not set(record.markets) <= ids:
        return []
    panel = data.panel.assign(period=pd.to_datetime(data.panel["period"]))
    days = pd.DatetimeIndex(panel["period"])
    known = periods_of(record)
    if not days.isin(known[: len(record.history[0])]).any():  # weeks that begin on another day
        return []
    whole = np.asarray(period_ends(days, record.frequency)) <= np.datetime64(settings.as_of)
    spend = data.spend
    try:
        return [read_test(record, panel[whole], spend if spend is not None and len(spend) else None)]
    except InputError:  # none of the test's markets has won anybody yet
        return []


def figures(found: TestReadout, currency: str) -> dict[str, Any]:
    """Plain JSON. Lifts are relative, customers counts, value and money in the plan's currency; unbounded ends None."""
    record = found.record
    return plain({
        "test": record.name, "start": record.start, "end": record.end, "measured_until": record.measured_until,
        "frequency": record.frequency, "missing": found.missing, "by_lot": record.by_lot, "notes": list(found.notes),
        "cells": [_cell(c, currency) for c in found.cells], "text": in_words(found, currency),
    })  # type: ignore[no-any-return]  # fmt: skip


def _cell(cell: CellReadout, currency: str) -> dict[str, Any]:
    promised = cell.record.expected if cell.record.expected[0] else (None, None, None)
    checks = list(cell.checks.values())
    return {
        "text": cell.record.text, "treated": len(cell.treated), "control": cell.control,
        **_range("lift", cell.lift), "p_value": cell.p_value, "clear": cell.clear, "kept": cell.kept,
        "promised": promised[0], "promised_low": promised[1], "promised_high": promised[2],
        **_range("customers", cell.customers), "money": cell.money,
        **(_range("value", cell.value) if cell.record.value else {}),
        **(_range("return", cell.return_) if cell.return_ is not None and cell.record.value else {}),
        "checks_low": min(checks, default=None), "checks_high": max(checks, default=None),
        "words": [line.strip() for line in cell_words(cell, currency)],
        "groups": [{"group": g.group, "markets": g.markets, "promised": g.promised, **_range("delivered", g.delivered)}
                   for g in cell.groups],
    }  # fmt: skip


def _range(name: str, found: Range) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
