"""What a test could have seen in past windows: its error, false positives, power curve, smallest visible lift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from micromarket.proof.estimators.ancova import blocked_test, contrasts, log_levels, within
from micromarket.proof.estimators.inversion import RankTest
from micromarket.proof.estimators.relative_control import Controls, fit_controls, relative_test
from micromarket.proof.estimators.simplex import Array
from micromarket.proof.layout import Layout

ALPHA, POWER = 0.10, 0.80
LIFTS = np.array([0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0])
BEFORE = {"week": (13, 26, 52), "month": (3, 6, 12)}
ESTIMATORS = {"ancova": "blocked analysis of covariance", "control": "relative synthetic control",
              "ratio": "ratio to all other markets"}  # fmt: skip
_WINDOWS, _SEEN = 24, 40  # past windows looked at; assignments of a window that power is worked out for


@dataclass(frozen=True)
class Method:
    """An estimator with what it looks back on. ``name``: a key of :data:`ESTIMATORS`; ``before``: periods."""

    name: str
    before: int

    @property
    def text(self) -> str:
        return ESTIMATORS[self.name]


@dataclass(frozen=True)
class Backtest:
    """A design tried out on past windows in which nothing happened.

    Attributes
    ----------
    error : float
        Root mean square error of the estimate, log scale (about the relative lift), over windows and lots.
    lifts, power : arrays
        Chance of a p-value of at most ``ALPHA`` at each true lift.
    false_positives, drawn_false_positives : float
        Share of windows called at ``ALPHA`` with nothing there: over all lots; with the lot as drawn.
    windows : int
        Past windows; they overlap.
    smallest : float
        Smallest p-value that can come out.
    """

    method: Method
    after: int
    error: float
    lifts: Array
    power: Array
    false_positives: float
    drawn_false_positives: float
    windows: int
    smallest: float

    @property
    def detectable(self) -> float:
        """Smallest lift seen with :data:`POWER`; infinite where none of those tried is."""
        enough = np.flatnonzero(self.power >= POWER)
        if not len(enough):
            return float("inf")
        i = int(enough[0])
        return float(np.interp(POWER, self.power[i - 1 : i + 1], self.lifts[i - 1 : i + 1])) if i else 0.0

    def at(self, lift: float) -> float:
        """Power at a lift; a fall shows like a rise of the same log."""
        return float(np.interp(np.expm1(abs(np.log1p(max(lift, -0.99)))), self.lifts, self.power))


def splits_of(periods: int, before: int, after: int) -> list[int]:
    """First periods of past windows, evenly spread, the latest included."""
    every = np.arange(before, periods - after + 1)
    if len(every) <= _WINDOWS:
        return [int(i) for i in every]
    return [int(i) for i in np.unique(np.linspace(every[0], every[-1], _WINDOWS).round())]


def block_weights(counts: Array, layout: Layout, before: int, after: int) -> Array:
    """(blocks,) precision of each block's contrast: counting noise plus what markets of any size differ by.

    Learnt from past windows of ``counts`` (all of which lie before the test), whoever was treated.
    """
    assert layout.blocks is not None
    blocks, own = layout.blocks, counts[layout.rows]
    splits = splits_of(own.shape[1], before, after)
    number = int(blocks.max()) + 1
    if not splits:
        return np.ones(number)
    noise, square = np.zeros(len(own)), np.zeros(len(own))
    for split in splits:
        early, late = log_levels(own, split, before, after)
        square += _residual(early, late, blocks, np.ones(number)) ** 2 / len(splits)
        noise += np.exp(-early) / after / len(splits)
    scale = np.array([noise.mean(), 1.0])
    design = np.column_stack([noise, np.ones(len(own))]) / scale
    weight = 1 / (noise + noise.mean())
    counting, other = nnls(design * weight[:, None], square * weight)[0] / scale
    variance = np.maximum(counting * noise + other, 1e-3 * float(square.mean()) + 1e-9)
    size = np.bincount(blocks, minlength=number)
    return size / np.maximum(np.bincount(blocks, variance, number), 1e-300)


def _residual(early: Array, late: Array, blocks: np.ndarray, weights: Array) -> Array:
    x, y, w = within(early, blocks), within(late, blocks), weights[blocks]
    base = float(w @ x**2)
    return y - (float(w @ (x * y)) / base if base > 0 else 0.0) * x


def run_test(method: Method, layout: Layout, counts: Array, split: int, after: int) -> RankTest:
    """The method's test of the drawn assignment in one window; weights come from before the window only."""
    if method.name == "ancova":
        assert layout.blocks is not None
        weights = block_weights(counts[:, :split], layout, method.before, after)
        lots = contrasts(layout.treated, layout.blocks, weights)
        early, late = log_levels(counts[layout.rows], split, min(method.before, split), after)
        return blocked_test(early, late, layout.blocks, weights, lots[0], lots[1:])
    own = counts[layout.rows]
    return relative_test(controls_of(method, layout, own[:, :split], after), own[:, split : split + after], 0)


