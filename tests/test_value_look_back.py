"""Hiding the end of the history: which windows, which model, by how much values are corrected, market by market."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from test_value_worlds import AS_OF, MONTH, Tables, buying_world, dates, market_data, settings

from micromarket.value import estimate_value
from micromarket.value import summaries as s
from micromarket.value.look_back_contracts import look_back_contracts
from micromarket.value.look_back_purchases import CELLS, look_back_purchases
from micromarket.value.model import Cells
from micromarket.value.purchase_cells import BOUGHT
from micromarket.value.purchases import FAMILIES, Histories
from micromarket.value.validation import (
    CLEARLY,
    COMPANY_SD,
    SEASON_SD,
    SEGMENT_SD,
    YEAR_SD,
    Calibration,
    Holdout,
    Window,
    calibrate,
    choose,
    cut_days,
    market_misfit,
)


# --- windows ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("days", "lengths"),
    [
        (119, []),
        (200, [50]),
        (540, [135]),
        (600, [91, 91, 92, 91]),
        (800, [182, 183]),
        (1095, [365, 365]),
        (1900, [365, 365, 365]),
        (9000, [365, 365, 365]),
    ],
)
def test_windows_make_up_whole_years_where_history_allows(days: int, lengths: list[int]) -> None:
    found = cut_days(AS_OF - dt.timedelta(days=days), AS_OF)
    assert [(until - cut).days for cut, until in found] == lengths
    if found:
        assert found[0][1] == AS_OF  # the latest first, each ends where the one before begins: a rolling origin
        assert all(later[0] == earlier[1] for later, earlier in pairwise(found))
        assert sum(lengths) <= 365 * 3
        assert days - sum(lengths) >= min(0.7 * days, 180)  # something is left to fit to


# --- choice ----------------------------------------------------------------------------------------------------------
def test_the_simplest_model_that_foresees_as_well_is_taken() -> None:
    assert choose({"simple": -100.0, "other": -100.0 + CLEARLY, "rich": -100.0}) == "simple"
    assert choose({"simple": -100.0, "other": -90.0, "rich": -90.0 + CLEARLY}) == "other"
    assert choose({"simple": -100.0, "other": -90.0, "rich": -80.0}) == "rich"
    assert choose({"simple": -100.0, "other": -100.0 - CLEARLY, "rich": -90.0}) == "rich"
    assert choose({"simple": -5.0}) == "simple"


# --- calibration -----------------------------------------------------------------------------------------------------
def window(predicted: list[float], actual: list[float], back: int = 0, days: int = 365) -> Window:
    until = AS_OF - dt.timedelta(days=365 * back)
    p = np.array(predicted)
    return Window(until - dt.timedelta(days=days), until, p, np.array(actual), p)


def test_one_year_known_without_noise_by_hand() -> None:
    """Log ratio about N(bias, .07^2 + .1^2), bias ~ N(0, .25^2): the ratio is believed to .0625 / (.0625 + .0149)."""
    assert (YEAR_SD, SEGMENT_SD, COMPANY_SD, SEASON_SD) == (0.07, 0.10, 0.25, 0.20)
    found = calibrate([window([1e9], [1.2e9])])
    assert np.log(found.factor[0]) == pytest.approx(np.log(1.2) * 0.0625 / 0.0774, rel=1e-6)
    assert found.sd[0] == pytest.approx(np.sqrt(1 / (1 / 0.0149 + 1 / 0.0625)), rel=1e-6)
    # a quarter could be a season: .2 in the place of .07
    quarter = calibrate([window([1e9], [1.2e9], days=91)])
    assert np.log(quarter.factor[0]) == pytest.approx(np.log(1.2) * 0.0625 / 0.1125, rel=1e-6)
    # a prediction that moves by half of what the factor does: the same miss speaks of a larger factor
    half = calibrate([window([1e9], [1.2e9])], elasticity=0.5)
    assert np.log(half.factor[0]) == pytest.approx(2 * np.log(found.factor[0]), rel=1e-6)


def test_the_less_is_known_the_less_is_corrected() -> None:
    def log_factor(*windows: Window) -> float:
        return float(np.log(calibrate(windows).factor[0]))

    sizes = [log_factor(window([n], [1.2 * n])) for n in (10.0, 100.0, 1e4)]
    assert 0 < sizes[0] < sizes[1] < sizes[2] < np.log(1.2)
    assert sizes[0] < 0.5 * np.log(1.2)
    assert log_factor(window([50.0], [50.0])) == pytest.approx(0, abs=1e-9)
    years = [window([1e4], [1.2e4], back) for back in range(3)]
    assert sizes[2] < log_factor(*years) < np.log(1.2)  # the same miss three years running is believed
    opposite = log_factor(window([1e4], [1.2e4]), window([1e4], [1e4 / 1.2], 1))
    assert abs(opposite) < 0.01
    nobody = calibrate([window([0.0], [0.0])])
    assert np.isfinite([nobody.factor, nobody.sd]).all()
    assert calibrate(years).sd[0] < calibrate(years[:1]).sd[0] < Calibration.none(1).sd[0] + 0.01


def test_four_quarters_count_as_one_year() -> None:
    quarters = [window([250.0], [300.0], days=91)]
    for _ in range(3):
        until = quarters[-1].cut
        quarters.append(Window(until - dt.timedelta(days=91), until, *(getattr(quarters[0], k) for k in _FIGURES)))
    year, found = calibrate([window([1000.0], [1200.0])]), calibrate(quarters)
    assert found.factor == pytest.approx(year.factor, rel=0.02)


_FIGURES = ("predicted", "actual", "variance")


def test_segments_lean_on_the_company() -> None:
    found = calibrate([window([1e5, 1e5, 20.0], [1.2e5, 1.2e5, 14.0])])
    assert found.factor[0] == pytest.approx(found.factor[1])
    assert found.factor[2] < found.factor[0]
    assert found.factor[2] > 1.0  # six purchases too few don't turn it round
    assert found.sd[2] > found.sd[0]


def test_misfit_of_single_markets_beyond_chance() -> None:
    rng = np.random.default_rng(1)
    p = np.exp(rng.uniform(3, 7, 600))
    by_chance = market_misfit(rng.poisson(p).astype(float), p, p)
    off = rng.poisson(p * np.exp(rng.normal(0, 0.2, 600))).astype(float)
    assert by_chance < 0.05
    assert market_misfit(off, p, p) == pytest.approx(0.2, abs=0.05)
    assert market_misfit(3 * off, p, p) == pytest.approx(market_misfit(off, p, p))  # the level is the calibration's
    assert market_misfit(off[:5], p[:5], p[:5]) < 0.05  # five markets tell nothing


# --- which model -----------------------------------------------------------------------------------------------------
def company_of(who: np.ndarray, when: np.ndarray, markets: int = 20) -> tuple[Tables, pd.DataFrame]:
    log = pd.DataFrame({"customer_id": who, "date": dates(np.ceil(when)), "amount": 10.0})
    people = pd.DataFrame({"customer_id": np.unique(who)})
    people["market_id"] = [f"m{i % markets:02d}" for i in people["customer_id"]]
    return Tables(customers=people, transactions=log), people


def lifetimes(seed: int, n: int, days: int, c: float, hurry: float = 1.0) -> tuple[Tables, pd.DataFrame]:
    """Weibull/NBD buyers (c = 1: Pareto/NBD); over the last year they leave ``hurry`` times as fast."""
    rng = np.random.default_rng(seed)
    born = np.ceil(rng.random(n) * days)
    rate, risk = rng.gamma(1.0, 1 / 30.0, n), rng.gamma(2.0, 450.0**-c, n)
    life = (rng.exponential(1.0, n) / risk) ** (1 / c)
    year = np.maximum(born - 365.0, 0.0)  # age when the last year begins
    life = np.where(life > year, year + (life - year) / hurry, life)
    life = np.minimum(life, born)
    many = rng.poisson(rate * life)
    who = np.repeat(np.arange(n), many)
    when = born[who] - rng.random(len(who)) * life[who]
    return company_of(np.concatenate([np.arange(n), who]), np.concatenate([born, when]))


def dropouts(seed: int, n: int, days: int, first: bool = False) -> tuple[Tables, pd.DataFrame]:
    """BG/NBD buyers; ``first``: some leave after the first purchase (MBG/NBD)."""
    rng = np.random.default_rng(seed)
    born = np.ceil(rng.random(n) * days)
    rate, drop = rng.gamma(1.0, 1 / 30.0, n), rng.beta(0.8, 4.0, n)
    who, when = [np.arange(n)], [born]
    here = np.flatnonzero(rng.random(n) > drop) if first else np.arange(n)
    clock = np.zeros(len(here))
    while len(here):
        clock = clock + rng.exponential(1 / rate[here])
        here, clock = here[clock < born[here]], clock[clock < born[here]]
        who.append(here)
        when.append(born[here] - clock)
        stay = rng.random(len(here)) > drop[here]
        here, clock = here[stay], clock[stay]
    return company_of(np.concatenate(who), np.concatenate(when))


def cells_of(people: pd.DataFrame) -> Cells:
    return Cells.of(people.assign(segment="All"), sorted(people["market_id"].unique()))


def look_back(tables: Tables, people: pd.DataFrame, days: int) -> Holdout:
    found = _hidden(tables, cells_of(people), days)
    assert found is not None
    return found


def _hidden(tables: Tables, cells: Cells, days: int) -> Holdout | None:
    purchases = s.purchase_days(tables, None, AS_OF)
    return look_back_purchases(purchases, s.customers_of(tables), cells, AS_OF - dt.timedelta(days=days), AS_OF)


@pytest.mark.parametrize("truth", ["BG/NBD", "MBG/NBD", "Pareto/NBD", "Weibull/NBD"])
def test_the_model_that_made_the_company_is_chosen(truth: str) -> None:
    make = {
        "BG/NBD": lambda: dropouts(2, 8000, 800),
        "MBG/NBD": lambda: dropouts(6, 8000, 800, first=True),
        "Pareto/NBD": lambda: lifetimes(3, 8000, 800, 1.0),
        "Weibull/NBD": lambda: lifetimes(4, 8000, 800, 3.0),
    }[truth]
    found = look_back(*make(), 800)
    assert found.family == truth
    assert list(found.scores) == ["BG/NBD", "MBG/NBD", "Pareto/NBD", "Weibull/NBD"]
    assert len(found.windows) == 2
    assert abs(found.error) < 0.08
    assert np.log(found.calibration.factor[0]) == pytest.approx(0, abs=0.08)


def contracts(seed: int, n: int, c: float, hurry: float = 1.0, days: int = 1460) -> tuple[Tables, pd.DataFrame]:
    """Beta-discrete-Weibull contracts (c = 1: sBG), left at any time; over the last year ``hurry`` times as fast."""
    rng = np.random.default_rng(seed)
    born = np.ceil(rng.random(n) * days)
    rate = -np.log1p(-rng.beta(1.5, 25.0, n))
    life = (rng.exponential(1.0, n) / rate) ** (1 / c) * MONTH
    year = np.maximum(born - 365.0, 0.0)
    life = np.where(life > year, year + (life - year) / hurry, life)
    gone = life < born
    people = pd.DataFrame({"customer_id": np.arange(n), "market_id": [f"m{i % 20:02d}" for i in range(n)]})
    table = people[["customer_id"]].assign(
        started_on=dates(born), ended_on=dates(np.where(gone, born - life, 0)).where(gone, None), monthly_value=10.0
    )
    return Tables(customers=people, subscriptions=table), people


def look_back_at_contracts(tables: Tables, people: pd.DataFrame) -> Holdout:
    bounds = s.contract_bounds(s.contract_customers(tables, AS_OF))
    found = look_back_contracts(tables, s.customers_of(tables), cells_of(people), bounds, AS_OF)
    assert found is not None
    return found


@pytest.mark.parametrize(("c", "truth"), [(1.0, "shifted-beta-geometric"), (1.6, "beta-discrete-Weibull")])
def test_the_retention_model_that_made_the_company_is_chosen(c: float, truth: str) -> None:
    found = look_back_at_contracts(*contracts(5, 20_000, c))
    assert found.family == truth
    assert found.what == "departures"
    assert [(w.until - w.cut).days for w in found.windows] == [365, 365, 365]
    assert abs(found.error) < 0.06


# --- what changed of late --------------------------------------------------------------------------------------------
def test_customers_who_have_begun_to_leave_faster_are_worth_less() -> None:
    steady, hurried = (look_back(*lifetimes(6, 6000, 800, 1.0, hurry), 800) for hurry in (1.0, 3.0))
    assert hurried.error > steady.error + 0.1  # more was predicted than came
    assert hurried.calibration.factor[0] < steady.calibration.factor[0] - 0.05
    steady, hurried = (look_back_at_contracts(*contracts(7, 8000, 1.0, hurry)) for hurry in (1.0, 2.0))
    assert hurried.error < steady.error - 0.1  # fewer departures were predicted than came
    assert hurried.calibration.factor[0] > steady.calibration.factor[0] + 0.05
    values = []
    for hurry in (1.0, 2.0):
        tables, people = contracts(7, 8000, 1.0, hurry)
        ended = tables.table("subscriptions").to_pandas()["ended_on"]
        on = pd.Series(ended.isna().to_numpy(), index=people["customer_id"])
        values.append(estimate_value(tables, market_data(people, on), settings("contractual")).notes.numbers)
    assert values[1]["models"][0]["calibration"] > 1.05
    assert values[1]["clv"] < 0.9 * values[0]["clv"]


# --- by market -------------------------------------------------------------------------------------------------------
def test_hidden_purchases_by_market() -> None:
    tables, customers, _ = buying_world(11, markets=50)
    found = look_back(tables, customers, 729)
    by_market = found.by_market
    assert list(by_market.columns) == ["market_id", "predicted", "calibrated", "actual", "low", "high"]
    assert by_market["market_id"].tolist() == sorted(customers["market_id"].unique())
    assert by_market["actual"].sum() == found.actual
    assert by_market["predicted"].sum() == pytest.approx(found.predicted, rel=0.05)
    inside = (by_market["low"] <= by_market["actual"]) & (by_market["actual"] <= by_market["high"])
    assert inside.mean() >= 0.80
    assert found.wape < found.wape_no_markets
    again = look_back(tables, customers, 729).by_market
    pd.testing.assert_frame_equal(by_market, again)


def test_too_little_to_hide() -> None:
    few, people = lifetimes(8, 25, 800, 1.0)
    assert _hidden(few, cells_of(people), 100) is None
    tables, people = company_of(np.arange(300), np.linspace(1, 800, 300))
    assert _hidden(tables, cells_of(people), 800) is None  # nobody came back
    tables, people = contracts(9, 200, 1.0)
    bounds = s.contract_bounds(s.contract_customers(tables, AS_OF)) | {"gone": 0}
    assert look_back_contracts(tables, s.customers_of(tables), cells_of(people), bounds, AS_OF) is None


@pytest.mark.parametrize("family", ["BG/NBD", "MBG/NBD", "Pareto/NBD", "Weibull/NBD"])
def test_cells_of_every_family_agree_with_their_estimator(family: str) -> None:
    """With the segment's own parameters: the same P(alive) and purchases; slopes sum to 0 where the fit is best."""
    tables, people = dropouts(7, 3000, 700, first=True)
    cells = cells_of(people)
    counts = s.count_purchases(
        s.customers_of(tables), s.purchase_customers(s.purchase_days(tables, None, AS_OF), AS_OF)
    )
    histories, _ = Histories.of(counts, cells)
    fit = FAMILIES[family]().fit(histories.x, histories.t_x, histories.T, histories.customers)
    world = CELLS[family](cells, histories, [fit], 0.0, 12)
    theta = np.zeros((len(cells), 2))
    gradient, curvature = world.likelihood()(theta)
    # the estimator has a weak prior, and cells move two of its four parameters
    assert np.abs(gradient.sum(axis=0)).max() < 0.02 * np.sqrt(histories.customers.sum())
    step = 1e-4
    for i in range(2):
        up, down = (world.likelihood()(theta + sign * step * np.eye(2)[i])[0] for sign in (1, -1))
        assert (down - up) / (2 * step) == pytest.approx(curvature[:, i], rel=2e-3, abs=0.05)
    world.prepare(theta, 0.1)
    h = histories
    assert world.alive(theta) == pytest.approx(fit.p_alive(h.x, h.t_x, h.T), rel=1e-6)
    year = 12 * s.DAYS_PER_MONTH
    bought = world.alive(theta) * world.residual(theta, slice(BOUGHT, BOUGHT + 1))[:, 0]
    assert bought == pytest.approx(fit.conditional_expected_purchases(year, h.x, h.t_x, h.T), rel=2e-3)
    assert world.new(theta)[0, BOUGHT] == pytest.approx(float(fit.expected_purchases(year)), rel=2e-3)
