"""Potential that somebody has measured in a few dozen markets, and what it says about all the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.potential.design import Design
from micromarket.potential.ensemble import Draws
from micromarket.potential.families import FloatArray

FEWEST_AUDITS = 12  # from here on audits fix the level; from _FEWEST_USED they move it
_FEWEST_USED = 3
AUDIT_ERROR = 0.10  # log sd of a measured potential around the truth: an assumption of ours
_PRIOR_SLOPE, _PRIOR_MARKETS = 0.5, 10.0


@dataclass(frozen=True)
class Calibration:
    """Measured gap = constant + ``slopes`` x estimated gap by levers and one-sided (linear predictor), fitted on
    ``audited`` markets; ``spread``: sd of what is left, audit error taken out; ``gap`` (markets,): the point estimate.
    """

    draws: Draws
    gap: FloatArray
    slopes: FloatArray
    spread: float
    audited: int

    @property
    def level_known(self) -> bool:
        return self.audited >= FEWEST_AUDITS


def calibrate(
    design: Design, draws: Draws, parts: tuple[FloatArray, FloatArray], now: FloatArray, seed: int
) -> Calibration:
    """Draws, and a point estimate ``gap`` (markets,), whose level and spread agree with the audited markets.

    Bayesian linear regression of the measured gap on its two estimated ``parts`` (by levers, one-sided; (markets,)
    each), with a prior at slopes of 1 and a level as doubtful as the ensemble's: few audits move it a little, dozens
    fix it. What all markets share is then drawn from this regression instead of the ensemble; what is a market's own
    keeps its draws, rescaled to the residuals that the audits show. An audited market itself takes its measurement,
    with an error of its own. ``now`` (markets,): where each market stands, linear predictor.
    """
    at = np.flatnonzero(np.isfinite(design.audited))
    mean = draws.gap.mean(axis=0)
    if len(at) < _FEWEST_USED:
        return Calibration(draws, parts[0] + parts[1], np.ones(2), 0.0, len(at))
    rng = np.random.default_rng([seed, 1])
    family, size = design.family, design.size
    rate = np.clip(design.audited[at] / size[at], 1e-9, 0.999 if family.bounded else np.inf)
    measured = family.link(rate) - now[at]
    error = AUDIT_ERROR * (1 / np.maximum(1 - rate, 0.05) if family.bounded else 1.0)
    # what is common to all markets of a draw moves their gaps in proportion; the rest is each market's own
    common = draws.gap.mean(axis=1) / max(mean.mean(), 1e-9) - 1
    own = draws.gap - mean - common[:, None] * mean
    expected = (own[:, at] ** 2).mean(axis=0) + draws.now[:, at].var(axis=0)
    noise = expected + error**2
    centre = float((parts[0] + parts[1]).mean())
    columns = np.column_stack([np.ones(len(now)), *(part - part.mean() for part in parts)])
    basis = columns[at]
    prior_sd = np.array([max(draws.gap.mean(axis=1).std(), 0.25), _PRIOR_SLOPE, _PRIOR_SLOPE])
    prior = np.array([centre, 1.0, 1.0])
    for _ in range(3):  # the residuals' variance and the line, in turn
        precision = (basis / noise[:, None]).T @ basis + np.diag(prior_sd**-2)
        covariance = np.linalg.inv(precision)
        line = covariance @ ((basis / noise[:, None]).T @ measured + prior / prior_sd**2)
        left = measured - basis @ line
        scale = ((left**2 / (expected + error**2)).sum() + _PRIOR_MARKETS) / (len(at) + _PRIOR_MARKETS)
        noise = scale * (expected + error**2)
    lines = rng.multivariate_normal(line, covariance, size=len(draws.gap), method="cholesky")
    freedom = len(at) + _PRIOR_MARKETS
    scales = scale * freedom / rng.chisquare(freedom, len(draws.gap))
    level = np.maximum(lines @ columns.T, 0.0)
    # a market's own draws relative to its mean: never below -1, so that no gap is cut off at 0 and none grows by that
    relative = draws.gap / np.maximum((1 + common[:, None]) * mean, 1e-9) - 1
    relative -= relative.mean(axis=0)
    gap = level * np.maximum(1 + np.sqrt(scales)[:, None] * relative, 0.0)
    point = np.maximum(columns @ line, 0.0)
    # the measured market: its measurement and what the others say of it, by their precision
    trust = scale * expected / (scale * expected + error**2)
    point[at] = np.maximum(trust * measured + (1 - trust) * point[at], 0.0)
    spread = float(np.sqrt(scale * expected.mean()))
    gap[:, at] = point[at] - (draws.now[:, at] - now[at])
    gap[:, at] += error * np.sqrt(trust) * rng.standard_normal((len(gap), len(at)))
    return Calibration(Draws(draws.now, np.maximum(gap, 0.0)), point, line[1:], spread, len(at))


__all__ = ["AUDIT_ERROR", "FEWEST_AUDITS", "Calibration", "calibrate"]
