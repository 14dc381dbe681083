"""Which markets can be paired for a test, and which of the pairs make the best test for the money that has to wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.proof.power import POWER, PlaceboSpread, placebo_spread, power_at

MIN_PAIRS = 5  # with fewer, not even the clearest result is rarer than 10% by lot
MATERIAL = 0.10  # smallest rise of a market's money, relative, that is worth testing
_ENOUGH = 0.90  # power beyond which further markets are not made to wait
_WINDOWS = {"week": (8, 10, 13), "month": (2, 3, 4)}
_BEFORE = {"week": (13, 26, 52), "month": (3, 6, 12)}
_DAYS = {"week": 7.0, "month": 365.25 / 12}


@dataclass(frozen=True)
class Candidates:
    """Markets whose money rises, and their pairs.

    Attributes
    ----------
    moves : DataFrame
        Index market_id; current, recommended, change, incremental_value (money), incremental_customers (count), peer.
    counts : array of shape (markets, periods)
        New customers, rows as in ``moves``.
    pairs : int array of shape (pairs, 2)
        Rows of ``moves``.
    """

    moves: pd.DataFrame
    counts: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class Option:
    """One possible test: ``chosen`` pairs, the lift the plan expects and the standard error (both log scale), power.

    ``money``: most spend that may have to wait, whoever is drawn; ``days``: length of the window.
    """

    spread: PlaceboSpread
    chosen: np.ndarray
    expected: float
    error: float
    power: float
    money: float
    days: float


def find_candidates(panel: pd.DataFrame, budget: pd.DataFrame, scores: pd.DataFrame | None) -> Candidates:
    """Rising markets and their nearest partners.

    Parameters
    ----------
    panel, budget, scores : DataFrames
        The artefacts of these names; without ``scores.peer_group`` all markets are one group.
    """
    moves = _moves(panel, budget, scores)
    counts = _counts(panel, moves.index)
    frequency = "week" if _is_weekly(panel) else "month"
    return Candidates(moves, counts, _pairs(moves, counts, frequency))


def _is_weekly(panel: pd.DataFrame) -> bool:
    periods = np.sort(panel["period"].unique())
    return len(periods) < 2 or bool((periods[1] - periods[0]) <= np.timedelta64(10, "D"))


def _moves(panel: pd.DataFrame, budget: pd.DataFrame, scores: pd.DataFrame | None) -> pd.DataFrame:
    """Markets whose money rises materially: change (money), customers and value it should bring, peer group."""
    columns = ["current", "recommended", "incremental_customers", "incremental_value"]
    moves = budget.groupby("market_id", sort=True)[columns].sum()
    moves["change"] = moves["recommended"] - moves["current"]
    moves["peer"] = "all"
    if scores is not None and "peer_group" in scores:
        moves["peer"] = scores.set_index("market_id")["peer_group"].reindex(moves.index).astype(object)
        moves["peer"] = moves["peer"].where(moves["peer"].notna(), "none").astype(str)
    known = moves.index.isin(panel["market_id"])
    rises = (moves["change"] > 0) & (moves["change"] >= MATERIAL * moves["current"])
    return moves[rises & (moves["incremental_customers"] > 0) & known]


def _counts(panel: pd.DataFrame, markets: pd.Index) -> np.ndarray:
    table = panel[panel["market_id"].isin(markets)].pivot_table(
        index="market_id", columns="period", values="new_customers", aggfunc="sum", fill_value=0
    )
    table = table.reindex(index=markets, columns=np.sort(panel["period"].unique()))
    return np.clip(np.nan_to_num(table.to_numpy(dtype=float)), 0, None)


def _pairs(moves: pd.DataFrame, counts: np.ndarray, frequency: str) -> np.ndarray:
    """Nearest partners by log volume and trend within a peer group, shape (pairs, 2): positions in ``moves``."""
    half = min(26 if frequency == "week" else 6, counts.shape[1] // 2)
    if half == 0 or len(moves) < 2:
        return np.empty((0, 2), dtype=int)
    late, early = counts[:, -half:].sum(axis=1), counts[:, -2 * half : -half].sum(axis=1)
    volume = np.log(late + early + 0.5)
    trend = np.log((late + 2) / (early + 2))
    trend *= 0.5 * volume.std() / trend.std() if trend.std() > 0 else 0.0  # volume first: trends are mostly noise
    pairs = []
    for peer in sorted(moves["peer"].unique()):
        free = list(np.flatnonzero((moves["peer"] == peer).to_numpy()))
        free.sort(key=lambda i: (-volume[i], i))
        while len(free) > 1:
            one = free.pop(0)
            distance = [(volume[one] - volume[i]) ** 2 + (trend[one] - trend[i]) ** 2 for i in free[:8]]
            pairs.append((one, free.pop(int(np.argmin(distance)))))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def best_option(candidates: Candidates, frequency: str, plan_days: int, limit: float) -> Option | None:
    """The shortest window whose test is strong enough, else the strongest of all.

    Parameters
    ----------
    candidates : Candidates
    frequency : {"week", "month"}
        Of the panel.
    plan_days : int
        Length of the plan: the increments of the budget are spread evenly over it.
    limit : float
        Most money that may wait, whoever is drawn.

    Returns
    -------
    Option or None
        ``None`` where no window fits into the history, or fewer than five pairs into the limit.
    """
    moves, counts, pairs = candidates.moves, candidates.counts, candidates.pairs
    year = round(365.25 / _DAYS[frequency])
    usual = np.maximum(counts[:, -year:].mean(axis=1), 0.5 / year)
    extra = moves["incremental_customers"].to_numpy(float) / (plan_days / _DAYS[frequency])
    expected = np.log1p(extra / usual)[pairs].mean(axis=1)
    rise = moves["change"].to_numpy(float)[pairs].max(axis=1)
    best = None
    for after in _WINDOWS[frequency]:
        days = after * _DAYS[frequency]
        tried = [placebo_spread(counts, pairs, before, after) for before in _BEFORE[frequency]]
        found = [spread for spread in tried if spread is not None]
        if days > plan_days or not found:
            continue
        # the time before is chosen on the history, before the test, never on its result
        spread = min(found, key=lambda s: s.standard_error(np.arange(len(pairs))))
        option = _grow(spread, expected, rise * days / plan_days, limit, days)
        if option is not None and (best is None or (best.power < POWER and option.power > best.power)):
            best = option
    return best


def _grow(spread: PlaceboSpread, expected: np.ndarray, money: np.ndarray, limit: float, days: float) -> Option | None:
    """Pairs in order of what they add per unit of waiting money, until the test is strong or the limit is reached."""
    order = np.argsort(-(spread.weights * expected**2 / money), kind="stable")
    fits, spent = [], 0.0
    for pair in order:
        if spent + money[pair] <= limit:
            fits.append(int(pair))
            spent += money[pair]
    chosen = np.array(fits, dtype=int)
    if len(chosen) < MIN_PAIRS:
        return None
    option = None
    steps = np.unique(np.geomspace(MIN_PAIRS, len(chosen), 40).round().astype(int))
    for count in steps:
        part = chosen[:count]
        error = spread.standard_error(part)
        lift = float(np.average(expected[part], weights=spread.weights[part]))
        power = power_at(lift, error, int(count))
        candidate = Option(spread, part, lift, error, power, float(money[part].sum()), days)
        if option is None or candidate.power > option.power:
            option = candidate
        if power >= _ENOUGH:
            return candidate
    return option
