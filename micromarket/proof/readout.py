"""What a test brought: the frozen estimator, its interval from the same test, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.proof.backtest import Method, run_test
from micromarket.proof.checks import other_lifts, trimmed_return
from micromarket.proof.estimators.ancova import lift_of
from micromarket.proof.estimators.relative_control import lift_from
from micromarket.proof.estimators.simplex import Array
from micromarket.proof.layout import Layout
from micromarket.proof.record import CellRecord, TestRecord, periods_of

_Z = 1.6449
_GROUP_BLOCKS = 5


@dataclass(frozen=True)
class Range:
    """An estimate with its 90% interval; ends may be infinite."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        ends = sorted((self.low * factor, self.high * factor))
        return Range(self.value * factor, ends[0], ends[1])


@dataclass(frozen=True)
class GroupReadout:
    """Promised and delivered new customers of one group of treated markets; ``delivered``: NaN where they are few."""

    group: str
    markets: int
    promised: float
    delivered: Range


@dataclass(frozen=True)
class CellReadout:
    """What one thing tried brought.

    Attributes
    ----------
    lift : Range
        Relative (0.05: 5% more new customers).
    p_value : float
        Two-sided, of no effect, by the same test that gives the range.
    customers : Range
        New customers that it brought.
    value : Range
        Their discounted margin, money.
    money : float
        Spend that the test added (below 0: took away).
    return_ : Range or None
        Value per unit of money.
    per_money, per_money_error : float or None
        New customers per unit of money and its standard error: what the table ``experiments`` takes.
    checks : mapping
        Lift by other estimators.
    trimmed : Range or None
        Customers per unit of money by trimmed match.
    """

    record: CellRecord
    treated: tuple[str, ...]
    control: int
    lift: Range
    p_value: float
    customers: Range
    value: Range
    money: float
    return_: Range | None
    per_money: float | None
    per_money_error: float | None
    checks: Mapping[str, float]
    trimmed: Range | None
    groups: tuple[GroupReadout, ...]

    @property
    def clear(self) -> bool:
        """The range leaves out zero."""
        return self.lift.low > 0 or self.lift.high < 0

    @property
    def kept(self) -> str:
        """How the promise fared: "kept", "below", "above" or "open"."""
        promised = self.record.expected[0]
        if promised == 0:
            return "open"
        if self.lift.low <= promised <= self.lift.high:
            return "kept" if self.clear else "open"
        return "below" if abs(self.lift.value) < abs(promised) or self.lift.value * promised < 0 else "above"


@dataclass(frozen=True)
class TestReadout:
    """``cells`` is empty while the test runs: ``missing`` then says how many periods are still to come."""

    __test__ = False  # not a test of pytest

    record: TestRecord
    cells: tuple[CellReadout, ...]
    missing: int
    notes: tuple[str, ...] = ()


def read_test(record: TestRecord, outcomes: pd.DataFrame, spend: pd.DataFrame | None = None) -> TestReadout:
    """Reads a test out once its last period is there, not before: looking early finds effects that are not there.

    Parameters
    ----------
    record : TestRecord
    outcomes : DataFrame
        ``market_id, period, new_customers`` of the window and the cool-down; a market without a row won nobody.
    spend : DataFrame, optional
        ``market_id, period, channel, amount``: what was really spent; else what the record says.

    Raises
    ------
    InputError
        Where none of the test's markets is in the outcomes.
    """
    counts, missing = _counts(record, outcomes)
    if missing:
        return TestReadout(record, (), missing)
    split, after = len(record.history[0]), record.after + record.cool_down
    notes: list[str] = []
    cells = []
    for i, cell in enumerate(record.cells):
        money = _money(record, i, spend, notes)
        cells.append(_read_cell(record, cell, i + 1, counts, split, after, money))
    if not record.by_lot:
        notes.append("These markets were not drawn by lot: the range holds if they are as alike as if they had been.")
    return TestReadout(record, tuple(cells), 0, tuple(notes))


def _counts(record: TestRecord, outcomes: pd.DataFrame) -> tuple[Array, int]:
    """(markets, periods) history and window; how many periods of the window are missing."""
    periods = periods_of(record)
    split = len(record.history[0])
    markets = pd.Index(record.markets)
    mine = outcomes[outcomes["market_id"].astype(str).isin(markets)]
    if mine.empty:
        raise InputError([Problem("outcomes", "markets of the test", "market_id")])
    day = pd.to_datetime(mine["period"]).dt.normalize()
    starts = periods[split:]
    step = pd.DateOffset(weeks=1) if record.frequency == "week" else pd.DateOffset(months=1)
    ends = np.append(starts[1:].to_numpy(), (starts[-1] + step).to_datetime64())
    at = np.searchsorted(starts.to_numpy(), day.to_numpy(), side="right") - 1
    row = markets.get_indexer(pd.Index(mine["market_id"].astype(str)))
    known = (at >= 0) & (row >= 0) & (day.to_numpy() < ends[-1])
    values = np.nan_to_num(pd.to_numeric(mine["new_customers"], errors="coerce").to_numpy(float))
    window = np.zeros((len(markets), len(starts)))
    np.add.at(window, (row[known], at[known]), values[known])
    days = pd.DataFrame({"at": at[known], "day": day[known]}).groupby("at")["day"].agg(["nunique", "max"])
    seen = np.zeros(len(starts), dtype=bool)
    whole = days["max"].to_numpy() + np.timedelta64(1, "D") >= ends[days.index.to_numpy()]
    seen[days.index.to_numpy()] = (days["nunique"].to_numpy() == 1) | whole  # days: once the last one is there
    return np.column_stack([np.array(record.history, dtype=float), window]), int((~seen).sum())