def controls_of(method: Method, layout: Layout, before: Array, after: int) -> Controls:
    """Controls of every assignment from the history up to the window."""
    part = before[:, max(before.shape[1] - method.before, 0) :]
    return fit_controls(part, layout.treated, after, layout.banned, proportional=method.name == "ratio")


def backtest(method: Method, layout: Layout, counts: Array, after: int, lifts: Array = LIFTS) -> Backtest | None:
    """Slides the window over the history; ``None`` where fewer than three fit.

    Every statistic is linear in the effect, so one pass over the windows gives the whole power curve: the drawn lot's
    statistic moves by its own slope, the others' by how much of them was treated.
    """
    splits = splits_of(counts.shape[1], method.before, after)
    if len(splits) < 3 or len(layout.treated) < 2:
        return None
    seen = np.unique(np.linspace(0, len(layout.treated) - 1, min(_SEEN, len(layout.treated))).round().astype(int))
    if method.name == "ancova":
        offsets, slopes, error = _block_statistics(method, layout, counts, after, splits, seen)
    else:
        # sets take seconds where there are many windows: a few say as much, they overlap anyway
        few = splits[:: -(-len(splits) // 8)]
        offsets, slopes, error = _set_statistics(method, layout, counts, after, few, seen)
    lots, total = offsets.shape[1], len(lifts)
    power = np.zeros(total)
    drawn = np.zeros(len(offsets))
    for k, lift in enumerate(lifts):
        effect = np.log1p(lift) if method.name == "ancova" else lift
        for w in range(len(offsets)):
            moved = np.abs(offsets[w][:, None] + effect * slopes[w])
            mine = np.abs(offsets[w][seen] + effect * slopes[w][seen, np.arange(len(seen))])
            p = (moved >= mine - 1e-12).sum(axis=0) / lots
            power[k] += float(np.mean(p <= ALPHA)) / len(offsets)
            if k == 0:
                drawn[w] = p[0] <= ALPHA
    mine_first = float(drawn.mean())
    monotone = np.maximum.accumulate(power)
    return Backtest(
        method, after, error, lifts, monotone, float(power[0]), mine_first, len(offsets), 1 / lots
    )  # fmt: skip


def _block_statistics(
    method: Method, layout: Layout, counts: Array, after: int, splits: list[int], seen: np.ndarray
) -> tuple[Array, Array, float]:
    """Statistics (windows, lots), slopes (windows, lots, seen) and the root mean square of the first."""
    assert layout.blocks is not None
    weights = block_weights(counts, layout, method.before, after)
    lots = contrasts(layout.treated, layout.blocks, weights)
    own = counts[layout.rows]
    left = []
    for split in splits:
        early, late = log_levels(own, split, method.before, after)
        left.append(_residual(early, late, layout.blocks, weights))
    offsets = lots @ np.array(left).T
    treated = np.array([within(layout.treated[i].astype(float), layout.blocks) for i in seen])
    slope = lots @ treated.T
    return offsets.T, np.broadcast_to(slope, (len(splits), *slope.shape)), float(np.sqrt((offsets**2).mean()))


def _set_statistics(
    method: Method, layout: Layout, counts: Array, after: int, splits: list[int], seen: np.ndarray
) -> tuple[Array, Array, float]:
    own, offsets, slopes, raw = counts[layout.rows], [], [], []
    for split in splits:
        controls = controls_of(method, layout, own[:, :split], after)
        alive = controls.level > 0
        late = np.where(alive, own[:, split : split + after].mean(axis=1) / np.where(alive, controls.level, 1.0), 0.0)
        contrast = controls.contrast
        gap = contrast @ (late - alive) - controls.lasting
        raw.append(gap)
        offsets.append(gap / controls.scale)
        touched = layout.treated[seen] * late
        slopes.append((contrast @ touched.T) / controls.scale[:, None])
    return np.array(offsets), np.array(slopes), float(np.sqrt((np.array(raw) ** 2).mean()))


def choose_method(layout: Layout, counts: Array, after: int, frequency: str) -> Backtest | None:
    """The method whose placebo estimates miss least on past windows, before the test and without its result."""
    names = ("ancova",) if layout.blocks is not None else ("control", "ratio")
    lengths = BEFORE[frequency]
    tried = [
        found
        for name in names
        for before in lengths
        if (found := backtest(Method(name, before), layout, counts, after)) is not None
    ]
    return min(tried, key=lambda b: (b.error, b.method.before, b.method.name)) if tried else None
