"""Tests designed elsewhere: a plain table of who was treated when becomes a record that the readout takes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.proof.backtest import ALPHA, Method, backtest
from micromarket.proof.history import History, period_ends, read_history
from micromarket.proof.layout import LOTS, Layout
from micromarket.proof.record import CellRecord, TestRecord

MIN_BLOCKS = 5
_LEAST = 8  # periods before the test
_LONGEST = {"week": 52, "month": 12}


def records_of(table: pd.DataFrame, outcomes: pd.DataFrame, frequency: str, seed: int = 1) -> list[TestRecord]:
    """One record a test.

    Parameters
    ----------
    table : DataFrame
        A row a market: ``market_id``, ``arm`` ("control", or what was tried there), ``start``, ``end`` (first and last
        day), and optionally ``test`` (name), ``block`` (drawn by lot within blocks), ``channel``, ``factor`` (of usual
        money), ``spend`` (money that the test added in that market), ``cool_down`` (periods after it that count).
    outcomes : DataFrame
        ``market_id, period, new_customers``, from well before the test on.
    frequency : {"week", "month"}
        Of ``outcomes``.

    Raises
    ------
    InputError
        With every problem: a missing column, a test without control, markets without outcomes, too short a history.
    """
    problems = [Problem("tests", "this column", c) for c in ("market_id", "arm", "start", "end") if c not in table]
    if problems:
        raise InputError(problems)
    table = table.assign(
        market_id=table["market_id"].astype(str), arm=table["arm"].astype(str).str.strip(),
        start=pd.to_datetime(table["start"]), end=pd.to_datetime(table["end"]),
        test=table["test"].astype(str) if "test" in table else "test",
    )  # fmt: skip
    history = read_history(outcomes, frequency)
    records = []
    for name, part in table.groupby("test", sort=True):
        try:
            records.append(_record(str(name), part, history, seed))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return records


def _record(name: str, part: pd.DataFrame, history: History, seed: int) -> TestRecord:
    arms_said = [a for a in sorted(part["arm"].unique()) if a.lower() not in ("control", "none")]
    inside = part[part["arm"].str.lower() != "none"].drop_duplicates("market_id").sort_values("market_id")
    unknown = sorted(set(inside["market_id"]) - set(history.markets))
    start, end = part["start"].min(), part["end"].max()
    first = np.asarray(history.periods) < np.datetime64(start)
    window = (np.asarray(period_ends(history.periods, history.frequency)) >= np.datetime64(start)) & (
        np.asarray(history.periods) <= np.datetime64(end)
    )
    problems = []
    if unknown:
        problems.append(
            Problem("tests", "a market with outcomes", "market_id", value=unknown[0], more=len(unknown) - 1)
        )
    if not arms_said or not (inside["arm"].str.lower() == "control").any():
        problems.append(Problem("tests", "treated and control markets", "arm", value=name))
    before = int((first & ~window).sum())
    if before < _LEAST:
        problems.append(Problem("outcomes", f"{_LEAST} {history.frequency}s or more before the test {name}", "period",
                                value=f"{before}"))  # fmt: skip
    if problems:
        raise InputError(problems)
    own = history.take(tuple(inside["market_id"]))
    arms = np.array([0 if a.lower() == "control" else arms_said.index(a) + 1 for a in inside["arm"]])
    after = _periods(start, end, history.frequency)
    cool = int(part["cool_down"].max()) if "cool_down" in part and part["cool_down"].notna().any() else 0
    kept = own.counts[:, :before]
    blocks = _blocks(inside, arms, len(arms_said))
    sets: tuple[tuple[int, ...], ...] = ()
    by_lot = blocks is not None
    if blocks is None:
        blocks = np.full(len(arms), -1)
        if len(arms_said) == 1:
            sets = _stand_ins(arms, kept.sum(axis=1), seed)
        else:
            raise InputError([Problem("tests", "blocks, where several things are tried", "block", value=name)])
    cells = tuple(
        _cell(arm, inside[arms == i + 1], arms == i + 1, kept, before, history.frequency, after + cool, sets, blocks)
        for i, arm in enumerate(arms_said)
    )
    step = pd.DateOffset(weeks=1) if history.frequency == "week" else pd.DateOffset(months=1)
    begins = history.periods[0] + step * before
    day = pd.Timedelta(days=1)
    return TestRecord(
        name=name, seed=seed, frequency=history.frequency, start=f"{start:%Y-%m-%d}", end=f"{end:%Y-%m-%d}",
        measured_until=f"{begins + step * (after + cool) - day:%Y-%m-%d}", after=after, cool_down=cool, alpha=ALPHA,
        markets=own.markets, groups=("",) * len(own.markets), arms=tuple(int(a) for a in arms),
        blocks=tuple(int(b) for b in blocks), cells=cells, history=tuple(tuple(map(float, row)) for row in kept),
        first_period=f"{history.periods[0]:%Y-%m-%d}", sets=sets, by_lot=by_lot,
    )  # fmt: skip


def _periods(start: pd.Timestamp, end: pd.Timestamp, frequency: str) -> int:
    days = (end - start).days + 1
    return max(round(days / 7) if frequency == "week" else round(days / (365.25 / 12)), 1)


def _blocks(inside: pd.DataFrame, arms: np.ndarray, cells: int) -> np.ndarray | None:
    """Blocks that hold every arm, at least five; else ``None``: the others are stand-ins."""
    if "block" not in inside or inside["block"].isna().any():
        return None
    blocks = pd.factorize(inside["block"].astype(str), sort=True)[0]
    number = int(blocks.max()) + 1
    whole = all({*range(cells + 1)} <= set(arms[blocks == b].tolist()) for b in range(number))
    return blocks if whole and number >= MIN_BLOCKS else None


def _stand_ins(arms: np.ndarray, volume: np.ndarray, seed: int) -> tuple[tuple[int, ...], ...]:
    """The treated set, then others of its size, nearest in volume first, that could have been treated instead."""
    rng = np.random.default_rng([seed, 13])
    mine = tuple(int(i) for i in np.flatnonzero(arms == 1))
    seen, out = {mine}, [mine]
    for _ in range(20 * LOTS):
        other = tuple(sorted(int(i) for i in rng.choice(len(arms), len(mine), replace=False)))
        if other not in seen:
            seen.add(other)
            out.append(other)
    size = np.log(np.array([volume[list(s)].sum() for s in out]) + 0.5)
    near = np.argsort(np.abs(size[1:] - size[0]), kind="stable")[:LOTS] + 1
    return tuple(out[i] for i in (0, *near))


def _cell(
    arm: str, rows: pd.DataFrame, treated: np.ndarray, kept: np.ndarray, before: int, frequency: str, after: int,
    sets: tuple[tuple[int, ...], ...], blocks: np.ndarray,
) -> CellRecord:  # fmt: skip
    """The estimator with the smaller past error where the history allows a backtest."""
    channel = str(rows["channel"].iloc[0]) if "channel" in rows and rows["channel"].notna().any() else arm
    factor = float(rows["factor"].iloc[0]) if "factor" in rows and rows["factor"].notna().any() else None
    money = float(pd.to_numeric(rows["spend"], errors="coerce").fillna(0).sum()) if "spend" in rows else 0.0
    look = min(before, _LONGEST[frequency])
    name, tested = "ancova", None
    if sets:
        chosen = np.zeros((len(sets), len(treated)), dtype=bool)
        for row, members in zip(chosen, sets, strict=True):
            row[list(members)] = True
        layout = Layout(np.arange(len(treated)), chosen, None, by_lot=False)
        look = max(min(look, before - after - 2), 4)
        found = [b for n in ("control", "ratio") if (b := backtest(Method(n, look), layout, kept, after)) is not None]
        tested = min(found, key=lambda b: b.error) if found else None
        name = "control" if tested is None else tested.method.name
    return CellRecord(
        name=channel, text=arm, factor=factor, money={channel: money}, expected=(0.0, 0.0, 0.0),
        customers=(0.0,) * len(treated), value=0.0, estimator=name, before=look,
        error=0.1 if tested is None else tested.error,
        detectable=tested.detectable if tested is not None and np.isfinite(tested.detectable) else None,
        power=float("nan") if tested is None else 0.0,
        false_positives=float("nan") if tested is None else tested.drawn_false_positives,
    )  # fmt: skip
