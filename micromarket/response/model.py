"""How each market answers to money: a saturating panel regression with random slopes, fitted in closed form inside.

New customers per head of market m in period t::

    y[m,t] = market[m] + season[m] + period[t] + extra[m,t] @ coefficients + e[m,t]
             + sum_c beta[c] * weight[m,c] * exp(random[m,c]) * sat(adstock(spend[m,t,c]))

with ``weight`` from headroom, features and region (:mod:`.modifiers`), ``random`` correlated between the channels of a
market, ``e`` of variance ``noise[m]``, autocorrelated alike in all markets. The outer search (:mod:`.search`) looks at
a subsample of markets; then all markets get their exact conditional effects, chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from micromarket.response.covariance import sandwich
from micromarket.response.linear import Block, Effects, NormalEquations, inverse_of, tilt_of
from micromarket.response.modifiers import Modifiers
from micromarket.response.noise import own_variance
from micromarket.response.own_effects import OwnEffects, omega_of, own_effects
from micromarket.response.search import SEARCH_MARKETS, Found, Search
from micromarket.response.transform import Array, saturated

CHUNK = 2_000
# A channel whose estimate is not above 0 gets its markets' relative effects as if it had this part of the others'.
LEAST_BETA = 0.1


class SaturatingPanel:
    """Saturating, carried-over response with partial pooling over markets.

    Parameters
    ----------
    periods_per_year : float, optional
        Lets every market have its own yearly season, where the panel is long enough.
    iterations, rounds : int
        Quasi-Newton steps at most, each time; how often noise and autocorrelation are renewed.

    Attributes
    ----------
    beta_ : array (channels,)
        Effect at full saturation per head and period, in a market of average room.
    shape_ : Shape
    covariance_ : array (3 channels + 1, 3 channels + 1)
        Of (beta, logit decay, log half, room_strength), cluster-robust by market, including the weak priors.
    effects_ : array (markets, channels)
        Posterior mean of a cell's effect at full saturation per head and period: beta x weight x own effect.
    weight_ : array (markets, channels)
        From headroom, features and region.
    own_ : OwnEffects
        Posterior of the markets' own effects.
    base_beta_ : array (channels,)
        Channel effects that ``own_`` is relative to: ``beta_``, lifted to above 0.
    extra_, extra_covariance_ : arrays
        Coefficients of the extra columns and their covariance.
    tau_, correlation_, noise_, rho_, room_strength_
        Standard deviation of own effects and their correlation between channels, variance of e by market (whitened),
        its autoregression, exponent of the room.
    """

    def __init__(self, periods_per_year: float | None = None, iterations: int = 40, rounds: int = 3):
        self.periods_per_year = periods_per_year
        self.iterations = iterations
        self.rounds = rounds

    def fit(
        self,
        outcome: Array,
        spend: Array,
        scale: Array,
        room: Array,
        region: NDArray[np.int64] | None = None,
        features: Array | None = None,
        extra: Array | None = None,
    ) -> SaturatingPanel:
        """Fits all markets.

        Parameters
        ----------
        outcome, spend : arrays (periods, markets), (periods, markets, channels)
            Per head and period; spend in pressure units, see `panel.Panel`.
        scale, room : arrays (markets,)
            Heads; relative headroom, above 0.
        region : array (markets,), optional
            Code of each market's region: its effects may differ, and shocks that its markets share in a period widen
            the standard errors.
        features : array (markets, columns), optional
            May change how well money works.
        extra : array (periods, markets, columns), optional
            Columns that move the outcome with one coefficient in all markets.
        """
        markets, channels, unit = len(scale), spend.shape[2], max(float(outcome.mean()), 1e-12)
        extra = np.zeros((*outcome.shape, 0)) if extra is None else extra
        self._unit, self._extra = unit, extra
        expected = np.maximum(outcome.mean(axis=0), 1e-12) / unit / (scale * unit)
        self.modifiers_, self.tilt_ = Modifiers.of(room, features, region), tilt_of(outcome)
        few = np.arange(0, markets, -(-markets // SEARCH_MARKETS))
        y_few, spend_few = outcome[:, few] / unit, spend[:, few]
        search = Search(y_few, spend_few, extra[:, few], expected[few], self.modifiers_.take(few), self.tilt_[few])
        found = search.run(self.periods_per_year, self.iterations, self.rounds)
        hyper = found.hyper
        self.few_, self.whitening_ = few, found.whitening
        self.slope_covariance_ = hyper.covariance() * unit**2
        self._found, self.shape_, self.room_strength_ = found, hyper.shape, hyper.strength
        self.log_weight_ = hyper.log_weight(self.modifiers_)
        self.weight_ = np.exp(self.log_weight_)
        covariance = sandwich(
            found, spend_few, self.weight_[few], self.modifiers_.log_room[few], None if region is None else region[few]
        )
        up = np.concatenate([np.full(channels, unit), np.ones(2 * channels + 1), np.full(extra.shape[2], unit)])
        covariance = covariance * np.outer(up, up)
        k = 3 * channels + 1
        self.covariance_, self.extra_covariance_ = covariance[:k, :k], covariance[k:, k:]

        effects, noise, prior = found.fit.effects, np.empty(markets), inverse_of(hyper.covariance())
        if len(few) < markets:  # noise and common effects of all markets, from where the subsample stands
            normal = NormalEquations(found.whitening.basis, channels + extra.shape[2])
            for rows, x, more, target in self._chunks(outcome, spend):
                law = found.law.pooled(np.zeros(len(target)), expected[rows], 0)
                block = Block.of(x, more, target, 1 / law, prior, self.tilt_[rows])
                noise[rows] = self._noise(block, effects, found, expected[rows])
                normal.add(Block.of(x, more, target, 1 / noise[rows], prior, self.tilt_[rows]))
            effects = normal.solve()
        else:
            noise = found.noise
        beta = effects.coefficients[:channels]
        positive = beta[beta > 0]
        typical = float(positive.mean()) if len(positive) else max(float(np.abs(beta).mean()), 1e-9)
        base = np.maximum(beta, LEAST_BETA * typical)
        tau = np.exp(hyper.log_tau)
        correlation = hyper.correlation()[0]
        parts = []
        for rows, x, more, target in self._chunks(outcome, spend):
            block = Block.of(x, more, target, 1 / noise[rows], prior, self.tilt_[rows])
            left = target - effects.periods(block.tilt) - more @ effects.coefficients[channels:]
            parts.append(own_effects(block, left, base, omega_of(tau, base), correlation))
        self.own_ = OwnEffects.joined(parts)
        self.beta_, self.base_beta_, self.extra_ = beta * unit, base * unit, effects.coefficients[channels:] * unit
        self.effects_ = self.base_beta_ * self.weight_ * self.own_.mean
        self.noise_, self.tau_, self.rho_ = noise * unit**2, tau * unit, found.whitening.rho
        self.correlation_ = float(correlation[0, -1]) if channels > 1 else 0.0
        del self._extra
        return self

    def _noise(self, block: Block, effects: Effects, found: Found, expected: Array) -> Array:
        part = effects.part(block)
        pull = np.matmul(block.x.transpose(0, 2, 1), (part * block.precision[:, None])[..., None])
        residual = part - np.matmul(block.x, np.matmul(block.inverse, pull))[..., 0]
        prior = inverse_of(found.hyper.covariance())
        said = block.x.shape[2] - np.einsum("mcd,dc->m", block.inverse, prior)
        own = own_variance(residual.T, said, found.whitening.basis.shape[1])
        return found.law.pooled(own, expected, part.shape[1])

    def _chunks(self, outcome: Array, spend: Array) -> Iterator[tuple[slice, Array, Array, Array]]:
        """Whitened pressure, extra columns and outcome (in units of its mean), market first, chunk by chunk."""
        white = self._found.whitening
        for begin in range(0, outcome.shape[1], CHUNK):
            rows = slice(begin, begin + CHUNK)
            x = white.apply(saturated(spend[:, rows], self.shape_) * self.weight_[rows])
            more, target = white.apply(self._extra[:, rows]), white.apply(outcome[:, rows] / self._unit)
            yield rows, _market_first(x), _market_first(more), np.ascontiguousarray(target.T)


def _market_first(a: Array) -> Array:
    return np.ascontiguousarray(a.transpose(1, 0, 2))
