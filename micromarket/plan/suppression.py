"""Small groups of customers stay hidden, also from who subtracts, divides or solves for them.

What is published of a hidden market must not lead back to its customers: not its own figures, not what the totals leave
over, not one column divided by another. ``docs/security.md`` says what is promised; ``tests/test_privacy.py`` attacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from micromarket.disclosure import hidden_groups
from micromarket.notes import Notes

#: Blank in hidden markets.
SMALL_CELL_COLUMNS = ("customers", "penetration", "share", "customer_equity", "development_index")
_POTENTIAL = ("potential_customers", "potential_low", "potential_high")


def suppress_small_cells(scores: pd.DataFrame, min_cell: int) -> tuple[pd.DataFrame, int]:
    """The scores without the figures that would tell of a handful of people, and how many markets that concerns.

    Hidden are markets with fewer than ``min_cell`` customers, and as many of the next smallest as it takes to keep
    those from being found by subtraction (:func:`~micromarket.disclosure.hidden_groups`). Their
    :data:`SMALL_CELL_COLUMNS` are blank. What else depends on the number of their customers is told as if all hidden
    markets had the same number: potential less headroom, money from deeper and kept accounts. Their sums stay what they
    were. Applying it twice changes nothing, so a plan may be assembled again from published tables.

    Parameters
    ----------
    scores : DataFrame
        One row a market; ``customers`` is a count.
    min_cell : int
        Smallest group that is shown.
    """
    customers = scores["customers"].astype("float64")
    before = customers.isna().to_numpy()
    if before.any() and not (customers < min_cell).any():
        return _blank(scores, before), int(before.sum())
    hidden = hidden_groups(customers.to_numpy(), min_cell)
    return (_blank(_evened_out(scores, hidden), hidden), int(hidden.sum())) if hidden.any() else (scores.copy(), 0)


def _blank(scores: pd.DataFrame, hidden: np.ndarray) -> pd.DataFrame:
    shown = scores.copy()
    for column in SMALL_CELL_COLUMNS:
        if column in shown.columns:
            shown[column] = shown[column].astype("float64").mask(hidden)
    return shown


def _evened_out(scores: pd.DataFrame, hidden: np.ndarray) -> pd.DataFrame:
    shown = scores.copy()
    if {"potential_customers", "headroom"} <= set(shown.columns):
        own = (shown["potential_customers"] - shown["headroom"]).to_numpy(float)
        shift = np.where(hidden, own[hidden].mean() - own, 0.0)
        for column in _POTENTIAL:
            if column in shown.columns:
                moved = (shown[column].to_numpy(float) + shift).clip(min=0.0)
                shown[column] = np.where(hidden, moved, shown[column])
    for column, by in (("opportunity_retain", "clv"), ("opportunity_deepen", None)):
        if column in shown.columns:
            money = shown[column].to_numpy(float)
            weight = np.ones(len(shown)) if by is None else shown[by].to_numpy(float).clip(min=0.0)
            whole = np.nansum(weight[hidden])
            each = np.nansum(money[hidden]) * weight / whole if whole > 0 else np.zeros(len(shown))
            shown[column] = np.where(hidden & np.isfinite(money), each, money)
    return shown


def of_shown_markets(stages: Mapping[str, Notes], scores: pd.DataFrame | None) -> dict[str, Notes]:
    """The notes with equity and mean value over the markets that are shown: their exact sums over all would give the
    hidden ones away, as each one's value per customer is published."""
    out = dict(stages)
    if scores is None or "value" not in out or not scores["customers"].isna().any():
        return out
    customers, equity = float(scores["customers"].sum()), float(scores["customer_equity"].sum())
    told: dict[str, Any] = {"customer_equity": equity}
    if customers > 0:
        told["clv"] = equity / customers
    notes = out["value"]
    kept = {k: v for k, v in told.items() if k in notes.numbers}
    out["value"] = dataclasses.replace(notes, numbers={**notes.numbers, **kept})
    return out
