"""Folders of a run: working directories with a record of every finished stage, and the rename that publishes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from micromarket.errors import StageError
from micromarket.runner.inputs import file_hash
from micromarket.runner.lock import hold, is_held
from micromarket.workspace import write_json

WORK, PUBLISH, LOCK, KEEP = ".work", ".publish-", "run.lock", "stages"
#: Working directories of ended runs that are kept, for ``--resume`` and for looking into a failure.
KEPT = 3


@dataclass(frozen=True)
class Record:
    """A finished stage: its key and the sha256 of everything that it left (paths relative to the run directory)."""

    stage: str
    key: str
    status: str
    finding: str
    started: str
    ended: str
    seconds: float
    outputs: dict[str, str] = field(default_factory=dict)
    reused_from: str | None = None


def slug(text: str, length: int = 40) -> str:
    """``text`` for a folder's name: ASCII letters, digits and hyphens.

    >>> slug("Société Générale & Co.")
    'societe-generale-co'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:length].strip("-") or "plan"


def refuse_unwritable(out: Path) -> None:
    """Finds out at the start whether a run can be written, leaving nothing behind.

    Raises
    ------
    StageError
        Where neither ``out`` nor, if it isn't there, the folder that it would be made in takes a file.
    """
    folder = next((f for f in (out, *out.parents) if f.exists() or f.is_symlink()), out)
    try:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"x" * 4096)
            stream.flush()
    except OSError as error:
        raise StageError(f"can't write into {out}: {error.strerror or error}") from error


class WorkingDirectory:
    """``OUT/.work/<name>-<random>/``: readable by its owner only, locked while its process lives."""

    def __init__(self, out: Path, name: str):
        self.out = out
        self.path = out / WORK / f"{name}-{uuid.uuid4().hex[:8]}"
        self._made = [folder for folder in (out / WORK, out, *out.parents) if not folder.exists()]
        try:
            self.path.mkdir(mode=0o700, parents=True)
            self._release: Callable[[], None] = hold(self.path / LOCK, seconds=2)
        except OSError as error:
            raise StageError(f"can't write into {out}: {error.strerror or error}") from error

    def close(self, discard: bool = False) -> None:
        """Gives the lock back and removes what no resumed run can use.

        Parameters
        ----------
        discard : bool
            Removes all of it, and the folders above it that it had to make as far as they are empty.
        """
        shutil.rmtree(self.path if discard else self.path / ".kernel", ignore_errors=True)
        self._release()
        for folder in self._made if discard else ():
            with contextlib.suppress(OSError):
                folder.rmdir()

    def record(self, record: Record) -> None:
        """Keeps what the stage left (a later one may rewrite it), then writes the record: last, and at once."""
        for inside in record.outputs:
            kept = self.path / KEEP / record.stage / inside
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            try:
                os.link(self.path / inside, kept)  # files are replaced, never written into
            except OSError:
                shutil.copyfile(self.path / inside, kept)
        write_json(self.path / KEEP / f"{record.stage}.json", asdict(record))

    def hashes(self, paths: list[str]) -> dict[str, str]:
        """sha256 of those of ``paths`` that are there."""
        return {p: file_hash(self.path / p) for p in sorted(paths) if (self.path / p).is_file()}

    def take_over(self, stage: str, key: str) -> Record | None:
        """Copies the result of a stage with this key from another run's directory, newest first.

        Every copied file is held against the hash in its record; a damaged or vanishing directory is passed over.
        """
        for folder in _newest_first(self.path.parent):
            if folder == self.path:
                continue
            copied: list[Path] = []
            try:
                found = Record(**json.loads((folder / KEEP / f"{stage}.json").read_text(encoding="utf-8")))
                if found.key != key:
                    continue
                for inside in found.outputs:
                    copied.append(self.path / inside)
                    copied[-1].parent.mkdir(parents=True, exist_ok=True)
                    copied[-1].unlink(missing_ok=True)
                    shutil.copyfile(folder / KEEP / stage / inside, copied[-1])
                if self.hashes(list(found.outputs)) == found.outputs:
                    return Record(**{**asdict(found), "status": "reused", "reused_from": folder.name})
            except (OSError, ValueError, TypeError, KeyError):
                pass
            for path in copied:
                path.unlink(missing_ok=True)
        return None

    @contextlib.contextmanager
    def publishing(self) -> Iterator[Path]:
        """A folder beside the published ones to assemble the next one in; gone afterwards if not published."""
        folder = self.out / f"{PUBLISH}{self.path.name}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, name: str) -> Path:
    """Makes ``folder`` appear as ``name`` beside itself, all at once; ``name-2``, ``-3``, … where that is taken."""
    _flush(folder)
    for number in range(1, 10_000):
        target = folder.parent / (name if number == 1 else f"{name}-{number}")
        if target.exists():
            continue
        try:
            os.rename(folder, target)
        except OSError:
            if target.exists():  # another run was faster
                continue
            raise
        _flush_directory(target.parent)
        return target
    raise StageError(f"too many runs named {name} in {folder.parent}: remove old ones")


def _flush(folder: Path) -> None:
    """To the disk first, then the name: a power cut must not leave a finished name on unfinished files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        else:
            _flush_directory(path)
    _flush_directory(folder)


def _flush_directory(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows can't open directories
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _newest_first(work: Path) -> list[Path]:
    dated = []
    for folder in work.iterdir() if work.is_dir() else ():
        with contextlib.suppress(OSError):
            if folder.is_dir():
                dated.append((folder.stat().st_mtime_ns, folder.name, folder))
    return [folder for *_, folder in sorted(dated, reverse=True)]


def prune(out: Path, kept: int = KEPT) -> None:
    """Removes all but the latest ``kept`` working directories of ended runs, and what killed runs left half-published.

    Directories of living runs are neither counted nor touched.
    """
    ended = []
    for folder in _newest_first(out / WORK):
        lock = folder / LOCK
        # without a lock it is being made just now, or was left by a crash long ago
        living = is_held(lock) if lock.exists() else time.time() - folder.stat().st_mtime < 3600
        if not living:
            ended.append(folder)
    for folder in ended[kept:]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in out.glob(f"{PUBLISH}*"):
        if not is_held(out / WORK / folder.name.removeprefix(PUBLISH) / LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def copy_published(source: Path, target: Path, outputs: Iterable[str]) -> None:
    """Copies ``outputs`` but those in ``work/``."""
    for inside in outputs:
        if not inside.startswith("work/"):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / inside, target / inside)
