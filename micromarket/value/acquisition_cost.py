"""Cost per customer won of many groups at once, drawn towards all groups' as far as they differ by chance; payback.

Customers won by a sum of money are overdispersed Poisson counts (McCullagh & Nelder 1989, ch. 6); log costs differ
between groups by a normal distribution whose spread the groups themselves show (empirical Bayes, Morris 1983).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.value.groups import Z90, pooled_groups
from micromarket.value.model import CellModel
from micromarket.value.pooling import CellLikelihood, gamma, poisson


@dataclass(frozen=True)
class Cost:
    """Money per customer won: ``mean``, ``low`` and ``high`` (90%) of each group; NaN: unknown."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def unknown(cls, size: int) -> Cost:
        return cls(*np.full((3, size), np.nan))


def pooled_cost(spend: np.ndarray, customers: np.ndarray, dispersion: float = 1.0) -> Cost:
    """Money per customer won of each group, drawn towards that of all groups as far as they differ by chance.

    Parameters
    ----------
    spend, customers : arrays (groups,)
        Money, and customers that it won. A group that spent and won nobody gets a high, not an infinite cost; one that
        spent nothing, 0.
    dispersion : float
        Variance over mean of the counts (1: Poisson).

    Notes
    -----
    customers ~ Poisson(spend / cost), log cost ~ normal between groups; the 90% range is the posterior's.
    """
    spend, customers = np.asarray(spend, float), np.asarray(customers, float)
    use = (spend > 0) & np.isfinite(customers)
    mean = np.where(spend > 0, np.nan, 0.0)
    low, high = mean.copy(), mean.copy()
    if not use.any() or customers[use].sum() <= 0:
        return Cost(mean, low, high)
    company = spend[use].sum() / customers[use].sum()
    expected = spend[use] / company
    _lognormal(use, poisson(customers[use] / dispersion, expected / dispersion), -1.0, company, (mean, low, high))
    return Cost(mean, low, high)


def pooled_mean_cost(total: np.ndarray, customers: np.ndarray, squares: np.ndarray) -> Cost:
    """The same from costs on record: ``total`` and ``squares`` are sums of the customers' costs and their squares."""
    use = customers > 0
    mean = np.where(use, 0.0, np.nan)
    low, high = mean.copy(), mean.copy()
    if not use.any() or total[use].sum() <= 0:
        return Cost(mean, low, high)
    company = total[use].sum() / customers[use].sum()
    within = np.maximum(squares[use] - total[use] ** 2 / customers[use], 0.0).sum()
    freedom = np.maximum(customers[use] - 1, 0.0).sum()
    variation = max(within / freedom / company**2 if freedom > 0 else 1.0, 1e-4)
    ratio = total[use] / customers[use] / company
    _lognormal(use, gamma(ratio, customers[use] / variation), 1.0, company, (mean, low, high))
    return Cost(mean, low, high)


def _lognormal(
    use: np.ndarray, likelihood: CellLikelihood, sign: float, company: float, out: tuple[np.ndarray, ...]
) -> None:
    mean, sd = pooled_groups(likelihood, int(use.sum()))
    centre = sign * mean
    for values, z in zip(out, (0.0, -Z90, Z90), strict=True):
        values[use] = company * np.exp(centre + z * sd)


def dispersion(customers: np.ndarray, spend: np.ndarray) -> float:
    """Variance over mean of customers won about their expectation, from groups x periods (at least 1).

    Within a group they are expected in proportion to all groups' customers of the period, or to its own spend,
    whichever describes them better.
    """
    some = (customers.sum(1) > 0) & (spend.sum(1) > 0)
    n, money = customers[some], spend[some]
    groups, periods = n.shape
    freedom = max(groups - 1, 1) * (periods - 1)
    if not groups or periods < 3:
        return 1.0
    common = n.sum(0) if groups > 1 else np.ones(periods)
    found = []
    for shape in (np.broadcast_to(common, n.shape), money):
        expected = n.sum(1, keepdims=True) * shape / shape.sum(1, keepdims=True)
        # a period without spend expects nobody: half a customer keeps the square finite
        found.append(float(((n - expected) ** 2 / np.maximum(expected, 0.5)).sum()) / freedom)
    return max(min(found), 1.0)


def margin_paths(model: CellModel, servicing_cost: float, worth: np.ndarray) -> np.ndarray:
    """Cumulative discounted margin (money) of a new customer of each cell after 0, 1, … months, (cells, months + 1).

    Scaled so that it ends at ``worth``, the cell's new-customer value: a cost is then paid back within the horizon
    exactly where the value covers it.
    """
    path = (model.unit * model.margin_rate)[:, None] * model.path_count - servicing_cost * model.path_months
    end = path[:, -1]
    factor = np.where((end > 0) & (worth > 0), worth / np.where(end > 0, end, 1.0), 1.0)
    return path * factor[:, None]


def months_to_repay(path: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Months until each row of ``path`` (cumulative money by month) reaches ``cost`` and stays there or above to the
    end; NaN: not within the path, or an unknown cost."""
    cost = np.asarray(cost, float)
    short = path < cost[:, None] * (1 - 1e-9)
    months = path.shape[1]
    last_short = np.where(short.any(axis=1), months - 1 - short[:, ::-1].argmax(axis=1), -1)
    rows, before = np.arange(len(path)), np.maximum(last_short, 0)
    after = np.minimum(before + 1, months - 1)
    gain = np.maximum(path[rows, after] - path[rows, before], 1e-300)
    part = np.clip((cost - path[rows, before]) / gain, 0.0, 1.0)
    repaid = np.where(last_short < 0, 0.0, before + part)
    return np.where((last_short < months - 1) & np.isfinite(cost), repaid, np.nan)
