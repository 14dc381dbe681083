"""The company on its map: potential, coverage, customers, money and response, market by market, in expectation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags, eye

from micromarket.simulate.country import Country, standard
from micromarket.simulate.curves import WEEKS, saturate, steady_stock, weekly_customers
from micromarket.simulate.scenario import Scenario, stream
from micromarket.simulate.value import Value

_WEEKS_A_MONTH = 365.25 / 12 / 7


@dataclass(frozen=True)
class Company:
    """Truth by market (m), segment (s), channel (c), in expectation.

    Attributes
    ----------
    addressable, potential, customers : (m,) people or firms; ours at best practice; ours now (expected).
    reps : (m,) full-time sales people; own_stores, competitor_stores : (m,) counts.
    causes : (m, 4) log gap to potential by cause: coverage, attention, the rival, unexplained.
    spend : (m, c) money a year by the company's rule; pattern : (3, m, c, 52) weekly multiple, mean 1, of the first and
        second year before the plan (0, 1) and of the plan (2).
    amplitude : (m, c) new customers a week at saturation; scale : (m, c) money a week.
    decay : (m, c) share of a week's stock left a week later.
    lives : (m, m) where the customers live that a market's money wins (rows add up to 1), or None: there.
    channel_mix : (m, c, s) segments of the customers that a channel brings.
    organic : (m,) new customers a week without any spend; season : (52,) multiple of it, mean 1, by week of the plan.
    before : (m, months) customers won in each month before the window, oldest first.
    """

    addressable: np.ndarray
    potential: np.ndarray
    customers: np.ndarray
    reps: np.ndarray
    own_stores: np.ndarray
    competitor_stores: np.ndarray
    causes: np.ndarray
    spend: np.ndarray
    pattern: np.ndarray
    amplitude: np.ndarray
    scale: np.ndarray
    decay: np.ndarray
    lives: csr_matrix | None
    channel_mix: np.ndarray
    organic: np.ndarray
    season: np.ndarray
    before: np.ndarray


def season_of_year(week_of_year: np.ndarray) -> np.ndarray:
    """Demand by week of the calendar year: a swell towards the year's end, a peak at the lunar new year, mean 1."""
    t = np.asarray(week_of_year, dtype=float)
    z = 1 + 0.10 * np.cos(2 * np.pi * (t - 49) / 52) + 0.22 * np.exp(-0.5 * ((t - 5.5) / 1.6) ** 2)
    return z / z.mean()


def trend(months: int, rise: float) -> np.ndarray:
    """Weights of the months before the window, oldest first; 1 in the newest; ``rise``: log growth a year."""
    return np.exp(rise * (np.arange(months) - months + 1) / 12)


