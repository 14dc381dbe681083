"""The budget by segment: what a channel's new customers are worth where they live, and whom the money wins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
# A channel's customers are worth a third to three times a market's usual ones: beyond that lies chance.
LEAST, MOST = 1 / 3, 3.0


def relative_value(mix: pd.DataFrame | None, market_id: NDArray[Any], channel: NDArray[Any], value: Array) -> Array:
    """Value of a channel's new customer over that of the market's usual one, by cell; 1 where the mix isn't known.

    Parameters
    ----------
    mix : DataFrame or None
        Artefact channel_segments.
    market_id, channel, value : arrays (cells,)
        Names, and money per usual new customer of the market.
    """
    if mix is None or mix.empty:
        return np.ones(len(market_id))
    worth = (mix["share"] * mix["new_customer_clv"]).groupby([mix["market_id"], mix["channel"]]).sum()
    keys = pd.MultiIndex.from_arrays([np.asarray(market_id, dtype=object), np.asarray(channel, dtype=object)])
    own = worth.reindex(keys).to_numpy(float)
    ok = np.isfinite(own) & (own > 0) & (value > 0)
    return np.where(ok, np.clip(np.where(ok, own, 1.0) / np.where(ok, value, 1.0), LEAST, MOST), 1.0)


def by_segment(mix: pd.DataFrame | None, budget: pd.DataFrame) -> pd.DataFrame | None:
    """What the plan changes by market and segment: market_id, segment, incremental_customers, incremental_value.

    Channels whose mix isn't known win the mix of the market's other channels. Sums over segments are the budget's.
    """
    if mix is None or mix.empty:
        return None
    moved = budget[["market_id", "channel", "incremental_customers", "incremental_value"]]
    known = moved.merge(mix, on=["market_id", "channel"], how="inner")
    usual = mix.groupby(["market_id", "segment"], as_index=False)[["share", "new_customer_clv"]].mean()
    paired = pd.MultiIndex.from_frame(mix[["market_id", "channel"]].drop_duplicates())
    other = moved[~pd.MultiIndex.from_frame(moved[["market_id", "channel"]]).isin(paired)]
    both = pd.concat([known, other.merge(usual, on="market_id", how="inner")], ignore_index=True)
    worth = both["share"] * both["new_customer_clv"]
    whole = worth.groupby([both["market_id"], both["channel"]]).transform("sum")
    both["incremental_customers"] *= both["share"]
    both["incremental_value"] *= (worth / whole.where(whole > 0)).fillna(both["share"])
    return both.groupby(["market_id", "segment"], as_index=False)[["incremental_customers", "incremental_value"]].sum()
