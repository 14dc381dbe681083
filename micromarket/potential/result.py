"""The potential stage: one row a market with potential, headroom, opportunity, peers and play."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.potential.design import Design, build_design, number
from micromarket.potential.estimate import Frontier, fit_frontier, predict_levels
from micromarket.potential.families import FloatArray
from micromarket.potential.field_view import apply_field_notes
from micromarket.potential.plays import QUADRANTS, causes, choose_plays, peer_groups, play_library, quadrants
from micromarket.potential.words import Findings, potential_notes
from micromarket.workspace import Workspace

_VALUE_COLUMNS = ("clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity")


@dataclass(frozen=True)
class PotentialResult:
    """``scores``: the contract's scores (see :data:`micromarket.artefacts.ARTEFACTS`), true numbers, not
    suppressed, sorted by market.

    Beyond the contract: ``headroom_low``, ``headroom_high`` (customers, 90% interval), ``cause`` (the largest reason
    for the headroom) and ``coverage_gap``, ``spend_gap``, ``unexplained_gap`` (customers by cause, headroom in sum).
    """

    scores: pd.DataFrame
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        workspace.write("scores", self.scores)
        workspace.write_notes("potential", self.notes)


def estimate_potential(
    data: MarketData, value_markets: pd.DataFrame, settings: Settings, field_notes: pd.DataFrame | None = None
) -> PotentialResult:
    """How many customers each market could hold, how many are still to win, and what they are worth.

    Potential: customers that a market would hold with coverage and spend at best practice (their 90th percentile) and
    nothing else holding it back, by a stochastic frontier for counts on an average of penalised splines and monotone
    boosting, predicted out of fold over spatial blocks. Headroom: potential less the *expected* customers of today
    (JLMS-shrunk), so that a bad year is not mistaken for opportunity.

    Parameters
    ----------
    data : MarketData
    value_markets : DataFrame
        Artefact ``value_markets``; a market that is missing there takes the mean value of the others.
    field_notes : DataFrame, optional
        Contract table; kind ``potential`` bounds a market's potential by at most 25% either way until it expires.
    """
    # one order of rows, whatever the file had: random draws must not depend on it
    markets = pd.DataFrame(data.markets).sort_values("market_id", kind="stable").reset_index(drop=True)
    data = replace(data, markets=markets)
    design = build_design(data, settings.seed)
    levels = predict_levels(design, settings.seed)
    frontier = fit_frontier(design, levels, settings.seed)
    potential, changes = apply_field_notes(
        frontier.potential, frontier.expected, design.bound, markets["market_id"], field_notes, settings.as_of
    )
    scores = pd.DataFrame({"market_id": markets["market_id"], "customers": design.n})
    scores["penetration"] = _ratio(design.n, number(markets, "addressable_customers"))
    scores["share"] = _ratio(design.n, number(markets, "market_customers"))
    value, unvalued = _value(markets["market_id"], value_markets)
    scores = scores.join(value)
    scores["potential_customers"] = potential
    moved = potential / np.maximum(frontier.potential, 1e-12)
    scores["potential_low"] = np.minimum(np.maximum(frontier.potential_low * moved, 0.0), potential)
    scores["potential_high"] = np.maximum(np.minimum(frontier.potential_high * moved, design.bound), potential)
    scores["headroom"] = np.maximum(potential - frontier.expected, 0.0)
    scores["opportunity"] = scores["headroom"] * scores["new_customer_clv"]
    scores["opportunity_share"] = _shares(scores["opportunity"].to_numpy(float), scores["headroom"].to_numpy(float))
    scores["peer_group"] = _peers(markets, design, settings.seed)
    _add_plays(scores, design, frontier, settings)
    shift = scores["headroom"].to_numpy() - (frontier.potential - frontier.expected)
    scores["headroom_low"] = np.clip(frontier.headroom_low + shift, 0.0, scores["headroom"])
    scores["headroom_high"] = np.maximum(frontier.headroom_high + shift, scores["headroom"])
    findings = Findings(design, levels, frontier, changes, unvalued)
    return PotentialResult(scores, potential_notes(scores, findings))


def _peers(markets: pd.DataFrame, design: Design, seed: int) -> list[str]:
    """Peer groups on the features, size and density (buyers per square kilometre) of the markets."""
    features, names = design.features, [*design.feature_names]
    size = design.size if design.family.bounded else np.ones(len(design.n))
    area = number(markets, "area_km2")
    if design.family.bounded and (area > 0).mean() > 0.9 and not any("densit" in n.lower() for n in names):
        density = np.log(size / np.where(area > 0, area, np.nanmedian(area)))
        if np.std(density) > 1e-9:
            features = np.column_stack([features, (density - density.mean()) / density.std()])
            names.append("density")
    return peer_groups(features, names, size, seed)


def _add_plays(scores: pd.DataFrame, design: Design, frontier: Frontier, settings: Settings) -> None:
    reached = frontier.expected / np.maximum(scores["potential_customers"].to_numpy(float), 1e-12)
    share = scores["share"].to_numpy(float)
    # share where the market's size is known; else the part of the potential that is reached stands in for it
    quadrant = quadrants(scores["potential_customers"].to_numpy(float), share if np.isfinite(share).all() else reached)
    cause = causes(frontier.lever_parts, design.lever_names, _rivals(scores))
    own = settings.path.parent / "plays.yml"
    library = play_library(own if own.is_file() else None)
    scores["quadrant"] = [QUADRANTS[q] for q in quadrant]
    scores["play"] = choose_plays(quadrant, cause, library)
    scores["cause"] = cause
    for name, column in (("reps", "coverage_gap"), ("spend", "spend_gap")):
        at = design.lever_names.index(name) if name in design.lever_names else None
        part = frontier.lever_parts[:, at] if at is not None else np.zeros(len(scores))
        scores[column] = part * scores["headroom"]
    scores["unexplained_gap"] = scores["headroom"] - scores["coverage_gap"] - scores["spend_gap"]


def _rivals(scores: pd.DataFrame) -> FloatArray | None:
    """Markets where more people than usual buy, but from others."""
    share, penetration = scores["share"].to_numpy(float), scores["penetration"].to_numpy(float)
    if not (np.isfinite(share) & np.isfinite(penetration)).any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        others = penetration / share - penetration
    return (others > np.nanquantile(others, 0.6)) & (share < np.nanmedian(share))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def _value(market_id: pd.Series, value_markets: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Value columns by market (money); the second result counts markets that had none and took the mean."""
    by_market = value_markets.drop_duplicates("market_id").set_index("market_id")
    out = pd.DataFrame(index=range(len(market_id)))
    for column in _VALUE_COLUMNS:
        out[column] = market_id.map(by_market[column]).to_numpy(float, na_value=np.nan)
    unvalued = int(out["new_customer_clv"].isna().sum())
    for column in _VALUE_COLUMNS[:-1]:
        typical = out[column].mean()
        out[column] = out[column].fillna(typical if np.isfinite(typical) else 0.0)
    out["customer_equity"] = out["customer_equity"].fillna(0.0)
    return out, unvalued


def _shares(opportunity: FloatArray, headroom: FloatArray) -> FloatArray:
    """Shares that sum to 1; a market whose new customers cost more than they bring has none."""
    for base in (np.maximum(opportunity, 0.0), headroom):
        if base.sum() > 0:
            return base / base.sum()
    return np.full(len(headroom), 1 / max(len(headroom), 1))


__all__ = ["PotentialResult", "estimate_potential"]
