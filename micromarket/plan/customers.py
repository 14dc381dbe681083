"""What the plan says of customers: who they are, what winning one costs, and how well their value was foreseen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from micromarket.disclosure import hidden_groups, rounded_count
from micromarket.formats import finite
from micromarket.notes import Notes
from micromarket.workspace import Workspace

TELLING, SIGNIFICANT = 0.005, 0.01  # least share of the differences explained, and largest p, of segments that tell
_COST = ["level", "basis", "name", "spend", "new_customers", "cac", "cac_low", "cac_high", "new_customer_clv",
         "ltv_to_cac", "payback_months"]  # fmt: skip
_BASES = ("blended", "paid", "unpaid", "unclaimed", "unknown")
_UNKNOWN_COST = "What it costs to win"


def without_small_groups(stages: Mapping[str, Notes], min_cell: int) -> dict[str, Notes]:
    """The stages' notes, with counts of fewer than ``min_cell`` customers blank and without sums over few people."""

    def few(n: Any) -> bool:
        number = finite(n)
        return number is not None and 0 < number < min_cell

    def blank(raw: Mapping[str, Any], *columns: str) -> dict[str, Any]:
        small = few(raw.get(columns[0]))
        return {k: None if small and k in columns else v for k, v in raw.items()}

    def blanks(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the parts of a known whole: where one is blank, the others' counts are round, else they would tell
        it; shares follow from the round counts."""
        rows = list(rows)
        if not any(few(row.get("customers")) for row in rows):
            return [dict(row) for row in rows]
        whole = sum(finite(row.get("customers")) or 0.0 for row in rows)
        shown = []
        for row in (blank(row, "customers", "share") for row in rows):
            number = finite(row.get("customers"))
            if number is not None and number > 0:
                row["customers"] = rounded_count(number, min_cell)
                if "share" in row and whole > 0:
                    row["share"] = min(row["customers"] / whole, 1.0)
            shown.append(row)
        return shown

    shown = dict(stages)
    found = shown["data"].numbers.get("segmentation") if "data" in shown else None
    if isinstance(found, Mapping):
        segments = blanks(found.get("segments", ()))
        kept = {k: v for k, v in found.items() if k != "entry"} | {"segments": segments}
        shown["data"] = _with(shown["data"], segmentation=kept)
    if "value" in shown:
        value = shown["value"]
        models = blanks(value.numbers.get("models", ()))
        won = value.numbers.get("acquisition")
        changed: dict[str, Any] = {"models": models} if models else {}
        if isinstance(won, Mapping):
            changed["acquisition"] = blank(blank(won, "new_customers"), "customers_unpaid")
        shown["value"] = _with(value, **changed)
    return shown


def _with(notes: Notes, **numbers: Any) -> Notes:
    return dataclasses.replace(notes, numbers={**notes.numbers, **numbers})


def customers_by_segment(workspace: Workspace, notes: Notes | None, min_cell: int) -> pd.DataFrame | None:
    """``segment, definition, customers, clv, new_customer_clv`` over all markets, of at least ``min_cell`` customers.

    ``definition`` is ``None`` for the company's own segments; ``new_customer_clv`` is empty where nobody is won into
    a segment, as customers come to it by what they do.
    """
    cells = workspace.read_if_there("value_cells")
    if cells is None:
        return None
    cells = pd.DataFrame(cells)
    # only markets that are shown: the sum over all would tell what the others hold
    in_market = cells.groupby("market_id")["customers"].sum()
    hidden = in_market.index[hidden_groups(in_market, min_cell)]
    if len(hidden) < len(in_market):
        cells = cells[~cells["market_id"].isin(hidden)]
    values = ["clv", "new_customer_clv"]
    weighted = cells.assign(**{v: cells[v] * cells["customers"] for v in values})
    by = weighted.groupby("segment", sort=True)[["customers", *values]].sum(min_count=1)
    few = (by["customers"] > 0) & (by["customers"] < min_cell)
    by[values] = by[values].div(by["customers"], axis=0)
    if few.any():  # what the others leave over
        by["customers"] = by["customers"].map(lambda n: rounded_count(n, min_cell))
    by = by[~few & (by["customers"] >= max(min_cell, 1))]
    found = (notes.numbers.get("segmentation") if notes else None) or {}
    derived = found.get("source") == "derived"
    if derived and not found.get("at_start", True):
        by["new_customer_clv"] = float("nan")
    said = {s["name"]: s["definition"] for s in found.get("segments", ())} if derived else {}
    by.insert(0, "definition", pd.Series({name: said.get(name) for name in by.index}, dtype="object"))
    return by.reset_index() if len(by) else None


def segments_tell(notes: Notes | None) -> bool | None:
    """Whether a customer's segment says what it is worth; ``None`` where that was not judged."""
    found = (notes.numbers.get("segmentation") if notes else None) or {}
    worth = found.get("worth")
    if not isinstance(worth, Mapping):
        return None
    if worth.get("by_construction"):
        return False  # cut by the very money that they seem to explain
    by = worth.get("segment") or {}
    share, p = finite(by.get("share")), finite(by.get("p_value"))
    return share is not None and p is not None and share >= TELLING and p < SIGNIFICANT


def new_customers(workspace: Workspace) -> pd.DataFrame | None:
    """``market_id, value, low, high``: value of a customer won tomorrow, by market."""
    markets = workspace.read_if_there("value_markets")
    if markets is None:
        return None
    name = "new_customer_clv"
    columns = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
    return pd.DataFrame(markets)[["market_id", *columns]].rename(columns=columns)


def cost_of_winning(workspace: Workspace) -> pd.DataFrame | None:
    """The artefact value_acquisition in reading order, markets last; ``None`` where no cost is known."""
    table = workspace.read_if_there("value_acquisition")
    if table is None or table.empty or not table["cac"].notna().any():
        return None
    levels = {"company": 0, "channel": 1, "segment": 2, "market": 3}
    table = pd.DataFrame(table).assign(
        _level=table["level"].map(levels), _basis=table["basis"].map({b: i for i, b in enumerate(_BASES)})
    )
    order = ["_level", "_basis", "ltv_to_cac", "name"]
    table = table.sort_values(order, ascending=[True, True, False, True], kind="stable", na_position="last")
    return table.drop(columns=order[:2]).reset_index(drop=True)


def cost_json(table: pd.DataFrame | None, notes: Notes | None) -> dict[str, Any]:
    """``acquisition`` of plan.json: totals of the value stage's notes and a row a company, channel and segment."""
    totals = dict((notes.numbers.get("acquisition") if notes else None) or {})
    rows = None if table is None else table.loc[table["level"] != "market", _COST].to_dict("records")
    said = [w for w in notes.warnings if w.startswith(_UNKNOWN_COST)] if notes else []
    return {
        "source": totals.pop("source", "none"),
        **{k: totals.get(k) for k in ("spend", "new_customers", "blended_cost", "paid_cost", "spend_unclaimed",
                                      "ltv_to_cac", "payback_months")},
        "rows": rows,
        "reason": None if rows else (said[0] if said else "What it costs to win a customer is unknown."),
    }  # fmt: skip


def foresight(workspace: Workspace, notes: Notes | None) -> dict[str, Any] | None:
    """How the model of value was chosen and how it did on hidden months; ``None`` where none could be hidden.

    Returns
    -------
    dict or None
        model, tried (simplest first), what (purchases or departures), windows [{cut, until, predicted, actual}] (latest
        first), error (of the latest: predicted over actual less 1), corrections [{segment, factor}] of what is still
        to come, markets_in_range (share of markets whose outcome lay in its 90% range, after correction).
    """
    holdout = notes.numbers.get("holdout") if notes else None
    if not notes or not isinstance(holdout, Mapping) or not holdout.get("windows"):
        return None
    models = notes.numbers.get("models", ())
    by_market = workspace.read_if_there("value_holdout")
    inside = None
    if by_market is not None:
        judged = by_market[(by_market["predicted"] + by_market["actual"]) > 0]
        if len(judged) >= 10:
            inside = float(judged["actual"].between(judged["low"], judged["high"]).mean())
    return {
        "model": holdout.get("family"),
        "tried": list(holdout.get("scores") or {}),
        "what": holdout.get("what"),
        "windows": [dict(w) for w in holdout["windows"]],
        "error": holdout.get("error"),
        "corrections": [
            {"segment": m["segment"], "factor": m["calibration"]}
            for m in models
            if finite(m.get("calibration")) is not None
        ],
        "markets_in_range": inside,
    }


def segments_json(by: pd.DataFrame | None, notes: Notes | None) -> dict[str, Any]:
    """``segments`` of plan.json."""
    found = (notes.numbers.get("segmentation") if notes else None) or {}
    worth = found.get("worth") or {}
    columns = {"segment": "name", "definition": "definition", "customers": "customers", "clv": "clv",
               "new_customer_clv": "new_customer_clv"}  # fmt: skip
    return {
        "source": found.get("source"),
        "reason": found.get("reason") or None,
        "tell": segments_tell(notes),
        "explained": (worth.get("segment") or {}).get("share"),
        "explained_by_market": (worth.get("market") or {}).get("share"),
        "text": worth.get("text"),
        "list": [] if by is None else by[list(columns)].rename(columns=columns).to_dict("records"),
    }
