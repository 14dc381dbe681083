"""Old runs make room for new ones: which published runs of a company stay, and the careful removal of the others."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from micromarket.dates import add_months
from micromarket.operation.runs import Published, published
from micromarket.runner.lock import is_held
from micromarket.runner.store import LOCK, PUBLISH, WORK, slug
from micromarket.settings import Keep

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-(.+)-([0-9a-f]{8})(-\d+)?")


@dataclass(frozen=True)
class Swept:
    """``removed``: names of folders that are gone; ``spared``: (name, why) of old ones that stay."""

    removed: tuple[str, ...] = ()
    spared: tuple[tuple[str, str], ...] = ()


def sweep(out: Path, company: str, keep: Keep) -> Swept:
    """Removes published runs of ``company`` that ``keep`` doesn't hold.

    Never removed: the newest complete run; a run that a run which stays, or one that is on right now, goes on from
    (``previous_run``); a folder that holds anything we did not put there; runs of other companies.
    """
    if keep.runs is None and keep.months is None:
        return Swept()
    ours = [run for run in published(out) if run.company == company]
    staying = _staying(ours, keep)
    named = {run.previous for run in ours if run.folder.name in staying} | _read_now(out)
    removed, spared = [], []
    for run in ours:
        name = run.folder.name
        if name in staying:
            continue
        if name in named:
            spared.append((name, "a run that stays goes on from it"))
        elif why := _not_ours(run):
            spared.append((name, why))
        elif _remove(run.folder):
            removed.append(name)
        else:
            spared.append((name, "it can't be removed"))
    return Swept(tuple(removed), tuple(spared))


def _staying(runs: list[Published], keep: Keep) -> set[str]:
    if not runs:
        return set()
    stay = {run.folder.name for run in runs if run.complete and run.order == max(r.order for r in runs if r.complete)}
    if keep.runs is not None:
        stay |= {run.folder.name for run in runs[-keep.runs :]}
    if keep.months is not None:
        edge = add_months(dt.date.fromisoformat(runs[-1].as_of), -keep.months).isoformat()
        stay |= {run.folder.name for run in runs if run.as_of > edge}
    return stay


def _read_now(out: Path) -> set[str]:
    """Runs that a run goes on from that is on right now."""
    found = set()
    for folder in (out / WORK).iterdir() if (out / WORK).is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if is_held(folder / LOCK):
                before = json.loads((folder / "work" / "pinned.json").read_text(encoding="utf-8"))["previous_run"]
                found.add(Path(before).name)
    return found


def _not_ours(run: Published) -> str:
    """Why a folder is not simply a run that we published; empty where it is."""
    name = _NAME.fullmatch(run.folder.name)
    if name is None or name[1] != run.as_of or name[2] != slug(run.company) or name[3] != run.key[:8]:
        return "it has another name than we gave it"
    for path in run.folder.rglob("*"):
        if not path.is_dir() and path.relative_to(run.folder).as_posix() not in run.files:
            return "it holds files that the run did not make"
    return ""


def _remove(folder: Path) -> bool:
    """Out of sight by one rename, then gone; what a crash leaves of it, the next run clears away."""
    hidden = folder.parent / f"{PUBLISH}removed-{uuid.uuid4().hex[:8]}"
    try:
        os.rename(folder, hidden)
    except OSError:
        return False
    shutil.rmtree(hidden, ignore_errors=True)
    return True


__all__ = ["Swept", "sweep"]
