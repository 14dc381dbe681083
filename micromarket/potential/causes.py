"""Why a market stays behind its potential: named causes, each with its size, that add up to the headroom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from micromarket.market_data import MarketData
from micromarket.potential.design import Design, number
from micromarket.potential.families import FloatArray
from micromarket.potential.pooling import FEWEST_PEERS

COVERAGE, SPEND, PRICE, RIVALS, UNEXPLAINED = (
    "low rep coverage", "low spend", "high price", "strong rivals", "unexplained",
)  # fmt: skip
CAUSES = (COVERAGE, SPEND, PRICE, RIVALS, UNEXPLAINED)
FIXABLE, STRUCTURAL = "fixable", "structural"
#: What the company can turn. Rivals are there whatever it does; what nothing explains nobody knows how to fix.
KINDS = {COVERAGE: FIXABLE, SPEND: FIXABLE, PRICE: FIXABLE, RIVALS: STRUCTURAL, UNEXPLAINED: STRUCTURAL}
_LEVERS = {"reps": COVERAGE, "spend": SPEND}
_PRICES = ("price_index", "price", "relative_price")
_RIVAL = re.compile(r"(?:^|_)(?:competitors?|competition|rivals?)(?:_|$)", re.IGNORECASE)
PRODUCT_PRICES = "amounts paid for the same products"
_TAKEN = "potential takes it as it is, as it is among the features"
_FEWEST = 30  # markets below which an association can't be learnt
_CLEAR, _CLEAR_PROXY = 2.0, 3.0  # t of an association that counts; of one with a stand-in for price


@dataclass(frozen=True)
class Decomposition:
    """``customers``: headroom by market (rows) and cause (columns, those that could be measured), rows adding up to it.

    ``evidence``: for price and rivals, what they were read from and whether it counts: {source, used, reason}.
    """

    customers: pd.DataFrame
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def largest(self) -> list[str]:
        return self.customers.idxmax(axis=1).astype(str).tolist() if len(self.customers) else []

    def of(self, cause: str) -> FloatArray:
        return self.customers[cause].to_numpy(float) if cause in self.customers else np.zeros(len(self.customers))

    def table(self, market_id: pd.Series, value: FloatArray, blocked: FloatArray) -> pd.DataFrame:
        """The artefact ``causes``; ``value``: money per customer won; nothing is fixable where the field blocks."""
        parts = []
        for cause in map(str, self.customers.columns):
            kind = np.where(blocked, STRUCTURAL, KINDS[cause])
            customers = self.customers[cause].to_numpy(float)
            parts.append(pd.DataFrame({"market_id": market_id.to_numpy(), "cause": cause, "kind": kind,
                                       "customers": customers, "value": customers * value}))  # fmt: skip
        return pd.concat(parts, ignore_index=True).sort_values(["market_id", "cause"], kind="stable", ignore_index=True)


def decompose(
    data: MarketData, design: Design, lever_parts: FloatArray, headroom: FloatArray, potential: FloatArray,
    expected: FloatArray, member: FloatArray,
) -> Decomposition:  # fmt: skip
    """The headroom by cause.

    Coverage and spend: their part of the gap to best practice in the frontier (``lever_parts``, shares of the headroom
    by lever and, last, by the one-sided rest). The rest is then split:

    - rivals, where the market's size is known: buyers of others beyond what is usual in its peer group, per
      addressable customer, at most the rest; else by association with columns that count rivals;
    - price: by association of the rest with a price column, or with what the same products cost there.

    Association: the slope of the rest (share of the potential) on the column, features and levers held, where it is
    clear (t of 2, of 3 for a stand-in), shrunk by 1 - 1/t^2 (James-Stein), counted from the 10th percentile on. What
    the frontier took for a feature is no cause: potential then takes it as it is.

    Parameters
    ----------
    headroom, potential, expected : customers, shape (markets,)
    member : int array (markets,), peer group
    """
    found: dict[str, FloatArray] = {}
    for i, lever in enumerate(design.lever_names):
        if lever in _LEVERS:
            found[_LEVERS[lever]] = np.clip(lever_parts[:, i], 0.0, 1.0) * headroom
    rest = np.maximum(headroom - sum(found.values(), np.zeros(len(headroom))), 0.0)
    evidence: dict[str, dict[str, Any]] = {}
    claims: dict[str, FloatArray] = {}
    for cause, read in (
        (PRICE, lambda: _price(data, design, rest, potential)),
        (RIVALS, lambda: _rivals(data, design, rest, potential, expected, member)),
    ):
        claim, said = read()
        if said:
            evidence[cause] = said
        if claim is not None:
            claims[cause] = np.clip(claim, 0.0, rest)
    together = sum(claims.values(), np.zeros(len(rest)))
    fit = np.where(together > rest, rest / np.maximum(together, 1e-12), 1.0)
    for cause, claim in claims.items():
        found[cause] = claim * fit
    # the last one takes what is left, so that the causes add up
    found[UNEXPLAINED] = np.maximum(headroom - sum(found.values(), np.zeros(len(headroom))), 0.0)
    frame = pd.DataFrame({cause: found[cause] for cause in CAUSES if cause in found})
    return Decomposition(frame, evidence)


def _price(
    data: MarketData, design: Design, rest: FloatArray, potential: FloatArray
) -> tuple[FloatArray | None, dict[str, Any]]:
    markets = data.markets
    column = next((c for c in markets.columns if str(c).lower() in _PRICES and number(markets, c).any()), None)
    if column is not None:
        if column in design.feature_names:
            return None, {"source": str(column), "used": False, "reason": _TAKEN}
        return _associated(number(markets, column), design, rest, potential, str(column), _CLEAR)
    index = price_of_products(data, markets["market_id"])
    if index is None:
        return None, {}
    return _associated(index, design, rest, potential, PRODUCT_PRICES, _CLEAR_PROXY)


def price_of_products(data: MarketData, market_id: pd.Series) -> FloatArray | None:
    """What a market pays for its products over what all markets pay for the same (Paasche index, 1 = average).

    Few purchases pull it towards 1, as thirty average ones would. ``None`` where products or amounts are unknown.
    """
    table = data.products
    if table is None or not len(table) or not (table["purchases"] > 0).any():
        return None
    table = table.groupby(["market_id", "product"], sort=True, as_index=False)[["purchases", "revenue"]].sum()
    table = table[(table["purchases"] > 0) & (table["revenue"] > 0)]
    by_product = table.groupby("product", sort=True)[["revenue", "purchases"]].sum()
    usual = table["product"].map(by_product["revenue"] / by_product["purchases"]) * table["purchases"]
    sums = table.assign(usual=usual).groupby("market_id", sort=True)[["revenue", "usual", "purchases"]].sum()
    sums = sums.reindex(market_id.astype(str)).fillna(0.0)
    count, own = sums["purchases"].to_numpy(), sums["revenue"].to_numpy() / np.maximum(sums["usual"].to_numpy(), 1e-12)
    return (count * own + 30.0) / (count + 30.0)


def _rivals(
    data: MarketData, design: Design, rest: FloatArray, potential: FloatArray, expected: FloatArray, member: FloatArray
) -> tuple[FloatArray | None, dict[str, Any]]:
    markets = data.markets
    people, category = number(markets, "addressable_customers"), number(markets, "market_customers")
    known = (people > 0) & (category > 0)
    if known.mean() >= 0.5 and known.sum() >= FEWEST_PEERS:
        others = np.where(known, np.maximum(category - expected, 0.0) / np.where(known, people, 1.0), np.nan)
        usual = np.full(len(others), np.nanmedian(others))
        for g in np.unique(member):
            inside = (member == g) & known
            if inside.sum() >= FEWEST_PEERS:
                usual[member == g] = np.median(others[inside])
        more = np.where(known, people * np.maximum(others - usual, 0.0), 0.0)
        return more, {"source": "market_customers", "used": True, "reason": ""}
    columns = [c for c in markets.columns if _RIVAL.search(str(c)) and np.isfinite(number(markets, c)).mean() >= 0.5]
    if not columns:
        return None, {}
    if set(columns) <= set(design.feature_names):
        return None, {"source": ", ".join(map(str, columns)), "used": False, "reason": _TAKEN}
    strength = np.zeros(len(markets))
    for column in columns:
        raw = number(markets, column)
        raw = np.where(np.isfinite(raw), raw, np.nanmedian(raw))
        if design.family.bounded and np.all(raw == np.round(raw)):  # stores, firms: per buyer
            raw = np.log1p(1e3 * np.maximum(raw, 0.0) / design.size)
        strength += (raw - raw.mean()) / max(raw.std(), 1e-12)
    return _associated(strength, design, rest, potential, ", ".join(map(str, columns)), _CLEAR)


def _associated(
    column: FloatArray, design: Design, rest: FloatArray, potential: FloatArray, source: str, clear: float
) -> tuple[FloatArray | None, dict[str, Any]]:
    """Customers of the rest that go with a column, and what is to be said of it."""

    def said(reason: str) -> tuple[None, dict[str, Any]]:
        return None, {"source": source, "used": False, "reason": reason}

    have = np.isfinite(column) & (potential > 0)
    if have.sum() < _FEWEST or np.ptp(column[have]) <= 1e-12:
        return said("too few markets tell, or all are alike")
    x = np.where(have, column, np.median(column[have]))
    # from the best practice (10th percentile) on, as it is counted below
    x = np.maximum(x - np.quantile(x[have], 0.1), 0.0) / max(x[have].std(), 1e-12)
    weight = np.where(have, potential, 0.0)
    levers = design.levers / np.maximum(design.levers.std(axis=0), 1e-12)
    around = np.column_stack([np.ones(len(x)), design.features, levers])
    if around.shape[1] > have.sum() / 3:
        around = around[:, :1]
    root = np.sqrt(weight)[:, None]
    coef = np.linalg.lstsq(root * around, root[:, 0] * x, rcond=None)[0]
    left = x - around @ coef
    if (weight * left**2).sum() < 0.05 * (weight * x**2).sum():
        return said(_TAKEN)
    y = rest / np.maximum(potential, 1e-12)
    y = y - around @ np.linalg.lstsq(root * around, root[:, 0] * y, rcond=None)[0]
    inner = (weight * left**2).sum()
    slope = (weight * left * y).sum() / inner
    error = np.sqrt(((weight * left * (y - slope * left)) ** 2).sum()) / inner  # heteroscedastic: White (1980)
    t = slope / max(error, 1e-12)
    if t < clear:
        return said("what is unexplained doesn't clearly go with it")
    slope *= 1 - 1 / t**2
    return np.where(have, slope * x, 0.0) * potential, {"source": source, "used": True, "reason": "", "t": float(t)}


__all__ = ["CAUSES", "COVERAGE", "FIXABLE", "KINDS", "PRICE", "RIVALS", "SPEND", "STRUCTURAL", "UNEXPLAINED",
           "Decomposition", "decompose", "price_of_products"]  # fmt: skip
