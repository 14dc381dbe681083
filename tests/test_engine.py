"""One set of expressions, any engine: DuckDB, Spark and a database of the company's own give the same counts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import pytest
from tiny import write_tiny

from micromarket.config import EngineSettings, read_settings
from micromarket.engines import DatabaseEngine, SparkEngine
from micromarket.errors import InputError
from micromarket.load import open_dataset
from micromarket.sources import Engine
from micromarket.summarise import summarise
from micromarket.value import estimate_value
from micromarket.value import summaries as s
from micromarket.value.customer_values import write_customer_values
from micromarket.value.season import Clock

AS_OF, CUT = dt.date(2026, 6, 30), dt.date(2026, 1, 31)


def edit(plan: Path, old: str, new: str) -> Path:
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    return plan


# --- a nasty little log ----------------------------------------------------------------------------------------------


def nasty_tables() -> dict[str, pd.DataFrame]:
    """Refunds, sums that cancel to the last bit, several purchases a day, no margins, dates after ``AS_OF``, customers
    without a market, a segment or a purchase, purchases of nobody, contracts reopened, overlapping, ended together."""
    rng = np.random.default_rng(5)
    ids = [f"c{i}" for i in range(300)]
    customers = pd.DataFrame(
        {
            "customer_id": ids,
            "market_id": [None if i % 17 == 0 else f"m{i % 7}" for i in range(300)],
            "segment": [None if i % 5 == 0 else "AB"[i % 2] for i in range(300)],
            "acquired_on": [None if i % 3 else dt.date(2022, 1, 1) + dt.timedelta(i) for i in range(300)],
            "acquisition_cost": [None if i % 4 else float(i) for i in range(300)],
        }
    )
    n = 1500
    log = pd.DataFrame(
        {
            "customer_id": rng.choice([*ids[:240], "nobody"], n),
            "date": [dt.date(2023, 6, 1) + dt.timedelta(int(d)) for d in rng.integers(0, 1200, n)],
            "amount": np.round(rng.normal(30, 25, n), 2),
            "margin": [None if m < 2 else round(m, 2) for m in rng.normal(4, 3, n)],
        }
    )
    day = dt.date(2025, 3, 3)
    cancelling = [("c1", a) for a in (0.1, 0.2, -0.3)] + [("c2", a) for a in (10.1, 20.2, -30.3)] + [("c3", -50.0)]
    more = pd.DataFrame([{"customer_id": c, "date": day, "amount": a, "margin": a / 4} for c, a in cancelling])
    log = pd.concat([log, more, log.head(40)], ignore_index=True)
    start = [dt.date(2022, 1, 1) + dt.timedelta(int(d)) for d in rng.integers(0, 1700, 500)]
    length = rng.integers(0, 2500, 500)
    contracts = pd.DataFrame(
        {
            "customer_id": rng.choice(ids, 500),
            "started_on": start,
            "ended_on": [a + dt.timedelta(int(d)) if d < 1500 else None for a, d in zip(start, length, strict=True)],
            "monthly_value": np.round(rng.gamma(2, 10, 500), 2),
        }
    )
    together = contracts[contracts["ended_on"].notna()].head(30)  # ends on the same day as another one
    contracts = pd.concat([contracts, together.assign(monthly_value=1.5)], ignore_index=True)
    summary = pd.DataFrame(
        {
            "customer_id": ids,
            "orders": np.floor(rng.gamma(1, 3, 300)),
            "revenue": np.round(rng.normal(80, 90, 300), 2),
            "recency_days": [None if i % 6 == 0 else float(i) for i in range(300)],
            "age_days": [None if i % 11 == 0 else 5.0 + i / 2 for i in range(300)],
        }
    )
    return {"customers": customers, "transactions": log, "subscriptions": contracts, "customer_summary": summary}


@dataclasses.dataclass
class Log:
    tables: dict[str, ibis.Table]

    def has(self, table: str) -> bool:
        return table in self.tables

    def table(self, table: str) -> ibis.Table:
        return self.tables[table]


def on_duckdb(local: Engine) -> Log:
    """The tables as ``load`` leaves them: text, float64, date."""
    tables = {}
    for name, frame in nasty_tables().items():
        t = local.put(name, frame)
        kinds = {c: "date" if c.endswith("_on") or c == "date" else "string" for c in t.columns}
        kinds |= {c: "float64" for c in t.columns if pd.api.types.is_float_dtype(frame[c].infer_objects())}
        kinds |= {c: "float64" for c in ("margin", "recency_days", "age_days", "acquisition_cost") if c in t.columns}
        tables[name] = local.keep(f"typed_{name}", t.cast(kinds))
    return Log(tables)


def every_summary(log: Log) -> dict[str, Callable[[], Any]]:
    """A call of each public function of ``value/summaries.py`` that asks the engine (several where it branches)."""
    customers = s.customers_of(log)
    days, then = s.purchase_days(log, 0.3, AS_OF), s.purchase_days(log, None, CUT)
    buyers, known = s.purchase_customers(days, AS_OF), s.purchase_customers(then, CUT)
    contracts, before = s.contract_customers(log, AS_OF), s.contract_customers(log, CUT)
    seasonal = s.purchase_customers(days, AS_OF, Clock(1 + 0.4 * np.sin(np.arange(12))))
    by_age, later = s.summary_buyers(log, None), s.later_purchases(days, CUT, AS_OF)
    calls: dict[str, Callable[[], Any]] = {
        "customers_of": lambda: customers.to_pandas().sort_values("customer_id"),
        "purchase_days": lambda: days.to_pandas().sort_values(["customer_id", "date"]),
        "purchase_customers on a clock": lambda: seasonal.to_pandas().sort_values("customer_id"),
        "purchase_customers": lambda: buyers.to_pandas().sort_values("customer_id"),
        "contract_customers": lambda: contracts.to_pandas().sort_values("customer_id"),
        "summary_buyers": lambda: by_age.to_pandas().sort_values("customer_id"),
        "count_purchases": lambda: s.count_purchases(customers, buyers),
        "count_purchases of a summary": lambda: s.count_purchases(customers, by_age),
        "count_spend": lambda: s.count_spend(customers, buyers),
        "later_purchases": lambda: later.to_pandas().sort_values("customer_id"),
        "count_purchases with a hidden end": lambda: s.count_purchases(customers, known, later),
        "count_contracts": lambda: s.count_contracts(customers, contracts, AS_OF),
        "count_contracts since a day": lambda: s.count_contracts(customers, contracts, AS_OF, dt.date(2024, 1, 1)),
        "count_contracts with a hidden end": lambda: s.count_contracts(customers, before, CUT, None, contracts),
        "contract_bounds": lambda: s.contract_bounds(contracts),
        "log_value_moments": lambda: s.log_value_moments(customers, contracts),
        "observed_value": lambda: s.observed_value(log, customers),
    }
    return calls


def assert_same(mine: Any, other: Any, name: str) -> None:
    """Counts, days and texts identical, sums of money to the last bits; as bags of rows where nothing orders them."""
    if not isinstance(mine, pd.DataFrame):
        assert mine == other, name
        return
    assert list(mine.columns) == list(other.columns), name
    assert len(mine), name
    for column in mine.columns:
        a, b = mine[column].reset_index(drop=True), other[column].reset_index(drop=True)
        if pd.api.types.is_float_dtype(a) and not np.array_equal(a, b, equal_nan=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9, err_msg=f"{name}: {column}")
        else:
            assert a.astype(object).where(a.notna(), None).tolist() == b.astype(object).where(b.notna(), None).tolist()


def test_the_list_of_summaries_is_complete(local: Engine) -> None:
    public = {name for name, f in inspect.getmembers(s, inspect.isfunction) if f.__module__ == s.__name__}
    tested = {name.split()[0] for name in every_summary(on_duckdb(local))}
    assert {name for name in public if not name.startswith("_")} <= tested


@pytest.fixture
def local() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def test_what_cancels_is_no_purchase_on_duckdb(local: Engine) -> None:
    days = s.purchase_days(on_duckdb(local), 0.3, AS_OF).to_pandas()
    day = pd.to_datetime(days["date"]) == pd.Timestamp("2025-03-03")
    bought = days[day].set_index("customer_id")["bought"]
    assert bought[["c1", "c2", "c3"]].tolist() == [0, 0, 0]


# --- Spark -----------------------------------------------------------------------------------------------------------


def needs_spark() -> None:
    """Skips where a part of Spark is missing, saying which."""
    pytest.importorskip("pyspark", reason="pyspark is not installed (`make spark` installs and tests it)")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("Spark needs Java 17 or newer, and there is none on this machine")


#: For a thousand rows, planning and compiling is all that takes time.
QUICK = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
}
SPARK = EngineSettings("spark", master="local[2]", config=tuple(QUICK.items()))


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """One session for all tests, as on a cluster: engines use it and leave it running."""
    needs_spark()
    from micromarket.engines import _spark_session

    session, ours = _spark_session(SPARK)
    assert ours
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def spark(session: Any, local: Engine) -> Iterator[SparkEngine]:
    engine = SparkEngine(SPARK, local)
    yield engine
    engine.close()


@pytest.mark.spark
def test_spark_and_duckdb_give_identical_counts(local: Engine, spark: SparkEngine) -> None:
    here = on_duckdb(local)
    there = Log({name: spark.take(name, table) for name, table in here.tables.items()})
    mine, other = every_summary(here), every_summary(there)
    for name in mine:
        assert_same(mine[name](), other[name](), name)


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["contractual", "non-contractual"])
def test_the_stages_on_spark_are_the_stages_on_duckdb(tmp_path: Path, session: Any, kind: str) -> None:
    plan = write_company(tmp_path, kind)
    data, value = both_stages(plan)
    edit(plan, "company:", "engine: {spark: {master: 'local[2]', config: {spark.sql.shuffle.partitions: 2}}}\ncompany:")
    there, value_there = both_stages(plan)
    compare_stages(data, value, there, value_there)
    saved = pd.read_parquet(write_values(plan, data, value, tmp_path / "there"))
    edit(plan, "engine: {spark", "engine: {duckdb: {threads: 1}}\n# {spark")
    mine = pd.read_parquet(write_values(plan, data, value, tmp_path / "here.parquet"))
    mine, saved = (f.sort_values("customer_id").reset_index(drop=True) for f in (mine, saved))
    pd.testing.assert_frame_equal(mine, saved, rtol=1e-6)
    assert session.sql("select 1").collect()[0][0] == 1  # a session that ran before goes on
    assert not session.catalog.listTables()


@pytest.mark.spark
def test_tables_of_a_spark_catalog_are_read_and_checked_there(tmp_path: Path, session: Any) -> None:
    plan = write_company(tmp_path, "non-contractual")
    customers = pd.read_parquet(tmp_path / "customers.parquet").drop(columns="segment")  # so they are derived there
    customers.to_parquet(tmp_path / "customers.parquet")
    data, value = both_stages(plan)
    frame = session.read.parquet(str(tmp_path / "transactions.parquet"))
    frame.createOrReplaceTempView("sales")
    edit(plan, "transactions: transactions.parquet", "transactions: {table: sales}")
    edit(plan, "company:", "engine: {spark: {config: {spark.sql.shuffle.partitions: 2}}}\ncompany:")
    there, value_there = both_stages(plan)
    compare_stages(data, value, there, value_there)
    frame.selectExpr("customer_id", "date", "'lots' as amount", "margin").createOrReplaceTempView("sales")
    with pytest.raises(InputError) as raised:
        open_dataset(read_settings(plan))
    (problem,) = raised.value.problems
    assert (problem.column, problem.value) == ("amount", "'lots'")
    session.catalog.dropTempView("sales")


# --- a company on files, for end-to-end comparisons ------------------------------------------------------------------


def write_company(folder: Path, kind: str) -> Path:
    """The nasty tables as a sound company's files: known customers, dates up to ``AS_OF``, ends after starts."""
    plan = write_tiny(folder)
    tables = nasty_tables()
    customers = tables["customers"].assign(market_id=[f"0{1 + i % 4}" for i in range(300)])
    customers.to_parquet(folder / "customers.parquet")
    log = tables["transactions"]
    log = log[(log["customer_id"] != "nobody") & (log["date"] <= AS_OF)]
    log.to_parquet(folder / "transactions.parquet")
    contracts = tables["subscriptions"]
    contracts = contracts[(contracts["started_on"] <= AS_OF)]
    contracts = contracts.assign(
        ended_on=[d if d is not None and pd.notna(d) and d <= AS_OF else None for d in contracts["ended_on"]]
    )
    contracts.to_parquet(folder / "subscriptions.parquet")
    edit(plan, "customers.csv", "customers.parquet")
    edit(plan, "subscriptions.csv", "subscriptions.parquet")
    if kind == "non-contractual":
        edit(plan, "relationship: contractual", "relationship: non-contractual")
        edit(plan, "  subscriptions: subscriptions.parquet", "  transactions: transactions.parquet")
    return plan


