"""The funnel: known rates come back, open leads don't bias them, wins equal targets, nothing is invented."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket import config
from micromarket.funnel.conversion import estimate_conversion
from micromarket.funnel.solve import back_solve
from micromarket.market_data import MarketData
from micromarket.workspace import Workspace

AS_OF = dt.date(2026, 6, 30)
SETTINGS = config.Settings(
    path=Path("plan.yml"),
    company=config.Company("Example"),
    as_of=AS_OF,
    plan=config.PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
    economics=config.Economics("contractual", margin_rate=0.4),
    data={},
)
STEPS = {"web": (0.5, 0.7, 0.6, 0.5), "fair": (0.8, 0.9, 0.7, 0.6)}  # lead -> mql -> sal -> sql -> won
WON = {k: float(np.prod(v)) for k, v in STEPS.items()}


def make_leads(markets=8, per_month=40, months=24, lag=60.0, seed=0) -> pd.DataFrame:
    """Leads whose stages come evenly along an exponential lag, seen on ``AS_OF``."""
    rng = np.random.default_rng(seed)
    rows = []
    for month in pd.date_range(end="2026-06-01", periods=months, freq="MS"):
        for market in range(markets):
            for channel, steps in STEPS.items():
                n = rng.poisson(per_month)
                age = (pd.Timestamp(AS_OF) - month).days - rng.uniform(0, 30, n)
                full = rng.exponential(lag, n)
                alive, counts = np.ones(n, dtype=bool), []
                for k, rate in enumerate(steps, start=1):
                    alive = alive & (rng.random(n) < rate)
                    counts.append(int((alive & (full * k / 4 <= age)).sum()))
                wins = alive & (full <= age)
                rows.append(
                    [f"m{market}", "A", channel, month, n, *counts, 0, full[wins].mean() if wins.any() else np.nan]
                )
    columns = ["market_id", "segment", "channel", "month", "leads", "mql", "sal", "sql", "won", "lost", "lag_days"]
    return pd.DataFrame(rows, columns=columns)


def make_targets(markets=8, seed=0, size=30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    periods = pd.date_range("2026-07-01", periods=12, freq="MS")
    keys = pd.MultiIndex.from_product([[f"m{i}" for i in range(markets)], ["A"], periods])
    frame = keys.to_frame(index=False)
    frame.columns = ["market_id", "segment", "period"]
    frame["new_customers"] = rng.poisson(size * (1 + 0.5 * np.sin(np.arange(len(frame)))))
    return frame


def make_data(leads) -> MarketData:
    empty = pd.DataFrame()
    return MarketData(empty, empty, empty, leads=leads, facts={})


def test_known_rates_come_back_although_leads_are_open():
    leads = make_leads()
    cells = pd.DataFrame({"market_id": [f"m{i}" for i in range(8)], "segment": "A"})
    conversion = estimate_conversion(leads, cells, pd.Timestamp(AS_OF))
    truth = np.mean(list(WON.values()))
    assert conversion.company["won"] == pytest.approx(truth, rel=0.04)
    assert leads["won"].sum() / leads["leads"].sum() < 0.94 * truth  # what ignoring the open leads would say
    assert conversion.company["mql"] == pytest.approx(0.65, rel=0.03)
    assert conversion.lag_days == pytest.approx(60, rel=0.12)
    assert conversion.cells["won"].to_numpy() == pytest.approx(np.full(8, truth), rel=0.08)


def test_markets_shrink_unless_they_really_differ():
    leads = make_leads(markets=12, per_month=6)
    alike = estimate_conversion(leads, make_targets(12), pd.Timestamp(AS_OF)).cells["won"]
    weak = leads["market_id"].isin(["m0", "m1", "m2", "m3"])
    leads.loc[weak, "won"] = (leads.loc[weak, "won"] * 0.2).round()
    differ = estimate_conversion(leads, make_targets(12), pd.Timestamp(AS_OF)).cells["won"]
    assert alike.std() / alike.mean() < 0.1
    assert differ.iloc[:4].mean() < 0.5 * differ.iloc[4:].mean()


def test_funnel_adds_up(tmp_path):
    targets = make_targets()
    result = back_solve(make_data(make_leads()), targets, None, SETTINGS)
    table, numbers = result.funnel, result.notes.numbers
    assert (table["won"].to_numpy() == targets["new_customers"].to_numpy()).all()
    for more, fewer in zip(["leads", "mql", "sal", "sql"], ["mql", "sal", "sql", "won"], strict=True):
        assert (table[more] >= table[fewer]).all()
    needed = targets["new_customers"].sum() / np.mean(list(WON.values()))
    assert numbers["total"]["leads"] == pytest.approx(needed, rel=0.05)
    assert numbers["total"] == {c: int(table[c].sum()) for c in ("leads", "mql", "sal", "sql", "won")}
    assert all(c.passed for c in result.notes.checks)
    result.write(Workspace(tmp_path))
    pd.testing.assert_frame_equal(Workspace(tmp_path).read("funnel"), table, check_dtype=False)


def test_leads_come_before_their_wins():
    targets = make_targets(1)
    targets["new_customers"] = np.where(np.arange(12) == 6, 100, 0)
    table = back_solve(make_data(make_leads(lag=61.0)), targets, None, SETTINGS).funnel
    assert table["leads"].to_numpy(dtype=float).argmax() == 4  # about two months earlier
    assert table["sql"].to_numpy(dtype=float)[:6].sum() > 0


def test_only_recorded_stages_are_filled():
    leads = make_leads().assign(sal=np.nan, sql=0)
    table = back_solve(make_data(leads), make_targets(), None, SETTINGS).funnel
    assert table[["sal", "sql"]].isna().all().all()
    assert (table["mql"] > 0).any()


def test_what_is_missing_is_said():
    for data, targets in [
        (make_data(None), make_targets()),
        (make_data(make_leads()), None),
        (make_data(make_leads().assign(won=0)), make_targets()),
    ]:
        result = back_solve(data, targets, None, SETTINGS)
        assert result.funnel is None
        assert result.notes.warnings[0].startswith("No funnel")
    # leads without a place still give rates; unknown cells get the company's
    result = back_solve(make_data(make_leads().assign(market_id=None)), make_targets(), None, SETTINGS)
    assert any("no market" in w for w in result.notes.warnings)
    assert result.funnel["leads"].notna().all()


def test_sparse_and_empty_targets():
    sparse = make_targets(50, size=0.05)
    table = back_solve(make_data(make_leads(markets=2)), sparse, None, SETTINGS).funnel
    total = table["leads"].sum()
    assert total == pytest.approx(sparse["new_customers"].sum() / np.mean(list(WON.values())), rel=0.1)
    assert (
        back_solve(make_data(make_leads()), sparse.assign(new_customers=0), None, SETTINGS).funnel["leads"].sum() == 0
    )


def test_olist_rates(shared_data):
    """8,000 leads, 842 won (10.525%); rates by origin from the README of olist_funnel."""
    folder = shared_data / "real" / "olist_funnel"
    if not folder.is_dir():
        pytest.skip("olist_funnel is not here")
    leads = pd.read_csv(folder / "olist_marketing_qualified_leads_dataset.csv.gz")
    deals = pd.read_csv(folder / "olist_closed_deals_dataset.csv.gz")
    both = leads.merge(deals[["mql_id", "won_date"]], on="mql_id", how="left")
    created = pd.to_datetime(both["first_contact_date"])
    both["lag"] = (pd.to_datetime(both["won_date"], format="mixed") - created).dt.days
    both["month"] = created.dt.to_period("M").dt.to_timestamp()
    both["channel"] = both["origin"].fillna("unknown")
    grouped = both.groupby(["channel", "month"]).agg(
        leads=("mql_id", "size"), won=("won_date", "count"), lag_days=("lag", "mean")
    )
    table = grouped.reset_index().assign(market_id=None, segment=None, mql=0, sal=0, sql=0, lost=0)
    settings = dataclasses.replace(SETTINGS, as_of=dt.date(2018, 12, 31))  # deals are known to November 2018
    targets = make_targets(1).assign(segment="All")
    result = back_solve(make_data(table), targets, None, settings)
    numbers = result.notes.numbers
    assert numbers["rates"]["won"] == pytest.approx(842 / 8000, rel=0.01)
    assert numbers["source"] == "own leads: 8,000 leads, 842 won"
    assert numbers["lag_days"] == pytest.approx(49.1, rel=0.02)
    assert numbers["total"]["leads"] == pytest.approx(targets["new_customers"].sum() / 0.10525, rel=0.02)
    assert numbers["rates"]["sql"] is None


def test_leads_that_name_none_of_the_plans_segments_tell_the_rates_of_their_market():
    leads = make_leads()
    cells = pd.DataFrame(
        [(f"m{i}", s) for i in range(8) for s in ("New", "Frequent")], columns=["market_id", "segment"]
    )
    known = estimate_conversion(leads, cells[["market_id"]].drop_duplicates().assign(segment="A"), pd.Timestamp(AS_OF))
    found = estimate_conversion(leads, cells, pd.Timestamp(AS_OF))
    assert found.unplaced == 0
    assert found.cells[["market_id", "segment"]].to_numpy().tolist() == cells.to_numpy().tolist()
    assert found.cells["won"].to_numpy()[::2] == pytest.approx(known.cells["won"].to_numpy())
    assert found.cells["won"].to_numpy()[1::2] == pytest.approx(known.cells["won"].to_numpy())
    anonymous = estimate_conversion(leads.assign(segment=None), cells, pd.Timestamp(AS_OF))
    assert anonymous.cells.equals(found.cells)
