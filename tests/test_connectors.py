"""Where a company's data may be: PostgreSQL, object storage, Excel; and the plan written back to its database."""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Iterator
from pathlib import Path

import ibis
import openpyxl
import pandas as pd
import pytest
from object_store import KEY, SECRET, ObjectStore
from postgres_server import PostgresServer
from test_engine import Log, assert_same, both_stages, compare_stages, edit, every_summary, on_duckdb, write_company
from tiny import write_tiny

from micromarket.cli import main
from micromarket.config import EngineSettings, WriteBack, read_settings
from micromarket.engines import DatabaseEngine
from micromarket.errors import InputError, StageError
from micromarket.load import open_dataset
from micromarket.remote import RemoteError, find, remote_path
from micromarket.runner.inputs import fingerprints, refuse_changed
from micromarket.sources import Engine
from micromarket.summarise import summarise
from micromarket.workspace import write_json
from micromarket.write_back import after_publishing, write_back

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
        with monkeypatch.context() as patch:
            patch.setattr("micromarket.load.check_table", lambda *_: server.kill() or [])
            assert main(["check", str(plan)]) == 1
        said = capfd.readouterr().err
        assert said.startswith("the database stopped answering")
        assert "s3cret" not in said
        assert main(["check", str(plan)]) == 2
        said = capfd.readouterr().err
        assert "a database that answers" in said
        assert "s3cret" not in said
        server.start()
        assert main(["check", str(plan)]) == 0


# --- object storage and the web --------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 that our environment's credentials open."""
    pytest.importorskip("obstore", reason="obstore is not installed (extra cloud)")
    with ObjectStore() as store:
        for name, value in (("ACCESS_KEY_ID", KEY), ("SECRET_ACCESS_KEY", SECRET), ("ENDPOINT_URL", store.url)):
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield store


def as_parquet(frame: pd.DataFrame) -> bytes:
    frame.to_parquet(buffer := io.BytesIO(), row_group_size=5000)
    return buffer.getvalue()


def company_in_the_cloud(folder: Path, store: ObjectStore) -> tuple[Path, Path]:
    """The same company on files and in object storage: a partitioned folder, CSV by a wildcard, GeoJSON, Parquet."""
    here = write_company(folder / "here", "non-contractual")
    plan = write_company(folder / "there", "non-contractual")
    log = pd.read_parquet(folder / "here" / "transactions.parquet")
    years = pd.to_datetime(log["date"]).dt.year
    for year in sorted(years.unique()):
        store.objects[f"shop/sales/year={year}/part 1.parquet"] = as_parquet(log[years == year])
    store.objects["shop/sales/_SUCCESS"] = b""
    store.objects["shop/customers.parquet"] = as_parquet(pd.read_parquet(folder / "here" / "customers.parquet"))
    header, *rows = (folder / "here" / "spend.csv").read_bytes().splitlines(keepends=True)
    store.objects |= {f"shop/spend/{i}.csv": header + row for i, row in enumerate(rows)}
    store.objects["shop/markets.geojson"] = (folder / "here" / "markets.geojson").read_bytes()
    for old, new in (
        ("transactions.parquet", "s3://shop/sales/"), ("customers.parquet", "s3://${BUCKET}/customers.parquet"),
        ("spend.csv", "s3://shop/spend/*.csv"), ("markets.geojson", "s3://shop/markets.geojson"),
    ):  # fmt: skip
        edit(plan, f": {old}", f": {new}")
        (folder / "there" / old).unlink()
    return here, plan


def test_a_company_in_object_storage(tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "shop")
    here, plan = company_in_the_cloud(tmp_path, store)
    with open_dataset(read_settings(here)) as mine, open_dataset(read_settings(plan)) as other:
        assert mine.rows == other.rows
        data, there = summarise(mine), summarise(other)
    for table in ("cells", "history", "panel", "spend", "current"):
        pd.testing.assert_frame_equal(getattr(data, table), getattr(there, table), rtol=1e-10, obj=table)
    settings = read_settings(plan)
    before = fingerprints(settings)
    assert fingerprints(settings) == before
    assert before["transactions"].shown["sha256"] is None
    assert before["transactions"].shown["bytes"] == sum(
        len(content) for name, content in store.objects.items() if name.startswith("shop/sales/year")
    )
    refuse_changed(settings, before)
    store.objects["shop/sales/year=2025/part 1.parquet"] += b" "
    with pytest.raises(StageError, match="s3://shop/sales/"):
        refuse_changed(settings, before)
    assert {t for t, item in fingerprints(settings).items() if item.key != before[t].key} == {"transactions"}
    assert SECRET not in repr((settings, before))


