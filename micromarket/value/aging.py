"""What customers have bought as they grew older, beside what the model says: the level and tilt of its path.

Purchase models fix the form of the path on which customers fade. The form is checked against nothing when a new
customer's 36 months are read off it, so the path is held to the mean purchases of customers of every age so far:
expected purchases in month t are multiplied by exp(level + tilt t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Standard deviations of the level, of the tilt over a year, and of the mean of one age about both (cohorts differ): by
#: judgement. A tilt also looks like customers of one year being better than those of the next, so it stays small.
LEVEL_SD, TILT_SD, AGE_SD, START_SD = 0.5, 0.05, 0.02, 0.3
#: Months: how the first weeks go (regular buyers wait, some buy again at once) says nothing about years.
YOUNG = 3
FEWEST_CUSTOMERS, FEWEST_REPEATS = 200, 30


@dataclass(frozen=True)
class Aging:
    """By segment: ``level`` and ``tilt`` (per month) on the log scale, ``covariance`` (segments, 2, 2); ``start``:
    purchases more (or fewer) in the first weeks than the path has."""

    level: np.ndarray
    tilt: np.ndarray
    covariance: np.ndarray
    start: np.ndarray

    @classmethod
    def none(cls, segments: int) -> Aging:
        prior = np.diag([LEVEL_SD / 5, TILT_SD / 12 / 2]) ** 2
        return cls(np.zeros(segments), np.zeros(segments), np.repeat(prior[None], segments, axis=0), np.zeros(segments))

    def sd(self, segment: np.ndarray, by_level: np.ndarray, by_tilt: np.ndarray) -> np.ndarray:
        """Standard error of a log value that moves by these with level and tilt, by cell."""
        slope = np.stack([by_level, by_tilt], axis=1)
        return np.sqrt(np.einsum("ci,cij,cj->c", slope, self.covariance[segment], slope))


def fit_aging(
    month: np.ndarray, n: np.ndarray, x: np.ndarray, flow: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Level and tilt that bring expected to observed repeat purchases of customers of all ages.

    Parameters
    ----------
    month : array (rows,)
        Age in whole months.
    n, x : arrays (rows,)
        Customers and repeat purchases of each.
    flow : array (ages, months)
        Expected repeat purchases, in their month 0, 1, ..., of customers who are now of that age (in months).

    Returns
    -------
    (level, tilt, start), covariance (3, 3); None where too little was seen. Least squares on the mean by age, weighted
    by its standard error; what ages disagree on beyond it widens the covariance.
    """
    size = flow.shape[0]
    people = np.bincount(month, weights=n, minlength=size)
    total = np.bincount(month, weights=n * x, minlength=size)
    square = np.bincount(month, weights=n * x**2, minlength=size)
    use = (people >= 20) & (flow.sum(axis=1) > 0) & (np.arange(size) >= YOUNG)
    if people.sum() < FEWEST_CUSTOMERS or total.sum() < FEWEST_REPEATS or use.sum() < 3:
        return None
    people, total, square, flow = people[use], total[use], square[use], flow[use]
    mean = total / people
    expected = flow.sum(axis=1)
    # customers of like age are as dispersed as the model says at least
    variance = np.maximum(square / people - mean**2, expected) / people + (AGE_SD * mean) ** 2
    t = np.arange(flow.shape[1]) + 0.5
    of_start = START_SD * max(expected.min(), 1e-9)
    prior = np.diag([LEVEL_SD**-2, (TILT_SD / 12) ** -2, of_start**-2])
    at, information = np.zeros(3), prior
    unit = np.array([1.0, 12.0, 1 / max(expected.mean(), 1e-9)])
    for _ in range(25):
        path = flow * np.exp(at[0] + at[1] * t)
        slope = np.stack([path.sum(axis=1), path @ t, np.ones(len(path))], axis=1)
        weighted = slope / variance[:, None]
        information = weighted.T @ slope + prior
        step = np.linalg.solve(information, weighted.T @ (mean - path.sum(axis=1) - at[2]) - prior @ at)
        step *= min(1.0, 0.5 / max(np.abs(step * unit).max(), 1e-12))
        at = at + step
        if np.abs(step * unit).max() < 1e-8:
            break
    left = ((mean - at[2] - (flow * np.exp(at[0] + at[1] * t)).sum(axis=1)) ** 2 / variance).sum()
    excess = max(left / max(use.sum() - 3, 1), 1.0)
    widened = np.linalg.inv((information - prior) / excess + prior)
    return at, widened
