"""Tables of the plan joined for showing: by market, by region, by channel, by tenth of value. No new figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.plan.assembly import Plan


def by_market(plan: Plan) -> pd.DataFrame:
    """One row a market, indexed by ``market_id``: names, scores, money, gain, targets and test arm where they exist.

    Money columns: ``current, recommended, change, gain, gain_low, gain_high`` (over the plan period) and
    ``target_revenue``. ``gain_low`` and ``gain_high`` add up cell bounds: wide rather than narrow.
    """
    frame = pd.DataFrame(plan.markets.drop(columns="geometry", errors="ignore")).set_index("market_id")
    t = plan.tables
    if "scores" in t:
        frame = frame.join(t["scores"].set_index("market_id"))
    if "budget" in t:
        names = {"current": "current", "recommended": "recommended", "change": "change", "incremental_value": "gain",
                 "value_low": "gain_low", "value_high": "gain_high"}  # fmt: skip
        frame = frame.join(t["budget"].groupby("market_id")[list(names)].sum().rename(columns=names))
    elif plan.spend is not None:
        frame = frame.join(plan.spend.groupby("market_id")["current"].sum())
    if "targets" in t:
        targets = t["targets"]
        weight = targets["revenue"].where(targets["p_attain"].notna(), 0.0)
        sums = targets.assign(weight=weight, odds=targets["p_attain"].fillna(0) * weight)
        sums = sums.groupby("market_id")[["new_customers", "revenue", "weight", "odds"]].sum()
        frame["target_customers"] = sums["new_customers"]
        frame["target_revenue"] = sums["revenue"]
        frame["p_attain"] = sums["odds"] / sums["weight"].where(sums["weight"] > 0)
    if "tests" in t:
        frame = frame.join(t["tests"].set_index("market_id")[["arm"]])
    return frame


def group_column(plan: Plan) -> str | None:
    """``region`` or else ``territory``: the first that splits the markets in more than one group."""
    for column in ("region", "territory"):
        if plan.markets[column].notna().any() and plan.markets[column].nunique() > 1:
            return column
    return None


def without_shared_word(names: pd.Index) -> pd.Index:
    """Names without a last word that all of them share, as space is short in charts.

    >>> list(without_shared_word(pd.Index(["Kern County", "San Diego County"])))
    ['Kern', 'San Diego']
    """
    texts = [str(n) for n in names]
    last = {t.rsplit(" ", 1)[-1] for t in texts}
    if len(texts) > 1 and len(last) == 1 and all(" " in t for t in texts):
        texts = [t.rsplit(" ", 1)[0] for t in texts]
    return pd.Index(texts, name=names.name)


def grouped(frame: pd.DataFrame, column: str, sums: list[str], most: int = 12) -> pd.DataFrame:
    """Sums of ``sums`` by ``column``, largest first; what is beyond ``most`` groups adds up in a last row "Other"."""
    keys = frame[column].where(frame[column].notna(), "No " + column)
    by = frame[sums].groupby(keys).sum()
    by = by.sort_index().sort_values(sums[0], ascending=False, kind="stable")
    if len(by) > most:
        rest = by.iloc[most - 1 :].sum().to_frame().T
        rest.index = pd.Index([f"Other ({len(by) - most + 1})"])
        by = pd.concat([by.iloc[: most - 1], rest])
    by.index.name = column
    return by


def tenths(plan: Plan, frame: pd.DataFrame) -> pd.DataFrame | None:
    """Shares of spend and of opportunity by tenth of markets ranked by lifetime value (fewer groups below 20 markets).

    ``None`` where spend, opportunity or value is missing, or where the value ranking is not supported.
    """
    if not {"clv", "opportunity", "current"} <= set(frame.columns):
        return None
    if plan.number("value", "signal", "verdict") == "none":
        return None
    known = frame[frame["clv"].notna()].sort_index().sort_values("clv", kind="stable")
    groups = 10 if len(known) >= 20 else 5 if len(known) >= 10 else 0
    spend, opportunity = float(known["current"].sum()), float(known["opportunity"].sum())
    if not groups or spend <= 0 or opportunity <= 0:
        return None
    tenth = np.ceil(np.arange(1, len(known) + 1) / len(known) * groups).astype(int)
    by = known.assign(tenth=tenth).groupby("tenth")[["current", "opportunity"]].sum()
    by["spend_share"] = by["current"] / spend
    by["opportunity_share"] = by["opportunity"] / opportunity
    return by


def misplaced(frame: pd.DataFrame) -> pd.Series | None:
    """Money by market above (below: negative) what it would get if spend followed the opportunity."""
    if not {"opportunity", "current"} <= set(frame.columns):
        return None
    total, room = float(frame["current"].sum()), float(frame["opportunity"].sum())
    if total <= 0 or room <= 0:
        return None
    return (frame["current"].fillna(0) - total * frame["opportunity"].fillna(0) / room).rename("misplaced")


def moves(plan: Plan, most: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The biggest rises and cuts (market x channel) with their reasons, each largest first."""
    budget = plan.tables["budget"].merge(plan.markets[["market_id", "name", "region"]], on="market_id", how="left")
    budget["name"] = budget["name"].fillna(budget["market_id"].astype(str))
    ordered = budget.sort_values(["change", "market_id", "channel"], kind="stable")
    # a move that would read "$0" is none
    least = 1e-6 * float(budget["current"].sum())
    down = ordered[ordered["change"] < -least].head(most)
    up = ordered[ordered["change"] > least].iloc[::-1].head(most)
    return up, down
