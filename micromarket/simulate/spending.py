"""Weekly money by market and channel, its stock, and the new customers it brings; finished geo experiments."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from micromarket.simulate.company import Company
from micromarket.simulate.curves import WEEKS, stock, weekly_customers
from micromarket.simulate.scenario import Scenario, stream


@dataclass(frozen=True)
class Window:
    """The weeks (from Mondays) that spend is known for; the last one may be cut short by ``as_of``.

    Attributes
    ----------
    weeks : (t,) first days, datetime64[D].
    days : (t,) days of each week up to as_of.
    """

    weeks: np.ndarray
    days: np.ndarray

    @classmethod
    def until(cls, as_of: dt.date, full_weeks: int) -> Window:
        after = np.datetime64(as_of + dt.timedelta(days=1))
        over = (as_of.weekday() + 1) % 7
        first = after - over - 7 * full_weeks
        weeks = first + 7 * np.arange(full_weeks + (over > 0))
        return cls(weeks, np.minimum(7, (after - weeks).astype(int)))

    @property
    def start(self) -> np.datetime64:
        return self.weeks[0]

    @property
    def before_plan(self) -> np.ndarray:
        """(t,) how many weeks of 7 days before the day after as_of each week begins, rounded up."""
        after = self.weeks[-1] + self.days[-1]
        return -((self.weeks - after).astype(int) // 7)


@dataclass(frozen=True)
class Spending:
    """What was spent and what it brought, (m, c, t) over the window.

    ``money``: whole units of money; ``won``: expected new customers; ``shock``: (m, t) log demand shocks;
    ``experiment``: the table ``experiments``, or None; ``experiment_truth``: the true lift of its first row.
    """

    money: np.ndarray
    won: np.ndarray
    shock: np.ndarray
    experiment: pd.DataFrame | None
    experiment_truth: float | None


def spend_weekly(seed: int, scenario: Scenario, company: Company, window: Window, market_id: np.ndarray) -> Spending:
    """Spends by rule, flight and chance; with ``endogenous`` managers also follow the demand they see."""
    rng = stream(seed, "spending")
    channels = scenario.channels
    curves, decay = [c.curve for c in channels], company.decay if scenario.decay_spread else company.decay[0]
    m, t = len(company.organic), len(window.weeks)
    shock = scenario.shock * _autoregressive(rng, (m, t), 0.8) + 0.3 * scenario.shock * _autoregressive(
        rng, (1, t), 0.8
    )
    ago = window.before_plan
    year = np.where(ago <= WEEKS, 1, (ago // WEEKS) % 2)
    calendar = np.moveaxis(company.pattern[year, :, :, (WEEKS - ago) % WEEKS], 0, -1)
    wanted = company.spend[..., None] / WEEKS * calendar * (window.days / 7)
    wanted = wanted * np.exp(0.25 * rng.normal(size=wanted.shape) - 0.03)
    if scenario.endogenous:
        follow = np.exp(2.0 * shock)
        wanted = wanted * (follow / follow.mean(1, keepdims=True))[:, None]
    pulse, tests = _pulses(rng, scenario, window, m)
    money = np.round(wanted * pulse)

    # the stock that past spending has left at the window's start: an average year of it
    start = company.spend / WEEKS

    def won(x: np.ndarray) -> np.ndarray:
        out = weekly_customers(company.amplitude, company.scale, stock(x, decay, start), curves) * (window.days / 7)
        if company.lives is None:
            return out
        return (company.lives.T @ out.reshape(m, -1)).reshape(out.shape)

    brought = won(money)
    rows, lifts = [], []
    for test in tests:
        channel, markets, first, last = test
        without = money.copy()
        without[markets, channel] = np.round(wanted[markets, channel])
        cost = float((money - without).sum())
        truth = float((brought - won(without)).sum() / cost)
        during = (brought.sum(1) + company.organic[:, None])[markets][:, first : last + 1].sum()
        error = float(np.sqrt(2.5 * during) / abs(cost))
        lifts.append(truth)
        rows.append(
            {
                "channel": channels[channel].name,
                "start": window.weeks[first],
                "end": window.weeks[last] + 6,
                "lift": round(truth + error * rng.normal(), 6),
                "lift_se": round(error, 6),
                "markets": ";".join(market_id[markets]) if scenario.pulsed else f"{len(markets)} markets drawn by lot",
                # money that a test took away is left out: the lift is then that of today's money
                **({"spend": round(cost)} if cost > 0 else {}),
            }
        )
    return Spending(money, brought, shock, pd.DataFrame(rows) if rows else None, lifts[0] if lifts else None)


def _autoregressive(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Stationary AR(1) paths with standard deviation 1 along the last axis."""
    z = rng.normal(size=shape)
    z[:, 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], z, axis=-1)


def _pulses(
    rng, scenario: Scenario, window: Window, m: int
) -> tuple[np.ndarray, list[tuple[int, np.ndarray, int, int]]]:
    """Randomised pulses, as (channel, markets, first and last week).

    Usually one: the second channel's money x 2.5 in two fifths of the markets, early in the window. Where a share of
    markets is ``pulsed``, every channel's money is, for eight weeks of the second year: x 1.8 in half of them, x 0.2 in
    the others.
    """
    t, channels = len(window.weeks), len(scenario.channels)
    pulse = np.ones((m, channels, t))
    if scenario.pulsed:
        tests = []
        for c in range(channels):
            markets = rng.permutation(m)[: max(round(scenario.pulsed * m), 2)]
            first = t // 2 + c * (t // 2 - 8) // max(channels, 1)
            for part, times in ((markets[::2], 1.8), (markets[1::2], 0.2)):
                pulse[np.sort(part), c, first : first + 8] = times
                tests.append((c, np.sort(part), first, first + 7))
        return pulse, tests
    if t < 60 or m < 20 or channels < 2 or scenario.sparse:
        return pulse, []
    markets = np.sort(rng.choice(m, round(0.4 * m), replace=False))
    first, last = t // 5, t // 5 + 9
    pulse[markets, 1, first : last + 1] = 2.5
    return pulse, [(1, markets, first, last)]
