"""The peer groups of the run before: ``previous_run`` in ``plan.yml`` names it, or the folder that runs are in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.potential.peer_groups import PeerGroups

_FILES = ("peer_groups", "scores")


@dataclass(frozen=True)
class PreviousRun:
    """``name``: the run's folder; ``groups``: their definition; ``member``, ``leaning``: name of a group by market."""

    name: str
    groups: PeerGroups
    member: pd.Series
    leaning: pd.Series


def previous_files(settings: Settings) -> dict[str, Path]:
    """The files of the run before, by artefact; empty where there is none.

    In a folder of runs it is the newest one of the same company with data of an earlier day than this plan's, so that
    the same plan made twice has the same run before it.
    """
    folder = settings.previous_run
    if folder is None:
        return {}
    if not (folder / "tables").is_dir():
        runs = [r for r in sorted(folder.iterdir()) if len(_tables(r)) == len(_FILES)]
        dated = [(*about, r) for r in runs if (about := _about(r, settings)) is not None]
        if not dated:
            return {}
        folder = max(dated, key=lambda d: (d[0], d[1], d[2].name))[2]
    return _tables(folder)


def _tables(folder: Path) -> dict[str, Path]:
    return {name: path for name in _FILES if (path := folder / ARTEFACTS[name].path).is_file()}


def _about(run: Path, settings: Settings) -> tuple[str, str] | None:
    """Day of the data and end of a run that may come before this one."""
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        said = manifest["settings"]
        day, company = str(said["as_of"]), said["company"]["name"]
        ended = str(manifest["ended"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (day, ended) if company == settings.company.name and day < settings.as_of.isoformat() else None


def read_previous(settings: Settings) -> tuple[PreviousRun | None, str]:
    """The run before, and why there is none (empty where none is asked for)."""
    if settings.previous_run is None:
        return None, ""
    files = previous_files(settings)
    if len(files) < len(_FILES):
        return None, f"{settings.previous_run.name} holds no earlier run with peer groups"
    name = files["scores"].parent.parent.name
    try:
        scores = pd.read_parquet(files["scores"])
        scores.index = pd.Index(scores["market_id"].astype(str))
        groups = PeerGroups.from_table(pd.read_parquet(files["peer_groups"]))
        leaning = scores.get("peer_group_leaning", pd.Series(None, index=scores.index, dtype="object"))
        return PreviousRun(name, groups, scores["peer_group"], leaning), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"the peer groups in {name} can't be read ({type(error).__name__})"


__all__ = ["PreviousRun", "previous_files", "read_previous"]
