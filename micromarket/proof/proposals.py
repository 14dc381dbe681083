"""One possible test from what is to be tried: who takes part, what it could see, what it is worth and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micromarket.config import Tests
from micromarket.proof.backtest import ALPHA, LIFTS, Backtest, Method, backtest, choose_method
from micromarket.proof.buffers import apart
from micromarket.proof.cells import Stage, Trial
from micromarket.proof.estimators.ancova import Ints
from micromarket.proof.estimators.simplex import Array
from micromarket.proof.history import DAYS, History
from micromarket.proof.layout import LOTS, Layout, cell_layout, draw_arms, draw_sets, make_blocks
from micromarket.proof.worth import value_of_sample

MIN_BLOCKS = 8  # with 5 a clear result is just possible, but ranges of fewer than 8 are mostly unbounded
_FEW_LOTS = 199  # while looking for the best test; the drawn one gets all
_MIDDLE = {"week": 26, "month": 6}
NEXT_PLANS = 2  # later plans that still rest on what a test found; curves drift, so no more


@dataclass(frozen=True)
class Ground:
    """What all proposals share; arrays by market of ``stage.curves.markets``, ``history`` in the same order.

    ``values``: of decisions by draw; ``price``: value that a unit of money brings elsewhere; ``reserve``: most money
    that the test may move (money); ``plan_periods``: periods of the plan; ``usual``: new customers a period;
    ``discount``: rate a year.
    """

    stage: Stage
    history: History
    values: Array
    price: float
    reserve: float
    plan_periods: float
    usual: Array
    features: Array
    groups: NDArray[np.str_]
    touches: NDArray[np.bool_]
    rules: Tests
    discount: float
    seed: int


@dataclass(frozen=True)
class Proposal:
    """A test that could be run.

    Attributes
    ----------
    trials : tuple of Trial
        One a cell; cell i + 1 tries ``trials[i]``.
    arms, blocks : int arrays by market
        0 control, 1 … cells, -1 not in the test; block or -1.
    layouts, backtests : tuples, one a cell
    signals : array of shape (cells, draws)
        Log lift of each cell's markets over the window and the cool-down, were the draw true.
    after, cool : int
        Periods of spending, and periods after it that still count.
    money : float
        Money that the test moves against today, expected over lots.
    worth, unsure, cost : float
        Money: of deciding this plan and the next ones better, with its standard error; of doing the test instead of
        the plan.
    """

    trials: tuple[Trial, ...]
    arms: Ints
    blocks: Ints
    layouts: tuple[Layout, ...]
    backtests: tuple[Backtest, ...]
    signals: Array
    after: int
    cool: int
    money: float
    worth: float
    unsure: float
    cost: float

    @property
    def net(self) -> float:
        """Worth less cost, on the safe side: the best of many proposals is the one whose worth is guessed too high."""
        return self.worth - self.unsure - max(self.cost, 0.0)

    def score(self, rules: Tests) -> float:
        """What the search maximises: the net worth, or the worth alone where a test is run in any case."""
        return self.worth - self.unsure if rules.run == "always" else self.net

    @property
    def few(self) -> bool:
        """A few treated markets against a synthetic control."""
        return self.layouts[0].blocks is None

    def expected(self, cell: int) -> tuple[float, float, float]:
        """Relative lift that the plan's posterior lets expect in a cell, with its 90% range."""
        drawn = np.expm1(self.signals[cell])
        low, high = np.quantile(drawn, [0.05, 0.95])
        return float(drawn.mean()), float(low), float(high)


def open_to(trials: tuple[Trial, ...], ground: Ground) -> NDArray[np.bool_]:
    """Markets that may take part in all ``trials``."""
    open_ = np.logical_and.reduce([t.eligible for t in trials]) & (ground.usual > 0)
    names = np.array(ground.history.markets)
    open_ &= ~np.isin(names, list(ground.rules.force_out))
    if ground.rules.buffer:
        open_ = apart(open_, ground.touches, ground.usual + 1e9 * np.isin(names, list(ground.rules.force_in)))
    return open_


