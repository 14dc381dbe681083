"""``manifest.json``: what went in, what ran, when, with which versions. The only file of a run that holds times."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from micromarket.config import Settings
from micromarket.runner.inputs import Input, file_hash
from micromarket.runner.pipeline import SECTIONS, Stage, package_hash, settings_part, versions
from micromarket.runner.store import Record

#: Raised when a key of the manifest changes its meaning.
FORMAT = 1


def now() -> str:
    """This moment, UTC, ISO 8601 to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def build_manifest(
    settings: Settings,
    inputs: Mapping[str, Input],
    rows: Mapping[str, int],
    pipeline: Sequence[Stage],
    records: Sequence[Record],
    *,
    key: str,
    started: str,
    until: str | None,
    command: Sequence[str] | None,
    failed: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The manifest as plain values.

    Parameters
    ----------
    settings : Settings
    inputs : mapping of str to Input
    rows : mapping of str to int
        Rows of each input table, as far as they were counted.
    pipeline : sequence of Stage
    records : sequence of Record
        Stages that are done or reused. The others are ``failed`` (at most one) or ``skipped``.
    key : str
        sha256 of inputs, settings, code and versions: equal keys, equal plans.
    started : str
        ISO 8601.
    until : str or None
        The last stage that was asked for.
    command : sequence of str or None
        As typed. Connections are never part of it.
    failed : (stage, message) or None
    """
    finished = {record.stage: record for record in records}
    stages = []
    for stage in pipeline:
        if stage.name in finished:
            entry = asdict(finished[stage.name])
        elif failed and failed[0] == stage.name:
            entry = {"stage": stage.name, "status": "failed", "error": failed[1]}
        else:
            entry = {"stage": stage.name, "status": "skipped"}
        stages.append(entry)
    return {
        "format": FORMAT,
        "micromarket": versions()["micromarket"],
        "package_sha256": package_hash(),
        "versions": versions(),
        "platform": platform.platform(),
        "command": list(command) if command else None,
        "key": key,
        "plan_file": {"file": settings.path.name, "sha256": file_hash(settings.path)},
        "settings": {part: settings_part(settings, part) for part in SECTIONS},
        "inputs": {table: {**item.shown, "rows": rows.get(table)} for table, item in inputs.items()},
        "seeds": {"seed": settings.seed},
        "until": until,
        "complete": len(finished) == len(pipeline),
        "started": started,
        "ended": now(),
        "stages": stages,
    }
