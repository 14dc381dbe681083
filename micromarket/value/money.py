"""Behaviour times money: discounted margin of cells and markets with 90% intervals, acquisition cost, payback."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.pooling import even_normals

DRAWS = 256
_CHUNK = 3000
_VALUES = ("clv", "clv_low", "clv_high", "new_customer_clv", "new_customer_clv_low", "new_customer_clv_high")


@dataclass(frozen=True)
class Weights:
    """Of each cell within its market (they add up to 1): customers now on the books, and those won next.

    ``evidence`` (markets,): how many customers the mix of those won next is known from (infinite: the company's mix).
    """

    customers: np.ndarray
    new_customers: np.ndarray
    of_customers: np.ndarray
    of_new: np.ndarray
    evidence: np.ndarray

    @classmethod
    def of(cls, cells: Cells, frame: pd.DataFrame) -> Weights:
        """``frame``: the cells of the data stage. The mix of new customers leans on the company's as far as markets'
        mixes differ by chance (Dirichlet-multinomial, concentration by moments)."""
        at = cells.locate(frame)
        known = frame[at >= 0]

        def column(name: str) -> np.ndarray:
            values = pd.to_numeric(known[name]).to_numpy(float, na_value=0.0)
            return cells.total(at[at >= 0], np.maximum(np.nan_to_num(values), 0.0))

        customers, new = column("customers"), column("new_customers_last_year")
        of_new, evidence = _shares(cells, new if new.sum() else customers)
        return cls(customers, new, _shares(cells, customers, 0.0)[0], of_new, evidence)

    def leaning(self, cells: Cells) -> Weights:
        """The same with today's mix leaning on the company's as tomorrow's does: where segments are cut by the money
        that customers brought, a market's own mix is as much luck as that money."""
        return replace(self, of_customers=_shares(cells, self.customers)[0])


def _shares(cells: Cells, n: np.ndarray, concentration: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Share of each cell in its market's ``n``, and evidence by market; ``concentration``: pseudo-customers of the
    company's mix."""
    markets = len(cells.market_ids)
    company = np.maximum(cells.by_label(n), 1e-9)
    company = (company / company.sum())[cells.label]
    # within a market's own cells (it may lack some segments)
    present = np.bincount(cells.market, weights=company, minlength=markets)[cells.market]
    company = company / present
    total = np.bincount(cells.market, weights=n, minlength=markets)
    if concentration is None:
        mine = total[cells.market]
        expected = mine * company
        squares = np.where(expected > 0, (n - expected) ** 2 / np.maximum(expected, 1e-300), 0.0).sum()
        some = total > 0
        freedom = max(float((mine > 0).sum() - some.sum()), 0.0)
        per_market = freedom / max(some.sum(), 1)
        excess = squares - freedom
        if freedom == 0 or excess <= 2 * np.sqrt(2 * freedom):
            return company, np.full(markets, np.inf)
        rho = np.clip(excess / max(per_market * (total[some] - 1).sum(), 1e-9), 1e-6, 0.99)
        concentration = 1 / rho - 1
    weight = n + max(concentration, 1e-9) * company
    evidence = np.bincount(cells.market, weights=weight, minlength=markets)
    return weight / evidence[cells.market], evidence


def levelled(model: CellModel) -> CellModel:
    """Every cell at its segment's value: what is published where markets don't differ beyond chance."""
    cells, n = model.cells, model.customers + 1e-9

    def level(values: np.ndarray) -> np.ndarray:
        return (cells.by_label(n * values) / cells.by_label(n))[cells.label]

    def quadratic(q: LogQuadratic) -> LogQuadratic:
        columns = range(q.slope.shape[1])
        slope = np.stack([level(q.slope[:, j]) for j in columns], axis=1)
        bend = np.stack([level(q.bend[:, j]) for j in columns], axis=1)
        return LogQuadratic(np.log(np.maximum(level(np.exp(q.centre)), 1e-300)), slope, bend)

    return replace(
        model,
        current_revenue=quadratic(model.current_revenue),
        current_months=quadratic(model.current_months),
        current_sd=level(model.current_sd) * 0,
        shared_sd=level(model.shared_sd),
        current_shared_sd=level(model.current_shared_sd),
        market_sd=level(model.market_sd),
        money_share=level(model.money_share),
        retention=level(model.retention),
    )


def settle(model: CellModel, weights: Weights, servicing_cost: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values of all cells and of all markets (money per customer), with 90% intervals from joint posterior draws."""
    cells = model.cells
    k, segments = model.behaviour.base.shape[1], len(cells.segments)
    parts: dict[str, tuple[int, ...]] = {
        "shared": (segments,),
        "today": (segments,),
        "margin": (),
        "mix": (),
        "misfit": (),
    }
    for name, width in (("behaviour", k), ("money", 1)):
        parts |= {f"{name}.market": (width,), f"{name}.own": (segments, width), f"{name}.segment": (segments, width)}
    normals = even_normals(DRAWS, parts, seed)

    def part(name: str) -> dict[str, np.ndarray]:
        return {level: normals[f"{name}.{level}"] for level in ("market", "own", "segment")}

    starts = np.flatnonzero(np.diff(cells.market, prepend=-1))
    of_cells, of_markets = [], []
    first = 0
    while first < len(starts):
        last = int(np.searchsorted(starts, starts[first] + _CHUNK, side="right"))
        last = max(min(last, len(starts)), first + 1)
        chunk = np.arange(starts[first], starts[last] if last < len(starts) else len(cells))
        away = model.behaviour.draws(chunk, part("behaviour"))
        money = model.money.draws(chunk, part("money"))[:, :, 0]
        # luck that makes a market look busy makes it look dear too (or cheap, where busy customers spend less)
        money = money + model.money_slope[chunk] * away[:, :, 0]
        money = money - money.var(axis=0) / 2
        common = normals["shared"][:, cells.segment[chunk]]
        misfit = normals["misfit"].reshape(-1, 1) * model.market_sd[chunk]
        shared = np.exp(common * model.shared_sd[chunk] + misfit)
        margin = model.margin_rate[chunk] + normals["margin"].reshape(-1, 1) * model.margin_sd[chunk]
        revenue = model.unit[chunk] * np.exp(money) * model.new_count.at(away, chunk) * shared
        new = revenue * margin - servicing_cost * model.new_months.at(away, chunk) * shared
        sd = model.current_sd[chunk]
        today = np.exp(common * model.current_shared_sd[chunk] + misfit)
        today = today * np.exp(normals["today"][:, cells.segment[chunk]] * sd - sd**2 / 2)
        now = model.current_revenue.at(away, chunk) * np.exp(model.money_share[chunk] * money) * margin
        now = (now - servicing_cost * model.current_months.at(away, chunk)) * today
        of_cells.append(_summary(now, new))
        edges = starts[first:last] - starts[first]
        tomorrow = np.add.reduceat(new * weights.of_new[chunk], edges, axis=1)
        # the mix of segments to come is a Dirichlet draw: its variance, at the segments' mean values
        mean = new.mean(axis=0)
        about = (mean - np.repeat(tomorrow.mean(axis=0), np.diff(edges, append=len(chunk)))) ** 2
        mix = np.add.reduceat(about * weights.of_new[chunk], edges) / (weights.evidence[first:last] + 1)
        tomorrow = tomorrow + normals["mix"].reshape(-1, 1) * np.sqrt(mix)
        of_markets.append(_summary(np.add.reduceat(now * weights.of_customers[chunk], edges, axis=1), tomorrow))
        first = last
    by_cell = pd.DataFrame(np.concatenate(of_cells), columns=list(_VALUES))
    by_market = pd.DataFrame(np.concatenate(of_markets), columns=list(_VALUES))
    by_cell.insert(0, "market_id", np.asarray(cells.market_ids, dtype=object)[cells.market])
    by_cell.insert(1, "segment", np.asarray(cells.labels, dtype=object)[cells.label])
    by_market.insert(0, "market_id", np.asarray(cells.market_ids, dtype=object)[cells.market[starts]])
    return by_cell.assign(**_of_cells(model, by_cell, weights)), _of_markets(model, by_market, by_cell, weights)


def _of_cells(model: CellModel, by_cell: pd.DataFrame, weights: Weights) -> dict[str, np.ndarray]:
    return {
        "customers": weights.customers,
        "first_year_revenue": model.unit * model.first_year_count,
        "monthly_retention": model.retention,
        "customer_equity": weights.customers * by_cell["clv"].to_numpy(),
    }


def _of_markets(model: CellModel, by_market: pd.DataFrame, by_cell: pd.DataFrame, weights: Weights) -> pd.DataFrame:
    market, size = model.cells.market, len(by_market)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(market, weights=values, minlength=size)

    return by_market.assign(
        customers=total(weights.customers),
        first_year_revenue=total(weights.of_new * model.unit * model.first_year_count),
        customer_equity=total(weights.customers * by_cell["clv"].to_numpy()),
    )


def _summary(now: np.ndarray, new: np.ndarray) -> np.ndarray:
    columns = []
    for draws in (now, new):
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        columns += [draws.mean(axis=0), low, high]
    return np.stack(columns, axis=1)


_GONE = 0.01  # share of a segment's known customers on the books below which it is one of those who have gone
_PSEUDO_CUSTOMERS = 20.0  # of the segment, when the share of known customers that is active is estimated


def per_active_customer(
    model: CellModel, weights: Weights, by_cell: pd.DataFrame, by_market: pd.DataFrame, *, alike: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The value of all known customers as value per customer on the books, where some known ones have gone silently.

    Purchase models value everyone who ever bought; the data stage counts who bought of late. Known per active
    customer is shrunk towards its segment's ratio; ``alike``: it is the segment's everywhere.
    """
    cells, active = model.cells, weights.customers
    known, on_books = cells.by_label(model.customers), cells.by_label(active)
    # a segment of those who have gone holds next to nobody: what they may still bring is nobody's on the books
    gone = on_books < _GONE * known
    ratio = np.where(gone, 1.0, np.maximum(known / np.maximum(on_books, 1.0), 1.0))[cells.label]
    left = gone[cells.label]
    if not alike:
        own = (model.customers + _PSEUDO_CUSTOMERS * ratio) / (active + _PSEUDO_CUSTOMERS)
        ratio = np.where(left, 1.0, own)
    now = ["clv", "clv_low", "clv_high"]
    before = by_cell["clv"].to_numpy()
    cell_values = by_cell[now].mul(ratio, axis=0)
    equity = active * cell_values["clv"].to_numpy()
    size = len(by_market)
    share = weights.of_customers
    mean = np.bincount(cells.market, weights=share * ratio, minlength=size)
    old = np.bincount(cells.market, weights=share * before, minlength=size)
    new = np.bincount(cells.market, weights=share * before * ratio, minlength=size)
    factor = np.where(old * new > 0, new / np.where(old == 0, 1.0, old), mean)
    market_equity = np.bincount(cells.market, weights=equity, minlength=size)
    return (
        by_cell.assign(**cell_values, customer_equity=equity),
        by_market.assign(**by_market[now].mul(factor, axis=0), customer_equity=market_equity),
    )
