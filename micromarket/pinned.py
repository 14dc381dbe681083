"""What a run settles before it begins: the day of its data and the run before it.

``plan.yml`` may say both in words (``as_of: last full month``, ``previous_run: latest``). A run settles them once and
leaves them in its working directory, so that its last notebook means the same day as its first, whatever the clock
says by then.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

from micromarket.errors import StageError
from micromarket.settings import LATEST, Pinned, Settings
from micromarket.workspace import write_json

_INSIDE = Path("work") / "pinned.json"


def pin(settings: Settings, run_dir: Path) -> None:
    """Leaves what ``settings`` settled in ``run_dir``, for :func:`pinned_in`."""
    before = settings.previous_run
    value = {
        "as_of": settings.as_of,
        "later_rows": settings.later_rows,
        "previous_run": None if before is None or before == LATEST else str(before),
    }
    write_json(run_dir / _INSIDE, value)


def pinned_in(run_dir: Path) -> Pinned | None:
    """What a run settled, or ``None`` where nothing is.

    Raises
    ------
    StageError
        Where the file is there but is none of ours.
    """
    path = run_dir / _INSIDE
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        before = raw["previous_run"]
        day, later = dt.date.fromisoformat(raw["as_of"]), str(raw["later_rows"])
        return Pinned(day, later, None if before is None else Path(before))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path} can't be read ({type(error).__name__}): begin the run anew") from error


def chained(settings: Settings, out: Path) -> Settings:
    """``previous_run: latest`` becomes the folder ``out`` of runs, or nothing where there are none yet."""
    if settings.previous_run != LATEST:
        return settings
    return replace(settings, previous_run=out.absolute() if out.is_dir() else None)


__all__ = ["chained", "pin", "pinned_in"]
