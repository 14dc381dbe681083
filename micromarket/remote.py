"""Paths elsewhere: ``s3://``, ``gs://``, ``az://`` (through obstore) and ``https://``. Credentials: the environment's.

Parquet in object storage stays there, DuckDB reads what a query needs of it; all other files are fetched into a private
folder first. What a path holds is known by its files' names, sizes and tags, without reading them.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from micromarket.errors import did_you_mean

#: Schemes of object storage, by the names that obstore gives them.
_STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_WEB = ("https", "http")
SCHEMES = ("s3", "gs", "az", *_WEB)
PARQUET = (".parquet", ".pq")
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "GOOGLE_SERVICE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_SECONDS = 60
_CHUNK = 1 << 20


class RemoteError(OSError):
    """A place that can't be read. Its text holds no address: that may hold a secret."""


@dataclass(frozen=True)
class RemotePath:
    """An address; compared and hashed by it, shown without what may be secret in it."""

    url: str

    def __repr__(self) -> str:
        return f"RemotePath({self.scheme}://…/{self.name})"

    @property
    def scheme(self) -> str:
        return self.url.split("://")[0].lower()

    @property
    def name(self) -> str:
        return PurePosixPath(unquote(urlsplit(self.url).path) if self.scheme in _WEB else self.url).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        return PurePosixPath(self.name).suffixes

    @property
    def is_folder(self) -> bool:
        return self.scheme not in _WEB and (self.url.endswith("/") or not self.suffix)


@dataclass(frozen=True)
class RemoteFile:
    """A file found at a path: address, size in bytes (-1: not told), and what changes with its content (or None)."""

    path: RemotePath
    size: int
    tag: str | None


def has_wildcard(text: str) -> bool:
    """Whether a path stands for several files (``*``, ``?``, ``**`` for any folders)."""
    return "*" in text or "?" in text


def remote_path(raw: str, expanded: str) -> RemotePath | None:
    """The address in ``plan.yml``, or ``None`` for a path of this machine.

    Parameters
    ----------
    raw, expanded : str
        As written, and with the environment's variables filled in.

    Raises
    ------
    ValueError
        Saying what was expected: a scheme that is known, no secret in ``plan.yml``.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", expanded)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme not in (*_STORES, *_WEB):
        raise ValueError(f"a path, or an address of {did_you_mean(scheme, SCHEMES)}")
    if re.match(r"[^/]*//[^/@]*:(?!\$\{)[^/@]+@", raw):
        raise ValueError("secrets from the environment, such as https://${USER}:${PASSWORD}@host/file.csv")
    host, _, place = expanded[found.end() :].partition("/")
    if not host or (not place and scheme in _WEB):
        raise ValueError(f"a place such as {scheme}://{'host' if scheme in _WEB else 'bucket'}/file.csv")
    return RemotePath(f"{_STORES.get(scheme, scheme)}://{expanded[found.end() :]}")


def find(path: RemotePath) -> list[RemoteFile]:
    """The files at an address: one, those that match its wildcards, or the Parquet files below a folder; by name.

    Raises
    ------
    RemoteError
        Where there is nothing, no right to read it, no answer, or obstore is not installed.
    """
    if path.scheme in _WEB:
        return [_asked(path)]
    bucket, _, inside = path.url.partition("://")[2].partition("/")
    store = _store(path.scheme, bucket)
    import obstore

    try:
        if not path.is_folder and not has_wildcard(inside):
            files = [obstore.head(store, inside)]
        else:
            pattern = inside if has_wildcard(inside) else f"{inside.rstrip('/')}/**/*.parquet".lstrip("/")
            fixed = re.split(r"[*?]", pattern)[0].rpartition("/")[0]
            wanted = re.compile(_as_regex(pattern))
            listed = [meta for batch in obstore.list(store, prefix=fixed or None) for meta in batch]
            files = [meta for meta in listed if wanted.fullmatch(meta["path"])]
    except Exception as error:
        raise _in_words(error) from error
    if not files:
        raise RemoteError("nothing there")
    place = f"{path.scheme}://{bucket}/"
    found = [RemoteFile(RemotePath(place + f["path"]), int(f["size"]), _tag(f)) for f in files]
    return sorted(found, key=lambda f: f.path.url)


def fetch(path: RemotePath, folder: Path) -> Path:
    """A file, copied into ``folder`` under its own name; for a Shapefile also the files that belong to it."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (path.name or "file")
    if path.scheme in _WEB:
        with _opened(path, "GET") as answer, target.open("wb") as file:
            try:
                shutil.copyfileobj(answer, file, _CHUNK)
            except OSError as error:
                raise _in_words(error) from error
        return target
    import obstore

    bucket, _, inside = path.url.partition("://")[2].partition("/")
    store = _store(path.scheme, bucket)
    sidecars = (".dbf", ".shx", ".prj", ".cpg") if path.suffix.lower() == ".shp" else ()
    for suffix in ("", *sidecars):
        name = inside if not suffix else str(PurePosixPath(inside).with_suffix(suffix))
        try:
            with (folder / PurePosixPath(name).name).open("wb") as file:
                for part in obstore.get(store, name).stream(min_chunk_size=_CHUNK):
                    file.write(part)
        except FileNotFoundError as error:
            (folder / PurePosixPath(name).name).unlink()
            if not suffix:
                raise _in_words(error) from error
        except Exception as error:
            raise _in_words(error) from error
    return target


