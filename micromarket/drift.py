"""This run against the one before it: inputs that changed their shape, figures that jumped.

The plan stage leaves the table ``drift`` with every figure that is watched; the next run reads it there. An alarm is a
sentence in the plan's warnings. What is compared stands in :class:`micromarket.settings.Alarms`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.formats import finite, percent
from micromarket.notes import Notes
from micromarket.potential.previous_run import previous_files
from micromarket.settings import Alarms

COLUMNS = ARTEFACTS["drift"].columns
KEYS = list(ARTEFACTS["drift"].keys)
#: figure -> (stage, keys of its notes, keys of its 90% range or none)
_FIGURES: dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "active customers": ("data", ("active_customers",), ()),
    "value of a customer": ("value", ("clv",), ()),
    "value of a new customer": ("value", ("new_customer_clv",), ()),
    "headroom": ("potential", ("headroom",), ()),
    "budget": ("allocation", ("total",), ()),
    "margin that the moves add": ("allocation", ("gain", "expected"), (("gain", "low"), ("gain", "high"))),
    "revenue target": ("targets", ("total", "revenue"), ()),
}
_RANKED = ("opportunity", "headroom", "clv")
_FEWEST = 8  # markets, below which a rank correlation says nothing
_WORTH = 100.0  # rows of a window, below which its change is mostly chance


def drift(
    settings: Settings, profile: pd.DataFrame | None, tables: Mapping[str, pd.DataFrame], stages: Mapping[str, Notes]
) -> pd.DataFrame:
    """Every watched figure, now and in the run before.

    Parameters
    ----------
    settings : Settings
        ``run.alarms`` says how far a figure may move; ``previous_run`` which run is the one before.
    profile : DataFrame or None
        ``table, column, measure, value``: the artefact ``input_profile``.
    tables : mapping
        The plan's tables, by name.
    stages : mapping
        Notes by stage.

    Returns
    -------
    DataFrame
        The artefact ``drift``. Without a run before: no ``before``, no alarm.
    """
    now = pd.DataFrame([*_inputs(profile), *_outputs(stages)], columns=[*KEYS, "now", "low", "high"])
    before, folder, months = _before(settings)
    frame = now.merge(before, on=KEYS, how="outer", suffixes=("", "_before")) if before is not None else now
    for column in ("before", "low_before", "high_before"):
        if column not in frame:
            frame[column] = np.nan
    if folder is not None:
        frame = pd.concat([frame, pd.DataFrame([*_ranks(folder, tables)])], ignore_index=True)
    limit = _limits(settings.run.alarms, months)
    rows = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    for row in rows:
        row["change"], row["limit"], row["alarm"], row["text"] = _judged(row, limit)
    _by_season(rows, limit)
    whole = {r["table"] for r in rows if r["measure"] == "rows" and r["alarm"] and np.isnan(r["limit"])}
    for row in rows:  # a table that came or went is told once, not column by column
        if row["measure"] == "empty" and np.isnan(row["limit"]) and row["table"] in whole:
            row["alarm"] = False
        row["alarm"] = bool(row["alarm"]) and folder is not None
        row["text"] = row["text"] if row["alarm"] else ""
        row["change"] = row["change"] if np.isfinite(row["change"]) else np.nan  # from nothing: no ratio
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(KEYS, kind="stable").reset_index(drop=True)


def alarms_of(table: pd.DataFrame | None) -> tuple[str, ...]:
    """The sentences of the alarms, inputs first."""
    return () if table is None else tuple(table.loc[table["alarm"], "text"])


def _inputs(profile: pd.DataFrame | None) -> Iterator[tuple[Any, ...]]:
    if profile is not None:
        for row in profile.itertuples(index=False):
            yield "input", row.table, row.column, row.measure, row.value, np.nan, np.nan


def _deep(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _outputs(stages: Mapping[str, Notes]) -> Iterator[tuple[Any, ...]]:
    for name, (stage, keys, span) in _FIGURES.items():
        numbers = stages[stage].numbers if stage in stages else None
        value = finite(_deep(numbers, keys))
        low, high = (finite(_deep(numbers, k)) for k in span) if span else (None, None)
        if value is not None:
            yield "output", stage, name, "figure", value, low, high
    if "response" in stages:
        for channel in stages["response"].numbers.get("channels") or ():
            value, low, high = (finite(channel.get(k)) for k in ("elasticity", "elasticity_low", "elasticity_high"))
            if value is not None and low is not None and high is not None:
                yield "output", "response", str(channel.get("channel")), "elasticity", value, low, high
    if "allocation" in stages and (share := finite(stages["allocation"].numbers.get("moved_share"))) is not None:
        yield "output", "allocation", "money that moves", "share", share, np.nan, np.nan


def _before(settings: Settings) -> tuple[pd.DataFrame | None, Path | None, float]:
    """Figures of the run before, its folder, and the months between the two runs' data."""
    files = previous_files(settings)
    if not files:
        return None, None, 1.0
    folder = next(iter(files.values())).parent.parent
    try:
        said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["settings"]["as_of"]
        months = (settings.as_of - dt.date.fromisoformat(said)).days / 30.4
        table = pd.read_parquet(folder / ARTEFACTS["drift"].path)
        table = table[(table["measure"] != "rank correlation") & table["now"].notna()]
        found = table[[*KEYS, "now", "low", "high"]]
        return found.rename(columns={"now": "before", "low": "low_before", "high": "high_before"}), folder, months
    except (OSError, ValueError, KeyError, TypeError):
        return None, None, 1.0  # made before drift was watched, or not complete


