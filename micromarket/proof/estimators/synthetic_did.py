"""Synthetic difference-in-differences with its two limits: synthetic control and difference-in-differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.proof.estimators.simplex import Array, simplex_weights

KINDS = ("sdid", "sc", "did")


@dataclass(frozen=True)
class DidResult:
    """``effect``: average over treated units and periods of the window, in the outcome's units; weights add up to 1."""

    effect: float
    unit_weights: Array
    time_weights: Array


def synthetic_did(treated: Array, control: Array, before: int, kind: str = "sdid") -> DidResult:
    """Arkhangelsky, Athey, Hirshberg, Imbens & Wager (2021), *American Economic Review* 111:4088, algorithm 1.

    Weights are those of the exact optimum; the R package ``synthdid`` stops its Frank-Wolfe steps early.

    Parameters
    ----------
    treated, control : arrays of shape (units, periods)
    before : int
        Periods before the window.
    kind : {"sdid", "sc", "did"}
        ``sc``: no level, no time weights; ``did``: equal weights.

    Raises
    ------
    ValueError
        For another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
    early, late = control[:, :before], control[:, before:].mean(axis=1)
    aim = treated[:, :before].mean(axis=0)
    units, after = len(control), treated.shape[1] - before
    steps = np.diff(early, axis=1)
    noise = float(steps.std(ddof=1)) if steps.size > 1 else 0.0
    omega, time = np.full(units, 1 / units), np.full(before, 1 / before)
    if kind == "sdid":
        # omega: penalty zeta^2 T0 |w|^2 with zeta = (N1 T1)^(1/4) noise; lambda: a trace of the same for uniqueness
        zeta = (len(treated) * after) ** 0.25 * noise
        level = early.T - early.T.mean(axis=0)
        omega = simplex_weights(level, aim - aim.mean(), ridge=before * zeta**2)
        time = simplex_weights(early - early.mean(axis=0), late - late.mean(), ridge=units * (1e-6 * noise) ** 2)
    elif kind == "sc":
        omega = simplex_weights(early.T, aim, ridge=before * (1e-6 * noise) ** 2)
        time = np.zeros(before)
    gap = treated.mean(axis=0) - omega @ control
    return DidResult(float(gap[before:].mean() - gap[:before] @ time), omega, time)
