"""A typed table of the reading DuckDB, asked in SQL: a question takes a millisecond, an Ibis expression tens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class View:
    """``name``: of the view; ``columns``: the contract's names in it. Nothing from data is ever part of a question."""

    duck: Any
    name: str
    columns: tuple[str, ...]

    def rows(self, question: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of ``SELECT question``, ``{}`` in it standing for the view; ``names``: of what is selected."""
        found = self.duck.execute("SELECT " + question.format(f'"{self.name}"')).fetchall()
        return [dict(zip(names, row, strict=True)) for row in found]

    def one(self, wanted: Mapping[str, str], where: str = "") -> dict[str, Any]:
        """One row of aggregates, by name."""
        what = ", ".join(wanted.values())
        return self.rows(f"{what} FROM {{}}" + (f" WHERE {where}" if where else ""), list(wanted))[0]
