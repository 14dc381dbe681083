"""Attainment on any day: the forecast band to date, where the period will end, and what a gap consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

_Z90 = 1.6448536269514722
_STANDS = (
    0.7  # of a level's error is there from the start, the rest comes as the period goes; chosen on simulated worlds
)


@dataclass(frozen=True)
class Beliefs:
    """What a plan expects of its cells over the whole period, arrays of shape (cells,); money.

    ``mu``: forecast; ``own``: standard deviation that a cell has to itself; ``luck``: part that single months bring and
    don't repeat; ``company``, ``region``: parts shared (standard deviations), ``company_luck`` that of single months;
    ``region_code``: int.
    """

    mu: np.ndarray
    own: np.ndarray
    luck: np.ndarray
    company: np.ndarray
    company_luck: np.ndarray
    region: np.ndarray
    region_code: np.ndarray

    @classmethod
    def of(cls, limits: pd.DataFrame, region: pd.Series, by: list[str]) -> Beliefs:
        """From the artefact ``target_limits``, summed over ``by`` (index order: sorted keys); ``region`` by market."""
        shared = limits["sd_company"] ** 2 + limits["sd_region"] ** 2
        luck = np.minimum(limits["sd_luck"] ** 2, np.maximum(limits["sd"] ** 2 - shared, 0.0))
        own = np.maximum(limits["sd"] ** 2 - shared - luck, 0.0)
        level = np.sqrt(np.maximum(limits["sd_company"] ** 2 - limits["sd_luck_company"] ** 2, 0.0))
        frame = limits.assign(_own=own, _luck=luck, _level=level)
        columns = ["forecast", "_own", "_luck", "_level", "sd_luck_company", "sd_region"]
        sums = frame.groupby(by, sort=True)[columns].sum()
        market = sums.index.get_level_values("market_id")
        codes, _ = pd.factorize(pd.Series(market).map(region).astype(object).fillna(""), sort=True)
        parts = [sums[c].to_numpy(float) for c in columns]
        return cls(parts[0], np.sqrt(parts[1]), np.sqrt(parts[2]), parts[3], parts[4], parts[5], codes)

    @property
    def loadings(self) -> np.ndarray:
        """Shape (cells, 2 + regions): what standard normals of the company (luck, level) and of each region move."""
        out = np.zeros((len(self.mu), 2 + int(self.region_code.max(initial=0)) + 1))
        out[:, 0], out[:, 1] = self.company_luck, self.company
        out[np.arange(len(self.mu)), 2 + self.region_code] = self.region
        return out


def _to_date(part: float) -> float:
    """Variance of a level's error to date, in units of the whole period's: part stands from the start, part walks."""
    return _STANDS * part**2 + (1 - _STANDS) * part**3


def _with_end(part: float) -> float:
    """Covariance of the same with the whole period's: ``∫₀ᶠ∫₀¹ min(s, t) = f²/2 - f³/6`` for what walks."""
    return _STANDS * part + (1 - _STANDS) * 3 * (part**2 / 2 - part**3 / 6)


