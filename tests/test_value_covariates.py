"""Covariates of customers: derivatives, recovery, invariance, and what can't be fitted is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from micromarket.value import BetaGeoNBD, ShiftedBetaGeometric
from micromarket.value.models.bdw import BetaDiscreteWeibull
from micromarket.value.models.compression import compress
from micromarket.value.models.covariates import chain, dummies
from micromarket.value.models.mbgnbd import ModifiedBetaGeoNBD
from micromarket.value.models.paretonbd import ParetoNBD

PURCHASES = [BetaGeoNBD, ModifiedBetaGeoNBD, ParetoNBD]
CONTRACTS = [ShiftedBetaGeometric, BetaDiscreteWeibull]


def world(name: str, n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Customers of two channels and any income: online ones buy 1.6 times as often, the rich leave less."""
    rng = np.random.default_rng(seed)
    Z = pd.DataFrame({"online": rng.integers(0, 2, n).astype(float), "income": np.round(rng.normal(50, 10, n), -1)})
    rate_effect = 0.5 * Z["online"].to_numpy()
    leave_effect = -0.3 * Z["online"].to_numpy() - 0.03 * Z["income"].to_numpy()
    T = rng.integers(60, 900, n).astype(float)
    rate = rng.gamma(0.8, 1 / 60.0, n) * np.exp(rate_effect)
    gone = np.full(n, np.inf)
    share = 1 / (1 + np.exp(-(np.log(0.9 / 2.5) + 1.5 + leave_effect)))
    p = rng.beta(3.4 * share, 3.4 * (1 - share))
    if name == "ParetoNBD":
        gone = rng.exponential(1.0, n) / (rng.gamma(0.9, 1 / 400.0, n) * np.exp(1.5 + leave_effect))
        p = np.zeros(n)
    if name == "ModifiedBetaGeoNBD":
        gone[rng.random(n) < p] = 0.0
    x, t_x, t = (np.zeros(n) for _ in range(3))
    going = np.arange(n)
    while len(going):
        t[going] += rng.exponential(1 / rate[going])
        going = going[t[going] <= np.minimum(gone, T)[going]]
        x[going] += 1
        t_x[going] = t[going]
        going = going[rng.random(len(going)) > p[going]]
    return Z, x, t_x, T


@pytest.mark.parametrize("model", PURCHASES)
def test_effects_on_purchases_are_found(model) -> None:
    Z, x, t_x, T = world(model.__name__, 40_000, seed=1)
    fit = model().fit(x, t_x, T, covariates=Z)
    truth = np.array([[0.5, -0.3], [0.0, -0.03]])
    table = fit.summary()
    names = [f"{effect}: {name}" for effect in ("purchase_rate", "dropout") for name in ("online", "income")]
    assert list(table.index) == [*fit.parameters(), *names]
    assert fit.converged_
    assert (np.abs(table.loc[names, "estimate"] - truth.T.ravel()) < 3.3 * table.loc[names, "se"]).all()
    assert fit.coef_.to_numpy() == pytest.approx(truth, abs=0.25)
    without = model().fit(x, t_x, T)
    assert fit.log_likelihood_ > without.log_likelihood_ + 100
    assert table.attrs["aic"] < without.summary().attrs["aic"]
    # what a customer does is predicted from their own covariates
    new = fit.expected_purchases([30.0, 365.0], covariates=pd.DataFrame({"income": [50.0, 50.0], "online": [0.0, 1.0]}))
    assert new.shape == (2, 2)
    assert new[1, 0] / new[0, 0] == pytest.approx(np.exp(0.5), rel=0.08)
    some = slice(0, 3000)
    later = fit.conditional_expected_purchases(365.0, x[some], t_x[some], T[some], Z[some])
    alone = [
        fit.conditional_expected_purchases(365.0, x[i], t_x[i], T[i], Z.iloc[i : i + 1])[0] for i in range(0, 3000, 500)
    ]
    assert later[::500] == pytest.approx(alone, rel=1e-9)
    frequencies = fit.expected_frequencies(T, covariates=Z)
    assert frequencies == pytest.approx(np.bincount(np.minimum(x, 7).astype(int)), rel=0.06)
    tracked = fit.expected_tracking(900.0 - T, [900.0], covariates=Z)
    assert tracked[0] == pytest.approx(x.sum(), rel=0.03)


