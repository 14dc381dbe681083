"""Whom each channel wins: the mix of segments of its new customers in every market.

A channel's customers by segment, against what they would be if it won its markets' usual mix, give its leaning to
each segment; a market's mix by channel is its usual mix times that leaning. Who is booked under a channel may have come
anyway, so the leaning is, if anything, too small.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.value.customers_won import Purchased
from micromarket.value.model import Cells

# A channel's leaning to a segment is shrunk to none by this many expected customers (gamma prior with mean 1).
PRIOR_CUSTOMERS = 30.0
COLUMNS = ("market_id", "channel", "segment", "share", "new_customer_clv")


def channel_segments(bought: Purchased, cells: Cells, of_new: np.ndarray, worth: np.ndarray) -> pd.DataFrame | None:
    """Shares of segments in what a channel wins in a market.

    Parameters
    ----------
    of_new : array (cells,)
        Share of each cell in its market's new customers.
    worth : array (cells,)
        Money per new customer.

    Returns
    -------
    DataFrame or None
        market_id, channel, segment, share (adds up to 1 by market and channel), new_customer_clv (money); ``None``
        where there is one segment only, or no channel with customers of known segment.
    """
    paid = np.flatnonzero((bought.basis == "paid") & (bought.channel_names != ""))
    if not bought.by_segment_known or len(cells.labels) < 2 or not len(paid):
        return None
    markets, segments = len(cells.market_ids), len(cells.labels)
    usual, clv = np.zeros((markets, segments)), np.zeros((markets, segments))
    usual[cells.market, cells.label], clv[cells.market, cells.label] = of_new, worth
    parts = []
    for c in paid:
        seen = np.zeros((markets, segments))
        seen[cells.market, cells.label] = bought.by_cell[c]
        expected = seen.sum(axis=1, keepdims=True) * usual
        leaning = (seen.sum(axis=0) + PRIOR_CUSTOMERS) / (expected.sum(axis=0) + PRIOR_CUSTOMERS)
        share = usual * leaning
        total = share.sum(axis=1, keepdims=True)
        share = np.where(total > 0, share / np.where(total > 0, total, 1.0), 1.0 / segments)
        parts.append(
            pd.DataFrame(
                {
                    "market_id": np.repeat(np.array(cells.market_ids, dtype=object), segments),
                    "channel": str(bought.channel_names[c]),
                    "segment": np.tile(np.array(cells.labels, dtype=object), markets),
                    "share": share.ravel(),
                    "new_customer_clv": clv.ravel(),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(COLUMNS[:3], "str"))
    return table.sort_values(list(COLUMNS[:3]), kind="stable", ignore_index=True)
