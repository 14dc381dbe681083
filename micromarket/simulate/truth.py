"""The truth beside a simulated company, and what any budget would really bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix, hstack, vstack

from micromarket.errors import InputError, Problem
from micromarket.simulate.curves import WEEKS, saturate, steady_stock
from micromarket.simulate.tables import write_table
from micromarket.workspace import write_json

_STEPS = 32  # pieces of each curve above the current money, and half of that below (fewer above 10,000 cells)


@dataclass(frozen=True)
class Truth:
    """A simulated company's truth. Rows: markets (m) and channels (c), in the order of ``markets`` and ``channels``.

    A budget is a frame with market_id, channel and ``amount`` (or ``recommended``, or ``current``): money over the plan
    period; cells that it leaves out get nothing. What a budget brings is counted as if the plan's weeks were repeated
    for ever, so that carry-over beyond the plan's end is in, and that of today's spend is out.

    Attributes
    ----------
    markets : market_id, customers, potential_customers, headroom, clv, new_customer_clv, opportunity, …
        ``customers`` are those truly there; ``clv`` is per ``known_customers``: the same people where there are
        contracts, everyone who ever bought where there are none.
    cells : the same by market x segment, with true churn or purchase parameters.
    response : market_id, channel, current (money over the plan period), amplitude, scale, incremental_customers and
        value_per_customer, revenue_per_customer (money: over the horizon; within the plan period), of customers
        wherever they live; decay, where it differs by market.
    calendar : region, channel, week, multiple (mean 1): how a budget is spread over the plan's weeks.
    facts : company-wide numbers: channels' decay and curve, conversion rates, lags, plan revenue without spend, …
    """

    markets: pd.DataFrame
    cells: pd.DataFrame
    response: pd.DataFrame
    calendar: pd.DataFrame
    rates: pd.DataFrame
    facts: Mapping[str, Any]
    story: Mapping[str, Any]

    @classmethod
    def read(cls, directory: str | Path) -> Truth:
        """From ``DIR/truth``, or from a folder that holds it."""
        folder = Path(directory)
        if not (folder / "facts.json").exists() and (folder / "truth" / "facts.json").exists():
            folder = folder / "truth"
        if not (folder / "facts.json").exists():
            raise InputError([Problem(str(directory), "a folder with the truth of a simulated company")])
        tables: dict[str, Any] = {t: pd.read_parquet(folder / f"{t}.parquet") for t in _TABLES}
        texts: dict[str, Any] = {
            t: json.loads((folder / f"{t}.json").read_text(encoding="utf-8")) for t in ("facts", "story")
        }
        return cls(**tables, **texts)

    def write(self, folder: Path) -> None:
        """Into ``folder``, one parquet file a table."""
        for table in _TABLES:
            write_table(getattr(self, table), folder / f"{table}.parquet")
        write_json(folder / "facts.json", self.facts)
        write_json(folder / "story.json", self.story)

    # --- budgets ----------------------------------------------------------------------------------------------------
    @property
    def channels(self) -> list[str]:
        """Names of the channels, in the order of every array."""
        return list(self.facts["channels"])

    @property
    def current(self) -> pd.DataFrame:
        """market_id, channel, amount: last year's spend, as money of the plan period."""
        return self.response[["market_id", "channel", "current"]].rename(columns={"current": "amount"})

    def incremental_customers(self, budget: pd.DataFrame | np.ndarray) -> pd.DataFrame:
        """market_id, channel, amount, customers: new customers that the money brings, against spending nothing."""
        money = self._matrix(budget)
        frame = self.response[["market_id", "channel"]].copy()
        frame["amount"] = money.ravel()
        frame["customers"] = self._customers(money[..., None])[..., 0].ravel()
        return frame

    def value_of(self, budget: pd.DataFrame | np.ndarray) -> float:
        """Money: discounted margin over the horizon of the new customers that the budget brings, before its cost."""
        return self._worth(budget, "value_per_customer")

    def revenue_of(self, budget: pd.DataFrame | np.ndarray) -> float:
        """Money: the company's expected revenue over the plan period under the budget."""
        return self.facts["plan_revenue_without_spend"] + self._worth(budget, "revenue_per_customer")

    def growth_of(self, budget: pd.DataFrame | np.ndarray) -> float:
        """Fraction: revenue of the plan period against the year before."""
        return self.revenue_of(budget) / self.facts["revenue_last_year"] - 1

    def best_budget(
        self,
        total: float | None = None,
        max_shift: float = 0.30,
        market_change: tuple[float, float] = (0.5, 2.0),
        cell_change: tuple[float, float] = (0.0, 3.0),
        objective: str = "value",
    ) -> pd.DataFrame:
        """The budget that truly brings most within the contract's limits: market_id, channel, amount, current.

        The curves are cut into straight pieces and the linear programme is solved exactly by HiGHS; where they are
        concave the loss against the continuous optimum is below a thousandth of the gain. Curves with a threshold are
        replaced by their concave envelope, whose optimum rests on levels that the curve itself reaches, but for one
        cell a binding limit or so. Changes and ``max_shift`` refer to the current
        money scaled to ``total``.

        Raises
        ------
        InputError
            Where the limits allow no budget.
        """
        now = self._matrix(self.current)
        if total is not None and now.sum() > 0:
            now = now * total / now.sum()
        m, c = now.shape
        steps = _STEPS if m * c <= 10_000 else _STEPS // 2
        middle = steps // 2
        ends = np.r_[-np.linspace(1, 0, middle + 1)[:-1] * (1 - cell_change[0]),
                     np.linspace(0, 1, steps + 1) ** 1.5 * (cell_change[1] - 1)]  # fmt: skip
        levels = now[..., None] * (1 + ends)
        worth = self.response[f"{objective}_per_customer"].to_numpy().reshape(m, c, 1)
        brought = self._customers(levels) * worth
        if any(self.facts["channels"][k]["curve"] == "threshold" for k in self.channels):
            brought = _envelope(levels.reshape(m * c, -1), brought.reshape(m * c, -1)).reshape(levels.shape)
        gained = np.diff(brought, axis=2)
        width = np.diff(levels, axis=2)
        lose, win = slice(0, middle), slice(middle, None)
        # variables: money taken from each piece below the current money, money put into each piece above it
        slope = np.divide(gained, width, out=np.zeros_like(gained), where=width > 0)
        cost = np.r_[slope[..., lose].ravel(), -slope[..., win].ravel()]
        room = np.r_[width[..., lose].ravel(), width[..., win].ravel()]
        n_lose, n_win = m * c * middle, m * c * (ends.size - 1 - middle)
        down, up = _by_market(m, n_lose), _by_market(m, n_win)
        market = now.sum(1)
        limits = vstack([
            hstack([-down, up]), hstack([down, -up]), csr_matrix(np.r_[np.zeros(n_lose), np.ones(n_win)][None])
        ])  # fmt: skip
        bounds = np.r_[(market_change[1] - 1) * market, (1 - market_change[0]) * market, max_shift * now.sum()]
        balance = csr_matrix(np.r_[-np.ones(n_lose), np.ones(n_win)][None])
        limit = np.c_[np.zeros_like(room), room]
        solved = linprog(cost, limits, bounds, balance, [0.0], bounds=limit, method="highs-ipm")
        if solved.x is None:
            raise InputError([Problem("budget", "limits that some budget keeps to")])
        taken = solved.x[:n_lose].reshape(m, c, -1).sum(2)
        put = solved.x[n_lose:].reshape(m, c, -1).sum(2)
        frame = self.response[["market_id", "channel"]].copy()
        frame["amount"] = np.maximum(now - taken + put, 0).ravel()
        frame["current"] = now.ravel()
        return frame

    # --- inside -----------------------------------------------------------------------------------------------------
    def _worth(self, budget: pd.DataFrame | np.ndarray, each: str) -> float:
        customers = self.incremental_customers(budget)["customers"].to_numpy()
        return float(customers @ self.response[each].to_numpy())

    def _matrix(self, budget: pd.DataFrame | np.ndarray) -> np.ndarray:
        shape = (len(self.markets), len(self.channels))
        if isinstance(budget, np.ndarray):
            return budget.reshape(shape).astype(float)
        column = next((k for k in ("amount", "recommended", "current") if k in budget.columns), None)
        if column is None:
            raise InputError([Problem("budget", "one of the columns amount, recommended, current")])
        money = budget.groupby(["market_id", "channel"])[column].sum()
        wanted = pd.MultiIndex.from_frame(self.response[["market_id", "channel"]])
        strange = money.index.difference(wanted)
        if len(strange) and money.loc[strange].sum() > 0:
            raise InputError([Problem("budget", "markets and channels of the company", value=str(strange[0]))])
        return money.reindex(wanted).fillna(0.0).to_numpy(dtype=float).reshape(shape)

    def _customers(self, levels: np.ndarray) -> np.ndarray:
        """New customers over the plan for money ``levels`` (m, c, n)."""
        m, c, n = levels.shape
        curves = [self.facts["channels"][k]["curve"] for k in self.channels]
        if "decay" in self.response:
            decay: Any = self.response["decay"].to_numpy().reshape(m, c)
        else:
            decay = [self.facts["channels"][k]["decay"] for k in self.channels]
        amplitude = self.response["amplitude"].to_numpy().reshape(m, c)
        scale = self.response["scale"].to_numpy().reshape(m, c)
        years = self.facts["plan_weeks"] / WEEKS
        rhythm = self._steady_calendar(decay)
        out = np.zeros_like(levels)
        for i in range(n):  # a year's weeks in memory once, not n times
            a = levels[..., i, None] / self.facts["plan_weeks"] * rhythm
            out[..., i] = saturate(a / scale[..., None], curves, axis=1).sum(2) * amplitude * years
        return out

    def _steady_calendar(self, decay: Any) -> np.ndarray:
        """Stock (m, c, 52) that one unit of money a week leaves when spread by the calendar."""
        table = self.calendar.pivot_table(index=["region", "channel"], columns="week", values="multiple", sort=False)
        regions = list(dict.fromkeys(self.calendar["region"]))
        cube = np.stack([[table.loc[(r, c)].to_numpy() for c in self.channels] for r in regions])
        code = pd.Index(regions).get_indexer(self.markets["region"])
        return steady_stock(cube[code], decay) if np.ndim(decay) == 2 else steady_stock(cube, decay)[code]


