"""The section ``geography`` of ``plan.yml``, applied to a company's markets: census, hexagons, merging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import ibis
import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.formats import plural
from micromarket.geography.hexagons import cells_within, hexagon_markets
from micromarket.geography.interpolation import interpolate
from micromarket.geography.keys import Census, Hexagons, Merge
from micromarket.geography.merged import COUNTS, Merged, combine_markets
from micromarket.geography.merging import merge_thin
from micromarket.sources import ROW, RawTable
from micromarket.validate import as_number, as_text, is_missing

_SIZES = frozenset(COUNTS)


@dataclass
class Shaped:
    """What the section did, for the notes of the data stage. ``numbers``: plain JSON; money and counts as they came."""

    numbers: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def areas_of(raw: RawTable) -> gpd.GeoDataFrame:
    """A source as a GeoDataFrame in its own coordinate system.

    Raises
    ------
    InputError
        Where it has no geometry.
    """
    if "geometry" not in raw.table.columns or raw.crs is None:
        expected = "a file with areas or points (GeoJSON, GeoPackage, GeoParquet, Shapefile), geometry kept by its sql"
        raise InputError([Problem(raw.source.shown_as, expected, column="geometry")])
    frame = raw.table.to_pandas()
    shapes = gpd.GeoSeries.from_wkb(frame["geometry"].map(lambda b: bytes(b) if b is not None else None), crs=raw.crs)
    return gpd.GeoDataFrame(frame.drop(columns="geometry"), geometry=shapes, crs=raw.crs)


def census_problems(census: Census, raw: RawTable, columns: list[str]) -> list[Problem]:
    """What is wrong with a census file. ``columns``: those that the markets have already."""
    file, have = raw.source.shown_as, list(raw.table.columns)
    wanted = [*census.variables, *([census.weight] if census.weight else [])]
    found = [Problem(file, did_you_mean(v, have), "geography.census", value=shown(v)) for v in wanted if v not in have]
    expected = "a name that markets doesn't have (rename it: sql)"
    found += [Problem(file, expected, v) for v in census.variables if v in columns]
    numbered = raw.numbered
    for name in dict.fromkeys(v for v in wanted if v in have):
        bad = ~is_missing(numbered[name], "number") & as_number(numbered[name]).isnull()
        what = "a number in every row"
        if name == census.weight:
            bad, what = bad | (as_number(numbered[name]) < 0).fill_null(False), "a count of at least 0 in every row"
        rows = numbered.filter(bad)
        n = int(rows.count().execute())
        if n:
            first = rows.select(ROW, name).order_by(ROW).limit(1).to_pyarrow().to_pylist()[0]
            found.append(Problem(file, what, name, int(first[ROW]), shown(first[name]), n - 1))
    return found


def add_census(markets: pd.DataFrame, census: Census, raw: RawTable, shaped: Shaped) -> tuple[pd.DataFrame, pd.Series]:
    """The markets with the census's variables as columns, and each market's coverage (share of its area)."""
    areas = areas_of(raw)
    for name in {*census.variables, *([census.weight] if census.weight else [])}:
        areas[name] = raw.table.select(v=as_number(raw.table[name])).to_pandas()["v"].to_numpy(float, na_value=np.nan)
    file = raw.source.shown_as
    if "geometry" not in markets.columns:
        shaped.warnings.append(f"{file} was not used: the markets have no borders to bring its figures to.")
        blank = pd.DataFrame(np.nan, index=markets.index, columns=list(census.variables))
        return pd.concat([markets, blank], axis=1), pd.Series(0.0, index=markets["market_id"])
    found = interpolate(areas, markets, extensive=census.extensive, intensive=census.intensive, weight=census.weight)
    values = found.values.reset_index(drop=True)
    shaped.warnings += [f"{file}: {text}" for text in found.warnings]
    thin = int((values.isna().all(axis=1)).sum())
    if thin:
        shaped.warnings.append(
            f"{file} covers less than half of {plural(thin, 'market')} ({len(markets):,} in all): its figures are empty"
            " there, not zero."
        )
    for variable, row in found.totals.iterrows():
        reached = row["placed"] + row["blanked"] + row["cut_off"]
        lost = row["blanked"] + row["cut_off"]
        if reached > 0 and lost > 0.02 * reached:
            shaped.warnings.append(
                f"{shown(str(variable))}: of the {reached:,.0f} counted in areas that reach into a market,"
                f" {row['placed']:,.0f} are placed; {lost / reached:.0%} lie outside all markets, or where too little"
                " is covered."
            )
    shaped.numbers.setdefault("census", []).append(
        {
            "file": file,
            "extensive": list(census.extensive),
            "intensive": list(census.intensive),
            "covered": float(found.coverage.mean()),
            "markets_without": thin,
            "totals": {str(k): {c: float(v) for c, v in row.items()} for k, row in found.totals.iterrows()},
        }
    )
    out = markets.copy()
    for name in census.variables:
        out[name] = values[name].to_numpy()
    return out, found.coverage


def hexagon_table(
    cells: pd.Series, hexagons: Hexagons, boundary: RawTable | None, min_cell: int, shaped: Shaped
) -> gpd.GeoDataFrame:
    """Markets of the hexagons with customers (``cells``: one value a customer) and those that fill the boundary."""
    counts = cells.value_counts()
    wanted = set(counts.index)
    areas = None
    if boundary is not None:
        areas = areas_of(boundary)
        if hexagons.name is not None and hexagons.name not in areas.columns:
            expected = did_you_mean(hexagons.name, [c for c in areas.columns if c != "geometry"])
            raise InputError(
                [Problem(boundary.source.shown_as, expected, "geography.hexagons.name", value=shown(hexagons.name))]
            )
        filled = set(cells_within(areas, hexagons.resolution))
        beyond = int(counts[~counts.index.isin(list(filled))].sum())
        if beyond:
            shaped.warnings.append(
                f"{plural(beyond, 'customer')} of {int(counts.sum()):,} live in hexagons whose centre lies outside"
                f" {boundary.source.shown_as}; those hexagons are markets too."
            )
        wanted |= filled
    if not wanted:
        expected = "customers with a longitude and a latitude"
        raise InputError([Problem("plan.yml", expected, "geography.hexagons")])
    if len(counts) and counts.median() < min_cell:
        shaped.warnings.append(
            f"Half of the hexagons with customers have fewer than {min_cell}: too few to tell them apart. A coarser"
            f" resolution ({hexagons.resolution - 1}), or geography.merge, makes markets that can be told apart."
        )
    shaped.numbers["hexagons"] = {
        "resolution": hexagons.resolution, "markets": len(wanted), "with_customers": len(counts),
    }  # fmt: skip
    return hexagon_markets(wanted, areas, hexagons.name)


def merge_markets(
    markets: pd.DataFrame,
    customers: pd.Series,
    merge: Merge,
    census: tuple[Census, ...],
    territory: pd.Series | None,
    given: RawTable | None,
    shaped: Shaped,
) -> Merged:
    """Right-sized markets. ``customers``, ``territory``: by ``market_id``; ``given``: an earlier map to apply."""
    unknown = [c for c in merge.sum if c not in markets.columns]
    if unknown:
        expected = did_you_mean(unknown[0], [c for c in markets.columns if c not in ("geometry", "market_id")])
        raise InputError([Problem("plan.yml", expected, "geography.merge.sum", value=shown(unknown[0]))])
    sums = {*merge.sum, *(v for c in census for v in c.extensive)}
    if given is not None:
        lead = _given_leads(given, markets)
    else:
        lead = merge_thin(markets, customers, merge.minimum_customers, _labels(markets, merge, territory))
    merged = combine_markets(markets, lead, sums)
    n = merged.map.set_index("original_id")["market_id"]
    totals = customers.groupby(n.reindex(customers.index)).sum().reindex(merged.markets["market_id"]).fillna(0.0)
    thin = int((totals < merge.minimum_customers).sum())
    before, after = len(markets), len(merged.markets)
    joined = int(merged.map.groupby("market_id")["original_id"].transform("size").gt(1).sum())
    shaped.numbers["merged"] = {"before": before, "after": after, "thin": thin, "minimum": merge.minimum_customers}
    if after < before:
        how = (
            "as an earlier run did" if given is not None else f"so that each has {merge.minimum_customers:,} customers"
        )
        shaped.warnings.append(
            f"{joined:,} of {before:,} markets were joined with neighbours, {how}: {plural(after, 'market')} remain."
            " Every number below is of these; tables/market_map.parquet says what became of each."
        )
    if thin:
        shaped.warnings.append(
            f"{plural(thin, 'market')} of {after:,} still {'has' if thin == 1 else 'have'} fewer than"
            f" {merge.minimum_customers:,} customers"
            + (
                "." if given is not None
                else ": nothing to join within "
                f"{' and '.join(merge.within) or 'reach'}, or no place on the map."
            )
        )  # fmt: skip
    counted = [c for c in _look_like_counts(markets) if c not in sums] if after < before else []
    if counted:
        names = ", ".join(shown(c) for c in counted[:5])
        shaped.warnings.append(
            f"{names}: averaged where markets were joined. If they count something, name them under"
            " geography.merge.sum, and they add up."
        )
    return merged


def _labels(markets: pd.DataFrame, merge: Merge, territory: pd.Series | None) -> pd.Series | None:
    ids = markets["market_id"].astype(str)
    parts = []
    for level in merge.within:
        if level == "territory" and territory is not None:
            parts.append(ids.map(territory).astype("str").fillna(""))
        elif level in markets.columns:
            parts.append(markets[level].astype("str").fillna(""))
    if not parts:
        return None
    label = ["\x1f".join(each) for each in zip(*parts, strict=True)]
    return pd.Series(label, index=ids.to_numpy())


def _given_leads(given: RawTable, markets: pd.DataFrame) -> pd.Series:
    """Leads as an earlier map has them. A market that it doesn't know stays as it is."""
    have = list(given.table.columns)
    missing = [c for c in ("original_id", "market_id") if c not in have]
    if missing:
        raise InputError([Problem(given.source.shown_as, did_you_mean(c, have), column=c) for c in missing])
    t = given.table
    frame = t.select(original_id=as_text(t.original_id), market_id=as_text(t.market_id)).to_pandas().dropna()
    twice = frame["original_id"].duplicated()
    if twice.any():
        value = shown(frame.loc[twice, "original_id"].iloc[0])
        expected = "one row a market"
        raise InputError(
            [Problem(given.source.shown_as, expected, "original_id", value=value, more=int(twice.sum()) - 1)]
        )
    known = pd.Series(frame["market_id"].to_numpy(), index=frame["original_id"].to_numpy())
    ids = markets["market_id"].astype(str)
    group = ids.map(known).fillna(ids)
    people = pd.to_numeric(markets["addressable_customers"], errors="coerce").fillna(0.0).to_numpy(float)
    area = markets["area_km2"].fillna(0.0).to_numpy(float)
    ranked = pd.DataFrame({"id": ids, "group": group, "people": -people, "area": -area})
    ranked = ranked.sort_values(["people", "area", "id"], kind="stable")
    # "3550308+2" was named after 3550308, which stays the lead while it is there
    ranked["named"] = [g != i and g.startswith(f"{i}+") for g, i in zip(ranked["group"], ranked["id"], strict=True)]
    ranked = ranked.sort_values("named", ascending=False, kind="stable")
    first = ranked.groupby("group")["id"].first()
    return pd.Series(group.map(first).to_numpy(), index=ids.to_numpy())


