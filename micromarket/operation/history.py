"""Runs over time: how each went, how long its stages took, what it said. From the journal and the published runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from micromarket.artefacts import STAGES
from micromarket.formats import compact
from micromarket.notes import plain
from micromarket.operation.runs import HEADLINE, attempts, headline, published

_ABOUT = (
    "time", "company", "as_of", "status", "exit_status", "folder", "there", "seconds", "peak_memory_mb", "message",
)  # fmt: skip
_SHORT = {
    "active_customers": "customers", "clv": "value of one", "opportunity": "opportunity", "budget": "budget",
    "moved_share": "moved", "gain": "gain", "revenue_target": "target",
}  # fmt: skip


@dataclass(frozen=True)
class History:
    """``table``: a row an attempt, oldest first.

    ``time`` (UTC, when it ended), ``company``, ``as_of``, ``status`` (done, failed, stopped), ``exit_status``,
    ``folder``, ``there`` (not removed since), ``seconds``, ``peak_memory_mb``, ``message``, the headline figures,
    ``headline``, ``warnings`` and ``<stage>_seconds``.
    """

    table: pd.DataFrame

    def to_json(self) -> list[dict[str, Any]]:
        """A mapping an attempt, without what isn't known of it."""
        rows = [{str(k): v for k, v in row.items()} for row in self.table.to_dict("records")]
        return [{k: plain(v) for k, v in row.items() if not _unknown(v)} for row in rows]

    def to_text(self) -> str:
        """Two tables for the terminal: how runs went with their figures, and seconds by stage."""
        if self.table.empty:
            return "no runs yet"
        rows, stages = [], []
        for row in self.to_json():
            gone = "" if row.get("there") or row["status"] != "done" else " (removed)"
            cells = [row["time"][:16].replace("T", " "), row.get("as_of", ""), row["status"] + gone]
            cells.append(_seconds(row.get("seconds")))
            for name in HEADLINE:
                value = row.get(name)
                cells.append("" if value is None else f"{value:.0%}" if name == "moved_share" else compact(value))
            rows.append([*cells, str(row.get("message") or row.get("headline") or "")[:60]])
            stages.append([cells[0], *(_seconds(row.get(f"{stage}_seconds")) for stage in STAGES)])
        head = ["ended (UTC)", "data up to", "status", "took", *(_SHORT[name] for name in HEADLINE), ""]
        return "\n".join([*_lines(head, rows), "", *_lines(["ended (UTC)", *STAGES], stages)])


def history_of(out: str | Path) -> History:
    """The history of the folder of runs ``out``; writes nothing."""
    place = Path(out).absolute()
    there = {run.folder.name: run for run in published(place)}
    rows: list[dict[str, Any]] = []
    known = set()
    for attempt in attempts(place):
        if "time" not in attempt or "status" not in attempt:
            continue
        folder = attempt.get("folder")
        known.add(folder)
        seconds = attempt.get("stages") if isinstance(attempt.get("stages"), Mapping) else {}
        rows.append({**attempt, "there": folder in there, **_by_stage(seconds)})
    for name, run in there.items():
        if name not in known:  # made by the library, or before there was a journal
            took = (dt.datetime.fromisoformat(run.ended) - dt.datetime.fromisoformat(run.started)).total_seconds()
            rows.append(
                {
                    "time": run.ended, "company": run.company, "as_of": run.as_of, "status": "done", "exit_status": 0,
                    "folder": name, "there": True, "seconds": took, **headline(run.folder), **_by_stage(run.seconds),
                }
            )  # fmt: skip
    columns = [*_ABOUT, *HEADLINE, "headline", "warnings", *(f"{stage}_seconds" for stage in STAGES)]
    table = pd.DataFrame(rows, columns=columns)
    order = pd.to_datetime(table["time"], utc=True, format="ISO8601")
    return History(table.assign(_=order).sort_values("_", kind="stable").drop(columns="_").reset_index(drop=True))


def _by_stage(seconds: Any) -> dict[str, float]:
    return {f"{stage}_seconds": float(seconds[stage]) for stage in STAGES if stage in seconds}


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    wide = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in [head, *rows]]


__all__ = ["History", "history_of"]