def both_stages(plan: Path) -> tuple[Any, Any]:
    settings = read_settings(plan)
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        return data, estimate_value(dataset, data, settings)


def write_values(plan: Path, data: Any, value: Any, path: Path) -> Path:
    settings = read_settings(plan)
    with open_dataset(settings) as dataset:
        write_customer_values(dataset, settings, path, data, value)
    return path


def assert_close(mine: Any, other: Any) -> None:
    """Alike but for the last digits of floats, at any depth."""
    if isinstance(mine, dict):
        assert mine.keys() == other.keys()
        for key in mine:
            assert_close(mine[key], other[key])
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            assert_close(a, b)
    else:
        assert mine == (pytest.approx(other, rel=1e-6, nan_ok=True) if isinstance(other, float) else other)


def compare_stages(data: Any, value: Any, there: Any, value_there: Any) -> None:
    for table in ("cells", "history", "panel", "spend", "current"):
        pd.testing.assert_frame_equal(getattr(data, table), getattr(there, table), rtol=1e-10, obj=table)
    # what is odd is said with the table's name, which is another in a database, and in part not looked for there
    assert {w for w in there.notes.warnings if "(database)" not in w} <= set(data.notes.warnings)
    assert_close(dict(data.facts), dict(there.facts))
    # fits stop when their gradient is nothing: sums that differ in the last bits may end digits later
    pd.testing.assert_frame_equal(value.cells, value_there.cells, rtol=1e-6)
    pd.testing.assert_frame_equal(value.markets, value_there.markets, rtol=1e-6)


