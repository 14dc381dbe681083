"""What all channels do together: shrunk, calibrated by experiments and pulses, with the odds of no response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from micromarket.response.model import SaturatingPanel
from micromarket.response.modifiers import MAX_ROOM
from micromarket.response.transform import Array, Shape

# Short-run advertising elasticity over 751 estimates: mean .12 (Sethuraman, Tellis & Briesch 2011, J. Marketing
# Research 48:457-471). Log-normal with 90% of its mass from .03 to .3 has that mean.
ELASTICITY_LOG_MEAN = float(np.log(0.03 * 0.3) / 2)
ELASTICITY_LOG_SD = float(np.log(0.3 / 0.03) / (2 * 1.6449))
# How far a panel may be off beyond its standard errors, common to all channels and apart (relative): its form is not
# the world's; where spend follows demand, what its control takes out is uncertain too; and all of it may be
# biased. Set by judgement on simulated companies of seeds 1-5; others are in benchmarks/.
FORM_COMMON, FORM_OWN = 0.2, 0.15
FOLLOWS_COMMON, FOLLOWS_OWN = 0.3, 0.1  # of what the control took out
BIAS = {True: (0.25, 0.15), False: (0.1, 0.1)}  # where spend follows demand (or nobody looked), and where not
# What experiments and pulses say of the plan's curves beyond their errors: they were at other times and other doses.
EVIDENCE_COMMON, EVIDENCE_OWN = 0.07, 0.07
# Odds of no response that a panel cannot go below once experiments are there to tell.
DOUBT = 0.01


@dataclass(frozen=True)
class Evidence:
    """A channel's effect seen elsewhere: ``seen`` = ``unit`` x beta, with standard error ``error``.

    ``kind``: "experiment" (new customers per unit of money) or "pulse" (beta itself).
    """

    channel: int
    seen: float
    error: float
    unit: float
    kind: str


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
        Channels that an experiment or a randomised pulse informs.
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
    evidence: list[Evidence],
    removed: Array | None = None,
    follows: bool = True,
) -> ChannelPosterior:
    """Shrinks the channels' effects towards equal return on money, and updates them by experiments and pulses.

    Parameters
    ----------
    elasticity : array (channels,)
        Elasticity of all new customers to the channel's spend per unit of beta, at today's spend.
    spend : array (channels,)
        Last year's money.
    removed : array (channels,), optional
        What the control for spend that follows demand took off each beta.
    follows : bool
        Spend follows demand, or nobody looked: experiments may then say something quite different.
    """
    n = len(channels)
    mean: Array = np.concatenate([model.beta_, model.shape_.vector, [model.room_strength_]])
    covariance: Array = model.covariance_.copy()
    wald = float(model.beta_ @ np.linalg.solve(covariance[:n, :n] + 1e-300 * np.eye(n), model.beta_))
    negative = tuple(c for c, b in zip(channels, model.beta_, strict=True) if b < 0)
    share = spend / max(float(spend.sum()), 1e-300)
    live: NDArray[np.bool_] = (share > 0) & (elasticity > 0)

    def doubt(size: Array, common: float, own: float) -> None:
        covariance[:n, :n] += np.outer(size, size) * (common**2 + own**2 * np.eye(n))

    if removed is not None:
        doubt(np.maximum(removed, 0.0), FOLLOWS_COMMON, FOLLOWS_OWN)

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

    # 3. experiments and pulses: the panel may be biased, alike in all channels and in each, whether they are there to
    # tell or not. Where one surely says more than the panel, by a part of that.
    size = np.maximum(mean[:n], 0.0)
    doubt(size, FORM_COMMON, FORM_OWN)
    for e in evidence:
        size[e.channel] = max(size[e.channel], (e.seen - e.error) / max(e.unit, 1e-300))
    doubt(np.maximum(size, 1e-12), *BIAS[follows])
    if evidence:
        rows = np.zeros((len(evidence), 3 * n + 1))
        for row, e in zip(rows, evidence, strict=True):
            row[e.channel] = e.unit
        what = np.array([e.seen for e in evidence])
        form = EVIDENCE_COMMON**2 + EVIDENCE_OWN**2 * np.eye(len(evidence))
        own = np.diag([max(e.error, 1e-12) ** 2 for e in evidence])
        # relative errors of what is expected, not of what was read: low readings would count as the surest ones
        # (Peelle's puzzle; D'Agostini 1994, Nucl. Instrum. Methods A 346, 306)
        wanted = rows @ mean
        for _ in range(3):
            wanted = rows @ _observe(mean, covariance, rows, what, own + np.outer(wanted, wanted) * form)[0]
        error = own + np.outer(wanted, wanted) * form
        some = _log_normal(what - rows @ mean, rows @ covariance @ rows.T + error)
        none = max(none, DOUBT)  # a panel alone never rules out that spend merely follows demand
        odds = np.log(none / max(1 - none, 1e-12)) + _log_normal(what, error) - some
        none = float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
        mean, covariance = _observe(mean, covariance, rows, what, error)

    return ChannelPosterior(
        effect=mean,
        covariance=(covariance + covariance.T) / 2,
        p_no_response=none,
        p_value=float(chi2.sf(wald, n)),
        experiments=tuple(sorted({channels[e.channel] for e in evidence})),
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
class ChannelDraws:
    """Joint draws of what all markets share.

    Attributes
    ----------
    beta : array (draws, channels)
        At least 0; 0 in the draws without response.
    logit_decay, log_half : arrays (draws, channels)
    strength : array (draws,)
        Exponent of the room.
    """

    beta: Array
    logit_decay: Array
    log_half: Array
    strength: Array

    def __len__(self) -> int:
        return len(self.beta)


def draw_channels(posterior: ChannelPosterior, channels: int, count: int, rng: np.random.Generator) -> ChannelDraws:
    """``count`` draws, effects cut off at 0; a ``p_no_response`` part of them has no effect at all."""
    n = channels
    values, vectors = np.linalg.eigh(posterior.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    pool = posterior.effect + rng.standard_normal((40 * count, 3 * n + 1)) @ root.T
    legal = (pool[:, :n] >= 0).all(axis=1)
    floor = np.where(np.arange(3 * n + 1) < n, 0.0, -np.inf)
    chosen = np.concatenate([pool[legal], np.maximum(pool[~legal], floor)])[:count]
    none = rng.permutation(np.arange(count) < round(posterior.p_no_response * count))
    shape = Shape.clipped(chosen[:, n : 2 * n], chosen[:, 2 * n : 3 * n])
    beta = np.where(none[:, None], 0.0, chosen[:, :n])
    return ChannelDraws(beta, shape[0], shape[1], np.clip(chosen[:, -1], 0.0, MAX_ROOM))
