"""What users feed the planner: sound input arrives typed and aggregated, broken input is named place by place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from tiny import markets, write_tiny

from micromarket import tables
from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.load import check, open_dataset
from micromarket.summarise import summarise


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def edit(plan: Path, file: str, old: str, new: str) -> None:
    path = plan.parent / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def problems(plan: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        check(read_settings(plan))
    assert caught.value.exit_status == 2
    return [str(p) for p in caught.value.problems]


def test_sound_input_is_typed_and_aggregated(plan: Path) -> None:
    with open_dataset(read_settings(plan)) as dataset:
        data = summarise(dataset)
    assert data.features == ("median_income",)
    assert data.markets["market_id"].tolist() == ["01", "02", "03", "04"], "ids keep their zeros"
    assert data.markets["customers"].tolist() == [1, 1, 1, 1], "the ended contract of 007 is off the books"
    # June: 30 + 100 + 10 in full, 50.5 for 21 of 30 days
    june = data.history[data.history["month"] == "2026-06-01"]
    assert june["revenue"].sum() == pytest.approx(140 + 50.5 * 21 / 30)
    assert june["new_customers"].sum() == 1
    assert data.frequency == "week"
    assert data.panel is not None
    assert data.panel["period"].nunique() == 3, "from the first week of spend to the last whole week"
    assert data.current is not None
    # three weeks of spend, the last from 15 to 21 June: 14 days known, scaled to the 365 days of the plan
    assert data.current["current"].sum() == pytest.approx(62.5 * 365 / 14, abs=0.02)
    assert data.neighbours is not None
    assert len(data.neighbours) == 12, "four squares around one corner all touch"


BROKEN = {
    "missing column": ("subscriptions.csv", "monthly_value", "monthly_valu", "subscriptions.csv, column monthly_value"),
    "wrong type": ("spend.csv", "12.5", "12;5", r"spend.csv, column amount, row 2: found '12;5'; expected a number"),
    "unknown market": ("customers.csv", "008,01", "008,99", r"customers.csv, column market_id, row 2: found '99'"),
    "duplicate id": ("customers.csv", "008,", "007,", "customers.csv, column customer_id, row 2: found '007'"),
    "negative population": ("markets.geojson", "1000,", "-1000,", "column addressable_customers, row 1: found -1000"),
    "date after as_of": (
        "subscriptions.csv",
        "2026-06-10",
        "2026-07-01",
        "column started_on, row 4.*on or before as_of",
    ),
    "impossible date": ("customers.csv", "2024-03-01", "2024-02-30", "column acquired_on, row 3: found '2024-02-30'"),
    "end before start": ("subscriptions.csv", "2026-03-31", "2024-03-31", "column ended_on, row 1.*after started_on"),
    "unknown key": ("plan.yml", "as_of:", "as_off:", r"did you mean as_of\?"),
    "unknown table": ("plan.yml", "  spend:", "  spent:", r"did you mean spend\?"),
    "no such file": ("plan.yml", "spend.csv", "spnd.csv", "spnd.csv: found nothing there; expected an existing file"),
    "unknown customer": ("subscriptions.csv", "\n011,", "\n111,", "column customer_id, row 5: found '111'"),
    "unknown feature": ("plan.yml", "data:", "features: [median_incom]\ndata:", r"did you mean median_income\?"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_input_names_its_place(plan: Path, kind: str) -> None:
    file, old, new, expected = BROKEN[kind]
    edit(plan, file, old, new)
    assert any(re.search(expected, p) for p in problems(plan)), problems(plan)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file; expected at least one row"),
        (b"market_id,period,channel,amount\n", "expected at least one row"),
        (b"PAR1\x00\x01garbage", "expected"),
    ],
)
def test_empty_and_unreadable_files(plan: Path, content: bytes, expected: str) -> None:
    name = "spend.parquet" if content.startswith(b"PAR1") else "spend.csv"
    (plan.parent / name).write_bytes(content)
    edit(plan, "plan.yml", "spend.csv", name)
    found = problems(plan)
    assert any(name in p and expected in p for p in found), found


def test_geometry_needs_a_coordinate_system_that_fits(plan: Path) -> None:
    frame = gpd.GeoDataFrame.from_features(markets()["features"])
    frame.set_crs(None).to_parquet(plan.parent / "markets.parquet")
    edit(plan, "plan.yml", "markets.geojson", "markets.parquet")
    assert any("coordinate reference system" in p for p in problems(plan))
    collection = markets()
    collection["features"][0]["geometry"]["coordinates"][0][1] = [500_000, 4_000_000]
    (plan.parent / "m.geojson").write_text(json.dumps(collection))
    edit(plan, "plan.yml", "markets.parquet", "m.geojson")
    assert any("m.geojson, column geometry, row 1" in p and "degrees" in p for p in problems(plan))


def test_all_problems_come_at_once(plan: Path) -> None:
    edit(plan, "spend.csv", "12.5", "-1")
    edit(plan, "customers.csv", "010,03", "010,77")
    edit(plan, "subscriptions.csv", "100", "abc")
    found = " ".join(problems(plan))
    assert all(place in found for place in ("spend.csv", "customers.csv", "subscriptions.csv"))


@pytest.mark.parametrize("kind", ["parquet", "xlsx", "gpkg", "shp", "sql", "database"])
def test_every_format_gives_the_same_data(plan: Path, kind: str) -> None:
    with open_dataset(read_settings(plan)) as dataset:
        before = summarise(dataset)
    folder = plan.parent
    spend = pd.read_csv(folder / "spend.csv", dtype={"market_id": str})
    if kind == "parquet":
        spend.assign(period=pd.to_datetime(spend["period"])).to_parquet(folder / "spend.parquet")
        edit(plan, "plan.yml", "spend.csv", "spend.parquet")
    elif kind == "xlsx":
        spend.assign(period=pd.to_datetime(spend["period"])).to_excel(folder / "spend.xlsx", index=False)
        edit(plan, "plan.yml", "spend.csv", "spend.xlsx")
    elif kind in {"gpkg", "shp"}:
        frame = gpd.read_file(folder / "markets.geojson").to_crs(32647)
        if kind == "shp":  # names are cut at ten characters there, so SQL gives them back
            renamed = "addressabl as addressable_customers, median_inc as median_income"
            sql = f"select market_id, name, region, {renamed}, geometry"
            edit(plan, "plan.yml", "markets.geojson", f"{{path: markets.shp, sql: '{sql} from input'}}")
        else:
            edit(plan, "plan.yml", "markets.geojson", "markets.gpkg")
        frame.to_file(folder / f"markets.{kind}")
    elif kind == "sql":
        spend.rename(columns={"amount": "cost"}).to_csv(folder / "raw.csv", index=False)
        (folder / "spend.sql").write_text("select * exclude (cost), cast(cost as double) as amount from input;")
        edit(plan, "plan.yml", "spend.csv", "{path: raw.csv, sql: spend.sql}")
    else:
        import sqlite3

        with sqlite3.connect(folder / "company.db") as db:
            spend.to_sql("marketing", db, index=False)
        url = f"sqlite:///{folder / 'company.db'}"
        edit(plan, "plan.yml", "spend.csv", f"{{connection: '{url}', sql: 'select * from marketing'}}")
    with open_dataset(read_settings(plan)) as dataset:
        after = summarise(dataset)
    pd.testing.assert_frame_equal(before.current, after.current)
    pd.testing.assert_frame_equal(before.history, after.history)
    assert before.features == after.features
    assert after.markets["area_km2"].to_numpy() == pytest.approx(before.markets["area_km2"].to_numpy(), rel=0.01)


def test_customers_given_as_points_find_their_market(plan: Path) -> None:
    places = {"01": (100.5, 10.5), "02": (101.5, 10.5), "03": (100.5, 11.5), "04": (101.5, 11.5)}
    customers = pd.read_csv(plan.parent / "customers.csv", dtype=str)
    points = customers["market_id"].map(places)
    customers["longitude"], customers["latitude"] = points.str[0], points.str[1]
    customers.drop(columns="market_id").to_csv(plan.parent / "customers.csv", index=False)
    with open_dataset(read_settings(plan)) as dataset:
        assert summarise(dataset).markets["customers"].tolist() == [1, 1, 1, 1]


def test_records_that_begin_late_are_not_read_as_growth(tmp_path: Path) -> None:
    """A file of this quarter's customers holds no one who left before: months before it must not count."""
    plan = write_tiny(tmp_path)
    n = 400
    ids = [f"c{i}" for i in range(n)]
    pd.DataFrame({"customer_id": ids, "market_id": ["01", "02", "03", "04"] * (n // 4)}).to_csv(
        tmp_path / "customers.csv", index=False
    )
    started = pd.Timestamp("2026-06-30") - pd.to_timedelta([30 * (1 + i % 40) for i in range(n)], unit="D")
    ended = ["2026-05-20" if i % 10 == 0 and s < pd.Timestamp("2026-05-01") else "" for i, s in enumerate(started)]
    contracts = pd.DataFrame({"customer_id": ids, "started_on": started.date, "ended_on": ended, "monthly_value": 10})
    contracts.to_csv(tmp_path / "subscriptions.csv", index=False)
    with open_dataset(read_settings(plan)) as dataset:
        data = summarise(dataset)
    assert data.facts["records_begin"] is not None
    assert data.history["month"].nunique() == 2
    assert any("left earlier" in w for w in data.notes.warnings)


def test_the_declarations_are_pandera_schemas(plan: Path) -> None:
    frame = pd.read_csv(plan.parent / "spend.csv", dtype={"market_id": str})
    tables.TABLE_SCHEMAS["spend"].validate(frame)
    with pytest.raises(Exception, match="amount"):
        tables.TABLE_SCHEMAS["spend"].validate(frame.assign(amount=-1.0))


def test_the_documentation_of_the_tables_is_what_the_code_declares(repo: Path) -> None:
    assert (repo / "docs" / "tables.md").read_text(encoding="utf-8") == tables.documentation()


def test_a_password_never_shows(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", "postgres://someone:s3cret@localhost:1/none")
    edit(plan, "plan.yml", "spend.csv", "{connection: '${DB_URL}', sql: 'select 1'}")
    assert not any("s3cret" in p for p in problems(plan))


def test_months_of_contracts_are_billed_by_the_day_and_customers_counted_once(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    edit(
        plan,
        "subscriptions.csv",
        "011,2025-11-30,,10\n",
        # two overlapping contracts, then one that touches; a contract of five days inside one month
        "011,2025-11-30,2026-04-15,10\n011,2026-03-01,2026-05-31,10\n011,2026-06-01,,10\n007,2026-04-11,2026-04-15,30\n",
    )
    with open_dataset(read_settings(plan)) as dataset:
        history = summarise(dataset).history
    town4 = history[history["market_id"] == "04"].set_index("month")
    assert town4.loc["2026-02-01":"2026-06-01", "active_customers"].tolist() == [1, 1, 1, 1, 1]
    assert town4.loc["2026-02-01":"2026-05-01", "revenue"].tolist() == pytest.approx([10, 20, 15, 10])
    town1 = history[(history["market_id"] == "01") & (history["segment"] == "Home")].set_index("month")
    assert town1.loc["2026-04-01", "revenue"] == pytest.approx(30 * 5 / 30)
    assert town1.loc["2026-04-01", "active_customers"] == 0
