"""The table of markets: its features (columns that may explain potential), names, regions and shapes."""

from __future__ import annotations

import geopandas as gpd
import ibis
import pandas as pd

from micromarket import geography
from micromarket.config import Settings
from micromarket.errors import Problem, did_you_mean, shown
from micromarket.sources import ROW, RawTable
from micromarket.tables import TABLE_SCHEMAS
from micromarket.validate import as_number, is_missing

#: Columns of ``markets`` that are never taken for features.
SIZES = ("addressable_customers", "market_customers")
_NOT_FEATURES = {*TABLE_SCHEMAS["markets"].columns, "longitude", "latitude", "lon", "lat", "x", "y", "geometry"}


def choose_features(
    settings: Settings, raw: RawTable, warnings: list[str], census: list[str]
) -> tuple[list[Problem], tuple[str, ...]]:
    """The features asked for, or every further column whose values are all numbers (one that nearly is: a warning).

    ``census``: columns that the markets get from elsewhere.
    """
    problems, numeric = _own_features(settings, raw, warnings, census)
    asked = settings.features
    unasked = [c for c in census if asked is not None and c not in asked and c not in _NOT_FEATURES]
    if unasked:
        which = ", ".join(map(shown, unasked[:5])) + (" and more" if len(unasked) > 5 else "")
        warnings.append(f"{which} of geography.census explain nothing: the list features doesn't name them.")
    return problems, (*numeric, *(c for c in census if c not in _NOT_FEATURES and (asked is None or c in asked)))


def _own_features(
    settings: Settings, raw: RawTable, warnings: list[str], census: list[str]
) -> tuple[list[Problem], tuple[str, ...]]:
    table, file = raw.table, raw.source.shown_as
    candidates = [c for c in table.columns if c not in _NOT_FEATURES]
    if settings.features is not None:
        known = [*candidates, *census]
        unknown = [f for f in settings.features if f not in known]
        problems = [Problem(settings.path.name, did_you_mean(f, known), "features", value=shown(f)) for f in unknown]
        wanted = [f for f in settings.features if f in candidates]
    else:
        problems, wanted = [], [c for c in candidates if not c.endswith("_id")]
    if not wanted:
        return problems, ()
    odd = {f: (~is_missing(table[f], "number") & as_number(table[f]).isnull()) for f in wanted}
    counts = table.aggregate(
        **{f"odd{i}": odd[f].fill_null(False).sum() for i, f in enumerate(wanted)},
        **{f"n{i}": as_number(table[f]).count() for i, f in enumerate(wanted)},
    ).to_pyarrow().to_pylist()[0]  # fmt: skip
    numeric = []
    for i, f in enumerate(wanted):
        if not counts[f"odd{i}"] and counts[f"n{i}"]:
            numeric.append(f)
        elif settings.features is None:
            if 0 < 5 * counts[f"odd{i}"] < counts[f"n{i}"]:
                some = f"{counts[f'odd{i}']:,} of its values are no numbers"
                warnings.append(f"The column {shown(f)} of {file} is not used to explain potential: {some}.")
        else:
            numbered = raw.numbered
            bad = numbered.filter(~is_missing(numbered[f], "number") & as_number(numbered[f]).isnull()).select(ROW, f)
            first = bad.order_by(ROW).limit(1).to_pyarrow().to_pylist()
            row, value = (first[0][ROW], shown(first[0][f])) if first else (None, "nothing in any row")
            problems.append(Problem(file, "a number in every row", f, row, value, max(counts[f"odd{i}"] - 1, 0)))
    return problems, tuple(numeric)


def read_markets(table: ibis.Table, raw: RawTable, features: tuple[str, ...], warnings: list[str]) -> pd.DataFrame:
    """Markets with names, regions and shapes, sorted by id; what is amiss with shapes goes to ``warnings``."""
    known = [c for c in TABLE_SCHEMAS["markets"].columns if c in table.columns]
    frame = table.select(*[table[c] for c in known], **{f: as_number(table[f]) for f in features}).to_pandas()
    if "geometry" in frame.columns:
        geometry = gpd.GeoSeries.from_wkb(
            frame["geometry"].map(lambda b: bytes(b) if b is not None else None), crs=raw.crs
        )
        frame = gpd.GeoDataFrame(frame.drop(columns="geometry"), geometry=geometry, crs=raw.crs)
    for column, default in (("name", frame["market_id"]), ("region", "All")):
        if column not in frame.columns:
            frame[column] = default
        frame[column] = frame[column].fillna(default).astype("str").map(_readable)
    for column in ("addressable_customers", "market_customers"):
        if column not in frame.columns:
            frame[column] = float("nan")
    frame = frame.sort_values("market_id", kind="stable").reset_index(drop=True)
    if "geometry" in frame.columns:
        warnings += [f"{text[0].upper()}{text[1:]}." for text in geography.validate_geometry(frame)]
    return geography.prepare_markets(frame)


def _readable(name: str) -> str:
    """A name as it stands in lists, on maps and in a terminal: one line, in the direction of its own letters."""
    plain = "".join(" " if c.isspace() else "" if c in _UNSEEN else c for c in name)
    return " ".join(plain.split()) or name


#: Turns of direction, byte order marks and blanks without width; not the joiners that some scripts need.
_UNSEEN = frozenset("\u061c\u200b\u200e\u200f\u2060\ufeff") | {
    chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def warn_of_sizes(markets: pd.DataFrame, warnings: list[str]) -> None:
    """More buyers than people who could buy."""
    n = int(markets["market_customers"].gt(markets["addressable_customers"]).sum())
    if n:
        warnings.append(
            f"{n:,} markets hold more buyers (market_customers) than people who could buy (addressable_customers);"
            " one of the two columns is off there."
        )
