"""Readers of single values in ``plan.yml``: each returns the value typed, or says what it expected."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from micromarket.errors import Problem, did_you_mean, shown


class SectionReader:
    """Reads one YAML mapping, collecting problems instead of stopping at the first."""

    def __init__(self, file: str):
        self.file = file
        self.problems: list[Problem] = []

    def problem(self, key: str, value: object, expected: str) -> None:
        self.problems.append(Problem(self.file, expected, column=key, value=shown(value)))

    def section(self, raw: Any, key: str, cls: type, required: Sequence[str], readers: Mapping[str, Callable]) -> Any:
        """One dataclass from one mapping; ``None`` where a problem makes it impossible."""
        if raw is None:
            raw = {}
        if not isinstance(raw, Mapping):
            self.problem(key, raw, "a mapping of keys to values")
            return None
        known = [f.name for f in fields(cls)]
        values: dict[str, Any] = {}
        ok = True
        for name, value in raw.items():
            if name not in known:
                self.problem(f"{key}.{name}", name, did_you_mean(name, known))
            elif value is None and name not in required:
                continue  # an empty value means the default
            else:
                try:
                    values[name] = readers[name](value)
                except ValueError as error:
                    self.problem(f"{key}.{name}", value, str(error))
                    ok = False
        for name in required:
            if name not in raw:
                self.problems.append(Problem(self.file, "this key, it is required", column=f"{key}.{name}"))
                ok = False
        return cls(**values) if ok else None


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value.strip()


def currency(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{3}", value):
        raise ValueError("an ISO 4217 currency code such as USD")
    return value


def date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime):
        value = value.date()
    if isinstance(value, str):
        try:
            value = dt.date.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, dt.date):
        raise ValueError("a date as YYYY-MM-DD")
    return value


def number(low: float, high: float, what: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(what)
        if not low <= value <= high:
            raise ValueError(what)
        return float(value)

    return read


def whole(low: int, high: int, what: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(what)
        return value

    return read


def choice(options: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in options:
            raise ValueError(did_you_mean(value, options))
        return str(value)

    return read


def choices(options: Sequence[str], first: str | None = None) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or any(v not in options for v in value)
            or len(set(map(str, value))) < len(value)
        ):
            raise ValueError(f"a list with any of {', '.join(options)}")
        if first is not None and (not value or value[0] != first):
            raise ValueError(f"a list that begins with {first}")
        return tuple(value)

    return read


def names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, (str, int)) and not isinstance(v, bool) for v in value):
        raise ValueError("a list of names")
    return tuple(str(v) for v in value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def band(value: Any) -> tuple[float, float]:
    expected = "two numbers [lowest, highest], 0 <= lowest <= 1 <= highest"
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(expected)
    read = number(0, 1e6, expected)
    low, high = read(value[0]), read(value[1])
    if not low <= 1 <= high:
        raise ValueError(expected)
    return low, high


def mapping(value: Any, readers: Mapping[str, Callable]) -> dict[str, Any]:
    """A mapping inside a section: each key read by its own reader; an empty value means the default."""
    if not isinstance(value, Mapping):
        raise ValueError(f"a mapping of {', '.join(readers)}")
    found = {}
    for name, inside in value.items():
        if name not in readers:
            raise ValueError(did_you_mean(str(name), list(readers)))
        if inside is not None:
            try:
                found[str(name)] = readers[name](inside)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    return found


def weights(value: Any, names: Sequence[str]) -> dict[str, float]:
    """One of ``names``, or a mapping of them to weights from 0 to 1; names that are left out weigh nothing."""
    if isinstance(value, str):
        return {name: float(name == choice(names)(value)) for name in names}
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"one of {', '.join(names)}, or a mapping of them to weights")
    for name in value:
        if name not in names:
            raise ValueError(did_you_mean(str(name), names))
    read = number(0, 1, "weights from 0 to 1")
    found = {name: read(value.get(name, 0)) for name in names}
    if not any(found.values()):
        raise ValueError("at least one weight above 0")
    return found


def total(value: Any) -> float | None:
    if value == "current":
        return None
    return number(0, 1e15, "'current' or an amount of at least 0")(value)


ENGINES = ("duckdb", "spark")
_ENGINE_OPTIONS = {"duckdb": ("memory_limit", "threads"), "spark": ("master", "config", "staging")}
_MEMORY = re.compile(r"\d+(\.\d+)?\s*(KB|MB|GB|TB|KiB|MiB|GiB|TiB)")


def engine(value: Any, folder: Path) -> dict[str, Any]:
    """``duckdb``, ``spark``, one of them with options, or ``{connection: URL}`` → fields of ``EngineSettings``."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"kind": choice(ENGINES)(value)}
    expected = "duckdb, spark, {duckdb: …}, {spark: …} or {connection: URL}"
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(expected)
    ((kind, options),) = value.items()
    if kind == "connection":
        return {"kind": "database", "connection": text(options)}
    if kind not in ENGINES:
        raise ValueError(did_you_mean(kind, [*ENGINES, "connection"]))
    if options is None:
        return {"kind": kind}
    if not isinstance(options, Mapping):
        raise ValueError(f"{kind} with a mapping of {', '.join(_ENGINE_OPTIONS[kind])}")
    found: dict[str, Any] = {"kind": kind}
    for name, option in options.items():
        if name not in _ENGINE_OPTIONS[kind]:
            raise ValueError(f"{kind}.{name}: {did_you_mean(name, list(_ENGINE_OPTIONS[kind]))}")
        if option is not None:
            try:
                found[name] = _engine_option(name, option, folder)
            except ValueError as error:
                raise ValueError(f"{kind}.{name}: {error}") from error
    return found


