"""Life tables of leads, what open leads still bring, coverage in weeks, service levels; real leads and their facts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_leads import known_on, maven_leads, olist_leads, write_company

from micromarket import config
from micromarket.config import read_settings
from micromarket.funnel import FunnelResult, back_solve
from micromarket.funnel.lifetable import LifeTables, life_tables
from micromarket.funnel.service import service_levels
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.summarise.lead_steps import lead_steps
from micromarket.summarise.leads import leads_by_month

AS_OF = pd.Timestamp("2026-06-30")
RATES = {"web": (0.5, 0.7, 0.6, 0.5), "fair": (0.8, 0.9, 0.7, 0.6)}
LAGS = {"web": (4.0, 10.0, 15.0, 30.0), "fair": (2.0, 5.0, 10.0, 12.0)}  # mean days in each stage, whatever comes of it
DATES = ("mql_on", "sal_on", "sql_on", "won_on")


def world(
    seed: int = 0, days: int = 700, after: int = 200, a_day: float = 6.0, lost_known: bool = True
) -> pd.DataFrame:
    """Leads of two regions (North brings a third) to ``after`` days past AS_OF; exponential waits, full history."""
    rng = np.random.default_rng(seed)
    parts = []
    for channel, rates in RATES.items():
        n = rng.poisson(a_day * (days + after) / 2)
        created = AS_OF - pd.to_timedelta(days, unit="D") + pd.to_timedelta(rng.integers(0, days + after, n), unit="D")
        frame = pd.DataFrame({"channel": channel, "created_on": created})
        frame["market_id"] = rng.choice(["n1", "s1", "s2"], n)
        now, alive, lost = created, np.ones(n, bool), np.full(n, np.datetime64("NaT"), "datetime64[ns]")
        for column, rate, lag in zip(DATES, rates, LAGS[channel], strict=True):
            now = now + pd.to_timedelta(np.floor(rng.exponential(lag, n)), unit="D")
            goes = rng.random(n) < rate
            frame[column] = pd.Series(now).where(alive & goes).to_numpy()
            lost = np.where(alive & ~goes, now.to_numpy("datetime64[ns]"), lost)
            alive &= goes
        frame["lost_on"] = lost if lost_known else np.datetime64("NaT")
        parts.append(frame)
    out = pd.concat(parts, ignore_index=True)
    return out.assign(lead_id=[f"L{i}" for i in range(len(out))])


def dataset_of(folder: Path, leads: pd.DataFrame, as_of: str, markets: list[str]) -> tuple[MarketData, config.Settings]:
    settings = read_settings(write_company(folder, leads, as_of, markets))
    with open_dataset(settings) as dataset:
        steps, months = lead_steps(dataset), leads_by_month(dataset)
        places = pd.DataFrame(dataset.markets)
    assert steps is not None
    places["region"] = places["market_id"].str[0].map({"n": "North", "s": "South"}).fillna(places["market_id"])
    empty = pd.DataFrame()
    data = MarketData(places, empty, empty, leads=months, lead_steps=steps.steps, open_leads=steps.open_leads,
                      lead_reasons=steps.reasons)  # fmt: skip
    return data, settings


def targets_of(settings: config.Settings, markets: list[str], each: dict[str, float]) -> pd.DataFrame:
    periods = pd.date_range(settings.plan.start, periods=12, freq="MS")
    table = pd.MultiIndex.from_product([markets, ["All"], periods]).to_frame(index=False)
    table.columns = ["market_id", "segment", "period"]
    table["new_customers"] = table["market_id"].map(each).round().astype(int)
    return table


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, MarketData, config.Settings]:
    every = world()
    data, settings = dataset_of(tmp_path_factory.mktemp("co"), known_on(every, "2026-06-30"), "2026-06-30",
                                ["n1", "s1", "s2"])  # fmt: skip
    return every, data, settings


def test_rates_and_waits_come_back_although_many_leads_are_open(known) -> None:
    tables = life_tables(known[1].lead_steps)
    assert tables.stages == ("leads", "mql", "sal", "sql")
    reached = tables.reached()[:, :, -1]
    for channel, rates in RATES.items():
        c = tables.channels.index(channel)
        assert reached[c, 1:] == pytest.approx(np.cumprod(rates), rel=0.12)
        assert tables.days_to_win()[c, 0] == pytest.approx(sum(LAGS[channel]) - 2, rel=0.12)  # whole days: half less
    assert tables.leaving().sum() > 0
    assert np.isfinite(tables.moved).all()
    assert (tables.moved + tables.lost <= 1 + 1e-12).all()


def test_young_cohorts_bias_nothing() -> None:
    """The same process seen when half of its leads are weeks old: the naive share is far off, the life table isn't."""
    rng = np.random.default_rng(4)
    n, age = 20_000, 60
    seen = rng.integers(0, age, n)
    wait, goes = np.floor(rng.exponential(30, n)).astype(int), rng.random(n) < 0.4
    left = wait <= seen
    steps = pd.DataFrame({"channel": "x", "stage": "leads", "day": np.where(left, wait, seen),
                          "moved": left & goes, "lost": left & ~goes, "open": ~left})  # fmt: skip
    tables = life_tables(steps.groupby(["channel", "stage", "day"], as_index=False).sum())
    by_then = tables.leaving()[-1, 0, :50].sum()
    assert by_then == pytest.approx(0.4 * (1 - np.exp(-50 / 30)), rel=0.04)
    assert (left & goes).mean() < 0.6 * 0.4


