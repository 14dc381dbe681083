"""The company's tables, validated and typed: :func:`open_dataset` is the door to a user's data.

Nothing about single customers leaves the engine; the stages ask it for aggregates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
from ibis.common.exceptions import IbisError

from micromarket.config import CUSTOMER_TABLES, Settings
from micromarket.engines import CountingEngine, open_engine, read_inside, without_row_numbers
from micromarket.errors import InputError, Problem, shown
from micromarket.geography import company as shaping
from micromarket.geography.hierarchy import nesting_problems
from micromarket.geography.merged import in_merged_tables
from micromarket.geography.placing import place_customers, place_in_hexagons
from micromarket.later import all_as_they_stood
from micromarket.market_table import SIZES, choose_features, read_markets, warn_of_sizes
from micromarket.plausibility import View, odd_between_tables, odd_columns, odd_in_table, odd_markets
from micromarket.sources import Engine, RawTable, read_source
from micromarket.tables import RULES, TABLE_SCHEMAS
from micromarket.validate import check_references, check_table, typed


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
    market_map : DataFrame or None
        Where ``geography.merge`` joined markets: ``original_id`` in the company's files, ``market_id`` here.
    census_coverage : DataFrame or None
        ``market_id, source, coverage``: share of each market's area that a census file covers.
    shaped : dict
        What ``geography`` did, for the notes.
    """

    settings: Settings
    engine: CountingEngine
    local: Engine
    tables: dict[str, ibis.Table]
    markets: pd.DataFrame
    features: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    market_map: pd.DataFrame | None = None
    census_coverage: pd.DataFrame | None = None
    shaped: dict[str, Any] = field(default_factory=dict)
    _kept: dict[str, ibis.Table] = field(default_factory=dict, repr=False)

    def has(self, table: str) -> bool:
        """Whether the company has the table."""
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
        """Closes the engines; what they kept is gone."""
        if self.engine is not self.local:
            self.engine.close()
        self.local.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_dataset(settings: Settings) -> Dataset:
    """Reads, validates and types every table that ``plan.yml`` names.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    Dataset
        A context manager: its engine is closed at the end of the ``with`` block.

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
    """Validates everything and writes nothing.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    dict
        Rows of each table.

    Raises
    ------
    InputError
        As :func:`open_dataset`.
    """
    with open_dataset(settings) as dataset:
        return dict(dataset.rows)


def _open(settings: Settings, local: Engine, engine: CountingEngine) -> Dataset:
    problems: list[Problem] = []
    warnings: list[str] = []
    shaped = shaping.Shaped(warnings=warnings)
    raws: dict[str, RawTable] = {}
    places = settings.geography.sources if settings.geography is not None else {}
    for table, source in {**settings.data, **places}.items():
        try:
            raws[table] = read_inside(engine, source) if source.inside else read_source(local, source)
        except InputError as error:
            problems += error.problems
    raws = all_as_they_stood(raws, settings)
    sound: dict[str, ibis.Table] = {}
    for table, raw in raws.items():
        if table in places:
            continue
        try:
            found = check_table(raw, settings.as_of)
            if not found:
                sound[table] = _typed(local, raw)
        except duckdb.Error as error:  # a file whose inside is damaged shows only when all of it is read
            text = str(error).strip().splitlines()[0]
            found = [Problem(raw.source.shown_as, "a readable file", value=shown(text, 160))]
        except IbisError as error:
            if not raw.source.inside:
                raise
            expected = "an engine that knows days and what is no number: DuckDB, Spark, PostgreSQL and their likes"
            found = [Problem(raw.source.shown_as, expected, value=shown(str(error).splitlines()[0], 160))]
        problems += found
    if settings.geography is not None and settings.geography.hexagons is not None and "customers" in sound:
        try:
            home = engine if settings.data["customers"].inside else local
            sound["customers"], raws["customers"], raws["markets"] = place_in_hexagons(
                local, home, sound["customers"], raws["customers"], settings.geography.hexagons,
                raws.get("geography.boundary"), settings.report.min_cell, shaped,
            )  # fmt: skip
            sound["markets"] = _typed(local, raws["markets"])
        except InputError as error:
            problems += error.problems
    tables = {t: raw for t, raw in raws.items() if t not in places}
    problems += _check_references(tables, sound, engine)
    features: tuple[str, ...] = ()
    census = settings.geography.census if settings.geography is not None else ()
    if "markets" in sound:
        for part in census:
            if part.source.table in raws:
                columns = [c for c in raws["markets"].table.columns if c not in part.variables or c not in SIZES]
                problems += shaping.census_problems(part, raws[part.source.table], columns)
        found, features = choose_features(settings, raws["markets"], warnings, [v for c in census for v in c.variables])
        problems += found
    economics = settings.economics
    purchases = sound.get("transactions") if economics.relationship == "non-contractual" else None
    if purchases is not None and economics.margin_rate is None and "margin" not in purchases.columns:
        expected = "this column, or economics.margin_rate in plan.yml"
        problems.append(Problem(raws["transactions"].source.shown_as, expected, column="margin"))
    if problems:
        raise InputError(problems)
    own = tuple(f for f in features if f in sound["markets"].columns)
    markets = read_markets(sound["markets"], raws["markets"], own, warnings)
    coverage = {}
    for part in census:
        markets, coverage[part.source.shown_as] = shaping.add_census(markets, part, raws[part.source.table], shaped)
    warn_of_sizes(markets, warnings)
    if "market_id" not in sound["customers"].columns:
        home = engine if settings.data["customers"].inside else local
        file = settings.data["customers"].shown_as
        sound["customers"] = place_customers(home, sound["customers"], markets, file, warnings)
    rows = {t: int(table.count().execute()) for t, table in sound.items()}
    warnings += _odd(settings, local, sound, raws, markets, own)
    covered = shaping.coverage_table(coverage)
    force = sound["sales_force"].to_pandas() if "sales_force" in sound else None
    territory = None if force is None else pd.Series(force["territory"].to_numpy(), index=force["market_id"].to_numpy())
    warnings += nesting_problems(
        markets.assign(territory=markets["market_id"].map({} if territory is None else territory))
    )
    tables = {
        t: engine.take(t, table) if t in CUSTOMER_TABLES and not settings.data[t].inside else table
        for t, table in sound.items()
    }
    market_map = None
    if settings.geography is not None and settings.geography.merge is not None:
        merged = shaping.merge_markets(
            markets, shaping.customers_now(tables, settings), settings.geography.merge, census, territory,
            raws.get("geography.map"), shaped,
        )  # fmt: skip
        markets, market_map = merged.markets, merged.map
        tables = in_merged_tables(tables, market_map, local, engine, warnings)
        covered = None if covered is None else shaping.merged_coverage(covered, market_map)
    return Dataset(
        settings, engine, local, tables, markets, features, rows, warnings, market_map, covered, shaped.numbers
    )


#: Tables of up to so many rows are typed once and kept; larger ones whenever they are asked, without a copy.
_KEPT_ROWS = 2_000_000


def _typed(local: Engine, raw: RawTable) -> ibis.Table:
    """A table of the contract's types; where it was read here, under a name that questions can be put to in SQL."""
    table = typed(raw)
    if raw.source.inside:
        return table
    name = f"typed_{raw.source.table}"
    rows = int(raw.table.count().execute())  # it may have no name: without the rows of later days
    kind = "TABLE" if rows <= _KEPT_ROWS else "VIEW"
    local.duck.execute(f'CREATE OR REPLACE {kind} "{name}" AS {ibis.to_sql(table, dialect="duckdb")}')
    return local.ibis.table(name)


def _odd(
    settings: Settings,
    local: Engine,
    sound: dict[str, ibis.Table],
    raws: dict[str, RawTable],
    markets: pd.DataFrame,
    features: tuple[str, ...],
) -> list[str]:
    """What breaks no rule and is odd all the same (:mod:`micromarket.plausibility`); tables elsewhere are left out."""
    found, views = [], {}
    for table in sound:
        raw = raws[table]
        found += odd_columns(raw)
        if not raw.source.inside:
            columns = tuple(c for c in raw.table.columns if c in TABLE_SCHEMAS[table].columns)
            views[table] = View(local.duck, f"typed_{table}", columns)
            if table != "markets":
                found += odd_in_table(views[table], raw, settings.as_of)
    file = {t: raw.source.shown_as for t, raw in raws.items()}
    found += odd_markets(markets, features, file["markets"], frozenset(raws["markets"].table.columns))
    contractual = settings.economics.relationship == "contractual"
    return found + odd_between_tables(views, file, markets, settings.as_of, contractual)


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
