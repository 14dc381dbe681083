"""What a stage has to say beside its tables: headline numbers, assumptions, warnings, checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Assumption:
    """Something the plan takes as given. ``source``: who says so (``plan.yml``, a default of ours, a paper)."""

    text: str
    source: str


@dataclass(frozen=True)
class Check:
    """A test that the stage ran on its own result."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Notes:
    """A stage's words. ``numbers`` must be plain JSON values (units in the key or the stage's docstring)."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Notes:
        """From what :meth:`to_json` gave."""
        return cls(
            numbers=raw["numbers"],
            assumptions=tuple(Assumption(**a) for a in raw["assumptions"]),
            warnings=tuple(raw["warnings"]),
            checks=tuple(Check(**c) for c in raw["checks"]),
        )


def plain(value: Any) -> Any:
    """``value`` as plain JSON: numpy scalars to Python's, NaN and infinities to ``None``, dates to ISO 8601."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