def test_only_the_columns_that_count_leave_the_storage(tmp_path: Path, store: ObjectStore) -> None:
    plan = write_company(tmp_path, "non-contractual")
    log = pd.read_parquet(tmp_path / "transactions.parquet")
    log = pd.concat([log] * 40, ignore_index=True)
    bulky = log.assign(receipt=[os.urandom(200).hex() for _ in range(len(log))])
    store.objects["shop/sales.parquet"] = as_parquet(bulky)
    edit(plan, "transactions: transactions.parquet", "transactions: s3://shop/sales.parquet")
    with open_dataset(read_settings(plan)) as dataset:
        table = dataset.local.ibis.table("file_transactions")
        assert table.amount.sum().execute() == pytest.approx(log["amount"].sum())
    ranges = [r.removeprefix("bytes=").split("-") for _, _, r in store.requests if r]
    assert 0 < sum(int(b) - int(a) for a, b in ranges) < len(store.objects["shop/sales.parquet"]) / 1.5


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://shop/nothing.parquet", "nothing there"),
        ("s3://shop/nothing/*.csv", "nothing there"),
        ("s3://shop/text.parquet", "expected a readable file"),
        ("s3://shop/text.csv", "column customer_id"),
        ("http://127.0.0.1:9/x.csv", "no answer"),
    ],
)
def test_what_is_wrong_there_is_named(tmp_path: Path, store: ObjectStore, place: str, said: str) -> None:
    store.objects |= {"shop/text.parquet": b"no parquet", "shop/text.csv": b"a,b\n1,2\n"}
    plan = edit(write_company(tmp_path, "contractual"), "customers: customers.parquet", f"customers: {place}")
    with pytest.raises(InputError, match=said) as raised:
        open_dataset(read_settings(plan))
    assert raised.value.problems[0].file == place