def _engine_option(name: str, value: Any, folder: Path) -> Any:
    if name == "threads":
        return whole(1, 4096, "a whole number of at least 1")(value)
    if name == "memory_limit":
        if not isinstance(value, str) or not _MEMORY.fullmatch(value.strip()):
            raise ValueError("an amount of memory such as 8GB")
        return value.strip()
    if name == "config":
        plain = (str, int, float, bool)
        if not isinstance(value, Mapping) or any(not isinstance(v, plain) for v in value.values()):
            raise ValueError("a mapping of Spark's settings to values")
        lower = {True: "true", False: "false"}
        return tuple((str(k), lower[v] if isinstance(v, bool) else str(v)) for k, v in value.items())
    return folder / text(value) if name == "staging" else text(value)


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand_variables(text: str) -> str:
    """``${NAME}`` and ``${NAME:-default}`` from the environment.

    Raises ``ValueError`` where a variable without default is not set. Secrets belong there, never in ``plan.yml``.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], match[2])
        if found is None:
            raise ValueError(f"the environment variable {match[1]} to be set")
        return found

    return _VARIABLE.sub(value, text)


#: Tables with a row per customer, purchase or contract: the only ones that an engine elsewhere has to see.
CUSTOMER_TABLES = ("customers", "transactions", "customer_summary", "subscriptions")


def _inside(table: str, raw: Mapping[str, Any], sql: str | None, kind: str, engine_url: str | None) -> dict[str, Any]:
    """A table that lives in the engine: ``{table: name}`` or ``{sql: query}``."""
    if kind == "duckdb":
        raise ValueError("path or connection (a table without either is one of engine: spark or a connection)")
    for key in raw:
        if key not in ("table", "sql"):
            raise ValueError("path beside " + str(key))
    name = raw.get("table")
    if (name is None) == (sql is None) or (name is not None and (not isinstance(name, str) or not name.strip())):
        raise ValueError("either table (a name) or sql")
    if table in CUSTOMER_TABLES:
        known, shown_as = engine_url or "spark:catalog", f"{table} ({kind})"
        return {"sql": sql, "connection": known, "layer": name, "shown_as": shown_as, "inside": True}
    if engine_url is None:
        raise ValueError("path, or connection and sql: only tables of customers can stay in Spark")
    # small tables are copied: the stages use them without the engine
    return {"sql": sql or f"select * from {name}", "connection": engine_url, "shown_as": f"{table} (database)"}


def source(table: str, raw: Any, folder: Path, kind: str, engine_url: str | None) -> dict[str, Any]:
    """Where a table comes from → fields of ``Source``. ``kind``, ``engine_url``: the engine's."""

    def path_of(value: Any) -> Path:
        if not isinstance(value, str) or not value:
            raise ValueError("a path")
        return folder / expand_variables(value)

    if isinstance(raw, str):
        return {"path": path_of(raw), "shown_as": raw}
    if not isinstance(raw, Mapping):
        raise ValueError("a path, {path, sql} or {connection, sql}")
    known = ["path", "connection", "table", "sql", "layer", "dissolve", "with"]
    for key in raw:
        if key not in known:
            raise ValueError(did_you_mean(key, known))
    if "path" in raw and "connection" in raw:
        raise ValueError("either path or connection")
    sql = raw.get("sql")
    if sql is not None:
        if not isinstance(sql, str) or not sql.strip():
            raise ValueError("sql to be a query, or the name of a .sql file")
        if sql.strip().endswith(".sql"):
            try:
                sql = (folder / expand_variables(sql.strip())).read_text(encoding="utf-8")
            except OSError as error:
                raise ValueError(f"a readable file {sql.strip()}") from error
    if "connection" in raw and sql is None:
        raise ValueError("sql beside connection")
    if "path" not in raw and "connection" not in raw:
        return _inside(table, raw, sql, kind, engine_url)
    if "table" in raw:
        raise ValueError("table without path and connection: it is the name of a table in the engine")
    extra = raw.get("with") or {}
    if not isinstance(extra, Mapping) or any(not str(k).isidentifier() or k == "input" for k in extra):
        raise ValueError("with: names (letters, digits, _) of further files")
    if extra and sql is None:
        raise ValueError("sql that uses the files named in with")
    return {
        "path": path_of(raw["path"]) if "path" in raw else None,
        "sql": sql,
        "connection": text(raw["connection"]) if "connection" in raw else None,
        "extra": tuple((str(k), path_of(v)) for k, v in extra.items()),
        "layer": raw.get("layer"),
        "dissolve": raw.get("dissolve"),
        # a connection may hold a password: only the table's name is ever shown
        "shown_as": str(raw["path"]) if "path" in raw else f"{table} (database)",
    }
