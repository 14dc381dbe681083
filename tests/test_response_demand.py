"""Spend that follows demand, pulses drawn by lot, own effects, chunks, gaps: what a history alone gets wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from micromarket.response import SaturatingPanel, estimate_response
from micromarket.response import model as model_module
from micromarket.response import search as search_module
from micromarket.response.curves import SPAN, joint_amplitude
from micromarket.response.endogeneity import diagnose, movement, shared_weights
from micromarket.response.estimate import fit_panel
from micromarket.response.experiments import readouts, undisturbed, windows
from micromarket.response.linear import Block
from micromarket.response.own_effects import own_effects
from micromarket.response.panel import Panel, build_panel
from micromarket.response.posterior import Evidence, channel_posterior
from micromarket.response.pulses import pulse_effects
from micromarket.response.transform import adstock, saturated
from tests.test_response import SETTINGS, world

DECAY, HALF = np.array([0.2, 0.5, 0.35]), np.array([1.2, 0.8, 1.0])


def demand_world(follow: float, seed: int = 0, markets: int = 120, periods: int = 104) -> tuple[Panel, np.ndarray]:
    """Three channels; log spend goes with demand shocks by ``follow``. And the true mean effect by channel."""
    rng = np.random.default_rng(seed)
    shock = lfilter([1.0], [1.0, -0.7], rng.standard_normal((periods, markets)), axis=0)
    spend = rng.lognormal(-0.1, 0.4, (markets, 3)) * np.exp(0.4 * rng.standard_normal((periods, markets, 3)))
    spend = spend * np.exp(follow * shock)[..., None]
    slope = np.array([8.0, 5.0, 6.0]) * rng.lognormal(-0.08, 0.4, (markets, 3))
    pressure = adstock(spend, DECAY)
    brought = (slope * pressure / (pressure + HALF)).sum(axis=2)
    outcome = 60 + 4 * shock + brought + 5 * rng.standard_normal((periods, markets))
    names = tuple(f"m{i:03d}" for i in range(markets))
    weeks = pd.date_range("2024-01-01", periods=periods, freq="7D").to_numpy()
    panel = Panel(
        names, ("a", "b", "c"), outcome, spend, np.ones(markets), np.ones(markets), np.ones(3), None,
        np.zeros((markets, 0)), np.zeros((periods, markets, 0)), weeks, 0, 52.18,
    )  # fmt: skip
    return panel, slope.mean(axis=0)


def test_spend_that_follows_demand_is_found_and_taken_out():
    panel, slope = demand_world(follow=0.25)
    plain = SaturatingPanel(52.18).fit(panel.outcome, panel.spend, panel.scale, panel.room)
    assert plain.effects_.mean(axis=0).sum() > 1.5 * slope.sum()
    model, found, extra, removed = fit_panel(panel, panel.spend, panel.spend)
    assert found.follows
    assert found.p_value < 1e-6
    assert extra.shape[2] == 2
    assert model.effects_.mean(axis=0).sum() == pytest.approx(slope.sum(), rel=0.25)
    assert removed is not None
    assert (removed > 0).all()


def test_spend_set_without_looking_is_left_alone():
    panel, slope = demand_world(follow=0.0, seed=1)
    model, found, _, _ = fit_panel(panel, panel.spend, panel.spend)
    assert not found.follows
    assert model.effects_.mean(axis=0).sum() == pytest.approx(slope.sum(), rel=0.25)
    short = SaturatingPanel(52.18).fit(
        panel.outcome[:60, :20], panel.spend[:60, :20], panel.scale[:20], panel.room[:20]
    )
    nothing = diagnose(short, panel.outcome[:20, :20], panel.spend[:20, :20], None, panel.extra[:20, :20])
    assert nothing.p_value == 1.0  # too short to tell


def test_weights_of_the_index_are_those_of_one_factor():
    """Best linear guess of a common factor: loading over own variance."""
    rng = np.random.default_rng(2)
    loading, own = np.array([1.0, 0.5, 0.8]), np.array([0.5, 0.4, 1.0])
    v = rng.standard_normal((200, 300, 1)) * loading + own * rng.standard_normal((200, 300, 3))
    got, wanted = shared_weights(v), loading / own**2
    np.testing.assert_allclose(got / got.sum(), wanted / wanted.sum(), rtol=0.05)


def test_flights_of_a_whole_region_are_no_movement():
    rng = np.random.default_rng(3)
    region = np.repeat([0, 1], 10)
    flights = rng.lognormal(0, 1, (50, 2))[:, region][..., None]
    spend = rng.lognormal(0, 1, (20, 1)) * flights
    np.testing.assert_allclose(movement(spend, region), 0.0, atol=1e-9)


def test_pulses_drawn_by_lot_show_the_level_by_themselves():
    panel, slope = demand_world(follow=0.25, seed=4)
    rng, spend, rows = np.random.default_rng(5), panel.spend.copy(), []
    for i, m in enumerate(np.tile(rng.permutation(120), 3)):
        first, c = int(rng.integers(5, 25)) + 30 * (i // 120), (i + i // 120) % 3
        spend[first : first + 8, m, c] *= 2.5 if (i // 3) % 2 else 0.2
        rows.append((("a", "b", "c")[c], panel.periods[first], panel.periods[first + 7], panel.markets[m]))
    pressure = [adstock(s, DECAY) for s in (panel.spend, spend)]
    rng = np.random.default_rng(4)  # outcomes move with the pulses, at the channels' mean effect
    moved = [(slope * p / (p + HALF)).sum(axis=2) for p in pressure]
    pulsed = replace(panel, spend=spend, outcome=panel.outcome + moved[1] - moved[0])
    table = pd.DataFrame(rows, columns=["channel", "start", "end", "markets"]).assign(lift=np.nan, lift_se=np.nan)
    drawn = windows(table, pulsed)
    assert len(drawn) == 360
    assert readouts(table, pulsed.markets) == []
    without = undisturbed(pulsed, drawn)
    np.testing.assert_allclose(np.log(without / panel.spend)[spend != panel.spend].mean(), 0.0, atol=0.08)
    plain = SaturatingPanel(52.18).fit(pulsed.outcome, spend, panel.scale, panel.room)
    found = pulse_effects(plain, pulsed.outcome, spend, without, pulsed.extra, drawn)
    brought = (saturated(spend, plain.shape_) * plain.effects_).mean(axis=(0, 1))  # a period, by channel
    true = (slope * pressure[1] / (pressure[1] + HALF)).mean(axis=(0, 1))
    assert brought.sum() > 1.4 * true.sum()  # without the control the history says too much
    by_lot = brought * np.array([found[c][0] for c in range(3)])
    assert by_lot.sum() == pytest.approx(true.sum(), rel=0.3)


def test_own_effects_are_the_posterior_mean():
    """One channel: against the integral over z on a grid."""
    rng = np.random.default_rng(6)
    beta, omega, periods = np.array([1.0]), np.array([0.5]), 40
    for true, noise in ((0.4, 0.3), (2.0, 0.3), (1.0, 5.0)):
        x = rng.random((1, periods, 1)) - 0.5
        left = true * x[..., 0] + noise * rng.standard_normal((1, periods))
        block = Block.of(x, np.zeros((1, periods, 0)), left, np.array([noise**-2]), np.eye(1), np.zeros(1))
        got = float(own_effects(block, left, beta, omega, np.eye(1)).mean[0, 0])
        z = np.linspace(-3, 3, 4001)
        effect = np.exp(z - 0.125)
        score = -0.5 * ((left - effect[:, None] * x[..., 0]) ** 2).sum(axis=1) / noise**2 - 0.5 * (z / 0.5) ** 2
        weight = np.exp(score - score.max())
        assert got == pytest.approx(float((weight * effect).sum() / weight.sum()), rel=0.03)


def test_chunks_and_a_subsample_give_nearly_what_everything_gives(monkeypatch):
    panel, _ = demand_world(follow=0.0, seed=7)
    whole = SaturatingPanel(52.18).fit(panel.outcome, panel.spend, panel.scale, panel.room)
    monkeypatch.setattr(model_module, "CHUNK", 17)
    chunked = SaturatingPanel(52.18).fit(panel.outcome, panel.spend, panel.scale, panel.room)
    np.testing.assert_allclose(chunked.effects_, whole.effects_, rtol=1e-4)
    monkeypatch.setattr(model_module, "SEARCH_MARKETS", 60)
    half = SaturatingPanel(52.18).fit(panel.outcome, panel.spend, panel.scale, panel.room)
    assert len(half.few_) == 60
    assert search_module.SEARCH_MARKETS > 60
    assert half.effects_.shape == whole.effects_.shape
    assert np.corrcoef(half.effects_.ravel(), whole.effects_.ravel())[0, 1] > 0.9


def test_missing_periods_are_bridged():
    w = world(markets=30)
    assert w.data.panel is not None
    assert w.data.spend is not None
    gone = sorted(w.data.panel["period"].unique())[40:42]
    data = replace(
        w.data,
        panel=w.data.panel[~w.data.panel["period"].isin(gone)],
        spend=w.data.spend[~w.data.spend["period"].isin(gone)],
    )
    whole, panel = build_panel(w.data, None), build_panel(data, None)
    assert whole is not None
    assert panel is not None
    assert panel.gaps == 2
    assert panel.outcome.shape == whole.outcome.shape
    np.testing.assert_allclose(panel.outcome[40], (2 * whole.outcome[39] + whole.outcome[42]) / 3)
    np.testing.assert_allclose(panel.spend[41] * panel.unit, (whole.spend[39] + 2 * whole.spend[42]) / 3 * whole.unit)
    result = estimate_response(data, None, w.value, SETTINGS)
    assert any("lacks 2 periods" in a.text for a in result.notes.assumptions)


def test_joint_draws_keep_what_doubling_brings():
    w = world(markets=40, seed=8)
    result = estimate_response(w.data, None, w.value, SETTINGS)
    assert result.half_draws is not None
    assert result.curve_draws is not None
    assert result.curves is not None
    factor = result.half_draws.set_index("channel")
    assert ((factor > 0) & np.isfinite(factor)).all(axis=None)
    amplitude = result.curve_draws.drop(columns=["market_id", "channel"]).to_numpy(float)
    half, current = result.curves["half_spend"].to_numpy(), result.response["current_spend"].to_numpy()
    own = factor.loc[result.curves["channel"]].to_numpy()
    joint, halves = joint_amplitude(amplitude, half, own, current)
    x = current[:, None]

    def doubling(a: np.ndarray, h: np.ndarray) -> np.ndarray:
        return a * (SPAN[1] * x / (SPAN[1] * x + h) - SPAN[0] * x / (SPAN[0] * x + h))

    np.testing.assert_allclose(doubling(joint, halves), doubling(amplitude, half[:, None]), rtol=1e-6)


def test_a_test_of_all_markets_at_once_is_undone():
    panel, _ = demand_world(follow=0.0, seed=6)
    spend, rows = panel.spend.copy(), []
    for half, times in ((panel.markets[::2], 1.8), (panel.markets[1::2], 0.2)):
        spend[40:48, [panel.markets.index(m) for m in half], 1] *= times
        rows.append(("b", panel.periods[40], panel.periods[47], ";".join(half)))
    table = pd.DataFrame(rows, columns=["channel", "start", "end", "markets"]).assign(lift=np.nan, lift_se=np.nan)
    pulsed = replace(panel, spend=spend)
    without = undisturbed(pulsed, windows(table, pulsed))
    for half in (slice(None, None, 2), slice(1, None, 2)):
        ratio = without[40:48, half, 1].sum() / panel.spend[40:48, half, 1].sum()
        assert ratio == pytest.approx(1.0, rel=0.1)
    np.testing.assert_array_equal(np.delete(without, 1, axis=2), np.delete(spend, 1, axis=2))


def test_readings_that_scatter_are_averaged_not_undercut():
    """Relative errors taken from the readings would make low ones the surest (Peelle's puzzle)."""
    panel, _ = demand_world(follow=0.0, seed=7, markets=60)
    model = SaturatingPanel(52.18).fit(panel.outcome, panel.spend, panel.scale, panel.room)
    part = np.linspace(0.6, 1.4, 9)
    evidence = [Evidence(c, float(model.beta_[c] * f), float(0.01 * model.beta_[c]), 1.0, "experiment")
                for c in range(3) for f in part]  # fmt: skip
    found = channel_posterior(model, panel.channels, np.full(3, 0.05), np.ones(3), evidence, None, follows=False)
    np.testing.assert_allclose(found.effect[:3] / model.beta_, 1.0, atol=0.03)
