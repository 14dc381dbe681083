"""From aggregated data to what the models eat: counts, sizes, clean features, levers, spatial folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import skew
from sklearn.cluster import KMeans

from micromarket.market_data import MarketData
from micromarket.potential.families import BINOMIAL, POISSON, Family, FloatArray

BLOCKS, FOLDS = 36, 6
BEST_PRACTICE = 0.9
LEVER_NAMES = {"reps": "sales reps", "spend": "marketing spend"}
# without a size, big markets look well covered: levers per buyer mean something only where features give the size
_SIZE_EXPLAINED = 0.75
_SIZES = frozenset({"addressable_customers", "market_customers"})
_NOT_FEATURES = frozenset({"customers", "reps", "capacity", "last_target", "last_actual", "x_km", "y_km", "audited_potential"})
MOST_COUNTED = 0.97  # share of buyers at which a market counts as full: the logit needs room above


@dataclass(frozen=True)
class Design:
    """Arrays of shape (markets,) or (markets, columns), rows in the order of ``markets``.

    ``size``: people or firms that could buy; where nobody knows, the customers that a log-linear model of the features
    expects (fitted on other folds), so that rates are relative to it; ``bound``: most customers a market can hold
    (inf where unknown); ``levers``: intensity per buyer (money or reps per unit of size), never missing; ``blocks``:
    spatial block of each market; ``folds``: fold of each block's markets; ``audited``: potential that somebody has
    measured (customers; NaN where nobody has), which calibrates levels and is never a feature.
    """

    family: Family
    size_source: str
    n: FloatArray
    size: FloatArray
    bound: FloatArray
    features: FloatArray
    feature_names: tuple[str, ...]
    levers: FloatArray
    lever_names: tuple[str, ...]
    blocks: FloatArray
    folds: FloatArray
    audited: FloatArray
    dropped: tuple[str, ...] = ()

    @property
    def best_practice(self) -> FloatArray:
        """Levers at their 90th percentile; a market that is better already keeps what it has."""
        if not self.levers.shape[1]:
            return self.levers
        return np.maximum(self.levers, np.quantile(self.levers, BEST_PRACTICE, axis=0))


def number(frame: pd.DataFrame, column: str) -> FloatArray:
    """A column as floats, all NaN where it is absent; infinities count as missing."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def build_design(data: MarketData, seed: int) -> Design:
    """The design of ``data.markets``; works without features, levers, sizes, geometry or region."""
    markets = data.markets
    n = np.maximum(np.nan_to_num(number(markets, "customers")), 0.0)
    size, source = _size(markets, n)
    known = size is not None
    # results and positions explain nothing that a held-out area could use; sizes only where the model lacks them
    banned = _NOT_FEATURES | _SIZES if known else _NOT_FEATURES
    names = [f for f in data.features if f in markets.columns and f not in banned]
    features, kept, dropped = clean_features(markets, names)
    bound = np.full(len(n), np.inf)
    for column in ("addressable_customers", "market_customers"):
        limit = number(markets, column)
        bound = np.fmin(bound, np.where(limit > 0, limit, np.inf))
    blocks = spatial_blocks(markets, seed)
    folds = fold_of_blocks(blocks)
    levers, lever_names = np.empty((len(n), 0)), tuple[str, ...]()
    if size is None:
        size, explained = _expected_size(n, features, folds)
    else:
        explained = 1.0
    audited = number(markets, "audited_potential")
    if explained >= _SIZE_EXPLAINED:
        levers, lever_names = _levers(data, size)
    return Design(
        family=BINOMIAL if known else POISSON, size_source=source, n=n, size=size, bound=np.maximum(bound, n),
        features=features, feature_names=kept, levers=levers, lever_names=lever_names,
        blocks=blocks, folds=folds, audited=np.where(audited > 0, audited, np.nan), dropped=dropped,
    )  # fmt: skip


def _expected_size(n: FloatArray, features: FloatArray, folds: FloatArray) -> tuple[FloatArray, float]:
    """Customers expected by ridge regression of log(n + 0.5) on the features, each fold by the others; and its R2."""
    design, target = np.column_stack([np.ones(len(n)), features]), np.log(n + 0.5)
    ridge = np.eye(design.shape[1])
    ridge[0, 0] = 1e-9
    out = np.empty(len(n))
    for fold in np.unique(folds):
        rest = folds != fold if (folds != fold).any() else folds == fold
        x = design[rest]
        out[folds == fold] = design[folds == fold] @ np.linalg.solve(x.T @ x + ridge, x.T @ target[rest])
    out = np.clip(out, target.min(), target.max())
    explained = 1 - float(((target - out) ** 2).sum() / max(((target - target.mean()) ** 2).sum(), 1e-12))
    return np.exp(out), explained


