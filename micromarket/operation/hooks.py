"""Commands of the company's own after a run: told what happened through their environment, never through a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Called:
    """How a hook went. ``problem``: empty where it ended with status 0."""

    command: str
    status: int | None
    seconds: float
    problem: str

    @property
    def ok(self) -> bool:
        return not self.problem


def call(argv: Sequence[str], env: Mapping[str, str], folder: Path, timeout: float) -> Called:
    """Runs a hook and waits for it.

    Parameters
    ----------
    argv : sequence of str
        Program and arguments. A relative path with a separator is relative to ``folder``.
    env : mapping
        Added to the environment of this process.
    folder : Path
        Its working directory.
    timeout : float
        Seconds, after which it and what it started are killed.
    """
    began = time.monotonic()
    program = argv[0]
    if os.sep in program or (os.altsep and os.altsep in program):
        program = str(folder / program)
    status, problem = None, ""
    try:
        # standard output belongs to the run: its last line is the folder
        process = subprocess.Popen(
            [program, *argv[1:]], cwd=folder, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=_errors(),
            start_new_session=os.name == "posix",
        )  # fmt: skip
        try:
            status = process.wait(timeout)
            problem = "" if status == 0 else f"it ended with status {status}"
        except subprocess.TimeoutExpired:
            problem = f"it took longer than {timeout:g} seconds"
        finally:
            if process.poll() is None:
                _kill(process)
    except OSError as error:
        problem = f"it can't be started: {error.strerror or type(error).__name__}"
    return Called(Path(argv[0]).name, status, round(time.monotonic() - began, 3), problem)


def _errors() -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return sys.stderr.fileno()
    return subprocess.DEVNULL


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


__all__ = ["Called", "call"]
