"""Where customers, purchases and contracts are counted: DuckDB on this machine, Spark, or a database they live in.

Files are read, checked and typed by DuckDB wherever the counting is done; an engine elsewhere then *takes* the tables
of customers. Tables that live in the engine are checked and typed there and never copied. Small tables (markets,
notes, spend) stay on this machine. The expressions of the stages run unchanged on each of them.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Protocol

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from micromarket.config import EngineSettings, Source
from micromarket.databases import connect, named_table
from micromarket.errors import InputError, Problem, shown
from micromarket.sources import ROW, Engine, RawTable, _quoted


class CountingEngine(Protocol):
    """What a :class:`~micromarket.load.Dataset` needs of the engine that counts. ``ibis``: its Ibis backend."""

    ibis: Any

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        """A table of the reading engine (DuckDB), brought to where the counting is done."""

    def put(self, name: str, frame: pd.DataFrame | pa.Table) -> ibis.Table:
        """A small frame as a table."""

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table:
        """An expression over the engine's tables, computed once; ``parts`` is a hint, see ``Dataset.keep``."""

    def save(self, table: ibis.Table, path: Path) -> None:
        """An expression as Parquet: a file, or a folder of files where several machines write."""

    def close(self) -> None: ...


def open_engine(choice: EngineSettings, local: Engine) -> CountingEngine:
    """The engine of ``plan.yml``; ``local`` itself for DuckDB.

    Raises
    ------
    InputError
        Where it can't be reached: no pyspark, no Java, a database that doesn't answer.
    """
    if choice.kind == "spark":
        return SparkEngine(choice, local)
    if choice.kind == "database":
        return DatabaseEngine(choice)
    return local


def read_inside(engine: CountingEngine, source: Source) -> RawTable:
    """A table that lives in the engine, as it is. Its rows have no numbers: databases keep no order.

    Raises
    ------
    InputError
        Where the engine has no such table, or can't run the query.
    """
    assert source.inside
    try:
        if source.sql is not None:
            table = _query(engine.ibis, source.sql.strip().rstrip(";"), f"micromarket_{source.table}")
        else:
            assert source.layer is not None
            table = named_table(engine.ibis, source.layer)
        table.schema()
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        expected = "a table or a query that the engine knows"
        raise InputError([Problem(source.shown_as, expected, value=shown(text[0], 160))]) from error
    return without_row_numbers(source, table)


def _query(backend: Any, sql: str, name: str) -> ibis.Table:
    if backend.name == "duckdb":  # ibis 12 asks DuckDB 2 for a method that it has no more
        backend.con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {sql}')
        return backend.table(name, database=("temp", "main"))
    return backend.sql(sql)


def without_row_numbers(source: Source, table: ibis.Table) -> RawTable:
    return RawTable(source, table, table.mutate(**{ROW: ibis.null("int64")}))


def _as_arrow(frame: pd.DataFrame | pa.Table) -> pa.Table:
    return frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)


class DatabaseEngine:
    """A database reached by its URL. What is kept or taken becomes a temporary table, gone with the connection."""

    def __init__(self, choice: EngineSettings):
        assert choice.connection is not None
        self.ibis = connect(choice.connection, choice.file, "engine.connection")
        self._made = 0

    def _create(self, name: str, table: ibis.Table) -> ibis.Table:
        # a new name each time: what is replaced may still be read by an expression at hand
        self._made += 1
        return self.ibis.create_table(f"micromarket_{self._made}{name}", table, temp=True)

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        return self._create(f"_{name}", ibis.memtable(table.to_pyarrow()))

    def put(self, name: str, frame: pd.DataFrame | pa.Table) -> ibis.Table:
        return self._create(name, ibis.memtable(_as_arrow(frame)))

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table:
        return self._create(name, table)

    def save(self, table: ibis.Table, path: Path) -> None:
        batches = table.to_pyarrow_batches(chunk_size=1_000_000) if self.ibis.name != "duckdb" else None
        if batches is None:
            self.ibis.con.execute(f"COPY ({ibis.to_sql(table, dialect='duckdb')}) TO {_quoted(path)} (FORMAT parquet)")
            return
        with pq.ParquetWriter(path, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def close(self) -> None:
        self.ibis.disconnect()


#: For a Spark of our own on this machine: it talks to nobody else, and starts no more tasks than there is work for.
_LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
_TIME_ZONE = "spark.sql.session.timeZone"


class SparkEngine:
    """Spark: the session that runs already (a notebook on a cluster), else one of our own, stopped at the end.

    Tables from files reach it as Parquet in ``staging`` (default: a private temporary folder, enough for a local
    master; workers elsewhere need a folder that they can read too).
    """

    def __init__(self, choice: EngineSettings, local: Engine):
        self._local = local
        self._session, self._ours = _spark_session(choice)
        self._zone = self._session.conf.get(_TIME_ZONE)
        self._session.conf.set(_TIME_ZONE, "UTC")  # the same day from the same record on every machine
        self.ibis = ibis.pyspark.connect(self._session)
        if choice.staging is not None:
            choice.staging.mkdir(parents=True, exist_ok=True)
        self._staging = tempfile.TemporaryDirectory(prefix="micromarket-", dir=choice.staging)
        self._kept: list[Any] = []
        self._views: list[str] = []

    def _read(self, path: Path, name: str) -> ibis.Table:
        view = f"micromarket_{len(self._views)}_{name}"
        self._views.append(view)
        return self.ibis.read_parquet(path.as_uri(), table_name=view)

    def _path(self, name: str) -> Path:
        return Path(self._staging.name) / f"{len(self._views)}_{name}.parquet"

    def take(self, name: str, table: ibis.Table) -> ibis.Table:
        path = self._path(name)
        self._local.save(table, path)
        return self._read(path, name)

    def put(self, name: str, frame: pd.DataFrame | pa.Table) -> ibis.Table:
        path = self._path(name)
        pq.write_table(_as_arrow(frame), path, coerce_timestamps="us")  # Spark knows times down to microseconds
        return self._read(path, name)

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table:
        self._kept.append(table.cache())
        return self._kept[-1]

    def save(self, table: ibis.Table, path: Path) -> None:
        self._session.sql(ibis.to_sql(table, dialect="pyspark")).write.mode("overwrite").parquet(path.as_uri())

    def close(self) -> None:
        for kept in self._kept:
            kept.release()
        if self._ours:
            self._session.stop()
        else:
            for view in self._views:
                self._session.catalog.dropTempView(view)
            self._session.conf.set(_TIME_ZONE, self._zone)
        self._staging.cleanup()


def _spark_session(choice: EngineSettings) -> tuple[Any, bool]:
    """The session, and whether it is ours to stop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyspark 4 with pandas 3: of the pandas API on Spark, which we don't use
            from pyspark.sql import SparkSession
    except ImportError as error:
        expected = "pyspark to be installed (pip install 'micromarket[spark]'), and Java 17 or newer"
        raise InputError([Problem(choice.file, expected, column="engine", value="spark")]) from error
    running = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("micromarket")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit, which says where it runs
    master = choice.master or (None if submitted else "local[*]")
    if running is None and master is not None:
        builder = builder.master(master)
        for key, value in _LOCAL.items() if master.startswith("local") else ():
            builder = builder.config(key, value)
    for key, value in choice.config:
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        expected = "a Spark that starts (it needs Java 17 or newer) or, at engine.spark.master, one that answers"
        raise InputError([Problem(choice.file, expected, column="engine", value=type(error).__name__)]) from error
    return session, running is None
