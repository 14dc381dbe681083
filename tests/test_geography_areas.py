"""Areas to areas: census figures conserved, thin markets merged, levels nested; on maps to be checked by hand."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box

from micromarket.geography import interpolate, merge_thin, neighbours, prepare_markets
from micromarket.geography.adjacency import border_lengths
from micromarket.geography.hierarchy import nesting_problems
from micromarket.geography.merged import (
    combine_markets,
    experiments_in_merged_markets,
    notes_in_merged_markets,
    sales_force_in_merged_markets,
)


def areas(*shapes: shapely.Geometry, crs: str = "EPSG:32633", **columns: list) -> gpd.GeoDataFrame:
    """Markets a, b, c, … of shapes in kilometres, put down in UTM zone 33."""
    moved = [shapely.transform(s, lambda xy: xy * 1e3 + [500_000, 5_000_000]) for s in shapes]
    frame = {"market_id": [chr(97 + i) for i in range(len(shapes))], **columns}
    return gpd.GeoDataFrame(frame, geometry=moved, crs="EPSG:32633").to_crs(crs)


def row_of(n: int) -> list[Polygon]:
    return [box(10 * i, 0, 10 * (i + 1), 10) for i in range(n)]


def test_counts_are_shared_out_by_area_and_rates_averaged():
    # one source over a and half of b, another over the other half and 5 km beyond: in a CRS of its own
    source = areas(box(0, 0, 15, 10), box(15, 0, 25, 10), people=[300.0, 100.0], income=[10.0, 40.0],
                   homes=[30, 90], crs="EPSG:3857").drop(columns="market_id")  # fmt: skip
    found = interpolate(source, areas(*row_of(2)), extensive=["people"], intensive=["income"])
    assert found.values["people"].tolist() == pytest.approx([200, 100 + 50], rel=1e-4)
    assert found.values["income"].tolist() == pytest.approx([10, (10 + 40) / 2], rel=1e-4)
    total = found.totals.loc["people"]
    assert total[["source", "placed", "outside", "cut_off"]].tolist() == pytest.approx([400, 350, 50, 50], rel=1e-4)
    by_homes = interpolate(source, areas(*row_of(2)), intensive=["income"], weight="homes").values["income"]
    assert by_homes["b"] == pytest.approx((10 * 10 + 45 * 40) / 55, rel=1e-4), "10 and 45 homes lie in b"


def test_a_source_is_never_pushed_whole_into_a_partial_overlap_and_thin_coverage_is_missing():
    source = areas(box(-90, 0, 6, 10), people=[960.0])
    markets = areas(*row_of(2), box(500, 0, 510, 10))
    found = interpolate(source, markets, extensive=["people"])
    assert found.values["people"]["a"] == pytest.approx(60, rel=1e-4), "its 6 km of 96, not all of them"
    assert found.values["people"][["b", "c"]].isna().all(), "not zero: nobody counted there"
    assert found.coverage.tolist() == pytest.approx([0.6, 0, 0], abs=1e-4)
    thinner = interpolate(areas(box(-90, 0, 4, 10), people=[940.0]), markets, extensive=["people"])
    assert thinner.values["people"].isna().all()
    assert thinner.totals.loc["people", "blanked"] == pytest.approx(40, rel=1e-4)


def test_a_source_without_a_value_covers_nothing_and_points_count_where_they_lie():
    source = areas(box(0, 0, 8, 10), box(8, 0, 20, 10), people=[np.nan, 120.0])
    found = interpolate(source, areas(*row_of(2)), extensive=["people"])
    assert found.values["people"].isna().tolist() == [True, False], "80% of a is unknown"
    centres = areas(Point(2, 2), Point(5, 5), Point(15, 5), people=[1.0, 2.0, 4.0], income=[10.0, 40.0, 7.0])
    by_points = interpolate(centres, areas(*row_of(3)), extensive=["people"], intensive=["income"], weight="people")
    assert by_points.values["people"].tolist()[:2] == [3, 4]
    assert by_points.values["income"].tolist()[:2] == [30, 7]
    assert by_points.values.loc["c"].isna().all()


def test_odd_maps_conserve_totals_too():
    ring = box(0, 0, 30, 30) - box(10, 10, 20, 20)
    bow_tie = Polygon([(40, 0), (60, 20), (60, 0), (40, 20)])
    islands = MultiPolygon([box(100, 0, 101, 1), box(103, 0, 104, 1)])
    markets = areas(ring, box(10, 10, 20, 20), bow_tie, islands, box(10, 10, 20, 20), Point(5, 5))
    markets.loc[len(markets)] = {"market_id": "z", "geometry": None}
    source = areas(box(-10, -10, 200, 100), people=[23_100.0], rate=[0.5])
    found = interpolate(source, markets, extensive=["people"], intensive=["rate"])
    values = found.values
    assert values["people"][["a", "b", "d"]].tolist() == pytest.approx([800, 50, 2], rel=1e-3), "b lies there twice"
    assert values["rate"][list("abcdef")].tolist() == [0.5] * 6
    assert values["people"][["f", "z"]].isna().all(), "a point holds no area to share out by"
    assert found.totals.loc["people", ["placed", "blanked", "outside"]].sum() == pytest.approx(23_100)
    assert any("overlap" in text for text in found.warnings)
    assert any("points" in text for text in found.warnings)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 20), st.floats(1, 50), st.floats(1, 50)), min_size=1,
                max_size=6), st.integers(0, 10**6))  # fmt: skip
def test_whatever_the_areas_nothing_is_lost_or_made(corners, seed):
    rng = np.random.default_rng(seed)
    source = areas(*[box(x, y, x + w, y + h) for x, y, w, h in corners], n=rng.uniform(-5, 100, len(corners)))
    found = interpolate(source, areas(*row_of(4)), extensive=["n"]).totals.loc["n"]
    assert found["placed"] + found["blanked"] + found["outside"] == pytest.approx(found["source"], abs=1e-6)


@pytest.mark.parametrize(("asked", "error"), [
    ({"extensive": ["gone"]}, KeyError), ({}, ValueError), ({"extensive": ["n"], "intensive": ["n"]}, ValueError),
    ({"intensive": ["n"], "weight": "minus"}, ValueError),
])  # fmt: skip
def test_what_can_not_be_asked_is_refused(asked, error):
    with pytest.raises(error):
        interpolate(areas(box(0, 0, 9, 9), n=[1.0], minus=[-1.0]), areas(*row_of(1)), **asked)


def test_shared_borders_are_measured_whether_drawn_alike_or_apart():
    apart = areas(box(0, 0, 10, 10), box(10, 0, 20, 4), Polygon([(10.01, 4), (10.01, 10), (20, 10), (20, 4)]),
                  box(10, 10, 12, 12))  # fmt: skip
    pairs = neighbours(apart)
    km = border_lengths(apart, pairs)
    found = {(a, b): v for a, b, v in zip(pairs["market_id"], pairs["neighbour_id"], km, strict=True)}
    assert found["a", "b"] == pytest.approx(4, rel=0.02)
    assert found["a", "c"] == pytest.approx(6, rel=0.02), "10 m apart"
    assert found["a", "d"] == 0, "a corner is no border"
    assert all(found[a, b] == found[b, a] for a, b in found)


def test_the_smallest_joins_its_thin_neighbour_and_regions_are_not_straddled():
    markets = prepare_markets(areas(*row_of(6), name=list("ABCDEF"), region=["W", "W", "W", "E", "E", "E"],
                                    addressable_customers=[10.0, 20, 30, 40, 50, 60]))  # fmt: skip
    customers = pd.Series({"a": 500, "b": 30, "c": 75, "d": 5, "e": 500, "f": 500})
    lead = merge_thin(markets, customers, 100, markets.set_index("market_id")["region"])
    assert lead.to_dict() == {"a": "a", "b": "c", "c": "c", "d": "e", "e": "e", "f": "f"}
    anywhere = merge_thin(markets, customers, 100)
    assert anywhere.to_dict() == {"a": "a", "b": "d", "c": "d", "d": "d", "e": "e", "f": "f"}, "thin c before rich e"
    turned = merge_thin(markets.iloc[::-1], customers, 100, markets.set_index("market_id")["region"])
    assert turned.sort_index().equals(lead)


def test_islands_join_the_nearest_and_a_market_alone_stays():
    markets = prepare_markets(areas(*row_of(2), box(40, 0, 41, 1), box(900, 0, 901, 1), Point(905, 0),
                                    addressable_customers=[1.0] * 5))  # fmt: skip
    region = pd.Series({"a": "1", "b": "1", "c": "1", "d": "2", "e": "3"})
    lead = merge_thin(markets, pd.Series({"a": 100, "b": 100, "d": 1}), 50, region)
    assert lead[["c", "d", "e"]].tolist() == ["b", "d", "e"]
    assert lead["b"] == "b", "the largest by people, then by area, gives the name"
    nowhere = prepare_markets(pd.DataFrame({"market_id": ["a", "b"]}))
    assert merge_thin(nowhere, pd.Series(dtype=float), 50).tolist() == ["a", "b"], "no place, no neighbour"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=25, max_size=25), st.integers(1, 200))
def test_merging_conserves_and_leaves_none_thin_that_could_join(counts, minimum):
    shapes = [box(10 * i, 10 * j, 10 * i + 10, 10 * j + 10) for i in range(5) for j in range(5)]
    markets = prepare_markets(areas(*shapes, name=[str(i) for i in range(25)], region=["R"] * 25,
                                    addressable_customers=[100.0 + i for i in range(25)]))  # fmt: skip
    customers = pd.Series(counts, index=markets["market_id"])
    merged = combine_markets(markets, merge_thin(markets, customers, minimum))
    now = customers.groupby(merged.map.set_index("original_id")["market_id"]).sum()
    assert now.sum() == customers.sum()
    assert (now >= minimum).all() or len(now) == 1
    assert merged.markets["addressable_customers"].sum() == pytest.approx(markets["addressable_customers"].sum())
    assert merged.markets["area_km2"].sum() == pytest.approx(markets["area_km2"].sum(), rel=1e-4)
    assert (shapely.get_num_geometries(np.asarray(merged.markets.geometry)) == 1).all(), "each in one piece"
    assert set(merged.map["market_id"]) == set(merged.markets["market_id"])


def test_merged_markets_have_sound_names_sizes_and_features():
    markets = prepare_markets(areas(*row_of(4), name=["Ash", "Birch", "Cedar", "Dill"], region=["N"] * 4,
                                    addressable_customers=[100.0, 300, 50, 10], market_customers=[50.0, np.nan, 20, 1],
                                    income=[10.0, 30, 7, np.nan], shops=[1.0, 2, 3, 4]))  # fmt: skip
    lead = pd.Series({"a": "b", "b": "b", "c": "c", "d": "b"})
    out = combine_markets(markets, lead, sums=["shops"])
    table = out.markets.set_index("market_id")
    assert table.index.tolist() == ["b+2", "c"]
    assert table["name"].tolist() == ["Birch and 2 more", "Cedar"]
    assert table["addressable_customers"].tolist() == [410, 50]
    assert table.loc["b+2", "shops"] == 7
    assert table.loc["b+2", "income"] == pytest.approx((100 * 10 + 300 * 30) / 400), "d has none: the others speak"
    assert np.isnan(table.loc["b+2", "market_customers"]), "known for less than half of the people"
    assert table.loc["b+2", "area_km2"] == pytest.approx(300, rel=1e-3)
    assert list(out.markets.columns) == list(markets.columns)
    assert out.map.set_index("original_id")["market_id"].to_dict() == {"a": "b+2", "b": "b+2", "c": "c", "d": "b+2"}
    two = combine_markets(markets, pd.Series({"a": "b", "b": "b", "c": "c", "d": "d"})).markets
    assert two["name"].tolist() == ["Birch and Ash", "Cedar", "Dill"]


def test_small_tables_in_merged_markets():
    found = pd.DataFrame({"original_id": list("abc"), "market_id": ["b+1", "b+1", "c"], "lead": [False, True, True]})
    force = pd.DataFrame({"market_id": list("abc"), "territory": ["T1", "T2", "T3"], "reps": [3.0, 1.0, 2.0],
                          "last_target": [10.0, np.nan, np.nan]})  # fmt: skip
    out = sales_force_in_merged_markets(force, found).set_index("market_id")
    assert out.loc["b+1"].tolist() == ["T1", 4, 10]
    assert np.isnan(out.loc["c", "last_target"]), "unknown stays unknown"
    notes = pd.DataFrame(
        {"market_id": list("aabbc"), "kind": ["potential", "blocked", "blocked", "target", "potential"]}
    )
    kept, dropped = notes_in_merged_markets(notes, found)
    assert list(zip(kept["market_id"], kept["kind"], strict=True)) == [("b+1", "blocked"), ("c", "potential")]
    assert dropped == 3, "what holds for a part need not hold for the whole"
    tests = pd.DataFrame({"markets": ["a; b; c", "40 markets drawn by lot", None]})
    assert experiments_in_merged_markets(tests, found)["markets"].tolist()[:2] == ["b+1; c", "40 markets drawn by lot"]


def test_levels_that_do_not_nest_are_named():
    markets = pd.DataFrame({"territory": ["T1", "T1", "T2", None], "region": ["N", "S", "S", "S"],
                            "country": ["A", "A", "B", ""]})  # fmt: skip
    said = nesting_problems(markets)
    assert "'T1' in 'N', 'S'" in said[0]
    assert "'S' in 'A', 'B'" in said[1]
    assert not nesting_problems(markets.drop(columns="country").assign(region="N"))
    assert not nesting_problems(pd.DataFrame({"region": ["N", "S"]}))


def test_markets_across_the_date_line_are_whole_however_they_are_drawn():
    long_way = Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)])
    markets = gpd.GeoDataFrame({"market_id": ["x", "y", "z"]}, crs="EPSG:4326",
                               geometry=[long_way, box(181, -18, 182, -17), box(-178, -18, -177, -17)])  # fmt: skip
    out = prepare_markets(markets)
    assert out["area_km2"].tolist() == pytest.approx([23_507, 11_753, 11_753], rel=1e-3)
    assert out["x_km"].diff().iloc[1:].tolist() == pytest.approx([100, 106], abs=60)
    assert (shapely.bounds(np.asarray(out.geometry))[:, [0, 2]] <= 180).all()
    assert set(neighbours(markets).itertuples(index=False, name=None)) == {
        ("x", "y"),
        ("y", "x"),
        ("y", "z"),
        ("z", "y"),
    }
    world = gpd.GeoDataFrame({"market_id": ["w"]}, geometry=[box(-180, -90, 180, 90)], crs="EPSG:4326")
    assert prepare_markets(world)["area_km2"].item() == pytest.approx(510_065_622, rel=1e-3), (
        "the globe stays one piece"
    )


@pytest.mark.slow
def test_counties_to_zip_areas_conserve_the_official_population(shared_data):
    """The total of the source (318,857,056: US population 2014) is what is placed and what is not."""
    folder = shared_data / "real"
    counties = gpd.read_file(folder / "us_counties" / "us_counties.geojson").merge(
        pd.read_parquet(folder / "us_counties" / "us_county_facts_2014.parquet"), on="fips"
    )
    west = counties[counties["fips"].str[:2].isin(["04", "06", "32", "41"])]
    zips = gpd.read_file(folder / "ca_zcta" / "ca_zcta_2010_simplified.geojson").rename(columns={"zcta": "market_id"})
    found = interpolate(west, zips, extensive=["PST045214"], intensive=["INC110213"], weight="HSD410213")
    total = found.totals.loc["PST045214"]
    assert total["source"] == west["PST045214"].sum()
    assert total["placed"] + total["blanked"] + total["outside"] == pytest.approx(total["source"], rel=1e-12)
    # tobler 0.13, area_interpolate(allocate_total=False), in the same projection: 32,173,993
    assert total["placed"] + total["blanked"] == pytest.approx(32_173_993, rel=1e-5)
    assert found.values["INC110213"].between(36_000, 92_000).sum() == found.values["INC110213"].notna().sum()
    assert (found.coverage < 0.5).sum() == found.values["PST045214"].isna().sum()
