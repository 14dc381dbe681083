"""What the notebooks on response and allocation show: curves among their data, odds that add up, pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.report import response_figures, response_views
from micromarket.response.transform import adstock

MARKETS, PERIODS, DECAY = 60, 104, 0.4


@pytest.fixture(scope="module")
def world() -> tuple[MarketData, pd.DataFrame, pd.DataFrame]:
    """One channel; the curve handed over is the truth, but for draws of its level."""
    rng = np.random.default_rng(4)
    ids = [f"m{i:02d}" for i in range(MARKETS)]
    period = pd.Timestamp("2024-07-01") + pd.to_timedelta(7 * np.arange(PERIODS), unit="D")
    heads = rng.lognormal(8, 0.4, MARKETS)
    spend = rng.lognormal(-0.18, 0.6, (PERIODS, MARKETS)) * heads * 0.02
    today, half = heads * 0.02, heads * 0.03
    amplitude = heads * 4e-3
    pressure = adstock(spend[..., None], np.array([DECAY]))[..., 0]
    expected = heads * 2e-3 + amplitude * pressure / (pressure + half)
    new = expected + rng.normal(0, 0.05, expected.shape) * expected
    keys = pd.MultiIndex.from_product([period, ids], names=["period", "market_id"]).to_frame(index=False)
    years = 365.25 / 7
    data = MarketData(
        markets=pd.DataFrame({"market_id": ids, "addressable_customers": heads}),
        cells=pd.DataFrame({"market_id": ids, "segment": "All", "new_customers_last_year": new[-52:].sum(axis=0)}),
        history=pd.DataFrame(), panel=keys.assign(new_customers=new.ravel(), revenue=0.0),
        spend=keys.assign(channel="tv", amount=spend.ravel()),
        current=pd.DataFrame({"market_id": ids, "channel": "tv", "current": today * years}), frequency="week",
    )  # fmt: skip
    cells = pd.DataFrame({"market_id": ids, "channel": "tv"})
    curves = cells.assign(amplitude=amplitude * years, half_spend=half * years)
    level = rng.lognormal(0, 0.2, 100)
    level /= level.mean()
    drawn = pd.DataFrame(curves["amplitude"].to_numpy()[:, None] * level, columns=[f"d{i:03d}" for i in range(100)])
    return data, curves, pd.concat([cells, drawn], axis=1)


def test_points_lie_on_a_true_curve(world):
    data, curves, draws = world
    lines = response_views.curve_lines(curves, draws, data.current)
    points = response_views.curve_points(data, None, curves, {"tv": DECAY}, 1.0)
    assert len(points) >= 4
    line = np.interp(points["multiple"], lines["multiple"], lines["customers"])
    np.testing.assert_allclose(points["customers"], line, rtol=0.06)
    assert (points["low"] < points["high"]).all()
    now = lines[lines["multiple"] == 1.0]
    assert now["share"].item() == pytest.approx(0.4, abs=0.01)
    # hyperbola: half the slope where x + half is sqrt(2) times as much
    at = lines.loc[lines["marginal"] <= 0.5, "multiple"].min()
    assert at == pytest.approx(np.sqrt(2) * 2.5 - 1.5, abs=0.06)


def test_a_wrong_curve_shows(world):
    data, curves, _ = world
    straight = curves.assign(amplitude=curves["amplitude"] * 50, half_spend=curves["half_spend"] * 80)
    points = response_views.curve_points(data, None, straight, {"tv": DECAY}, 1.0)
    highest = points.iloc[-1]
    table = straight.merge(data.current)
    x, half = highest["multiple"] * table["current"], table["half_spend"]
    assert highest["customers"] < 0.9 * float((table["amplitude"] * x / (x + half)).sum())


def test_returns_have_even_odds_where_channels_are_alike(world):
    data, curves, draws = world
    both = [frame.assign(channel="radio") for frame in (curves, draws, data.current)]
    curves, draws, current = (pd.concat([a, b]) for a, b in zip((curves, draws, data.current), both, strict=True))
    value = pd.Series(100.0, index=curves["market_id"].unique())
    found = response_views.channel_returns(curves, draws, current, value)
    np.testing.assert_allclose(found["odds"], 0.5, atol=0.01)
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()


def test_pictures_draw(world):
    data, curves, draws = world
    lines = response_views.curve_lines(curves, draws, data.current)
    none = response_views.curve_points(data, None, curves, {"tv": float("nan")}, 1.0)
    assert none.empty
    gain = {"expected": 2.0, "low": -1.0, "high": 4.0, "p_positive": 0.9}
    plans = response_views.plans_beside(Notes({
        "gain": gain | {"p_positive": None}, "moved": 0.0, "cautious": {"gain": gain, "moved": 1.0},
        "free": {"gain": gain, "moved": 3.0},
    }))  # fmt: skip
    assert list(plans.index) == ["Recommended", "Cautious", "No limits"]
    returns = response_views.channel_returns(curves, draws, data.current, pd.Series(dtype=float))
    for svg in (
        response_figures.curves_with_data(lines, none), response_figures.odds_of_channels(returns),
        response_figures.plans_side_by_side(plans, "{:.1f}".format),
    ):  # fmt: skip
        assert svg.startswith(b"<?xml")
        assert b"nan" not in svg.lower()
