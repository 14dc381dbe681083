"""Reps bound what a territory can sell: utilisation, and whole persons moved to where the next one brings most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.targets.cells import CellForecast

NO_TERRITORY = "No territory"


@dataclass(frozen=True)
class Staff:
    """Territories, arrays of shape (territories,).

    Attributes
    ----------
    reps : persons today (may be fractions)
    each : new customers that one rep can win over the plan
    demand, sd : new customers to be won if reps were no limit: mean and standard deviation (counts)
    value : money of one new customer (contribution margin over the horizon)
    group : int; persons move inside a group only
    """

    reps: np.ndarray
    each: np.ndarray
    demand: np.ndarray
    sd: np.ndarray
    value: np.ndarray
    group: np.ndarray

    def worth(self, change: np.ndarray, ramp: float) -> np.ndarray:
        """Expected money of each territory with ``change`` persons more (whole, shape (territories,)).

        Expected customers are ``E[min(demand, capacity)]``, demand normal: concave in persons. Who arrives counts with
        ``ramp`` (0 to 1) over the plan.
        """
        persons = self.reps + np.where(change > 0, ramp * change, change)
        return self.value * expected_least(self.demand, self.sd, np.maximum(persons, 0.0) * self.each)


def expected_least(mean: np.ndarray, sd: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """``E[min(X, limit)]`` of normal ``X``: ``mean - (mean - limit) Φ(u) - sd φ(u)``, u = (mean - limit) / sd."""
    safe = np.maximum(sd, 1e-12)
    u = np.clip((mean - limit) / safe, -40, 40)
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    return mean - (mean - limit) * ndtr(u) - safe * density


def move_reps(staff: Staff, most: int, ramp: float = 1.0, least: float = 0.0) -> np.ndarray:
    """The best change of whole persons by territory: each group keeps its number, at most ``most`` persons move.

    A move that brings ``least`` money or less is not made.

    A territory never gives its last whole person. Territories' worth is concave in persons, so the best ``k`` moves of
    a group are its ``k`` dearest arrivals paid by its ``k`` cheapest departures, and the best of all groups together
    are those with the largest differences: greedy is exact (Fox 1966, marginal analysis; Federgruen and Groenevelt
    1986). Equal moves: the earlier territory.

    Returns
    -------
    int array of shape (territories,) that adds up to 0 in every group
    """
    count = len(staff.reps)
    change = np.zeros(count, dtype=np.int64)
    can_give = np.maximum(np.floor(staff.reps + 1e-9) - 1, 0).astype(np.int64)
    least = max(least, 1e-9 * float(np.abs(staff.worth(change, ramp)).max(initial=0.0)))

    def step(by: int) -> np.ndarray:
        return staff.worth(change + by, ramp) - staff.worth(change, ramp)

    for _ in range(most):
        gain, loss = step(1), -step(-1)
        gain = np.where(change >= 0, gain, -np.inf)  # who gives doesn't take
        loss = np.where((change <= 0) & (change > -can_give), loss, np.inf)
        best, pair = least, None
        for code in np.unique(staff.group):
            inside = np.flatnonzero(staff.group == code)
            to, source = inside[np.argmax(gain[inside])], inside[np.argmin(loss[inside])]
            if to == source:
                continue
            if gain[to] - loss[source] > best:
                best, pair = float(gain[to] - loss[source]), (source, to)
        if pair is None:
            break
        change[pair[0]] -= 1
        change[pair[1]] += 1
    return change


@dataclass(frozen=True)
class Capacity:
    """What reps can sell: ``table`` as the artefact ``capacity`` (None: no reps known), and numbers of the notes."""

    table: pd.DataFrame | None
    numbers: dict[str, Any] = field(default_factory=dict)


def plan_capacity(
    data: MarketData, keys: pd.DataFrame, cells: CellForecast, sigma: np.ndarray, customers: np.ndarray,
    value: np.ndarray, settings: Settings,
) -> Capacity:  # fmt: skip
    """Utilisation of the reps by territory under the targets, and the moves that pay most.

    Parameters
    ----------
    data : MarketData
        ``markets`` with territory, region, reps and capacity (new customers its reps can win in a year).
    keys : DataFrame
        market_id of every cell.
    cells : CellForecast
    sigma : array of shape (cells,)
        Standard deviation of revenue over the plan; money.
    customers : int array of shape (cells,)
        New customers of the targets.
    value : array of shape (cells,)
        Contribution margin of a new customer over the horizon; money.
    """
    markets = data.markets.drop_duplicates("market_id").set_index("market_id")
    reps = _number(markets, "reps")
    if not (reps > 0).any():
        return Capacity(None)
    names = _territories(markets)
    order = sorted(set(names))
    at = pd.Series(names.map({name: i for i, name in enumerate(order)}), index=markets.index)
    count, years = len(order), settings.plan.years
    persons = np.bincount(at, reps.fillna(0.0), count)
    stated = np.bincount(at, _number(markets, "capacity").fillna(0.0) * years, count)
    cell = keys["market_id"].map(at).to_numpy(np.int64)
    won = np.bincount(cell, np.minimum(cells.recent * years, 1e15), count)
    capacity = np.where(stated > 0, np.maximum(stated, won), np.nan)  # more was won than stated: it doesn't bind there
    known = (persons > 0) & np.isfinite(capacity)
    demand = np.bincount(cell, np.minimum(cells.wanted, cells.cap_potential), count)
    target = np.bincount(cell, customers, count)
    region = _regions(markets, at, persons, count)
    table = pd.DataFrame({
        "territory": order, "region": region, "markets": np.bincount(at, minlength=count), "reps": persons,
        "capacity": capacity, "wanted": demand, "target": target,
    })  # fmt: skip
    table["utilisation"] = table["target"] / table["capacity"].where(table["capacity"] > 0)
    change, gain, next_one = np.zeros(count, dtype=np.int64), 0.0, np.full(count, np.nan)
    rules = settings.targets.reps
    if known.any():
        typical = float(capacity[known].sum() / persons[known].sum())
        weight = cells.wanted + 1e-9
        staff = Staff(
            persons,
            np.where(known, capacity / np.where(persons > 0, persons, 1.0), typical),
            demand,
            np.sqrt(np.bincount(cell, _customer_sd(cells, sigma) ** 2, count)),
            np.maximum(np.bincount(cell, value * weight, count) / np.bincount(cell, weight, count), 0.0),
            pd.factorize(pd.Series(region) if rules.within == "region" else pd.Series([""] * count), sort=True)[0],
        )
        ramp = 1 - min(rules.ramp_months / 2 / max(12 * years, 1e-9), 1.0)
        least = rules.min_gain * float(np.median((staff.each * staff.value)[persons > 0]))
        change = move_reps(staff, int(rules.max_moves * persons.sum() + 1e-9), ramp, least)
        gain = float((staff.worth(change, ramp) - staff.worth(0 * change, ramp)).sum())
        next_one = staff.worth(0 * change + 1, ramp) - staff.worth(0 * change, ramp)
        after = np.where(change > 0, ramp * change, change) + persons
        bound = np.where(known | (change != 0), after * staff.each, np.nan)
        table["change"], table["reps_after"], table["value_of_next"] = change, persons + change, next_one
        table["utilisation_after"] = table["target"] / pd.Series(bound).where(lambda b: b > 0)
    else:
        table["change"], table["reps_after"], table["value_of_next"] = 0, persons, np.nan
        table["utilisation_after"] = np.nan
    moved = _pairs(table, rules.within)
    total = float(np.nansum(np.where(known, capacity, 0.0)))
    numbers = {
        "reps": round(float(persons.sum()), 2),
        "capacity": round(total, 1) if known.any() else None,
        "utilisation": float(target[known].sum() / total) if total > 0 else None,
        "overloaded": int((table["utilisation"] > 1).sum()),
        "idle": int((table["utilisation"] < 0.5).sum()),
        "moved": int(change[change > 0].sum()),
        "most": int(rules.max_moves * persons.sum() + 1e-9),
        "gain": round(gain, 2),
        "moves": moved,
    }
    return Capacity(table, numbers)


def _customer_sd(cells: CellForecast, sigma: np.ndarray) -> np.ndarray:
    """Spread of the new customers that could be won: as wide, relatively, as revenue's, and at least a count's."""
    relative = sigma / np.maximum(cells.mu, 1e-9)
    return np.sqrt(np.maximum(cells.wanted, 0) + (np.minimum(relative, 1.0) * cells.wanted) ** 2)


def _number(markets: pd.DataFrame, column: str) -> pd.Series:
    empty = pd.Series(np.nan, index=markets.index)
    return pd.to_numeric(markets.get(column, empty)).astype(float)


def _territories(markets: pd.DataFrame) -> pd.Series:
    """Territory of each market; where the company names none, each region, else all in one."""
    for column in ("territory", "region"):
        if column in markets and markets[column].notna().any():
            return markets[column].astype(object).where(markets[column].notna(), NO_TERRITORY).map(str)
    return pd.Series(NO_TERRITORY, index=markets.index, dtype=object)


def _regions(markets: pd.DataFrame, at: pd.Series, persons: np.ndarray, count: int) -> list[str]:
    """Region of each territory: the one with most of its reps."""
    named = markets.get("region", pd.Series(None, index=markets.index, dtype=object))
    frame = pd.DataFrame({"at": at, "region": named.astype(object).where(named.notna(), "").map(str),
                          "reps": _number(markets, "reps").fillna(0.0)})  # fmt: skip
    by = frame.groupby(["at", "region"], sort=True)["reps"].sum().reset_index()
    first = by.sort_values(["at", "reps", "region"], ascending=[True, False, True]).drop_duplicates("at")
    return [str(r) for r in first.sort_values("at")["region"]]


def _pairs(table: pd.DataFrame, within: str) -> list[dict[str, Any]]:
    """Moves as from, to, reps: inside each group givers and takers in their order."""
    out: list[dict[str, Any]] = []
    parts = [p for _, p in table.groupby("region", sort=True)] if within == "region" else [table]
    for part in parts:
        names, regions, changes = (part[c].tolist() for c in ("territory", "region", "change"))
        rows = [(str(t), str(r), int(c)) for t, r, c in zip(names, regions, changes, strict=True)]
        gives = [(name, -change) for name, _, change in rows if change < 0]
        for name, region, need in rows:
            while need > 0 and gives:
                source, left = gives[0]
                step = min(need, left)
                out.append({"from": source, "to": name, "region": region, "reps": step})
                need -= step
                gives = gives[1:] if step == left else [(source, left - step), *gives[1:]]
    return out
