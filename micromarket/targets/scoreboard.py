"""One scoreboard: what marketing and sales each measure, translated into the same contribution margin."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.periods import last_whole_month, month_number
from micromarket.targets.cells import fill_by_segment

STEPS = ("leads", "mql", "sal", "sql")
_PSEUDO_LEADS = 50.0  # of the company, when a segment's odds are estimated
_KEYS = ["market_id", "segment"]


def build_scoreboard(
    targets: pd.DataFrame, each: pd.Series, data: MarketData, value_cells: pd.DataFrame | None,
    budget: pd.DataFrame | None, margin_rate: float | None, settings: Settings,
) -> pd.DataFrame | None:  # fmt: skip
    """Market x segment over the plan, from both sides; ``None`` without a margin.

    Parameters
    ----------
    targets : DataFrame
        The table ``targets``.
    each : Series
        Revenue inside the plan of one new customer (money), by market_id and segment (segments may be missing).
    value_cells : DataFrame, optional
        ``new_customer_clv``; without it a new customer counts with its margin inside the plan.

    Returns
    -------
    DataFrame
        ``margin``: contribution margin of the targets inside the plan, ``margin_new`` its part from new customers;
        ``later_margin``: what those bring after the plan, within the horizon; ``spend``: marketing money of the plan;
        ``contribution = margin + later_margin - spend``: the one figure for both. ``win_value`` and ``lead_value``,
        ``mql_value``, ``sal_value``, ``sql_value``: contribution margin that one win, and one lead that got so far, is
        worth (win value times its odds to be won). ``reps``, ``contribution_per_rep``, ``cost_per_customer``.
    """
    if margin_rate is None:
        return None
    sums = targets.groupby(_KEYS, sort=True)[["new_customers", "revenue", "margin"]].sum().reset_index()
    segment, won = sums["segment"].to_numpy(), sums["new_customers"].to_numpy(float)
    inside = each.reindex(pd.MultiIndex.from_frame(sums[_KEYS])).to_numpy(float)
    if not np.isfinite(inside).any():
        by_market = each.groupby(level=0).mean()
        inside = sums["market_id"].map(by_market).to_numpy(float)
    inside = margin_rate * fill_by_segment(inside, segment, won, 0.0)
    worth = np.full(len(sums), np.nan)
    if value_cells is not None and "new_customer_clv" in value_cells:
        known = value_cells.set_index(_KEYS)["new_customer_clv"].reindex(pd.MultiIndex.from_frame(sums[_KEYS]))
        worth = fill_by_segment(known.to_numpy(float), segment, won, np.nan)
    worth = np.where(np.isfinite(worth), worth, inside)
    margin = sums["margin"].to_numpy(float)
    sums["margin_new"] = np.minimum(won * inside, np.maximum(_by_market(sums, margin), 0.0))
    sums["later_margin"] = np.maximum(won * worth - sums["margin_new"].to_numpy(), 0.0)
    sums["spend"] = _over_segments(sums, budget, "recommended")
    sums["contribution"] = margin + sums["later_margin"] - sums["spend"].fillna(0.0)
    sums["win_value"] = worth
    odds = odds_by_step(data.leads, sorted(set(map(str, segment))), settings)
    for step in STEPS:
        column = "lead_value" if step == "leads" else f"{step}_value"
        sums[column] = worth * sums["segment"].map(odds[step]).to_numpy(float) if odds is not None else np.nan
    markets = data.markets.drop_duplicates("market_id")
    sums["reps"] = _over_segments(sums, markets if "reps" in markets else None, "reps")
    sums["contribution_per_rep"] = sums["contribution"] / sums["reps"].where(sums["reps"] > 0)
    sums["cost_per_customer"] = sums["spend"] / sums["new_customers"].where(sums["new_customers"] > 0)
    return sums


def by(board: pd.DataFrame, keys: pd.Series | str) -> pd.DataFrame:
    """The scoreboard summed over other groups; what one win or lead is worth is the mean over new customers."""
    money = ["new_customers", "revenue", "margin", "margin_new", "later_margin", "spend", "contribution", "reps"]
    out = board.groupby(keys, sort=True)[money].sum(min_count=1)
    weight = board["new_customers"] + 1e-9
    for column in ("win_value", "lead_value", "mql_value", "sal_value", "sql_value"):
        known = board[column].notna()
        total = (board[column].fillna(0.0) * weight).groupby(board[keys] if isinstance(keys, str) else keys).sum()
        base = weight.where(known, 0.0).groupby(board[keys] if isinstance(keys, str) else keys).sum()
        out[column] = total / base.where(base > 0)
    out["contribution_per_rep"] = out["contribution"] / out["reps"].where(out["reps"] > 0)
    out["cost_per_customer"] = out["spend"] / out["new_customers"].where(out["new_customers"] > 0)
    return out


def odds_by_step(leads: pd.DataFrame | None, segments: list[str], settings: Settings) -> pd.DataFrame | None:
    """Share of leads that got so far which were won, by segment (rows) and step, pooled with 50 leads of the company.

    Only leads old enough to be decided count: older than twice the mean time to a win, of the two years before that.
    ``None`` where no lead was ever won.
    """
    if leads is None or leads.empty or not float(leads["won"].sum()) > 0:
        return None
    lag = float((leads["lag_days"].fillna(0) * leads["won"]).sum() / leads["won"].sum())
    age = last_whole_month(settings.as_of) - month_number(leads["month"])
    wait = int(np.ceil(2 * lag / 30.4))
    used = leads[(age >= wait) & (age < wait + 24)]
    if not float(used["won"].sum()) > 0:
        used = leads
    columns = [*STEPS, "won"]
    sums = used.groupby("segment", sort=True)[columns].sum().reindex(segments).fillna(0.0)
    totals = used[columns].sum()
    out = pd.DataFrame(index=pd.Index(segments, name="segment"))
    for step in STEPS:
        company = min(float(totals["won"] / totals[step]), 1.0) if totals[step] > 0 else 1.0
        own = (sums["won"] + _PSEUDO_LEADS * company) / (sums[step] + _PSEUDO_LEADS)
        out[step] = own.clip(upper=1.0)
    return out


def _by_market(sums: pd.DataFrame, margin: np.ndarray) -> np.ndarray:
    """Margin of each row's market: where customers pass on, a new one's revenue shows in other segments."""
    return pd.Series(margin).groupby(sums["market_id"].to_numpy()).transform("sum").to_numpy()


def _over_segments(sums: pd.DataFrame, table: pd.DataFrame | None, column: str) -> np.ndarray:
    """A market's total over its segments: by new customers, where there are none by revenue."""
    if table is None or column not in table:
        return np.full(len(sums), np.nan)
    total = pd.to_numeric(table[column]).groupby(table["market_id"]).sum(min_count=1)
    weight = sums["new_customers"].to_numpy(float)
    groups = sums["market_id"].to_numpy()
    all_of = pd.Series(weight).groupby(groups).transform("sum").to_numpy()
    weight = np.where(all_of > 0, weight, sums["revenue"].to_numpy(float) + 1e-9)
    share = weight / pd.Series(weight).groupby(groups).transform("sum").to_numpy()
    return sums["market_id"].map(total).to_numpy(float) * share
