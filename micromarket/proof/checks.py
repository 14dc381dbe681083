"""Other estimators beside the one that was frozen: where they disagree, a result deserves less trust."""

from __future__ import annotations

import numpy as np

from micromarket.proof.backtest import Method, run_test
from micromarket.proof.estimators.relative_control import lift_from
from micromarket.proof.estimators.simplex import Array
from micromarket.proof.estimators.synthetic_control import synthetic_control
from micromarket.proof.estimators.synthetic_did import synthetic_did
from micromarket.proof.estimators.time_based import time_based_regression
from micromarket.proof.estimators.trimmed_match import trimmed_match
from micromarket.proof.layout import Layout

_MOST = 60  # controls of a synthetic control; more are bundled by size


def other_lifts(layout: Layout, counts: Array, split: int, after: int, before: int, mine: str) -> dict[str, float]:
    """Relative lift by every other estimator that the data allow.

    Parameters
    ----------
    counts : array of shape (markets, periods)
        Of the record's markets.
    split, after, before : int
        First period of the window, its length, and how far back to look.
    mine : str
        The frozen estimator, left out.
    """
    own = counts[layout.rows][:, max(split - before, 0) : split + after]
    early = own.shape[1] - after
    treated = layout.treated[0]
    banned = np.zeros(len(treated), dtype=bool) if layout.banned is None else layout.banned[0]
    one, others = own[treated], own[~treated & ~banned]
    others = _bundled(others[others[:, :early].sum(axis=1) > 0], early)
    out: dict[str, float] = {}
    if not len(others) or early < 4 or not one[:, :early].sum() > 0:
        return out
    window = float(one[:, early:].sum())

    def lift(incremental: float) -> float:
        return incremental / (window - incremental) if window - incremental > 0 else np.nan

    if layout.blocks is None:
        for name, text in (("control", "relative synthetic control"), ("ratio", "ratio to all other markets")):
            if name != mine:
                out[text] = lift_from(run_test(Method(name, before), layout, counts, split, after).estimate)
    else:
        change = window / max(float(one[:, :early].sum()), 1e-9)
        usual = float(others[:, early:].sum()) / max(float(others[:, :early].sum()), 1e-9)
        out["ratio of totals"] = float(change / usual - 1) if usual > 0 else np.nan
    out["synthetic difference-in-differences"] = lift(synthetic_did(one, others, early).effect * one[:, early:].size)
    out["ridge-augmented synthetic control"] = lift(
        synthetic_control(one, others, early, ridge=early <= 60).incremental
    )
    out["time-based regression"] = lift(time_based_regression(one.sum(axis=0), others.sum(axis=0), early).incremental)
    return {name: float(value) for name, value in out.items() if np.isfinite(value)}


def trimmed_return(
    layout: Layout, counts: Array, split: int, after: int, before: int, money: Array
) -> tuple[float, float, float] | None:
    """Customers per unit of money by trimmed match with its 90% interval; ``None`` unless the blocks are pairs.

    ``money`` (markets,): what the test added, rows as in ``layout``. The pairs' difference before is taken out.
    """
    if layout.blocks is None or not (np.bincount(layout.blocks) == 2).all():
        return None
    own, treated = counts[layout.rows], layout.treated[0]
    early = own[:, max(split - before, 0) : split].mean(axis=1)
    change = (own[:, split : split + after].mean(axis=1) - early) * after
    sign = np.where(treated, 1.0, -1.0)
    response = np.bincount(layout.blocks, change * sign).astype(float)
    cost = np.bincount(layout.blocks, money * sign).astype(float)
    try:
        found = trimmed_match(response, cost)
    except ValueError:
        return None
    return found.estimate, found.low, found.high


def _bundled(units: Array, early: int) -> Array:
    """At most :data:`_MOST` units: neighbours in size are averaged."""
    if len(units) <= _MOST:
        return units
    order = np.argsort(units[:, :early].sum(axis=1), kind="stable")
    return np.array([units[part].mean(axis=0) for part in np.array_split(order, _MOST)])
