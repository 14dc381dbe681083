"""What lies in a folder of runs: published ones, working directories, the journal of attempts, ``latest.json``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from micromarket.operation.log import append_line, read_lines
from micromarket.runner.lock import hold, is_held
from micromarket.runner.store import LOCK, WORK
from micromarket.workspace import write_json

POINTER, JOURNAL = "latest.json", "journal.jsonl"
#: figure of history -> keys in plan.json
HEADLINE: dict[str, tuple[str, ...]] = {
    "active_customers": ("stages", "data", "active_customers"),
    "clv": ("stages", "value", "clv"),
    "opportunity": ("stages", "potential", "opportunity"),
    "budget": ("budget", "total"),
    "moved_share": ("budget", "moved_share"),
    "gain": ("gain", "expected"),
    "revenue_target": ("targets", "total", "revenue"),
}


@dataclass(frozen=True)
class Published:
    """A published run folder, as its manifest tells. ``seconds``: by stage, reused ones at 0."""

    folder: Path
    company: str
    as_of: str
    key: str
    started: str
    ended: str
    complete: bool
    previous: str | None
    files: frozenset[str]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def order(self) -> tuple[str, str, str]:
        """Newer runs come later: by the day of their data, then when they were made."""
        return self.as_of, self.ended, self.folder.name


def published(out: Path) -> list[Published]:
    """Every published run in ``out``, oldest data first. What has no manifest of ours is passed over."""
    found = []
    for folder in sorted(out.iterdir()) if out.is_dir() else ():
        if folder.is_symlink() or folder.name.startswith(".") or not folder.is_dir():
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found.append(_read(folder))
    return sorted(found, key=lambda run: run.order)


def _read(folder: Path) -> Published:
    said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    stages = [s for s in said["stages"] if s["status"] in ("done", "reused")]
    outputs = {p for s in stages for p in s.get("outputs", {}) if not p.startswith("work/")}
    return Published(
        folder, str(said["settings"]["company"]["name"]), str(said["settings"]["as_of"]), str(said["key"]),
        str(said["started"]), str(said["ended"]), bool(said["complete"]),
        (said["inputs"].get("previous_run") or {}).get("file"), frozenset({*outputs, "manifest.json"}),
        {s["stage"]: 0.0 if s["status"] == "reused" else float(s["seconds"]) for s in stages},
    )  # fmt: skip


def plan_of(folder: Path) -> Mapping[str, Any]:
    """``plan.json`` of a run; empty where there is none."""
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return plan if isinstance(plan, Mapping) else {}
    except (OSError, ValueError):
        return {}


def headline(folder: Path) -> dict[str, Any]:
    """The figures of :data:`HEADLINE`, the headline and the number of warnings; empty where there is no plan."""
    plan = plan_of(folder)
    if not plan:
        return {}
    found: dict[str, Any] = {"headline": plan.get("headline")}
    for name, keys in HEADLINE.items():
        value: Any = plan
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        found[name] = value
    return {**found, "warnings": len(plan.get("warnings") or ())}


def write_pointer(out: Path) -> Path:
    """``latest.json``: the newest complete run of each company, written anew from what is there, all at once."""
    work = out / WORK
    work.mkdir(mode=0o700, exist_ok=True)
    release = hold(work / "latest.lock", seconds=30)
    try:
        newest = {run.company: run for run in published(out) if run.complete}
        companies = {
            company: {
                "run": run.folder.name,
                "as_of": run.as_of,
                "ended": run.ended,
                "headline": headline(run.folder).get("headline"),
            }
            for company, run in sorted(newest.items())
        }
        return write_json(out / POINTER, {"format": 1, "companies": companies})
    finally:
        release()


def note(out: Path, attempt: Mapping[str, Any]) -> None:
    """Appends an attempt to the journal, if there is a folder of runs at all; raises nothing."""
    if out.is_dir():
        with contextlib.suppress(OSError):
            (out / WORK).mkdir(mode=0o700, exist_ok=True)
            append_line(out / WORK / JOURNAL, attempt)


def attempts(out: Path) -> list[dict[str, Any]]:
    """Every attempt in the journal, oldest first."""
    return read_lines(out / WORK / JOURNAL)


@dataclass(frozen=True)
class Working:
    """A working directory: ``living``: its run is on; ``stage``: what it is at, or was when it died."""

    name: str
    living: bool
    ended: bool
    stage: str | None
    changed: float


def working(out: Path, stages: tuple[str, ...]) -> list[Working]:
    """Working directories in ``out``, newest first. ``ended``: its run has said how it went."""
    found = []
    for folder in (out / WORK).iterdir() if (out / WORK).is_dir() else ():
        with contextlib.suppress(OSError):
            if not (folder / LOCK).is_file():
                continue
            done = {p.stem for p in (folder / "stages").glob("*.json")} if (folder / "stages").is_dir() else set()
            at = next((stage for stage in stages if stage not in done), None)
            living, ended = is_held(folder / LOCK), (folder / "manifest.json").is_file()
            found.append(Working(folder.name, living, ended, at, folder.stat().st_mtime))
    return sorted(found, key=lambda w: (-w.changed, w.name))


__all__ = [
    "HEADLINE",
    "Published",
    "Working",
    "attempts",
    "headline",
    "note",
    "plan_of",
    "published",
    "working",
    "write_pointer",
]