# --- a database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["contractual", "non-contractual"])
def test_a_company_whose_tables_live_in_a_database(tmp_path: Path, kind: str) -> None:
    """Another DuckDB file stands for the warehouse; the customers stay a file and are brought there."""
    plan = write_company(tmp_path, kind)
    data, value = both_stages(plan)
    table = "transactions" if kind == "non-contractual" else "subscriptions"
    with duckdb.connect(str(tmp_path / "warehouse.db")) as db:
        db.execute(f"create schema crm; create table crm.facts as from '{tmp_path / table}.parquet'")
    edit(plan, f"{table}: {table}.parquet", f"{table}: {{table: crm.facts}}")
    edit(plan, "company:", f"engine: {{connection: 'duckdb://{tmp_path / 'warehouse.db'}'}}\ncompany:")
    with open_dataset(read_settings(plan)) as dataset:
        assert isinstance(dataset.engine, DatabaseEngine)
    there, value_there = both_stages(plan)
    compare_stages(data, value, there, value_there)
    with duckdb.connect(str(tmp_path / "warehouse.db")) as db:
        assert db.execute("select count(*) from duckdb_tables()").fetchone() == (1,)  # nothing is left behind


def test_a_database_that_can_not_do_it_is_named(tmp_path: Path) -> None:
    plan = write_company(tmp_path, "contractual")
    with sqlite3.connect(tmp_path / "shop.db") as db:
        pd.read_parquet(tmp_path / "subscriptions.parquet").to_sql("contracts", db, index=False)
    edit(plan, "subscriptions: subscriptions.parquet", "subscriptions: {table: contracts}")
    edit(plan, "company:", f"engine: {{connection: 'sqlite:///{tmp_path / 'shop.db'}'}}\ncompany:")
    with pytest.raises(InputError, match="an engine that knows days"):
        open_dataset(read_settings(plan))


