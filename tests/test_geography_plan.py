"""``geography`` in ``plan.yml``, from the key to the tables: census, hexagons, merged markets, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.geometry import box
from tiny import write_tiny

from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.load import Dataset, open_dataset
from micromarket.market_data import MarketData
from micromarket.notebook import small_table
from micromarket.runner.inputs import fingerprints
from micromarket.runner.pipeline import PIPELINE, notebooks_folder, stage_key
from micromarket.summarise import summarise
from micromarket.workspace import Workspace


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def ask(plan: Path, text: str, **replace: str) -> Path:
    whole = plan.read_text()
    for old, new in replace.items():
        whole = whole.replace(f"  {old}: ", new)
    plan.write_text(whole + text)
    return plan


def summed(plan: Path, workspace: Workspace | None = None) -> MarketData:
    with open_dataset(read_settings(plan)) as dataset:
        data = summarise(dataset)
    if workspace is not None:
        data.write(workspace)
    return data


def opened(plan: Path) -> Dataset:
    """The data as read, closed again."""
    with open_dataset(read_settings(plan)) as dataset:
        return dataset


def problems(plan: Path) -> str:
    with pytest.raises(InputError) as caught, open_dataset(read_settings(plan)):
        pass
    return "\n".join(str(p) for p in caught.value.problems)


def census(folder: Path, **columns: list) -> None:
    """Two areas: the western towns 01 and 03, and the eastern 02 and 04 with as much land beyond them."""
    shapes = [box(100, 10, 101, 12), box(101, 10, 103, 12)]
    frame = gpd.GeoDataFrame(columns or {"people": [600, 800], "rent": [10.0, 30.0]}, geometry=shapes, crs="EPSG:4326")
    frame.to_crs("EPSG:3857").to_file(folder / "census.gpkg")


def test_census_figures_become_features_of_the_markets(plan: Path, tmp_path: Path) -> None:
    census(plan.parent)
    ask(plan, "geography:\n  census: {path: census.gpkg, extensive: [people], intensive: [rent]}\n")
    data = summed(plan, Workspace(tmp_path / "run"))
    assert data.features == ("median_income", "people", "rent")
    found = data.markets.set_index("market_id")
    assert found["people"].tolist() == pytest.approx([300, 200, 300, 200], rel=0.01)
    assert found["rent"].tolist() == pytest.approx([10, 30, 10, 30])
    told = data.notes.numbers["geography"]["census"][0]["totals"]["people"]
    assert told["placed"] + told["blanked"] + told["outside"] == pytest.approx(1400)
    assert any("'people': of the 1,400" in text and "29%" in text for text in data.notes.warnings)
    again = MarketData.read(Workspace(tmp_path / "run")).census_coverage
    assert again is not None
    assert again["coverage"].tolist() == pytest.approx([1, 1, 1, 1], abs=0.001)


def test_a_census_may_give_the_size_that_markets_lack_and_features_are_those_asked_for(plan: Path) -> None:
    census(plan.parent, people=[600, 800], rent=[10, 30])
    markets = json.loads((plan.parent / "markets.geojson").read_text())
    for feature in markets["features"]:
        del feature["properties"]["addressable_customers"]
    (plan.parent / "markets.geojson").write_text(json.dumps(markets))
    sql = '"select people as addressable_customers, rent, geometry from input"'
    ask(plan, "features: [rent]\ngeography:\n  census:\n    - {path: census.gpkg, extensive: [addressable_customers],"
        f" intensive: [rent], sql: {sql}}}\n")  # fmt: skip
    data = opened(plan)
    assert data.features == ("rent",)
    assert data.markets["addressable_customers"].tolist() == pytest.approx([300, 200, 300, 200], rel=0.01)


BROKEN = {
    "unknown key": ("  censuss: {}", "did you mean census"),
    "no variable": ("  census: {path: census.gpkg}", "extensive: [counts"),
    "both": ("  census: {path: census.gpkg, extensive: [people], intensive: [people]}", "either extensive or"),
    "no such column": ("  census: {path: census.gpkg, extensive: [peple]}", "did you mean people"),
    "no number": ("  census: {path: census.gpkg, extensive: [kind]}", "row 1: found 'x'; expected a number"),
    "taken": ("  census: {path: census.gpkg, intensive: [median_income]}", "a name that markets doesn't have"),
    "no file": ("  census: {path: gone.gpkg, extensive: [people]}", "an existing file"),
    "no areas": ("  census: {path: customers.csv, extensive: [customer_id]}", "a file with areas"),
    "both kinds of market": ("  hexagons: 7", "either data.markets or geography.hexagons"),
    "resolution": ("  hexagons: 14", "from 2 (country) to 9"),
    "within": ("  merge: {within: town}", "any of country, region, territory"),
    "minimum": ("  merge: {minimum_customers: few}", "a whole number of customers"),
    "sum": ("  merge: {minimum_customers: 2, sum: [shops]}", "expected one of"),
    "map": ("  merge: {map: customers.csv}", "original_id"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_the_section_is_named(plan: Path, name: str) -> None:
    text, expected = BROKEN[name]
    census(plan.parent, people=[1, 2], kind=["x", "y"], median_income=[1, 2])
    assert expected in problems(ask(plan, f"geography:\n{text}\n"))


MORE = """\
  sales_force: force.csv
  leads: leads.csv
  outcomes: outcomes.csv
  field_notes: notes.csv
  experiments: tests.csv
