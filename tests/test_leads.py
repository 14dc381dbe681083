"""Leads by odds x value: calibrated on later days, nothing of the future used, people only in a restricted file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_leads import known_on, olist_leads, write_company
from sklearn.metrics import roc_auc_score

from micromarket import cli
from micromarket.errors import InputError
from micromarket.leads import LeadModel, look_back, score_leads, take_snapshots, write_leads
from micromarket.leads.regression import fit_grouped_logit
from micromarket.leads.snapshots import as_on, prepared

AS_OF = pd.Timestamp("2026-06-30")
MARKETS = pd.DataFrame(
    {
        "market_id": [f"m{i}" for i in range(6)],
        "name": [f"Town {i}" for i in range(6)],
        "territory": ["A", "A", "A", "B", "B", None],
        "new_customer_clv": [100.0, 100.0, 100.0, 300.0, 300.0, np.nan],
    }
)
RATES = {"web": (0.5, 0.4), "fair": (0.8, 0.7), "list": (0.04, 0.3)}  # to SQL, to the win: lists bring next to nothing


def world(seed: int = 0, n: int = 9000, days: int = 540, after: int = 120) -> pd.DataFrame:
    """Leads with the truth: two steps of exponential waits, market m0 wins half as often as the others."""
    rng = np.random.default_rng(seed)
    channel = rng.choice(list(RATES), n, p=[0.5, 0.3, 0.2])
    market = rng.choice([*MARKETS["market_id"], None], n)
    day = np.sort(rng.integers(0, days + after, n))
    created = AS_OF - pd.to_timedelta(days, unit="D") + pd.to_timedelta(day, unit="D")
    first, second = (np.array([RATES[c][k] for c in channel]) for k in (0, 1))
    second = np.where(market == "m0", 0.5, 1.0) * second
    sql = created + pd.to_timedelta(np.floor(rng.exponential(8, n)), unit="D")
    end = sql + pd.to_timedelta(np.floor(rng.exponential(20, n)), unit="D")
    goes, wins = rng.random(n) < first, rng.random(n) < second
    return pd.DataFrame(
        {
            "lead_id": [f"L{i}" for i in range(n)], "market_id": market, "channel": channel, "created_on": created,
            "sql_on": pd.Series(sql).where(goes), "won_on": pd.Series(end).where(goes & wins),
            "lost_on": pd.Series(np.where(goes, end, sql)).where(~(goes & wins)),
        }
    )  # fmt: skip


def truth(people: pd.DataFrame, days: int) -> np.ndarray:
    """Probability to be won within ``days``: the waits are without memory, those of the two steps add up."""
    first, second = (np.array([RATES[c][k] for c in people["channel"]]) for k in (0, 1))
    second = np.where(people["market_id"] == "m0", 0.5, 1.0) * second
    both = 1 - (20 * np.exp(-days / 20) - 8 * np.exp(-days / 8)) / (20 - 8)
    return np.where(people["stage"] == "sql", second * (1 - np.exp(-days / 20)), first * second * both)


def test_odds_of_open_leads_come_true() -> None:
    every = world()
    found = score_leads(known_on(every, "2026-06-30"), AS_OF, MARKETS)
    people = found.people.set_index("id")
    won = every.set_index("lead_id")["won_on"].reindex(people.index)
    came = ((won > AS_OF) & (won <= AS_OF + pd.Timedelta(days=found.horizon))).astype(int)
    spread = np.sqrt((people["odds"] * (1 - people["odds"])).sum())
    assert abs(people["odds"].sum() - came.sum()) < 3 * spread
    assert roc_auc_score(came, people["odds"]) > roc_auc_score(came, truth(people, found.horizon)) - 0.03
    assert (
        people.loc[people["stage"] == "sql", "odds"].mean() > 2 * people.loc[people["stage"] == "leads", "odds"].mean()
    )
    test = found.test
    assert test is not None
    assert test.auc > max(test.auc_stage, test.auc_channel + 0.03)
    assert test.expected == pytest.approx(1, abs=0.1)
    assert test.slope == pytest.approx(1, abs=0.35)  # 0.89 on average over ten other worlds, SD 0.13
    assert test.skill > 0.1
    assert test.enough_share < 0.6
    assert (test.deciles["predicted"] - test.deciles["won"]).abs().max() < 0.09
    # a list that wins 1% against 20 to 56%: noise, and only that
    assert found.sources.set_index("channel")["noise"].to_dict() == {"fair": False, "list": True, "web": False}
    assert "Little more than noise: list (" in found.to_text("USD")


def test_nothing_after_the_day_is_used() -> None:
    """The snapshot of a day is the same whatever happens later, and so is the training set when it is younger."""
    every = world(1, n=1500)
    for day in ("2025-12-31", "2026-03-15"):
        on = pd.Timestamp(day)
        columns = ["channel", "market_id", "stage", "days_in_stage", "days"]
        then = as_on(prepared(known_on(every, day)), on)
        now = as_on(prepared(every), on)
        pd.testing.assert_frame_equal(then[columns], now[columns])
    test = look_back(take_snapshots(known_on(every, "2026-06-30"), AS_OF))
    assert test is not None
    changed = every.copy()  # what comes after the test begins must not change what was learnt, only what is measured
    late = changed["won_on"] > test.since
    changed.loc[late, "won_on"] = pd.NaT
    changed.loc[late, "lost_on"] = every.loc[late, "won_on"]
    first, second = (take_snapshots(known_on(t, "2026-06-30"), AS_OF, 28) for t in (every, changed))
    assert first is not None
    assert second is not None
    known = [s.rows[s.rows["on"] <= test.since - pd.Timedelta(days=28)].reset_index(drop=True) for s in (first, second)]
    pd.testing.assert_frame_equal(*known)


def test_value_orders_leads_of_equal_odds_and_territories_get_short_lists() -> None:
    found = score_leads(known_on(world(2), "2026-06-30"), AS_OF, MARKETS)
    people = found.people
    assert set(people["territory"]) == {"A", "B", "No territory"}
    for _, group in people.groupby("territory"):
        assert (group["rank"].to_numpy() == np.arange(1, len(group) + 1)).all()
        assert (np.diff(group["expected_value"]) <= 1e-12).all()
        first = group.loc[group["work_first"], "expected_value"].sum()
        assert first >= 0.8 * group["expected_value"].sum() - 1e-9
        assert first - group.loc[group["work_first"], "expected_value"].iloc[-1] < 0.8 * group["expected_value"].sum()
    by = people[people["market_id"].isin(["m1", "m3"])].groupby("market_id")["value"].first()
    assert by["m3"] == 3 * by["m1"]
    assert found.territories["open_leads"].sum() == len(people)
    assert found.territories["expected_wins"].sum() == pytest.approx(people["odds"].sum())


def test_prospects_are_ranked_like_leads_on_their_first_day() -> None:
    prospects = pd.DataFrame({"prospect_id": ["p1", "p2"], "market_id": ["m1", "m1"], "channel": ["fair", "list"]})
    found = score_leads(known_on(world(3), "2026-06-30"), AS_OF, MARKETS, prospects)
    by = found.people[found.people["kind"] == "prospect"].set_index("id")
    assert by.loc["p1", "odds"] > 3 * by.loc["p2", "odds"]
    assert by.loc["p1", "rank"] == 1
    assert found.territories.set_index("territory").loc["A", "prospects"] == 2


@pytest.mark.parametrize("case", ["no wins", "one lead", "none open", "bare columns"])
def test_thin_data_are_said_to_be_thin(case: str) -> None:
    leads = known_on(world(4, n=400), "2026-06-30")
    if case == "no wins":
        leads["won_on"] = pd.NaT
    elif case == "one lead":
        leads = leads.head(1)
    elif case == "none open":
        leads = leads[leads["won_on"].notna() | leads["lost_on"].notna()]
    else:
        leads = leads[["lead_id", "created_on"]]
    found = score_leads(leads, AS_OF, MARKETS[["market_id"]])
    assert np.isfinite(found.people[["odds", "value", "expected_value"]].to_numpy(float)).all()
    assert found.to_text()
    if case in ("no wins", "one lead", "bare columns"):
        assert found.test is None
        assert "Too few wins" in found.to_text()


def test_grouped_regression_equals_the_one_with_all_columns() -> None:
    """Eliminating the groups gives the maximum of the penalised likelihood, as gradients show."""
    rng = np.random.default_rng(0)
    n, groups, sd = 600, 40, 0.6
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    group = rng.integers(-1, groups, n)
    prior = np.array([0.0, 1.0, 4.0])
    effect = np.append(rng.normal(0, sd, groups), 0.0)
    y = (rng.random(n) < 1 / (1 + np.exp(-(x @ [-0.5, 1.0, -0.3] + effect[group])))).astype(int)
    fit = fit_grouped_logit(x, group, groups, sd, y, prior)
    left = y - fit.predict(x, group)
    assert np.abs(x.T @ left - prior * fit.beta).max() < 1e-5
    inside = group >= 0
    assert np.abs(np.bincount(group[inside], left[inside], groups) - fit.effect / sd**2).max() < 1e-5
    assert np.corrcoef(fit.effect, effect[:-1])[0, 1] > 0.5


def test_markets_shrink_unless_they_differ() -> None:
    mixed = world(5)
    mixed["market_id"] = (
        mixed["market_id"].where(mixed["market_id"] != "m0", "m1").sample(frac=1, random_state=1).to_numpy()
    )
    alike = take_snapshots(known_on(mixed, "2026-06-30"), AS_OF)
    assert alike is not None
    model = LeadModel().fit(alike.rows, alike.rows["won"].to_numpy())
    assert model.market_sd_ <= 0.15
    differ = take_snapshots(known_on(world(5), "2026-06-30"), AS_OF)
    assert differ is not None
    model = LeadModel().fit(differ.rows, differ.rows["won"].to_numpy())
    assert model.market_sd_ > 0
    row = differ.rows.head(1)
    weak, other = (model.predict(row.assign(market_id=m))[0] for m in ("m0", "m2"))
    assert weak < 0.8 * other


def test_olist_leads_scored_before_they_were_won(shared_data: Path) -> None:
    """Leads of Olist (README of olist_funnel) open at the end of May 2018, ranked without knowing what came."""
    every = olist_leads(shared_data)
    found = score_leads(known_on(every, "2018-05-31"), pd.Timestamp("2018-05-31"), pd.DataFrame({"market_id": []}))
    assert len(found.people) == 8000 - (every["won_on"] <= "2018-05-31").sum()
    won = every.set_index("lead_id")["won_on"].reindex(found.people["id"]).to_numpy()
    came = (won > np.datetime64("2018-05-31")) & (
        won <= np.datetime64("2018-05-31") + np.timedelta64(found.horizon, "D")
    )
    odds = found.people["odds"].to_numpy()
    assert roc_auc_score(came, odds) > 0.7
    assert 0.6 < odds.sum() / came.sum() < 1.6
    first = found.people["work_first"].to_numpy()
    assert came[first].mean() > 2.5 * came[~first].mean()
    assert found.sources.set_index("channel").loc["email", "noise"]


def company(folder: Path) -> tuple[Path, Path]:
    """plan.yml and a finished run of it, as far as the list of leads looks at one."""
    leads = known_on(world(6, n=1500), "2026-06-30")
    leads.loc[leads.index[-1], "lead_id"] = '=HYPERLINK("http://x")'
    plan = write_company(folder / "co", leads, "2026-06-30", list(MARKETS["market_id"]))
    run = folder / "runs" / "run"
    (run / "tables").mkdir(parents=True)
    MARKETS[["market_id", "new_customer_clv"]].to_parquet(run / "tables" / "scores.parquet")
    manifest = {"settings": {"as_of": "2026-06-30"}, "command": ["micromarket", "run", str(plan)],
                "plan_file": {"file": "plan.yml", "sha256": hashlib.sha256(plan.read_bytes()).hexdigest()}}  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest))
    return plan, run


def test_the_list_is_for_its_owner_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, run = company(tmp_path)
    old = os.umask(0)
    try:
        assert cli.main(["leads", str(run), "--out", str(tmp_path / "list.csv")]) == 0
        write_leads(run, tmp_path / "list.parquet", plan)
    finally:
        os.umask(old)
    for name in ("list.csv", "list.parquet"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert "open leads" in said
    assert "L1" not in said, "aggregates alone"
    table = pd.read_csv(tmp_path / "list.csv", dtype=str)
    people = pd.read_parquet(tmp_path / "list.parquet")
    assert len(table) == len(people)
    assert not table.apply(lambda c: c.fillna("").str.match(r"[=@\t]")).any(axis=None)
    assert sorted(p.name for p in run.rglob("*") if p.is_file()) == ["manifest.json", "scores.parquet"]


def test_people_never_go_into_a_run_folder(tmp_path: Path) -> None:
    plan, run = company(tmp_path)
    for inside in (run / "list.csv", run / "tables" / "x" / "list.csv"):
        with pytest.raises(InputError, match="outside the folder of a plan"):
            write_leads(run, inside, plan)
    with pytest.raises(InputError, match=r"one of .csv, .xlsx, .parquet"):
        write_leads(run, tmp_path / "list.doc", plan)
    plan.write_text(plan.read_text() + "seed: 2\n")
    with pytest.raises(InputError, match="has changed since"):
        write_leads(run, tmp_path / "list.csv")
    with pytest.raises(InputError, match="finished run"):
        write_leads(tmp_path, tmp_path / "list.csv", plan)
    assert not (tmp_path / "list.csv").exists()


def test_results_are_frozen() -> None:
    found = score_leads(known_on(world(7, n=300), "2026-06-30"), AS_OF, MARKETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.horizon = 3  # type: ignore[misc]