def test_channels_shrink_unless_they_differ() -> None:
    def spread(differ: bool) -> np.ndarray:
        rng = np.random.default_rng(1)
        rows = []
        for i in range(30):
            rate = (0.1 if i % 2 else 0.5) if differ else 0.3
            goes = rng.random(25) < rate
            rows += [
                (f"c{i:02d}", "leads", int(d), g, not g, 0) for d, g in zip(rng.integers(0, 20, 25), goes, strict=True)
            ]
        frame = pd.DataFrame(rows, columns=["channel", "stage", "day", "moved", "lost", "open"])
        tables = life_tables(frame.groupby(["channel", "stage", "day"], as_index=False).sum().astype({"moved": float}))
        return tables.reached()[:-1, 1, -1]

    assert spread(False).std() < 0.05
    many, few = spread(True)[::2], spread(True)[1::2]
    assert many.mean() > 2 * few.mean()


def test_open_leads_bring_what_they_then_brought(known) -> None:
    """Expected wins of the leads open on 30 June against those that were won after it: 1 for 1, month by month."""
    every, data, settings = known
    markets = ["n1", "s1", "s2"]
    result = back_solve(data, targets_of(settings, markets, dict.fromkeys(markets, 10)), None, settings)
    seen = known_on(every, "2026-06-30")
    waiting = seen[seen["won_on"].isna() & seen["lost_on"].isna()].index
    came = every.loc[waiting, "won_on"]
    assert result.funnel is not None
    assert result.pipeline is not None
    company = result.pipeline.set_index(["level", "key"]).loc[("company", "company")]
    assert company["open_leads"] == len(waiting)
    assert company["expected_low"] <= came.notna().sum() <= company["expected_high"]
    expected = result.funnel.groupby("period")["from_pipeline"].sum()
    actual = came.dt.to_period("M").dt.to_timestamp().value_counts().reindex(expected.index).fillna(0)
    assert np.abs(expected - actual).sum() < 0.3 * actual.sum()
    regions = result.pipeline[result.pipeline["level"] == "region"]
    for column in ("open_leads", "expected_wins", "needed", "weekly_need"):
        assert regions[column].sum() == pytest.approx(company[column])


def test_short_of_leads_in_weeks(known) -> None:
    """Sales must win in North three times what its leads bring: the pipeline is short there, and only there."""
    _, data, settings = known
    tables = life_tables(data.lead_steps)
    flow = 6.0 / 2 * sum(np.prod(r) for r in RATES.values()) / 3 * 30.4  # wins a month and market
    targets = targets_of(settings, ["n1", "s1", "s2"], {"n1": 3 * flow, "s1": flow, "s2": flow})
    result = back_solve(data, targets, None, settings)
    assert result.pipeline is not None
    by = result.pipeline.set_index("key")
    assert by.loc["North", "weeks_short"] == pytest.approx(2 / 3 * by.loc["North", "weeks_needed"], rel=0.2)
    assert abs(by.loc["South", "weeks_short"]) < 0.2 * by.loc["South", "weeks_needed"]
    # steady state: leads there today hold the wins of as many weeks as a win takes (Little's law)
    assert by.loc["South", "weeks_needed"] == pytest.approx(tables.days_to_win()[-1, 0] / 7, rel=0.15)
    weeks = round(by.loc["North", "weeks_short"])
    assert f"{weeks} weeks short in region North." in result.notes.numbers["pipeline"]["text"]
    assert any("short in region North" in w for w in result.notes.warnings)
    assert all(c.passed for c in result.notes.checks)


def test_service_level_between_the_teams(known) -> None:
    every, data, _ = known
    by = service_levels(data.lead_steps).set_index("key")
    part = every[every["mql_on"].notna()].groupby("channel").size()
    accepted = sum(part[c] * RATES[c][1] for c in RATES) / part.sum()
    assert by.loc["company", "accepted"] == pytest.approx(accepted, abs=0.02)
    assert by.loc["company", "accepted"] + by.loc["company", "rejected"] == pytest.approx(1, abs=0.01)
    waits = (every["sal_on"] - every["mql_on"]).dt.days
    assert by.loc["company", "acceptance_days"] == pytest.approx(waits.median(), abs=1)
    assert by.loc["company", "waiting"] == data.lead_steps.query("stage == 'mql'")["open"].sum()
    assert service_levels(data.lead_steps.query("stage != 'sal'")).empty
    assert service_levels(None).empty