"""


def full(plan: Path) -> Path:
    folder = plan.parent
    (folder / "force.csv").write_text("market_id,territory,reps\n01,T1,1\n02,T1,2\n03,T2,4\n04,T2,8\n")
    (folder / "leads.csv").write_text("lead_id,market_id,created_on\n1,01,2026-05-01\n2,,2026-05-02\n3,04,2026-05-03\n")
    rows = [f"{m},2026-06-{d:02d},{n}" for m, n in (("01", 1), ("02", 2), ("03", 4), ("04", 8)) for d in (8, 15)]
    (folder / "outcomes.csv").write_text("market_id,period,new_customers\n" + "\n".join(rows) + "\n")
    (folder / "notes.csv").write_text(
        "market_id,author,date,kind,low,high,reason\n"
        "01,A,2026-06-01,potential,5,9,new estate\n02,B,2026-06-01,blocked,,,no permits\n"
    )
    (folder / "tests.csv").write_text(
        'channel,start,end,lift,lift_se,markets\nSearch,2026-01-05,2026-02-01,0.1,0.05,"01, 02"\n'
    )
    plan.write_text(plan.read_text() + MORE)
    return plan


def test_thin_markets_are_merged_in_every_table_and_totals_stay(plan: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    # 01 has one customer on the books, as the contract of 007 has ended; 02, 03, 04 one each
    after = summed(ask(full(plan), "geography:\n  merge: {minimum_customers: 2, within: region}\n"), workspace)
    assert after.markets["market_id"].tolist() == ["02+1", "04+1"], "named after the larger of each region"
    assert after.markets["name"].tolist() == ["Town 2 and Town 1", "Town 4 and Town 3"]
    assert after.markets["addressable_customers"].tolist() == [3000, 7000]
    assert after.markets["median_income"].iloc[0] == pytest.approx((1000 * 20000 + 2000 * 21000) / 3000)
    assert after.markets["reps"].tolist() == [3, 12]
    assert after.markets["territory"].tolist() == ["T1", "T2"]
    for table, column, total in (("cells", "customers", 4), ("panel", "new_customers", 30), ("spend", "amount", 62.5),
                                 ("leads", "leads", 3)):  # fmt: skip
        assert getattr(after, table)[column].sum() == pytest.approx(total), table
        assert set(getattr(after, table)["market_id"].dropna()) <= {"02+1", "04+1"}, table
    june = after.history[after.history["month"] == "2026-06-01"]
    assert june["revenue"].sum() == pytest.approx(140 + 50.5 * 21 / 30)
    assert after.panel is not None
    assert after.panel.groupby("market_id")["new_customers"].sum().tolist() == [6, 24]
    assert after.leads is not None
    assert after.leads["market_id"].isna().sum() == 1, "a lead without a market stays one"
    assert after.neighbours is not None
    assert len(after.neighbours) == 2
    found = workspace.read("market_map")
    assert found.set_index("original_id")["market_id"].to_dict() == {
        "01": "02+1",
        "02": "02+1",
        "03": "04+1",
        "04": "04+1",
    }
    settings = read_settings(plan)
    notes = small_table(settings, "field_notes", workspace)
    assert notes is not None
    assert notes[["market_id", "kind"]].to_numpy().tolist() == [["02+1", "blocked"]]
    tests = small_table(settings, "experiments")  # without the run's folder: joined anew
    assert tests is not None
    assert tests["markets"].tolist() == ["02+1"]
    assert any("4 of 4 markets were joined" in text for text in after.notes.warnings)
    assert any("1 field note" in text or "field notes speak" in text for text in after.notes.warnings)


def test_an_earlier_map_keeps_the_markets_what_they_were(plan: Path, tmp_path: Path) -> None:
    found = opened(ask(full(plan), "geography:\n  merge: {minimum_customers: 2}\n")).market_map
    assert found is not None
    found.to_parquet(tmp_path / "market_map.parquet")
    kept = plan.read_text().replace(
        "merge: {minimum_customers: 2}", f"merge: {{minimum_customers: 1, map: {tmp_path / 'market_map.parquet'}}}"
    )
    plan.write_text(kept)
    assert opened(plan).markets["market_id"].tolist() == ["02+1", "04+1"], "though none is thin now"


def test_a_thin_market_does_not_leave_its_territory(plan: Path) -> None:
    ask(full(plan), "geography:\n  merge: {minimum_customers: 2, within: [region, territory]}\n")
    force = plan.parent / "force.csv"
    force.write_text(force.read_text().replace("02,T1", "02,T3"))
    data = opened(plan)
    assert data.markets["market_id"].tolist() == ["01", "02", "04+1"]
    assert any("2 markets of 3 still have fewer than 2 customers" in text for text in data.warnings)


def test_levels_that_do_not_nest_are_warned_of(plan: Path) -> None:
    force = full(plan).parent / "force.csv"
    force.write_text(force.read_text().replace("03,T2", "03,T1"))
    assert any("A territory should lie in one region" in text for text in opened(plan).warnings)


def test_actuals_may_speak_of_the_companys_own_markets(tmp_path: Path) -> None:
    from micromarket.readout import readout

    run = tmp_path / "run"
    (run / "tables").mkdir(parents=True)
    period = {"plan": {"start": "2026-07-01", "end": "2026-07-31"}, "currency": "USD"}
    (run / "plan.json").write_text(json.dumps(period))
    (run / "manifest.json").write_text(json.dumps({"settings": {"targets": {"period": "month"}}}))
    pd.DataFrame({"market_id": ["a+1", "c"], "segment": "All", "period": pd.Timestamp("2026-07-01"),
                  "new_customers": [10.0, 5.0]}).to_parquet(run / "tables/targets.parquet")  # fmt: skip
    pd.DataFrame({"original_id": list("abc"), "market_id": ["a+1", "a+1", "c"]}).to_parquet(
        run / "tables/market_map.parquet"
    )
    actuals = tmp_path / "july.csv"
    actuals.write_text("market_id,period,new_customers\na,2026-07-01,6\nb,2026-07-01,3\nc,2026-07-01,5\n")
    found = readout(run, [actuals]).markets
    assert found["new_customers_actual"].to_dict() == {"a+1": 9, "c": 5}


def test_a_census_file_counts_for_the_stages_that_read_it(plan: Path) -> None:
    census(plan.parent)
    settings = read_settings(ask(plan, "geography:\n  census: {path: census.gpkg, extensive: [people]}\n"))

    def key(name: str) -> str:
        stage = next(s for s in PIPELINE if s.name == name)
        inputs = {table: item.key for table, item in fingerprints(settings).items()}
        upstream = {need: {} for need in stage.needs}
        return stage_key(stage, settings, inputs, upstream, notebooks_folder() / stage.notebook)

    before = key("data"), key("value"), key("funnel")
    census(plan.parent, people=[1, 2])
    after = key("data"), key("value"), key("funnel")
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def hexagon_company(plan: Path, keys: str) -> Path:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({
        "customer_id": [f"c{i}" for i in range(400)],
        "longitude": np.r_[rng.normal(100.5, 0.02, 398), 179.9999, -179.9999],
        "latitude": np.r_[rng.normal(13.75, 0.02, 398), 0.0, 0.0],
        "market_id": "elsewhere",
    })  # fmt: skip
    rows.to_csv(plan.parent / "customers.csv", index=False)
    contracts = rows[["customer_id"]].assign(started_on="2025-01-01", ended_on="", monthly_value=10)
    contracts.to_csv(plan.parent / "subscriptions.csv", index=False)
    text = plan.read_text().replace("  markets: markets.geojson\n", "").replace("  spend: spend.csv\n", "")
    plan.write_text(text + f"geography: {keys}\n")
    return plan


def test_without_h3_the_extra_is_named(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "h3", None)
    assert "micromarket[spatial]" in problems(hexagon_company(plan, "{hexagons: 7}"))


def test_hexagons_become_markets_where_there_are_none(plan: Path) -> None:
    h3 = pytest.importorskip("h3")
    data = summed(hexagon_company(plan, "{hexagons: 6}"))
    markets = data.markets
    assert data.markets["customers"].sum() == 400
    assert markets["name"].is_unique
    assert markets.loc[markets["customers"].idxmax(), "name"].startswith("13.7")
    assert markets["area_km2"].between(25, 50).all(), "36 km2 on average, the world over"
    assert (shapely.bounds(np.asarray(markets.geometry))[:, [0, 2]] <= 180).all()
    assert {h3.latlng_to_cell(0.0, 179.9999, 6), h3.latlng_to_cell(0.0, -179.9999, 6)} <= set(markets["market_id"])
    assert data.notes.numbers["geography"]["hexagons"]["with_customers"] == len(markets)


def test_a_boundary_is_filled_and_names_its_hexagons_and_thin_ones_merge(plan: Path) -> None:
    pytest.importorskip("h3")
    city = gpd.GeoDataFrame({"town": ["Bangkok"]}, geometry=[box(100.4, 13.6, 100.7, 13.9)], crs="EPSG:4326")
    city.to_file(plan.parent / "city.geojson")
    keys = "{hexagons: {resolution: 6, boundary: city.geojson, name: town}, merge: {minimum_customers: 20}}"
    data = opened(hexagon_company(plan, keys))
    numbers = data.shaped
    assert numbers["hexagons"]["markets"] > numbers["hexagons"]["with_customers"]
    inside = data.markets[data.markets["region"] == "Bangkok"]
    assert inside["name"].str.startswith("Bangkok 13.").all()
    assert inside["area_km2"].sum() == pytest.approx(33.2 * 32.4, rel=0.15), "all of the box, to a hexagon's breadth"
    far = data.markets[data.markets["region"] == "Elsewhere"]
    assert len(far) == 1, "the two across the date line are neighbours"
    assert numbers["merged"]["thin"] == 1
    assert any("2 customers of 400 live in hexagons whose centre lies outside" in t for t in data.warnings)


def test_hexagons_need_places(plan: Path) -> None:
    pytest.importorskip("h3")
    path = hexagon_company(plan, "{hexagons: 7}")
    table = pd.read_csv(plan.parent / "customers.csv")
    table.loc[:99, "latitude"] = np.nan
    table.to_csv(plan.parent / "customers.csv", index=False)
    assert "and 99 more" in problems(path)
    table.drop(columns=["longitude"]).to_csv(plan.parent / "customers.csv", index=False)
    assert "as geography.hexagons makes markets of where customers live" in problems(path)
