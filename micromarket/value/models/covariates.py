"""Time-invariant covariates of customers (segment, channel, any number) in the models of this package.

Fader & Hardie 2007, note 019, "Incorporating time-invariant covariates into the Pareto/NBD and BG/NBD models". A link
gives the logarithms of a customer's parameters from those of the base and one linear predictor per effect:

- purchase rate: lambda is multiplied by exp(coefficient . z), so alpha by exp(-coefficient . z);
- dropout, Pareto/NBD: the rate of leaving mu likewise, through beta;
- dropout, BG/NBD and MBG/NBD: the log odds of the mean dropout probability a / (a + b) move by coefficient . z while
  a + b stays (the note moves a and b by two vectors; one says the same in ordinary data and can be read);
- leaving, sBG: alpha is multiplied by exp(coefficient . z), which moves the log odds of leaving at every age by
  coefficient . z; BdW the same, where it moves the log rate of leaving.

Likelihoods are sums over distinct covariate rows, so derivatives are chained once per distinct row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.value.models.compression import Column, distinct
from micromarket.value.models.newton import Derivatives

_BLOCK = 2048  # rows that fit the cache

#: log parameters (k, g); first derivatives (k, k + e, g); second derivatives summed over the log parameters with given
#: weights (k, g), as a function of these: (k + e, k + e, g), or None where they are zero
Linked = tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray] | None]
#: log base parameters (k,), predictors (e, g) -> Linked
Link = Callable[[np.ndarray, np.ndarray], Linked]
#: parameters (k, g) -> value (g,), gradient (k, g), Hessian (k, k, g) of the log-likelihoods of the groups
Likelihood = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def dummies(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of text or categories as 0/1 columns ``name=level``; numbers stay.

    The most frequent level (of equals the first by name) is the base that coefficients compare with.
    """
    parts: list[pd.Series] = []
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column):
            parts.append(column.astype(float))
            continue
        text = column.astype(str)
        counts = text.value_counts()
        levels = sorted(counts.index, key=lambda level: (-counts[level], level))
        parts += [(text == level).astype(float).rename(f"{name}={level}") for level in sorted(levels[1:])]
    return pd.concat(parts, axis=1) if parts else pd.DataFrame(index=frame.index)


@dataclass(frozen=True)
class Design:
    """Distinct rows of covariates. ``Z`` (g, p) as given, ``scaled`` (Z - mean) / sd over customers."""

    names: tuple[str, ...]
    Z: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @property
    def scaled(self) -> np.ndarray:
        return (self.Z - self.mean) / self.sd

    @classmethod
    def of(cls, covariates: object, weights: np.ndarray, ridge: bool) -> tuple[Design, np.ndarray]:
        """The design, and each customer's row in it.

        Raises
        ------
        ValueError
            Covariates of another length, missing, constant, or collinear (collinear ones are allowed with a ridge).
        """
        names, Z = as_matrix(covariates)
        if len(Z) != len(weights):
            raise ValueError(f"covariates has {len(Z)} rows for {len(weights)} customers")
        if not np.isfinite(Z).all():
            bad = [n for n, ok in zip(names, np.isfinite(Z).all(axis=0), strict=True) if not ok]
            raise ValueError(f"missing or infinite covariates: {', '.join(bad)}; fill them in before the fit")
        some, index = distinct(*(Column.of(z) for z in Z.T))
        rows = Z[some]
        n = np.bincount(index, weights=weights, minlength=len(rows))
        mean = n @ rows / n.sum()
        sd = np.sqrt(n @ (rows - mean) ** 2 / n.sum())
        flat = sd <= 1e-9 * np.maximum(np.abs(mean), 1e-300)
        if flat.any():
            bad = [name for name, same in zip(names, flat, strict=True) if same]
            raise ValueError(f"covariates that are the same for every customer explain nothing: {', '.join(bad)}")
        design = cls(names, rows, mean, sd)
        if not ridge:
            spread = design.scaled * np.sqrt(n / n.sum())[:, None]
            if np.linalg.matrix_rank(spread, tol=1e-7) < len(names):
                raise ValueError("covariates are collinear (a dummy for every level?): drop one, or set coef_sd")
        return design, index


def as_matrix(covariates: object) -> tuple[tuple[str, ...], np.ndarray]:
    if isinstance(covariates, pd.DataFrame):
        text = [str(c) for c in covariates.columns if not pd.api.types.is_numeric_dtype(covariates[c])]
        if text:
            raise ValueError(f"covariates must be numbers; use dummies() for: {', '.join(text)}")
        return tuple(str(c) for c in covariates.columns), covariates.to_numpy(float)
    Z = np.asarray(covariates, float)
    Z = Z[:, None] if Z.ndim == 1 else Z
    return tuple(f"z{i}" for i in range(Z.shape[1])), Z


