"""``geography`` in ``plan.yml``, read and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from micromarket import _data_readers as tables
from micromarket import _readers as read
from micromarket._readers import SectionReader
from micromarket.config import Source
from micromarket.errors import did_you_mean

COARSEST, FINEST = 2, 9  # hexagons finer than a city block would show where single customers live
WITHIN = ("country", "region", "territory")


@dataclass(frozen=True)
class Census:
    """Areas with figures of their own, brought to the markets. ``weight``: count that rates are averaged by."""

    source: Source
    extensive: tuple[str, ...] = ()
    intensive: tuple[str, ...] = ()
    weight: str | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.extensive, *self.intensive)


@dataclass(frozen=True)
class Hexagons:
    """H3 markets. ``boundary``: polygons that are filled with hexagons, without customers too; ``name``: of theirs."""

    resolution: int
    boundary: Source | None = None
    name: str | None = None


@dataclass(frozen=True)
class Merge:
    """Markets under ``minimum_customers`` join a neighbour with the same labels ``within``.

    ``sum``: feature columns that count something and add up; others are averaged. ``map``: an earlier run's
    ``market_map``, applied as it is: the markets stay what they were.
    """

    minimum_customers: int = 100
    within: tuple[str, ...] = ("region",)
    sum: tuple[str, ...] = ()
    map: Source | None = None


@dataclass(frozen=True)
class Geography:
    """The section as a whole; what is not there is ``None`` or empty."""

    census: tuple[Census, ...] = ()
    hexagons: Hexagons | None = None
    merge: Merge | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """Every file it reads, by a name of its own (``geography.…``)."""
        found = [c.source for c in self.census]
        found += [s for s in (self.hexagons and self.hexagons.boundary, self.merge and self.merge.map) if s]
        return {s.table: s for s in found}

    def plain(self) -> dict[str, Any]:
        """What it says as plain values, without folders: the files' content counts by itself."""

        def part(value: Any) -> Any:
            if isinstance(value, Source):
                return value.shown_as
            if isinstance(value, tuple):
                return [part(v) for v in value]
            if isinstance(value, (Census, Hexagons, Merge)):
                return {f.name: part(getattr(value, f.name)) for f in fields(value)}
            return value

        return {f.name: part(getattr(self, f.name)) for f in fields(self)}


def read_geography(reader: SectionReader, raw: Any, folder: Path) -> Geography | None:
    """The section ``geography``; problems go to ``reader``. ``None`` where there is none."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        reader.problem("geography", raw, "a mapping of census, hexagons, merge")
        return None
    parts: dict[str, Any] = {}
    known = [f.name for f in fields(Geography)]
    for key, value in raw.items():
        try:
            if key not in known:
                raise ValueError(did_you_mean(key, known))
            if value is not None:
                parts[key] = {"census": _all_census, "hexagons": _hexagons, "merge": _merge}[key](value, folder)
        except ValueError as error:
            reader.problem(f"geography.{key}", value if isinstance(value, (str, int, float)) else "…", str(error))
    return Geography(**parts)


def _options(raw: Any, known: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ValueError(what)
    for key in raw:
        if key not in known:
            raise ValueError(f"{key}: {did_you_mean(key, known)}")
    return raw


def _names(raw: Any, key: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or any(not isinstance(v, str) or not v for v in raw) or len(set(raw)) < len(raw):
        raise ValueError(f"{key}: a list of column names, each once")
    return tuple(raw)


def _source(name: str, raw: Any, folder: Path) -> Source:
    if isinstance(raw, Mapping) and "path" not in raw:
        raise ValueError("path: a file")
    return Source(name, **tables.source(name, raw, folder, "duckdb", None))


def _all_census(raw: Any, folder: Path) -> tuple[Census, ...]:
    each = raw if isinstance(raw, list) else [raw]
    found = tuple(_census(value, folder, f"geography.census{i + 1}") for i, value in enumerate(each))
    names = [v for c in found for v in c.variables]
    twice = sorted({v for v in names if names.count(v) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} only once")
    return found


def _census(raw: Any, folder: Path, name: str) -> Census:
    of_source = ("path", "sql", "layer", "with", "dissolve")
    own = ("extensive", "intensive", "weight")
    raw = _options(raw, (*of_source, *own), "{path: …, extensive: […], intensive: […]}, or a list of them")
    extensive, intensive = _names(raw.get("extensive"), "extensive"), _names(raw.get("intensive"), "intensive")
    if not extensive and not intensive:
        raise ValueError("extensive: [counts that add up] or intensive: [rates and means], to say which columns")
    both = sorted(set(extensive) & set(intensive))
    if both:
        raise ValueError(f"{', '.join(both)} either extensive or intensive")
    weight = raw.get("weight")
    if weight is not None:
        weight = read.text(weight)
    source = _source(name, {k: v for k, v in raw.items() if k in of_source}, folder)
    return Census(source, extensive, intensive, weight)


def _hexagons(raw: Any, folder: Path) -> Hexagons:
    what = f"a resolution from {COARSEST} (country) to {FINEST} (city block), or {{resolution: 7, boundary: FILE}}"
    resolution = read.whole(COARSEST, FINEST, what)
    if not isinstance(raw, Mapping):
        return Hexagons(resolution(raw))
    raw = _options(raw, ("resolution", "boundary", "name"), what)
    boundary = raw.get("boundary")
    if boundary is None and raw.get("name") is not None:
        raise ValueError("boundary beside name: it is a column of that file")
    return Hexagons(
        resolution(raw.get("resolution")),
        None if boundary is None else _source("geography.boundary", boundary, folder),
        None if raw.get("name") is None else read.text(raw["name"]),
    )


def _merge(raw: Any, folder: Path) -> Merge:
    known = tuple(f.name for f in fields(Merge))
    raw = _options(raw, known, "{minimum_customers: 100, within: region}")
    found: dict[str, Any] = {"sum": _names(raw.get("sum"), "sum")}
    if raw.get("minimum_customers") is not None:
        try:
            found["minimum_customers"] = read.whole(1, 10**9, "a whole number of customers, at least 1")(
                raw["minimum_customers"]
            )
        except ValueError as error:
            raise ValueError(f"minimum_customers: {error}") from error
    within = raw.get("within", "region")
    each = [] if within in (None, "none") else within if isinstance(within, list) else [within]
    if any(w not in WITHIN for w in each):
        raise ValueError(f"within: any of {', '.join(WITHIN)}, or none")
    found["within"] = tuple(each)
    if raw.get("map") is not None:
        found["map"] = _source("geography.map", raw["map"], folder)
    return Merge(**found)