def test_problems_in_a_database_are_named_without_row_numbers(tmp_path: Path) -> None:
    plan = write_company(tmp_path, "contractual")
    with duckdb.connect(str(tmp_path / "warehouse.db")) as db:
        db.execute(f"create table contracts as from '{tmp_path / 'subscriptions.parquet'}'")
        db.execute("update contracts set monthly_value = -1 where customer_id = 'c7'")
        db.execute("insert into contracts select * replace ('stranger' as customer_id) from contracts limit 3")
    edit(plan, "subscriptions: subscriptions.parquet", "subscriptions: {sql: select * from contracts}")
    edit(plan, "company:", f"engine: {{connection: 'duckdb://{tmp_path / 'warehouse.db'}'}}\ncompany:")
    with pytest.raises(InputError) as raised:
        open_dataset(read_settings(plan))
    (problem,) = raised.value.problems
    assert (problem.column, problem.row, problem.value) == ("monthly_value", None, "-1.0")
    with duckdb.connect(str(tmp_path / "warehouse.db")) as db:
        db.execute("update contracts set monthly_value = 1 where monthly_value < 0")
    with pytest.raises(InputError) as raised:
        open_dataset(read_settings(plan))
    (problem,) = raised.value.problems
    assert (problem.column, problem.value, problem.more) == ("customer_id", "'stranger'", 2)


