"""``plan.yml`` → frozen :class:`Settings`: unknown keys refused with a hint, every problem reported at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from micromarket import _data_readers as data
from micromarket import _readers as read
from micromarket._data_readers import CUSTOMER_TABLES as CUSTOMER_TABLES
from micromarket._readers import SectionReader
from micromarket._readers import expand_variables as expand_variables
from micromarket._sections import READERS, REQUIRED
from micromarket._yaml import parse
from micromarket.dates import LENGTHS, START, is_relative, resolve_as_of, resolve_plan
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.formats import parse_locale
from micromarket.settings import (
    FORMATS,
    LATER_ROWS,
    LATEST,
    PERIODS,
    RELATIONSHIPS,
    TABLES,
    Budget,
    Company,
    Economics,
    EngineSettings,
    FieldRound,
    Objective,
    Pinned,
    PlanPeriod,
    RepMoves,
    Report,
    RunRules,
    Settings,
    Source,
    Targets,
    Tests,
    WriteBack,
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
    "WriteBack",
    "expand_variables",
    "read_settings",
]


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


def read_run_rules(path: str | Path) -> RunRules:
    """The section ``run`` of a ``plan.yml`` that may be wrong everywhere else: who is told when it fails needs it."""
    try:
        path = Path(path).absolute()
        raw = parse(path.read_text(encoding="utf-8-sig"))
        return _run_rules(SectionReader(path.name), raw.get("run"), path.parent) or RunRules()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return RunRules()


def _run_rules(reader: SectionReader, raw: Any, folder: Path) -> RunRules | None:
    rules: RunRules | None = reader.section(raw, "run", RunRules, (), READERS[RunRules])
    return rules if rules is None or rules.log is None else replace(rules, log=folder / rules.log)


def _as_of(reader: SectionReader, raw: Mapping[str, Any], given: dt.date | None) -> tuple[dt.date | None, str]:
    """Day of the data, and what happens to later rows. ``given`` goes before what ``plan.yml`` says."""
    as_of: dt.date | None = given
    if "as_of" in raw:
        try:
            said = resolve_as_of(raw["as_of"])
            as_of = given or said
        except ValueError as error:
            reader.problem("as_of", raw["as_of"], str(error))
    # a day that a schedule names is often not the last one in the files; a day named by hand should be
    later = "leave out" if given is not None or is_relative(raw.get("as_of")) else "refuse"
    if raw.get("later_rows") is not None:
        try:
            later = read.choice(LATER_ROWS)(raw["later_rows"])
        except ValueError as error:
            reader.problem("later_rows", raw["later_rows"], str(error))
    return as_of, later


def _plan(reader: SectionReader, raw: Mapping[str, Any], as_of: dt.date | None) -> PlanPeriod | None:
    if "plan" not in raw:
        return None
    dates: Any = raw["plan"]
    if isinstance(dates, Mapping):
        unknown = [key for key in dates if key not in ("start", "end", *LENGTHS)]
        for key in unknown:
            reader.problem(f"plan.{key}", key, did_you_mean(str(key), ("start", "end", *LENGTHS)))
        try:
            dates = resolve_plan({k: v for k, v in dates.items() if k not in unknown}, as_of)
        except ValueError as error:
            key, value, text = error.args[0]
            reader.problem(f"plan.{key}", value, text)
            return None
        if as_of is None and isinstance(dates.get("start"), str) and dates["start"] in START:
            return None  # as_of is the problem, and told
    plan: PlanPeriod | None = reader.section(dates, "plan", PlanPeriod, REQUIRED[PlanPeriod], READERS[PlanPeriod])
    if plan is not None and plan.end < plan.start:
        reader.problem("plan.end", plan.end, f"a day on or after plan.start ({plan.start})")
    if plan is not None and as_of is not None and plan.end <= as_of:
        reader.problem("plan.end", plan.end, f"a day after as_of ({as_of})")
    return plan


def _previous(reader: SectionReader, raw: Any, folder: Path) -> Path | None:
    if raw is None:
        return None
    try:
        said = expand_variables(read.text(raw))
        if said == str(LATEST):
            return LATEST
        if not (folder / said).is_dir():
            raise ValueError("latest, the folder of a finished run, or the folder that runs are in")
        return folder / said
    except ValueError as error:
        reader.problem("previous_run", raw, str(error))
        return None


def read_settings(path: str | Path, as_of: dt.date | None = None, pinned: Pinned | None = None) -> Settings:
    """Reads ``plan.yml``.

    Parameters
    ----------
    path : str or Path
    as_of : date, optional
        Day of the data, in the place of the one in ``plan.yml``; rows of a later day are then left out.
    pinned : Pinned, optional
        What the run that a stage belongs to has settled; goes before all else.

    Returns
    -------
    Settings
        Frozen, with every default filled in.

    Raises
    ------
    InputError
        Listing every problem: unreadable file, unknown key (with the nearest known one), wrong type or range,
        dates in the wrong order, missing required keys.
    """
    path = Path(path).absolute()
    file = path.name
    try:
        raw = parse(path.read_text(encoding="utf-8-sig"))
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
        if key not in raw and REQUIRED[cls]:
            return None
        return reader.section(raw.get(key), key, cls, REQUIRED[cls], READERS[cls])

    as_of, later_rows = _as_of(reader, raw, pinned.as_of if pinned is not None else as_of)
    parts = {
        "plan": _plan(reader, raw, as_of),
        "run": _run_rules(reader, raw.get("run"), path.parent),
        "company": section("company", Company),
        "economics": section("economics", Economics),
        "budget": section("budget", Budget),
        "targets": section("targets", Targets),
        "tests": section("tests", Tests),
        "report": section("report", Report),
        "write_back": None if raw.get("write_back") is None else section("write_back", WriteBack),
    }
    engine = EngineSettings()
    try:
        engine = EngineSettings(**data.engine(raw.get("engine"), path.parent), file=file)
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
    previous = _previous(reader, None if pinned is not None else raw.get("previous_run"), path.parent)
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
        previous_run=previous if pinned is None else pinned.previous_run,
        later_rows=later_rows if pinned is None else pinned.later_rows,
        geography=geography,
        locale=locale,
        **parts,
    )