_TABLES = ("markets", "cells", "response", "calendar", "rates")


def _envelope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least concave curve above each row of ``y`` over rising ``x``, at ``x``: its upper convex hull."""
    out = y.copy()
    for row in range(len(x)):
        hull: list[int] = []
        for i in range(x.shape[1]):
            while len(hull) >= 2:
                a, b = hull[-2], hull[-1]
                left = (y[row, b] - y[row, a]) * (x[row, i] - x[row, a])
                if left > (y[row, i] - y[row, a]) * (x[row, b] - x[row, a]):
                    break
                hull.pop()
            hull.append(i)
        out[row] = np.interp(x[row], x[row, hull], y[row, hull])
    return out


def _by_market(m: int, n: int) -> csr_matrix:
    """(m, n) sums of n variables that are ordered by market."""
    row = np.repeat(np.arange(m), n // m)
    return coo_matrix((np.ones(n), (row, np.arange(n))), shape=(m, n)).tocsr()


def true_value(directory: str | Path, budget: pd.DataFrame) -> dict[str, float]:
    """What ``budget`` (market_id, channel, amount or recommended: money over the plan period) would really bring.

    Returns
    -------
    dict
        ``spend`` (money), ``customers`` (incremental, count), ``value`` (money: their discounted margin),
        ``value_of_current`` (the same of keeping last year's spend), ``gain`` (the difference), ``revenue`` and
        ``growth`` (of the company over the plan period; fraction against last year).
    """
    truth = Truth.read(directory)
    now = truth.value_of(truth.current)
    brought = truth.incremental_customers(budget)
    value = truth.value_of(budget)
    return {
        "spend": float(brought["amount"].sum()),
        "customers": float(brought["customers"].sum()),
        "value": value,
        "value_of_current": now,
        "gain": value - now,
        "revenue": truth.revenue_of(budget),
        "growth": truth.growth_of(budget),
    }