# --- the key in plan.yml ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("sparc", "spark"),
        ("{duckdb: {memory: 8GB}}", "memory_limit"),
        ("{duckdb: {memory_limit: lots}}", "8GB"),
        ("{duckdb: {threads: 0}}", "at least 1"),
        ("{spark: {masters: yarn}}", "master"),
        ("{spark: {config: [1]}}", "mapping"),
        ("{spak: {}}", "spark"),
        ("{duckdb: {}, spark: {}}", "{connection: URL}"),
        ("{connection: 7}", "a text"),
        ("5", "{connection: URL}"),
    ],
)
def test_a_wrong_engine_is_named_with_a_hint(tmp_path: Path, engine: str, said: str) -> None:
    plan = edit(write_tiny(tmp_path), "company:", f"engine: {engine}\ncompany:")
    with pytest.raises(InputError) as raised:
        read_settings(plan)
    (problem,) = raised.value.problems
    assert problem.column == "engine"
    assert said in str(problem)


def test_options_of_the_engine(tmp_path: Path) -> None:
    plan = edit(write_tiny(tmp_path), "company:", "engine: {duckdb: {memory_limit: 300MB, threads: 1}}\ncompany:")
    with open_dataset(read_settings(plan)) as dataset:
        limit, threads = dataset.local.duck.execute(
            "select current_setting('memory_limit'), current_setting('threads')"
        ).fetchone()
    assert (limit, threads) == ("286.1 MiB", 1)
    plan = edit(plan, "{duckdb: {memory_limit: 300MB, threads: 1}}", "{spark: {config: {a.b: true}, staging: near}}")
    found = read_settings(plan).engine
    assert (found.config, found.staging) == ((("a.b", "true"),), tmp_path / "near")


@pytest.mark.parametrize(
    ("engine", "source", "said"),
    [
        ("duckdb", "{table: t}", "engine: spark"),
        ("spark", "{table: t, sql: select 1}", "either table"),
        ("{connection: 'duckdb://x.db'}", "{table: t, path: x.csv}", "table without path"),
    ],
)
def test_a_table_without_file_needs_an_engine_that_has_it(tmp_path: Path, engine: str, source: str, said: str) -> None:
    plan = edit(write_tiny(tmp_path), "company:", f"engine: {engine}\ncompany:")
    with pytest.raises(InputError, match=said):
        read_settings(edit(plan, "subscriptions: subscriptions.csv", f"subscriptions: {source}"))


def test_an_engine_that_is_not_there_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", "postgres://someone:s3cret@localhost:1/none")
    plan = edit(write_tiny(tmp_path), "company:", "engine: {connection: '${WAREHOUSE}'}\ncompany:")
    settings = read_settings(plan)
    assert "s3cret" not in repr(settings)
    with pytest.raises(InputError) as raised:
        open_dataset(settings)
    assert raised.value.problems[0].column == "engine.connection"
    assert "s3cret" not in str(raised.value)


def test_small_tables_of_the_engines_database_are_copied(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    with duckdb.connect(str(tmp_path / "warehouse.db")) as db:
        db.execute(f"create table marketing as from read_csv('{tmp_path / 'spend.csv'}', all_varchar = true)")
    edit(plan, "spend: spend.csv", "spend: {table: marketing}")
    edit(plan, "company:", f"engine: {{connection: 'duckdb://{tmp_path / 'warehouse.db'}'}}\ncompany:")
    with open_dataset(read_settings(plan)) as dataset:
        assert summarise(dataset).spend["amount"].sum() == pytest.approx(62.5)


def test_a_table_kept_in_parts_is_the_table(local: Engine) -> None:
    buyers = s.purchase_customers(s.purchase_days(on_duckdb(local), 0.3, AS_OF), AS_OF)
    whole, parts = local.keep("whole", buyers), local.keep("parts", buyers, ("customer_id", 5))
    frames = [t.to_pandas().sort_values("customer_id").reset_index(drop=True) for t in (whole, parts)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-12)
