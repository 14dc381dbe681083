"""A run directory as stages see it: named tables and notes, each written whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.errors import StageError
from micromarket.notes import Notes, plain


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Calls ``write`` with a temporary path beside ``path`` and renames the result; leaves nothing half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """``value`` as JSON: sorted keys where order carries no meaning, no NaN, a newline at the end."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


class Workspace:
    """Named tables (see :data:`micromarket.artefacts.ARTEFACTS`) and notes in ``run_dir``.

    Examples
    --------
    >>> import tempfile
    >>> ws = Workspace(tempfile.mkdtemp())
    >>> ws.has("scores")
    False
    """

    def __init__(self, run_dir: str | Path):
        self.run_dir = Path(run_dir).absolute()

    def path(self, name: str) -> Path:
        """Where the table is, or would be."""
        return self.run_dir / ARTEFACTS[name].path

    def has(self, name: str) -> bool:
        """Whether the table is there."""
        return self.path(name).exists()

    def read(self, name: str) -> pd.DataFrame:
        """The table, a GeoDataFrame where it has geometry.

        Raises
        ------
        StageError
            Where the stage that writes it has not run into this directory.
        """
        path = self.path(name)
        if not path.exists():
            raise StageError(f"{path} is not there: run the stage {ARTEFACTS[name].stage!r} into {self.run_dir} first")
        frame = pd.read_parquet(path)
        if "geometry" in frame.columns:
            frame = gpd.read_parquet(path)
        return frame

    def read_if_there(self, name: str) -> pd.DataFrame | None:
        """The table, or ``None`` where it is not there."""
        return self.read(name) if self.has(name) else None

    def write(self, name: str, frame: pd.DataFrame) -> Path:
        """Writes a table after checking its columns and keys; rows are sorted by key (equal runs, equal bytes)."""
        artefact = ARTEFACTS[name]
        missing = [c for c in artefact.columns if c not in frame.columns]
        if missing:
            raise StageError(f"the table {name} lacks {', '.join(missing)}")
        keys = list(artefact.keys)
        if frame.duplicated(keys).any():
            raise StageError(f"the table {name} has several rows with the same {', '.join(keys)}")
        rest = [c for c in frame.columns if c not in artefact.columns]
        frame = frame[[*artefact.columns, *rest]].sort_values(keys, kind="stable").reset_index(drop=True)
        return write_atomically(self.path(name), lambda p: frame.to_parquet(p, index=False, compression="zstd"))

    def write_notes(self, stage: str, notes: Notes) -> Path:
        """What a stage says beside its tables, as JSON."""
        return write_json(self.run_dir / "work" / "notes" / f"{stage}.json", notes.to_json())

    def notes(self, stage: str) -> Notes:
        """The notes of a stage that has run into this directory."""
        path = self.run_dir / "work" / "notes" / f"{stage}.json"
        if not path.exists():
            raise StageError(f"{path} is not there: run the stage {stage!r} into {self.run_dir} first")
        return Notes.from_json(json.loads(path.read_text(encoding="utf-8")))
