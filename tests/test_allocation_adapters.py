"""Posteriors of other models, built by hand in their format, allocated by our solver."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from micromarket.allocation.adapters import from_meridian, from_pymc_marketing
from micromarket.allocation.curves import Hill, Tanh
from micromarket.allocation.solver import optimise
from micromarket.errors import InputError

GEOS, CHANNELS, TIMES = 6, 2, 40


def pymc(rng: np.random.Generator, alpha: float = 0.0, **attrs) -> dict:
    """InferenceData as PyMC-Marketing's MMM with ``dims=("geo",)`` writes it: names, dimensions and attributes."""
    spend = rng.lognormal(5, 0.6, (GEOS, CHANNELS))[None] * np.ones((TIMES, 1, 1))
    shape = (1, 50, GEOS, CHANNELS)
    settings = {
        "saturation": json.dumps({"lookup_name": "logistic", "prefix": "saturation"}),
        "adstock": json.dumps({"lookup_name": "geometric", "prefix": "adstock", "l_max": 4, "normalize": True}),
        "adstock_first": "true",
    }
    return {
        "posterior": {
            "saturation_lam": (("chain", "draw", "geo", "channel"), rng.lognormal(1, 0.02, shape)),
            "saturation_beta": (("chain", "draw", "geo", "channel"), rng.lognormal(0, 0.02, shape)),
            "adstock_alpha": (("chain", "draw", "channel"), np.full((1, 50, CHANNELS), alpha)),
        },
        "constant_data": {
            "channel_data": (("date", "geo", "channel"), spend),
            "channel_scale": (("channel",), spend.max(axis=(0, 1))),
            "target_scale": ((), np.asarray(900.0)),
        },
        "attrs": settings | attrs,
    }


def test_pymc_marketing_with_even_spending_is_its_logistic_curve():
    idata = pymc(np.random.default_rng(0))
    got = from_pymc_marketing(idata, value=3.0)
    assert got.markets == tuple(f"geo {i}" for i in range(GEOS))
    spend = idata["constant_data"]["channel_data"][1]
    np.testing.assert_allclose(got.current, spend.sum(axis=0).reshape(-1))
    lam = idata["posterior"]["saturation_lam"][1].mean(axis=(0, 1)).reshape(-1)
    beta = idata["posterior"]["saturation_beta"][1].mean(axis=(0, 1)).reshape(-1)
    scale = np.tile(idata["constant_data"]["channel_scale"][1], GEOS)
    true = Tanh(beta * 900 * 3 * TIMES, 2 / lam * scale * TIMES)
    for factor in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(got.curves.value(factor * got.current), true.value(factor * got.current), rtol=5e-3)
    found = got.allocate(max_shift=0.3 * got.current.sum())
    best = optimise(true, got.current, total=float(got.current.sum()), high=3 * got.current,
                    max_shift=0.3 * got.current.sum())  # fmt: skip
    assert true.value(found.spend).sum() == pytest.approx(best.objective, rel=1e-3)
    assert found.certificate.duality_gap < 1e-9
    gains = got.gains(found.spend)
    assert gains.shape == (50,)
    assert gains.mean() == pytest.approx(true.value(found.spend).sum() - true.value(got.current).sum(), rel=0.05)
    np.testing.assert_allclose(got.gains(got.current), 0, atol=1e-6)


def test_pymc_marketing_carries_over_in_its_order():
    """Flights of one date: what decays into the next dates counts, saturated before or after."""
    for first in ("true", "false"):
        idata = pymc(np.random.default_rng(1), alpha=0.5, adstock_first=first)
        spend = idata["constant_data"]["channel_data"][1] * 0
        spend[10] = 100.0
        idata["constant_data"]["channel_data"] = (("date", "geo", "channel"), spend)
        idata["constant_data"]["channel_scale"] = (("channel",), np.full(CHANNELS, 100.0))
        idata["posterior"]["saturation_lam"] = (("chain", "draw"), np.full((1, 50), 2.0))
        idata["posterior"]["saturation_beta"] = (("chain", "draw"), np.full((1, 50), 1.0))
        got = from_pymc_marketing(idata)
        weight = 0.5 ** np.arange(4)
        weight /= weight.sum()
        once = np.tanh(weight).sum() if first == "true" else np.tanh(1.0)
        np.testing.assert_allclose(got.values[:, :, list(got.grid).index(1.0)], 900 * once)