def in_blocks(
    trials: tuple[Trial, ...], ground: Ground, after: int, cool: int, part: float = 1.0, final: bool = False
) -> Proposal | None:
    """Randomised within blocks of peers; ``None`` where fewer than eight blocks fit the caps.

    ``part``: share of the blocks that fit; ``final``: all lots, and the estimator chosen by its past errors.
    """
    open_, cells = open_to(trials, ground), len(trials)
    controls = max(round(np.sqrt(cells)), 1)
    rows = np.flatnonzero(open_)
    if len(rows) < MIN_BLOCKS * (cells + controls):
        return None
    dear = _loss(trials, ground)
    steady = dear <= np.median(dear[rows])  # blocks of markets where a test costs little come apart from dear ones
    groups = np.char.add(ground.groups, np.where(steady, "|0", "|1"))
    forced = np.isin(np.array(ground.history.markets), list(ground.rules.force_in))
    inner = make_blocks(ground.features[rows], groups[rows], cells + controls, forced[rows])
    blocks = np.full(len(open_), -1)
    blocks[rows] = inner
    blocks = _within_caps(blocks, trials, ground, after, part, dear)
    if blocks.max() + 1 < MIN_BLOCKS:
        return None
    arms = draw_arms(blocks, cells, controls, ground.seed)
    lots = LOTS if final else _FEW_LOTS
    layouts = tuple(
        cell_layout(np.flatnonzero(blocks >= 0), arms[blocks >= 0], blocks[blocks >= 0], c + 1, ground.seed, lots)
        for c in range(cells)
    )
    return _judged(trials, arms, blocks.astype(np.int64), layouts, ground, after, cool, final)


def with_few(trial: Trial, ground: Ground, after: int, cool: int, size: int, final: bool = False) -> Proposal | None:
    """``size`` markets by lot against a synthetic control; ``None`` where fewer than 20 sets are legal."""
    names = np.array(ground.history.markets)
    touched = np.isin(names, list(ground.rules.force_out))
    share = after / ground.plan_periods
    dear = np.abs(trial.tried - trial.kept) * share > ground.reserve / size
    still = trial.eligible | (np.abs(trial.planned - trial.kept) <= 0.1 * np.maximum(trial.kept, 1e-9))
    rows = np.flatnonzero(still & (ground.usual > 0))
    candidates = np.flatnonzero((trial.eligible & ~touched & ~dear)[rows])
    forced = np.flatnonzero(np.isin(names[rows], list(ground.rules.force_in)) & trial.eligible[rows])
    volume = ground.usual[rows] / max(float(ground.usual[rows].sum()), 1e-300)
    touches = ground.touches[np.ix_(rows, rows)] if ground.rules.buffer else np.zeros((len(rows),) * 2, dtype=bool)
    sets = draw_sets(candidates, size, volume, ground.rules.most_volume, touches, forced[: size - 1], ground.seed)
    if not len(sets):
        return None
    banned = (sets.astype(float) @ touches > 0) & ~sets if ground.rules.buffer else None
    arms = np.full(len(names), -1)
    arms[rows] = np.where(sets[0], 1, 0)
    layout = Layout(rows.astype(np.int64), sets, None, banned)
    empty = np.full(len(names), -1)
    return _judged((trial,), arms.astype(np.int64), empty.astype(np.int64), (layout,), ground, after, cool, final)


def _loss(trials: tuple[Trial, ...], ground: Ground) -> Array:
    """(markets,) value that taking part costs over a plan period, by lot treated or control; at least a trace.

    Markets that the plan leaves alone cost little: near the optimum money works as well here as there.
    """
    total = np.zeros(len(ground.usual))
    floor = np.zeros(len(total))
    for t in trials:
        treated = ground.price * (t.tried - t.planned) - (t.worth[:, 0] - t.worth[:, 1])
        control = ground.price * (t.kept - t.planned) + t.worth[:, 1]
        total += (treated + control) / 2
        floor += 0.02 * ground.price * np.abs(t.tried - t.kept)
    return np.maximum(total, floor)


