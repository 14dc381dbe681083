"""Customers given as points: in the company's markets, or in hexagons that become its markets."""

from __future__ import annotations

from dataclasses import replace

import ibis
import pandas as pd
import pyarrow as pa

from micromarket.config import Source
from micromarket.engines import CountingEngine
from micromarket.errors import InputError, Problem
from micromarket.geography.company import Shaped, hexagon_table
from micromarket.geography.hexagons import hexagon_of
from micromarket.geography.keys import Hexagons
from micromarket.geography.points import locate_points
from micromarket.sources import ROW, Engine, RawTable

TOLERANCE_KM = 5.0
_MOST_LOST = 0.05  # share of customers without a market beyond which the coordinates must be wrong


def place_customers(
    engine: CountingEngine, customers: ibis.Table, markets: pd.DataFrame, file: str, warnings: list[str]
) -> ibis.Table:
    """The customers (``longitude``, ``latitude``) with the market that holds them, or the nearest within 5 km.

    Raises
    ------
    InputError
        Where the markets have no geometry, or more than a twentieth of the customers live in none.
    """
    if "geometry" not in markets.columns:
        expected = "market_id, as the markets have no geometry to place longitude and latitude in"
        raise InputError([Problem(file, expected, column="market_id")])
    points = customers.select("customer_id", "longitude", "latitude").to_pandas()
    found = locate_points(points["longitude"], points["latitude"], markets, tolerance_km=TOLERANCE_KM)
    points["market_id"] = found["market_id"].to_numpy()
    if points["market_id"].isna().sum() > _MOST_LOST * len(points):
        turned = locate_points(points["latitude"], points["longitude"], markets, tolerance_km=TOLERANCE_KM)
        if turned["market_id"].notna().mean() > 0.5:
            expected = "longitude and latitude the other way round: swapped, most points lie in markets"
            first = int(points["market_id"].isna().to_numpy().argmax())
            at = f"{points['longitude'].iloc[first]}, {points['latitude'].iloc[first]}"
            raise InputError([Problem(file, expected, "longitude", value=at)])
    _refuse_lost(points, file, f"a point in a market, or within {TOLERANCE_KM:g} km of one", warnings)
    near = int((found["distance_km"] > 0).sum())
    if near > 0.001 * len(points):
        warnings.append(
            f"{near:,} of {len(points):,} customers live outside every border, and count for the nearest market (at"
            f" most {found['distance_km'].max():.1f} km away)."
        )
    return _joined(engine, customers, points)


def _refuse_lost(points: pd.DataFrame, file: str, expected: str, warnings: list[str]) -> None:
    lost = points["market_id"].isna().to_numpy()
    n = int(lost.sum())
    if n > _MOST_LOST * len(points):
        first = int(lost.argmax())
        at = f"{points['longitude'].iloc[first]}, {points['latitude'].iloc[first]}"
        raise InputError([Problem(file, expected, "longitude", value=at, more=n - 1)])
    if n:
        warnings.append(f"{n:,} of {len(points):,} customers live in no market and are left out.")


def _joined(engine: CountingEngine, customers: ibis.Table, points: pd.DataFrame) -> ibis.Table:
    placed = engine.put("_customer_places", points.loc[points["market_id"].notna(), ["customer_id", "market_id"]])
    if "market_id" in customers.columns:
        customers = customers.drop("market_id")
    return customers.inner_join(placed, "customer_id")


def place_in_hexagons(
    local: Engine,
    home: CountingEngine,
    customers: ibis.Table,
    raw: RawTable,
    hexagons: Hexagons,
    boundary: RawTable | None,
    min_cell: int,
    shaped: Shaped,
) -> tuple[ibis.Table, RawTable, RawTable]:
    """The customers with their hexagon, their raw table without any other market, and the hexagons as ``markets``.

    Raises
    ------
    InputError
        Where customers have no coordinates, h3 is missing, or more than a twentieth of the places are none.
    """
    file = raw.source.shown_as
    absent = [c for c in ("longitude", "latitude") if c not in customers.columns]
    if absent:
        expected = "longitude and latitude, as geography.hexagons makes markets of where customers live"
        raise InputError([Problem(file, expected, column=c) for c in absent])
    points = customers.select("customer_id", "longitude", "latitude").to_pandas()
    points["market_id"] = hexagon_of(points["longitude"], points["latitude"], hexagons.resolution).to_numpy()
    _refuse_lost(points, file, "a longitude from -180 to 180 and a latitude from -90 to 90", shaped.warnings)
    markets = hexagon_table(points["market_id"].dropna(), hexagons, boundary, min_cell, shaped)
    flat = pd.DataFrame(markets.drop(columns="geometry")).assign(geometry=markets.geometry.to_wkb().to_numpy())
    table = local.put("raw_hexagons", pa.Table.from_pandas(flat, preserve_index=False))
    made = RawTable(
        Source("markets", shown_as="geography.hexagons"), table, table.mutate(**{ROW: ibis.row_number()}), markets.crs
    )
    if "market_id" in raw.table.columns:
        raw = replace(raw, table=raw.table.drop("market_id"), numbered=raw.numbered.drop("market_id"))
    return _joined(home, customers, points), raw, made