def filesystem(scheme: str) -> Any:
    """For ``duckdb.register_filesystem`` and pyarrow: an fsspec file system."""
    _store(scheme, None)
    from micromarket.remote_files import ObjectFiles

    return ObjectFiles(scheme, _store)


_OPTIONS: dict[str, Any] = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=_SECONDS)}}


def _store(scheme: str, bucket: str | None) -> Any:
    try:
        import fsspec  # noqa: F401
        from obstore.store import from_url
    except ImportError as error:
        raise RemoteError("obstore is not installed (pip install 'micromarket[cloud]')") from error
    if bucket is None:
        return None
    try:
        return from_url(f"{scheme}://{bucket}", **_OPTIONS)
    except Exception as error:
        raise _in_words(error) from error


def _as_regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*|\?)", pattern)
    meant = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(meant.get(part, re.escape(part)) for part in parts)


def _tag(meta: Any) -> str | None:
    return meta.get("version") or meta.get("e_tag") or str(meta["last_modified"])


def _opened(path: RemotePath, method: str) -> Any:
    parts = urlsplit(path.url)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(parts._replace(netloc=host).geturl().replace(" ", "%20"), method=method)
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        return urllib.request.urlopen(request, timeout=_SECONDS)
    except (OSError, ValueError) as error:
        raise _in_words(error) from error


def _asked(path: RemotePath) -> RemoteFile:
    try:
        answer = _opened(path, "HEAD")
    except RemoteError as error:
        if "nothing there" in str(error) or "no answer" in str(error):
            raise
        answer = _opened(path, "GET")  # an address signed for reading only
    with answer:
        size = answer.headers.get("Content-Length")
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return RemoteFile(path, int(size) if size and size.isdigit() else -1, tag)


def _in_words(error: BaseException) -> RemoteError:
    """What went wrong, by its kind: messages of libraries hold addresses, and these may hold secrets."""
    if isinstance(error, RemoteError):
        return error
    text = str(error)
    status = str(error.code) if isinstance(error, urllib.error.HTTPError) else ""
    status = status or next(iter(re.findall(r"status code: (\d{3})", text)), "")
    if isinstance(error, FileNotFoundError) or status in ("404", "410"):
        return RemoteError("nothing there")
    if status in ("401", "403") or "Unauthenticated" in text or "Missing" in text:
        given = "" if any(name in os.environ for name in _CREDENTIALS) else ": the environment holds no credentials"
        return RemoteError(f"no right to read it{given}")
    if isinstance(error, OSError) or "error sending request" in text or "timed out" in text:
        return RemoteError("no answer from there" + (f" but the status {status}" if status else ""))
    return RemoteError(f"an error of the storage{f', status {status}' if status else ''} ({type(error).__name__})")
