"""What went into a run: a fingerprint of every input file, and whether it is still the same file."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from micromarket.config import Settings, Source
from micromarket.errors import StageError
from micromarket.runner.pipeline import digest_of

_NOT_CONTENT = {"path", "extra", "connection", "shown_as"}
#: Files beside ``plan.yml`` that a stage reads without being told, by the name under which they count as an input.
BESIDE = {"plays": "plays.yml"}
#: Files that belong to a Shapefile.
_SIDECARS = (".dbf", ".shx", ".prj", ".cpg")


@dataclass(frozen=True)
class Input:
    """One input: a table, or one of the files ``BESIDE`` ``plan.yml``.

    Attributes
    ----------
    table : str
    key : str
        sha256 of all that the table's content depends on. A database can change without our noticing: its key is new
        in every run, so that a stage that reads it is never skipped.
    name_key : str
        The same but equal from run to run for a database; it names the run folder.
    files : tuple of (Path, size in bytes, time of change in ns)
    shown : dict
        For the manifest; no connection, no secret.
    """

    table: str
    key: str
    name_key: str
    files: tuple[tuple[Path, int, int], ...]
    shown: dict[str, Any]


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if path.suffix.lower() == ".shp":
        return [path, *(p for s in _SIDECARS if (p := path.with_suffix(s)).is_file())]
    return [path]


def _stat(path: Path) -> tuple[Path, int, int]:
    found = path.stat()
    return path, found.st_size, found.st_mtime_ns


def _without_secrets(connection: str) -> list[str]:
    parts = urlsplit(connection)
    try:
        port = parts.port
    except ValueError:
        port = None
    return [parts.scheme, parts.hostname or "", str(port or ""), parts.path]


def _fingerprint(source: Source) -> Input:
    paths = [p for p in (source.path, *(p for _, p in source.extra)) if p is not None]
    files = [f for path in paths for f in _files_of(path)]
    hashes = [file_hash(f) for f in files]
    # every option of the source counts, and the names of its files; the folder they lie in doesn't
    options = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NOT_CONTENT}
    identity = {
        "options": options, "sha256": hashes, "files": [f.name for f in files],
        "with": [name for name, _ in source.extra],
        "database": _without_secrets(source.connection) if source.connection else None,
    }  # fmt: skip
    stats = tuple(_stat(f) for f in files)
    shown: dict[str, Any] = {"file": source.shown_as, "bytes": sum(size for _, size, _ in stats)}
    if source.connection:
        shown = {"file": source.shown_as, "bytes": None}
    shown["sha256"] = hashes[0] if len(hashes) == 1 else digest_of(hashes) if hashes else None
    if source.sql is not None:
        shown["sql_sha256"] = hashlib.sha256(source.sql.encode()).hexdigest()
    name_key = digest_of(identity)
    key = digest_of([name_key, uuid.uuid4().hex]) if source.connection else name_key
    return Input(source.table, key, name_key, stats, shown)


def _sources(settings: Settings) -> dict[str, Source]:
    beside = {
        name: Source(name, path=path, shown_as=file)
        for name, file in BESIDE.items()
        if (path := settings.path.with_name(file)).is_file()
    }
    return {
        **beside, **_previous(settings), **settings.data,
        **(settings.geography.sources if settings.geography is not None else {}),
    }  # fmt: skip


def _previous(settings: Settings) -> dict[str, Source]:
    """The tables of an earlier run that this one goes on from."""
    if settings.previous_run is None:
        return {}
    from micromarket.potential.previous_run import previous_files  # waits for scikit-learn; few runs have one before

    files = previous_files(settings)
    if not files:
        return {}
    run = next(iter(files.values())).parent.parent.name
    return {"previous_run": Source("previous_run", extra=tuple(files.items()), shown_as=run)}


def fingerprints(settings: Settings) -> dict[str, Input]:
    """Of every input, by name. Reads each file once."""
    return {table: _fingerprint(source) for table, source in sorted(_sources(settings).items())}


def refuse_changed(settings: Settings, inputs: Mapping[str, Input]) -> None:
    """A plan must come from one state of the data.

    Raises
    ------
    StageError
        Naming the inputs whose content is not what it was when the run began.
    """
    sources = _sources(settings)
    changed = [source.shown_as for table, source in sources.items() if table not in inputs]
    for table, before in inputs.items():
        try:
            touched = any(_stat(path) != (path, size, modified) for path, size, modified in before.files)
            if touched and _fingerprint(sources[table]).name_key != before.name_key:
                changed.append(before.shown["file"])
        except (OSError, KeyError):
            changed.append(before.shown["file"])
    if changed:
        raise StageError(f"changed while the run was on: {', '.join(changed)}; run again")
