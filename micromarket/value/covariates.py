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

from micromarket.value.compression import Column, distinct
from micromarket.value.newton import Derivatives

#: log parameters (k, g), with first (k, k + e, g) and second (k, k + e, k + e, g) derivatives
Linked = tuple[np.ndarray, np.ndarray, np.ndarray]
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
    (k, e), g = shift.shape, eta.shape[1]
    first = np.concatenate([np.eye(k), shift], axis=1)[:, :, None].repeat(g, axis=2)
    return base[:, None] + shift @ eta, first, np.zeros((k, k + e, k + e, g))


def dropout_link(base: np.ndarray, eta: np.ndarray) -> Linked:
    """(r, alpha, a, b): alpha by exp(-eta_1); the log odds a / b by eta_2 at constant a + b."""
    g = eta.shape[1]
    log_a, log_b = base[2], base[3]
    own, sum0 = log_a + eta[1], np.logaddexp(log_a, log_b)
    sum1 = np.logaddexp(own, log_b)
    logs = np.stack(
        [np.full(g, base[0]), base[1] - eta[0], sum0 + own - sum1, sum0 + log_b - sum1]
    )  # fmt: skip
    share0, share = np.exp(log_a - sum0), np.exp(own - sum1)
    first = np.zeros((4, 6, g))
    first[0, 0] = first[1, 1] = 1.0
    first[1, 4] = -1.0
    first[2, 2], first[2, 3], first[2, 5] = share0 + 1 - share, share - share0, 1 - share
    first[3, 2], first[3, 3], first[3, 5] = share0 - share, 1 - share0 + share, -share
    second = np.zeros((4, 6, 6, g))
    turn0, turn = share0 * (1 - share0), share * (1 - share)
    sign = {2: 1.0, 3: -1.0, 5: 1.0}
    for i in sign:
        for j in sign:
            bend = -turn * sign[i] * sign[j]
            if i != 5 and j != 5:
                bend = bend + turn0 * sign[i] * sign[j]
            second[2, i, j] = second[3, i, j] = bend
    return logs, first, second


def chain(theta: np.ndarray, k: int, Z: np.ndarray, link: Link, likelihood: Likelihood) -> Derivatives:
    """Log-likelihood and derivatives in theta = (log base (k), coefficients effect by effect)."""
    g, p = Z.shape
    coefficients = theta[k:].reshape(-1, p) if p else np.zeros((0, 0))
    e = len(coefficients)
    if e == 0:
        value, gradient, hessian = likelihood(np.exp(theta)[:, None].repeat(g, axis=1))
        grad, scale = gradient.sum(axis=1), np.exp(theta)
        whole = hessian.sum(axis=2) * np.outer(scale, scale) + np.diag(grad * scale)
        return float(value.sum()), grad * scale, whole
    logs, first, second = link(theta[:k], coefficients @ Z.T)
    scale = np.exp(logs)
    value, gradient, hessian = likelihood(scale)
    gradient = gradient * scale
    hessian = hessian * scale[:, None] * scale[None]
    hessian[np.arange(k), np.arange(k)] += gradient
    J = first.transpose(2, 0, 1)
    slope = np.einsum("iag,ig->ag", first, gradient)
    bend = (J.transpose(0, 2, 1) @ hessian.transpose(2, 0, 1) @ J).transpose(1, 2, 0)
    bend = bend + np.einsum("iabg,ig->abg", second, gradient)
    size = k + e * p
    out = np.empty((size, size))
    out[:k, :k] = bend[:k, :k].sum(axis=2)
    for i in range(e):
        at = slice(k + i * p, k + (i + 1) * p)
        out[:k, at] = bend[:k, k + i] @ Z
        out[at, :k] = out[:k, at].T
        for j in range(e):
            out[at, k + j * p : k + (j + 1) * p] = (Z * bend[k + i, k + j][:, None]).T @ Z
    return float(value.sum()), np.concatenate([slope[:k].sum(axis=1), (slope[k:] @ Z).ravel()]), out


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
