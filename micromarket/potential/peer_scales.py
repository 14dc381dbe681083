"""What a market is, in units that can be compared: structural columns and their standard scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import skew

from micromarket.potential.design import number
from micromarket.potential.families import FloatArray

_FEWEST_KNOWN = 0.2  # share of markets below which a column says too little about them


@dataclass(frozen=True)
class Scale:
    """How a column becomes standard units: ``form`` (plain, log, signed log by ``unit``), cut at low and high.

    ``low``, ``high``, ``middle`` and ``spread`` are in the units of the form.
    """

    name: str
    form: str
    unit: float
    low: float
    high: float
    middle: float
    spread: float

    @classmethod
    def fit(cls, column: pd.Series) -> Scale | None:
        """Heavily skewed columns are logged, tails beyond 0.5% cut; ``None`` where the column tells nothing."""
        raw = column.to_numpy(float)
        have = raw[np.isfinite(raw)]
        if len(have) < max(5, _FEWEST_KNOWN * len(raw)) or np.ptp(have) <= 1e-12 * max(1.0, np.abs(have).max()):
            return None
        form, unit = "plain", 1.0
        if column.name in ("size", "density"):
            form = "log"
        elif len(np.unique(have)) > 2 and abs(skew(have)) > 1.5:
            form, unit = "signed log", float(np.median(np.abs(have[have != 0])))
        fitted = cls(str(column.name), form, unit, 0.0, 0.0, 0.0, 1.0).refitted(column)
        return fitted if fitted.spread > 0 else None

    def refitted(self, column: pd.Series) -> Scale:
        """The same form, with cuts, middle and spread of these markets."""
        x = self._formed(column.to_numpy(float))
        x = x[np.isfinite(x)]
        if not len(x):
            return self
        low, high = np.quantile(x, [0.005, 0.995])
        x = np.clip(x, low, high) if high > low else x
        return replace(self, low=float(min(low, x.min())), high=float(max(high, x.max())),
                       middle=float(np.median(x)), spread=float(x.std()))  # fmt: skip

    def _formed(self, raw: FloatArray) -> FloatArray:
        raw = np.where(np.isfinite(raw), raw, np.nan)
        if self.form == "log":
            return np.log(np.where(raw > 0, raw, np.nan))
        if self.form == "signed log":
            return np.sign(raw) * np.log1p(np.abs(raw) / self.unit)
        return raw


def standardised(column: pd.Series, scale: Scale) -> FloatArray:
    """Standard units, within three of the middle; a missing value counts as the middle."""
    x = np.clip(scale._formed(column.to_numpy(float)), scale.low, scale.high)
    z = (x - scale.middle) / scale.spread if scale.spread > 0 else np.zeros(len(x))
    return np.clip(np.nan_to_num(z, nan=0.0), -3.0, 3.0)


def structure(markets: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """Columns that say what a market is: features, ``size`` (buyers) and ``density`` (buyers per square kilometre).

    Nothing that follows from how the company does there. ``size``: people or firms that could buy, else who buys from
    anyone; left out, like ``density``, where it is known of too few markets or a feature says the same.
    """
    out = {name: number(markets, name) for name in features}
    people, category = number(markets, "addressable_customers"), number(markets, "market_customers")
    size = people if np.isfinite(people).mean() >= max(np.isfinite(category).mean(), 0.5) else category
    size = np.where(size > 0, size, np.nan)
    if len(size) and np.isfinite(size).mean() >= 0.5:
        out["size"] = size
        area = number(markets, "area_km2")
        if (area > 0).mean() > 0.9 and not any("densit" in name.lower() for name in features):
            out["density"] = size / np.where(area > 0, area, np.nan)
    return pd.DataFrame(out, index=range(len(markets)))


__all__ = ["Scale", "standardised", "structure"]
