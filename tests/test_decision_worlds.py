"""Worlds of the decision benchmark: the truth agrees with what is drawn, and its best budget is the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from micromarket.simulate import build_world, scenario_of
from micromarket.simulate.outcome import truth_of

BASE = scenario_of()
WORLDS = {
    "pulsed": replace(BASE, pulsed=0.3),
    "mis-set": replace(BASE, habit=(0.5, 2.4, 0.6, 1.1)),
    "untied": replace(BASE, room_power=0.0),
    "threshold": replace(BASE, channels=tuple(replace(c, curve="threshold") for c in BASE.channels)),
    "spillover": replace(BASE, spillover=0.3),
    "local decay": replace(BASE, decay_spread=0.8),
}


@pytest.fixture(scope="module")
def worlds():
    return {name: build_world(s, 40, 6_000, 104, 3)[0] for name, s in {"base": BASE, **WORLDS}.items()}


@pytest.mark.parametrize("kind", list(WORLDS))
def test_the_best_budget_beats_random_legal_ones(worlds, kind):
    truth = truth_of(worlds[kind])
    best, now = truth.value_of(truth.best_budget()), truth.value_of(truth.current)
    assert best > now * 1.01
    rng = np.random.default_rng(0)
    money = truth.response["current"].to_numpy()
    for _ in range(60):  # small moves from channel to channel within markets, and halves of the way to the best
        step = money * np.exp(0.3 * rng.normal(size=len(money)))
        assert truth.value_of(step * money.sum() / step.sum()) < best * (1 + 1e-3)
    halfway = (truth.best_budget()["amount"].to_numpy() + money) / 2
    assert now < truth.value_of(halfway) <= best * (1 + 1e-3)


def test_money_is_the_same_but_where_the_kind_says_so(worlds):
    base = worlds["base"].spending.money
    for kind in ("threshold", "spillover", "local decay"):
        np.testing.assert_allclose(worlds[kind].spending.money.sum(), base.sum(), rtol=0.02)
    shares = worlds["mis-set"].company.spend.sum(0) / worlds["base"].company.spend.sum(0)
    assert shares[1] / shares[0] == pytest.approx(2.4 / 0.5, rel=1e-9)
    assert worlds["mis-set"].company.spend.sum() == pytest.approx(worlds["base"].company.spend.sum())


def test_spillover_moves_customers_and_loses_none(worlds):
    world = worlds["spillover"]
    lives = world.company.lives
    assert lives is not None
    np.testing.assert_allclose(np.asarray(lives.sum(axis=1)).ravel(), 1)
    np.testing.assert_allclose(lives.diagonal(), 0.7)
    np.testing.assert_allclose(world.spending.won.sum((0, 2)), worlds["base"].spending.won.sum((0, 2)), rtol=0.02)
    # value is that of where customers live
    truth = truth_of(world).response["value_per_customer"].to_numpy()
    own = truth_of(worlds["base"]).response["value_per_customer"].to_numpy()
    assert truth.std() < own.std()
    assert truth.mean() == pytest.approx(own.mean(), rel=0.05)


def test_pulses_are_drawn_by_lot_and_told(worlds):
    world = worlds["pulsed"]
    tests = world.spending.experiment
    assert tests is not None
    assert len(tests) == 8
    for row in tests.itertuples():
        markets = row.markets.split(";")
        assert len(markets) == 6
        assert (row.spend > 0) if row.spend == row.spend else True  # left out where money was taken away
    up = tests[tests["spend"].notna()]
    assert len(up) == 4
    assert (np.abs(tests["lift"]) < 0.2).all()


def test_decay_differs_by_cell_and_the_truth_knows(worlds):
    truth = truth_of(worlds["local decay"])
    decay = truth.response.groupby("channel")["decay"]
    assert (decay.std() > 0.05).all()
    assert truth.response["decay"].between(0.01, 0.99).all()
    assert "decay" not in truth_of(worlds["base"]).response


def test_response_follows_headroom_only_where_tied(worlds):
    slopes = {}
    for kind in ("base", "untied"):
        truth = truth_of(worlds[kind])
        per = (
            truth.response.groupby("market_id")["amplitude"].sum()
            / truth.markets.set_index("market_id")["potential_customers"]
        )
        room = (
            truth.markets.set_index("market_id")["headroom"]
            / truth.markets.set_index("market_id")["potential_customers"]
        )
        keep = ~truth.markets.set_index("market_id")["entrant"] & (room > 0)
        slopes[kind] = np.polyfit(np.log(room[keep]), np.log(per[keep]), 1)[0]
    assert slopes["base"] == pytest.approx(0.8, abs=0.25)
    assert slopes["untied"] == pytest.approx(0.0, abs=0.25)
