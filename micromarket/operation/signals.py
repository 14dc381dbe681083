"""A run that is asked to stop (SIGTERM, SIGHUP) ends as one that is stopped by hand: tidily, nothing published."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end. ``status``: 128 and the signal's number, as shells have it."""

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, those signals raise :class:`Stopped`, once; only in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:  # a second one must not break off the tidying up
            asked = True
            raise Stopped(number)

    before = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        # who ignores it means it: nohup, say
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


__all__ = ["Stopped", "stoppable"]