def _ranks(folder: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    path = folder / ARTEFACTS["scores"].path
    if "scores" not in tables or not path.is_file():
        return
    old = pd.read_parquet(path).astype({"market_id": str}).set_index("market_id")
    new = tables["scores"].astype({"market_id": str}).set_index("market_id")
    for column in _RANKED:
        both = pd.DataFrame({"old": old[column], "new": new[column]}).astype(float).dropna()
        if len(both) >= _FEWEST and both["old"].nunique() > 1 and both["new"].nunique() > 1:
            rank = float(spearmanr(both["old"], both["new"]).statistic)
            yield {"scope": "output", "table": "scores", "column": column, "measure": "rank correlation", "now": rank}


def _limits(alarms: Alarms, months: float) -> dict[str, float]:
    """Further apart, more may differ: as the square root of the months between the runs."""
    wider = max(1.0, months) ** 0.5
    return {
        "rows": alarms.rows * wider, "amounts": alarms.amounts * wider, "holes": alarms.holes, "mix": alarms.mix,
        "rank": alarms.rank, "figures": alarms.figures * wider,
    }  # fmt: skip


def _judged(row: Mapping[str, Any], limit: Mapping[str, float]) -> tuple[float, float, bool, str]:
    """Change, limit, alarm and its sentence."""
    scope, table, column, measure = (row[k] for k in KEYS)
    now, before = float(row.get("now", np.nan)), float(row.get("before", np.nan))
    if measure == "rank correlation":
        words = f"The order of the markets by {column} is another than in the run before (rank correlation {now:.2f})."
        return np.nan, limit["rank"], now < limit["rank"], words
    missing, new = not np.isfinite(now), not np.isfinite(before)
    if scope == "input" and measure == "rows" and (missing or new):
        return np.nan, np.nan, True, f"The table {table} {'is gone' if missing else 'is new'} since the run before."
    if scope == "input" and measure == "empty" and (missing or new):
        words = f"The column {column} of {table} {'is gone' if missing else 'is new'} since the run before."
        return np.nan, np.nan, True, words
    if measure in ("recent", "recent last year"):
        return _ratio(now, before), np.nan, False, ""  # judged together, with the season taken out
    if measure.startswith("share of "):
        now, before = np.nan_to_num(now), np.nan_to_num(before)
        words = f"{measure.removeprefix('share of ')} has {percent(now)} of the rows of {table} ({column}),"
        return now - before, limit["mix"], abs(now - before) > limit["mix"], f"{words} after {percent(before)} before."
    if missing or new:
        return np.nan, np.nan, False, ""
    if measure == "empty":
        words = (
            f"{percent(now)} of the column {column} of {table} are empty, after {percent(before)} in the run before."
        )
        return now - before, limit["holes"], abs(now - before) > limit["holes"], words
    if measure == "share":
        change = now - before
        words = f"{percent(now)} of the budget changes place, after {percent(before)} in the run before."
        return change, limit["figures"], abs(change) > limit["figures"], words
    change = _ratio(now, before)
    kind = {"rows": "rows", "mean": "amounts"}.get(measure, "figures")
    what = {
        "rows": f"The rows of {table}",
        "mean": f"The mean of {column} in {table}",
        "elasticity": f"What {column} brings (elasticity)",
    }.get(measure, f"The figure “{column}”")
    far = abs(np.log1p(change)) > np.log1p(limit[kind]) if change > -1 else True
    if np.isfinite(low := float(row.get("low") or np.nan)) and np.isfinite(row.get("low_before", np.nan)):
        # ranges that meet: the difference is no news
        far = far and (low > row["high_before"] or row["high"] < row["low_before"])
    if not np.isfinite(change):
        return change, limit[kind], before == 0, f"{what} was 0 in the run before, and is not now."
    return change, limit[kind], bool(far), f"{what} {_way(change)} by {percent(abs(change))} against the run before."


def _ratio(now: float, before: float) -> float:
    if not (np.isfinite(now) and np.isfinite(before)):
        return np.nan
    if before == 0:
        return 0.0 if now == 0 else np.inf
    return now / before - 1 if before > 0 else np.nan


def _by_season(rows: list[dict[str, Any]], limit: Mapping[str, float]) -> None:
    """What the latest weeks brought, against the run before and, where there is one, the same change a year ago."""
    at = {tuple(row[k] for k in KEYS): row for row in rows}
    for (scope, table, column, measure), row in at.items():
        many = at.get((scope, table, "", "recent"))
        if measure != "recent" or not np.isfinite(row["change"]) or many is None or not many["before"] >= _WORTH:
            continue
        change = float(row["change"])
        counts = [many["now"], many["before"]]
        year = at.get((scope, table, column, "recent last year"))
        full = at.get((scope, table, "", "recent last year"))
        if year is not None and full is not None and min(full["now"], full["before"]) >= _WORTH:
            usual = float(year["change"])
            if np.isfinite(usual) and usual > -1:
                change = (1 + change) / (1 + usual) - 1
                counts += [full["now"], full["before"]]
        what = f"{column} of {table}" if column else f"new rows of {table}"
        span = "three months" if table in ("outcomes", "spend") else "four weeks"
        fell = "fell to nothing" if change <= -1 else f"{_way(change)} by {percent(abs(change))}"
        # counts vary by chance, sums of money more: so much more may change where few rows come
        chance = (4 if column else 3) * float(np.sqrt(sum(1 / max(n, 1.0) for n in counts)))
        most = float(np.log1p(limit["amounts"])) + chance
        row["change"], row["limit"] = change, float(np.expm1(most))
        row["alarm"] = change <= -1 or abs(np.log1p(change)) > most
        row["text"] = f"In the last {span}, {what} {fell} against the run before, the season taken out."


def _way(change: float) -> str:
    return "fell" if change < 0 else "rose"


__all__ = ["alarms_of", "drift"]
