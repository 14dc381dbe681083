"""The linear problem inside: generalised least squares with random slopes by market and effects of every period.

With V = noise I + X S X' in a market (X: its pressure, S: covariance of its own slopes), V^-1 is a C x C Woodbury
identity. Period effects are projected out exactly: one a head, the same in all markets, and one in proportion to the
market's usual level (a season or a long month lifts high demand by more). Markets are added in chunks: only sums over
markets are kept, so memory does not grow with their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.response.transform import Array

# Prior of the proportional period effects: they swing by about this part of the mean outcome.
TILT_SD = 0.3


def inverse_of(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def by_period(a: Array, tilt: Array) -> Array:
    """Sums over markets of (markets, periods, columns), plain and weighed by ``tilt``: (2 periods, columns)."""
    return np.concatenate([a.sum(axis=0), np.tensordot(tilt, a, axes=(0, 0))])


def tilt_of(outcome: Array) -> Array:
    """From outcomes (periods, markets): mean over the mean of all markets, less 1, within -0.9 and 4."""
    mean = outcome.mean(axis=0)
    return np.clip(mean / max(float(mean.mean()), 1e-300) - 1, -0.9, 4.0)


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
    tilt : array (markets,)
        Usual level over the mean of all markets, less 1: how much of the proportional period effects it gets.
    """

    x: Array
    extra: Array
    target: Array
    precision: Array
    inverse: Array
    tilt: Array

    @classmethod
    def of(cls, x: Array, extra: Array, target: Array, precision: Array, prior: Array, tilt: Array) -> Block:
        """``prior``: inverse of the covariance of own slopes (channels, channels)."""
        gram = np.matmul(x.transpose(0, 2, 1), x) * precision[:, None, None]
        inverse = np.linalg.inv(gram + prior)
        return cls(x, extra, target, precision, (inverse + inverse.transpose(0, 2, 1)) / 2, tilt)

    @property
    def factor(self) -> Array:
        return np.matmul(self.x, np.linalg.cholesky(self.inverse)) * np.sqrt(self.precision)[:, None, None]

    def weighted(self, a: Array, u: Array | None = None) -> Array:
        """V^-1 a, both (markets, periods, columns)."""
        u = self.factor if u is None else u
        return (a - np.matmul(u, np.matmul(u.transpose(0, 2, 1), a))) * self.precision[:, None, None]


@dataclass(frozen=True)
class Effects:
    """``coefficients`` of (x, extra), ``period`` effects (2, periods): a head, and in proportion to the market's level;
    ``information`` on the coefficients."""

    coefficients: Array
    period: Array
    information: Array

    def periods(self, tilt: Array) -> Array:
        """Of markets, (markets, periods)."""
        return self.period[0] + tilt[:, None] * self.period[1]

    @property
    def penalty(self) -> float:
        """-2 log prior density of the proportional effects."""
        return float((self.period[1] ** 2).sum()) / TILT_SD**2

    def part(self, block: Block) -> Array:
        """What of the target the common effects leave, (markets, periods)."""
        n = block.x.shape[2]
        left = block.target - self.periods(block.tilt) - np.matmul(block.x, self.coefficients[:n])
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
        self.among = np.zeros((2 * periods, 2 * periods))
        self.precision = np.zeros((2, 2))
        self.sums = np.zeros((2 * periods, columns + 1))
        self.inner = np.zeros((columns, columns + 1))

    def add(self, block: Block) -> None:
        u = block.factor
        both = np.stack([np.ones_like(block.tilt), block.tilt])
        flat = (u * np.sqrt(block.precision)[:, None, None]).transpose(1, 0, 2)
        flat = np.concatenate([(flat * b[:, None]).reshape(len(self.basis), -1) for b in both])
        self.among -= flat @ flat.T
        self.precision += (both * block.precision) @ both.T
        design = np.concatenate([block.x, block.extra], axis=2)
        weighted = block.weighted(np.concatenate([design, block.target[..., None]], axis=2), u)
        self.sums += by_period(weighted, block.tilt)
        flat_design = design.reshape(-1, self.columns)
        self.inner += flat_design.T @ weighted.reshape(-1, self.columns + 1)

    def periods(self) -> Array:
        """Precision of the period effects."""
        eye, own = np.eye(len(self.basis)), self.basis @ self.basis.T
        out = self.among + np.kron(self.precision, (1 + 1e-12) * eye - (1 - 1e-9) * own)
        out[len(eye) :, len(eye) :] += eye / TILT_SD**2
        return out

    def solve(self) -> Effects:
        k = self.columns
        periods = np.linalg.solve(self.periods(), self.sums)
        inner = self.inner - self.sums[:, :k].T @ periods
        gram = inner[:, :k]
        ridge = 1e-10 * np.diag(np.diag(gram)) + 1e-12 * np.eye(k)
        coefficients = np.linalg.solve(gram + ridge, inner[:, k])
        effects = (periods[:, k] - periods[:, :k] @ coefficients).reshape(2, -1)
        return Effects(*(np.asarray(a, dtype=np.float64) for a in (coefficients, effects, gram)))


def information(block: Block, design: Array, normal: NormalEquations) -> tuple[Array, Array]:
    """Information matrix of ``design`` (all markets) and ``design`` less what the periods explain of it."""
    weighted = block.weighted(design)
    sums = by_period(weighted, block.tilt)
    periods = np.linalg.solve(normal.periods(), sums)
    inner = np.einsum("mtp,mtq->pq", design, weighted, optimize=True)
    half = len(normal.basis)
    return inner - sums.T @ periods, design - periods[:half] - block.tilt[:, None, None] * periods[half:]
