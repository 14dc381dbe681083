"""Stacking: held-out halves choose the right account, totals stay, money doesn't follow noise, promises hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from micromarket.allocation.evidence import CENTRE, held_out, weigh
from micromarket.allocation.gain import Draws
from micromarket.allocation.limits import Cells, solve
from micromarket.allocation.promise import interval
from micromarket.allocation.stacking import stack
from micromarket.config import Budget
from micromarket.response.panel import Panel
from micromarket.response.transform import adstock

MARKETS, PERIODS = 90, 104


def panel(kind: str, seed: int = 0, strength: float = 1.0) -> Panel:
    """One channel, spend set by lot; effects follow ``kind``: headroom, size (the same everywhere) or own."""
    rng = np.random.default_rng(seed)
    room = np.clip(rng.lognormal(0, 0.7, MARKETS), 0.15, 6)
    own = {"headroom": room, "size": np.ones(MARKETS), "own": rng.lognormal(-0.4, 0.9, MARKETS)}[kind]
    spend = rng.lognormal(-0.3, 0.8, (PERIODS, MARKETS, 1))
    pressure = adstock(spend, np.array([0.3]))
    effect = strength * own[:, None] / own.mean() * pressure / (pressure + 1.2)
    outcome = 1.0 + effect[..., 0] + rng.normal(0, 0.25, (PERIODS, MARKETS)) + rng.normal(0, 0.2, (PERIODS, 1))
    heads = rng.lognormal(8, 0.4, MARKETS)
    return Panel(
        tuple(f"m{i:03d}" for i in range(MARKETS)), ("tv",), outcome * 1e-3, spend, heads, room, np.ones(1), None,
        np.zeros((MARKETS, 0)), np.zeros((PERIODS, MARKETS, 0)),
        np.datetime64("2024-01-01") + 7 * np.arange(PERIODS), 0, 52.18,
    )  # fmt: skip


def cells(markets: int = 60, channels: int = 3, seed: int = 0) -> Cells:
    rng = np.random.default_rng(seed)
    n = markets * channels
    current = np.round(rng.lognormal(8, 0.6, n), 2)
    return Cells(
        market=np.repeat(np.arange(markets), channels), channel=np.tile(np.arange(channels), markets), region=None,
        markets=tuple(f"m{i:03d}" for i in range(markets)), channels=tuple("abcdef"[:channels]), regions=(),
        current=current, amplitude=rng.lognormal(3, 0.4, n), half_spend=current * rng.lognormal(0, 0.3, n),
        value=np.repeat(rng.lognormal(5, 0.3, markets), channels), blocked=np.zeros(n, bool),
    )  # fmt: skip


def draws_of(c: Cells, amplitude: np.ndarray) -> Draws:
    value = np.tile(c.value[:: len(c.channels)][:, None], (1, amplitude.shape[1]))
    return Draws(amplitude, c.half_spend[:, None], value, c.market, c.current)


@pytest.mark.parametrize("kind", ["headroom", "own"])
def test_held_out_halves_find_where_effects_come_from(kind):
    weights = held_out(panel(kind))
    assert weights.heldout
    own, headroom, size = weights.mean
    assert weights.mean.sum() == pytest.approx(1)
    # own effects may hold headroom's too: size alone is what is refuted
    assert size < 0.15
    assert (own if kind == "own" else own + headroom) > 0.8


def test_where_effects_are_alike_own_effects_lose_weight():
    own, _, size = held_out(panel("size")).mean
    assert size > 1 - CENTRE.sum() + 0.1
    assert own < held_out(panel("own")).mean[0] - 0.2


def test_without_evidence_the_prior_stands():
    short = panel("own")
    short = replace(short, outcome=short.outcome[:40], spend=short.spend[:40])
    for found in (held_out(short), weigh(None, None)):
        assert not found.heldout
        np.testing.assert_allclose(found.mean[:2], CENTRE, atol=0.1)
    drawn = found.draw(400, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), found.mean, atol=0.01)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)


def test_accounts_share_every_draws_channel_totals():
    c = cells()
    rng = np.random.default_rng(1)
    amplitude = c.amplitude[:, None] * rng.lognormal(0, 0.4, (len(c.amplitude), 100))
    amplitude[:, 7] = 0.0  # a draw without response stays one
    draws = draws_of(c, amplitude)
    room, heads = rng.lognormal(0, 0.5, 60), rng.lognormal(8, 0.5, 60)
    found = stack(c, draws, weigh(None, None), room, heads, np.ones(3, bool), 1)
    x, h = c.current, c.half_spend
    slope = c.value * x * h / (x + h) ** 2
    before, after = (slope @ a for a in (amplitude, found.draws.amplitude))
    # the level of all channels together stays (value shifts a little, as markets' shares do)
    np.testing.assert_allclose(after, before, rtol=0.12)
    assert (found.draws.amplitude[:, 7] == 0).all()
    assert np.isfinite(found.draws.amplitude).all()
    again = stack(c, draws, weigh(None, None), room, heads, np.ones(3, bool), 1)
    np.testing.assert_array_equal(found.draws.amplitude, again.draws.amplitude)


def test_channels_returns_are_shrunk_together_less_where_tests_tell():
    c = cells()
    rng = np.random.default_rng(2)
    level = np.array([0.5, 1.0, 2.0])[c.channel]
    amplitude = (c.amplitude * level)[:, None] * rng.lognormal(0, 0.1, (len(level), 200))
    c = replace(c, amplitude=amplitude.mean(axis=1))
    draws = draws_of(c, amplitude)
    x, h = c.current, c.half_spend

    def returns(a: np.ndarray) -> np.ndarray:
        gained = np.bincount(c.channel, a * c.value * x * h / (x + h) ** 2)
        return gained / np.bincount(c.channel, x)

    apart = [np.ptp(np.log(returns(amplitude.mean(axis=1))))]
    for tested in (True, False):
        found = stack(c, draws, weigh(None, None), np.ones(60), np.ones(60) * 100, np.full(3, tested), 3)
        apart.append(np.ptp(np.log(returns(found.cells.amplitude))))
        assert np.argsort(returns(found.cells.amplitude)).tolist() == [0, 1, 2]
    assert apart[0] > apart[1] > apart[2] > 0.2


def test_a_right_posterior_promises_what_comes():
    """Truths drawn from the posterior itself, others than the plan saw: no optimiser's curse, and ranges that hold."""
    ratio, held = [], 0
    for seed in range(25):
        c = cells(40, 3, seed)
        rng = np.random.default_rng([seed, 5])
        spread = rng.lognormal(0, 0.5, (len(c.current), 1))
        amplitude = c.amplitude[:, None] * spread * rng.lognormal(0, 0.6, (len(c.current), 260))
        amplitude *= rng.lognormal(0, 0.3, 260)
        truth, seen = amplitude[:, :60], amplitude[:, 60:]
        draws = draws_of(c, seen)
        plan = solve(replace(c, amplitude=seen.mean(axis=1)), Budget(), float(c.current.sum())).spend
        gain = interval(draws.gains(plan))
        real = draws_of(c, truth).gains(plan)
        ratio.append(gain["expected"] / real.mean())
        held += int(((gain["low"] <= real) & (real <= gain["high"])).sum())
    assert np.mean(ratio) == pytest.approx(1, abs=0.05)
    assert 0.84 < held / (25 * 60) < 0.95
