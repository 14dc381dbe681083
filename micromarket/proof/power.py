"""The paired estimator of a randomised test, its exact p-value, and what it could have seen in past windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm
from scipy.stats import t as student

ALPHA, POWER = 0.10, 0.80
_FLIPS = 999


@dataclass(frozen=True)
class PairedResult:
    """``effect``: treated against control on the log scale (0.05: about 5% more); ``p_value``: two-sided, by lot."""

    effect: float
    standard_error: float
    p_value: float


def pair_contrasts(
    counts: np.ndarray, pairs: np.ndarray, split: int, before: int, after: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log differences within pairs, first less second, before and after the period ``split``.

    Parameters
    ----------
    counts : array of shape (markets, periods), new customers
    pairs : int array of shape (pairs, 2), rows of ``counts``
    split, before, after : int
        The window after starts at period ``split``; lengths in periods.

    Returns
    -------
    earlier, later : arrays of shape (pairs,), log scale; half a customer is added so that none won is no infinity
    noise : array of shape (pairs,)
        What counting noise alone would give ``later`` as its variance, from the counts before (so that it is the
        same whoever is treated).
    """
    first = counts[:, split - before : split].sum(axis=1)
    second = counts[:, split : split + after].sum(axis=1)
    earlier = np.log((first[pairs] + 0.5) / before)
    later = np.log((second[pairs] + 0.5) / after)
    expected = (first[pairs] + 0.5) * after / before
    noise = (1 / expected).sum(axis=1)
    return earlier[:, 0] - earlier[:, 1], later[:, 0] - later[:, 1], noise


def adjusted(earlier: np.ndarray, later: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``later`` less what ``earlier`` predicts: blocked analysis of covariance.

    The slope is fitted through the origin, so it does not depend on who of a pair is treated and re-randomisation
    stays exact. Lin (2013), *Agnostic notes on regression adjustments*; Imbens and Rubin (2015), chapter 10.
    """
    base = float(np.sum(weights * earlier**2))
    slope = float(np.sum(weights * earlier * later)) / base if base > 0 else 0.0
    return later - slope * earlier


def sign_flips(pairs: int, seed: int) -> np.ndarray:
    """Random treatments of the pairs, shape (flips, pairs), entries -1 and 1; all of them where there are few."""
    if 2**pairs <= _FLIPS + 1:
        return np.array(np.meshgrid(*[[1, -1]] * pairs, indexing="ij")).reshape(pairs, -1).T
    return np.random.default_rng([seed, pairs]).choice([-1, 1], size=(_FLIPS, pairs))


def paired_test(
    earlier: np.ndarray, later: np.ndarray, weights: np.ndarray, flips: np.ndarray, sides: np.ndarray | None = None
) -> PairedResult:
    """Weighted mean difference of treated and control with its randomisation p-value.

    Parameters
    ----------
    earlier, later, weights : arrays of shape (pairs,)
        From :func:`pair_contrasts`.
    flips : array of shape (flips, pairs)
        From :func:`sign_flips`.
    sides : array of shape (pairs,), optional
        1 where the first of a pair is treated, -1 where the second is; default: always the first.
    """
    sides = np.ones(len(later)) if sides is None else sides
    residual = adjusted(earlier, later, weights) * weights / weights.sum()
    effect = float(residual @ sides)
    reference = np.abs(flips @ residual)
    reached = int(np.sum(reference >= abs(effect) - 1e-12))
    # the lot that was drawn is one of all: it counts unless all are listed
    p_value = reached / len(flips) if len(flips) == 2 ** len(later) else (reached + 1) / (len(flips) + 1)
    error = residual * sides - effect * weights / weights.sum()
    n = max(len(later) - 1, 1)
    return PairedResult(effect, float(np.sqrt(np.sum(error**2) * len(later) / n)), p_value)


@dataclass(frozen=True)
class PlaceboSpread:
    """Residuals of past windows in which nothing was tried.

    Attributes
    ----------
    before, after : int
        Periods before and in a window.
    residual : array of shape (windows, pairs)
        Adjusted differences, log scale.
    variance : array of shape (pairs,)
        Modelled variance of a pair's difference: counting noise plus what pairs of any size differ by.
    """

    before: int
    after: int
    residual: np.ndarray
    variance: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        return 1 / self.variance

    def standard_error(self, chosen: np.ndarray) -> float:
        """Root mean square error of the estimate with the ``chosen`` pairs (positions), over all windows and lots."""
        weights = self.weights[chosen] / self.weights[chosen].sum()
        return float(np.sqrt(np.mean(np.sum((weights * self.residual[:, chosen]) ** 2, axis=1))))

    def false_positives(self, chosen: np.ndarray, sides: np.ndarray, seed: int) -> float:
        """Share of past windows in which this very lot would have been called an effect at :data:`ALPHA`."""
        flips = sign_flips(len(chosen), seed)
        scaled = self.residual[:, chosen] * self.weights[chosen]
        observed = np.abs(scaled @ sides)
        reached = (np.abs(scaled @ flips.T) >= observed[:, None] - 1e-12).sum(axis=1)
        exact = len(flips) == 2 ** len(chosen)
        p_values = reached / len(flips) if exact else (reached + 1) / (len(flips) + 1)
        return float(np.mean(p_values <= ALPHA))


def placebo_spread(counts: np.ndarray, pairs: np.ndarray, before: int, after: int) -> PlaceboSpread | None:
    """Slides a window over the history; ``None`` where fewer than three fit.

    The estimate is linear in the effect (on the log scale), so one pass over the windows gives the whole power curve.
    """
    splits = range(before, counts.shape[1] - after + 1)
    if len(splits) < 3 or not len(pairs):
        return None
    contrasts = [pair_contrasts(counts, pairs, s, before, after) for s in splits]
    noise = np.mean([c[2] for c in contrasts], axis=0)
    flat = 1 / (noise + np.median(noise))
    residual = np.array([adjusted(e, x, flat) for e, x, _ in contrasts])
    square = np.mean(residual**2, axis=0)
    design = np.column_stack([noise, np.ones_like(noise)]) * flat[:, None]
    scale = design.max(axis=0)
    counting, other = nnls(design / scale, square * flat)[0] / scale
    variance = np.maximum(counting * noise + other, 1e-3 * float(square.mean()) + 1e-9)
    residual = np.array([adjusted(e, x, 1 / variance) for e, x, _ in contrasts])
    return PlaceboSpread(before, after, residual, variance)


def power_at(effect: float, standard_error: float, pairs: int, alpha: float = ALPHA) -> float:
    """Probability that a two-sided test at ``alpha`` sees a true ``effect`` (log scale)."""
    if pairs < 2 or standard_error <= 0:
        return 0.0
    bound = student.ppf(1 - alpha / 2, pairs - 1)
    at = effect / standard_error
    return float(norm.cdf(at - bound) + norm.cdf(-at - bound))


def minimum_detectable_effect(standard_error: float, pairs: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest true effect (log scale) that the test sees with probability ``power``."""
    if pairs < 2:
        return np.inf
    return float((student.ppf(1 - alpha / 2, pairs - 1) + norm.ppf(power)) * standard_error)
