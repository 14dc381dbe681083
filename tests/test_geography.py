"""Geography: areas, positions, neighbours and points on shapes small enough to check by hand."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point, Polygon, box

from micromarket.geography import assign_points, neighbours, prepare_markets, validate_geometry


def grid(n: int = 3, lon: float = 100.0, lat: float = 10.0, step: float = 0.1) -> gpd.GeoDataFrame:
    cells = [(f"m{i}{j}", box(lon + i * step, lat + j * step, lon + (i + 1) * step, lat + (j + 1) * step))
             for i in range(n) for j in range(n)]  # fmt: skip
    return gpd.GeoDataFrame({"market_id": [c[0] for c in cells]}, geometry=[c[1] for c in cells], crs="EPSG:4326")


def pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(frame.itertuples(index=False, name=None))


def test_area_and_position_are_in_kilometres_whatever_the_crs():
    square = box(500_000, 5_000_000, 510_000, 5_010_000)  # 10 km x 10 km in UTM 33N, scale 0.9996 there
    markets = gpd.GeoDataFrame({"market_id": ["a"]}, geometry=[square], crs="EPSG:32633")
    out = prepare_markets(markets)
    assert out.crs.to_epsg() == 4326
    assert out["area_km2"].item() == pytest.approx(100 / 0.9996**2, rel=1e-3)
    cells = prepare_markets(grid())
    step = cells.set_index("market_id")
    assert step.at["m01", "y_km"] - step.at["m00", "y_km"] == pytest.approx(11.06, abs=0.05)


def test_touching_markets_are_neighbours_in_both_directions_and_islands_get_their_nearest():
    markets = grid()
    island = gpd.GeoDataFrame({"market_id": ["island"]}, geometry=[box(100.5, 9.95, 100.6, 10.05)], crs="EPSG:4326")
    found = pairs(neighbours(pd.concat([markets, island], ignore_index=True)))
    assert {b for a, b in found if a == "m11"} == {"m00", "m01", "m02", "m10", "m12", "m20", "m21", "m22"}
    assert {b for a, b in found if a == "island"} == {"m20"}
    assert all((b, a) in found and a != b for a, b in found)


def test_point_markets_have_their_nearest_as_neighbours():
    markets = gpd.GeoDataFrame({"market_id": list("abcdefghij")}, geometry=[Point(i / 10, 0) for i in range(10)],
                               crs="EPSG:4326")  # fmt: skip
    found = pairs(neighbours(markets, k=2))
    assert {b for a, b in found if a == "e"} == {"d", "f"}
    assert np.isnan(prepare_markets(markets)["area_km2"]).all()


def test_points_fall_into_their_market_or_the_nearest_within_the_tolerance():
    lon = pd.Series([100.05, 100.301, 100.5, np.nan, 100.1, 999], index=list("uvwxyz"))
    lat = pd.Series([10.05, 10.05, 10.05, 10.0, 10.05, 10.0], index=list("uvwxyz"))
    found = assign_points(lon, lat, grid(), tolerance_km=1)
    assert found[["u", "v", "y"]].tolist() == ["m00", "m20", "m00"]
    assert found[["w", "x", "z"]].isna().all()
    assert pd.isna(assign_points(lon, lat, grid(), tolerance_km=0)["v"])


def test_broken_missing_and_three_dimensional_shapes_are_repaired_or_reported():
    bow_tie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    high = Polygon([(2, 0, 5), (3, 0, 5), (3, 1, 5)])
    markets = gpd.GeoDataFrame({"market_id": ["a", "b", "c"]}, geometry=[bow_tie, high, None], crs="EPSG:4326")
    out = prepare_markets(markets)
    assert out.geometry.iloc[:2].is_valid.all()
    assert not out.geometry.iloc[1].has_z
    assert out["area_km2"].notna().tolist() == [True, True, False]
    said = " ".join(validate_geometry(markets))
    assert "no boundary: c" in said
    assert "repaired: a" in said
    assert pairs(neighbours(markets)) == {("a", "b"), ("b", "a")}


@pytest.mark.parametrize("markets", [
    pd.DataFrame({"market_id": ["a", "b"]}),
    gpd.GeoDataFrame({"market_id": ["a", "b"]}, geometry=[None, None], crs="EPSG:4326"),
    gpd.GeoDataFrame({"market_id": ["a", "b"]}, geometry=[Point(1e6, 1e6), Point(2e6, 1e6)]),
])  # fmt: skip
def test_without_usable_geometry_the_columns_are_empty(markets):
    out = prepare_markets(markets)
    assert out[["x_km", "y_km", "area_km2"]].isna().all(axis=None)
    assert "geometry" not in out
    assert neighbours(markets).empty
    assert assign_points(pd.Series([1.0]), pd.Series([1.0]), markets).isna().all()


def test_the_date_line_does_not_tear_markets_apart():
    markets = gpd.GeoDataFrame({"market_id": ["w", "e"]}, geometry=[box(179, -18, 180, -17), box(-180, -18, -179, -17)],
                               crs="EPSG:4326")  # fmt: skip
    out = prepare_markets(markets)
    assert abs(out["x_km"].diff().iloc[1]) == pytest.approx(106, abs=2)
    assert pairs(neighbours(markets)) == {("w", "e"), ("e", "w")}


@pytest.mark.slow
def test_brazil_has_the_area_that_it_has(shared_data):
    file = shared_data / "real" / "brazil_geo" / "br_municipalities_simplified.geojson"
    brazil = gpd.read_file(file).rename(columns={"ibge_code": "market_id"})
    assert prepare_markets(brazil)["area_km2"].sum() == pytest.approx(8_515_767, rel=0.005)  # IBGE's official figure
    found = neighbours(brazil)
    assert found["market_id"].nunique() == len(brazil)
    assert 5 < len(found) / len(brazil) < 7
