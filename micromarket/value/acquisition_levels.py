"""Cost, value and payback of new customers by company, market, segment and channel, from money and customers won."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.value.acquisition_cost import Cost, dispersion, months_to_repay, pooled_cost, pooled_mean_cost
from micromarket.value.customers_won import Purchased
from micromarket.value.groups import Z90
from micromarket.value.model import Cells


@dataclass(frozen=True)
class Values:
    """Value of new customers: by cell (with the path to it, ``None``: unknown) and by market."""

    cells: Cells
    worth: np.ndarray
    path: np.ndarray | None
    of_new: np.ndarray
    of_market: np.ndarray

    def groups(self, mix: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean value and path of groups; ``mix``: new customers of (groups, cells)."""
        total = mix.sum(axis=1, keepdims=True)
        share = mix / np.where(total > 0, total, 1.0)
        none = total[:, 0] <= 0
        worth = np.where(none, np.nan, share @ self.worth)
        return worth, None if self.path is None else share @ self.path

    def markets(self) -> tuple[np.ndarray, np.ndarray | None]:
        if self.path is None:
            return self.of_market, None
        size = len(self.cells.market_ids)
        weighted = self.path * self.of_new[:, None]
        path = np.stack([np.bincount(self.cells.market, weights=c, minlength=size) for c in weighted.T], axis=1)
        end = path[:, -1]
        sound = (end > 0) & (self.of_market > 0)
        return self.of_market, path * np.where(sound, self.of_market / np.where(sound, end, 1.0), 1.0)[:, None]


@dataclass(frozen=True)
class Level:
    """Rows of the table of one kind and basis."""

    kind: str
    basis: str
    keys: tuple[str, ...]
    spend: np.ndarray
    customers: np.ndarray
    cost: Cost
    worth: np.ndarray
    payback: np.ndarray


def _level(
    kind: str,
    basis: str,
    keys: tuple[str, ...],
    money: tuple[np.ndarray, np.ndarray, Cost],
    value: tuple[np.ndarray, np.ndarray | None],
) -> Level:
    """``money``: spend, customers, cost; ``value``: of :meth:`Values.groups` or :meth:`Values.markets`."""
    (spend, customers, cost), (worth, path) = money, value
    payback = np.full(len(keys), np.nan) if path is None else months_to_repay(path, cost.mean)
    return Level(kind, basis, keys, spend, customers, cost, worth, payback)


def _company(basis: str, spend: float, customers: float, sd: float, mix: np.ndarray, value: Values) -> Level:
    """As it is, with its range (``sd`` on the log scale)."""
    mean = np.array([spend / customers if spend > 0 and customers > 0 else np.nan])
    cost = Cost(mean, mean * np.exp(-Z90 * sd), mean * np.exp(Z90 * sd))
    return _level("company", basis, ("company",), (np.array([spend]), np.array([customers]), cost), value.groups(mix))


def levels_from_spend(bought: Purchased, value: Values) -> list[Level]:
    """Blended by company and market; paid by company, market, segment and channel where channels are booked."""
    won, spread = bought.by_cell, dispersion(bought.market_periods, bought.market_spend_periods)
    of_company = dispersion(bought.market_periods.sum(0)[None], bought.market_spend_periods.sum(0)[None])
    total, n = float(bought.market_spend.sum()), float(bought.market_customers.sum())
    sd = float(np.sqrt(of_company / max(n, 1.0)))
    cost = pooled_cost(bought.market_spend, bought.market_customers, spread)
    money = (bought.market_spend, bought.market_customers, cost)
    levels = [
        _company("blended", total, n, sd, won.sum(0)[None], value),
        _level("market", "blended", value.cells.market_ids, money, value.markets()),
    ]
    log_sd = _channels(bought, value, levels)
    paid = bought.basis == "paid"
    if paid.any():
        _paid(bought, value, levels, spread, log_sd[paid])
    elif bought.by_segment_known:
        levels.append(_segments("blended", value, won.sum(0), np.nan_to_num(cost.mean), total, sd))
    return levels


def _channels(bought: Purchased, value: Values, levels: list[Level]) -> np.ndarray:
    """Adds the channels' rows; returns the standard deviation of each one's log cost (NaN where not paid)."""
    paid, spend, n = bought.basis == "paid", bought.channel_spend.sum(1), bought.by_cell.sum(1)
    costs = Cost.unknown(len(paid))
    if paid.any():
        spread = dispersion(bought.channel_periods[paid], bought.channel_spend_periods[paid])
        known = pooled_cost(spend[paid], n[paid], spread)
        costs.mean[paid], costs.low[paid], costs.high[paid] = known.mean, known.low, known.high
    for basis in ("paid", "unpaid", "unclaimed", "unknown"):
        rows = np.flatnonzero((bought.channel_names != "") & (bought.basis == basis))
        if len(rows):
            names = tuple(str(name) for name in bought.channel_names[rows])
            money = (spend[rows], n[rows], Cost(costs.mean[rows], costs.low[rows], costs.high[rows]))
            levels.append(_level("channel", basis, names, money, value.groups(bought.by_cell[rows])))
    return np.log(costs.high / costs.low) / (2 * Z90)


