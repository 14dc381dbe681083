"""Files, SQL and databases → Ibis tables on the embedded DuckDB, as they are (no types enforced yet).

Large files are not read here: Parquet stays where it is until a query needs it; a database's own query result is
streamed over in batches. A second view with a column ``_row``, the number of the record, lets errors name their place.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from micromarket.config import Source
from micromarket.databases import connect, named_table, without_secrets
from micromarket.delimited import register_delimited
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.remote import PARQUET, RemoteError, RemotePath, fetch, filesystem, find, has_wildcard
from micromarket.spreadsheets import read_sheet
from micromarket.vector_files import is_geoparquet, read_vector

ROW = "_row"
_VECTOR = {".geojson", ".json", ".gpkg", ".shp", ".fgb"}
_TABULAR = {".csv", ".tsv", ".txt", ".parquet", ".pq", ".xlsx", ".xlsm"}


def _compressed_suffix(path: Path) -> str:
    """The suffix that tells the format: ``.csv`` for ``a.csv.gz``."""
    suffixes = [s.lower() for s in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in {".gz", ".zst"} else (suffixes or [""])[-1]


class Engine:
    """One DuckDB, reached through Ibis, that spills to a private temporary folder. A context manager.

    It reads and checks every file, and counts too where ``plan.yml`` names no other engine (``engines.py``).
    """

    def __init__(self, memory_limit: str | None = None, threads: int | None = None):
        self._spill = tempfile.TemporaryDirectory(prefix="micromarket-")
        self.ibis = ibis.duckdb.connect(temp_directory=self._spill.name)
        self.duck: Any = self.ibis.con
        self._reached: dict[str, Any] = {}
        self.duck.execute("SET preserve_insertion_order = true")
        self.duck.execute("SET TimeZone = 'UTC'")  # the same day from the same record on every machine
        if memory_limit:
            self.duck.execute("SET memory_limit = ?", [memory_limit])
        if threads:
            self.duck.execute("SET threads = ?", [threads])

    @property
    def folder(self) -> Path:
        """A private folder, gone with the engine."""
        return Path(self._spill.name)

    def reach(self, scheme: str) -> Any:
        """Lets DuckDB read an object storage; returns it as an fsspec file system."""
        if scheme not in self._reached:
            self._reached[scheme] = filesystem(scheme)
            self.duck.register_filesystem(self._reached[scheme])
        return self._reached[scheme]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.ibis.disconnect()
        self._spill.cleanup()

    def put(self, name: str, frame: pd.DataFrame | pa.Table | pa.RecordBatchReader) -> ibis.Table:
        """A frame as a table of the engine (copied)."""
        self.duck.register("_incoming", frame)
        self.duck.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM _incoming')
        self.duck.unregister("_incoming")
        return self.ibis.table(name)

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table:
        """An expression, computed once; in ``parts``, how many, by the values of a column."""
        sql = ibis.to_sql(table, dialect="duckdb")
        column, count = parts or ("", 1)
        edges = [part * 2**64 // count for part in range(count + 1)]
        for part in range(count):
            into = f'INSERT INTO "{name}"' if part else f'CREATE OR REPLACE TABLE "{name}" AS'
            # DuckDB filters by a grouping's key before it groups (a range it does, a remainder it doesn't)
            above = f"hash({column}) >= {edges[part]}" if part else ""
            below = f"hash({column}) < {edges[part + 1]}" if part + 1 < count else ""
            only = " AND ".join(filter(None, (above, below)))
            self.duck.execute(f"{into} FROM ({sql}){' WHERE ' + only if only else ''}")
        return self.ibis.table(name)

    def save(self, table: ibis.Table, path: Path) -> None:
        """An expression as a Parquet file."""
        # a column of more than 1,000 values is no column to look up: not to try saves a quarter of the time
        options = "FORMAT parquet, DICTIONARY_SIZE_LIMIT 1000"
        self.duck.execute("SET preserve_insertion_order = false")  # to keep one would take the whole table in memory
        try:
            self.duck.execute(f"COPY ({ibis.to_sql(table, dialect='duckdb')}) TO {_quoted(path)} ({options})")
        finally:
            self.duck.execute("SET preserve_insertion_order = true")

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        """A table of the reading engine, here where the counting is done: the same."""
        return table


def _quoted(path: Path | str) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _file_problem(source: Source, error: BaseException, expected: str = "a readable file") -> InputError:
    # what a library calls its errors tells a reader nothing
    text = re.sub(r"^(\w+(Exception|Error): )+", "", str(error).strip()).splitlines()
    return InputError([Problem(source.shown_as, expected, value=shown(text[0] if text else type(error).__name__, 160))])


def _local_times(schema: pa.Schema) -> str:
    """SQL that gives timestamps with a time zone the local time: a day must not depend on where the plan is made."""
    zoned = [(f.name, f.type.tz) for f in schema if pa.types.is_timestamp(f.type) and f.type.tz]
    quoted = [('"' + name.replace('"', '""') + '"', zone.replace("'", "''")) for name, zone in zoned]
    replaced = ", ".join(f"timezone('{zone}', {name}) AS {name}" for name, zone in quoted)
    return f" REPLACE ({replaced})" if replaced else ""


def _several(engine: Engine, source: Source, path: Path | RemotePath, name: str) -> list[Path]:
    """The files of this machine that ``path`` stands for; remote ones are fetched."""
    if isinstance(path, RemotePath):
        return [fetch(f.path, engine.folder / name / str(i)) for i, f in enumerate(find(path))]
    if has_wildcard(path.name) and not path.exists():
        files = sorted(p for p in path.parent.glob(path.name) if p.is_file())
        if not files:
            raise InputError([Problem(source.shown_as, "at least one file", value="nothing there")])
        return files
    return [path]


def _register(engine: Engine, source: Source, path: Path | RemotePath, name: str) -> tuple[Any, Source]:
    """Makes the view ``name`` of what is at ``path``; returns the CRS of its geometry, and how it is named."""
    try:
        if isinstance(path, RemotePath) and _stays_remote(engine, path, name):
            return None, source
        files = _several(engine, source, path, name)
    except RemoteError as error:
        raise InputError([Problem(source.shown_as, "a readable place", value=str(error))]) from error
    except (OSError, pa.ArrowException, duckdb.Error) as error:  # of the Parquet there
        raise _file_problem(source, error) from error
    if len(files) == 1:
        return _register_file(engine, source, files[0], name)
    if any(_compressed_suffix(f) in _VECTOR or is_geoparquet(f) for f in files):
        raise InputError([Problem(source.shown_as, "one file of borders, not several")])
    parts = []
    for i, file in enumerate(files):
        _register_file(engine, replace(source, shown_as=file.name), file, f"{name}_{i}")
        parts.append(engine.ibis.table(f"{name}_{i}").columns)
        if set(parts[i]) != set(parts[0]):
            other = ", ".join(map(shown, sorted(set(parts[i]) ^ set(parts[0]))))
            expected = f"the same columns as in {files[0].name}"
            raise InputError([Problem(file.name, expected, value=f"a difference in {other}")])
    union = " UNION ALL BY NAME ".join(f'SELECT * FROM "{name}_{i}"' for i in range(len(files)))
    engine.duck.execute(f'CREATE VIEW "{name}" AS {union}')
    return None, source


def _stays_remote(engine: Engine, path: RemotePath, name: str) -> bool:
    """Parquet in object storage without borders becomes the view ``name`` where it is."""
    if path.scheme in ("https", "http") or not (path.is_folder or path.suffix.lower() in PARQUET):
        return False
    urls = [f.path.url for f in find(path)]
    files = engine.reach(path.scheme)
    with files.open(urls[0]) as first:
        schema = pq.read_schema(first)
    if b"geo" in (schema.metadata or {}):
        return False
    listed = ", ".join(_quoted(url) for url in urls)
    engine.duck.execute(f'CREATE VIEW "{name}" AS SELECT *{_local_times(schema)} FROM read_parquet([{listed}])')
    return True


def _register_file(engine: Engine, source: Source, path: Path, name: str) -> tuple[Any, Source]:
    """Makes the view ``name`` of a file of this machine; returns the CRS of its geometry, and how it is named."""
    if not path.exists():
        raise InputError([Problem(source.shown_as, "an existing file", value="nothing there")])
    if path.is_file() and path.stat().st_size == 0:
        raise InputError([Problem(source.shown_as, "at least one row", value="an empty file")])
    suffix = _compressed_suffix(path)
    duck = engine.duck
    try:
        if suffix in _VECTOR or (suffix in PARQUET and is_geoparquet(path)):
            found, crs = read_vector(source, path, dissolve=name == f"file_{source.table}")
            engine.put(name, found)
            return crs, source
        if suffix in {".csv", ".tsv", ".txt"} and path.is_file():
            register_delimited(duck, path, name, source.shown_as)
        elif suffix in PARQUET or path.is_dir():
            pattern = path / "**" / "*.parquet" if path.is_dir() else path
            if path.is_dir() and not any(path.rglob("*.parquet")):
                expected = "a file, or a folder of Parquet files"
                raise InputError([Problem(source.shown_as, expected, value="a folder without any")])
            first = path if path.is_file() else min(path.rglob("*.parquet"))
            query = f"SELECT *{_local_times(pq.read_schema(first))} FROM read_parquet({_quoted(pattern)})"
            duck.execute(f'CREATE VIEW "{name}" AS {query}')
        elif suffix in {".xlsx", ".xlsm"}:
            frame, shown_as = read_sheet(path, source.layer, source.shown_as)
            engine.put(name, pa.Table.from_pandas(frame, preserve_index=False))
            source = replace(source, shown_as=shown_as)
        else:
            known = sorted(_VECTOR | _TABULAR)
            raise InputError([Problem(source.shown_as, did_you_mean(suffix, known), value=shown(suffix))])
    except InputError:
        raise
    except Exception as error:
        raise _file_problem(source, error) from error
    return None, source


def _from_database(engine: Engine, source: Source, name: str) -> None:
    """Runs the query where the data is and streams the result over, batch by batch."""
    assert source.connection is not None
    remote = connect(source.connection, source.shown_as, f"data.{source.table}.connection")
    try:
        own = remote.name == "duckdb"  # ibis 12 asks DuckDB 2 for a method that it has no more
        if source.sql is None:
            assert source.layer is not None
            table = named_table(remote, source.layer)
        elif not own:
            table = remote.sql(source.sql.strip().rstrip(";"))
        if own:
            query = source.sql.strip().rstrip(";") if source.sql is not None else str(remote.compile(table))
            engine.put(name, remote.con.sql(query).to_arrow_reader())
        else:
            engine.put(name, table.to_pyarrow_batches())
    except Exception as error:
        text = without_secrets(str(error).strip(), source.connection).splitlines()
        value = shown(text[0] if text else type(error).__name__, 160)
        raise InputError([Problem(source.shown_as, "a query that the database can run", value=value)]) from None
    finally:
        remote.disconnect()


@dataclass(frozen=True)
class RawTable:
    """A source as the engine sees it. ``numbered``: the same with ``_row``; ``crs``: of its ``geometry`` (WKB)."""

    source: Source
    table: ibis.Table
    numbered: ibis.Table
    crs: Any = None


def read_source(engine: Engine, source: Source) -> RawTable:
    """The table as it is.

    Raises
    ------
    InputError
        Missing, empty, unreadable or unknown file; query that fails; geometry without CRS or outside of it.
    """
    raw = f"raw_{source.table}"
    crs = None
    if source.connection is not None:
        _from_database(engine, source, raw)
    else:
        assert source.path is not None
        scope = f"file_{source.table}"
        crs, source = _register(engine, source, source.path, scope)
        if source.sql is None:
            raw = scope
        else:
            names = [("input", scope)]
            for extra, path in source.extra:
                other = f"{scope}_{extra}"
                found, _ = _register(engine, source, path, other)
                crs = found if crs is None else crs
                names.append((extra, other))
            scopes = ", ".join(f'"{alias}" AS (SELECT * FROM "{table}")' for alias, table in names)
            query = source.sql.strip().rstrip(";")
            try:
                engine.duck.execute(f'CREATE TABLE "{raw}" AS WITH {scopes} SELECT * FROM ({query})')
            except Exception as error:
                raise _file_problem(source, error, "a query that DuckDB can run on input") from error
    numbered = f"numbered_{source.table}"
    engine.duck.execute(f'CREATE VIEW "{numbered}" AS SELECT row_number() OVER () AS {ROW}, * FROM "{raw}"')
    return RawTable(source, engine.ibis.table(raw), engine.ibis.table(numbered), crs)