def _look_like_counts(markets: pd.DataFrame) -> list[str]:
    """Features in whole numbers that are large where many people are: inhabitants, shops, cars."""
    odd = {"market_id", "name", "region", "country", "geometry", "x_km", "y_km", "area_km2", *_SIZES}
    people = pd.to_numeric(markets["addressable_customers"], errors="coerce")
    found = []
    for column in (c for c in markets.columns if c not in odd):
        value = pd.to_numeric(markets[column], errors="coerce")
        both = value.notna() & people.notna()
        whole = both.sum() > 5 and value.nunique() > 2 and value.min() >= 0 and bool((value[both] % 1 == 0).all())
        if whole and value[both].rank().corr(people[both].rank()) > 0.6:
            found.append(column)
    return found


def coverage_table(coverage: Mapping[str, pd.Series]) -> pd.DataFrame | None:
    """``market_id, source, coverage``: one row a market and census file; ``None`` without any."""
    if not coverage:
        return None
    parts = [
        pd.DataFrame({"market_id": s.index, "source": name, "coverage": s.to_numpy()}) for name, s in coverage.items()
    ]
    return pd.concat(parts, ignore_index=True)


def merged_coverage(coverage: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """:func:`coverage_table` of merged markets: the mean of their parts (``found``: :attr:`Merged.map`)."""
    new = coverage["market_id"].map(found.set_index("original_id")["market_id"])
    return coverage.assign(market_id=new).groupby(["market_id", "source"])["coverage"].mean().reset_index()


def customers_now(tables: Mapping[str, ibis.Table], settings: Settings) -> pd.Series:
    """Customers on the books by ``market_id``: with a contract that runs or, without contracts, a purchase in the last
    12 months (all, where purchases have no dates); counted where they are."""
    customers = tables["customers"].select("customer_id", "market_id")
    customers = customers.filter(customers.market_id.notnull())
    if settings.economics.relationship == "contractual" and "subscriptions" in tables:
        t = tables["subscriptions"]
        runs = t.ended_on.isnull() | (t.ended_on > settings.as_of) if "ended_on" in t.columns else ibis.literal(True)
        customers = customers.semi_join(t.filter(runs & (t.started_on <= settings.as_of)), "customer_id")
    elif "transactions" in tables:
        t, day = tables["transactions"], pd.Timestamp(settings.as_of) - pd.DateOffset(months=12)
        customers = customers.semi_join(t.filter(t.date > ibis.literal(day.date())), "customer_id")
    counts = customers.group_by("market_id").aggregate(n=ibis._.count()).to_pandas()
    return pd.Series(counts["n"].to_numpy(float), index=counts["market_id"].astype(str).to_numpy()).sort_index()
