"""Do the rows of every published table add up to what the plan states? Totals *are* sums of published rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.formats import compact, finite, plural
from micromarket.notes import Check, Notes

TOTALS: dict[str, tuple[str, ...]] = {
    "changes": ("money_change", "target_change"),
    "scores": ("customers", "customer_equity", "potential_customers", "headroom", "opportunity", "opportunity_share"),
    "causes": ("customers", "value"),
    "peer_groups": (),
    "market_map": (),
    "territories": (),
    "pipeline": (),
    "lead_channels": ("leads_due",),
    "response": ("current_spend", "effect"),
    "budget": ("current", "recommended", "change", "incremental_customers", "incremental_value"),
    "budget_segments": ("incremental_customers", "incremental_value"),
    "targets": ("new_customers", "revenue", "margin"),
    "target_limits": ("forecast",),
    "capacity": ("reps", "target"),
    "scoreboard": ("new_customers", "revenue", "margin", "spend", "contribution"),
    "funnel": ("leads", "mql", "sal", "sql", "won"),
    "tests": (),
}

# table column -> (stage, keys of its notes) that state the same figure
STATED: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("scores", "potential_customers"): ("potential", ("potential_customers",)),
    ("scores", "headroom"): ("potential", ("headroom",)),
    ("scores", "opportunity"): ("potential", ("opportunity",)),
    ("causes", "customers"): ("potential", ("headroom",)),
    ("budget", "recommended"): ("allocation", ("total",)),
    ("budget", "current"): ("allocation", ("current_total",)),
    ("budget", "incremental_value"): ("allocation", ("gain", "expected")),
    ("budget", "incremental_customers"): ("allocation", ("customers", "expected")),
    ("targets", "new_customers"): ("targets", ("total", "new_customers")),
    ("targets", "revenue"): ("targets", ("total", "revenue")),
    ("targets", "margin"): ("targets", ("total", "margin")),
    ("target_limits", "forecast"): ("targets", ("forecast_revenue",)),
    ("scoreboard", "revenue"): ("targets", ("total", "revenue")),
    ("scoreboard", "margin"): ("targets", ("total", "margin")),
    ("capacity", "reps"): ("targets", ("capacity", "reps")),
    **{("funnel", c): ("funnel", ("total", c)) for c in TOTALS["funnel"]},
    ("tests", "treated"): ("tests", ("treated",)),
    ("tests", "control"): ("tests", ("control",)),
}
TOLERANCE = 1e-4  # relative: room for rounding to whole units of money, none for a lost row


def table_totals(name: str, frame: pd.DataFrame) -> dict[str, float]:
    """Sums of the published rows, and their number. Blank (suppressed) cells count as nothing."""
    totals: dict[str, float] = {"rows": len(frame)}
    for column in TOTALS[name]:
        totals[column] = math.fsum(pd.to_numeric(frame[column]).dropna())  # cents stay cents
    if name == "tests":
        totals["treated"] = int((frame["arm"] == "treat").sum())
        totals["control"] = int((frame["arm"] == "control").sum())
    return totals


def check_tables(tables: Mapping[str, pd.DataFrame], markets: pd.DataFrame, stages: Mapping[str, Notes]) -> list[Check]:
    """The plan's own checks: known markets, unique keys, no infinities, sums, and stages that state the same sums."""
    checks = []
    known = set(markets["market_id"])
    for name, frame in tables.items():
        checks.append(_sound(name, frame, known))
        totals = table_totals(name, frame)
        for column in totals:
            source = STATED.get((name, column))
            stated = _stated(stages, source) if source else None
            if stated is not None:
                checks.append(_adds_up(f"{name}.{column} adds up to the total", totals[column], stated))
    if "budget" in tables:
        b = tables["budget"]
        off = (b["recommended"] - b["current"] - b["change"]).abs().max() if len(b) else 0.0
        scale = max(float(b["recommended"].abs().max() if len(b) else 0), 1.0)
        checks.append(Check("budget.change is recommended less current", bool(off <= TOLERANCE * scale),
                            f"largest difference {compact(off)}"))  # fmt: skip
    if "scores" in tables and float(tables["scores"]["opportunity"].sum()) > 0:
        checks.append(_adds_up("opportunity shares add up to 1", float(tables["scores"]["opportunity_share"].sum()), 1))
    return checks


def _stated(stages: Mapping[str, Notes], source: tuple[str, tuple[str, ...]]) -> float | None:
    stage, keys = source
    value: Any = stages[stage].numbers if stage in stages else None
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return finite(value)


def _adds_up(name: str, rows: float, stated: float) -> Check:
    passed = bool(np.isclose(rows, stated, rtol=TOLERANCE, atol=1e-6))
    return Check(name, passed, f"rows {compact(rows, 6)}, stated {compact(stated, 6)}")


def _sound(name: str, frame: pd.DataFrame, known: set) -> Check:
    problems = []
    strangers = int((~frame["market_id"].isin(known)).sum()) if "market_id" in frame else 0
    if strangers:
        problems.append(f"{plural(strangers, 'row')} of unknown markets")
    twice = int(frame.duplicated(list(ARTEFACTS[name].keys)).sum())
    if twice:
        problems.append(f"{plural(twice, 'repeated row')}")
    numeric = frame.select_dtypes("number")
    infinite = int(np.isinf(numeric.to_numpy(dtype="float64", na_value=np.nan)).sum())
    if infinite:
        problems.append(f"{plural(infinite, 'infinite value')}")
    return Check(f"rows of {name} are sound", not problems, "; ".join(problems) or plural(len(frame), "row"))
