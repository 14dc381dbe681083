"""The seasonal clock: found where years agree on a season, nowhere else, and counted alike in the engine."""

from __future__ import annotations

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from test_value_worlds import AS_OF, MONTH, Tables, dates, market_data, settings

from micromarket.value import estimate_value
from micromarket.value import summaries as s
from micromarket.value.look_back_purchases import season_clock
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.season import STEADY, Clock

RATE, SHAPE = 1 / 40, 1.2  # purchases a day on average, and their gamma shape
LEAVE, BETA = 2.0, 700.0  # of the rates of leaving: shape, days


def swing_on(day: np.ndarray, swing: float) -> np.ndarray:
    """Multiple of the rate ``day`` days before AS_OF (30 June); the top is half a year away, late in December."""
    return 1 - swing * np.cos(2 * np.pi * (day - 8.0) / 365.25)


def buyers(seed: int, n: int, swing: float, days: int = 1095, arrivals: str = "even") -> pd.DataFrame:
    """A log of Pareto/NBD buyers whose purchases swing by the season: customer_id, date, amount. ``attrs["left"]``:
    discounted purchases still to come of all of them, over 36 months."""
    rng = np.random.default_rng(seed)
    u = rng.random(n)
    born = np.ceil(days * (u if arrivals == "even" else u**2)).clip(1)  # days before AS_OF; else: ever more of them
    rate = rng.gamma(SHAPE, RATE / SHAPE, n)
    leave = rng.gamma(LEAVE, 1 / BETA, n)
    life = rng.exponential(1.0, n) / leave
    ahead = (np.arange(36) + 0.5) * MONTH
    there = np.where(life > born, rate, 0.0) @ np.exp(-np.outer(leave, ahead))
    life = np.minimum(life, born)
    top = 1 + swing
    many = rng.poisson(rate * top * life)
    who = np.repeat(np.arange(n), many)
    at = born[who] - rng.random(len(who)) * life[who]
    bought = rng.random(len(who)) * top < swing_on(at, swing)
    who, at = np.concatenate([np.arange(n), who[bought]]), np.concatenate([born, at[bought]])
    log = pd.DataFrame({"customer_id": who, "date": dates(np.ceil(at)), "amount": 10.0})
    log.attrs["left"] = MONTH * there @ 1.1 ** (-ahead / 365.25)
    return log


def days_alive(t: float | np.ndarray) -> float | np.ndarray:
    """Mean days that a new customer is there of the first ``t``: survival is (1 + t / BETA)^-2."""
    return t * BETA / (BETA + t)


def clock_of(log: pd.DataFrame) -> tuple[Clock, pd.DataFrame, ibis.Table]:
    people = pd.DataFrame({"customer_id": log["customer_id"].unique(), "market_id": "m"})
    tables = Tables(customers=people, transactions=log)
    days = s.purchase_days(tables, 0.4, AS_OF)
    counts = s.count_purchases(s.customers_of(tables), s.purchase_customers(days, AS_OF))
    return season_clock(days, counts, AS_OF), counts, days


def month_means(swing: float) -> np.ndarray:
    day = np.array([AS_OF - dt.timedelta(days=i) for i in range(1461)])
    level = swing_on(np.arange(1461.0), swing)
    means = np.array([level[[d.month == m for d in day]].mean() for m in range(1, 13)])
    return means / level.mean()


def test_a_season_gives_back_its_index() -> None:
    clock, _, _ = clock_of(buyers(1, 12_000, swing=0.5))
    assert clock.index == pytest.approx(month_means(0.5), abs=0.06)
    mild, _, _ = clock_of(buyers(2, 12_000, swing=0.15))
    assert not mild.steady
    assert mild.index == pytest.approx(month_means(0.15), abs=0.06)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (buyers(3, 6000, swing=0.0), "there is none"),
        (buyers(4, 6000, swing=0.0, arrivals="growing"), "growth is no season"),
        (buyers(5, 6000, swing=0.5, days=600), "a season of one year can't be told from growth"),
        (buyers(6, 60, swing=0.5), "sixty customers"),
    ],
    ids=["steady", "growing", "young", "few"],
)
def test_no_season_where_none_is_seen(log: pd.DataFrame, why: str) -> None:
    assert clock_of(log)[0].steady, why