def _paid(bought: Purchased, value: Values, levels: list[Level], spread: float, log_sd: np.ndarray) -> None:
    """Adds paid rows of company, markets and segments; ``log_sd``: of the cost of each channel that is paid."""
    cells, paid = value.cells, bought.basis == "paid"
    spend, n = bought.channel_spend[paid], bought.by_cell[paid]
    claimed = spend.sum(0)
    by_market = np.bincount(cells.market, weights=n.sum(0), minlength=len(cells.market_ids))
    found = pooled_cost(claimed, by_market, spread)
    cost = Cost(*(np.where(claimed > 0, v, np.nan) for v in (found.mean, found.low, found.high)))
    share = spend.sum(1) / spend.sum()
    sd = float(np.sqrt(share**2 @ log_sd**2))
    levels += [
        _company("paid", float(spend.sum()), float(n.sum()), sd, n.sum(0)[None], value),
        _level("market", "paid", cells.market_ids, (claimed, by_market, cost), value.markets()),
    ]
    if bought.by_segment_known:
        relative = np.where(np.isfinite(cost.mean), cost.mean, np.nanmean(cost.mean))
        levels.append(_segments_by_channel(value, n, relative, spend.sum(1), log_sd))


def _segments(basis: str, value: Values, won: np.ndarray, cost: np.ndarray, total: float, sd: float) -> Level:
    """Every customer won in a market has cost the same, whatever the segment; together they cost ``total``."""
    cells = value.cells
    money = won * cost[cells.market]
    money = money * (total / money.sum() if money.sum() > 0 else 0.0)
    spend, n = cells.by_label(money), cells.by_label(won)
    return _segment_level(basis, value, spend, n, won, np.full(len(n), sd))


def _segments_by_channel(
    value: Values, won: np.ndarray, relative: np.ndarray, spend: np.ndarray, log_sd: np.ndarray
) -> Level:
    """Every customer won by a channel in a market has cost the same; a channel's customers together cost ``spend``."""
    cells = value.cells
    money = won * relative[cells.market]
    money *= (spend / np.maximum(money.sum(1), 1e-300))[:, None]
    by_channel = np.stack([cells.by_label(row) for row in money])
    share = by_channel / np.maximum(by_channel.sum(0), 1e-300)
    sd = np.sqrt((share**2 * log_sd[:, None] ** 2).sum(0))
    everyone = won.sum(0)
    return _segment_level("paid", value, by_channel.sum(0), cells.by_label(everyone), everyone, sd)


def _segment_level(
    basis: str, value: Values, spend: np.ndarray, n: np.ndarray, won: np.ndarray, sd: np.ndarray
) -> Level:
    segments = value.cells.labels
    mean = np.where(n > 0, spend / np.maximum(n, 1e-300), np.nan)
    cost = Cost(mean, mean * np.exp(-Z90 * sd), mean * np.exp(Z90 * sd))
    mix = np.where(value.cells.label == np.arange(len(segments))[:, None], won, 0.0)
    return _level("segment", basis, segments, (spend, n, cost), value.groups(mix))


def levels_from_costs(bought: Purchased, value: Values) -> list[Level]:
    """Each customer's own cost on record: blended over all customers, paid over those who cost anything."""
    cells = value.cells
    groups: list[tuple[str, tuple[str, ...], np.ndarray]] = [("company", ("company",), np.zeros(len(cells), int))]
    groups.append(("market", cells.market_ids, cells.market))
    if bought.by_segment_known:
        groups.append(("segment", cells.labels, cells.label))
    assert bought.cost is not None
    assert bought.cost_squares is not None
    assert bought.paid_by_cell is not None
    some_free = 0 < bought.paid_by_cell.sum() < bought.by_cell.sum()
    bases = [("blended", bought.by_cell)] + ([("paid", bought.paid_by_cell)] if some_free else [])
    levels = []
    for basis, n in bases:
        each = (bought.cost, n, bought.cost_squares)
        for kind, keys, index in groups:
            spend, customers, squares = (np.bincount(index, weights=v.sum(0), minlength=len(keys)) for v in each)
            money = (spend, customers, pooled_mean_cost(spend, customers, squares))
            if kind == "market":
                levels.append(_level(kind, basis, keys, money, value.markets()))
            else:
                mix = np.where(index == np.arange(len(keys))[:, None], n.sum(0), 0.0)
                levels.append(_level(kind, basis, keys, money, value.groups(mix)))
    cost = bought.cost.sum(1)
    for basis, costly in (("paid", cost > 0), ("unpaid", cost <= 0)):
        rows = np.flatnonzero((bought.channel_names != "") & costly & (bought.by_cell.sum(1) > 0))
        if len(rows):
            spend, customers, squares = (v[rows].sum(1) for v in (bought.cost, bought.by_cell, bought.cost_squares))
            found = pooled_mean_cost(spend, customers, squares) if basis == "paid" else Cost.unknown(len(rows))
            names = tuple(str(name) for name in bought.channel_names[rows])
            value_of = value.groups(bought.by_cell[rows])
            levels.append(_level("channel", basis, names, (spend, customers, found), value_of))
    return levels
