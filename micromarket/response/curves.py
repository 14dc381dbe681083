"""From effects per head and period to curves of money over the plan period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.response.model import SaturatingPanel
from micromarket.response.posterior import ChannelDraws
from micromarket.response.result import Curves
from micromarket.response.transform import Array, Shape, adstock

# Multiples of today's spend between which a plan moves money (default limits of a market).
SPAN = (0.5, 2.0)
CHUNK = 2_000
_ROWS = 20_000


@dataclass(frozen=True)
class PlanSpend:
    """How money would be spent over the plan: last year's pattern at today's level.

    Attributes
    ----------
    pattern : array (periods, markets, channels)
        Pressure units (see :class:`~.panel.Panel`); where a cell has no spend now, an even 1.
    current : array (markets, channels)
        Money over the plan period.
    heads : array (markets,)
        ``scale`` times the periods of the plan: turns per head and period into customers over the plan.
    unit : array (channels,)
        Money per head and period of one pressure unit.
    """

    pattern: Array
    current: Array
    heads: Array
    unit: Array

    def at(self, shape: Shape) -> tuple[Array, Array]:
        """Mean saturation, and its change per relative change of spend, both (markets, channels)."""
        pressure = adstock(self.pattern, shape.decay, start=self.pattern.mean(axis=0))
        share = pressure / (pressure + shape.half)
        return share.mean(axis=0), (share * (1 - share)).mean(axis=0)

    def bent(self, shape: Shape) -> tuple[Array, Array, Array]:
        """:meth:`at`, and what mean saturation gains from :data:`SPAN`'s lower to its upper multiple of today's."""
        pressure = adstock(self.pattern, shape.decay, start=self.pattern.mean(axis=0))
        share = pressure / (pressure + shape.half)
        low, high = (f * pressure / (f * pressure + shape.half) for f in SPAN)
        return share.mean(axis=0), (share * (1 - share)).mean(axis=0), (high - low).mean(axis=0)

    def take(self, rows: slice) -> PlanSpend:
        return PlanSpend(self.pattern[:, rows], self.current[rows], self.heads[rows], self.unit)

    def lift(
        self, shape: Shape, weight: Array, channel: int, factor: float | None, rows: NDArray[np.int64] | None = None
    ) -> float:
        """New customers per unit of money and of effect: of all of today's spend, or of what ``factor`` times it adds.

        Tests mostly scale what is spent anyway, flights and all; spread evenly the same money would saturate less.
        ``weight``: (markets,) of the channel; ``rows``: markets of the test (default: all with spend).
        """
        active = self.current[:, channel] > 0
        if rows is not None and active[rows].any():
            active = active & np.isin(np.arange(len(active)), rows)
        w = (weight * self.heads * active)[:, None]
        one = Shape(shape.logit_decay[channel : channel + 1], shape.log_half[channel : channel + 1])
        flights = self.pattern[:, :, channel : channel + 1]
        base = PlanSpend(flights, self.current, self.heads, self.unit)
        money = max(float(self.current[active, channel].sum()), 1e-300)
        if factor is None:
            return float((w * base.at(one)[0]).sum()) / money
        more = PlanSpend(flights * factor, self.current, self.heads, self.unit)
        return float((w * (more.at(one)[0] - base.at(one)[0])).sum()) / (money * (factor - 1))


def plan_spend(
    spend: Array, unit: Array, scale: Array, current: Array, periods_per_year: float, years: float
) -> PlanSpend:
    """Last year's pattern of ``spend`` (periods, markets, channels; pressure units) at the level of ``current``."""
    last = spend[-round(periods_per_year) :]
    heads = scale * periods_per_year * years
    level = current / (heads[:, None] * unit)
    mean = last.mean(axis=0)
    even = np.where(level > 0, level, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pattern = np.where((mean > 0) & (level > 0), last * (level / mean), even)
    return PlanSpend(pattern, current, heads, unit)


def _grid(draws: ChannelDraws, shape: Shape) -> tuple[list[Shape], Array]:
    """Nine shapes, and the weights (draws, 9, channels) that interpolate between them at every draw (Lagrange)."""
    nodes, weights = [], []
    for drawn, middle in ((draws.logit_decay, shape.logit_decay), (draws.log_half, shape.log_half)):
        step = np.maximum(1.5 * drawn.std(axis=0), 0.05)
        at = np.clip((drawn - middle) / step, -1.8, 1.8)
        nodes.append([middle - step, middle, middle + step])
        weights.append(np.stack([at * (at - 1) / 2, 1 - at**2, at * (at + 1) / 2], axis=1))
    shapes = [Shape(u, v) for u in nodes[0] for v in nodes[1]]
    both = weights[0][:, :, None] * weights[1][:, None, :]
    return shapes, both.reshape(len(draws), 9, -1)


def curves_from_draws(
    model: SaturatingPanel, draws: ChannelDraws, plan: PlanSpend, new_customers: float, seed: int
) -> Curves:
    """Curves that match, cell by cell, what posterior draws say at and around today's spend.

    With even spending ``amplitude = effect x heads`` and ``half_spend = k x heads`` hold exactly; flights bend the
    curve, so both are read off the value v and the elasticity r at today's spend x: ``half_spend = x r / (1 - r)``.
    Draws of the amplitude match what the drawn curve, with its own carry-over and saturation, gains from half to twice
    today's spend: that is the range in which money moves, and slopes at one point differ by more than gains do. How
    saturation moves with decay and half-saturation is worked out at nine shapes and interpolated.
    """
    markets, channels = plan.current.shape
    shapes, weights = _grid(draws, model.shape_)
    count, some = len(draws), np.asarray((draws.beta > 0).any(axis=1))
    amplitude = np.empty((count, markets, channels), dtype=np.float32)
    half, effect, low, high = (np.zeros((markets, channels)) for _ in range(4))
    pull, total = np.zeros((count, channels)), np.zeros((count, channels))
    log_room = model.modifiers_.log_room
    tilt = draws.strength - model.room_strength_
    mass = np.exp(np.outer(tilt, log_room)) @ (plan.heads * model.weight_.mean(axis=1))
    mass /= max(float(plan.heads @ model.weight_.mean(axis=1)), 1e-300)
    for chunk, begin in enumerate(range(0, markets, CHUNK)):
        rows = slice(begin, begin + CHUNK)
        part = plan.take(rows)
        heads, x = part.heads[:, None], part.current
        rng = np.random.default_rng([seed, 23, chunk])
        slopes = model.own_.draw(rows, rng.standard_normal((count, len(x), channels)))
        slopes *= (model.weight_[rows] * heads) * draws.beta[:, None]
        slopes *= (np.exp(np.outer(tilt, log_room[rows])) / mass[:, None])[..., None]
        at = [part.bent(s) for s in shapes]  # logits and logs are near to polynomials in the shape
        logit = np.stack([np.log(np.maximum(a[0], 1e-12) / np.maximum(1 - a[0], 1e-12)) for a in at])
        bend, span = (np.log(np.maximum(np.stack([a[i] for a in at]), 1e-12)) for i in (1, 2))
        values, tangents, spans = (
            np.stack([weights[:, :, c] @ f[:, :, c] for c in range(channels)], axis=-1) for f in (logit, bend, span)
        )
        values, tangents, spans = slopes / (1 + np.exp(-values)), slopes * np.exp(tangents), slopes * np.exp(spans)
        value, slope = values.mean(axis=0), tangents.mean(axis=0)
        flat = np.clip(at[4][1] / np.maximum(at[4][0], 1e-12), 0.02, 0.98)
        ratio = np.where(value > 1e-12, slope / np.maximum(value, 1e-12), flat)
        ratio = np.clip(ratio, 0.02, 0.98)
        here = np.where(x > 0, x, heads * part.unit)  # money that is one pressure unit, where nothing is spent now
        half[rows] = here * ratio / (1 - ratio)
        down, up = (f * here / (f * here + half[rows]) for f in SPAN)
        amplitude[:, rows] = spans / (up - down)
        now = np.where(x > 0, values, 0.0)
        effect[rows] = now.mean(axis=0)
        low[rows], high[rows] = np.quantile(now, [0.05, 0.95], axis=0)
        pull += np.where(x > 0, tangents, 0.0).sum(axis=1)
        total += now.sum(axis=1)
    bent = np.clip(pull / np.maximum(total, 1e-300), 0.02, 0.98)
    mean = np.clip(pull.sum(axis=0) / np.maximum(total.sum(axis=0), 1e-300), 0.02, 0.98)
    factor = np.where(~some[:, None] | (total <= 0), 1.0, bent / (1 - bent) * ((1 - mean) / mean))
    return Curves(half, amplitude, effect, low, high, plan.current, pull / max(new_customers, 1e-12), factor)


def joint_amplitude(amplitude: Array, half_spend: Array, factor: Array, current: Array) -> tuple[Array, Array]:
    """Amplitude and half-spend in draws whose saturation moves too; same gain from half to twice today's spend.

    Parameters
    ----------
    amplitude : array (cells, draws)
        As in ``curve_draws``.
    half_spend, current : arrays (cells,)
        Money; where ``current`` is 0 nothing changes.
    factor : array (cells, draws)
        Of the cell's channel in ``half_draws``.

    Returns
    -------
    amplitude, half_spend : arrays (cells, draws)
    """
    x = np.where(current > 0, current, half_spend)[:, None]

    def chord(x: Array, half: Array) -> Array:
        return SPAN[1] * x / (SPAN[1] * x + half) - SPAN[0] * x / (SPAN[0] * x + half)

    moved, own = np.empty(amplitude.shape), np.empty(amplitude.shape)
    for first in range(0, len(x), _ROWS):  # a gigabyte each for 200,000 markets: what is in between only in parts
        part = slice(first, first + _ROWS)
        own[part] = half_spend[part, None] * factor[part]
        moved[part] = amplitude[part] * chord(x[part], half_spend[part, None]) / chord(x[part], own[part])
    return moved, own


def expected_new_customers(data_new: Array, scale: Array, years: float) -> Array:
    """New customers of each market over the plan if nothing changes, from last year's counts, shrunk in small markets.

    Gamma-Poisson: rates per head vary between markets by what counts show beyond Poisson noise.
    """
    total = max(float(scale.sum()), 1e-300)
    rate = float(data_new.sum()) / total
    extra = float(((data_new - rate * scale) ** 2 - rate * scale).sum() / max(float((scale**2).sum()), 1e-300))
    if rate <= 0:
        return np.zeros_like(data_new)
    pseudo = rate / max(extra, 1e-4 * rate**2)  # heads that the common rate is worth
    shrunk = (data_new + rate * pseudo) / (scale + pseudo) * scale
    return shrunk * (float(data_new.sum()) / max(float(shrunk.sum()), 1e-300)) * years


def by_market(frame: pd.DataFrame, column: str, markets: tuple[str, ...]) -> Array:
    """``column`` in the order of ``markets``; gaps get the median, or 1 where nothing is known."""
    if column not in frame:
        return np.ones(len(markets))
    found = pd.to_numeric(frame.set_index("market_id")[column], errors="coerce").reindex(list(markets))
    found = found.where(np.isfinite(found))
    return found.fillna(float(found.median()) if found.notna().any() else 1.0).to_numpy(float)
