"""Merged markets as markets: their ids, names, features and borders, and every other table in their terms."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import geopandas as gpd
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from micromarket.config import CUSTOMER_TABLES
from micromarket.engines import CountingEngine
from micromarket.geography.shapes import prepare_markets
from micromarket.sources import Engine

COUNTS = ("addressable_customers", "market_customers")
_DERIVED = ("x_km", "y_km", "area_km2")
_LABELS = ("name", "region", "country")
_LEAST_KNOWN = 0.5


@dataclass(frozen=True)
class Merged:
    """``markets``: as before, in fewer rows; ``map``: a row for each original market with ``original_id,
    original_name``, the ``market_id`` and ``name`` of what it is part of now, and ``lead``: does that bear its name."""

    markets: pd.DataFrame
    map: pd.DataFrame


def combine_markets(markets: pd.DataFrame, lead: pd.Series, sums: Collection[str] = ()) -> Merged:
    """Markets joined as ``lead`` says.

    A merged market takes the id of its lead with the number of the others behind it ("3550308+2"), so that it is never
    mistaken for the lead alone, and is named alike ("Pasig and 2 more"; of two, "Pasig and Taguig").

    Parameters
    ----------
    markets : DataFrame or GeoDataFrame
        ``market_id``, ``name``, ``region``, ``addressable_customers`` and features, prepared.
    lead : Series
        Id of the lead by ``market_id`` (see :func:`~micromarket.geography.merging.merge_thin`).
    sums : collection of str
        Columns beside the market's size that count something. They add up; other numbers are averaged, by people who
        could buy. Where members lack a number, those that have it (at least half, by people) speak for all.
    """
    ids = markets["market_id"].astype(str)
    root = ids.map(lead).fillna(ids).rename("root")
    people = pd.to_numeric(markets["addressable_customers"], errors="coerce").astype(float)
    middle = people[people > 0].median()
    weight = people.where(people > 0, middle if np.isfinite(middle) else 1.0)
    ranked = pd.DataFrame({"id": ids, "root": root, "name": markets["name"].astype(str), "weight": weight})
    ranked["first"] = ranked["id"] == ranked["root"]
    ranked = ranked.sort_values(["root", "first", "weight", "id"], ascending=[True, False, False, True], kind="stable")
    size = ranked.groupby("root").size()
    free = set(ids)
    new_id = {str(r): str(r) if n == 1 else _free_id(f"{r}+{n - 1}", free) for r, n in size.items()}
    first = ranked.groupby("root")["name"].agg(lambda v: list(v.iloc[:2]))
    new_name = {str(r): _joined(names, n) for (r, names), n in zip(first.items(), size, strict=True)}
    out = _aggregate(markets, root, weight, {*COUNTS, *sums})
    out["market_id"] = pd.array([new_id[r] for r in out.index], dtype="str")
    out["name"] = pd.array([new_name[r] for r in out.index], dtype="str")
    if isinstance(markets, gpd.GeoDataFrame):
        out = gpd.GeoDataFrame(out, geometry=_joined_shapes(markets.geometry, root, out.index), crs=markets.crs)
    out = out.sort_values("market_id", kind="stable").reset_index(drop=True)[list(markets.columns)]
    found = pd.DataFrame(
        {
            "original_id": ids.to_numpy(),
            "original_name": markets["name"].astype(str).to_numpy(),
            "market_id": root.map(new_id).to_numpy(),
            "name": root.map(new_name).to_numpy(),
            "lead": (ids == root).to_numpy(),
        }
    )
    return Merged(prepare_markets(out), found.sort_values("original_id", kind="stable").reset_index(drop=True))


def _free_id(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "+"
    taken.add(wanted)
    return wanted


def _joined(names: list[str], n: int) -> str:
    if n <= 2:
        return " and ".join(names)
    return f"{names[0]} and {n - 1:,} more"


def _aggregate(markets: pd.DataFrame, root: pd.Series, weight: pd.Series, sums: set[str]) -> pd.DataFrame:
    plain = pd.DataFrame(markets.drop(columns="geometry", errors="ignore"))
    first = plain.assign(_lead=plain["market_id"].astype(str) != root).sort_values(
        ["_lead", "market_id"], kind="stable"
    )
    out = first.groupby(root.reindex(first.index), sort=True).first()[[c for c in _LABELS if c in plain.columns]]
    everyone = weight.groupby(root).sum()
    for column in plain.columns:
        if column in ("market_id", *_LABELS):
            continue
        if column in _DERIVED:
            out[column] = np.nan  # measured anew
            continue
        value = pd.to_numeric(plain[column], errors="coerce").astype(float)
        known = weight.where(value.notna(), 0.0).groupby(root).sum()
        share = known / everyone
        if column in sums:
            total = value.fillna(0.0).groupby(root).sum() / share.where(share > 0)
        else:
            total = (value.fillna(0.0) * weight).groupby(root).sum() / known.where(known > 0)
        out[column] = total.where(share >= _LEAST_KNOWN)
    return out


def _joined_shapes(geometry: gpd.GeoSeries, root: pd.Series, order: pd.Index) -> np.ndarray:
    groups = pd.Series(np.arange(len(root))).groupby(root.to_numpy()).agg(list)
    shapes = np.asarray(geometry)
    return np.array([_union(shapes[groups[r]]) for r in order], dtype=object)


def _union(shapes: np.ndarray) -> shapely.Geometry | None:
    have = shapes[~shapely.is_missing(shapes)]
    if len(have) < 2:
        return have[0] if len(have) else None
    return shapely.union_all(have)


def in_merged_markets(name: str, table: ibis.Table, found: ibis.Table) -> ibis.Table:
    """A table of the contract with merged ids: rows of one new market, period and channel become one.

    ``found``: ``original_id, market_id`` in the engine that holds ``table``. Tables of notes and experiments hold text
    that speaks of markets: :func:`notes_in_merged_markets`.
    """
    renamed = found.select(_old=found.original_id, _new=found.market_id)
    joined = table.left_join(renamed, table.market_id == renamed._old)
    columns = {c: joined["_new"] if c == "market_id" else joined[c] for c in table.columns}
    mapped = joined.select(**columns)
    if name == "spend":
        return mapped.group_by(["market_id", "period", "channel"]).aggregate(amount=mapped.amount.sum())
    if name == "outcomes":
        more = {"revenue": mapped.revenue.sum()} if "revenue" in mapped.columns else {}
        counted = mapped.new_customers.sum()
        return mapped.group_by(["market_id", "period"]).aggregate(new_customers=counted, **more)
    return mapped


def sales_force_in_merged_markets(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Reps, capacity, targets and results add up; the territory is that of the most reps, then of the lead."""
    joined = _with_new_id(frame, found)
    reps = joined["reps"].fillna(0.0) if "reps" in joined else pd.Series(0.0, index=joined.index)
    by = joined.assign(_reps=reps).groupby(["_new", "territory"], as_index=False).agg(
        _reps=("_reps", "sum"), _lead=("_lead", "max")
    )  # fmt: skip
    by = by.sort_values(["_new", "_reps", "_lead", "territory"], ascending=[True, False, False, True])
    out = by.drop_duplicates("_new")[["_new", "territory"]].set_index("_new")
    numbers = [c for c in frame.columns if c not in ("market_id", "territory", "manager")]
    sums = joined.groupby("_new")[numbers].sum(min_count=1)
    if "manager" in frame:  # of the territory that gave its name
        inside = joined[joined["territory"] == joined["_new"].map(out["territory"])]
        sums["manager"] = (
            inside.sort_values(["_lead", "market_id"], ascending=[False, True]).groupby("_new")["manager"].first()
        )
    return out.join(sums).rename_axis("market_id").reset_index()[list(frame.columns)]


