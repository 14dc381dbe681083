"""PyMC-Marketing: its saturations over geometric adstock, by channel and, where the model has them, by market."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.adapters.imported import GRID, Imported, imported, last
from micromarket.allocation.adapters.imported import carried as carry_over
from micromarket.allocation.adapters.reading import (
    cells,
    setting,
    thinned,
    variable,
    wrong,
)
from micromarket.allocation.adapters.reading import (
    draws as read_draws,
)
from micromarket.allocation.adapters.reading import (
    groups as read_groups,
)
from micromarket.allocation.adapters.reading import (
    names as read_names,
)

Array = NDArray[np.float64]
SATURATIONS: dict[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "logistic": (("lam", "beta"), lambda x, lam, beta: beta * np.tanh(lam * x / 2)),
    "tanh": (("b", "c"), lambda x, b, c: b * np.tanh(x / (b * c))),
    "michaelis_menten": (("alpha", "lam"), lambda x, alpha, lam: alpha * x / (lam + x)),
    "hill": (("slope", "kappa", "beta"), lambda x, slope, kappa, beta: beta * x**slope / (kappa**slope + x**slope)),
    "root": (("alpha", "beta"), lambda x, alpha, beta: beta * x**alpha),
    "no_saturation": (("beta",), lambda x, beta: beta * x),
}


def from_pymc_marketing(
    idata: Any,
    *,
    spend: Array | None = None,
    market_dim: str | None = None,
    value: float = 1.0,
    window: int | None = None,
    grid: Array = GRID,
) -> Imported:
    """Curves from the InferenceData of a fitted PyMC-Marketing MMM (``mmm.idata``, or the netCDF it was saved to).

    Parameters
    ----------
    idata : netCDF file, InferenceData, DataTree, or mapping of groups to mappings of arrays
        ``posterior`` with ``saturation_*`` and ``adstock_alpha``; ``constant_data`` with ``channel_data``,
        ``channel_scale``, ``target_scale``; ``attrs`` with ``saturation``, ``adstock`` and ``adstock_first`` as
        PyMC-Marketing writes them. Saturations: %s; geometric adstock.
    spend : array (times, [markets,] channels), optional
        Money, where ``channel_data`` is something else (impressions, say).
    market_dim : str, optional
        Dimension of ``channel_data`` that are markets (default: the one beside dates and channels, if any).
    value : float
        Money per unit of the target.
    window : int, optional
        Last dates that count (default: all).
    """
    groups = read_groups(idata)
    found, constant, attrs = groups["posterior"], groups.get("constant_data", {}), groups["attrs"]
    data = variable(constant, "channel_data")
    dims = tuple(data.dims)
    market_dim = market_dim or next((d for d in dims if d not in ("date", "channel")), None)
    order = ("date", "channel") if market_dim is None else ("date", market_dim, "channel")
    raw = np.asarray(data.transpose(*order).values, float)
    raw = raw[:, None, :] if market_dim is None else raw
    spec, adstock = (setting(attrs, name) for name in ("saturation", "adstock"))
    if spec.get("lookup_name") not in SATURATIONS:
        raise wrong(f"a saturation among {', '.join(sorted(SATURATIONS))}", str(spec.get("lookup_name")))
    if adstock.get("lookup_name") not in ("geometric", "no_adstock"):
        raise wrong("geometric adstock", str(adstock.get("lookup_name")))
    if adstock.get("mode", "After") != "After":
        raise wrong("adstock of mode After", str(adstock.get("mode")))
    cell = (market_dim or "", "channel")
    names, curve = SATURATIONS[spec["lookup_name"]]
    draws = thinned({n: read_draws(found, f"{spec.get('prefix', 'saturation')}_{n}", cell) for n in names} | (
        {"decay": read_draws(found, f"{adstock.get('prefix', 'adstock')}_alpha", cell)}
        if adstock["lookup_name"] == "geometric" else {}
    ))  # fmt: skip
    scale = cells(constant, "channel_scale", cell) * np.ones(raw.shape[1:])
    target = cells(constant, "target_scale", cell) * np.ones(raw.shape[1:]) * value
    pattern = (raw / scale).transpose(1, 0, 2)  # markets, dates, channels
    lags = int(adstock.get("l_max", 1)) if "decay" in draws else 1
    weighted = bool(adstock.get("normalize", True))
    first = str(attrs.get("adstock_first", "true")).lower() in ("true", "1")

    def carry(x: Array, d: int) -> Array:
        return x if lags == 1 else carry_over(x, draws["decay"][d], lags, weighted)

    def saturate(x: Array, d: int) -> Array:
        return curve(x, *(draws[n][d][:, None, :] for n in names))

    def reached(d: int, factor: float) -> Array:
        out = saturate(factor * carried(d), d) if first else carry(saturate(factor * pattern, d), d)
        return (out if window is None else out[:, -window:]).sum(axis=1) * target

    carried = last(lambda d: carry(pattern, d))
    money = raw if spend is None else np.asarray(spend, float).reshape(raw.shape)
    money = (money if window is None else money[-window:]).sum(axis=0)
    markets = ("all",) if market_dim is None else read_names(constant, market_dim, None, raw.shape[1])
    count = len(next(iter(draws.values())))
    return imported(reached, count, money, (markets, read_names(constant, "channel", None, raw.shape[2])), grid)


from_pymc_marketing.__doc__ = (from_pymc_marketing.__doc__ or "") % ", ".join(sorted(SATURATIONS))
