"""From effects per head and period to curves of money over the plan period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.response.posterior import ELASTICITY_LOG_MEAN, ELASTICITY_LOG_SD, Draws
from micromarket.response.result import Curves
from micromarket.response.transform import Array, Shape, adstock

# Multiples of today's spend between which a plan moves money (default limits of a market).
SPAN = (0.5, 2.0)


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

    def span(self, shape: Shape) -> Array:
        """What mean saturation gains from :data:`SPAN`'s lower to its upper multiple of today's spend."""
        pressure = adstock(self.pattern, shape.decay, start=self.pattern.mean(axis=0))
        low, high = (f * pressure / (f * pressure + shape.half) for f in SPAN)
        return (high - low).mean(axis=0)

    def lift(self, shape: Shape, weight: Array, channel: int, factor: float | None) -> float:
        """New customers per unit of money and of effect: of all of today's spend, or of what ``factor`` times it adds.

        Tests mostly scale what is spent anyway, flights and all; spread evenly the same money would saturate less.
        """
        active = self.current[:, channel] > 0
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


def curves_from_draws(draws: Draws, plan: PlanSpend, shape: Shape, new_customers: float) -> Curves:
    """Curves that match, cell by cell, what posterior draws say at and around today's spend.

    With even spending ``amplitude = effect x heads`` and ``half_spend = k x heads`` hold exactly; flights bend the
    curve, so both are read off the value v and the elasticity r at today's spend x: ``half_spend = x r / (1 - r)``.
    Draws of the amplitude match what the drawn curve, with its own carry-over and saturation, gains from half to twice
    today's spend: that is the range in which money moves, and slopes at one point differ by more than gains do.
    """
    heads, x = plan.heads[:, None], plan.current
    values, slopes, spans = (np.empty_like(draws.slopes) for _ in range(3))
    for d, own in enumerate(draws.shapes):
        if draws.none[d]:
            values[d] = slopes[d] = spans[d] = 0.0
            continue
        share, bend = plan.at(own)
        values[d], slopes[d] = draws.slopes[d] * heads * share, draws.slopes[d] * heads * bend
        spans[d] = draws.slopes[d] * heads * plan.span(own)
    value, slope = values.mean(axis=0, dtype=float), slopes.mean(axis=0, dtype=float)
    share, bend = plan.at(shape)
    ratio = np.where(value > 1e-12, slope / np.maximum(value, 1e-12), bend / np.maximum(share, 1e-12))
    ratio = np.clip(ratio, 0.02, 0.98)
    even = heads * plan.unit  # money that is one pressure unit, where nothing is spent now
    at = np.where(x > 0, x, even)
    half = at * ratio / (1 - ratio)
    low, high = (f * at / (f * at + half) for f in SPAN)
    amplitude = spans / (high - low).astype(np.float32)
    active = x > 0
    pull = (slopes * active).sum(axis=1, dtype=float) / max(new_customers, 1e-12)
    return Curves(half, amplitude, values * active, x, pull)


def assumed_curves(new_customers: Array, current: Array, scale: Array, count: int, seed: int) -> Curves:
    """Curves from the literature's elasticity, for who has no history to estimate from.

    A market's new customers N (plan period) move by e percent when all its spend moves by one percent: split over
    channels by money, half saturated today (``half_spend`` = current), so ``amplitude = 4 e N share``. e is
    log-normal, 90% from .03 to .3 (Sethuraman, Tellis & Briesch 2011), half of its variance common to all channels.
    How far N tells markets apart is not known either: N enters as ``N^t (money x r)^(1 - t)`` with t uniform from 0 (a
    unit of money does the same everywhere) to 1, and each market has its own factor (log-normal, standard deviation
    .5). Cells without spend get their channel's mean curve per head.
    """
    channels = current.shape[1]
    rng = np.random.default_rng(seed)
    z = (rng.standard_normal((count, 1)) + rng.standard_normal((count, channels))) / np.sqrt(2)
    elasticity = np.exp(ELASTICITY_LOG_MEAN + ELASTICITY_LOG_SD * z)
    # the sample's mean is made exact, so that the stated elasticity is the one used
    elasticity *= np.exp(ELASTICITY_LOG_MEAN + ELASTICITY_LOG_SD**2 / 2) / elasticity.mean(axis=0)
    money = current.sum(axis=1)
    share = current / np.maximum(money[:, None], 1e-300)
    amplitude = 4 * new_customers[:, None] * share
    # by draw: how much of the difference between markets is response, and each market's own factor
    even = money * (float(new_customers[money > 0].sum()) / max(float(money.sum()), 1e-300))
    apart = np.log(np.maximum(new_customers, 1e-12) / np.maximum(even, 1e-12)) * (money > 0)
    own = np.exp((rng.random((count, 1)) - 1) * apart + 0.5 * rng.standard_normal((count, len(money))))
    keep = new_customers * (money > 0)
    own *= float(keep.sum()) / np.maximum((own * keep).sum(axis=1, keepdims=True), 1e-300)
    used = current > 0
    heads = np.maximum((scale[:, None] * used).sum(axis=0), 1e-300)
    amplitude = np.where(used, amplitude, scale[:, None] * (amplitude.sum(axis=0) / heads))
    half = np.where(used, current, np.maximum(scale[:, None] * (current.sum(axis=0) / heads), 1e-9))
    draws = elasticity[:, None] * amplitude * own[:, :, None]
    pull = elasticity * (amplitude * used).sum(axis=0) / 4 / max(float(new_customers.sum()), 1e-300)
    return Curves(half, draws, draws * (current / (current + half)), current, pull)


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
