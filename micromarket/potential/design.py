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
from micromarket.potential.sizeless import expected_size, relative_levers
from micromarket.potential.spillover import helps, neighbour_means, rivals_among

BLOCKS, FOLDS = 36, 6
BEST_PRACTICE = 0.9
LEVER_NAMES = {"reps": "sales reps", "spend": "marketing spend"}
# without a size, big markets look well covered: levers per buyer mean something only where features give the size
_SIZE_EXPLAINED = 0.75
CATEGORY = "share who buy at all"
_SIZES = frozenset({"addressable_customers", "market_customers"})
_NOT_FEATURES = frozenset(
    {"customers", "reps", "capacity", "last_target", "last_actual", "x_km", "y_km", "audited_potential"}
)
MOST_COUNTED = 0.97  # share of buyers at which a market counts as full: the logit needs room above


@dataclass(frozen=True)
class Design:
    """Arrays of shape (markets,) or (markets, columns), rows in the order of ``markets``.

    ``size``: people or firms that could buy; where nobody knows, the customers that a log-linear model of the features
    expects (fitted on other folds), so that rates are relative to it; ``bound``: most customers a market can hold
    (inf where unknown); ``levers``: intensity per buyer (money or reps per unit of size), never missing; ``blocks``:
    spatial block of each market; ``folds``: fold of each block's markets; ``audited``: potential that somebody has
    measured (customers; NaN where nobody has), which calibrates levels and is never a feature;
    ``around``: neighbours' levers and rivals, standardised, no columns where they don't help to predict;
    ``lever_error``: log sd of the error that unknown sizes leave in a market's intensities (the same for its levers);
    ``lever_tilt``: log intensity of kinds of markets that can't be told from their size (0 where sizes are known).
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
    around: FloatArray
    lever_error: float
    lever_tilt: FloatArray
    dropped: tuple[str, ...] = ()

    @property
    def explaining(self) -> FloatArray:
        """All that explains a market's level beside its levers: features, then neighbours."""
        return np.column_stack([self.features, self.around])

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
    if np.isfinite(_positive(markets, "market_customers")).any() and source == "addressable_customers":
        markets, names = _with_category(markets), [*names, CATEGORY]
    features, kept, dropped = clean_features(markets, names)
    dropped = tuple(d for d in dropped if d != CATEGORY)
    bound = np.full(len(n), np.inf)
    for column in ("addressable_customers", "market_customers"):
        limit = number(markets, column)
        bound = np.fmin(bound, np.where(limit > 0, limit, np.inf))
    blocks = spatial_blocks(markets, seed)
    folds = fold_of_blocks(blocks)
    levers, lever_names = lever_totals(data)
    lever_error, tilt = 0.0, np.zeros(len(n))
    if size is not None:
        levers = levers / size[:, None]
    else:
        size, explained = expected_size(n, features, folds)
        relative = relative_levers(size, levers, features, folds)
        if relative is not None:
            size, levers, lever_error, tilt = relative.size, relative.levers, relative.error, relative.tilt
            lever_names = lever_names if levers.shape[1] else ()
        elif explained >= _SIZE_EXPLAINED:
            levers = levers / size[:, None]
        else:
            levers, lever_names = levers[:, :0], ()
    levers = np.minimum(levers, np.quantile(levers, 0.995, axis=0)) if levers.shape[1] else levers
    audited = number(markets, "audited_potential")
    family = BINOMIAL if known else POISSON
    around = _around(data, features, kept, levers)
    if not (around.shape[1] and helps(family, features, around, levers, n, size, blocks, folds)):
        around = np.empty((len(n), 0))
    return Design(
        family=family, size_source=source, n=n, size=size, bound=np.maximum(bound, n), features=features,
        feature_names=kept, levers=levers, lever_names=lever_names, blocks=blocks, folds=folds,
        audited=np.where(audited > 0, audited, np.nan), around=around, lever_error=lever_error, lever_tilt=tilt,
        dropped=dropped,
    )  # fmt: skip


def _size(markets: pd.DataFrame, n: FloatArray) -> tuple[FloatArray | None, str]:
    """Buyers by market: people who could buy where mostly known, else those who buy from anyone; gaps are estimated."""
    category, people = _positive(markets, "market_customers"), _positive(markets, "addressable_customers")
    # levers work on everyone who could buy, so people come first; the category is then a feature and a bound
    if np.isfinite(people).mean() >= 0.5:
        size, source, other = people, "addressable_customers", category
    elif np.isfinite(category).mean() >= 0.5:
        size, source, other = category, "market_customers", people
    else:
        return None, "none"
    both = np.isfinite(size) & np.isfinite(other)
    if both.any():
        size = np.where(np.isfinite(size), size, other * np.median(size[both] / other[both]))
    # a market whose size is missing: as penetrated as all markets together, with at least ten buyers
    have = np.isfinite(size)
    rate = n[have].sum() / size[have].sum()
    filled = np.maximum(n / max(rate, 1e-6), np.nanmedian(size) * 0.1)
    size = np.where(have, size, np.maximum(filled, 10.0))
    return np.maximum(size, n / MOST_COUNTED), source


def _positive(markets: pd.DataFrame, column: str) -> FloatArray:
    values = number(markets, column)
    return np.where(values > 0, values, np.nan)


def _with_category(markets: pd.DataFrame) -> pd.DataFrame:
    """Markets with ``CATEGORY``: the part of the people who buy from anyone, whether known for all markets or some.

    Nobody's result: how many buy at all says what a market is like, as an income does.
    """
    with np.errstate(invalid="ignore"):
        rate = _positive(markets, "market_customers") / _positive(markets, "addressable_customers")
    return markets.assign(**{CATEGORY: np.log(np.clip(rate, 1e-4, 1.0))})


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


def lever_totals(data: MarketData) -> tuple[FloatArray, tuple[str, ...]]:
    """What the company can turn, by market (markets, levers): sales reps (count) and last year's spend (money)."""
    markets = data.markets
    found: dict[str, FloatArray] = {"reps": number(markets, "reps")}
    if data.current is not None and len(data.current):
        spend = data.current.groupby("market_id", sort=True)["current"].sum()
        found["spend"] = markets["market_id"].map(spend).to_numpy(float, na_value=np.nan)
    columns, names = [], []
    for name, raw in found.items():
        # a market without a row has none of it; a lever that no market differs in can't be learnt
        total = np.where(np.isfinite(raw), np.maximum(raw, 0.0), 0.0)
        if np.ptp(total) > 1e-12:
            columns.append(total)
            names.append(name)
    return (np.column_stack(columns) if columns else np.empty((len(markets), 0))), tuple(names)


def _around(data: MarketData, features: FloatArray, names: tuple[str, ...], levers: FloatArray) -> FloatArray:
    """Neighbours' levers and rivals, standardised (markets, columns); no columns where nothing is known of them."""
    markets, none = data.markets, np.empty((len(features), 0))
    values = np.column_stack([levers, features[:, rivals_among(names)]])
    place = np.column_stack([number(markets, "x_km"), number(markets, "y_km")])
    means = neighbour_means(values, markets["market_id"], data.neighbours, place) if values.shape[1] else None
    if means is None:
        return none
    middle, spread = np.median(means, axis=0), means.std(axis=0)
    kept = spread > 1e-12
    return np.clip((means - middle)[:, kept] / spread[kept], -4, 4)


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