def notes_in_merged_markets(frame: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Field notes in merged markets, and how many are left out.

    What was said of one part does not hold for the whole: numbers (potential, target) about a market that was merged
    are left out, and that it is blocked, or needs a play, counts for the whole only where it was said of its lead.
    """
    joined = _with_new_id(frame, found)
    alone = joined["_new"] == joined["market_id"]
    whole = alone | (~joined["kind"].isin(["potential", "target"]) & joined["_lead"])
    out = joined[whole].assign(market_id=joined["_new"])[list(frame.columns)]
    return out.reset_index(drop=True), int((~whole).sum())


def _with_new_id(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    renamed = found.rename(columns={"original_id": "_old", "market_id": "_new", "lead": "_lead"})
    joined = frame.merge(renamed[["_old", "_new", "_lead"]], left_on="market_id", right_on="_old", how="left")
    return joined.assign(_new=joined["_new"].fillna(joined["market_id"]), _lead=joined["_lead"].eq(True))


def experiments_in_merged_markets(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The ids that ``markets`` lists (``a; b`` or ``a, b``) become those of the merged markets, each once."""
    if "markets" not in frame:
        return frame
    new = dict(zip(found["original_id"], found["market_id"], strict=True))

    def rewritten(text: object) -> object:
        listed = re.split(r"\s*[;,]\s*", text.strip()) if isinstance(text, str) else []
        if not listed or any(p not in new for p in listed):
            return text  # a number, or words
        return "; ".join(dict.fromkeys(new[p] for p in listed))

    return frame.assign(markets=frame["markets"].map(rewritten))


def in_merged_tables(
    tables: Mapping[str, ibis.Table],
    found: pd.DataFrame,
    local: Engine,
    engine: CountingEngine,
    warnings: list[str],
) -> dict[str, ibis.Table]:
    """Every table of the contract (but ``markets``) in merged ids; large ones stay where they are, and lazy.

    ``found``: :attr:`Merged.map`.
    """
    out = dict(tables)
    ids = found[["original_id", "market_id"]]
    here, there = local.put("_market_map", ids), engine.put("_market_map", ids)
    for name, table in tables.items():
        if name in ("customers", "spend", "outcomes", "leads") and "market_id" in table.columns:
            out[name] = in_merged_markets(name, table, there if name in CUSTOMER_TABLES else here)
        elif name in ("sales_force", "field_notes", "experiments"):
            frame, dropped = small_in_merged_markets(name, table.to_pandas(), found)
            kept = pa.Table.from_pandas(frame, schema=table.schema().to_pyarrow(), preserve_index=False)
            out[name] = local.put(f"merged_{name}", kept)
            if dropped:
                warnings.append(
                    f"{dropped:,} field notes speak of a part of a merged market and are left out: what holds for a"
                    " part need not hold for the whole. Write them anew for the merged market, or merge less."
                )
    return out


def small_in_merged_markets(name: str, frame: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """``sales_force``, ``field_notes`` or ``experiments`` in merged ids, and how many rows are left out."""
    if name == "sales_force":
        return sales_force_in_merged_markets(frame, found), 0
    if name == "field_notes":
        return notes_in_merged_markets(frame, found)
    return (experiments_in_merged_markets(frame, found), 0) if name == "experiments" else (frame, 0)
