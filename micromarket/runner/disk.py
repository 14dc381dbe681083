"""A disk that is full or gone, in words."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from micromarket.errors import StageError
from micromarket.runner.notebook import NotebookFailed

_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "a file would be larger than the system allows",
    errno.EIO: "the disk can't be read or written",
}
_THEN = "Nothing is published; once that is mended, the same command with --resume goes on from here"


@contextlib.contextmanager
def disk_errors_told() -> Iterator[None]:
    """Says in words that the disk is full, or gone, and what to do then.

    Raises
    ------
    StageError
        In the place of the system's error, or of a notebook's that met it.
    """
    try:
        yield
    except NotebookFailed as error:
        text = str(error)
        words = next((w for number, w in _WORDS.items() if f"[Errno {number}]" in text), None)
        if words is None:
            words = _WORDS[errno.ENOSPC] if "No space left on device" in text else None
        if words is None:
            raise
        raise StageError(f"{words}: stage {error.stage} stopped. {_THEN}") from error
    except OSError as error:
        if error.errno not in _WORDS:
            raise
        what = error.filename or "a file of the run"
        raise StageError(f"{_WORDS[error.errno]}: {what} can't be written. {_THEN}") from error


__all__ = ["disk_errors_told"]
