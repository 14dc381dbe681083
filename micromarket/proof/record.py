"""The frozen record of a test, ``tests.json``: all that the readout needs, fixed before anyone knows a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem, shown
from micromarket.notes import plain
from micromarket.proof.layout import LOTS, Layout, cell_layout
from micromarket.workspace import write_json

VERSION = 1


@dataclass(frozen=True)
class CellRecord:
    """One thing tried. ``factor``: of today's money (None: the plan's own moves); money over the window, all treated.

    ``money``: spend that the test adds by channel (below 0: takes away); ``expected``: relative lift promised with its
    90% range; ``customers``: promised new customers by treated market (in the order of the record's markets, 0 else).
    """

    name: str
    text: str
    factor: float | None
    money: Mapping[str, float]
    expected: tuple[float, float, float]
    customers: tuple[float, ...]
    value: float  # money per new customer, over the treated
    estimator: str
    before: int
    error: float
    detectable: float | None
    power: float
    false_positives: float
    curve: tuple[tuple[float, float], ...] = ()  # lift, chance to see it


@dataclass(frozen=True)
class TestRecord:
    """A test as frozen.

    Attributes
    ----------
    name : str
    frequency : {"week", "month"}
    start, end, measured_until : str
        ISO dates: first and last day of the spending, last day that counts.
    after, cool_down : int
        Periods of spending, and periods after it that count too.
    alpha : float
    measure : str
    markets, groups : tuple of str
        Markets that take part, and their peer group.
    arms, blocks : tuple of int
        0 control, 1 … cells; block, or -1.
    sets : tuple of tuples of int
        Positions in ``markets`` of every set that the lot might have drawn, the drawn one first; empty for blocks.
    banned : the same for markets that may not serve as control of that set.
    history : tuple of tuples of float
        New customers by market and period before the test, latest last.
    first_period : str
        First day of the first period of ``history``.
    """

    __test__ = False  # not a test of pytest

    name: str
    seed: int
    frequency: str
    start: str
    end: str
    measured_until: str
    after: int
    cool_down: int
    alpha: float
    markets: tuple[str, ...]
    groups: tuple[str, ...]
    arms: tuple[int, ...]
    blocks: tuple[int, ...]
    cells: tuple[CellRecord, ...]
    history: tuple[tuple[float, ...], ...]
    first_period: str
    sets: tuple[tuple[int, ...], ...] = ()
    banned: tuple[tuple[int, ...], ...] = ()
    by_lot: bool = True
    measure: str = "new_customers"
    peeking: str = "no result is given before measured_until"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def layout(self, cell: int) -> Layout:
        """The assignment of a cell (from 1) with every other that the lot might have drawn; the same every time."""
        arms, count = np.array(self.arms), len(self.markets)
        if not self.sets:
            return cell_layout(np.arange(count), arms, np.array(self.blocks), cell, self.seed, LOTS)
        treated = np.zeros((len(self.sets), count), dtype=bool)
        banned = np.zeros_like(treated) if self.banned else None
        for i, chosen in enumerate(self.sets):
            treated[i, list(chosen)] = True
            if banned is not None:
                banned[i, list(self.banned[i])] = True
        return Layout(np.arange(count), treated, None, banned, self.by_lot)

    def frozen(self) -> dict[str, Any]:
        """As it is written, with the hash of everything in it."""
        content = {"version": VERSION, **plain(asdict(self))}
        return {**content, "sha256": _hash(content)}

    def write(self, path: Path) -> Path:
        return write_json(path, self.frozen())


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_record(path: str | Path) -> TestRecord:
    """From ``tests.json``.

    Raises
    ------
    InputError
        Where there is none, it cannot be read, or it was changed after it was frozen.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        stated = raw.pop("sha256")
        changed = stated != _hash(raw)
        if raw.pop("version") != VERSION:
            raise ValueError("another version")
        raw["cells"] = tuple(
            CellRecord(**{**c, "expected": tuple(c["expected"]), "customers": tuple(c["customers"]),
                          "curve": tuple(tuple(p) for p in c["curve"])})
            for c in raw["cells"]
        )  # fmt: skip
        for key in ("history", "sets", "banned"):
            raw[key] = tuple(tuple(r) for r in raw[key])
        for key in ("markets", "groups", "arms", "blocks"):
            raw[key] = tuple(raw[key])
        record = TestRecord(**raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError([Problem(path.name, "the frozen record of a test", value=shown(str(error)))]) from error
    if changed:
        raise InputError([Problem(path.name, "the record as it was frozen: it was changed afterwards")])
    return record


def periods_of(record: TestRecord) -> pd.DatetimeIndex:
    """First days of the record's history, then of the window with its cool-down."""
    count = len(record.history[0]) + record.after + record.cool_down if record.history else 0
    step = pd.DateOffset(weeks=1) if record.frequency == "week" else pd.DateOffset(months=1)
    start = pd.Timestamp(record.first_period)
    return pd.DatetimeIndex([start + step * i for i in range(count)])