@pytest.mark.parametrize(
    ("attrs", "said"),
    [
        ({"saturation": json.dumps({"lookup_name": "wavy"})}, "a saturation among"),
        ({"adstock": json.dumps({"lookup_name": "weibull_pdf"})}, "geometric adstock"),
        ({"saturation": None}, "saturation"),
    ],
)
def test_what_cannot_be_read_is_named(attrs, said):
    idata = pymc(np.random.default_rng(0), **attrs)
    idata["attrs"] = {k: v for k, v in idata["attrs"].items() if v is not None}
    with pytest.raises(InputError, match=said):
        from_pymc_marketing(idata)
    del idata["posterior"]["adstock_alpha"]
    with pytest.raises(InputError):
        from_pymc_marketing(idata)


def meridian(rng: np.random.Generator, slope: float) -> tuple[dict, dict]:
    """``inference_data.posterior`` and the arrays of ``InputData``, as Google Meridian has them."""
    people = rng.uniform(1e5, 2e6, GEOS)
    media = rng.lognormal(0, 0.5, (GEOS, CHANNELS))[:, None] * people[:, None, None] * np.ones((1, TIMES, 1)) * 0.02
    posterior = {
        "alpha_m": np.full((2, 20, CHANNELS), 0.4), "ec_m": np.full((2, 20, CHANNELS), 1.3),
        "slope_m": np.full((2, 20, CHANNELS), slope),
        "beta_gm": rng.lognormal(-1, 0.5, (1, 1, GEOS, CHANNELS)) * np.ones((2, 20, 1, 1)),
    }  # fmt: skip
    data = {"media": media, "spend": media * 0.01, "population": people,
            "kpi": people[:, None] * rng.lognormal(-5, 0.3, (GEOS, TIMES))}  # fmt: skip
    return posterior, data


@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_meridian_with_even_media_is_its_hill_curve(slope):
    posterior, data = meridian(np.random.default_rng(2), slope)
    got = from_meridian(posterior, **data, max_lag=3, window=30, value_per_kpi=2.0, channels=["tv", "web"])
    assert got.channels == ("tv", "web")
    per_head = data["media"] / data["population"][:, None, None]
    level = per_head[:, 0] / np.median(per_head.reshape(-1, CHANNELS), axis=0)
    spread = (data["kpi"] / data["population"][:, None]).std()
    height = posterior["beta_gm"][0, 0] * data["population"][:, None] * spread * 2 * 30
    true = Hill(height.reshape(-1), 1.3 * got.current / level.reshape(-1), np.full(GEOS * CHANNELS, slope))
    for factor in (0.5, 1.0, 2.0, 3.0):
        np.testing.assert_allclose(got.curves.value(factor * got.current), true.value(factor * got.current), rtol=0.02)
    found = got.allocate()
    best = optimise(true, got.current, total=float(got.current.sum()), high=3 * got.current)
    assert true.value(found.spend).sum() == pytest.approx(best.objective, rel=5e-3)
    assert found.certificate.duality_gap < 1e-6


def test_meridian_of_another_size_is_refused():
    posterior, data = meridian(np.random.default_rng(2), 1.0)
    posterior["beta_gm"] = posterior["beta_gm"][:, :, :-1]
    with pytest.raises(InputError, match="6 geos and 2 channels"):
        from_meridian(posterior, **data)


def test_files_need_xarray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="xarray and h5netcdf"):
        from_pymc_marketing(tmp_path / "mmm.nc")
