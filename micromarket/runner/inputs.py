"""What went into a run: a fingerprint of every input file, and whether it is still the same file."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from micromarket.config import Settings, Source
from micromarket.errors import StageError
from micromarket.pinned import chained
from micromarket.remote import RemotePath, find, has_wildcard
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
        sha256 of all that the table's content depends on. A database, or a web server that tags nothing, can change
        without our noticing: its key is new in every run, so that a stage that reads it is never skipped.
    name_key : str
        The same but equal from run to run for a database; it names the run folder.
    files : tuple of (Path, size in bytes, marks that change with the file)
    remote : bool
        Whether some of it is elsewhere, known by the tags that the storage gives its files.
    shown : dict
        For the manifest; no connection, no secret.
    """

    table: str
    key: str
    name_key: str
    files: tuple[tuple[Path, int, tuple[int, int, int]], ...]
    shown: dict[str, Any]
    remote: bool = False


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if has_wildcard(path.name) and not path.exists():
        return sorted(p for p in path.parent.glob(path.name) if p.is_file())
    if path.suffix.lower() == ".shp":
        return [path, *(p for s in _SIDECARS if (p := path.with_suffix(s)).is_file())]
    return [path]


def _stat(path: Path) -> tuple[Path, int, tuple[int, int, int]]:
    found = path.stat()
    # the time of change can be set by anyone, and jumps with the clock; the other two tell of every replacement
    return path, found.st_size, (found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _without_secrets(connection: str) -> list[str]:
    parts = urlsplit(connection)
    try:
        port = parts.port
    except ValueError:
        port = None
    return [parts.scheme, parts.hostname or "", str(port or ""), parts.path]


def _fingerprint(source: Source) -> Input:
    paths = [p for p in (source.path, *(p for _, p in source.extra)) if p is not None]
    files = [f for path in paths if isinstance(path, Path) for f in _files_of(path)]
    hashes = [file_hash(f) for f in files]
    remote = [f for path in paths if isinstance(path, RemotePath) for f in find(path)]
    # every option of the source counts, and the names of its files; the folder they lie in doesn't
    options = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NOT_CONTENT}
    identity: dict[str, Any] = {
        "options": options, "sha256": hashes, "files": [f.name for f in files],
        "with": [name for name, _ in source.extra],
        "database": _without_secrets(source.connection) if source.connection else None,
    }  # fmt: skip
    tags = [[f.path.name, f.size, f.tag] for f in remote]
    if remote:
        identity["remote"] = tags
    stats = tuple(_stat(f) for f in files)
    size = sum(size for _, size, _ in stats) + sum(f.size for f in remote)
    shown: dict[str, Any] = {"file": source.shown_as, "bytes": None if any(f.size < 0 for f in remote) else size}
    if source.connection:
        shown = {"file": source.shown_as, "bytes": None}
    shown["sha256"] = hashes[0] if len(hashes) == 1 else digest_of(hashes) if hashes else None
    if remote:
        shown |= {"sha256": None, "files": len(remote), "tags_sha256": digest_of(tags)}
    if source.sql is not None:
        shown["sql_sha256"] = hashlib.sha256(source.sql.encode()).hexdigest()
    name_key = digest_of(identity)
    unknown = source.connection is not None or any(f.tag is None for f in remote)
    key = digest_of([name_key, uuid.uuid4().hex]) if unknown else name_key
    return Input(source.table, key, name_key, stats, shown, bool(remote))


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
    """What this run reads of an earlier run that it goes on from: all that is published there as data."""
    if settings.previous_run is None:
        return {}
    from micromarket.potential.previous_run import previous_files  # waits for scikit-learn; few runs have one before

    files = previous_files(settings)
    if not files:
        return {}
    folder = next(iter(files.values())).parent.parent
    also = [*sorted((folder / "tables").glob("*.parquet")), folder / "plan.json", folder / "tests.json"]
    extra = tuple((path.relative_to(folder).as_posix(), path) for path in also if path.is_file())
    return {"previous_run": Source("previous_run", extra=extra, shown_as=folder.name)}


def settled(settings: Settings, out: Path) -> Settings:
    """The settings with the run before named, where ``previous_run`` is ``latest`` or a folder of runs."""
    settings = chained(settings, out)
    if settings.previous_run is None or (settings.previous_run / "tables").is_dir():
        return settings
    from micromarket.potential.previous_run import previous_files

    files = previous_files(settings)
    if not files:
        return settings
    return replace(settings, previous_run=next(iter(files.values())).parent.parent)


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
            if (touched or before.remote) and _fingerprint(sources[table]).name_key != before.name_key:
                changed.append(before.shown["file"])
        except (OSError, KeyError):
            changed.append(before.shown["file"])
    if changed:
        raise StageError(f"changed while the run was on: {', '.join(changed)}; run again")
