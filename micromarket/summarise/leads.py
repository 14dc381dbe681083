"""Leads, counted by month of creation."""

from __future__ import annotations

from typing import Any

import ibis
import pandas as pd

from micromarket.load import Dataset


def leads_by_month(dataset: Dataset) -> pd.DataFrame | None:
    """Leads by month of creation and how far they got; a later stage that is dated implies the earlier ones."""
    if not dataset.has("leads"):
        return None
    t = dataset.table("leads")
    stages = ["mql_on", "sal_on", "sql_on", "won_on"]
    recorded = [s for s in stages if s in t.columns]
    for column in ("market_id", "segment", "channel"):
        if column not in t.columns:
            t = t.mutate(**{column: ibis.null("string")})
    reached: dict[str, Any] = {}
    for i, stage in enumerate(stages):
        later = [t[s].notnull() for s in stages[i:] if s in recorded]
        name = stage.removesuffix("_on")
        if stage in recorded:
            flag = later[0]
            for other in later[1:]:
                flag = flag | other
            reached[name] = flag
    lost = t.lost_on.notnull() if "lost_on" in t.columns else ibis.literal(False)
    lag = t.won_on.delta(t.created_on, unit="day").cast("float64") if "won_on" in t.columns else ibis.null("float64")
    flagged = t.select(
        "market_id", "segment", "channel", month=t.created_on.truncate("M"), lost=lost, lag=lag, **reached
    )
    sums = {name: flagged[name].sum().cast("float64") for name in (*reached, "lost")}
    grouped = flagged.group_by(["market_id", "segment", "channel", "month"]).aggregate(
        leads=flagged.count().cast("float64"), lag_days=flagged.lag.mean(), **sums
    )
    frame = grouped.to_pandas()
    for name in ("mql", "sal", "sql", "won"):
        if name not in frame.columns:
            frame[name] = float("nan")
    frame["month"] = pd.to_datetime(frame["month"]).astype("datetime64[us]")
    keys = ["market_id", "segment", "channel", "month"]
    return frame.sort_values(keys, na_position="last").reset_index(drop=True)