@pytest.mark.parametrize("model", PURCHASES)
def test_counts_units_and_origin_of_covariates_do_not_matter(model) -> None:
    Z, x, t_x, T = world(model.__name__, 4000, seed=2)
    t_x = np.ceil(t_x)
    fit = model().fit(x, t_x, T, covariates=Z)
    table = Z.assign(x=x, t_x=t_x, T=T).value_counts().reset_index()
    counted = model().fit(*(table[c] for c in ("x", "t_x", "T", "count")), covariates=table[["online", "income"]])
    assert counted.coef_.to_numpy() == pytest.approx(fit.coef_.to_numpy(), rel=1e-5, abs=1e-7)
    moved = model().fit(x, t_x, T, covariates=Z.assign(income=1000 * Z["income"] + 4e6))
    assert moved.log_likelihood_ == pytest.approx(fit.log_likelihood_, abs=1e-5)
    assert 1000 * moved.coef_.loc["income"].to_numpy() == pytest.approx(fit.coef_.loc["income"].to_numpy(), rel=1e-4)
    assert moved.summary().loc["dropout: income", "se"] * 1000 == pytest.approx(
        fit.summary().loc["dropout: income", "se"], rel=1e-4
    )
    # the base is a customer with all covariates 0: the same answer from parameters() as from covariates of 0
    base = [np.ravel(v)[0] for v in fit.customer_parameters(pd.DataFrame({"online": [0.0], "income": [0.0]}))]
    assert base == pytest.approx(list(fit.parameters().values()))


@pytest.mark.parametrize("model", [*PURCHASES, *CONTRACTS])
def test_derivatives_with_covariates(model) -> None:
    rng = np.random.default_rng(3)
    fit = model()
    groups = 6
    Z = rng.normal(0, 0.5, (groups, 2))
    if model in PURCHASES:
        n = 400
        x, T = rng.poisson(1.0, n).astype(float), rng.integers(20, 300, n).astype(float)
        t_x = np.where(x > 0, np.floor(T * rng.random(n)), 0.0)
        counts = compress(x, t_x, T, None, np.sort(rng.integers(0, groups, n)))
        likelihood = fit._likelihood(counts)
        base = np.log([0.7, 50.0, 0.8, 2.0 if model is not ParetoNBD else 300.0])
        scale = n
    else:
        likelihood = fit._likelihood(rng.poisson(5.0, (groups, 9)) + 0.0, rng.poisson(40.0, (groups, 9)) + 0.0)
        base = fit._prior + 0.1
        scale = 400
    k, size = len(base), len(base) + 2 * len(fit._effects)
    theta = np.concatenate([base, rng.normal(0, 0.3, size - k)])

    def at(theta: np.ndarray):
        return chain(theta, k, Z, fit._link, likelihood)

    _, gradient, hessian = at(theta)
    for i in range(size):
        step = 1e-5 * np.eye(size)[i]
        up, down = at(theta + step), at(theta - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient[i], rel=1e-5, abs=1e-6 * scale)
        assert (up[1] - down[1]) / 2e-5 == pytest.approx(hessian[i], rel=1e-5, abs=1e-6 * scale)


