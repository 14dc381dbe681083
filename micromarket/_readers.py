"""Readers of single values in ``plan.yml``: each returns the value typed, or says what it expected."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
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


def identifier(value: Any) -> str:
    """A name in a database, of any letters; short enough that what is put behind it still fits."""
    if not isinstance(value, str) or not value.strip() or len(value.encode()) > 40 or not value.isprintable():
        raise ValueError("a name of at most 40 bytes")
    return value


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


def command(value: Any) -> tuple[str, ...]:
    """A program and its arguments; no shell reads them."""
    if not isinstance(value, list) or not value or not all(isinstance(v, (str, int)) for v in value) or not value[0]:
        raise ValueError("a list: a program and its arguments, such as [./tell.sh, plan]")
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