def test_what_happened_once_is_no_season() -> None:
    """Twice the purchases in one spring of three: years disagree."""
    log = buyers(7, 6000, swing=0.0)
    day = pd.to_datetime(log["date"])
    more = log[day.between("2025-03-01", "2025-05-31")].copy()
    more["date"] = [d + dt.timedelta(days=1) for d in more["date"]]
    assert clock_of(pd.concat([log, more]))[0].steady


def test_the_clock_reads_alike_in_the_engine() -> None:
    rng = np.random.default_rng(8)
    index = rng.uniform(0.4, 1.8, 12)
    month = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    clock = Clock(index / (index @ month / 365.25))
    days = [dt.date(2023, 1, 1) + dt.timedelta(days=i) for i in range(1500)]  # a 29 February among them
    table = ibis.memtable({"day": days})
    read = table.mutate(at=clock.column(table.day)).to_pandas().set_index("day")["at"]
    assert read.to_numpy() == pytest.approx([clock.days(d) for d in days], abs=1e-6)
    assert np.diff(read).min() > 0  # time goes on
    assert clock.between(dt.date(2024, 3, 7), dt.date(2025, 3, 7)) == pytest.approx(365.25)
    assert STEADY.between(dt.date(2024, 2, 28), dt.date(2024, 3, 1)) == 2


def test_on_the_clock_parameters_are_right_where_calendar_days_mislead() -> None:
    """At the end of June, the season's low, who is silent is not lost: calendar days take many for gone."""
    log = buyers(9, 20_000, swing=0.8)
    clock, plain, days = clock_of(log)
    people = pd.DataFrame({"customer_id": log["customer_id"].unique(), "market_id": "m"})
    tables = Tables(customers=people)
    seasonal = s.count_purchases(s.customers_of(tables), _in_engine(s.purchase_customers(days, AS_OF, clock)))
    truth = RATE * days_alive(365.25)  # repeat purchases in the first year
    late = RATE * (days_alive(1095.75) - days_alive(730.5))  # in the third
    found = {}
    for name, counts in (("calendar", plain), ("clock", seasonal)):
        fit = ParetoNBD(prior_sd=2.0).fit(*(counts[c].to_numpy(float) for c in ("x", "t_x", "T", "customers")))
        path = fit.expected_purchases(np.array([365.25, 730.5, 1095.75]))
        found[name] = (path[0] / truth, (path[2] - path[1]) / late)
    assert found["clock"] == pytest.approx((1.0, 1.0), abs=0.06)
    assert max(abs(np.log(found["calendar"]))) > 0.12


def _in_engine(table: ibis.Table) -> ibis.Table:
    return ibis.memtable(table.to_pandas())


def test_values_of_a_seasonal_company_are_right() -> None:
    """From the log to values, at the low of the season. People leave by the calendar, not by the clock, so at this time
    of the year more have left than the model sees; the look back, a year earlier to the day, learns by how much."""
    log = buyers(10, 20_000, swing=0.6)
    people = pd.DataFrame({"customer_id": log["customer_id"].unique()})
    people["market_id"] = "m" + (people["customer_id"] % 20).astype(str)
    result = estimate_value(Tables(customers=people, transactions=log), market_data(people), settings())
    repeats = RATE * np.diff(days_alive(np.arange(37) * MONTH)) @ 1.1 ** (-(np.arange(36) + 0.5) / 12)
    numbers = result.notes.numbers
    assert numbers["new_customer_clv"] == pytest.approx(0.4 * 10 * (1 + repeats), rel=0.05)
    assert numbers["customer_equity"] == pytest.approx(0.4 * 10 * log.attrs["left"], rel=0.07)
    assert [w["cut"] for w in numbers["holdout"]["windows"]] == [dt.date(2025, 6, 30), dt.date(2024, 6, 30)]
    assert 0.85 < numbers["models"][0]["calibration"] < 0.97
