"""What pictures of potential are drawn from: shares that luck doesn't move, and what can be mended in each market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.formats import chance, count, rate, rate_unit
from micromarket.potential.causes import FIXABLE

_SHARE = "Our share of those who buy"
_LEAST = 0.05  # of a market's headroom: a cause below that is no reason to go there


@dataclass(frozen=True)
class Share:
    """``values``: fractions by ``market_id``; ``unit``: what they are, in words; ``show`` writes one."""

    values: pd.Series
    unit: str
    show: Callable[[float], str]


def share_of(scores: pd.DataFrame, markets: pd.DataFrame) -> Share:
    """How much of each market is won, from the customers *expected* there, so that a lucky year is no share.

    Of those who buy from anyone where that is known of most markets; else of those who could buy; else of the
    potential.

    Parameters
    ----------
    scores : DataFrame
        ``market_id``, ``potential_customers``, ``headroom``.
    markets : DataFrame
        Artefact ``markets``: ``market_id``, ``market_customers``, ``addressable_customers``.
    """
    by, ground = scores.set_index("market_id"), markets.set_index("market_id").reindex(scores["market_id"])
    expected = (by["potential_customers"] - by["headroom"]).clip(lower=0)
    whole, words = by["potential_customers"], "Part of the potential that is reached"
    for column, name in (("market_customers", _SHARE), ("addressable_customers", "Penetration")):
        size = pd.to_numeric(ground[column], errors="coerce") if column in ground else pd.Series(np.nan, ground.index)
        if (size > 0).mean() >= 0.5:
            whole, words = size.where(size > 0), name
            break
    values = (expected / whole.where(whole > 0)).clip(upper=1.0)
    factor, unit = rate_unit(values.dropna())
    return Share(values, words if factor == 100 else f"{words} ({unit})", lambda value: rate(value, factor))


def standing_of(scores: pd.DataFrame, markets: pd.DataFrame) -> Share:
    """Our share where the market's size is known, else the part of its potential that each market has reached.

    As :func:`share_of`, but never penetration, which is high wherever potential is: the two axes of a picture of
    potential and share would be one.
    """
    share = share_of(scores, markets)
    if share.unit.startswith(_SHARE):
        return share
    return share_of(scores, markets[["market_id"]])


def largest_fixable(causes: pd.DataFrame) -> pd.Series:
    """The cause of most headroom that the company can turn, by ``market_id``; missing where there is none.

    A cause that makes less than a twentieth of its market's headroom doesn't count.
    """
    total = causes.groupby("market_id")["customers"].sum()
    can = causes[(causes["kind"] == FIXABLE) & (causes["customers"] > _LEAST * causes["market_id"].map(total))]
    can = can.sort_values(["market_id", "customers", "cause"], ascending=[True, False, True])
    return can.drop_duplicates("market_id").set_index("market_id")["cause"].reindex(total.index)


def plays_table(scores: pd.DataFrame, money: Callable[[float], str], few: int) -> pd.DataFrame:
    """What each play is asked to win: markets, customers there, customers to be won, money; most money first.

    Customers of fewer than ``few`` are not told.
    """
    by = scores.groupby("play").agg(
        markets=("market_id", "size"), customers=("customers", "sum"), headroom=("headroom", "sum"),
        opportunity=("opportunity", "sum"),
    )  # fmt: skip
    by = by.sort_index().sort_values("opportunity", ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "markets": by["markets"].map(count),
            "customers": by["customers"].where(by["customers"] >= few).map(count),
            "customers to be won": by["headroom"].map(count),
            "money": by["opportunity"].map(money),
        },
        index=by.index,
    )


def largest_opportunities(
    scores: pd.DataFrame, markets: pd.DataFrame, money: Callable[[float], str], few: int, most: int = 10
) -> pd.DataFrame:
    """The markets with most money to be won: what is there, why it isn't ours, and what to do.

    Customers of fewer than ``few`` are not told.
    """
    part = scores.sort_values(["opportunity", "market_id"], ascending=[False, True]).head(most)
    ground = markets.set_index("market_id").reindex(part["market_id"])
    out = pd.DataFrame({"market": part["market_id"].astype(str).to_numpy()})
    if "name" in ground:
        names = ground["name"].reset_index(drop=True)
        out["market"] = names.where(names.notna(), out["market"])
    if "region" in ground and ground["region"].notna().any():
        out["region"] = ground["region"].fillna("").to_numpy()
    part = part.reset_index(drop=True)
    out["customers"] = part["customers"].where(part["customers"] >= few).map(count)
    out["to be won"] = [
        f"{count(h)} ({count(low)} to {count(high)})"
        for h, low, high in zip(part["headroom"], part["headroom_low"], part["headroom_high"], strict=True)
    ]
    out["money"] = part["opportunity"].map(money)
    if "top_fifth" in part:
        out["odds of top fifth"] = part["top_fifth"].map(chance)
    for column in ("cause", "quadrant", "play"):
        out["largest cause" if column == "cause" else column] = part[column]
    return out.set_index("market")


__all__ = ["Share", "largest_fixable", "largest_opportunities", "plays_table", "share_of", "standing_of"]