def build_company(seed: int, scenario: Scenario, country: Country, value: Value, customers: int, weeks: int) -> Company:
    """Draws the company and tunes what the scenario fixes: customers, return of spend, growth, the story's shares."""
    rng = stream(seed, "company")
    f, m = country.fields, len(country.x)
    clv = (value.mix * value.new_clv).sum(1)
    attention = standard(rng.normal(size=m) - scenario.neglect * f["wealth"] + 1.2 * value.entrant)
    rate = (  # share of the addressable that would be ours at best practice: bends, thresholds and an interaction
        -1.5 + 0.55 * np.tanh(f["wealth"]) + 0.22 * f["young"] * (f["city"] > 0)
        - 0.25 * np.maximum(f["rivalry"], 0) ** 1.5 - 0.10 * (f["city"] - 0.4) ** 2 + 0.15 * f["hidden"]
    )  # fmt: skip
    rate = 1 / (1 + np.exp(-rate))
    log_size = scenario.size_spread * f["size"] + 0.5 * value.entrant
    reps_noise, unexplained = rng.normal(size=m), np.abs(rng.normal(size=m))
    owned, rivals = rng.poisson(1, size=m), rng.gamma(6, 1 / 6, size=m)

    def sized(power: float) -> tuple[np.ndarray, ...]:
        size = np.exp(power * log_size)
        size = size + scenario.smallest * size.mean()  # nobody cuts markets too small to work
        coverage = np.exp(0.45 * attention + 0.35 * reps_noise) * size**-0.12
        best = np.quantile(coverage, 0.9)
        causes = np.stack(
            [
                0.65 * np.maximum(0, 1 - coverage / best),
                0.22 * np.maximum(0, 1.2 - attention),
                np.where(value.entrant, 0.05, 0.0),
                scenario.inefficiency * unexplained * np.where(value.entrant, 0.4, 1.0),
            ],
            axis=1,
        )
        ours = size * rate * np.exp(-causes.sum(1))
        size = size * customers / ours.sum()
        return size, size * rate, size * rate * np.exp(-causes.sum(1)), coverage, causes

    power = 1.0
    wanted = scenario.opportunity_in_best_fifth
    if wanted is not None:

        def excess(p: float, wanted: float = wanted) -> float:
            _, potential, ours, _, _ = sized(p)
            return share_of_best((potential - ours) * clv) - wanted

        power = _bisect(excess, 0.2, 4.0)
    addressable, potential, ours, coverage, causes = sized(power)
    headroom = potential - ours
    people = addressable / 1e4
    reps = np.maximum(np.round(2 * coverage / coverage.mean() * people * 4) / 2, 0.5)
    competitor = np.round(people * 5 * np.exp(0.35 * f["rivalry"]) * rivals * np.where(value.entrant, 2.0, 1.0))
    own = np.round(people * 2.5 * np.exp(0.3 * attention) + 0.4 * owned)

    spend = _spend_rule(rng, scenario, country, value, addressable, ours, attention, headroom * clv)
    revenue = (
        (ours[:, None] * value.mix * value.revenue[:, :, 12]).sum()
        * 12
        / (value.mix * value.alive[:, :, 12]).mean(0).sum()
    )
    spend *= scenario.spend_rate * revenue / spend.sum()
    pattern = _pattern(rng, scenario, country)

    channels = scenario.channels
    curves = [c.curve for c in channels]
    per_head = spend / WEEKS / addressable[:, None]
    typical = np.array([np.median(col[col > 0]) if (col > 0).any() else 1.0 for col in per_head.T])
    level = np.array([c.saturation for c in channels])
    scale = addressable[:, None] * typical / level * np.exp(0.2 * rng.normal(size=(m, len(channels))))
    push = np.array([c.strength * c.share for c in channels]) / saturate(level[None], curves, axis=1)[0]
    rest = round(1 - scenario.room_power, 12)
    room = headroom**scenario.room_power * potential**rest * np.where(value.entrant, 0.5, 1.0)
    amplitude = room[:, None] * push * np.exp(0.35 * rng.normal(size=(m, len(channels))))
    if scenario.habit:  # the curves suit the money of the rule; habit then sets whole channels wrong
        wrong = spend * np.asarray(scenario.habit, dtype=float)
        spend = wrong * (spend.sum() / wrong.sum())
    decay = np.array([c.decay for c in channels]) * np.ones((m, 1))
    if scenario.decay_spread:
        odds = np.log(decay / (1 - decay)) + scenario.decay_spread * stream(seed, "decay").normal(size=decay.shape)
        decay = 1 / (1 + np.exp(-odds))
    lives = _lives(country, scenario.spillover)
    tilt = np.array([c.segments for c in channels])
    channel_mix = value.mix[:, None] * tilt
    channel_mix /= channel_mix.sum(2, keepdims=True)
    each = np.einsum("mcs,ms->mc", channel_mix, value.new_clv)

    def weekly(amplitude: np.ndarray) -> np.ndarray:
        stock = steady_stock(spend[..., None] / WEEKS * pattern[1], decay if scenario.decay_spread else decay[0])
        return weekly_customers(amplitude, scale, stock, curves).mean(2)

    for _ in range(
        6
    ):  # the right return in total, while no market wins more than a third of its customers a year by spend
        amplitude *= scenario.mean_return * spend.sum() / (weekly(amplitude) * each * WEEKS).sum()
        amplitude *= np.minimum(1, 0.33 * ours / np.maximum(weekly(amplitude).sum(1) * WEEKS, 1e-9))[:, None]
    if scenario.no_response:
        amplitude = np.zeros_like(amplitude)
    won = weekly(amplitude).sum(1) if lives is None else lives.T @ weekly(amplitude).sum(1)
    organic, before = _flows(rng, scenario, value, ours, won, weeks)
    start = pd.Timestamp(scenario.as_of) + pd.Timedelta(days=1)
    season = season_of_year((start.day_of_year // 7 + np.arange(WEEKS)) % WEEKS)
    return Company(addressable, potential, ours, reps, own, competitor, causes, spend, pattern, amplitude, scale,
                   decay, lives, channel_mix, organic, season, before)  # fmt: skip


def share_of_best(value: np.ndarray, part: float = 0.2) -> float:
    """Share of ``value`` in the best ``part`` of the markets (rounded to whole markets, at least one)."""
    n = max(1, round(len(value) * part))
    return float(np.sort(value)[-n:].sum() / value.sum())


def _lives(country: Country, spillover: float) -> csr_matrix | None:
    """Rows: where money is spent; columns: where the customers live that it wins. Neighbours share ``spillover``."""
    if not spillover:
        return None
    near = (country.near > 0).astype(float)
    count = np.asarray(near.sum(1)).ravel()
    away = np.where(count > 0, spillover / np.maximum(count, 1), 0.0)
    return csr_matrix(diags(away) @ near + diags(1 - away * count) @ eye(len(count)))


def _bisect(function, low: float, high: float) -> float:
    """Root of an increasing function, or the nearer end where there is none."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def _spend_rule(rng, scenario, country, value, addressable, ours, attention, opportunity) -> np.ndarray:
    """Money a year by habit: past customers, size and attention, tilted by channel; cells without money."""
    m, channels = len(addressable), scenario.channels
    market = ours**0.6 * addressable**0.4 * np.exp(scenario.spend_noise * rng.normal(size=m) + 0.25 * attention)
    market = market / market.sum()
    groups = [(value.entrant, scenario.spend_in_lowest_tenth)]
    best = np.zeros(m, dtype=bool)
    best[np.argsort(-opportunity, kind="stable")[: round(m / 5)]] = True
    groups.append((best & ~value.entrant, scenario.spend_in_best_fifth))
    fixed = np.zeros(m, dtype=bool)
    for group, share in groups:
        if share is not None and group.any():
            market[group] *= share / market[group].sum()
            fixed |= group
    if fixed.any() and not fixed.all():
        market[~fixed] *= (1 - market[fixed].sum()) / market[~fixed].sum()
    cell = np.log([c.share for c in channels]) + np.outer(country.fields["city"], [c.urban for c in channels])
    cell = np.exp(cell + 0.35 * rng.normal(size=cell.shape))
    empty = rng.random(cell.shape) < scenario.zero_cells
    if scenario.sparse:  # the last two channels are used in a few markets only
        empty[:, -2:] |= rng.random((m, min(2, cell.shape[1]))) > 0.2
    empty[np.arange(m), cell.argmax(1)] &= scenario.sparse  # elsewhere every market keeps one channel
    cell = np.where(empty, 0.0, cell)
    total = cell.sum(1, keepdims=True)
    return market[:, None] * np.divide(cell, total, out=np.zeros_like(cell), where=total > 0)


def _pattern(rng: np.random.Generator, scenario: Scenario, country: Country) -> np.ndarray:
    """Flights by region and channel for two past years and the plan's: (3, m, c, 52), mean 1 over the weeks."""
    regions = country.region.max() + 1
    start = pd.Timestamp(scenario.as_of) + pd.Timedelta(days=1)
    season = season_of_year((start.day_of_year // 7 + np.arange(WEEKS)) % WEEKS)
    out = np.empty((3, regions, len(scenario.channels), WEEKS))
    for c, channel in enumerate(scenario.channels):
        phase = rng.integers(0, channel.flight + channel.gap, size=(3, regions, 1))
        on = (np.arange(WEEKS) + phase) % (channel.flight + channel.gap) < channel.flight
        out[:, :, c] = (
            channel.always_on + (1 - channel.always_on) * on * (channel.flight + channel.gap) / channel.flight
        )
    out *= season
    out /= out.mean(3, keepdims=True)
    return out[:, country.region]


def _flows(rng, scenario, value, ours, incremental, weeks) -> tuple[np.ndarray, np.ndarray]:
    """Customers won without spend, and before the window, so that the stock is right and revenue grows as wanted."""
    months = max(1, round(weeks / _WEEKS_A_MONTH))
    past = round(scenario.history_years * 12)
    alive = np.einsum("ms,msk->mk", value.mix, value.alive)
    revenue = np.einsum("ms,msk->mk", value.mix, value.revenue)
    age = months + past - 1 - np.arange(months + past)  # of the cohort of each month at as_of, oldest first
    half = (alive[:, age] + alive[:, age + 1]) / 2  # a month's cohort is on average half a month older
    window = half[:, past:].sum(1)
    own = np.exp(0.2 * rng.normal(size=len(ours)))
    spend_flow = incremental * _WEEKS_A_MONTH
    # revenue of last year (months -12..-1) and of the plan (0..11) by a customer of each past cohort and of the plan's
    last = np.stack([np.where(age - j >= 0, revenue[:, np.maximum(age - j, 0)], 0) for j in range(12)]).sum(0)
    plan = np.stack([revenue[:, age + j] for j in range(1, 13)]).sum(0)
    new = revenue[:, :12].cumsum(1).sum(1)

    def split(rise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = trend(past, rise)
        even = ours / (half @ np.r_[shape, np.ones(months)])
        # whatever spend doesn't bring comes by itself, and the window leaves room for an older tenth of the customers
        organic = np.clip(even * own - spend_flow, 0.15 * even, None)
        organic = np.minimum(organic, np.maximum(0.9 * ours / window - spend_flow, 0.02 * even))
        before = np.maximum(ours - (organic + spend_flow) * window, 0) / (half[:, :past] @ shape)
        return organic, before, shape

    def excess(rise: float) -> float:
        organic, before, shape = split(rise)
        flow = organic + spend_flow
        was = (before * (last[:, :past] @ shape) + flow * last[:, past:].sum(1)).sum()
        will = (before * (plan[:, :past] @ shape) + flow * (plan[:, past:].sum(1) + new)).sum()
        return float(will / was - 1 - scenario.growth)

    rise = _bisect(excess, -0.4, 1.5)
    organic, before, shape = split(rise)
    return organic / _WEEKS_A_MONTH, before[:, None] * shape
