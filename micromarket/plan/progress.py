"""What the plan before has brought so far, by this run's own data."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from micromarket.config import Settings
from micromarket.errors import InputError
from micromarket.potential.previous_run import previous_files
from micromarket.readout import Readout, attained
from micromarket.readout.actuals import Actuals, days_of, joined_markets, published


@dataclass(frozen=True)
class Progress:
    """``made_on``: day of the data of the plan whose targets are meant; ``found``: actuals against them."""

    made_on: dt.date
    found: Readout


def progress_since(settings: Settings, history: pd.DataFrame | None) -> Progress | None:
    """Attainment of the plan that ``previous_run`` names, in whole months up to this plan's ``as_of``.

    ``None`` where there is no plan before, it set no targets, or no whole month of it is over.

    Parameters
    ----------
    history : DataFrame or None
        market_id, segment, month, new_customers (count), revenue (money).
    """
    files = previous_files(settings)
    if "scores" not in files or history is None or history.empty:
        return None
    run = files["scores"].parent.parent
    try:
        promise = published(Path(run))
        made_on = dt.date.fromisoformat(promise.plan["as_of"])
        if promise.plan.get("currency") != settings.company.currency:
            return None
        frame = _actuals(history, promise.targets, joined_markets(Path(run)))
        return None if frame.empty else Progress(made_on, attained(promise, Actuals(frame, "month")))
    except (InputError, KeyError, ValueError):  # no targets there, or no day in common
        return None


def _actuals(history: pd.DataFrame, targets: pd.DataFrame, joined: dict[str, str]) -> pd.DataFrame:
    """The months as the readout takes them: the plan's own markets; its segments where they are still the same."""
    frame = history.rename(columns={"month": "period"})
    frame = frame.assign(market_id=frame["market_id"].astype(str), period=days_of(frame["period"]))
    frame["market_id"] = frame["market_id"].map(lambda m: joined.get(m, m))
    frame = frame[frame["market_id"].isin(set(targets["market_id"]))]
    by = ["market_id", "period"]
    if set(frame["segment"].astype(str)) <= set(targets["segment"]) and frame["segment"].nunique() > 1:
        by.insert(1, "segment")
        frame = frame.assign(segment=frame["segment"].astype(str))
    measures = ["new_customers", *(["revenue"] if frame["revenue"].notna().any() else [])]
    return frame.groupby(by, as_index=False, observed=True)[measures].sum()
