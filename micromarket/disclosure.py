"""Which groups of people are too small to be shown, and which others must go with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: How many groups are hidden together at least, where there are so many: two equations (number, money) solve for two.
_TOGETHER = 3


def hidden_groups(counts: ArrayLike, min_cell: int, zeros: bool = True) -> NDArray[Any]:
    """Groups not to be shown beside their total: the small ones, and the next smallest where these could be worked out.

    With the total known, one small group alone is found by subtraction, and several whose sum is tiny (or close to the
    most that they can be together) are found nearly. So at least three groups are hidden together, of at least
    ``2 * min_cell`` people in all, and unless the small ones alone leave each other room of ``min_cell - 1``, at least
    one that is not small is among them: nobody can tell which.

    Parameters
    ----------
    counts : array of shape (n,)
        People in each group. What isn't known (NaN) counts as small.
    min_cell : int
        Smallest group that is shown.
    zeros : bool
        A group of nobody is small too.

    Returns
    -------
    array of bool, shape (n,)

    Examples
    --------
    >>> hidden_groups([40, 3, 12, 90, 25], 10).tolist()
    [False, True, True, False, True]
    >>> hidden_groups([40, 12, 90], 10).tolist()
    [False, False, False]
    """
    n = np.nan_to_num(np.asarray(counts, dtype=float), nan=0.0)
    hidden = n < min_cell
    if not zeros:
        hidden &= n > 0
    if not hidden.any():
        return hidden
    order = [i for i in np.argsort(n, kind="stable") if not hidden[i] and n[i] > 0]
    while order and not _safe(n[hidden], min_cell):
        hidden[order.pop(0)] = True
    return hidden


def rounded_count(count: float, min_cell: int) -> float:
    """A count in multiples of ``2 * min_cell``, at least one: what is left of a total then tells nothing small.

    >>> rounded_count(538, 10), rounded_count(11, 10)
    (540.0, 20.0)
    """
    step = 2.0 * min_cell
    return max(step, step * round(count / step))


def _safe(n: NDArray[Any], min_cell: int) -> bool:
    if len(n) < _TOGETHER or n.sum() < 2 * min_cell:
        return False
    if (n >= min_cell).any():
        return True
    most = min_cell - 1.0
    # who knows the rule knows that none is larger: what the others can't hold, one must
    low = max(0.0, n.sum() - most * (len(n) - 1))
    return min(most, n.sum()) - low >= most
