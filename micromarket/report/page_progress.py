"""Progress against targets on the page: put there when it is made, or later into the page of a published run."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.formats import day, finite
from micromarket.readout import Readout
from micromarket.report.style import label

_DATA = re.compile(r'(<script id="data" type="application/json">)(.*?)(</script>)', re.DOTALL)
_STATE = {"below": -1, "above": 1}
_ORDER = ("short", False, "Furthest behind first")
_COLUMNS = ("attained", "attained_new", "short", "track")
_DETAIL = [
    ("attained", "Revenue, of what was due", "percent"),
    ("attained_new", "New customers, of those due", "percent"),
]


def add_progress(data: dict[str, Any], found: Readout, min_cell: int, made_on: dt.date | None = None) -> None:
    """Attainment into the page's data, in place.

    A market's own figures are left out where it has fewer than ``min_cell`` customers, or their number isn't known;
    that of its new customers also where fewer than ``min_cell`` were won.

    Parameters
    ----------
    data : dict
        As the page's script reads it; see :mod:`micromarket.report.page`.
    made_on : date, optional
        Day of the data of the plan whose targets are meant, where it isn't this page's plan.
    """
    at = {name: i for i, name in enumerate(data["columns"])}
    ids = [row[at["id"]] for row in data["markets"]]
    by = found.markets.set_axis([label(i, 60) for i in found.markets.index]).reindex(ids)
    customers = [row[at["customers"]] if "customers" in at else None for row in data["markets"]]
    enough = np.array([c is not None and c >= min_cell for c in customers], dtype=bool)
    won = by["new_customers_actual"].ge(min_cell).to_numpy()
    money = "revenue_target" in by
    new: dict[str, list[Any]] = {
        "attained": _shares(by["revenue_attainment"], enough) if money else [None] * len(ids),
        "attained_new": _shares(by["new_customers_attainment"], enough & won),
        "short": _short(by["revenue_target"] - by["revenue_actual"], enough) if money else [None] * len(ids),
        "track": [_STATE.get(s, 0) if e else 0 for s, e in zip(_states(by), enough, strict=True)],
    }
    for row, *values in zip(data["markets"], *(new[c] for c in _COLUMNS), strict=True):
        row.extend(values)
    data["columns"].extend(_COLUMNS)
    data["detail"] = [*data["detail"], *(d for d in _DETAIL if any(v is not None for v in new[d[0]]))]
    if any(v is not None for v in new["short"]):
        data["orders"] = [*data["orders"][:-1], _ORDER, data["orders"][-1]]
    whose = "" if made_on is None else f", against the plan of {day(made_on)}"
    data["progress"] = {
        "title": f"Progress, {day(found.since)} to {day(found.through)}{whose}",
        "through": day(found.through),
        "totals": _totals(found, data["words"]),
    }


def page_with_progress(html: str, found: Readout, min_cell: int, shown_as: str) -> str:
    """The page of a published run with attainment on it; whatever progress stood there is replaced.

    Raises
    ------
    InputError
        Where ``html`` is no page that this version made.
    """
    match = _DATA.search(html)
    data = json.loads(match[2]) if match else {}
    if "progress" not in data:
        raise InputError([Problem(shown_as, "a page that this version of micromarket made")])
    if data["progress"] is not None:
        _without(data)
    add_progress(data, found, min_cell)
    from micromarket.report.page import embedded

    assert match is not None
    return html[: match.start(2)] + embedded(data) + html[match.end(2) :]


def write_page_with_progress(run: str | Path, found: Readout, path: str | Path) -> Path:
    """``dashboard.html`` of a finished run, with attainment on it, as ``path``.

    Raises
    ------
    InputError
        Where the run has no such page.
    """
    page, plan = Path(run) / "dashboard.html", Path(run) / "plan.json"
    try:
        html, min_cell = page.read_text(encoding="utf-8"), json.loads(plan.read_text(encoding="utf-8"))["min_cell"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError([Problem(str(page), "a run that was made with its page (report.formats: html)")]) from error
    text = page_with_progress(html, found, int(min_cell), str(page))
    path = Path(path)
    path.write_text(text, encoding="utf-8")
    return path


def _without(data: dict[str, Any]) -> None:
    keep = [i for i, name in enumerate(data["columns"]) if name not in _COLUMNS]
    data["markets"] = [[row[i] for i in keep] for row in data["markets"]]
    data["columns"] = [data["columns"][i] for i in keep]
    data["detail"] = [d for d in data["detail"] if d[0] not in _COLUMNS]
    data["orders"] = [o for o in data["orders"] if o[0] not in _COLUMNS]


def _states(frame: pd.DataFrame) -> list[str]:
    return list(frame["off_track"].fillna("")) if "off_track" in frame else [""] * len(frame)


def _shares(values: pd.Series, shown: np.ndarray) -> list[float | None]:
    found = [finite(v) for v in values]
    return [None if v is None or not s else round(v, 2) for v, s in zip(found, shown, strict=True)]


def _short(gap: pd.Series, shown: np.ndarray) -> list[float | None]:
    """Money missing, in two digits: enough to put markets in order."""
    found = [finite(v) for v in gap]
    return [None if v is None or not s else float(f"{v:.2g}") for v, s in zip(found, shown, strict=True)]


def _totals(found: Readout, words: Mapping[str, list[str]]) -> dict[str, list[Any]]:
    """By patch, as the script names them: revenue done and due, new customers done and due, -1/0/1 off track."""
    out = {"all": _total(found.total)}
    for group, frame in (("region", found.regions), ("territory", found.territories)):
        rows = {label(name, 400): row for name, row in frame.iterrows()} if len(frame) else {}
        for code, name in enumerate(words.get(group, [])):
            if name in rows:
                out[f"{group}{code}"] = _total(rows[name])
    return out


def _total(row: pd.Series) -> list[Any]:
    measures = [f"{m}_{what}" for m in ("revenue", "new_customers") for what in ("actual", "target")]
    figures = [None if (v := finite(row.get(c))) is None else float(f"{v:.4g}") for c in measures]
    return [*figures, _STATE.get(str(row.get("off_track", "")), 0)]
