"""Leads step by step: how long they waited in each stage and how they left it; who waits there today; why they fell.

Counts by group only. The clock of a step starts on the day its stage is reached; a lead whose later stage is dated but
not this one passed through it on the day of the next date that is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import ibis
import pandas as pd

from micromarket.load import Dataset

_HISTORY_DAYS = 3 * 365  # leads created before that say little about today's teams
_DATES = ("created_on", "mql_on", "sal_on", "sql_on", "won_on")
_NAMES = ("leads", "mql", "sal", "sql", "won")
_REASONS = ("rejected_reason", "lost_reason")


@dataclass(frozen=True)
class LeadSteps:
    """The artefacts ``lead_steps``, ``open_leads`` and ``lead_reasons`` (empty where no reason is recorded)."""

    steps: pd.DataFrame
    open_leads: pd.DataFrame
    reasons: pd.DataFrame


def lead_steps(dataset: Dataset) -> LeadSteps | None:
    """Every recorded stage of the last three years' leads, counted in the engine.

    Returns
    -------
    LeadSteps or None
        ``None`` without leads, or where none was ever won.
    """
    if not dataset.has("leads"):
        return None
    t = dataset.table("leads")
    known = [d for d in _DATES if d in t.columns]
    filled = t.aggregate(**{d: t[d].count() for d in known}).to_pyarrow().to_pylist()[0]
    recorded = [d for d in known if filled[d]]
    if "won_on" not in recorded:
        return None
    as_of = ibis.literal(dataset.settings.as_of)
    for column in ("market_id", "segment", "channel", "lost_on", *_REASONS, "value"):
        if column not in t.columns:
            kind = {"lost_on": "date", "value": "float64"}.get(column, "string")
            t = t.mutate(**{column: ibis.null(kind)})
    t = t.filter(as_of.delta(t.created_on, unit="day") < _HISTORY_DAYS)
    regions = dataset.markets[["market_id", "region"]].astype({"market_id": object, "region": object})
    places = dataset.local.put("_lead_regions", pd.DataFrame(regions))
    t = t.left_join(places, "market_id").select(*t.columns, "region")
    # the day each recorded stage was reached: never before the stage before it, at the latest with the stage after it
    days: dict[str, ibis.Value] = {}
    following: ibis.Value | None = None
    for name in reversed(recorded):
        day = t[name] if following is None else ibis.coalesce(t[name], following)
        days[name] = following = day
    parts = []
    for here, after in pairwise(recorded):
        begun, moved = days[here], days[after]
        left = ibis.coalesce(moved, t.lost_on)
        waited = ibis.greatest(ibis.coalesce(left, as_of).delta(begun, unit="day"), 0)
        how = ibis.cases(
            (moved.notnull(), ibis.literal("moved")), (t.lost_on.notnull(), ibis.literal("lost")), else_="open"
        )
        reason = ibis.coalesce(*(t[r] for r in (_REASONS if here in ("mql_on", "sal_on") else _REASONS[::-1])))
        parts.append(
            t.filter(begun.notnull()).select(
                "region", "market_id", "segment", "channel", "value",
                stage=ibis.literal(_NAMES[_DATES.index(here)]), how=how, reason=reason,
                day=ibis.least(waited, _HISTORY_DAYS).cast("int64"),
            )
        )  # fmt: skip
    every = dataset.local.keep("_lead_steps", parts[0] if len(parts) == 1 else ibis.union(*parts))
    by = every.group_by(["region", "channel", "stage", "day"]).aggregate(
        moved=(every.how == "moved").sum().cast("float64"),
        lost=(every.how == "lost").sum().cast("float64"),
        open=(every.how == "open").sum().cast("float64"),
    )
    waiting = every.filter(every.how == "open")
    there = waiting.group_by(["market_id", "segment", "channel", "stage", "day"]).aggregate(
        leads=waiting.count().cast("float64"), value=waiting.value.sum()
    )
    fell = every.filter((every.how == "lost") & every.reason.notnull())
    why = fell.group_by(["region", "stage", "reason"]).aggregate(leads=fell.count().cast("float64"))
    return LeadSteps(*(_sorted(table.to_pandas()) for table in (by, there, why)))


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [c for c in frame.columns if c not in ("moved", "lost", "open", "leads", "value")]
    return frame.sort_values(keys, na_position="last", kind="stable").reset_index(drop=True)
