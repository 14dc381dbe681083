"""From a fitted panel to joint draws of every market's effects: shrunk, calibrated by experiments, never negative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from micromarket.response.model import MAX_ROOM, SaturatingPanel
from micromarket.response.transform import Array, Shape

# Short-run advertising elasticity over 751 estimates: mean .12 (Sethuraman, Tellis & Briesch 2011, J. Marketing
# Research 48:457-471). Log-normal with 90% of its mass from .03 to .3 has that mean.
ELASTICITY_LOG_MEAN = float(np.log(0.03 * 0.3) / 2)
ELASTICITY_LOG_SD = float(np.log(0.3 / 0.03) / (2 * 1.6449))
# How far a panel of spend that follows demand may be off, once experiments show it: common to all channels, and apart.
BIAS_COMMON, BIAS_OWN = 0.5, 0.25
# How far it is off even where spend does not follow demand, as its form is not the world's (relative). Set by judgement
# on simulated companies of seeds 1-5, where standard errors alone gave too narrow ranges; others are in benchmarks/.
FORM_COMMON, FORM_OWN = 0.25, 0.15
# Odds of no response that a panel cannot go below once experiments are there to tell.
DOUBT = 0.01


@dataclass(frozen=True)
class ChannelPosterior:
    """Joint posterior of what channels do.

    Attributes
    ----------
    effect, covariance : arrays (3 channels + 1,), (3 channels + 1, 3 channels + 1)
        Of (beta, logit decay, log half, strength of the room).
    p_no_response : float
        Posterior probability, from even odds, that no channel does anything.
    p_value : float
        Cluster-robust Wald test that all betas are 0, as estimated.
    experiments : tuple of str
        Channels that an experiment informs.
    negative : tuple of str
        Channels whose estimate was below 0.
    """

    effect: Array
    covariance: Array
    p_no_response: float
    p_value: float
    experiments: tuple[str, ...]
    negative: tuple[str, ...]


def channel_posterior(
    model: SaturatingPanel,
    channels: tuple[str, ...],
    elasticity: Array,
    spend: Array,
    lift: dict[str, tuple[float, float, float]],
) -> ChannelPosterior:
    """Shrinks the channels' effects towards equal return on money, and updates them by experiments.

    Parameters
    ----------
    elasticity : array (channels,)
        Elasticity of all new customers to the channel's spend per unit of beta, at today's spend.
    spend : array (channels,)
        Last year's money.
    lift : mapping of channel to (lift, standard error, model's lift per unit of beta)
        New customers per unit of money.
    """
    n = len(channels)
    mean: Array = np.concatenate([model.beta_, model.shape_.vector, [model.room_strength_]])
    covariance: Array = model.covariance_.copy()
    wald = float(model.beta_ @ np.linalg.solve(covariance[:n, :n] + 1e-300 * np.eye(n), model.beta_))
    negative = tuple(c for c, b in zip(channels, model.beta_, strict=True) if b < 0)
    share = spend / max(float(spend.sum()), 1e-300)
    live: NDArray[np.bool_] = (share > 0) & (elasticity > 0)

    # 1. channels' returns on money vary around a common one, by as much as the estimates say, at least by half of it
    if live.sum() >= 2:
        per = np.zeros((int(live.sum()), 3 * n + 1))
        per[np.arange(len(per)), np.flatnonzero(live)] = elasticity[live] / share[live]
        ratio, noise = per @ mean, per @ covariance @ per.T
        precision = np.linalg.inv(noise + np.eye(len(per)) * (0.5 * np.abs(ratio).mean()) ** 2)
        common = max(float(precision.sum(axis=0) @ ratio / precision.sum()), 0.0)
        spread = max(float(((ratio - common) ** 2 - np.diag(noise)).mean()), (0.5 * common) ** 2, 1e-12)
        common_var = 1 / float(precision.sum())
        prior = np.eye(len(per)) * spread + common_var
        mean, covariance = _observe(mean, covariance, per, np.full(len(per), common), prior)

    # 2. is there any response at all? total elasticity, 0 against the literature's
    pull = np.concatenate([elasticity, np.zeros(2 * n + 1)])
    none = _probability_of_none(float(pull @ mean), float(np.sqrt(max(float(pull @ covariance @ pull), 1e-300))))

    size: list[float] = [max(float(b), 0.0) for b in mean[:n]]
    covariance[:n, :n] += np.outer(size, size) * (FORM_COMMON**2 + FORM_OWN**2 * np.eye(n))

    # 3. experiments: the panel may be biased, alike in all channels and in each
    known = [c for c in channels if c in lift]
    if known:
        unit = np.array([lift[c][2] if c in lift else np.nan for c in channels])
        unit = np.where(np.isfinite(unit) & (unit > 0), unit, max(float(np.nanmedian(unit)), 1e-300))
        size = [max(mean[i], lift[c][0] / unit[i] if c in lift else 0.0, 1e-12) for i, c in enumerate(channels)]
        covariance[:n, :n] += np.outer(size, size) * (BIAS_COMMON**2 + BIAS_OWN**2 * np.eye(n))
        rows = np.zeros((len(known), 3 * n + 1))
        for row, c in enumerate(known):
            rows[row, channels.index(c)] = unit[channels.index(c)]
        seen = np.array([lift[c][0] for c in known])
        error = np.diag([max(lift[c][1], 1e-3 * abs(lift[c][0]), 1e-12) ** 2 for c in known])
        some = _log_normal(seen - rows @ mean, rows @ covariance @ rows.T + error)
        none = max(none, DOUBT)  # a panel alone never rules out that spend merely follows demand
        odds = np.log(none / max(1 - none, 1e-12)) + _log_normal(seen, error) - some
        none = float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
        mean, covariance = _observe(mean, covariance, rows, seen, error)

    return ChannelPosterior(
        effect=mean,
        covariance=(covariance + covariance.T) / 2,
        p_no_response=none,
        p_value=float(chi2.sf(wald, n)),
        experiments=tuple(known),
        negative=negative,
    )


def _observe(mean: Array, covariance: Array, rows: Array, seen: Array, error: Array) -> tuple[Array, Array]:
    """Gaussian update: ``rows @ parameters`` was seen as ``seen`` with covariance ``error``."""
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + error)
    return mean + gain @ (seen - rows @ mean), covariance - gain @ rows @ covariance


def _log_normal(x: Array, covariance: Array) -> float:
    return -0.5 * float(x @ np.linalg.solve(covariance, x)) - 0.5 * float(np.linalg.slogdet(covariance)[1])


def _probability_of_none(total: float, error: float) -> float:
    """P(total elasticity is 0), even odds before; if not 0, it is log-normal as in the literature."""
    z = np.linspace(-4, 4, 401)
    prior = np.exp(-0.5 * z**2)
    some = np.exp(-0.5 * ((total - np.exp(ELASTICITY_LOG_MEAN + ELASTICITY_LOG_SD * z)) / error) ** 2)
    # far above the prior's range is evidence for response, not against it
    top = np.exp(ELASTICITY_LOG_MEAN + 3 * ELASTICITY_LOG_SD)
    marginal = float((prior * some).sum() / prior.sum()) if total < top else 1.0
    none = float(np.exp(-0.5 * (max(total, 0.0) / error) ** 2))
    if total < 0:  # truncated at 0, both ways
        marginal, none = marginal / max(float(np.exp(-0.5 * (total / error) ** 2)), 1e-300), 1.0
    return none / max(none + marginal, 1e-300)


@dataclass(frozen=True)
class Draws:
    """Joint draws, first axis: effects (draws, markets, channels) per head and period at full saturation; shapes."""

    slopes: NDArray[np.float32]
    shapes: tuple[Shape, ...]
    none: NDArray[np.bool_]


def draw(model: SaturatingPanel, posterior: ChannelPosterior, count: int, seed: int) -> Draws:
    """``count`` joint draws of every market's effects and the channels' shapes.

    Channel effects are drawn from the posterior cut off at 0. A market's own effect is cut off at 0 too; its draws are
    then scaled so that the channel's sum stays what was drawn. A ``p_no_response`` part of the draws has no effect at
    all.
    """
    n = len(model.beta_)
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(posterior.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    pool = posterior.effect + rng.standard_normal((40 * count, 3 * n + 1)) @ root.T
    legal = (pool[:, :n] >= 0).all(axis=1)
    chosen = np.concatenate([pool[legal], np.maximum(pool[~legal], np.where(np.arange(3 * n + 1) < n, 0.0, -np.inf))])[
        :count
    ]
    bend = np.linalg.cholesky(model.slope_cov_ + 1e-14 * np.diag(np.maximum(model.tau_**2, 1e-12)))
    none = np.arange(count) < round(posterior.p_no_response * count)
    none = rng.permutation(none)
    slopes = np.zeros((count, *model.slopes_.shape), dtype=np.float32)
    shift = posterior.effect[:n] - model.beta_
    log_room = np.log(model.room_)[:, None]
    strength = np.clip(chosen[:, -1], 0.0, MAX_ROOM)
    for d in range(count):
        beta = chosen[d, :n]
        # shrinkage and experiments move a channel as a whole: its markets are scaled in proportion below
        own = model.slopes_ + np.einsum("mcd,d->mc", model.keep_, beta - posterior.effect[:n])
        own = own + shift + np.einsum("mcd,md->mc", bend, rng.standard_normal(own.shape))
        weight = np.exp(strength[d] * log_room)
        cut = np.maximum(own, 0.0) * weight
        want, have = beta * weight.sum(), cut.sum(axis=0)
        if not none[d]:
            slopes[d] = cut * np.minimum(want / np.maximum(have, 1e-300), 1e6)
    return Draws(slopes, tuple(Shape.of(v[n:-1]) for v in chosen), none)
