"""Each market's own effects: log-normal around their channel's, so never below 0, given what its own history says.

The outer search treats own effects as normal (exact sums); here, with everything else known, every market's few
numbers are settled one by one: ``effect = beta exp(z - omega^2 / 2)``, z normal with standard deviation omega. The
posterior of z is the normal distribution that is nearest in Kullback-Leibler divergence (Opper & Archambeau 2009,
Neural Computation 21, 786-792): a mode would put the mean of the effects too high, as their likelihood falls faster
upwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.response.linear import Block
from micromarket.response.transform import Array

LEAST_OMEGA, MOST_OMEGA = 0.02, 1.0
_STEPS = 12


@dataclass(frozen=True)
class OwnEffects:
    """Posterior of z by market.

    Attributes
    ----------
    mean_log : array (markets, channels)
    root : array (markets, channels, channels)
        Cholesky factor of its covariance.
    omega : array (channels,)
    """

    mean_log: Array
    root: Array
    omega: Array

    @property
    def mean(self) -> Array:
        """Posterior mean of ``exp(z - omega^2 / 2)``, (markets, channels): 1 where a market says nothing."""
        return np.exp(self.mean_log + 0.5 * (self.root**2).sum(axis=2) - 0.5 * self.omega**2)

    def draw(self, rows: slice, noise: Array) -> Array:
        """``exp(z - omega^2 / 2)`` of some markets; ``noise``: standard normal (draws, markets, channels)."""
        z = self.mean_log[rows] + np.einsum("mcd,rmd->rmc", self.root[rows], noise, optimize=True)
        return np.exp(z - 0.5 * self.omega**2)

    @classmethod
    def joined(cls, parts: list[OwnEffects]) -> OwnEffects:
        return cls(np.concatenate([p.mean_log for p in parts]), np.concatenate([p.root for p in parts]), parts[0].omega)


def omega_of(tau: Array, beta: Array) -> Array:
    """Log-scale spread of effects with mean ``beta`` and standard deviation ``tau``."""
    return np.clip(np.sqrt(np.log1p((tau / np.maximum(beta, 1e-12)) ** 2)), LEAST_OMEGA, MOST_OMEGA)


def own_effects(block: Block, left: Array, beta: Array, omega: Array, correlation: Array) -> OwnEffects:
    """Damped Newton steps for the mean, and the covariance that goes with it, for all markets of a block at once.

    Parameters
    ----------
    left : array (markets, periods)
        Target less period effects and common columns.
    beta : array (channels,)
        Channel effects, above 0.
    """
    across = block.x.transpose(0, 2, 1)
    gram = np.matmul(across, block.x) * block.precision[:, None, None]
    right = np.matmul(across, left[..., None])[..., 0] * block.precision[:, None]
    prior = np.linalg.inv(correlation * np.outer(omega, omega))
    eye = np.eye(len(beta))

    def at(z: Array, covariance: Array) -> tuple[Array, Array, Array]:
        """Expected score at mean ``z`` and ``covariance``, its slope and its bend by ``z``."""
        b = beta * np.exp(z + 0.5 * np.diagonal(covariance, axis1=1, axis2=2) - 0.5 * omega**2)
        both = gram * b[:, :, None] * b[:, None, :] * np.exp(np.clip(covariance, -3.0, 3.0))
        pull = b * right - both.sum(axis=2)
        pz = z @ prior
        score = (b * right).sum(axis=1) - 0.5 * both.sum(axis=(1, 2)) - 0.5 * (z * pz).sum(axis=1)
        bend = both + prior + np.maximum(-pull, -0.5 * np.diag(prior))[:, None] * eye
        return score, pull - pz, bend

    z = np.zeros((len(left), len(beta)))
    covariance = np.linalg.inv(gram * beta[:, None] * beta + prior)
    for _ in range(_STEPS):
        score, slope, bend = at(z, covariance)
        step = np.clip(np.linalg.solve(bend, slope[..., None])[..., 0], -1.0, 1.0)
        worse = at(z + step, covariance)[0] < score - 1e-9
        step[worse] *= 0.3  # where a whole step overshoots
        z = z + step
        covariance = np.linalg.inv(at(z, covariance)[2])
        if float(np.abs(step).max()) < 1e-4:
            break
    root = np.linalg.cholesky((covariance + covariance.transpose(0, 2, 1)) / 2)
    return OwnEffects(z, np.asarray(root, dtype=np.float64), omega)
