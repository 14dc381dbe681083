"""Time-based regression: the treated group's total on the control group's, period by period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from micromarket.proof.estimators.simplex import Array


@dataclass(frozen=True)
class TimeBasedResult:
    """Cumulative effect over the window, in the outcome's units (sum over the treated group).

    Attributes
    ----------
    incremental, error : float
        Estimate and scale of its posterior, Student's t with ``degrees`` degrees of freedom.
    lift : float
        ``incremental`` over the counterfactual.
    p_value : float
        Two-sided, of no effect.
    """

    incremental: float
    error: float
    degrees: int
    lift: float
    p_value: float

    def bounds(self, level: float = 0.90) -> tuple[float, float]:
        """Two-sided interval of ``incremental``."""
        return self.lower(0.5 + level / 2), 2 * self.incremental - self.lower(0.5 + level / 2)

    def lower(self, level: float = 0.90) -> float:
        """One-sided lower bound of ``incremental``."""
        return float(self.incremental - student.ppf(level, self.degrees) * self.error)


def time_based_regression(treated: Array, control: Array, before: int) -> TimeBasedResult:
    """Kerman, Wang & Vaver (2017), *Estimating ad effectiveness using geo experiments in a time-based regression
    framework* (Google): ``treated = a + b control`` before, carried forward; flat prior.

    Parameters
    ----------
    treated, control : arrays of shape (periods,)
        Sums over the markets of each group.
    before : int
        Periods before the window, at least 4.
    """
    x = np.column_stack([np.ones(len(control)), control])
    early, late = x[:before], x[before:].sum(axis=0)
    coefficients, *_ = np.linalg.lstsq(early, treated[:before], rcond=None)
    left = treated[:before] - early @ coefficients
    degrees = max(before - 2, 1)
    spread = float(left @ left) / degrees
    inverse = np.linalg.pinv(early.T @ early)
    after = len(treated) - before
    error = float(np.sqrt(spread * (after + late @ inverse @ late)))
    expected = float(late @ coefficients)
    incremental = float(treated[before:].sum()) - expected
    p_value = 2 * float(student.sf(abs(incremental) / max(error, 1e-300), degrees))
    lift = incremental / expected if expected else float("nan")
    return TimeBasedResult(incremental, error, degrees, lift, p_value)
