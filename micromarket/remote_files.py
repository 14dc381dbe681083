"""Object storage as DuckDB reads it: an fsspec file system whose files may be read by several threads at once.

Those of fsspec and obstore have one position for all threads, while DuckDB seeks and reads from many: it would get
bytes from elsewhere.
"""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import fsspec
import obstore


class ObjectFiles(fsspec.AbstractFileSystem):
    """Read-only. What is at an address is asked once; a file that changes afterwards is an error, not a mixture.

    Parameters
    ----------
    scheme : str
        ``s3``, ``gs`` or ``az``.
    open_store : callable
        The obstore store of ``(scheme, bucket)``.
    """

    cachable = False  # one of before may have had other credentials

    def __init__(self, scheme: str, open_store: Any):
        super().__init__(skip_instance_cache=True)
        self.protocol = scheme
        self._open_store = open_store
        self._stores: dict[str, Any] = {}
        self._found: dict[str, dict[str, Any]] = {}

    def _place(self, path: str) -> tuple[Any, str]:
        bucket, _, inside = str(path).removeprefix(f"{self.protocol}://").partition("/")
        if bucket not in self._stores:
            self._stores[bucket] = self._open_store(self.protocol, bucket)
        return self._stores[bucket], inside

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        if path not in self._found:
            store, inside = self._place(path)
            meta = obstore.head(store, inside)
            self._found[path] = {"name": path, "type": "file", **meta}
        return self._found[path]

    def modified(self, path: str) -> Any:
        return self.info(path)["last_modified"]

    def glob(self, path: str, **_: Any) -> list[str]:  # addresses are listed before DuckDB sees them
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> _ObjectFile:
        if mode.strip("b") != "r":
            raise PermissionError("object storage is only read")
        store, inside = self._place(path)
        meta = self.info(path)
        return _ObjectFile(store, inside, int(meta["size"]), meta.get("e_tag"))


class _ObjectFile(io.RawIOBase):
    """Ranges of an object. Every thread has a position of its own."""

    def __init__(self, store: Any, inside: str, size: int, tag: str | None):
        self._store, self._inside, self.size = store, inside, size
        self._options = {"if_match": tag} if tag else {}
        self._at = threading.local()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return getattr(self._at, "position", 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        self._at.position = max(base + offset, 0)
        return self._at.position

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        end = self.size if size is None or size < 0 else min(start + size, self.size)
        if start >= end:
            return b""
        options: Any = {**self._options, "range": (start, end)}
        content = bytes(obstore.get(self._store, self._inside, options=options).bytes())
        self._at.position = start + len(content)
        return content
