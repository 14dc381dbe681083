"""The log of runs: one line of JSON for each event, appended at once. No secret and nothing about a customer in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micromarket.errors import InputError, MicromarketError, StageError
from micromarket.notes import plain
from micromarket.runner.notebook import NotebookFailed

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_MOST_PROBLEMS = 20


def utc() -> str:
    """This moment, UTC, ISO 8601 to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def peak_memory() -> float | None:
    """Most memory that this process has held so far (MB); ``None`` where the system doesn't tell."""
    if resource is None:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """One line of JSON at the end of ``path``, in one write: lines of several processes don't mix.

    Raises
    ------
    OSError
        Where it can't be written whole; what was written of it is taken back if it is still the end.
    """
    data = (json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        written = os.write(descriptor, data)
        if written < len(data):  # the disk is full: half a line would spoil the next one too
            end = os.lseek(descriptor, 0, os.SEEK_CUR)
            if os.fstat(descriptor).st_size == end:
                os.ftruncate(descriptor, end - written)
            raise OSError(28, "no space left for a line of the log")
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events of a log; lines that are none (half-written by a machine that lost power) are passed over."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
    return found


def told(error: BaseException) -> dict[str, Any]:
    """An error as a log may hold it: what kind and where, but no value from the data."""
    kind = type(error).__name__
    if isinstance(error, NotebookFailed):
        words = str(error) if error.error in ("StageError", "DeadKernelError", "CellTimeoutError") else error.error
        if error.exit_status == 2:
            words = "the input is wrong; standard error has every problem"
        return {"error": error.error, "message": words, "stage": error.stage}
    if isinstance(error, InputError):
        places = [
            {"file": p.file, "column": p.column, "row": p.row, "expected": p.expected, "more": p.more}
            for p in error.problems[:_MOST_PROBLEMS]
        ]
        return {"error": kind, "message": f"{len(error.problems)} problems in the input", "problems": places}
    if isinstance(error, (StageError, MicromarketError)):
        return {"error": kind, "message": str(error).splitlines()[0]}
    if isinstance(error, KeyboardInterrupt):
        return {"error": "Stopped", "message": "stopped from outside"}
    return {"error": kind, "message": kind}


class RunLog:
    """Appends events to ``path`` (``None``: nowhere), each with its time, the run's id, seconds and peak memory.

    Raises
    ------
    StageError
        On making it, where the file can't be written. Later failures are told once on standard error and don't stop
        the run.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.run = uuid.uuid4().hex[:12]
        self._began = time.monotonic()
        self._silent = False
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640))
            except OSError as error:
                raise StageError(f"can't write the log {path}: {error.strerror or error}") from error

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def event(self, name: str, **more: Any) -> None:
        """Appends one event."""
        if self.path is None:
            return
        line = {
            "time": utc(), "run": self.run, "event": name, "seconds": self.seconds, "peak_memory_mb": peak_memory(),
        }  # fmt: skip
        try:
            append_line(self.path, {**line, **more})
        except OSError as error:
            if not self._silent:
                print(f"the log {self.path} can't be written: {error.strerror or error}", file=sys.stderr)
            self._silent = True


__all__ = ["RunLog", "append_line", "peak_memory", "read_lines", "told", "utc"]
