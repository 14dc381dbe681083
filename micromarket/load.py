"""The company's tables, validated and typed: :func:`open_dataset` is the door to a user's data.

Nothing about single customers leaves the engine; the stages ask it for aggregates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import ibis
import pandas as pd
import pyarrow as pa
from ibis.common.exceptions import IbisError

from micromarket import geography
from micromarket.config import CUSTOMER_TABLES, Settings
from micromarket.engines import CountingEngine, open_engine, read_inside, without_row_numbers
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.sources import ROW, Engine, RawTable, read_source
from micromarket.tables import RULES, TABLE_SCHEMAS
from micromarket.validate import as_number, check_references, check_table, is_missing, typed

#: Columns of ``markets`` that are never taken for features.
_NOT_FEATURES = {*TABLE_SCHEMAS["markets"].columns, "longitude", "latitude", "lon", "lat", "x", "y", "geometry"}
_POINT_TOLERANCE_KM = 5.0


@dataclass
class Dataset:
    """The company's tables. A context manager; close it when done.

    Attributes
    ----------
    engine : CountingEngine
        Where the tables of customers, purchases and contracts are, and are counted (``engine`` in ``plan.yml``).
    local : Engine
        The DuckDB that read the files; it holds all other tables.
    markets : GeoDataFrame or DataFrame
        One row a market, geometry (WGS 84) where the company has any, features as floats.
    features : tuple of str
        Columns of ``markets`` that may explain potential.
    rows : dict
        Rows of each table.
    warnings : list of str
        What was found odd but not wrong.
    """

    settings: Settings
    engine: CountingEngine
    local: Engine
    tables: dict[str, ibis.Table]
    markets: pd.DataFrame
    features: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _kept: dict[str, ibis.Table] = field(default_factory=dict, repr=False)

    def has(self, table: str) -> bool:
        return table in self.tables

    def table(self, table: str) -> ibis.Table:
        """A table with the contract's names and types (text, float64, date). Lazy: ask it for aggregates."""
        if table not in self.tables:
            raise KeyError(f"no table {table!r}; there are {', '.join(self.tables)}")
        return self.tables[table]

    def frame(self, table: str) -> pd.DataFrame | None:
        """A *small* table (field notes, experiments, sales force) as a frame; ``None`` where it is absent."""
        return self.tables[table].to_pandas() if table in self.tables else None

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table:
        """An expression over the engine's tables, computed once where they are and then read many times.

        ``name`` is the caller's own (letters, digits, ``_``); a second table kept under it replaces the first.
        ``parts``: a column that the expression is grouped by, and in how many parts its values may be taken one after
        the other, so that a grouping of more than fits into memory needs no disk.
        """
        self._kept[name] = self.engine.keep(f"_kept_{name}", table, parts)
        return self._kept[name]

    def kept(self, name: str) -> ibis.Table:
        """What :meth:`keep` keeps under ``name``."""
        return self._kept[name]

    def put(self, name: str, frame: pd.DataFrame | pa.Table) -> ibis.Table:
        """A *small* frame as a table of the engine, to join with."""
        return self.engine.put(f"_put_{name}", frame)

    def save(self, table: ibis.Table, path: Path) -> None:
        """An engine's table as Parquet, without a detour over memory (on Spark: a folder of files)."""
        self.engine.save(table, path)

    def close(self) -> None:
        if self.engine is not self.local:
            self.engine.close()
        self.local.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_dataset(settings: Settings) -> Dataset:
    """Reads, validates and types every table that ``plan.yml`` names.

    Raises
    ------
    InputError
        With *all* problems of all tables: unreadable files, missing columns, wrong types, values out of range,
        duplicate keys, unknown markets and customers, dates after ``as_of``, geometry without CRS.
    """
    local = Engine(settings.engine.memory_limit, settings.engine.threads)
    engine: CountingEngine = local
    try:
        engine = open_engine(settings.engine, local)
        return _open(settings, local, engine)
    except BaseException:
        if engine is not local:
            engine.close()
        local.close()
        raise


def check(settings: Settings) -> dict[str, int]:
    """Validates everything and writes nothing; returns the rows of each table. Raises as :func:`open_dataset`."""
    with open_dataset(settings) as dataset:
        return dict(dataset.rows)


