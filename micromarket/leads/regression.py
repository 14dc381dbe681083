"""Logistic regression with a few dense columns and one effect a group, by Newton's method; groups are eliminated.

The groups' block of the Hessian is diagonal, so each step solves a system of the dense columns alone (by the Schur
complement): thousands of groups cost no more than reading them. The penalised likelihood is that of Gelman and Hill
(2007), section 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

_STEPS, _CLOSE = 50, 1e-8


@dataclass(frozen=True)
class GroupedLogit:
    """Coefficients on the log-odds: ``beta`` of the columns (the first is the intercept), ``effect`` of the groups."""

    beta: np.ndarray
    effect: np.ndarray

    def predict(self, columns: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Probabilities; ``group`` -1: none of the known ones, its effect is 0."""
        return expit(columns @ self.beta + np.append(self.effect, 0.0)[group])


def fit_grouped_logit(
    columns: np.ndarray, group: np.ndarray, groups: int, sd: float, won: np.ndarray, prior: np.ndarray
) -> GroupedLogit:
    """Maximises the log-likelihood less ``sum(prior * beta**2) / 2`` and ``sum(effect**2) / (2 sd**2)``.

    Parameters
    ----------
    columns : array of shape (n, p)
    group : int array of shape (n,)
        From 0 to ``groups`` - 1; -1: none.
    sd : float
        Prior standard deviation of the effects; 0: no effects.
    won : array of shape (n,), 0 or 1
    prior : array of shape (p,)
        Prior precision of each coefficient, at least 0.
    """
    y = np.asarray(won, dtype=float)
    known = group >= 0
    count = groups if sd > 0 else 0
    rows = np.flatnonzero(known) if count else np.zeros(0, dtype=int)
    member = sparse.csr_matrix((np.ones(len(rows)), (group[rows], rows)), shape=(count, len(y)))
    beta, effect = np.zeros(columns.shape[1]), np.zeros(count)
    precision = 1 / sd**2 if count else 0.0
    prior = np.maximum(prior, 1e-9)

    def log_odds(b: np.ndarray, u: np.ndarray) -> np.ndarray:
        return columns @ b + member.T @ u

    def loss(eta: np.ndarray, b: np.ndarray, u: np.ndarray) -> float:
        fit = float(np.sum(np.logaddexp(0.0, eta) - y * eta))
        return fit + 0.5 * float(prior @ b**2) + 0.5 * precision * float(u @ u)

    eta = log_odds(beta, effect)
    now = loss(eta, beta, effect)
    for _ in range(_STEPS):
        p = expit(eta)
        w = p * (1 - p)
        weighted = w[:, None] * columns
        slope_b = columns.T @ (y - p) - prior * beta
        slope_u = member @ (y - p) - precision * effect
        cross, own = member @ weighted, member @ w + precision
        inside = columns.T @ weighted + np.diag(prior) - cross.T @ (cross / own[:, None])
        step_b = np.linalg.solve(inside, slope_b - cross.T @ (slope_u / own))
        step_u = (slope_u - cross @ step_b) / own
        size = 1.0
        while True:
            b, u = beta + size * step_b, effect + size * step_u
            eta = log_odds(b, u)
            after = loss(eta, b, u)
            if after <= now + 1e-12 * abs(now) or size < 1e-4:
                break
            size /= 2
        gained = now - after
        beta, effect, now = b, u, after
        if gained < _CLOSE * (1 + abs(now)):
            break
    return GroupedLogit(beta, effect if count else np.zeros(groups))
