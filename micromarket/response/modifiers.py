"""Why a market's channels work better than another's: headroom, features, region; and the strengths of all that.

Effect of a cell = channel effect x relative headroom^strength x exp(features x coefficients + region) x exp(random).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from micromarket.response.transform import Array, Shape

# Weak priors in the panel's units: decay about .1 to .8, half-saturation about 1/4 to 4 times the usual spend.
PRIOR_LOGIT_DECAY, PRIOR_LOGIT_SD = -0.4, 1.0
PRIOR_LOG_HALF, PRIOR_HALF_SD = 0.3, 0.8
PRIOR_ROOM, PRIOR_ROOM_SD, MAX_ROOM = 0.4, 0.3, 1.25
# A feature's standard deviation changes effects by this much (log), in all channels and apart; a region by this.
PRIOR_FEATURE_SD, PRIOR_REGION_SD = 0.15, 0.15
# Markets' own effects differ by about .45 of their channel's (90% range .2 to 1). A panel of small markets cannot
# tell that spread: its maximum likelihood estimate is as often 0 as twice the truth, and money then follows noise.
PRIOR_TAU, PRIOR_TAU_LOG_SD = 0.45, 0.5
# Logit of the correlation of a market's own effects between channels: about .25, 90% range .06 to .6.
PRIOR_SHARED, PRIOR_SHARED_SD = -1.1, 0.9
MOST_FEATURES, MOST_REGIONS = 6, 40


@dataclass(frozen=True)
class Modifiers:
    """What is known of each market. ``log_room`` (markets,), ``features`` (markets, q) standardised; ``regions``
    (markets, r) indicators."""

    log_room: Array
    features: Array
    regions: Array

    @classmethod
    def of(
        cls, room: Array, features: Array | None = None, region: NDArray[np.int64] | None = None, least: int = 4
    ) -> Modifiers:
        """Features are standardised, more than :data:`MOST_FEATURES` reduced to their principal components.

        Regions count where there are 2 to :data:`MOST_REGIONS` with at least ``least`` markets each on average.
        """
        count = len(room)
        z = np.zeros((count, 0)) if features is None else np.asarray(features, float)
        z = z[:, np.isfinite(z).all(axis=0)] if z.size else z
        z = z[:, z.std(axis=0) > 1e-9 * (np.abs(z).max(axis=0) + 1)] if z.size else np.zeros((count, 0))
        if z.shape[1]:
            z = np.clip((z - z.mean(axis=0)) / z.std(axis=0), -3.0, 3.0)
        if z.shape[1] > MOST_FEATURES:
            u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
            z = u[:, :MOST_FEATURES] * s[:MOST_FEATURES]
            z = np.clip(z / z.std(axis=0), -3.0, 3.0)
        codes = np.zeros(count, dtype=np.int64) if region is None else region
        groups = int(codes.max()) + 1
        dummies = np.zeros((count, 0))
        if 2 <= groups <= MOST_REGIONS and count >= least * groups:
            dummies = (codes[:, None] == np.arange(groups)).astype(float)
        return cls(np.log(room), z, dummies)

    def take(self, rows: NDArray[np.int64] | slice) -> Modifiers:
        return Modifiers(self.log_room[rows], self.features[rows], self.regions[rows])

    @property
    def common(self) -> Array:
        return np.concatenate([self.features, self.regions], axis=1)


@dataclass(frozen=True)
class Hyper:
    """Everything that is searched for.

    Attributes
    ----------
    shape : Shape
    log_tau : array (channels,)
        Log standard deviation of markets' own effects.
    shared : float
        Logit of their correlation between channels.
    strength : float
        Exponent of the room.
    common, own : arrays (features + regions,), (features, channels)
        Coefficients of the modifiers, in all channels and apart.
    """

    shape: Shape
    log_tau: Array
    shared: float
    strength: float
    common: Array
    own: Array

    @classmethod
    def start(cls, shape: Shape, tau: Array, modifiers: Modifiers) -> Hyper:
        varies = float(np.ptp(modifiers.log_room)) > 1e-9
        q, r = modifiers.features.shape[1], modifiers.regions.shape[1]
        strength = PRIOR_ROOM if varies else 0.0
        return cls(shape, np.log(tau), PRIOR_SHARED, strength, np.zeros(q + r), np.zeros((q, len(tau))))

    @property
    def vector(self) -> Array:
        two = np.array([self.shared, self.strength])
        numbers = [self.shape.vector, self.log_tau, two, self.common, self.own.ravel()]
        return np.concatenate(numbers)

    def at(self, vector: Array) -> Hyper:
        """Another point of the same dimensions."""
        c = len(self.log_tau)
        k = 3 * c + 2 + len(self.common)
        return replace(
            self, shape=Shape(vector[:c], vector[c : 2 * c]), log_tau=vector[2 * c : 3 * c],
            shared=float(vector[3 * c]), strength=float(vector[3 * c + 1]),
            common=vector[3 * c + 2 : k], own=vector[k:].reshape(self.own.shape),
        )  # fmt: skip

    def limits(self, modifiers: Modifiers) -> list[tuple[float, float]]:
        c = len(self.log_tau)
        varies = float(np.ptp(modifiers.log_room)) > 1e-9
        one = [(-3.0, 3.0)] if c > 1 else [(self.shared, self.shared)]
        return [
            *([(-4.0, 3.5)] * c), *([(-3.5, 3.5)] * c), *([(-7.0, 3.0)] * c), *one,
            (0.0, MAX_ROOM if varies else 0.0), *([(-1.0, 1.0)] * (len(self.common) + self.own.size)),
        ]  # fmt: skip

    def prior(self, usual: Array) -> tuple[Array, Array]:
        """Mean and precision of every number; ``usual``: log of the usual tau by channel."""
        c, q, r = len(self.log_tau), len(self.own), len(self.common) - len(self.own)
        mean = np.concatenate([
            np.repeat([PRIOR_LOGIT_DECAY, PRIOR_LOG_HALF], c), usual, [PRIOR_SHARED, PRIOR_ROOM],
            np.zeros(q + r + q * c),
        ])  # fmt: skip
        sd = np.concatenate([
            np.repeat([PRIOR_LOGIT_SD, PRIOR_HALF_SD, PRIOR_TAU_LOG_SD], c), [PRIOR_SHARED_SD, PRIOR_ROOM_SD],
            np.full(q, PRIOR_FEATURE_SD), np.full(r, PRIOR_REGION_SD), np.full(q * c, PRIOR_FEATURE_SD),
        ])  # fmt: skip
        return mean, sd**-2

    def correlation(self) -> tuple[Array, Array]:
        """Correlation matrix of own effects between channels, and its derivative by ``shared``."""
        c = len(self.log_tau)
        r = 0.95 / (1 + np.exp(-self.shared)) if c > 1 else 0.0
        off = 1 - np.eye(c)
        return np.eye(c) + r * off, r * (1 - r / 0.95) * off

    def covariance(self) -> Array:
        """Of own effects, (channels, channels)."""
        tau = np.exp(self.log_tau)
        return self.correlation()[0] * np.outer(tau, tau)

    def log_weight(self, modifiers: Modifiers) -> Array:
        """(markets, channels)."""
        both = self.strength * modifiers.log_room + modifiers.common @ self.common
        return both[:, None] + modifiers.features @ self.own


def shape_penalty(shape: Shape) -> float:
    away = np.concatenate([
        (shape.logit_decay - PRIOR_LOGIT_DECAY) / PRIOR_LOGIT_SD, (shape.log_half - PRIOR_LOG_HALF) / PRIOR_HALF_SD
    ])  # fmt: skip
    return 0.5 * float(away @ away)


def usual_tau(beta: Array) -> Array:
    """Log of the spread that markets' own effects have by the prior; ``beta``: the channels' effects as they stand."""
    positive = beta[beta > 0]
    typical = float(positive.mean()) if len(positive) else float(np.abs(beta).mean())
    return np.log(PRIOR_TAU * np.maximum(beta, max(0.3 * typical, 1e-6)))
