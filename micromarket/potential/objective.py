"""What a market offers by objective, in money: new customers, deeper accounts, customers that would be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.potential.families import FloatArray
from micromarket.potential.pooling import by_group, pooled_mean, pooled_share, reached_by_peers

OBJECTIVES = ("acquire", "deepen", "retain")
_MANY_PRODUCTS = 1.1  # products a customer holds on average from which on they are sold beside one another
_FEWEST = 50  # customers in the company, of a product or all, below which peers tell nothing
_SUMS = ["customers", "revenue", "revenue_squares", "products", "before", "lost"]
_DAYS = 365.25


@dataclass(frozen=True)
class Opportunities:
    """Money by market and objective (those that can be measured), and their weighted sum.

    ``weighted``: sum of weight x money. ``dominating``: the objective that weighs most in each market. ``cross_sell``:
    product whose share of holders is furthest below what peers reach (in money), ``None`` where none is.
    ``numbers``: for the notes. ``left_out``: objectives that the settings want and the data can't measure.
    """

    money: Mapping[str, FloatArray]
    weighted: FloatArray
    dominating: list[str]
    cross_sell: list[str | None] | None
    left_out: tuple[str, ...]
    weights: Mapping[str, float]
    numbers: Mapping[str, Any] = field(default_factory=dict)


def opportunities(
    scores: pd.DataFrame, data: MarketData, expected: FloatArray, member: FloatArray, settings: Settings
) -> Opportunities:
    """Opportunity by objective.

    - acquire: headroom x value of a new customer.
    - deepen: what the market's customers spend below what the best fifth of its peer group starts from, a year, times
      the value of a customer per unit of its yearly revenue; segment by segment where the company has segments. Where
      customers hold several products: by product, the share of customers who hold it, at what a holder spends a year.
    - retain: value at risk, customers x probability of leaving before the plan ends x value of a customer. No plan
      saves all of it.

    Shares, means and losses are pooled towards the peer group for markets of few customers. Groups of fewer than
    ``report.min_cell`` customers count with the number that is expected there, so that money tells nothing of them.

    Parameters
    ----------
    scores : DataFrame with market_id, customers, headroom, clv, new_customer_clv
    expected : customers expected today, shape (markets,)
    member : peer group of each market
    """
    customers = scores["customers"].to_numpy(float)
    customers = np.where(customers >= settings.report.min_cell, customers, expected)
    clv = np.maximum(scores["clv"].to_numpy(float), 0.0)
    money: dict[str, FloatArray] = {
        "acquire": scores["headroom"].to_numpy(float) * scores["new_customer_clv"].to_numpy(float)
    }
    numbers: dict[str, Any] = {}
    offers: list[str | None] | None = None
    if data.accounts is not None and len(data.accounts):
        book = _Book.of(data, scores["market_id"])
        deeper = _deepen(book, customers, clv, member)
        if deeper is not None:
            money["deepen"], offers, numbers["deepen"] = deeper
        if sum(part["before"].sum() for part in book.parts) >= _FEWEST:
            money["retain"], numbers["retain"] = _retain(book, customers, clv, member, settings)
    if offers is not None:
        few = scores["customers"].to_numpy(float) < settings.report.min_cell
        offers = [None if small else offer for offer, small in zip(offers, few, strict=True)]
    wanted = {name: float(getattr(settings.targets.objective, name)) for name in OBJECTIVES}
    left_out = tuple(name for name, weight in wanted.items() if weight > 0 and name not in money)
    weights = {name: weight for name, weight in wanted.items() if weight > 0 and name in money} or {"acquire": 1.0}
    # one objective of weight 1 keeps its numbers to the last bit
    parts = {name: money[name] if weight == 1 else weight * money[name] for name, weight in weights.items()}
    weighted = sum(list(parts.values())[1:], next(iter(parts.values())))
    order = list(parts)
    largest = np.argmax(np.column_stack(list(parts.values())), axis=1) if len(scores) else np.zeros(0, int)
    numbers["money"] = {name: float(value.sum()) for name, value in money.items()}
    return Opportunities(money, weighted, [order[i] for i in largest], offers, left_out, weights, numbers)


@dataclass(frozen=True)
class _Book:
    """Accounts by segment (one frame each, a row a market) and who holds which product (customers by market).

    Segments that the company has set are told apart: a market of few firms spends less than its peers without selling
    them less. Segments made from what customers buy are not: they would hide the very gap.
    """

    parts: list[pd.DataFrame]
    holders: list[dict[str, FloatArray]]
    per_holder: Mapping[str, float]

    @classmethod
    def of(cls, data: MarketData, market_id: pd.Series) -> _Book:
        assert data.accounts is not None
        derived = (data.facts.get("segmentation") or {}).get("source") == "derived"
        accounts, products = data.accounts, data.products
        if derived:
            accounts = accounts.assign(segment="all")
            products = None if products is None else products.assign(segment="all")
        ids = pd.Index(market_id.astype(str))
        parts, holders = [], []
        days = accounts["lost_over_days"].max()
        for segment, rows in accounts.groupby("segment", sort=True):
            sums = rows.groupby("market_id", sort=True)[_SUMS].sum(min_count=1).reindex(ids).fillna(0.0)
            parts.append(sums.assign(lost_over_days=days).reset_index(drop=True))
            held: dict[str, FloatArray] = {}
            if products is not None:
                mine = products[products["segment"] == segment]
                for product, of in mine.groupby("product", sort=True):
                    by = of.groupby("market_id", sort=True)["customers"].sum()
                    held[str(product)] = by.reindex(ids).fillna(0.0).to_numpy(float)
            holders.append(held)
        per_holder: dict[str, float] = {}
        if products is not None:
            each = products.groupby("product", sort=True)[["customers", "revenue"]].sum()
            each = each[each["customers"] >= _FEWEST]
            per_holder = {str(p): float(r["revenue"] / r["customers"]) for p, r in each.iterrows()}
        return cls(parts, holders, per_holder)

    def total(self, column: str) -> FloatArray:
        return np.sum([part[column].to_numpy(float) for part in self.parts], axis=0)


def _deepen(
    book: _Book, customers: FloatArray, clv: FloatArray, member: FloatArray
) -> tuple[FloatArray, list[str | None] | None, dict[str, Any]] | None:
    active, revenue = book.total("customers"), book.total("revenue")
    if active.sum() < _FEWEST or not revenue.sum() > 0:
        return None
    usual = by_group(member, pooled_mean, revenue, book.total("revenue_squares"), active)
    worth = clv / np.maximum(usual, 1e-9)  # margin over the horizon per unit of a year's revenue
    held = float(book.total("products").sum() / active.sum())
    gaps: dict[str, FloatArray] = {}  # revenue a year by product
    sold: dict[str, FloatArray] = {}  # customers to sell to
    for part, holders in zip(book.parts, book.holders, strict=True):
        here = part["customers"].to_numpy(float)
        # customers of the segment; where nobody is active, as many as elsewhere
        mix = np.where(active > 0, here / np.maximum(active, 1e-9), here.sum() / active.sum())
        if held < _MANY_PRODUCTS or not book.per_holder:
            squares = part["revenue_squares"].to_numpy(float)
            spend = by_group(member, pooled_mean, part["revenue"].to_numpy(float), squares, here)
            gap = np.maximum(reached_by_peers(spend, member) - spend, 0.0)
            gaps[""] = gaps.get("", 0.0) + customers * mix * gap
            continue
        for product, each in book.per_holder.items():
            holding = np.minimum(holders.get(product, np.zeros(len(here))), here)
            share = by_group(member, pooled_share, holding, here)
            more = customers * mix * np.maximum(reached_by_peers(share, member) - share, 0.0)
            gaps[product] = gaps.get(product, 0.0) + more * each
            sold[product] = sold.get(product, 0.0) + more
    total = np.sum(list(gaps.values()), axis=0) * worth
    said: dict[str, Any] = {"by": "product" if sold else "spend", "products_per_customer": held,
                            "revenue_per_customer": float(revenue.sum() / active.sum())}  # fmt: skip
    if not sold:
        return total, None, said
    said["products"] = sorted(
        ({"product": p, "customers": float(sold[p].sum()), "money": float((gaps[p] * worth).sum())} for p in sold),
        key=lambda row: (-row["money"], row["product"]),
    )
    names, sums = list(gaps), np.column_stack(list(gaps.values()))
    best = sums.argmax(axis=1)
    return total, [names[i] if sums[row, i] > 0 else None for row, i in enumerate(best)], said


def _retain(
    book: _Book, customers: FloatArray, clv: FloatArray, member: FloatArray, settings: Settings
) -> tuple[FloatArray, dict[str, Any]]:
    before, lost = book.total("before"), book.total("lost")
    days = float(np.nanmax([part["lost_over_days"].max() for part in book.parts]))
    share = np.clip(by_group(member, pooled_share, np.minimum(lost, before), before), 0.0, 1 - 1e-9)
    # the same loss every day, over the length of the plan
    years = settings.plan.days / _DAYS
    loss = 1 - (1 - share) ** (years * _DAYS / max(days, 1.0))
    kept = max(1 - float(lost.sum() / before.sum()), 0.0)
    said = {
        "loss_per_year": 1 - kept ** (_DAYS / max(days, 1.0)),
        "customers_at_risk": float((customers * loss).sum()),
    }
    return customers * loss * clv, said


__all__ = ["OBJECTIVES", "Opportunities", "opportunities"]
