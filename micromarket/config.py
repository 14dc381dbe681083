"""``plan.yml`` → frozen :class:`Settings`: unknown keys refused with a hint, every problem reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from micromarket import _data_readers as data
from micromarket import _readers as read
from micromarket._data_readers import CUSTOMER_TABLES as CUSTOMER_TABLES
from micromarket._readers import SectionReader
from micromarket._readers import expand_variables as expand_variables
from micromarket._yaml import Loader as _Loader
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.formats import parse_locale
from micromarket.settings import (
    FORMATS,
    PERIODS,
    RELATIONSHIPS,
    TABLES,
    Budget,
    Company,
    Economics,
    EngineSettings,
    FieldRound,
    Objective,
    PlanPeriod,
    RepMoves,
    Report,
    Settings,
    Source,
    Targets,
    Tests,
)

__all__ = [
    "CUSTOMER_TABLES",
    "FORMATS",
    "PERIODS",
    "RELATIONSHIPS",
    "TABLES",
    "Budget",
    "Company",
    "Economics",
    "EngineSettings",
    "FieldRound",
    "Objective",
    "PlanPeriod",
    "RepMoves",
    "Report",
    "Settings",
    "Source",
    "Targets",
    "Tests",
    "expand_variables",
    "read_settings",
]

_FIELD_ROUND: dict[str, Callable] = {
    "cap": read.number(0, 0.5, "a fraction from 0 to 0.5"),
    "weight": read.number(0, 1, "a fraction from 0 to 1"),
    "within": read.choice(("region", "company")),
}
_REP_MOVES: dict[str, Callable] = {
    "max_moves": read.number(0, 1, "a fraction from 0 to 1"),
    "within": read.choice(("region", "company")),
    "ramp_months": read.number(0, 24, "months from 0 to 24"),
    "min_gain": read.number(0, 1, "a fraction from 0 to 1"),
}
_READERS: dict[type, dict[str, Callable]] = {
    Company: {"name": read.text, "currency": read.currency},
    PlanPeriod: {"start": read.date, "end": read.date},
    Economics: {
        "relationship": read.choice(RELATIONSHIPS),
        "margin_rate": read.number(0, 1, "a fraction from 0 to 1"),
        "discount_rate": read.number(0, 1, "a fraction per year from 0 to 1"),
        "horizon_months": read.whole(1, 600, "a whole number of months from 1 to 600"),
        "servicing_cost": read.number(0, 1e12, "money per customer and month, at least 0"),
    },
    Budget: {
        "total": read.total,
        "max_shift": read.number(0, 1, "a fraction from 0 to 1"),
        "market_change": read.band,
        "cell_change": read.band,
        "channel_change": read.band,
        "region_change": read.band,
        "min_return": read.number(0, 1e9, "value per unit of money, at least 0"),
        "risk_aversion": read.number(0, 100, "a number from 0 (none) to 100"),
        "test_reserve": read.number(0, 0.5, "a fraction from 0 to 0.5"),
        "min_ticket": read.number(0, 1e12, "money, at least 0"),
        "round_to": read.number(0.01, 1e9, "money, at least 0.01"),
    },
    Targets: {
        "growth": read.number(-0.9, 10, "a fraction from -0.9 to 10"),
        "split": read.choices(("market", "segment"), first="market"),
        "period": read.choice(PERIODS),
        "attainment": read.number(0.05, 0.95, "a probability from 0.05 to 0.95"),
        "objective": lambda raw: Objective(**read.weights(raw, ("acquire", "deepen", "retain"))),
        "field_round": lambda raw: FieldRound(**read.mapping(raw, _FIELD_ROUND)),
        "reps": lambda raw: RepMoves(**read.mapping(raw, _REP_MOVES)),
    },
    Tests: {
        "channels": read.names,
        "force_in": read.names,
        "force_out": read.names,
        "most_markets": read.whole(1, 100_000, "a whole number of markets, at least 1"),
        "cells": read.whole(1, 6, "a whole number from 1 to 6"),
        "most_volume": read.number(0.01, 1, "a fraction from 0.01 to 1"),
        "buffer": read.flag,
        "run": read.choice(("where it pays", "always")),
    },
    Report: {
        "formats": read.choices(FORMATS),
        "min_cell": read.whole(1, 10_000, "a whole number of customers, at least 1"),
    },
}
_REQUIRED: dict[type, tuple[str, ...]] = {
    Company: ("name",), PlanPeriod: ("start", "end"), Economics: ("relationship",), Budget: (), Targets: (), Tests: (),
    Report: (),
}  # fmt: skip


def _segments(raw: Any) -> Any:
    from micromarket.segmentation.rules import read_segments  # rules are the package's own; it lies below this one

    return read_segments(raw)


def _geography(reader: SectionReader, raw: Any, folder: Path) -> Any:
    if raw is None:
        return None
    from micromarket.geography.keys import read_geography  # as above; and it waits for geopandas

    return read_geography(reader, raw, folder)


def _sources(
    reader: SectionReader, raw: Any, folder: Path, engine: EngineSettings, hexagons: bool
) -> dict[str, Source]:
    if not isinstance(raw, Mapping):
        reader.problems.append(Problem(reader.file, "a mapping of tables to files", column="data"))
        return {}
    sources: dict[str, Source] = {}
    for table, value in raw.items():
        if table not in TABLES:
            reader.problem(f"data.{table}", table, did_you_mean(table, TABLES))
        elif value is not None:
            try:
                sources[table] = Source(table, **data.source(table, value, folder, engine.kind, engine.connection))
            except ValueError as error:
                reader.problem(f"data.{table}", value if isinstance(value, str) else "a mapping", str(error))
    if hexagons and raw.get("markets") is not None:
        expected = "either data.markets or geography.hexagons, which makes markets"
        reader.problems.append(Problem(reader.file, expected, column="geography.hexagons"))
    for table in ("customers",) if hexagons else ("markets", "customers"):
        if table not in raw:
            reader.problems.append(Problem(reader.file, "this key, it is required", column=f"data.{table}"))
    purchases = ("transactions", "subscriptions", "customer_summary")
    if not any(t in raw for t in purchases):
        reader.problems.append(Problem(reader.file, f"one of {', '.join(purchases)}", column="data"))
    return sources


def read_settings(path: str | Path) -> Settings:
    """Reads ``plan.yml``.

    Raises
    ------
    InputError
        Listing every problem: unreadable file, unknown key (with the nearest known one), wrong type or range,
        dates in the wrong order, missing required keys.
    """
    path = Path(path).absolute()
    file = path.name
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(str(path), "a readable UTF-8 file", value=type(error).__name__)]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        row = mark.line + 1 if mark else None
        raise InputError([Problem(file, f"YAML ({getattr(error, 'problem', 'not readable')})", row=row)]) from error
    if not isinstance(raw, Mapping):
        raise InputError([Problem(file, "a mapping of keys to values", value=shown(raw))])

    reader = SectionReader(file)
    known = [f.name for f in fields(Settings) if f.name != "path"]
    for key in raw:
        if key not in known:
            reader.problem(str(key), key, did_you_mean(key, known))
    for key in ("company", "as_of", "plan", "economics", "data"):
        if key not in raw:
            reader.problems.append(Problem(file, "this key, it is required", column=key))

    def section(key: str, cls: type) -> Any:
        if key not in raw and _REQUIRED[cls]:
            return None
        return reader.section(raw.get(key), key, cls, _REQUIRED[cls], _READERS[cls])

    parts = {
        "company": section("company", Company),
        "plan": section("plan", PlanPeriod),
        "economics": section("economics", Economics),
        "budget": section("budget", Budget),
        "targets": section("targets", Targets),
        "tests": section("tests", Tests),
        "report": section("report", Report),
    }
    as_of = None
    if "as_of" in raw:
        try:
            as_of = read.date(raw["as_of"])
        except ValueError as error:
            reader.problem("as_of", raw["as_of"], str(error))
    plan = parts["plan"]
    if plan is not None and plan.end < plan.start:
        reader.problem("plan.end", plan.end, f"a day on or after plan.start ({plan.start})")
    if plan is not None and as_of is not None and plan.end <= as_of:
        reader.problem("plan.end", plan.end, f"a day after as_of ({as_of})")
    engine = EngineSettings()
    try:
        engine = EngineSettings(**data.engine(raw.get("engine"), path.parent))
    except ValueError as error:
        reader.problem("engine", raw["engine"] if isinstance(raw["engine"], str) else "a mapping", str(error))
    segments: Any = "auto"
    try:
        segments = _segments(raw.get("segments"))
    except ValueError as error:
        given = raw["segments"]
        reader.problem("segments", given if isinstance(given, str) else "a mapping", str(error))
    geography = _geography(reader, raw.get("geography"), path.parent)
    hexagons = isinstance(raw.get("geography"), Mapping) and raw["geography"].get("hexagons") is not None
    sources = _sources(reader, raw.get("data"), path.parent, engine, hexagons) if "data" in raw else {}
    features = raw.get("features")
    if features is not None and (not isinstance(features, list) or not all(isinstance(f, str) for f in features)):
        reader.problem("features", features, "a list of column names of the markets table")
        features = None
    previous = raw.get("previous_run")
    try:
        previous = None if previous is None else path.parent / expand_variables(read.text(previous))
        if previous is not None and not previous.is_dir():
            raise ValueError("the folder of a finished run, or the folder that runs are in")
    except ValueError as error:
        reader.problem("previous_run", raw["previous_run"], str(error))
    locale = None
    if raw.get("locale") is not None:
        try:
            locale = str(parse_locale(read.text(raw["locale"])))
        except ValueError as error:
            reader.problem("locale", raw["locale"], str(error))
    seed = raw.get("seed", 1)
    try:
        seed = read.whole(0, 2**31 - 1, "a whole number of at least 0")(seed)
    except ValueError as error:
        reader.problem("seed", seed, str(error))
    economics = parts["economics"]
    contractual = economics is not None and economics.relationship == "contractual"
    if contractual and sources and "subscriptions" not in sources:
        reader.problems.append(Problem(file, "data.subscriptions, as the relationship is contractual", column="data"))
    if economics is not None and economics.margin_rate is None and sources and "transactions" not in sources:
        expected = "this key, as only transactions can carry their own margin"
        reader.problems.append(Problem(file, expected, column="economics.margin_rate"))
    if reader.problems:
        raise InputError(reader.problems)
    assert as_of is not None
    return Settings(
        path=path,
        as_of=as_of,
        data=sources,
        features=None if features is None else tuple(features),
        seed=seed,
        engine=engine,
        segments=segments,
        previous_run=previous,
        geography=geography,
        locale=locale,
        **parts,
    )
