"""What a market offers by objective, in money: new customers, deeper accounts, customers that would be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.potential.design import number
from micromarket.potential.families import FloatArray
from micromarket.potential.pooling import by_group, pooled_mean, pooled_share, reached_by_peers

OBJECTIVES = ("acquire", "deepen", "retain")
_MANY_PRODUCTS = 1.1  # products a customer holds on average from which on they are sold beside one another
_FEWEST_HOLDERS = 50  # of a product in the company, below which peers tell nothing of it
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
      the value of a customer per unit of its yearly revenue. Where customers hold several products: by product, the
      share of customers who hold it, at what a holder of it spends a year.
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
    accounts = _aligned(data.accounts, scores["market_id"])
    if accounts is not None:
        deeper = _deepen(accounts, data.products, scores["market_id"], customers, clv, member)
        if deeper is not None:
            money["deepen"], offers, numbers["deepen"] = deeper
        if accounts["before"].sum() >= 50:
            money["retain"], numbers["retain"] = _retain(accounts, customers, clv, member, settings)
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


def _aligned(accounts: pd.DataFrame | None, market_id: pd.Series) -> pd.DataFrame | None:
    if accounts is None or not len(accounts):
        return None
    found = accounts.set_index(accounts["market_id"].astype(str)).drop(columns="market_id")
    found = found.reindex(market_id.astype(str))
    zero = ["customers", "revenue", "revenue_squares", "before", "lost"]
    found[zero] = found[zero].fillna(0.0)
    return found.reset_index(drop=True)


def _deepen(
    accounts: pd.DataFrame, products: pd.DataFrame | None, market_id: pd.Series, customers: FloatArray, clv: FloatArray,
    member: FloatArray,
) -> tuple[FloatArray, list[str | None] | None, dict[str, Any]] | None:  # fmt: skip
    active, revenue = number(accounts, "customers"), number(accounts, "revenue")
    if active.sum() < 50 or not revenue.sum() > 0:
        return None
    spend = by_group(member, pooled_mean, revenue, number(accounts, "revenue_squares"), active)
    spend = np.maximum(spend, 1e-9)
    worth = clv / spend  # margin over the horizon per unit of a year's revenue
    held = float(np.nansum(number(accounts, "products")) / max(active.sum(), 1.0))
    if products is None or held < _MANY_PRODUCTS:
        reach = reached_by_peers(spend, member)
        gap = np.maximum(reach - spend, 0.0)
        each = float(revenue.sum() / active.sum())
        return (
            customers * gap * worth,
            None,
            {"by": "spend", "revenue_per_customer": each, "products_per_customer": held},
        )
    total = np.zeros(len(active))
    best, offer = np.zeros(len(active)), np.full(len(active), None, dtype=object)
    by_product: list[dict[str, Any]] = []
    for product, rows in products.groupby("product", sort=True):
        holders = rows["customers"].sum()
        if holders < _FEWEST_HOLDERS:
            continue
        here = rows.set_index("market_id")["customers"].reindex(market_id.astype(str)).fillna(0.0).to_numpy(float)
        share = by_group(member, pooled_share, np.minimum(here, active), active)
        gap = np.maximum(reached_by_peers(share, member) - share, 0.0)
        money = customers * gap * float(rows["revenue"].sum() / holders) * worth
        total += money
        offer = np.where(money > best, str(product), offer)
        best = np.maximum(best, money)
        by_product.append({"product": str(product), "share": float(here.sum() / max(active.sum(), 1.0)),
                           "customers": float((customers * gap).sum()), "money": float(money.sum())})  # fmt: skip
    by_product.sort(key=lambda row: (-row["money"], row["product"]))
    said = {"by": "product", "products_per_customer": held, "products": by_product}
    return total, [None if o is None else str(o) for o in offer], said


def _retain(
    accounts: pd.DataFrame, customers: FloatArray, clv: FloatArray, member: FloatArray, settings: Settings
) -> tuple[FloatArray, dict[str, Any]]:
    before, lost = number(accounts, "before"), number(accounts, "lost")
    days = float(np.nanmax(number(accounts, "lost_over_days")))
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
