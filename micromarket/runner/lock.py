"""Who is alive: a lock on a file that the operating system gives back when its process ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]


def hold(path: Path, seconds: float = 0.0) -> Callable[[], None]:
    """Locks ``path`` for the life of this process, or until the returned function is called; tries for ``seconds``.

    Raises
    ------
    OSError
        Where another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + seconds
    while True:
        try:
            _take(descriptor)
            return lambda: os.close(descriptor)
        except OSError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise
            time.sleep(0.02)


def is_held(path: Path) -> bool:
    """Whether a living process holds ``path``; a missing file is held by nobody."""
    if not path.exists():
        return False
    try:
        release = hold(path)
    except OSError:
        return True
    release()
    return False