def contracts(model: type, seed: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Counts by plan and size of discount; the plan doubles the odds of leaving."""
    rng = np.random.default_rng(seed)
    Z = pd.DataFrame({"monthly": np.repeat([0.0, 1.0], 4), "discount": np.tile([0.0, 5.0, 10.0, 15.0], 2)})
    truth = model()
    truth.alpha_, truth.beta_, truth.c_ = 0.9, 14.0, 1.3
    lost, stayed = np.zeros((8, 36)), np.zeros((8, 36))
    for g in range(8):
        effect = 0.7 * Z["monthly"][g] - 0.02 * Z["discount"][g]
        own = model()
        own.alpha_, own.beta_, own.c_ = 0.9 * np.exp(effect), 14.0, 1.3
        there = 20_000
        for age, chance in enumerate(own.hazard(np.arange(36))):
            lost[g, age] = rng.binomial(there, chance)
            there -= int(lost[g, age])
            stayed[g, age] = there
    return lost, stayed, Z


@pytest.mark.parametrize("model", CONTRACTS)
def test_effects_on_leaving_are_found(model) -> None:
    lost, stayed, Z = contracts(model, seed=4)
    fit = model().fit(lost, stayed, covariates=Z)
    table = fit.summary()
    truth = {"leaving: monthly": 0.7, "leaving: discount": -0.02, "alpha": 0.9, "beta": 14.0, "c": 1.3}
    away = table["estimate"] - pd.Series(truth)[table.index]
    assert fit.converged_
    assert (away.abs() < 3.3 * table["se"]).all()
    # rows of the same covariates are one row
    twice = model().fit(np.vstack([lost / 2, lost / 2]), np.vstack([stayed / 2] * 2), pd.concat([Z, Z]))
    assert twice.coef_.to_numpy() == pytest.approx(fit.coef_.to_numpy(), rel=1e-6)
    chance = fit.hazard([0, 12], covariates=Z)
    assert chance.shape == (8, 2)
    if model is ShiftedBetaGeometric:  # the odds move alike at every age
        odds = chance / (1 - chance)
        assert odds[4] / odds[0] == pytest.approx(np.exp(fit.coef_.loc["monthly", "leaving"]), rel=1e-9)
    months = fit.discounted_lifetime(36, 0.1, covariates=Z)
    assert months.shape == (8,)
    assert (months[:4] > months[4:]).all()
    there = fit.survival(36, covariates=Z)
    assert there[:, -1] == pytest.approx(stayed[:, -1] / 20_000, rel=0.06)


def test_a_ridge_holds_what_the_data_do_not() -> None:
    """Two dummies that say the same, and a level whose customers never came back."""
    rng = np.random.default_rng(5)
    n = 400
    x = rng.poisson(1.0, n).astype(float)
    level = np.arange(n) % 4
    x[level == 3] = 0
    T = np.full(n, 200.0)
    t_x = np.where(x > 0, 150.0, 0.0)
    Z = dummies(pd.DataFrame({"channel": np.array(["web", "shop", "agent", "fair"])[level]}))
    assert list(Z.columns) == ["channel=fair", "channel=shop", "channel=web"]
    for model in PURCHASES:
        fit = model(prior_sd=2.0, coef_sd=0.5).fit(x, t_x, T, covariates=Z.assign(again=Z["channel=shop"]))
        assert fit.converged_
        table = fit.summary()
        assert np.isfinite(table.to_numpy()).all()
        assert fit.coef_.loc["channel=fair", "purchase_rate"] < -0.3
        halves = fit.coef_.loc[["channel=shop", "again"], "purchase_rate"]
        assert halves.iloc[0] == pytest.approx(halves.iloc[1], abs=1e-6)
        tight = model(prior_sd=2.0, coef_sd=1e-3).fit(x, t_x, T, covariates=Z)
        assert np.abs(tight.coef_.to_numpy()).max() < 0.02


def test_covariates_that_cannot_be_used_are_refused() -> None:
    x, t_x, T = np.array([0.0, 1, 2, 0]), np.array([0.0, 5, 9, 0]), np.full(4, 30.0)
    model = BetaGeoNBD(prior_sd=2.0)
    for Z, message in (
        (pd.DataFrame({"a": [1.0, 1, 1, 1]}), "same for every customer explain nothing: a"),
        (pd.DataFrame({"a": [1.0, np.nan, 1, 0]}), "missing or infinite covariates: a"),
        (pd.DataFrame({"a": [1.0, 0, 1, 0], "b": [0.0, 1, 0, 1]}), "collinear"),
        (pd.DataFrame({"a": ["x", "y", "x", "y"]}), "use dummies"),
        (np.zeros((3, 1)), "3 rows for 4 customers"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, t_x, T, covariates=Z)
    model.fit(x, t_x, T, covariates=np.array([0.0, 1, 0, 1]))
    with pytest.raises(ValueError, match="fitted with covariates"):
        model.expected_purchases(30.0)
    with pytest.raises(ValueError, match="fitted without covariates"):
        BetaGeoNBD(prior_sd=2.0).fit(x, t_x, T).p_alive(x, t_x, T, covariates=[0, 0, 0, 1])