def _open(settings: Settings, local: Engine, engine: CountingEngine) -> Dataset:
    problems: list[Problem] = []
    warnings: list[str] = []
    raws: dict[str, RawTable] = {}
    for table, source in settings.data.items():
        try:
            raws[table] = read_inside(engine, source) if source.inside else read_source(local, source)
        except InputError as error:
            problems += error.problems
    sound: dict[str, ibis.Table] = {}
    for table, raw in raws.items():
        try:
            found = check_table(raw, settings.as_of)
        except IbisError as error:
            if not raw.source.inside:
                raise
            expected = "an engine that knows days and what is no number: DuckDB, Spark, PostgreSQL and their likes"
            found = [Problem(raw.source.shown_as, expected, value=shown(str(error).splitlines()[0], 160))]
        problems += found
        if not found:
            sound[table] = typed(raw)
    problems += _check_references(raws, sound, engine)
    features: tuple[str, ...] = ()
    if "markets" in sound:
        found, features = _choose_features(settings, raws["markets"], warnings)
        problems += found
    economics = settings.economics
    purchases = sound.get("transactions") if economics.relationship == "non-contractual" else None
    if purchases is not None and economics.margin_rate is None and "margin" not in purchases.columns:
        expected = "this column, or economics.margin_rate in plan.yml"
        problems.append(Problem(raws["transactions"].source.shown_as, expected, column="margin"))
    if problems:
        raise InputError(problems)
    markets = _read_markets(sound["markets"], raws["markets"], features, warnings)
    if "market_id" not in sound["customers"].columns:
        home = engine if settings.data["customers"].inside else local
        sound["customers"] = _place_customers(home, sound["customers"], markets, settings, warnings)
    rows = {t: int(table.count().execute()) for t, table in sound.items()}
    tables = {
        t: engine.take(t, table) if t in CUSTOMER_TABLES and not settings.data[t].inside else table
        for t, table in sound.items()
    }
    return Dataset(settings, engine, local, tables, markets, features, rows, warnings)


def _check_references(raws: dict[str, RawTable], sound: dict[str, ibis.Table], engine: CountingEngine) -> list[Problem]:
    """Unknown markets and customers. Where one side lives in the engine, the other's ids are brought there."""
    problems, brought = [], {}

    def there(table: str) -> ibis.Table:
        if raws[table].source.inside:
            return sound[table]
        if table not in brought:
            columns = [c for c in sound[table].columns if c.endswith("_id")]
            brought[table] = engine.take(f"{table}_ids", sound[table].select(columns))
        return brought[table]

    for table in sound:
        others = [other for other, _ in RULES[table].references.values() if other in sound]
        if any(raws[t].source.inside for t in (table, *others)):
            raw = raws[table] if raws[table].source.inside else without_row_numbers(raws[table].source, there(table))
            problems += check_references(raw, {other: there(other) for other in others})
        else:
            problems += check_references(raws[table], sound)
    return problems


def _choose_features(settings: Settings, raw: RawTable, warnings: list[str]) -> tuple[list[Problem], tuple[str, ...]]:
    """The features asked for, or every further column whose values are all numbers (one that nearly is: a warning)."""
    table, file = raw.table, raw.source.shown_as
    candidates = [c for c in table.columns if c not in _NOT_FEATURES]
    if settings.features is not None:
        unknown = [f for f in settings.features if f not in candidates]
        problems = [
            Problem(settings.path.name, did_you_mean(f, candidates), "features", value=shown(f)) for f in unknown
        ]
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


def _read_markets(table: ibis.Table, raw: RawTable, features: tuple[str, ...], warnings: list[str]) -> pd.DataFrame:
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
        frame[column] = frame[column].fillna(default).astype("str")
    for column in ("addressable_customers", "market_customers"):
        if column not in frame.columns:
            frame[column] = float("nan")
    if frame["market_customers"].gt(frame["addressable_customers"]).any():
        n = int(frame["market_customers"].gt(frame["addressable_customers"]).sum())
        warnings.append(
            f"{n:,} markets hold more buyers (market_customers) than people who could buy (addressable_customers);"
            " one of the two columns is off there."
        )
    frame = frame.sort_values("market_id", kind="stable").reset_index(drop=True)
    if "geometry" in frame.columns:
        warnings += [f"{text[0].upper()}{text[1:]}." for text in geography.validate_geometry(frame)]
    return geography.prepare_markets(frame)


def _place_customers(
    engine: CountingEngine, customers: ibis.Table, markets: pd.DataFrame, settings: Settings, warnings: list[str]
) -> ibis.Table:
    """Customers given as points get the market that holds them (or the nearest one within a tolerance)."""
    if "geometry" not in markets.columns:
        file = settings.data["customers"].shown_as
        expected = "market_id, as the markets have no geometry to place longitude and latitude in"
        raise InputError([Problem(file, expected, column="market_id")])
    points = customers.select("customer_id", "longitude", "latitude").to_pandas()
    points["market_id"] = geography.assign_points(
        points["longitude"], points["latitude"], markets, tolerance_km=_POINT_TOLERANCE_KM
    ).to_numpy()
    outside = int(points["market_id"].isna().sum())
    if outside:
        if outside > 0.05 * len(points):
            first = int(points["market_id"].isna().to_numpy().argmax())
            at = f"{points['longitude'].iloc[first]}, {points['latitude'].iloc[first]}"
            expected = f"a point in a market, or within {_POINT_TOLERANCE_KM:g} km of one"
            file = settings.data["customers"].shown_as
            raise InputError([Problem(file, expected, "longitude", value=at, more=outside - 1)])
        warnings.append(f"{outside:,} of {len(points):,} customers live in no market and are left out.")
    placed = engine.put("_customer_places", points.loc[points["market_id"].notna(), ["customer_id", "market_id"]])
    return customers.inner_join(placed, "customer_id")
