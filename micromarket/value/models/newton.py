"""A damped Newton search for a maximum that believes the gradient, not the optimiser's flag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Derivatives = tuple[float, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Maximum:
    """``theta``: where; ``value``: the function there; ``information``: minus its Hessian."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    information: np.ndarray
    steps: int
    converged: bool

    def covariance(self) -> np.ndarray:
        """Inverse of the information on its positive part (Laplace's approximation)."""
        roots, vectors = np.linalg.eigh(self.information)
        roots = np.maximum(roots, 1e-8 * max(roots.max(), 1e-8))
        return (vectors / roots) @ vectors.T


def maximise(
    function: Callable[[np.ndarray], Derivatives],
    start: np.ndarray,
    scale: float,
    tolerance: float = 1e-8,
    max_steps: int = 100,
) -> Maximum:
    """Maximises ``function``, which returns its value, gradient and Hessian.

    Directions in which the function is not concave are searched uphill (the sign of their curvature is turned), steps
    are halved until they climb. Converged means: largest absolute component of the gradient, divided by ``scale``
    (number of observations), is below ``tolerance``.
    """
    theta = np.asarray(start, float)
    value, gradient, hessian = function(theta)
    steps, damping = 0, 0.0
    while np.abs(gradient).max() / scale > tolerance and steps < max_steps:
        steps += 1
        roots, vectors = np.linalg.eigh(-hessian)
        roots = np.maximum(np.abs(roots), 1e-9 * scale) + damping
        step = vectors @ ((vectors.T @ gradient) / roots)
        step *= min(1.0, 2.0 / np.linalg.norm(step))
        for _ in range(40):
            trial = function(theta + step)
            if np.isfinite(trial[0]) and trial[0] >= value + 1e-4 * gradient @ step - 1e-12 * abs(value):
                break
            step = step / 2
        else:  # no climb along this direction: lean on steepest ascent
            if damping > 1e6 * scale:
                break
            damping = max(10 * damping, 1e-3 * scale)
            continue
        damping /= 10
        theta = theta + step
        value, gradient, hessian = trial
    converged = bool(np.isfinite(value) and np.abs(gradient).max() / scale <= max(tolerance, 1e-7))
    return Maximum(theta, float(value), gradient, -hessian, steps, converged)


def log_scale(theta: np.ndarray, value: float, gradient: np.ndarray, hessian: np.ndarray) -> Derivatives:
    """Derivatives with respect to log parameters, from those with respect to the parameters ``exp(theta)``."""
    p = np.exp(theta)
    return value, gradient * p, hessian * np.outer(p, p) + np.diag(gradient * p)


def add_normal_prior(
    derivatives: Derivatives, theta: np.ndarray, centre: np.ndarray, sd: float | np.ndarray | None
) -> Derivatives:
    """Adds a normal log prior (none where ``sd`` is None): keeps thin data from sending parameters to infinity.

    ``sd`` may differ by parameter (infinite: no prior on it).
    """
    if sd is None:
        return derivatives
    value, gradient, hessian = derivatives
    away = (theta - centre) / sd
    return value - 0.5 * away @ away, gradient - away / sd, hessian - np.eye(len(theta)) / sd**2
