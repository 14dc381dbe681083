"""Readers of ``engine`` and ``data`` in ``plan.yml``: where tables come from, and where they are counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micromarket._readers import choice, expand_variables, text, whole
from micromarket.errors import did_you_mean
from micromarket.remote import RemotePath, remote_path

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
    return {"sql": sql, "layer": name, "connection": engine_url, "shown_as": f"{table} (database)"}


def source(table: str, raw: Any, folder: Path, kind: str, engine_url: str | None) -> dict[str, Any]:
    """Where a table comes from → fields of ``Source``. ``kind``, ``engine_url``: the engine's."""

    def path_of(value: Any) -> Path | RemotePath:
        if not isinstance(value, str) or not value:
            raise ValueError("a path")
        expanded = expand_variables(value)
        return remote_path(value, expanded) or folder / expanded

    if isinstance(raw, str):
        return {"path": path_of(raw), "shown_as": raw}
    if not isinstance(raw, Mapping):
        raise ValueError("a path, {path, sql} or {connection, sql}")
    known = ["path", "connection", "table", "sql", "layer", "sheet", "dissolve", "with"]
    for key in raw:
        if key not in known:
            raise ValueError(did_you_mean(key, known))
    if "path" in raw and "connection" in raw:
        raise ValueError("either path or connection")
    layer = raw.get("layer") if raw.get("sheet") is None else raw["sheet"]
    if layer is not None and (not isinstance(layer, str) or (raw.get("layer") and raw.get("sheet"))):
        raise ValueError("the name of one layer (of maps) or sheet (of Excel)")
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
        "layer": layer,
        "dissolve": raw.get("dissolve"),
        # a connection may hold a password: only the table's name is ever shown
        "shown_as": str(raw["path"]) if "path" in raw else f"{table} (database)",
    }