def test_credentials_come_from_the_environment(
    tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.objects["shop/a.csv"] = b"a\n1\n"
    path = remote_path("s3://shop/a.csv", "s3://shop/a.csv")
    assert path is not None
    assert [f.size for f in find(path)] == [4]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(RemoteError, match="no right"):
        find(path)
    plan = write_tiny(tmp_path)
    edit(plan, "spend: spend.csv", "spend: https://me:s3cret@host.example/spend.csv")
    with pytest.raises(InputError, match="secrets from the environment"):
        read_settings(plan)
    edit(plan, "https://me:s3cret@host.example/", "ftp://host.example/")
    with pytest.raises(InputError, match="one of s3, gs, az, https"):
        read_settings(plan)


def test_a_file_on_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched as a whole, with a signed query or a password from the environment; known by its tag."""
    with ObjectStore(signed=False) as web:
        plan = write_tiny(tmp_path)
        web.objects["open/spend.csv"] = (tmp_path / "spend.csv").read_bytes()
        monkeypatch.setenv("SIGNED", web.url.replace("//", "//me:s3cret@") + "/open/spend.csv?signature=s3cret")
        edit(plan, "spend: spend.csv", "spend: '${SIGNED}'")
        settings = read_settings(plan)
        with open_dataset(settings) as dataset:
            assert dataset.rows["spend"] == 3
        found = fingerprints(settings)["spend"]
        web.objects["open/spend.csv"] += b"02,2026-06-15,Radio,1\n"
        assert fingerprints(settings)["spend"].key != found.key
        assert "s3cret" not in repr((settings, found))


# --- wildcards and Excel ---------------------------------------------------------------------------------------------


def test_several_files_by_a_wildcard(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    header, *rows = (tmp_path / "spend.csv").read_text().splitlines()
    (tmp_path / "spend.csv").unlink()
    for i, row in enumerate(rows):
        (tmp_path / f"spend-{i}.csv").write_text(f"{header}\n{row}\n")
    settings = read_settings(edit(plan, "spend: spend.csv", "spend: spend-*.csv"))
    with open_dataset(settings) as dataset:
        assert dataset.table("spend").amount.sum().execute() == 62.5
    assert len(fingerprints(settings)["spend"].files) == 3
    (tmp_path / "spend-2.csv").write_text("market_id,period,kanal,amount\n02,2026-06-15,Radio,1\n")
    with pytest.raises(InputError, match=r"spend-2.csv.*difference in 'channel', 'kanal'.*spend-0.csv"):
        open_dataset(settings)


def write_book(path: Path) -> openpyxl.Workbook:
    """Notes first, then customers: ids with zeros by format, days as days and as text, an empty row."""
    book = openpyxl.Workbook()
    book.active.append(["for your information"])
    sheet = book.create_sheet("Customers")
    sheet.append(["customer_id", "market_id", "segment", "acquired_on"])
    sheet.append([7, 1, "Home", dt.datetime(2025, 1, 15)])
    sheet.append([])
    sheet.append([8, 1, "Home", "2026-05-02"])
    sheet.append([9, 2, "Firm", dt.date(2024, 3, 1)])
    sheet.append([10, 3, "Firm", dt.date(2026, 6, 10)])
    sheet.append([11, 4, "Home", dt.date(2025, 11, 30)])
    for row in sheet.iter_rows(min_row=2):
        row[0].number_format, row[1].number_format = "000", "00"
    book.save(path)
    return book


def test_a_sheet_of_a_workbook(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    with open_dataset(read_settings(plan)) as dataset:
        expected = dataset.table("customers").to_pandas().sort_values("customer_id")
    book = write_book(tmp_path / "book.xlsx")
    settings = read_settings(edit(plan, "customers: customers.csv", "customers: {path: book.xlsx, sheet: Customers}"))
    with open_dataset(settings) as dataset:
        pd.testing.assert_frame_equal(dataset.table("customers").to_pandas().sort_values("customer_id"), expected)
    sheet = book["Customers"]
    sheet["D4"].value = "soon"
    sheet["C6"].value, sheet["C7"].value = "#N/A", "#REF!"
    for cell in (sheet["C6"], sheet["C7"]):
        cell.data_type = "e"
    sheet["B5"].value = "=B4+1"
    book.save(tmp_path / "book.xlsx")
    with pytest.raises(InputError) as raised:
        open_dataset(settings)
    errors, formula = raised.value.problems
    assert errors.file == formula.file == "book.xlsx, sheet Customers"
    assert (errors.column, errors.row, errors.value, errors.more) == ("segment", 4, "'#N/A'", 1)
    assert (formula.column, formula.row) == ("market_id", 3)
    sheet["B5"].value, sheet["C6"].value, sheet["C7"].value = 2, "Firm", "Home"
    book.save(tmp_path / "book.xlsx")
    with pytest.raises(InputError) as raised:
        open_dataset(settings)
    (problem,) = raised.value.problems
    assert (problem.file, problem.column, problem.row, problem.value) == (
        "book.xlsx, sheet Customers", "acquired_on", 2, "'soon'",
    )  # fmt: skip
    edit(plan, "sheet: Customers", "sheet: Custmers")
    with pytest.raises(InputError, match="did you mean Customers"):
        open_dataset(read_settings(plan))


# --- the plan back to the database -----------------------------------------------------------------------------------


def published_run(folder: Path, key: str = "1234567890abcdef00") -> Path:
    """A run folder with two published tables; one market is too small to be shown."""
    (folder / "tables").mkdir(parents=True)
    settings = {
        "as_of": "2026-06-30", "company": {"name": "Tiny", "currency": "USD"},
        "plan": {"start": "2026-07-01", "end": "2027-06-30"},
    }  # fmt: skip
    write_json(folder / "manifest.json", {"key": key, "settings": settings, "micromarket": "1"})
    write_json(folder / "plan.json", {})
    scores = pd.DataFrame({"market_id": ["01", "0'2"], "customers": [120.0, None], "play": ["Win back", None]})
    scores.to_parquet(folder / "tables" / "scores.parquet")
    days = pd.to_datetime(["2026-07-01", "2026-08-01"])
    targets = pd.DataFrame({"market_id": ["01", "01"], "period": days, "new_customers": [3, 4], "p%": [0.5, 0.25]})
    targets.to_parquet(folder / "tables" / "targets.parquet")
    (folder / "tables" / "mine.parquet").write_bytes(b"not an artefact")
    return folder


@pytest.fixture(params=["postgres", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("postgres") if request.param == "postgres" else f"duckdb://{tmp_path / 'b.db'}"


def rows_of(url: str, schema: str, table: str) -> pd.DataFrame:
    backend = ibis.connect(url)
    frame = backend.table(table, database=schema).to_pandas()
    backend.disconnect()
    return frame


def test_tables_are_written_back_once_and_whole(tmp_path: Path, database: str) -> None:
    schema = 'plans "x"; --' + tmp_path.name
    to = WriteBack(database, schema, "mm's_")
    first, second = published_run(tmp_path / "one"), published_run(tmp_path / "two", "fedcba")
    assert write_back(first, to) == {"mm's_runs": 1, "mm's_scores": 2, "mm's_targets": 2}
    write_back(second, to)
    scores = pd.read_parquet(first / "tables" / "scores.parquet")
    scores.assign(opportunity=[7.0, 8.0]).head(1).to_parquet(first / "tables" / "scores.parquet")
    (first / "tables" / "targets.parquet").unlink()
    write_back(first, to)  # again: replaced, with a new column, and without what it has no more
    found = rows_of(database, schema, "mm's_scores").sort_values(["run_id", "market_id"]).reset_index(drop=True)
    assert found["run_id"].tolist() == ["1234567890abcdef", "fedcba", "fedcba"]
    assert found["market_id"].tolist() == ["01", "0'2", "01"]
    assert found["opportunity"].fillna(0).tolist() == [7, 0, 0]
    assert found["customers"].isna().tolist() == [False, True, False]
    assert pd.to_datetime(found["as_of"]).dt.date.unique().tolist() == [dt.date(2026, 6, 30)]
    targets = rows_of(database, schema, "mm's_targets")
    assert targets["run_id"].tolist() == ["fedcba"] * 2
    assert sorted(pd.to_datetime(targets["period"]).dt.date) == [dt.date(2026, 7, 1), dt.date(2026, 8, 1)]
    assert sorted(rows_of(database, schema, "mm's_runs")["folder"]) == ["one", "two"]


def test_what_the_database_refuses_changes_nothing(tmp_path: Path, database: str) -> None:
    schema = "plans " + tmp_path.name
    to = WriteBack(database, schema)
    run = published_run(tmp_path / "one")
    write_back(run, to)
    before = rows_of(database, schema, "micromarket_scores")
    other = published_run(tmp_path / "two", "fedcba")
    targets = pd.read_parquet(other / "tables" / "targets.parquet")
    targets.assign(new_customers=["three", "four"]).to_parquet(other / "tables" / "targets.parquet")
    with pytest.raises(StageError, match="nothing in it was changed"):
        write_back(other, to)
    pd.testing.assert_frame_equal(rows_of(database, schema, "micromarket_scores"), before)
    assert len(rows_of(database, schema, "micromarket_runs")) == 1


def test_a_run_stays_published_where_the_database_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = write_tiny(tmp_path)
    plan.write_text(plan.read_text() + "write_back: {connection: '${PLANS}', schema: plans}\n")
    run = published_run(tmp_path / "one")
    with pytest.raises(InputError, match="PLANS to be set"):
        write_back(run, read_settings(plan).write_back or WriteBack(""))
    monkeypatch.setenv("PLANS", "postgres://planner:s3cret@localhost:1/none")
    assert main(["check", str(plan)]) == 2
    said = capfd.readouterr().err
    assert "write_back.connection" in said
    with pytest.raises(StageError, match=r"the run is published in .*one, but .*micromarket export tables") as raised:
        after_publishing(tmp_path / "one", read_settings(plan))
    assert "s3cret" not in said + str(raised.value)
    monkeypatch.setenv("PLANS", f"duckdb://{tmp_path / 'plans.db'}")
    assert main(["check", str(plan)]) == 0
    assert main(["export", "tables", str(tmp_path / "one"), "--plan", str(plan)]) == 0
    assert "micromarket_targets" in capfd.readouterr().out
    monkeypatch.setenv("PLANS", f"sqlite://{tmp_path / 'plans.sqlite'}")
    assert main(["export", "tables", str(tmp_path / "one"), "--to", "${PLANS}"]) == 2
    assert "postgres or duckdb" in capfd.readouterr().err
