"""The linear problem inside: generalised least squares with random slopes by market and effects of every period.

With V = noise I + X S X' in a market (X: its pressure, S: covariance of its own slopes), V^-1 is a C x C Woodbury
identity, and the period effects, common to all markets, are projected out exactly. Markets are added in chunks: only
sums over markets are kept, so memory does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.response.transform import Array


def inverse_of(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@dataclass(frozen=True)
class Block:
    """A chunk of markets, arrays market first, whitened and centred.

    Attributes
    ----------
    x : array (markets, periods, channels)
        Saturated pressure times the market's weight: columns with random slopes.
    extra : array (markets, periods, columns)
        Columns with one coefficient for all markets.
    target : array (markets, periods)
    precision : array (markets,)
        1 / variance of the errors.
    inverse : array (markets, channels, channels)
        Covariance of the market's own slopes given the rest.
    """

    x: Array
    extra: Array
    target: Array
    precision: Array
    inverse: Array

    @classmethod
    def of(cls, x: Array, extra: Array, target: Array, precision: Array, prior: Array) -> Block:
        """``prior``: inverse of the covariance of own slopes (channels, channels)."""
        gram = np.matmul(x.transpose(0, 2, 1), x) * precision[:, None, None]
        inverse = np.linalg.inv(gram + prior)
        return cls(x, extra, target, precision, (inverse + inverse.transpose(0, 2, 1)) / 2)

    @property
    def factor(self) -> Array:
        return np.matmul(self.x, np.linalg.cholesky(self.inverse)) * np.sqrt(self.precision)[:, None, None]

    def weighted(self, a: Array, u: Array | None = None) -> Array:
        """V^-1 a, both (markets, periods, columns)."""
        u = self.factor if u is None else u
        return (a - np.matmul(u, np.matmul(u.transpose(0, 2, 1), a))) * self.precision[:, None, None]


@dataclass(frozen=True)
class Effects:
    """``coefficients`` of (x, extra), ``period`` effects, and the ``information`` on the coefficients."""

    coefficients: Array
    period: Array
    information: Array

    def part(self, block: Block) -> Array:
        """What of the target the common effects leave, (markets, periods)."""
        n = block.x.shape[2]
        left = block.target - self.period - np.matmul(block.x, self.coefficients[:n])
        return left - np.matmul(block.extra, self.coefficients[n:]) if block.extra.shape[2] else left


class NormalEquations:
    """Sums over markets; ``add`` chunk by chunk, then ``solve``.

    Parameters
    ----------
    basis : array (periods, columns)
        What every market has for itself (level, season): that part of the period effects is tied to 0.
    columns : int
        Columns of x and extra together.
    """

    def __init__(self, basis: Array, columns: int):
        periods = len(basis)
        self.basis, self.columns = basis, columns
        self.among = np.zeros((periods, periods))
        self.precision = 0.0
        self.sums = np.zeros((periods, columns + 1))
        self.inner = np.zeros((columns, columns + 1))

    def add(self, block: Block) -> None:
        u = block.factor
        flat = (u * np.sqrt(block.precision)[:, None, None]).transpose(1, 0, 2).reshape(len(self.basis), -1)
        self.among -= flat @ flat.T
        self.precision += float(block.precision.sum())
        design = np.concatenate([block.x, block.extra], axis=2)
        weighted = block.weighted(np.concatenate([design, block.target[..., None]], axis=2), u)
        self.sums += weighted.sum(axis=0)
        flat_design = design.reshape(-1, self.columns)
        self.inner += flat_design.T @ weighted.reshape(-1, self.columns + 1)

    def periods(self) -> Array:
        """Precision of the period effects."""
        eye, own = np.eye(len(self.basis)), self.basis @ self.basis.T
        return self.among + self.precision * ((1 + 1e-12) * eye - (1 - 1e-9) * own)

    def solve(self) -> Effects:
        k = self.columns
        periods = np.linalg.solve(self.periods(), self.sums)
        inner = self.inner - self.sums[:, :k].T @ periods
        gram = inner[:, :k]
        ridge = 1e-10 * np.diag(np.diag(gram)) + 1e-12 * np.eye(k)
        coefficients = np.linalg.solve(gram + ridge, inner[:, k])
        effects = periods[:, k] - periods[:, :k] @ coefficients
        return Effects(np.asarray(coefficients, dtype=np.float64), effects - effects.mean(), gram)


def information(block: Block, design: Array, normal: NormalEquations) -> tuple[Array, Array]:
    """Information matrix of ``design`` (all markets) and ``design`` less what the periods explain of it."""
    weighted = block.weighted(design)
    periods = np.linalg.solve(normal.periods(), weighted.sum(axis=0))
    inner = np.einsum("mtp,mtq->pq", design, weighted, optimize=True)
    return inner - weighted.sum(axis=0).T @ periods, design - periods