def outlook(
    beliefs: Beliefs, expected: np.ndarray, actual: np.ndarray, part: float, target: np.ndarray, codes: np.ndarray
) -> pd.DataFrame:
    """Band to date and projection to the end, by group of cells.

    Parameters
    ----------
    beliefs : Beliefs
    expected : array of shape (cells,)
        Forecast to date; money.
    actual : array of shape (cells,)
        What came; money.
    part : float
        Share of the period's forecast that was due to date, 0 to 1.
    target : array of shape (cells,)
        Of the whole period; money.
    codes : int array of shape (cells,)
        Group of each cell, 0 to n - 1.

    Returns
    -------
    DataFrame, one row a group
        ``band_low``, ``band_high``: 90% range of the forecast to date; ``projection`` with ``projection_low``,
        ``projection_high``: the whole period, given what came; ``p_attain``: odds of the period's target now.

    Notes
    -----
    Errors of a cell, its region and the company are Gaussian: a level (mostly known badly from the start, partly a
    walk through the period) and luck of single months. Cells learn from each other through what they share: the
    posterior given all of them, by Woodbury's identity (Rasmussen and Williams 2006, ch. 2 and A.3).
    """
    groups = int(codes.max()) + 1 if len(codes) else 0
    load, own, luck = beliefs.loadings, beliefs.own**2, beliefs.luck**2
    here, both = _to_date(part), _with_end(part)
    # by factor: the company's luck comes month by month, levels stay
    scale, onward = np.full(load.shape[1], here), np.full(load.shape[1], both)
    scale[0] = onward[0] = part
    alone = here * own + part * luck + (1e-6 * np.maximum(beliefs.mu, 1.0)) ** 2
    cross = both * own + part * luck  # covariance of a cell's own part to date with its own end

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(codes, values, groups)

    shared = np.column_stack([total(column) for column in load.T])  # (groups, factors)
    band = np.sqrt(total(here * own + part * luck) + (scale * shared**2).sum(axis=1))
    gap = actual - expected
    weighed = load / alone[:, None]
    inner = np.linalg.pinv(np.diag(1 / np.maximum(scale, 1e-12)) + load.T @ weighed)
    solved = gap / alone - weighed @ (inner @ (weighed.T @ gap))
    mean = beliefs.mu + cross * solved + load @ (onward * (load.T @ solved))
    prior = total(own + luck) + (shared**2).sum(axis=1)
    # a' Cov(end, to date) Σ⁻¹ Cov(to date, end) a, for the indicator a of each group
    first = total(cross**2 / alone)
    touch = np.column_stack([total(cross / alone * column) for column in load.T])
    first = first - np.einsum("gi,ij,gj->g", touch, inner, touch)
    inside = load.T @ weighed
    middle = touch - touch @ inner @ inside
    last = inside - inside @ inner @ inside
    far = onward * shared
    known = first + 2 * (middle * far).sum(axis=1) + np.einsum("gi,ij,gj->g", far, last, far)
    sd = np.sqrt(np.maximum(prior - known, 0.0))
    centre, wanted = total(mean), total(target)
    done = total(actual)
    spread = np.maximum(sd, 1e-9 * np.maximum(np.abs(centre), 1e-9))
    reached = ndtr((centre - wanted) / spread)
    if part >= 1:
        centre, sd, reached = done, 0 * sd, (done >= wanted).astype(float)
    return pd.DataFrame({
        "band_low": total(expected) - _Z90 * band, "band_high": total(expected) + _Z90 * band,
        "projection": centre, "projection_low": centre - _Z90 * sd, "projection_high": centre + _Z90 * sd,
        "p_attain": reached,
    })  # fmt: skip


def causes(
    revenue: np.ndarray, new_customers: np.ndarray, leads: tuple[np.ndarray, np.ndarray] | None, each: np.ndarray,
    planned_customers: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """What a cell's gap in revenue consists of, money: columns add up to ``revenue``.

    Parameters
    ----------
    revenue : array of shape (cells,)
        Actual less target, to date; money.
    new_customers : array of shape (cells,)
        Won to date.
    leads : pair of arrays of shape (cells,), optional
        Created to date and planned to date.
    each : array of shape (cells,)
        Revenue that one new customer brings to date; money.
    planned_customers : array of shape (cells,)

    Returns
    -------
    DataFrame
        ``volume``: more or fewer leads (without leads: new customers); ``conversion``: of leads to customers, at the
        middle of both volumes (Shapley's split of a product: exact, and the same from either side); ``value``: revenue
        apart from the number of new customers: of those already there, and of each.
    """
    missed = (new_customers - planned_customers) * each
    volume, conversion = missed, np.zeros_like(missed)
    if leads is not None:
        got, due = leads
        rate_got = np.where(got > 0, new_customers / np.maximum(got, 1e-12), np.nan)
        rate_due = np.where(due > 0, planned_customers / np.maximum(due, 1e-12), np.nan)
        known = np.isfinite(rate_got) & np.isfinite(rate_due)
        rates = np.nan_to_num(rate_got), np.nan_to_num(rate_due)
        volume = np.where(known, (got - due) * (rates[0] + rates[1]) / 2 * each, missed)
        conversion = missed - volume
    return pd.DataFrame({"volume": volume, "conversion": conversion, "value": revenue - missed})
