"""Attainment: parts that add up, bands that hold what comes, any day of the period; the run is one of known truth."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket import cli
from micromarket.errors import InputError
from micromarket.readout import readout
from micromarket.targets.progress import Beliefs, causes, outlook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from targets_worlds import a_year, make_world, settings_of

from micromarket.targets import set_targets

MONTHS = pd.date_range("2026-07-01", periods=12, freq="MS")


@pytest.fixture(scope="module")
def world():
    return make_world(120, 7, "base")


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tables").mkdir()
    days = {"start": "2026-07-01", "end": "2027-06-30"}
    (folder / "plan.json").write_text(json.dumps({"currency": "USD", "plan": days}))
    (folder / "manifest.json").write_text(json.dumps({"settings": {"targets": {"period": "month"}}}))
    result = set_targets(world.data, world.values, world.scores, world.budget, settings_of(0.05))
    result.targets.to_parquet(folder / "tables/targets.parquet")
    result.limits.to_parquet(folder / "tables/target_limits.parquet")
    places = world.data.markets[["market_id", "region"]].assign(name=None)
    places["territory"] = [f"T{i % 7}" for i in range(len(places))]
    places.to_parquet(folder / "tables/territories.parquet")
    funnel = result.targets[["market_id", "segment", "period"]].assign(
        leads=5.0 * result.targets["new_customers"], won=result.targets["new_customers"]
    )
    funnel.to_parquet(folder / "tables/funnel.parquet")
    return folder


def actuals_of(world, run: Path, revenue: np.ndarray, name: str = "a.csv", **more: np.ndarray) -> Path:
    """A table of the months so far; arrays of shape (territories, months)."""
    count = revenue.shape[1]
    ids = world.data.markets["market_id"]
    frame = pd.DataFrame({"market_id": np.repeat(ids, count), "period": np.tile(MONTHS[:count], len(ids)),
                          "new_customers": 0.0, "revenue": revenue.ravel()})  # fmt: skip
    path = run / name
    frame.assign(**{k: v.ravel() for k, v in more.items()}).to_csv(path, index=False)
    return path


def due(run: Path, column: str, count: int) -> np.ndarray:
    table = pd.read_parquet(run / "tables/targets.parquet").pivot_table(
        index="market_id", columns="period", values=column, aggfunc="sum")  # fmt: skip
    return table.to_numpy()[:, :count]


def test_parts_of_the_gap_add_up_at_every_level(world, run: Path) -> None:
    rng = np.random.default_rng(0)
    won, leads = due(run, "new_customers", 3) * 0.8, 5 * due(run, "new_customers", 3) * rng.uniform(0.5, 1.1, (120, 3))
    path = actuals_of(world, run, due(run, "revenue", 3) * 0.9, new_customers=won, leads=leads)
    found = readout(run, [path])
    for frame in (found.markets, found.regions, found.territories, found.total.to_frame().T):
        gap = frame["revenue_actual"] - frame["revenue_target"]
        parts = frame["volume"] + frame["conversion"] + frame["value"]
        assert parts.to_numpy(float) == pytest.approx(gap.to_numpy(float), abs=0.006)
    for cause in ("volume", "conversion", "value"):
        for frame in (found.regions, found.territories):
            assert frame[cause].sum() == pytest.approx(found.total[cause], abs=0.01 * len(frame) + 1)
    assert found.total["volume"] < 0
    assert found.total["revenue_attainment"] == pytest.approx(0.9, abs=1e-6)
    assert "conversion" in found.to_text()


def test_which_cause_it_is() -> None:
    one = np.ones(1)
    plain = {"each": 10 * one, "planned_customers": 20 * one}
    fewer_leads = causes(-100 * one, 10 * one, (50 * one, 100 * one), **plain)
    assert fewer_leads.iloc[0].tolist() == pytest.approx([-100, 0, 0])
    worse_rate = causes(-100 * one, 10 * one, (100 * one, 100 * one), **plain)
    assert worse_rate.iloc[0].tolist() == pytest.approx([0, -100, 0])
    less_each = causes(-100 * one, 20 * one, (100 * one, 100 * one), **plain)
    assert less_each.iloc[0].tolist() == pytest.approx([0, 0, -100])
    unknown = causes(-100 * one, 10 * one, None, **plain)
    assert unknown.iloc[0].tolist() == pytest.approx([-100, 0, 0])
    nothing_due = causes(-5 * one, 3 * one, (0 * one, 0 * one), 10 * one, 0 * one)
    assert np.isfinite(nothing_due.to_numpy()).all()


def test_projection_is_the_gaussian_posterior() -> None:
    """Against plain linear algebra on the full covariance."""
    rng = np.random.default_rng(0)
    mu, part = rng.lognormal(3, 1, 14), 0.4
    b = Beliefs(mu, 0.1 * mu, 0.05 * mu, 0.04 * mu, 0.02 * mu, 0.03 * mu, rng.integers(0, 3, 14))
    load = b.loadings
    here, both = 0.7 * part**2 + 0.3 * part**3, 0.7 * part + 0.9 * (part**2 / 2 - part**3 / 6)
    seen, onward = np.full(load.shape[1], here), np.full(load.shape[1], both)
    seen[0] = onward[0] = part
    sigma = np.diag(here * b.own**2 + part * b.luck**2) + (load * seen) @ load.T
    cross = np.diag(both * b.own**2 + part * b.luck**2) + (load * onward) @ load.T
    actual = part * mu * (1 + rng.normal(0, 0.1, 14))
    codes = rng.integers(0, 4, 14)
    groups = np.eye(4)[codes].T
    mean = groups @ (mu + cross @ np.linalg.solve(sigma, actual - part * mu))
    left = groups @ (np.diag(b.own**2 + b.luck**2) + load @ load.T - cross @ np.linalg.solve(sigma, cross.T)) @ groups.T
    found = outlook(b, part * mu, actual, part, mu, codes)
    assert found["projection"].to_numpy() == pytest.approx(mean, rel=1e-6)
    sd = (found["projection_high"] - found["projection"]) / 1.6448536
    assert sd.to_numpy() == pytest.approx(np.sqrt(np.diag(left)), rel=1e-5)
    done = outlook(b, mu, 0.5 * mu, 1.0, mu, codes)
    assert done["projection"].to_numpy() == pytest.approx(groups @ (0.5 * mu))
    assert (done["p_attain"] == 0).all()


def test_bands_and_projections_hold_what_comes(tmp_path: Path) -> None:
    """90% ranges over fresh worlds and the months of their year."""
    held, better = {"band": [], "projection": []}, []
    for seed in range(31, 39):
        world = make_world(60, seed, "base")
        folder = tmp_path / str(seed)
        (folder / "tables").mkdir(parents=True)
        days = {"start": "2026-07-01", "end": "2027-06-30"}
        (folder / "plan.json").write_text(json.dumps({"currency": "USD", "plan": days}))
        (folder / "manifest.json").write_text(json.dumps({"settings": {"targets": {"period": "month"}}}))
        result = set_targets(world.data, world.values, world.scores, world.budget, settings_of(0.05))
        result.targets.to_parquet(folder / "tables/targets.parquet")
        result.limits.to_parquet(folder / "tables/target_limits.parquet")
        year = a_year(world, seed)
        end = year.sum(axis=1)
        for months in (4,):
            found = readout(folder, [actuals_of(world, folder, year[:, :months])]).markets
            held["band"].append((found["off_track"] == "").mean())
            inside = (found["projection_low"] <= end) & (found["projection_high"] >= end)
            held["projection"].append(inside.mean())
            rate = found["revenue_actual"] / (found["revenue_target"] / found["plan_target"])
            better.append((found["projection"] - end).abs().sum() < (rate - end).abs().sum())
    assert np.mean(held["band"]) == pytest.approx(0.9, abs=0.08)
    assert np.mean(held["projection"]) == pytest.approx(0.9, abs=0.08)
    assert np.mean(better) > 0.7


def test_any_day_and_segments(world, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = world.data.markets["market_id"]
    days = pd.date_range("2026-07-01", "2026-07-10")
    frame = pd.DataFrame({"market_id": np.repeat(ids, len(days)), "period": np.tile(days, len(ids)),
                          "new_customers": 1, "revenue": 10.0, "segment": "All"})  # fmt: skip
    frame.to_csv(run / "days.csv", index=False)
    found = readout(run, [run / "days.csv"])
    assert found.through == dt.date(2026, 7, 10)
    assert found.total["revenue_actual"] == pytest.approx(1200 * 10)
    target = due(run, "revenue", 1).sum() * 10 / 31
    assert found.total["revenue_target"] == pytest.approx(target)
    assert found.segments.index.tolist() == ["All"]
    assert found.segments["revenue_actual"].iloc[0] == found.total["revenue_actual"]
    # a month that isn't over: what it brought counts in full, the target for its days
    path = actuals_of(world, run, due(run, "revenue", 2) * np.array([1, 0.5]))
    part = readout(run, [path], through=dt.date(2026, 8, 15))
    wanted = due(run, "revenue", 2).sum(axis=0)
    assert part.total["revenue_target"] == pytest.approx(wanted[0] + wanted[1] * 15 / 31)
    assert part.total["revenue_actual"] == pytest.approx(wanted[0] + wanted[1] * 0.5)
    status = cli.main(["readout", str(run), "--actuals", str(path), "--through", "2026-08-15"])
    said = capsys.readouterr().out
    assert status == 0
    assert "by the end of the plan" in said
    assert "By territory" in said


def test_table_of_all_levels(world, run: Path, tmp_path: Path) -> None:
    path = actuals_of(world, run, due(run, "revenue", 4))
    table = readout(run, [path]).to_frame()
    assert table["level"].drop_duplicates().tolist() == ["company", "region", "territory", "market"]
    assert table.groupby("level")["revenue_actual"].sum().round(2).nunique() == 1
    assert cli.main(["readout", str(run), "--actuals", str(path), "--out", str(tmp_path / "r.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "r.csv")) == len(table)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("t00000,All,2026-07-01,1,1,-3\n", "leads"),
        ("t00000,Nobody,2026-07-01,1,1,3\n", "a segment of the plan"),
        ("t00000,All,2026-07-01,1,1,3\nt00000,All,2026-07-01,1,1,3\n", "t00000, All"),
        ("nowhere,All,2026-07-01,1,1,3\n", "a market of the plan"),
    ],
)
def test_problems_are_named(run: Path, tmp_path: Path, rows: str, expected: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("market_id,segment,period,new_customers,revenue,leads\n" + rows)
    with pytest.raises(InputError) as caught:
        readout(run, [path])
    assert expected in str(caught.value)
