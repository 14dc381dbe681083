"""Which way the money goes: the one count of markets that headline and pages share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOSTLY = 0.75  # part of the rises that must go to under-served markets before the headline says so
WORST = 1 / 3  # part of the markets that counts as "worth least"


@dataclass(frozen=True)
class Direction:
    """Net change of money by market.

    Attributes
    ----------
    up, down : int
        Markets that get more and less, over all channels.
    under_served : int
        Of those that get more: markets whose share of the opportunity is larger than their share of the money today.
        0 where opportunity is unknown.
    to_under_served : float
        Part (0 to 1) of the rises that goes to them.
    from_worst : float or None
        Part of the cuts that comes from the third of markets with the lowest customer lifetime value; ``None`` where
        the data don't support that order.
    """

    up: int
    down: int
    under_served: int
    to_under_served: float
    from_worst: float | None

    @property
    def mostly_under_served(self) -> bool:
        return self.under_served > 0 and self.to_under_served >= MOSTLY

    @property
    def mostly_from_worst(self) -> bool:
        return self.from_worst is not None and self.from_worst >= 0.5


def direction(
    tables: Mapping[str, pd.DataFrame], *, value_ranked: bool = True, potential_ranked: bool = True
) -> Direction:
    """Reads the direction off the published ``budget`` and ``scores``; a rank that isn't supported plays no part."""
    by = tables["budget"].groupby("market_id", sort=True)[["current", "change"]].sum()
    least = 1e-6 * float(by["current"].sum())  # a move that would read "$0" is none
    up, down = by[by["change"] > least], by[by["change"] < -least]
    under, part, worst = 0, 0.0, None
    if "scores" in tables:
        scores = tables["scores"].set_index("market_id")
        total = float(by["current"].sum())
        if potential_ranked and total > 0 and len(up):
            share = scores["opportunity_share"].reindex(up.index)
            more = (share > up["current"] / total).to_numpy()
            under, part = int(more.sum()), float(up.loc[more, "change"].sum() / up["change"].sum())
        if value_ranked and len(down) and scores["clv"].notna().sum() >= 10:
            low = (scores["clv"].rank(pct=True) <= WORST).reindex(down.index)
            worst = float(down.loc[np.asarray(low == True), "change"].sum() / down["change"].sum())  # noqa: E712
    return Direction(len(up), len(down), under, part, worst)
