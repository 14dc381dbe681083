"""Which account of where money works better predicts what it has not seen?

Three accounts share the channels' totals and differ in how these spread over markets: each market's own effects
(the response model), effects in proportion to headroom, effects in proportion to size. Each half of the history is
predicted from the other one (two-fold cross-validation); the weights are what the held-out halves say, with a prior.
It is stacking (Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13, 917-1007) of means, with the weights averaged
over their posterior in place of the best ones: with a few hundred markets the best ones are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from micromarket.response.model import SaturatingPanel
from micromarket.response.panel import Panel
from micromarket.response.transform import saturated

Array = NDArray[np.float64]
ACCOUNTS = ("own effects", "headroom", "size")
# Prior of the weights of own effects and headroom (normal); what is left to 1 is the weight of size. It may be below 0:
# all that is known is shrunk, and markets then differ by more than the accounts say. Centre and spread were chosen on
# simulated companies of seeds 1 and 2, where plans made on anything near do equally well and promises come true on
# average; without evidence it is what is used.
CENTRE, SPREAD = np.array([0.80, 0.55]), np.array([0.20, 0.15])
MOST, LEAST_SIZE = np.array([1.2, 0.8]), -0.5
STEP = 0.05
MOST_MARKETS = 400
LEAST_MARKETS, LEAST_PERIODS = 30, 60


@dataclass(frozen=True)
class Weights:
    """Posterior of the weights of :data:`ACCOUNTS`.

    Attributes
    ----------
    points, odds : arrays (points, 3), (points,)
        Weights on a grid, and the probability of each.
    heldout : bool
        Held-out halves had a say; else it is the prior.
    """

    points: Array
    odds: Array
    heldout: bool

    @property
    def mean(self) -> Array:
        return np.asarray(self.odds @ self.points)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """(count, 3): evenly spread over the probabilities, in random order."""
        at = (np.arange(count) + 0.5) / count
        index = np.minimum(np.searchsorted(np.cumsum(self.odds), at), len(self.points) - 1)
        return self.points[rng.permutation(index)]


def _grid() -> Array:
    """Weights in steps of :data:`STEP`, none of them below 0 but that of size."""
    a, b = (np.arange(0, top + STEP / 2, STEP) for top in MOST)
    first, second = (g.ravel() for g in np.meshgrid(a, b, indexing="ij"))
    points = np.column_stack([first, second, 1 - first - second])
    return points[points[:, 2] >= LEAST_SIZE - 1e-9]


def weigh(best: Array | None, precision: Array | None) -> Weights:
    """Weights from a normal likelihood of the first two, ``best`` (2,) with ``precision`` (2, 2), and the prior."""
    points = _grid()
    log = -0.5 * (((points[:, :2] - CENTRE) / SPREAD) ** 2).sum(axis=1)
    if best is not None and precision is not None:
        away = points[:, :2] - best
        log = log - 0.5 * np.einsum("pi,ij,pj->p", away, precision, away)
    odds = np.exp(log - log.max())
    return Weights(points, odds / odds.sum(), best is not None)


def held_out(panel: Panel) -> Weights:
    """Weights of the accounts from the company's history; the prior where it is too short or has too few markets."""
    if len(panel.scale) < LEAST_MARKETS or len(panel.outcome) < LEAST_PERIODS:
        return weigh(None, None)
    rows = np.arange(0, len(panel.scale), -(-len(panel.scale) // MOST_MARKETS))
    half = len(panel.outcome) // 2
    halves = (slice(0, half), slice(half, None))
    information, score = np.zeros((len(rows), 2, 2)), np.zeros((len(rows), 2))
    with threadpool_limits(limits=1):
        for train, test in (halves, halves[::-1]):
            model = _fit(panel, train, rows)
            if model is not None:
                found = _compare(model, panel, test, rows)
                information, score = information + found[0], score + found[1]
    whole = information.sum(axis=0)
    if np.linalg.matrix_rank(whole) < 2:
        return weigh(None, None)
    best = np.linalg.solve(whole, score.sum(axis=0))
    # errors depend on one another within a market: its score at the best weights says how much (Liang & Zeger 1986)
    rest = score - information @ best
    spread = rest.T @ rest
    if np.linalg.matrix_rank(spread) < 2:
        return weigh(None, None)
    return weigh(best, whole @ np.linalg.inv(spread) @ whole)


def _fit(panel: Panel, periods: slice, rows: NDArray[np.int64]) -> SaturatingPanel | None:
    spend = panel.spend[periods][:, rows]
    used = (spend > 0).any(axis=0).sum(axis=0) >= 10
    if not used.all() or not panel.outcome[periods][:, rows].any():
        return None
    region = None if panel.region is None else panel.region[rows]
    model = SaturatingPanel(None, iterations=20, rounds=2).fit(
        panel.outcome[periods][:, rows], spend, panel.scale[rows], panel.room[rows], region, panel.features[rows],
        panel.extra[periods][:, rows],
    )  # fmt: skip
    return model if bool((model.beta_ > 0).any()) else None


def _compare(model: SaturatingPanel, panel: Panel, test: slice, rows: NDArray[np.int64]) -> tuple[Array, Array]:
    """Information on the first two weights and their score, by market, from periods that ``model`` hasn't seen.

    Channels' levels may differ there: the mean account's signal of every channel is taken out first, beside markets'
    and periods' means.
    """
    x = saturated(panel.spend[test][:, rows], model.shape_)
    room, weight = panel.room[rows], 1 / model.noise_
    own = np.maximum(model.effects_, 0.0)
    mass = x.mean(axis=0) * panel.scale[rows, None]
    forms = [own]
    for shape in (room, np.ones_like(room)):
        total = (own * mass).sum(axis=0) / np.maximum((shape[:, None] * mass).sum(axis=0), 1e-300)
        forms.append(shape[:, None] * total)
    middle = sum(p * f for p, f in zip((*CENTRE, 1 - CENTRE.sum()), forms, strict=True))
    signals = [(x * f).sum(axis=2) for f in forms]
    columns = [signals[0] - signals[2], signals[1] - signals[2]]
    target = panel.outcome[test][:, rows] - signals[2]
    out = [x[..., c] * middle[:, c] for c in range(x.shape[2])]
    root = np.sqrt(weight)

    def centred(a: Array) -> Array:
        a = a - a.mean(axis=0)
        return (a - ((a * weight).sum(axis=1) / weight.sum())[:, None]) * root

    nuisance = np.column_stack([centred(a).ravel() for a in out])
    basis = np.linalg.qr(nuisance)[0]

    def left(a: Array) -> Array:
        flat = centred(a).ravel()
        return flat - basis @ (basis.T @ flat)

    d = np.column_stack([left(c) for c in columns]).reshape(-1, len(rows), 2)
    y = left(target).reshape(-1, len(rows))
    return np.einsum("tmi,tmj->mij", d, d), np.einsum("tmi,tm->mi", d, y)
