"""Looking back: hide the end of the history, predict it, and learn from how far off the prediction was.

The same window length is hidden several times, each time from an earlier day on (rolling origin), so that one odd
season is not taken for a fault of the model (Tashman 2000, International Journal of Forecasting 16).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from micromarket.value.model import Cells

FEWEST_EVENTS = 30
#: Log score by which a model must beat a simpler one to be taken.
CLEARLY = 3.0
#: Standard deviations on the log scale, set by judgement: a model's lasting bias for a company; for a segment beyond
#: it; what one year differs from the next although the model is right; what a part of a year differs by its season.
COMPANY_SD, SEGMENT_SD, YEAR_SD, SEASON_SD = 0.25, 0.10, 0.07, 0.20
#: Log error of a market's value that no amount of its data removes: no model is exact.
LEAST_MISFIT = 0.02


_FIGURES = ("actual", "predicted", "variance")


@dataclass(frozen=True)
class Window:
    """Hidden from the day after ``cut`` to ``until``; ``predicted``, ``actual``, ``variance`` (of actual about
    predicted, given the model) by segment."""

    cut: dt.date
    until: dt.date
    predicted: np.ndarray
    actual: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """Factor on what is still to come, by segment, and its standard error on the log scale.

    ``market_sd``: standard deviation of the log error of single markets that chance and the fit don't explain.
    """

    factor: np.ndarray
    sd: np.ndarray
    market_sd: float = LEAST_MISFIT

    @classmethod
    def none(cls, segments: int) -> Calibration:
        """No look back was possible: the prior spread of biases stays as uncertainty, at half its size, as a model
        chosen for its kind of business is rarely the worst."""
        return cls(np.ones(segments), np.full(segments, COMPANY_SD / 2))


@dataclass(frozen=True)
class Holdout:
    """What the look back found. ``windows``: latest first; the figures of the contract are those of the latest.

    ``by_market``: market_id, predicted, actual, low, high of the latest window (counts; the range is 90%);
    ``scores``: log score of each model, simplest first, higher is better; ``wape``: sum of absolute errors by
    market over the actual total, with market effects and (``wape_no_markets``) of the segments' models alone.
    """

    what: str
    family: str
    scores: dict[str, float]
    windows: tuple[Window, ...]
    calibration: Calibration
    segments: tuple[str, ...]
    by_market: pd.DataFrame
    wape: float
    wape_no_markets: float

    @property
    def cut(self) -> dt.date:
        return self.windows[0].cut

    @property
    def predicted(self) -> float:
        return float(self.windows[0].predicted.sum())

    @property
    def actual(self) -> float:
        return float(self.windows[0].actual.sum())

    @property
    def error(self) -> float:
        """Predicted over actual less 1, in the latest window, before calibration."""
        return self.predicted / self.actual - 1

    @property
    def by_segment(self) -> dict[str, float | None]:
        window = self.windows[0]
        return {
            name: float(window.predicted[i] / window.actual[i] - 1) if window.actual[i] >= FEWEST_EVENTS else None
            for i, name in enumerate(self.segments)
        }


def cut_days(first: dt.date, as_of: dt.date) -> list[tuple[dt.date, dt.date]]:
    """Windows to hide, latest first; none for under four months of history.

    Windows that make up whole years, as a season is no fault of a model: of a year each (at most three) where three
    years are there, else the two halves or four quarters of the last year, as far as half a year is left to fit to;
    for under a year one window, its last quarter.
    """
    days = (as_of - first).days
    if days < 120:
        return []
    if days >= 3 * 365:
        ends = [365 * i for i in range(min(days // 365 - 1, 3) + 1)]
    elif days >= 2 * 365:
        ends = [0, 182, 365]
    elif days >= 365 + 180:
        ends = [0, 91, 182, 274, 365]
    else:
        ends = [0, days // 4]
    return [(as_of - dt.timedelta(days=b), as_of - dt.timedelta(days=a)) for a, b in pairwise(ends)]


def _by_year(windows: Sequence[Window]) -> tuple[list[Window], bool]:
    """Windows added up to years, latest first, and whether they make up whole ones."""
    years: list[list[Window]] = [[]]
    for w in windows:
        if years[-1] and (years[-1][0].until - w.cut).days > 366:
            years.append([])
        years[-1].append(w)
    whole = [y for y in years if (y[0].until - y[-1].cut).days >= 360]
    used = whole or years[:1]
    added = [
        Window(y[-1].cut, y[0].until, **{k: sum(getattr(w, k) for w in y) for k in _FIGURES}) for y in used
    ]  # fmt: skip
    return added, bool(whole)


def _unevenness(windows: Sequence[Window], elasticity: float) -> float:
    """Standard deviation of a window's log ratio beyond chance: :data:`YEAR_SD`, with the weight of two windows, and
    what these windows show."""
    actual, predicted, variance = (np.array([getattr(w, k).sum() for w in windows]) for k in _FIGURES)
    ratio = np.log((actual + 0.5) / (predicted + 0.5)) / elasticity
    noise = np.maximum(variance, predicted) / np.maximum(predicted, 0.5) ** 2 / elasticity**2
    spread = ((ratio - ratio.mean()) ** 2).sum() - noise.sum() * (1 - 1 / len(windows))
    return float(np.sqrt((2 * YEAR_SD**2 + max(spread, 0.0)) / (2 + len(windows) - 1)))


def calibrate(windows: Sequence[Window], elasticity: float = 1.0) -> Calibration:
    """Shrinks the log ratios of actual to predicted towards none, by how well they are known and how they repeat.

    ``elasticity``: of the predicted count to the factor.
    """
    years, whole = _by_year(windows)
    ratio = np.stack([np.log((w.actual + 0.5) / (w.predicted + 0.5)) for w in years]) / elasticity
    noise = np.stack(
        [np.maximum(w.variance, w.predicted) / np.maximum(w.predicted, 0.5) ** 2 for w in years]
    ) / elasticity**2  # fmt: skip
    odd = _unevenness(windows, elasticity) if whole else SEASON_SD
    # company: each year's mean over segments, weighted by precision
    weight = 1 / (noise + SEGMENT_SD**2)
    mean = (weight * ratio).sum(axis=1) / weight.sum(axis=1)
    precision = 1 / (1 / weight.sum(axis=1) + odd**2)
    total = precision.sum() + 1 / COMPANY_SD**2
    company = (precision * mean).sum() / total
    if ratio.shape[1] == 1:
        return Calibration(np.array([np.exp(company)]), np.array([np.sqrt(1 / total)]))
    # segments: what is left of their ratios, averaged over the years; half of what is odd about a time hits all alike
    left = (ratio - mean[:, None]).mean(axis=0)
    spread = SEGMENT_SD**2 / (SEGMENT_SD**2 + (noise.mean(axis=0) + (odd / 2) ** 2) / len(years))
    return Calibration(np.exp(company + spread * left), np.sqrt(1 / total + SEGMENT_SD**2 * (1 - spread)))


def choose(scores: dict[str, float]) -> str:
    """The first model, or a later one that foresaw clearly better than those before it (log scores; the simplest is
    first)."""
    names = list(scores)
    best = names[0]
    for name in names[1:]:
        if scores[name] > scores[best] + CLEARLY:
            best = name
    return best


def market_misfit(actual: np.ndarray, predicted: np.ndarray, variance: np.ndarray) -> float:
    """Standard deviation of markets' log error beyond ``variance`` (of actual about predicted, chance and fit).

    Moments; :data:`LEAST_MISFIT` where chance explains it all.
    """
    use = predicted > 1
    if use.sum() < 10:
        return LEAST_MISFIT
    a, p, v = actual[use], predicted[use], variance[use]
    a = a * p.sum() / max(a.sum(), 1e-9)  # the common level is the calibration's
    excess, scale = (a - p) ** 2 - v, p**2
    # markets weigh by what they tell about the spread, so that the largest ones don't decide alone
    weight = 1 / (v + 0.1**2 * scale) ** 2
    found = (weight * scale * excess).sum() / (weight * scale**2).sum()
    return float(np.sqrt(np.clip(found, LEAST_MISFIT**2, 0.5**2)))


def errors_by_market(
    cells: Cells, actual: np.ndarray, predicted: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], float, float]:
    """Sums by market of cell figures; WAPE of each of two predictions."""
    size = len(cells.market_ids)
    sums = [np.bincount(cells.market, weights=v, minlength=size) for v in (actual, *predicted)]
    total = max(sums[0].sum(), 1e-9)
    wape = [float(np.abs(p - sums[0]).sum() / total) for p in sums[1:]]
    return sums, wape[0], wape[1]