def test_reasons_are_told_from_ten_leads_on(tmp_path: Path) -> None:
    leads = known_on(world(3, days=300, after=0), "2026-06-30")
    leads["rejected_reason"] = None
    sent_back = leads.index[leads["mql_on"].notna() & leads["sal_on"].isna() & leads["lost_on"].notna()]
    leads.loc[sent_back[:40], "rejected_reason"] = "=too small"
    leads.loc[sent_back[40:45], "rejected_reason"] = "Mr Smith is ill"
    data, settings = dataset_of(tmp_path, leads, "2026-06-30", ["n1", "s1", "s2"])
    result = back_solve(data, targets_of(settings, ["n1"], {"n1": 5}), None, settings)
    assert [r["reason"] for r in result.notes.numbers["rejection_reasons"]] == ["=too small"]
    small = dataclasses.replace(settings, report=config.Report(min_cell=10_000))
    hidden = back_solve(data, targets_of(settings, ["n1"], {"n1": 5}), None, small).pipeline
    assert hidden is not None
    assert hidden["open_leads"].isna().all()


def solved(
    tmp_path: Path, leads: pd.DataFrame, as_of: str, markets: list[str]
) -> tuple[FunnelResult, LifeTables, MarketData]:
    data, settings = dataset_of(tmp_path, leads, as_of, markets)
    targets = targets_of(settings, markets, dict.fromkeys(markets, 10))
    return back_solve(data, targets, None, settings), life_tables(data.lead_steps), data


def test_olist_funnel(tmp_path: Path, shared_data: Path) -> None:
    """842 of 8,000 won so far (10.525%), mean lag 49 days (README); what is still open comes on top."""
    every = olist_leads(shared_data)
    result, _, _ = solved(tmp_path / "end", every, "2018-11-30", ["x"])
    numbers = result.notes.numbers
    assert numbers["source"] == "own leads: 8,000 leads, 842 won"
    still = numbers["pipeline"]["expected_wins"]
    assert 8000 * numbers["rates"]["won"] - still == pytest.approx(842, rel=0.015)
    assert numbers["total"]["leads"] == pytest.approx(numbers["total"]["won"] / numbers["rates"]["won"], rel=0.02)
    assert result.channels is not None
    rates = result.channels.set_index("channel")["won"]
    published = {"unknown": 0.163, "paid_search": 0.123, "organic_search": 0.118, "direct_traffic": 0.112,
                 "social": 0.056, "email": 0.030}  # fmt: skip
    assert list(rates[list(published)].rank()) == [6, 5, 4, 3, 2, 1]
    for channel, share in published.items():
        assert share < rates[channel] < share + 0.022, "young leads completed, shrunk to the company"
    # half a year earlier: what was open then, and what it brought
    early, _, _ = solved(tmp_path / "then", known_on(every, "2018-05-31"), "2018-05-31", ["x"])
    came = (every["won_on"] > "2018-05-31").sum()
    assert early.notes.numbers["pipeline"]["expected_wins"] == pytest.approx(came, rel=0.25)
    assert early.notes.numbers["rates"]["won"] == pytest.approx(842 / 8000, rel=0.05)


def test_maven_crm_pipeline(tmp_path: Path, shared_data: Path) -> None:
    """4,238 won and 2,473 lost: 63.2% of what is decided; 1,589 are engaged and open (README)."""
    every = maven_leads(shared_data)
    offices = ["Central", "East", "West"]
    result, tables, data = solved(tmp_path, every, "2017-12-31", offices)
    counted = data.lead_steps[["moved", "lost", "open"]].sum()
    assert counted.to_list() == [4238, 2473, 1589]
    won, lost = ((tables.staying() * h)[-1, 0].sum() for h in (tables.moved, tables.lost))
    assert won / (won + lost) == pytest.approx(0.632, abs=0.005)
    numbers = result.notes.numbers
    assert 8300 * won == pytest.approx(4238 + numbers["pipeline"]["expected_wins"], rel=0.02)
    assert 4238 / 8300 < numbers["rates"]["won"] < 0.632
    assert result.pipeline is not None
    regions = result.pipeline[result.pipeline["level"] == "region"].set_index("key")
    waiting = every[every["won_on"].isna() & every["lost_on"].isna()].groupby("market_id").size()
    assert regions["open_leads"].to_dict() == waiting.to_dict()
    # those open have stayed longer than nearly all that were ever closed: few of them will be won
    assert 0 < numbers["pipeline"]["expected_wins"] < 0.1 * 1589


def test_a_lone_lead_is_no_trouble(tmp_path: Path) -> None:
    one = pd.DataFrame({"lead_id": ["a", "b"], "created_on": pd.to_datetime(["2026-06-01", "2026-06-29"]),
                        "won_on": pd.to_datetime(["2026-06-10", None])})  # fmt: skip
    result, tables, _ = solved(tmp_path, one, "2026-06-30", ["n1"])
    assert tables.stages == ("leads",)
    assert result.funnel is not None
    assert np.isfinite(result.funnel["from_pipeline"].to_numpy(float)).all()
    assert result.notes.numbers["rates"]["mql"] is None
    assert dt.date.fromisoformat("2026-06-30") == AS_OF.date()