def _money(record: TestRecord, index: int, spend: pd.DataFrame | None, notes: list[str]) -> float:
    """Money that a cell added: from the books where they allow it, else as planned."""
    cell = record.cells[index]
    planned = float(sum(cell.money.values()))
    if spend is None or cell.factor is None or cell.factor in (0.0, 1.0):
        return planned
    treated = {m for m, arm in zip(record.markets, record.arms, strict=True) if arm == index + 1}
    day = pd.to_datetime(spend["period"])
    inside = day.between(pd.Timestamp(record.start), pd.Timestamp(record.end)) & spend["market_id"].astype(str).isin(
        treated
    )
    booked = float(spend.loc[inside & (spend["channel"].astype(str) == cell.name), "amount"].sum())
    real = booked * (1 - 1 / cell.factor)
    if booked <= 0:
        notes.append(f"{cell.text}: the books show no spend in its markets; the planned money is used.")
        return planned
    if abs(real - planned) > 0.2 * abs(planned):
        notes.append(f"{cell.text}: {real / planned:.0%} of the money that the test was to add was spent.")
    return real


def _read_cell(
    record: TestRecord, cell: CellRecord, number: int, counts: Array, split: int, after: int, money: float
) -> CellReadout:
    layout = record.layout(number)
    method = Method(cell.estimator, cell.before)
    test = run_test(method, layout, counts, split, after)
    to_lift = lift_of if method.name == "ancova" else lift_from
    low, high = test.interval(record.alpha)
    lift = Range(to_lift(test.estimate), to_lift(low), to_lift(high))
    own = layout.rows[layout.treated[0]]
    won = float(counts[own, split : split + after].sum())
    customers = _brought(won, lift)
    error = (to_lift(high) - to_lift(low)) / (2 * _Z)
    usual = won / max(1 + lift.value, 1e-9)
    if not np.isfinite(error):
        error = 2 * cell.error
    useful = abs(money) > 0
    groups = _groups(record, cell, layout, method, counts, split, after)
    added = np.zeros(len(layout.rows))
    share = counts[own, :split].sum(axis=1)
    added[layout.treated[0]] = money * share / max(float(share.sum()), 1e-9)
    trimmed = trimmed_return(layout, counts, split, after, cell.before, added) if useful else None
    return CellReadout(
        record=cell, treated=tuple(record.markets[i] for i in own), control=int((~layout.treated[0]).sum()), lift=lift,
        p_value=test.p_value(), customers=customers, value=customers.times(cell.value), money=money,
        return_=customers.times(cell.value / money) if useful else None,
        per_money=customers.value / money if useful else None,
        per_money_error=max(usual * error / abs(money), 1e-12) if useful else None,
        checks=other_lifts(layout, counts, split, after, cell.before, method.name),
        trimmed=None if trimmed is None else Range(*trimmed), groups=groups,
    )  # fmt: skip


def _brought(won: float, lift: Range) -> Range:
    """Customers from lifts: what was won less what would have been."""
    parts = [won * (1 - 1 / (1 + v)) if v > -1 else -np.inf for v in (lift.value, lift.low, lift.high)]
    return Range(*parts)


def _groups(
    record: TestRecord, cell: CellRecord, layout: Layout, method: Method, counts: Array, split: int, after: int
) -> tuple[GroupReadout, ...]:
    """By group of peers: the same test on the blocks that lie in it.

    Groups of fewer than five blocks are taken together: a range needs as many. Where these are too few as well, what
    they were promised is told, and no guess is made of what they brought.
    """
    if layout.blocks is None:
        return ()
    names = np.array(record.groups, dtype=object)[layout.rows]
    promised = np.array(cell.customers)[layout.rows]
    few = [g for g in np.unique(names) if len(np.unique(layout.blocks[names == g])) < _GROUP_BLOCKS]
    names[np.isin(names, few)] = few[0] if len(few) == 1 else "other groups"
    out = []
    for group in np.unique(names):
        inside = names == group
        treated = layout.treated[0] & inside
        if not treated.any():
            continue
        blocks = np.unique(layout.blocks[inside], return_inverse=True)[1].astype(np.int64)
        found = Range(np.nan, np.nan, np.nan)
        if blocks.max() + 1 >= _GROUP_BLOCKS:
            part = Layout(layout.rows[inside], layout.treated[:, inside], blocks)
            test = run_test(method, part, counts, split, after)
            low, high = test.interval(record.alpha)
            won = float(counts[layout.rows[treated], split : split + after].sum())
            found = _brought(won, Range(lift_of(test.estimate), lift_of(low), lift_of(high)))
        out.append(GroupReadout(str(group), int(treated.sum()), float(promised[treated].sum()), found))
    return tuple(out)
