"""The published tables of a run → the company's database: in one transaction, replaced where they are there already.

Each table ``tables/NAME.parquet`` becomes rows of the table ``<prefix>NAME``, with the columns ``run_id`` and ``as_of``
in front; ``<prefix>runs`` says what each run was. Tables are made where they are missing, and get the columns that they
lack; nothing is ever dropped, and rows of other runs are never touched.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings, WriteBack
from micromarket.databases import connect
from micromarket.errors import InputError, MicromarketError, Problem, StageError, shown

RUNS = "runs"


def refuse_unreachable(settings: Settings) -> None:
    """A database that can't be written to is better known before the plan is made.

    Raises
    ------
    InputError
        Where the section ``write_back`` names a database that doesn't answer, or of a kind that can't be written.
    """
    if settings.write_back is not None:
        _connected(settings.write_back, settings.path.name).close()


def write_back(run: str | Path, to: WriteBack, file: str = "plan.yml") -> dict[str, int]:
    """Writes the published tables of a finished run: all of them, or nothing where anything fails.

    A run that was written before is replaced; the database's lock lets two writers wait for each other.

    Parameters
    ----------
    run : str or Path
        A finished run folder.
    to : WriteBack
        Where to; variables of the environment in the connection are filled in.
    file : str
        Who names the connection, for messages.

    Returns
    -------
    dict
        Rows written, by table as it is called in the database.

    Raises
    ------
    InputError
        No finished run; a database that doesn't answer or can't be written by us.
    StageError
        What the database refused; nothing was changed.
    """
    folder = Path(run).absolute()
    manifest, frames = _published(folder)
    target = _connected(to, file)
    key = str(manifest["key"])[:16]
    at: dict[str, Any] = {"run_id": key, "as_of": pd.Timestamp(manifest["settings"]["as_of"])}
    company = manifest["settings"]["company"]
    period = manifest["settings"]["plan"]
    about = {
        "folder": folder.name, "company": company["name"], "currency": company["currency"],
        "plan_start": pd.Timestamp(period["start"]), "plan_end": pd.Timestamp(period["end"]),
        "micromarket": manifest["micromarket"],
    }  # fmt: skip
    frames = {RUNS: pa.table({k: [v] for k, v in about.items()}), **frames}
    written = {}
    try:
        with target.transaction():
            if to.schema is not None:
                target.execute(f"CREATE SCHEMA IF NOT EXISTS {target.place(to.schema)}")
            for name in (RUNS, *sorted(a for a in ARTEFACTS)):
                table = f"{to.prefix}{name}"
                known = target.columns(to.schema, table)
                if known:
                    target.execute(f"DELETE FROM {target.place(to.schema, table)} WHERE run_id = {_text(key)}")
                if name in frames:
                    written[table] = _write(target, to.schema, table, known, frames[name], at)
    except MicromarketError:
        raise
    except Exception as error:
        raise StageError(f"the database refused the tables, nothing in it was changed: {_reason(error)}") from error
    finally:
        target.close()
    return written


def after_publishing(run: Path, settings: Settings) -> None:
    """:func:`write_back` of a run that was just published, where ``plan.yml`` asks for it.

    Raises
    ------
    StageError
        Where it fails; the run stays published, and the message says how to write it later.
    """
    if settings.write_back is None:
        return
    try:
        write_back(run, settings.write_back, settings.path.name)
    except MicromarketError as error:
        again = f"micromarket export tables {run} --plan {settings.path}"
        text = f"the run is published in {run}, but its tables are not in the database"
        raise StageError(f"{text}; once it is mended: {again}\n{error}") from error


def _published(folder: Path) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    problems = [
        Problem(str(folder / inside), "a finished run", value="nothing there")
        for inside in ("plan.json", "manifest.json", "tables")
        if not (folder / inside).exists()
    ]
    if problems:
        raise InputError(problems)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        # what isn't an artefact is not ours to spread
        files = {n: folder / a.path for n, a in sorted(ARTEFACTS.items()) if Path(a.path).parts[0] == "tables"}
        frames = {name: pq.read_table(path) for name, path in files.items() if path.is_file()}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError([Problem(str(folder), "a finished run folder", value=shown(str(error)))]) from error
    return manifest, frames


def _write(
    target: _Target, schema: str | None, table: str, known: Mapping[str, str], rows: pa.Table, at: Mapping[str, Any]
) -> int:
    kinds = {c: target.kind(rows.schema.field(c).type) for c in rows.column_names}
    frame = rows.to_pandas(types_mapper=None)
    for column, kind in kinds.items():
        if kind == "timestamp" and (frame[column].dropna() == frame[column].dropna().dt.normalize()).all():
            kinds[column] = "date"
    kinds = {"run_id": target.kind(pa.string()), "as_of": "date", **kinds}
    frame.insert(0, "as_of", at["as_of"])
    frame.insert(0, "run_id", at["run_id"])
    place = target.place(schema, table)
    if not known:
        columns = ", ".join(f"{_quoted(c)} {kind}" for c, kind in kinds.items())
        target.execute(f"CREATE TABLE {place} ({columns})")
    for column in kinds if known else ():
        if column not in known:
            target.execute(f"ALTER TABLE {place} ADD COLUMN {_quoted(column)} {kinds[column]}")
    for column, kind in kinds.items():
        if kind == "date":
            frame[column] = pd.to_datetime(frame[column]).dt.date
    target.insert(place, frame.astype(object).where(frame.notna(), None))
    return len(frame)


class _Target(Protocol):
    """A database that can be written: its own names of types, one transaction, many rows at once."""

    def kind(self, arrow: pa.DataType) -> str: ...
    def place(self, *names: str | None) -> str: ...
    def transaction(self) -> contextlib.AbstractContextManager[Any]: ...
    def execute(self, sql: str) -> list[Any]: ...
    def columns(self, schema: str | None, table: str) -> dict[str, str]: ...
    def insert(self, place: str, frame: pd.DataFrame) -> None: ...
    def close(self) -> None: ...


class _Postgres:
    def __init__(self, backend: Any):
        self._backend, self._connection = backend, backend.con

    def kind(self, arrow: pa.DataType) -> str:
        return _kind(arrow, "text")

    def place(self, *names: str | None) -> str:
        return ".".join(_quoted(n) for n in names if n is not None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            # for other writers of a plan to this database, until the end of the transaction
            self.execute("SELECT pg_advisory_xact_lock(hashtext('micromarket write_back'))")
            yield

    def execute(self, sql: str) -> list[Any]:
        cursor = self._connection.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []

    def columns(self, schema: str | None, table: str) -> dict[str, str]:
        return _known_columns(self, schema, table)

    def insert(self, place: str, frame: pd.DataFrame) -> None:
        columns = ", ".join(_quoted(c) for c in frame.columns)
        with self._connection.cursor().copy(f"COPY {place} ({columns}) FROM STDIN") as copy:
            for row in frame.itertuples(index=False, name=None):
                copy.write_row(row)

    def close(self) -> None:
        self._backend.disconnect()


class _DuckDB:
    def __init__(self, backend: Any):
        self._backend, self._connection = backend, backend.con

    def kind(self, arrow: pa.DataType) -> str:
        return _kind(arrow, "varchar")

    def place(self, *names: str | None) -> str:
        # a schema that is called as its file is ambiguous without the catalog
        ((catalog,),) = self.execute("SELECT current_catalog()")
        front = () if names[0] is None else (catalog,)
        return ".".join(_quoted(n) for n in (*front, *names) if n is not None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def execute(self, sql: str) -> list[Any]:
        return list(self._connection.execute(sql).fetchall())

    def columns(self, schema: str | None, table: str) -> dict[str, str]:
        return _known_columns(self, schema, table)

    def insert(self, place: str, frame: pd.DataFrame) -> None:
        self._connection.register("_rows_to_write", pa.Table.from_pandas(frame, preserve_index=False))
        columns = ", ".join(_quoted(c) for c in frame.columns)
        self.execute(f"INSERT INTO {place} ({columns}) SELECT * FROM _rows_to_write")
        self._connection.unregister("_rows_to_write")

    def close(self) -> None:
        self._backend.disconnect()


def _known_columns(target: _Target, schema: str | None, table: str) -> dict[str, str]:
    place = "current_schema()" if schema is None else _text(schema)
    query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = {} AND table_name = {}"
    return dict(target.execute(query.format(place, _text(table))))


def _kind(arrow: pa.DataType, text: str) -> str:
    if pa.types.is_boolean(arrow):
        return "boolean"
    if pa.types.is_integer(arrow):
        return "bigint"
    if pa.types.is_floating(arrow) or pa.types.is_decimal(arrow):
        return "double precision"
    if pa.types.is_date(arrow):
        return "date"
    return "timestamp" if pa.types.is_timestamp(arrow) else text


def _connected(to: WriteBack, file: str) -> _Target:
    backend = connect(to.connection, file, "write_back.connection")
    kinds: dict[str, Any] = {"postgres": _Postgres, "duckdb": _DuckDB}
    if backend.name not in kinds:
        backend.disconnect()
        expected = f"a database of {' or '.join(kinds)}, the ones that are written in one transaction"
        raise InputError([Problem(file, expected, column="write_back.connection", value=shown(backend.name))])
    target: _Target = kinds[backend.name](backend)
    return target


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _reason(error: Exception) -> str:
    """The first line of what the database said; connections (and so passwords) are no part of it."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = (primary or str(error)).strip().splitlines() or [type(error).__name__]
    return shown(lines[0], 200)
