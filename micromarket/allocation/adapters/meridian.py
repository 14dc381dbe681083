"""Google Meridian: Hill curves over geometric adstock, by geo and paid channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.adapters.imported import GRID, Imported, imported, last
from micromarket.allocation.adapters.imported import carried as carry
from micromarket.allocation.adapters.reading import draws as read_draws
from micromarket.allocation.adapters.reading import groups, thinned, wrong
from micromarket.allocation.adapters.reading import names as read_names

Array = NDArray[np.float64]


def from_meridian(
    posterior: Any,
    media: Array,
    spend: Array,
    population: Array,
    kpi: Array,
    *,
    max_lag: int | None = 8,
    value_per_kpi: Array | float = 1.0,
    hill_before_adstock: bool = False,
    window: int | None = None,
    markets: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    grid: Array = GRID,
) -> Imported:
    """Curves from a Meridian posterior and the data it was fitted to (paid media; not reach and frequency).

    Parameters
    ----------
    posterior : netCDF file, InferenceData, xarray Dataset or mapping of arrays
        ``alpha_m``, ``ec_m``, ``slope_m`` (chain, draw, media_channel) and ``beta_gm`` (chain, draw, geo,
        media_channel), as ``Meridian.inference_data.posterior`` has them. Geometric decay.
    media : array (geos, media times, channels)
        Media units as given to Meridian (impressions, say); its last ``kpi.shape[1]`` times are the model's.
    spend : array (geos, times, channels)
        Money, over the last times of ``media``.
    population : array (geos,)
    kpi : array (geos, times)
    max_lag : int or None
        As in ``ModelSpec``.
    value_per_kpi : array (geos,) or float
        Money per unit of KPI.
    window : int, optional
        Last times that count (default: all of ``kpi``).

    Notes
    -----
    Meridian's scales are rebuilt from the data: media by population x median of positive media per head, KPI by
    population x standard deviation of KPI per head.
    """
    found = groups(posterior)["posterior"]
    media, spend, kpi = (np.asarray(a, float) for a in (media, spend, kpi))
    people = np.asarray(population, float)
    geos, _, count = media.shape
    draws = thinned({
        "alpha": read_draws(found, "alpha_m", ("media_channel",)), "ec": read_draws(found, "ec_m", ("media_channel",)),
        "slope": read_draws(found, "slope_m", ("media_channel",)),
        "beta": read_draws(found, "beta_gm", ("geo", "media_channel")),
    })  # fmt: skip
    if draws["beta"].shape[1:] != (geos, count):
        raise wrong(f"beta_gm of {geos} geos and {count} channels, as media has", str(draws["beta"].shape[1:]))
    per_head = media / people[:, None, None]
    middle = np.array([np.median(v[v > 0]) if (v > 0).any() else 1.0 for v in per_head.transpose(2, 0, 1)])
    scaled = per_head / middle
    spread = float((kpi / people[:, None]).std())
    times = kpi.shape[1] if window is None else window
    worth = people * spread * np.asarray(value_per_kpi, float) * np.ones(geos)
    lags = (media.shape[1] if max_lag is None else max_lag) + 1

    def reached(d: int, factor: float) -> Array:
        ec, slope = draws["ec"][d], draws["slope"][d]

        def hill(x: Array) -> Array:
            power = x**slope
            return power / (power + ec**slope)

        if hill_before_adstock:
            out = carry(hill(factor * scaled), draws["alpha"][d], lags)
        else:
            out = hill(factor * carried(d))
        return out[:, -times:].sum(axis=1) * draws["beta"][d] * worth[:, None]

    carried = last(lambda d: carry(scaled, draws["alpha"][d], lags))
    names = read_names(found, "geo", markets, geos), read_names(found, "media_channel", channels, count)
    return imported(reached, len(draws["beta"]), spend[:, -times:].sum(axis=1), names, grid)
