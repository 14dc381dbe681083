"""What a market's neighbours are like: means over neighbours, as sparse algebra."""

from __future__ import annotations

from typing import overload

import numpy as np
import pandas as pd
from scipy.sparse import csr_array


def weights(market_ids: pd.Index | pd.Series, neighbours: pd.DataFrame | None) -> csr_array:
    """Binary contiguity, shape (markets, markets), rows and columns in the order of ``market_ids``.

    Parameters
    ----------
    market_ids : Index or Series
        Ids, each once.
    neighbours : DataFrame or None
        ``market_id``, ``neighbour_id`` (see :func:`~micromarket.geography.neighbours`); pairs with an unknown market
        are left out.

    Raises
    ------
    ValueError
        Where an id is there twice.
    """
    ids = pd.Index(np.asarray(market_ids, dtype=object))
    if not ids.is_unique:
        raise ValueError("market_ids: each market once")
    n = len(ids)
    if neighbours is None or not len(neighbours):
        return csr_array((n, n), dtype=float)
    left = ids.get_indexer(neighbours["market_id"].astype(object))
    right = ids.get_indexer(neighbours["neighbour_id"].astype(object))
    keep = (left >= 0) & (right >= 0) & (left != right)
    out = csr_array((np.ones(keep.sum()), (left[keep], right[keep])), shape=(n, n))
    out.sum_duplicates()
    out.data[:] = 1.0
    out.sort_indices()
    return out


@overload
def spillover(values: pd.Series, neighbours: pd.DataFrame | None) -> pd.Series: ...
@overload
def spillover(values: pd.DataFrame, neighbours: pd.DataFrame | None) -> pd.DataFrame: ...
def spillover(values: pd.Series | pd.DataFrame, neighbours: pd.DataFrame | None) -> pd.Series | pd.DataFrame:
    """Mean over each market's neighbours: the spatial lag with row-standardised weights (Anselin 1988, eq. 3.1).

    Parameters
    ----------
    values : Series or DataFrame
        Numbers indexed by ``market_id``; the unit of the result is theirs. Missing ones don't count.
    neighbours : DataFrame or None
        ``market_id``, ``neighbour_id``; islands have their nearest market there.

    Returns
    -------
    Series or DataFrame
        Like ``values``. Missing where no neighbour has a value (or there are no neighbours at all).

    Examples
    --------
    >>> pairs = pd.DataFrame({"market_id": ["a", "b", "b", "c"], "neighbour_id": ["b", "a", "c", "b"]})
    >>> spillover(pd.Series({"a": 1.0, "b": 5.0, "c": 3.0}), pairs).tolist()
    [5.0, 2.0, 5.0]
    """
    w = weights(values.index, neighbours)
    numbers = values.to_numpy(dtype=float, na_value=np.nan).reshape(len(values), -1)
    known = np.isfinite(numbers)
    count = w @ known.astype(float)
    total = w @ np.where(known, numbers, 0.0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if isinstance(values, pd.DataFrame):
        return pd.DataFrame(mean, index=values.index, columns=values.columns)
    return pd.Series(mean[:, 0], index=values.index, name=values.name)