def shift_link(shift: np.ndarray, base: np.ndarray, eta: np.ndarray) -> Linked:
    """log parameters = log base + shift @ predictors; ``shift`` (k, e) of -1, 0, 1."""
    first = np.concatenate([np.eye(len(shift)), shift], axis=1)[:, :, None]
    return base[:, None] + shift @ eta, np.broadcast_to(first, (*first.shape[:2], eta.shape[1])), None


def dropout_link(base: np.ndarray, eta: np.ndarray) -> Linked:
    """(r, alpha, a, b): alpha by exp(-eta_1); the log odds a / b by eta_2 at constant a + b."""
    g = eta.shape[1]
    log_a, log_b = base[2], base[3]
    own, sum0 = log_a + eta[1], np.logaddexp(log_a, log_b)
    sum1 = np.logaddexp(own, log_b)
    logs = np.stack([np.full(g, base[0]), base[1] - eta[0], sum0 + own - sum1, sum0 + log_b - sum1])
    share0, share = np.exp(log_a - sum0), np.exp(own - sum1)
    first = np.zeros((4, 6, g))
    first[0, 0] = first[1, 1] = 1.0
    first[1, 4] = -1.0
    first[2, 2], first[2, 3], first[2, 5] = share0 + 1 - share, share - share0, 1 - share
    first[3, 2], first[3, 3], first[3, 5] = share0 - share, 1 - share0 + share, -share

    def second(weights: np.ndarray) -> np.ndarray:  # log a and log b bend alike, by -sum1 + sum0
        out, both = np.zeros((6, 6, g)), weights[2] + weights[3]
        for i, sign_i in ((2, 1.0), (3, -1.0), (5, 1.0)):
            for j, sign_j in ((2, 1.0), (3, -1.0), (5, 1.0)):
                bend = share * (1 - share) - (share0 * (1 - share0) if 5 not in (i, j) else 0.0)
                out[i, j] = -sign_i * sign_j * bend * both
        return out

    return logs, first, second


def chain(theta: np.ndarray, k: int, Z: np.ndarray, link: Link, likelihood: Likelihood) -> Derivatives:
    """Log-likelihood and derivatives in theta = (log base (k), coefficients effect by effect)."""
    g, p = Z.shape
    if len(theta) == k:
        value, gradient, hessian = likelihood(np.exp(theta)[:, None].repeat(g, axis=1))
        scale = np.exp(theta)
        slope = gradient.sum(axis=1) * scale
        return float(value.sum()), slope, hessian.sum(axis=2) * np.outer(scale, scale) + np.diag(slope)
    coefficients = theta[k:].reshape(-1, p)
    size, e = len(theta), len(coefficients)
    value, gradient, hessian = likelihood(np.exp(link(theta[:k], coefficients @ Z.T)[0]))
    slope, bend = np.zeros(size), np.zeros((size, size))
    for i in range(0, g, _BLOCK):
        z = Z[i : i + _BLOCK]
        logs, first, second = link(theta[:k], coefficients @ z.T)
        scale = np.exp(logs)
        grad = gradient[:, i : i + _BLOCK] * scale
        hess = hessian[:, :, i : i + _BLOCK] * scale[:, None] * scale[None]
        hess[np.arange(k), np.arange(k)] += grad
        J = first.transpose(2, 0, 1)
        along = (J.transpose(0, 2, 1) @ grad.T[:, :, None])[:, :, 0]  # (g, k + e)
        curve = (J.transpose(0, 2, 1) @ hess.transpose(2, 0, 1) @ J).transpose(1, 2, 0)
        if second is not None:
            curve = curve + second(grad)
        parts = [np.ones((len(z), 1))] * k + [z] * e  # what each of the k + e directions multiplies
        at = [slice(j, j + 1) for j in range(k)] + [slice(k + j * p, k + (j + 1) * p) for j in range(e)]
        for j in range(k + e):
            slope[at[j]] += along[:, j] @ parts[j]
            for m in range(j + 1):
                block = (parts[j] * curve[j, m][:, None]).T @ parts[m]
                bend[at[j], at[m]] += block
                if m < j:
                    bend[at[m], at[j]] += block.T
    return float(value.sum()), slope, bend


def at_zero(
    theta: np.ndarray, covariance: np.ndarray, k: int, design: Design, link: Link
) -> tuple[np.ndarray, np.ndarray]:
    """From a fit on scaled covariates to covariates as given: (theta, covariance) of the base at z = 0."""
    p = len(design.names)
    coefficients = theta[k:].reshape(-1, p)
    e = len(coefficients)
    back = design.mean / design.sd
    logs, first, _ = link(theta[:k], -(coefficients @ back)[:, None])
    jacobian = np.zeros((len(theta), len(theta)))
    jacobian[:k, :k] = first[:, :k, 0]
    for i in range(e):
        at = slice(k + i * p, k + (i + 1) * p)
        jacobian[:k, at] = -first[:, k + i, 0][:, None] * back
        jacobian[at, at] = np.diag(1 / design.sd)
    moved = np.concatenate([logs[:, 0], (coefficients / design.sd).ravel()])
    return moved, jacobian @ covariance @ jacobian.T
