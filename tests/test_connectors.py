"""Where a company's data may be: PostgreSQL, object storage, Excel; and the plan written back to its database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ibis
import pandas as pd
import pytest
from postgres_server import PostgresServer
from test_engine import Log, assert_same, both_stages, compare_stages, edit, every_summary, on_duckdb, write_company

from micromarket.cli import main
from micromarket.config import EngineSettings, read_settings
from micromarket.engines import DatabaseEngine
from micromarket.errors import InputError
from micromarket.load import open_dataset
from micromarket.sources import Engine
from micromarket.summarise import summarise

# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a scratch database: ``MICROMARKET_TEST_POSTGRES``, else of a server of our own."""
    given = os.environ.get("MICROMARKET_TEST_POSTGRES")
    if given is not None:
        pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
        yield given
        return
    with PostgresServer() as server:
        yield server.url


def into_postgres(url: str, schema: str, **frames: pd.DataFrame) -> None:
    """Each frame as a table of a new schema; texts, days and numbers as they are."""
    import psycopg
    from psycopg import sql

    kinds = {"date": "date", "float64": "double precision", "int64": "bigint", "string": "text"}
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
        for name, frame in frames.items():
            types = {c: kinds[str(t).lstrip("!")] for c, t in ibis.memtable(frame).schema().items()}
            columns = [sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(t)) for c, t in types.items()]
            place = sql.Identifier(schema, name)
            connection.execute(sql.SQL("create table {} ({})").format(place, sql.SQL(", ").join(columns)))
            with connection.cursor().copy(sql.SQL("copy {} from stdin").format(place)) as copy:
                for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False):
                    copy.write_row(tuple(row))


def test_postgres_and_duckdb_give_identical_counts(postgres: str) -> None:
    with Engine() as local:
        here, database = on_duckdb(local), DatabaseEngine(EngineSettings("database", connection=postgres))
        there = Log({name: database.take(name, table) for name, table in here.tables.items()})
        mine, other = every_summary(here), every_summary(there)
        for name in mine:
            assert_same(mine[name](), other[name](), name)
        database.close()


#: Names that would break out of quotes, or be taken for something else.
SCHEMA, TABLE = 'crm "2026"', "sales'); drop table x; --"


def hostile_company(folder: Path, url: str) -> Path:
    """The company of the engine's tests; its purchases and spend live in PostgreSQL under hostile names."""
    plan = write_company(folder, "non-contractual")
    log = pd.read_parquet(folder / "transactions.parquet")
    spend = pd.read_csv(folder / "spend.csv", dtype={"market_id": str})
    into_postgres(url, SCHEMA, **{TABLE: log, "select": spend})
    edit(plan, "company:", "engine: {connection: '${WAREHOUSE}'}\ncompany:")
    quoted = f"{SCHEMA}.{TABLE}".replace("'", "''")
    edit(plan, "transactions: transactions.parquet", f"transactions: {{table: '{quoted}'}}")
    edit(plan, "spend: spend.csv", f"spend: {{table: '{SCHEMA}.select'}}")
    return plan


def test_a_company_in_postgres_under_hostile_names(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE", postgres)
    here = write_company(tmp_path / "files", "non-contractual")
    plan = hostile_company(tmp_path, postgres)
    compare_stages(*both_stages(here), *both_stages(plan))
    assert main(["check", str(plan)]) == 0
    said = capfd.readouterr()
    assert "transactions" in said.out
    assert "s3cret" not in said.out + said.err
    import psycopg

    with psycopg.connect(postgres) as connection:
        found = connection.execute("select count(*) from pg_tables where schemaname like 'pg_temp%'").fetchone()
    assert found == (0,)  # nothing is left behind


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("postgres://planner:s3cret@localhost:1/shop", "a database that answers"),
        ("postgres://planner:s3cret@no-such-host.invalid/shop", "a database that answers"),
        ("${NOT_SET}", "the environment variable NOT_SET to be set"),
    ],
)
def test_a_database_that_can_not_be_reached_is_named(tmp_path: Path, engine: str, said: str) -> None:
    plan = edit(write_company(tmp_path, "contractual"), "company:", f"engine: {{connection: '{engine}'}}\ncompany:")
    with pytest.raises(InputError, match=said) as raised:
        open_dataset(read_settings(plan))
    assert "s3cret" not in str(raised.value)


def test_what_is_not_in_the_database_is_named(tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", postgres)
    plan = hostile_company(tmp_path, postgres)
    edit(plan, "select'}", "selcet'}")
    edit(plan, "customers: customers.parquet", "customers: {sql: select nothing from nowhere}")
    with pytest.raises(InputError) as raised:
        open_dataset(read_settings(plan))
    assert {p.file for p in raised.value.problems} == {"spend (database)", "customers (database)"}


def test_a_server_that_goes_away_ends_the_command_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if "MICROMARKET_TEST_POSTGRES" in os.environ:
        pytest.skip("the server of MICROMARKET_TEST_POSTGRES is not ours to stop")
    with PostgresServer() as server:
        monkeypatch.setenv("WAREHOUSE", server.url)
        plan = hostile_company(tmp_path, server.url)
        with open_dataset(read_settings(plan)) as dataset:
            server.kill()
            with pytest.raises(Exception, match="connection") as raised:
                summarise(dataset)
        assert "s3cret" not in str(raised.value)
        assert main(["check", str(plan)]) == 2
        said = capfd.readouterr().err
        assert "a database that answers" in said
        assert "s3cret" not in said
        server.start()
        assert main(["check", str(plan)]) == 0
