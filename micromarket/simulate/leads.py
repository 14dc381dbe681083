"""Leads: those behind the customers won, those lost on the way, those still open at ``as_of``."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.simulate.company import Company
from micromarket.simulate.customers import Customers, pick, recorded_flow, spread
from micromarket.simulate.scenario import Scenario, stream
from micromarket.simulate.spending import Spending, Window
from micromarket.simulate.value import Value

STAGES = ("mql", "sal", "sql", "won")
_WITH_LEAD = 0.75  # of the customers that a channel wins; the others walk in
_NO_MARKET = 0.05
_RECENT_WEEKS = 26
_AHEAD_WEEKS = 17  # after as_of: their leads are open today


def stage_rates(seed: int, scenario: Scenario, markets: int) -> np.ndarray:
    """True share (m, c, 4) of leads that reach MQL, SAL, SQL and won, each of the stage before."""
    rng = stream(seed, "rates")
    rates = np.array([c.rates for c in scenario.channels])
    odds = np.log(rates / (1 - rates)) + 0.20 * rng.normal(size=(markets, 1, 4))
    return 1 / (1 + np.exp(-odds))


def draw_leads(
    seed: int, scenario: Scenario, company: Company, value: Value, spending: Spending, window: Window,
    customers: Customers,
) -> pd.DataFrame:  # fmt: skip
    """The table ``leads`` with codes for market (-1: unknown), segment and channel, dates as datetime64[D]."""
    rng = stream(seed, "leads")
    rates = stage_rates(seed, scenario, len(company.organic))
    as_of = np.datetime64(scenario.as_of)
    win_rate = rates.prod(2)

    inside = (customers.recorded >= 0) & (customers.started >= window.start)
    inside &= rng.random(len(customers)) < _WITH_LEAD
    won = [customers.market[inside], customers.recorded[inside], customers.segment[inside], customers.started[inside]]
    # the same flows go on after as_of (their leads are open), and for every lead won others are lost
    flow = recorded_flow(scenario, company, value, spending, window)
    ahead = flow[..., -_RECENT_WEEKS:].mean(3, keepdims=True) * np.ones(_AHEAD_WEEKS)
    lost_ratio = (1 / win_rate - 1)[..., None, None]
    future = _by_channel(rng, ahead * _WITH_LEAD, window.weeks[-1] + window.days[-1])
    lost_past = _by_channel(rng, flow * (_WITH_LEAD * lost_ratio), window.start)
    lost_ahead = _by_channel(rng, ahead * (_WITH_LEAD * lost_ratio), window.weeks[-1] + window.days[-1])
    groups = [won, future, lost_past, lost_ahead]
    market, channel, segment, decided = (np.concatenate(p) for p in zip(*groups, strict=True))
    wins = np.arange(len(market)) < len(won[0]) + len(future[0])

    lags = np.array([c.lags for c in scenario.channels], dtype=float)[channel]
    days = np.floor(rng.gamma(1.5, lags / 1.5)).astype(np.int64)
    # where a lost lead stopped: the stages are left in proportion to the true rates
    r = rates[market, channel]
    reach = np.c_[np.ones(len(r)), r.cumprod(1)]
    stop = reach[:, :-1] - reach[:, 1:]
    stage = np.where(wins, 4, pick(rng, stop / stop.sum(1, keepdims=True)))
    steps = days.cumsum(1)
    created = decided - steps[:, 3]
    dates = {"created_on": created}
    for i, name in enumerate(STAGES):
        on = created + steps[:, i]
        if name == "won":
            on = np.where(wins, decided, np.datetime64("NaT"))
        dates[f"{name}_on"] = np.where((stage > i) & (on <= as_of), on, np.datetime64("NaT"))
    waits = np.floor(rng.gamma(1.5, 8 / 1.5, size=len(r))).astype(np.int64) + 1
    last = created + np.where(stage > 0, np.take_along_axis(steps, np.maximum(stage - 1, 0)[:, None], 1)[:, 0], 0)
    lost = np.where(~wins & (last + waits <= as_of), last + waits, np.datetime64("NaT"))
    worth = value.price[market, segment] * value.product[market, segment]
    year = worth.sum(1) * (12 if scenario.contractual else value.orders[market, segment])
    year = np.round(year * np.exp(0.2 * rng.normal(size=len(year))), -1)
    frame = pd.DataFrame(
        {
            "market": np.where(rng.random(len(market)) < _NO_MARKET, -1, market),
            "segment": segment,
            "channel": channel,
            **dates,
            "lost_on": lost,
            "value": np.where(np.isnat(dates["sql_on"]), np.nan, year),
        }
    )
    frame = frame[(created >= window.start) & (created <= as_of)]
    return frame.sort_values(["created_on", "market", "channel", "segment"], kind="stable").reset_index(drop=True)


def _by_channel(rng: np.random.Generator, flow: np.ndarray, start: np.datetime64) -> list[np.ndarray]:
    """Expected leads (m, c, s, t) drawn: market, channel, segment, day."""
    parts = [spread(rng.poisson(flow[:, c]), c) for c in range(flow.shape[1])]
    market, segment, week, channel = (np.concatenate(p) for p in zip(*parts, strict=True))
    return [market, channel, segment, start + 7 * week + rng.integers(0, 7, size=len(week))]