def _size(markets: pd.DataFrame, n: FloatArray) -> tuple[FloatArray | None, str]:
    """Buyers by market: people who buy from anyone where mostly known, else those who could; gaps are estimated."""
    category, people = number(markets, "market_customers"), number(markets, "addressable_customers")
    category, people = np.where(category > 0, category, np.nan), np.where(people > 0, people, np.nan)
    if np.isfinite(category).mean() >= 0.5:
        size, source = category, "market_customers"
        if np.isfinite(people).any():
            both = np.isfinite(category) & np.isfinite(people)
            ratio = np.median(category[both] / people[both]) if both.any() else 1.0
            size = np.where(np.isfinite(size), size, np.minimum(people, people * ratio))
    elif np.isfinite(people).mean() >= 0.5:
        size, source = people, "addressable_customers"
    else:
        return None, "none"
    # a market whose size is missing: as penetrated as all markets together, with at least ten buyers
    have = np.isfinite(size)
    rate = n[have].sum() / size[have].sum()
    filled = np.maximum(n / max(rate, 1e-6), np.nanmedian(size) * 0.1)
    size = np.where(have, size, np.maximum(filled, 10.0))
    return np.maximum(size, n / MOST_COUNTED), source


def clean_features(markets: pd.DataFrame, names: Sequence[str]) -> tuple[FloatArray, tuple[str, ...], tuple[str, ...]]:
    """Standardised features (median 0 where missing, plus a flag where that is common); kept names; dropped names.

    Heavily skewed features are logged (sign kept), tails beyond the 0.5th and 99.5th percentile are cut.
    """
    columns: list[FloatArray] = []
    kept: list[str] = []
    dropped: list[str] = []
    for name in names:
        raw = number(markets, name)
        have = np.isfinite(raw)
        if have.sum() < max(5, 0.2 * len(raw)) or np.ptp(raw[have]) <= 1e-12 * max(1.0, np.abs(raw[have]).max()):
            dropped.append(name)
            continue
        x = raw
        if len(np.unique(raw[have])) > 2 and abs(skew(raw[have])) > 1.5:
            scale = np.median(np.abs(raw[have][raw[have] != 0]))
            x = np.sign(raw) * np.log1p(np.abs(raw) / scale)
        low, high = np.nanquantile(x, [0.005, 0.995])
        x = np.clip(x, low, high) if high > low else x
        middle, spread = np.nanmedian(x), np.nanstd(x)
        if not spread > 0:
            dropped.append(name)
            continue
        columns.append(np.where(have, (x - middle) / spread, 0.0))
        kept.append(name)
        if 1 - have.mean() > 0.05:
            columns.append((~have).astype(float) - (1 - have.mean()))
            kept.append(f"{name} (missing)")
    matrix = np.column_stack(columns) if columns else np.empty((len(markets), 0))
    return matrix, tuple(kept), tuple(dropped)


def _levers(data: MarketData, size: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """What the company can turn: sales reps and marketing spend (last year) per buyer."""
    markets = data.markets
    found: dict[str, FloatArray] = {"reps": number(markets, "reps")}
    if data.current is not None and len(data.current):
        spend = data.current.groupby("market_id", sort=True)["current"].sum()
        found["spend"] = markets["market_id"].map(spend).to_numpy(float, na_value=np.nan)
    columns, names = [], []
    for name, raw in found.items():
        intensity = np.where(np.isfinite(raw), np.maximum(raw, 0.0), 0.0) / size
        # a market without a row has none of it; a lever that no market differs in can't be learnt
        if np.isfinite(raw).any() and np.ptp(intensity) > 1e-12:
            columns.append(np.minimum(intensity, np.quantile(intensity, 0.995)))
            names.append(name)
    return (np.column_stack(columns) if columns else np.empty((len(size), 0))), tuple(names)


def spatial_blocks(markets: pd.DataFrame, seed: int) -> FloatArray:
    """Blocks of nearby markets (k-means on position, else region, else chance), so that held-out markets are far."""
    count = len(markets)
    blocks = int(min(BLOCKS, max(count // 8, min(count, 4))))
    xy = np.column_stack([number(markets, "x_km"), number(markets, "y_km")])
    have = np.isfinite(xy).all(axis=1)
    if blocks > 1 and have.mean() >= 0.8 and len(np.unique(xy[have], axis=0)) >= blocks:
        fitted = KMeans(blocks, n_init=1, random_state=seed).fit(xy[have])
        out = np.zeros(count, dtype=int)
        out[have] = fitted.labels_
        out[~have] = np.arange((~have).sum()) % blocks
        return out
    if "region" in markets and markets["region"].nunique() >= 5:
        return pd.factorize(markets["region"].astype("str").fillna(""), sort=True)[0]
    rank = pd.factorize(markets["market_id"].astype("str"), sort=True)[0]
    return np.random.default_rng(seed).permutation(count)[rank] % max(blocks, 1)


def fold_of_blocks(blocks: FloatArray) -> FloatArray:
    """Whole blocks to folds of nearly equal size (largest block first, into the smallest fold)."""
    names, counts = np.unique(blocks, return_counts=True)
    folds = min(FOLDS, len(names))
    load, where = np.zeros(folds), {}
    for i in np.argsort(-counts, kind="stable"):
        where[names[i]] = int(np.argmin(load))
        load[where[names[i]]] += counts[i]
    return np.array([where[b] for b in blocks], dtype=int)