def _within_caps(blocks: Ints, trials: tuple[Trial, ...], ground: Ground, after: int, part: float, loss: Array) -> Ints:
    """Blocks that say most for what they cost, as far as the reserve and the cap on volume let them in; renumbered."""
    number = int(blocks.max()) + 1
    inside = blocks >= 0
    share = after / ground.plan_periods
    moved = np.sum([np.abs(t.tried - t.kept) for t in trials], axis=0) * share
    most = np.zeros(number)
    np.maximum.at(most, blocks[inside], moved[inside])
    volume = np.bincount(blocks[inside], ground.usual[inside], number)
    expected = np.sum([np.abs(t.extra.mean(axis=1)) for t in trials], axis=0)
    seen = np.bincount(blocks[inside], expected[inside], number) ** 2 / np.maximum(volume, 1e-9)
    price = np.bincount(blocks[inside], loss[inside], number)
    forced = np.isin(np.array(ground.history.markets), list(ground.rules.force_in)) & inside
    first = np.bincount(blocks[forced], minlength=number) > 0
    order = np.lexsort((np.arange(number), -seen / np.maximum(price, 1e-9), ~first))
    room = ground.rules.most_volume * float(ground.usual.sum())
    taken, spent, held = [], 0.0, 0.0
    for b in order:
        if spent + most[b] <= ground.reserve + 1e-9 and held + volume[b] <= room + 1e-9:
            taken.append(int(b))
            spent, held = spent + most[b], held + volume[b]
    taken = taken[: max(int(np.ceil(part * len(taken))), min(MIN_BLOCKS, len(taken)))]
    new = np.full(number + 1, -1)
    new[np.sort(np.array(taken, dtype=np.int64))] = np.arange(len(taken))
    return np.where(inside, new[blocks], -1)


def _judged(
    trials: tuple[Trial, ...], arms: Ints, blocks: Ints, layouts: tuple[Layout, ...], ground: Ground, after: int,
    cool: int, final: bool,
) -> Proposal | None:  # fmt: skip
    history, tests = ground.history, []
    for layout in layouts:
        if final:
            found = choose_method(layout, history.counts, after + cool, history.frequency)
        else:
            name = "ancova" if layout.blocks is not None else "control"
            found = backtest(Method(name, _MIDDLE[history.frequency]), layout, history.counts, after + cool, LIFTS[:1])
        if found is None or found.smallest > ALPHA:
            return None
        tests.append(found)
    share = after / ground.plan_periods
    signals = np.array([_signal(t, arms == i + 1, ground.usual, share, after + cool) for i, t in enumerate(trials)])
    years = ground.plan_periods * DAYS[history.frequency] / 365.25
    left = max(1 - (after + cool) / ground.plan_periods, 0.0)
    left += sum((1 + ground.discount) ** (-years * k) for k in range(1, NEXT_PLANS + 1))
    worth, unsure = value_of_sample(ground.values, signals, np.array([t.error for t in tests]), ground.seed)
    cost, money = 0.0, 0.0
    for i, trial in enumerate(trials):
        treated, control = arms == i + 1, arms >= 0
        if blocks.max() < 0:
            control = control & trial.eligible
        control = control & ~treated
        cost += ground.price * float((trial.tried - trial.planned)[treated].sum())
        cost -= float((trial.worth[:, 0] - trial.worth[:, 1])[treated].sum())
        cost += ground.price * float((trial.kept - trial.planned)[control].sum()) + float(trial.worth[control, 1].sum())
        money += float((trial.tried - trial.kept)[treated].sum()) * share
    return Proposal(
        trials,
        arms,
        blocks,
        layouts,
        tuple(tests),
        signals,
        after,
        cool,
        money,
        worth * left,
        unsure * left,
        cost * share,
    )


def _signal(trial: Trial, treated: NDArray[np.bool_], usual: Array, share: float, periods: int) -> Array:
    """(draws,) log lift of all treated markets together over the periods that count."""
    base = max(float(usual[treated].sum()) * periods, 1e-9)
    return np.asarray(np.log1p(np.clip(trial.extra[treated].sum(axis=0) * share / base, -0.95, 50.0)))
