"""What the field proposes, blended into targets: weighed, capped, inside the guardrails, sums kept to the cent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.config import FieldRound
from micromarket.targets.attainment import equal_probability


@dataclass(frozen=True)
class Blend:
    """Changes in whole cents, int arrays of shape (units,).

    Attributes
    ----------
    change : what the target changes by; adds up to 0 in every region (or the company)
    lowest, highest : how far cap and guardrails let it go
    wanted : what the answer alone would have changed, before cap, guardrails and the sum
    """

    change: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    wanted: np.ndarray


def blend(
    target: np.ndarray,
    proposed: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    region: np.ndarray,
    rules: FieldRound,
    original: np.ndarray | None = None,
) -> Blend:
    """Targets move towards the field's answers and still add up.

    A unit wants ``weight`` times the change that was proposed. Within a region one common shift, in proportion to size,
    makes the changes add up to 0: what one gives up its neighbours take over, and what everybody asks for alike
    (sandbagging) cancels out. No unit passes its cap or guardrail. Where nobody answered, nothing changes.

    Parameters
    ----------
    target : int array of shape (units,)
        Cents.
    proposed : array of shape (units,)
        Proposed change in cents; NaN: no answer.
    low, high : arrays of shape (units,)
        Guardrails of the target in cents; NaN: none. A target outside its own guardrails may stay where it is.
    region : int array of shape (units,)
    rules : FieldRound
    original : int array, optional
        Cents; the targets before the first round, which the cap is a share of.
    """
    target = np.asarray(target, dtype=np.int64)
    start = target if original is None else np.asarray(original, dtype=np.int64)
    room = rules.cap * np.abs(start)
    least = np.maximum(start - room, np.where(np.isnan(low), -np.inf, low)) - target
    most = np.minimum(start + room, np.where(np.isnan(high), np.inf, high)) - target
    lowest = np.minimum(np.ceil(least - 1e-6), 0).astype(np.int64)
    highest = np.maximum(np.floor(most + 1e-6), 0).astype(np.int64)
    wanted = np.where(np.isnan(proposed), 0.0, rules.weight * np.nan_to_num(proposed))
    codes = region if rules.within == "region" else np.zeros_like(region)
    change = np.zeros_like(target)
    for code in np.unique(codes[~np.isnan(proposed)]):
        unit = np.flatnonzero(codes == code)
        size = np.maximum(np.abs(target[unit]).astype(float), 1e-9)
        lo, hi = lowest[unit].astype(float), highest[unit].astype(float)
        solved = equal_probability(wanted[unit], size, lo, hi, 0.0).targets
        change[unit] = _whole(np.clip(solved, lo, hi))
    return Blend(change, lowest, highest, np.round(wanted).astype(np.int64))


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers next to ``values`` that add up to 0; ``values`` do, but for floating point."""
    whole = np.floor(values).astype(np.int64)
    part = values - whole
    short = -int(whole.sum())
    order = np.argsort(-part, kind="stable")
    order = order[part[order] > 0]
    whole[order[: max(short, 0)]] += 1
    return whole if int(whole.sum()) == 0 else np.zeros_like(whole)


def by_period(change: np.ndarray, share: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Changes of whole plans cut into periods: rows keep their sum, and so does every period within a group.

    All units of a group take the group's own season, so that what moves between them leaves each period's sum alone.

    Parameters
    ----------
    change : int array of shape (units,)
        Adds up to 0 within each group.
    share : array of shape (units, periods)
        Targets by period, at least 0.
    group : int array of shape (units,)

    Returns
    -------
    int64 array of shape (units, periods)
    """
    out = np.zeros(share.shape, dtype=np.int64)
    for code in np.unique(group[change != 0]):
        unit = np.flatnonzero(group == code)
        season = share[unit].sum(axis=0)
        season = season / season.sum() if season.sum() > 0 else np.full(share.shape[1], 1 / share.shape[1])
        edges = np.concatenate([[0.0], np.cumsum(season)])
        edges[-1] = 1.0
        # cut the running sum, then take differences: rows and columns are exact at once
        running = np.concatenate([[0], np.cumsum(change[unit])])
        cut = np.diff(np.floor(running[:, None] * edges[None, :] + 0.5).astype(np.int64), axis=1)
        out[unit] = np.diff(cut, axis=0)
    return out
