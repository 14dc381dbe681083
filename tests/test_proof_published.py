"""Readouts reproduce what the authors of geo-experiment software publish; every number's source is beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from micromarket.proof.estimators.synthetic_control import conformal_p_value, synthetic_control
from micromarket.proof.estimators.synthetic_did import synthetic_did
from micromarket.proof.estimators.time_based import time_based_regression
from micromarket.proof.estimators.trimmed_match import trimmed_match


def read(shared_data, name: str, **options) -> pd.DataFrame:
    path = shared_data / "geo" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    return pd.read_csv(path, **options)


def cities(shared_data, name: str, treated: tuple[str, ...]):
    table = read(shared_data, name).pivot_table(index="location", columns="date", values="Y")
    chosen = table.index.isin(treated)
    outcomes = table.to_numpy(float)
    return outcomes[chosen], outcomes[~chosen], table.index[~chosen]


# --- GeoLift (facebookincubator/GeoLift, vignettes/GeoLift_Walkthrough.md) ------------------------------------------
def test_geolift_test_plain(shared_data):
    treated, control, names = cities(shared_data, "geolift_test", ("chicago", "portland"))
    found = synthetic_control(treated, control, 90)
    assert round(found.effect, 3) == 155.556
    assert round(100 * found.lift, 1) == 5.4
    assert round(found.incremental) == 4667
    assert round(found.imbalance, 3) == 909.489
    assert round(found.scaled_imbalance, 4) == 0.1636
    weights = pd.Series(found.weights, index=names).round(4)
    printed = {
        "cincinnati": 0.2272, "miami": 0.2028, "baton rouge": 0.1335, "minneapolis": 0.0900, "dallas": 0.0739,
        "nashville": 0.0685, "honolulu": 0.0673, "austin": 0.0465, "san diego": 0.0451, "reno": 0.0306,
        "san antonio": 0.0054, "new york": 0.0046, "houston": 0.0046,
    }  # fmt: skip
    assert weights[weights >= 0.00005].sort_index().to_dict() == dict(sorted(printed.items()))
    # 1.4% printed, 1.1% in their text, from 1,000 random orders; the limit of many is .011
    assert conformal_p_value(treated, control, 90, draws=20_000) == pytest.approx(0.011, abs=0.002)


def test_geolift_test_ridge(shared_data):
    treated, control, _ = cities(shared_data, "geolift_test", ("chicago", "portland"))
    found = synthetic_control(treated, control, 90, ridge=True)
    assert round(found.effect, 3) == 156.805
    assert round(100 * found.lift, 1) == 5.5
    assert round(found.incremental) == 4704
    assert round(found.imbalance, 3) == 903.525
    assert round(found.scaled_imbalance, 4) == 0.1626
    assert round(found.bias, 3) == -1.249
    assert found.weights.sum() == pytest.approx(1)


FOUR = ("chicago", "cincinnati", "houston", "portland")


@pytest.mark.parametrize(
    ("treated", "days", "lift", "printed"),
    [  # markets, days, lift: scaled L2, investment at 7.5 per conversion, ATT, average detected lift, holdout
        (FOUR, 15, 0.05, (0.1971864, 74118.38, 159.3627, 0.04829913, 0.9242359)),
        (("chicago", "portland"), 15, 0.10, (0.1738778, 64563.75, 290.0071, 0.10117316, 0.9669346)),
        (FOUR, 10, 0.10, (None, 99027.75, None, None, None)),
        (("chicago", "portland"), 10, 0.10, (None, 43646.25, None, None, None)),
        (("chicago", "houston", "portland"), 10, 0.10, (None, 75389.25, None, None, None)),
    ],
)
def test_geolift_market_selection(shared_data, treated, days, lift, printed):
    one, control, _ = cities(shared_data, "geolift_pretest", treated)
    before = one.shape[1] - days
    lifted = one.copy()
    lifted[:, before:] *= 1 + lift
    found = synthetic_control(lifted, control, before)
    total = one.sum() + control.sum()
    scaled, investment, effect, detected, holdout = printed
    assert round(7.5 * lift * float(one[:, before:].sum()), 2) == investment
    if scaled is not None:
        assert found.scaled_imbalance == pytest.approx(scaled, abs=5e-6)  # their solver stops at 1e-6 or so
        assert found.effect == pytest.approx(effect, abs=5e-3)
        assert found.lift == pytest.approx(detected, abs=5e-6)
        assert 1 - one.sum() / total == pytest.approx(holdout, abs=5e-8)
    if treated == ("chicago", "portland") and days == 15:
        assert round(found.effect, 3) == 290.007
        assert round(100 * found.lift, 1) == 10.1
        assert round(found.incremental) == 8700
        assert round(found.imbalance, 3) == 868.598


# --- google/matched_markets, tests/test_tbr_iroas.py (values from the R package) -------------------------------------
def test_time_based_regression(shared_data):
    sales = read(shared_data, "matched_markets_salesandcost", parse_dates=["date"])
    group = read(shared_data, "matched_markets_geoassignment").set_index("geo")["geo.group"]
    sales = sales[(sales["date"] >= "2015-01-05") & (sales["date"] <= "2015-03-15")]
    sales["group"] = sales["geo"].map(group)
    table = sales.pivot_table(index="date", columns="group", values="sales", aggfunc="sum")
    cost = sales.loc[(sales["group"] == 2) & (sales["date"] >= "2015-02-16"), "cost"].sum()
    found = time_based_regression(table[2].to_numpy(), table[1].to_numpy(), int((table.index < "2015-02-16").sum()))
    assert cost == pytest.approx(50_000)
    assert round(found.incremental, 3) == 147337.122
    assert round(found.incremental / cost, 6) == 2.946742
    assert round(found.lower(0.90) / cost, 6) == 2.826194
    assert round((found.incremental - found.lower(0.90)) / cost, 6) == 0.120548
    # .173998 is the median of their 10,000 random draws; the posterior's median itself is .173964
    assert found.lift == pytest.approx(0.173998, abs=5e-5)
    assert found.bounds(0.90) == pytest.approx((2.79135 * cost, 3.102936 * cost), rel=2e-4)  # simulated as well


# --- google/trimmed_match (estimator_test.py, post-analysis guide) ---------------------------------------------------
def test_trimmed_match_example():
    response, cost = np.array([1.0, 10, 3, 8]), np.array([1.0, 5, 2, 5])
    whole = trimmed_match(response, cost, 0.90, trim=0.0)
    assert [round(v, 3) for v in (whole.estimate, whole.error, whole.low, whole.high)] == [1.692, 0.138, 1.250, 1.905]
    found = trimmed_match(response, cost, 0.90)
    assert [round(v, 3) for v in (found.estimate, found.error, found.low, found.high)] == [1.571, 0.041, -29.374, 1.619]
    assert found.trim == 0.25
    assert found.trimmed == (0, 1)


@pytest.mark.parametrize(
    ("end", "estimate", "error", "trim", "out"),
    [("2020-12-01", 0.180, 0.095, 0.21, None), ("2020-12-16", 0.083, 0.146, 0.02, [58, 62])],
)
def test_trimmed_match_shipped_file(shared_data, end, estimate, error, trim, out):
    panel = read(shared_data, "trimmed_match_post_analysis", parse_dates=["date"])
    panel = panel[(panel["date"] >= "2020-11-04") & (panel["date"] <= end)]
    sums = panel.groupby(["pair", "assignment"])[["response", "cost"]].sum().unstack()
    response, cost = (sums[c][1] - sums[c][2] for c in ("response", "cost"))
    found = trimmed_match(response.to_numpy(), cost.to_numpy(), 0.80)
    assert round(cost.sum() / 1000, 1) == 190.6
    assert (round(found.estimate, 3), round(found.error, 3), round(found.trim, 2)) == (estimate, error, trim)
    if out is not None:
        assert list(response.index[list(found.trimmed)]) == out


# --- Proposition 99 (synth-inference/synthdid 0.0.9; Abadie, Diamond & Hainmueller 2010) -----------------------------
def smoking(shared_data):
    table = read(shared_data, "california_prop99", sep=";").pivot_table(
        index="State", columns="Year", values="PacksPerCapita"
    )
    here = table.index == "California"
    outcomes = table.to_numpy(float)
    return outcomes[here], outcomes[~here], table.index[~here]


def test_proposition_99(shared_data):
    treated, control, states = smoking(shared_data)
    found = {kind: synthetic_did(treated, control, 19, kind) for kind in ("sdid", "sc", "did")}
    assert round(found["sdid"].effect, 4) == -15.6054  # the exact optimum; R stops early, see below
    assert round(found["sc"].effect, 4) == -19.5136
    assert round(found["did"].effect, 6) == -27.349111
    assert [round(float(w), 3) for w in found["sdid"].time_weights[-3:]] == [0.366, 0.206, 0.427]
    top = pd.Series(found["sdid"].unit_weights, index=states).nlargest(6).round(3)
    assert top.to_dict() == {
        "Nevada": 0.124, "New Hampshire": 0.105, "Connecticut": 0.078, "Delaware": 0.070, "Colorado": 0.057,
        "Illinois": 0.053,
    }  # fmt: skip
    with pytest.raises(ValueError, match="kind is one of"):
        synthetic_did(treated, control, 19, "ols")


def frank_wolfe(columns, target, ridge, least, most=10_000, start=None):
    """Steps with exact line search until one gains less than ``least`` squared."""
    w, values, rows = np.full(columns.shape[1], 1 / columns.shape[1]) if start is None else start, [], len(columns)
    while len(values) < most and (len(values) < 2 or values[-2] - values[-1] > least**2):
        left = columns @ w - target
        slope = left @ columns + rows * ridge * w
        step = -w.copy()
        step[np.argmin(slope)] += 1
        bend = float(((columns @ step) ** 2).sum() + rows * ridge * (step**2).sum())
        w = w + np.clip(-(slope @ step) / bend, 0, 1) * step
        values.append(ridge * float(w @ w) + float(((columns @ w - target) ** 2).mean()))
    return w


def test_proposition_99_as_the_r_package_stops(shared_data):
    """With its early stop and its sparsifying restart, R's printed -15.603829 and -19.619665 come out too."""
    treated, control, _ = smoking(shared_data)
    early, late, aim = control[:, :19], control[:, 19:].mean(axis=1), treated[:, :19].mean(axis=0)
    noise = np.diff(early, axis=1).std(ddof=1)
    zeta = 12**0.25 * noise

    def weights(columns, target, ridge):
        first = frank_wolfe(columns, target, ridge, 1e-5 * noise, 100)
        kept = np.where(first <= first.max() / 4, 0, first)
        return frank_wolfe(columns, target, ridge, 1e-5 * noise, start=kept / kept.sum())

    centred = early.T - early.T.mean(axis=0)
    omega = weights(centred, aim - aim.mean(), zeta**2)
    time = weights(early - early.mean(axis=0), late - late.mean(), (1e-6 * noise) ** 2)
    gap = treated[0] - omega @ control
    assert float(gap[19:].mean() - gap[:19] @ time) == pytest.approx(-15.603829, abs=2e-6)
    omega = weights(early.T, aim, (1e-6 * noise) ** 2)
    assert float((treated[0] - omega @ control)[19:].mean()) == pytest.approx(-19.619665, abs=2e-6)
