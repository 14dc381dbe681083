"""The potential stage: one row a market with potential, headroom, opportunity, peers and play."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.potential.causes import COVERAGE, PRICE, RIVALS, SPEND, UNEXPLAINED, decompose
from micromarket.potential.design import Design, build_design, number
from micromarket.potential.development import development
from micromarket.potential.estimate import Frontier, fit_frontier, predict_levels
from micromarket.potential.families import FloatArray
from micromarket.potential.field_view import FieldChange, apply_field_notes, blocked_by_field, plays_of_field
from micromarket.potential.objective import Opportunities, opportunities
from micromarket.potential.peer_groups import Grouping, group_markets
from micromarket.potential.peer_scales import structure
from micromarket.potential.plays import choose_plays, play_library, unknown_groups
from micromarket.potential.previous_run import read_previous
from micromarket.potential.quadrants import QUADRANTS, log_sd, quadrants, standing
from micromarket.potential.residuals import hot_and_cold
from micromarket.potential.words import Findings, potential_notes
from micromarket.workspace import Workspace

_GAPS = {"coverage_gap": COVERAGE, "spend_gap": SPEND, "price_gap": PRICE, "rivals_gap": RIVALS,
         "unexplained_gap": UNEXPLAINED}  # fmt: skip
_VALUE_COLUMNS = ("clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity")


@dataclass(frozen=True)
class PotentialResult:
    """``scores``, ``causes`` and ``peer_groups`` (see :data:`micromarket.artefacts.ARTEFACTS`), and notes.

    The scores are the contract's and the optional columns that the data allow: true numbers, not suppressed, sorted by
    market. ``coverage_gap`` to ``unexplained_gap`` (customers by cause) add up to the headroom, as ``causes`` does.
    """

    scores: pd.DataFrame
    causes: pd.DataFrame
    peer_groups: pd.DataFrame
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        """Its tables and notes, into ``workspace``."""
        workspace.write("scores", self.scores)
        workspace.write("causes", self.causes)
        workspace.write("peer_groups", self.peer_groups)
        workspace.write_notes("potential", self.notes)


def estimate_potential(
    data: MarketData, value_markets: pd.DataFrame, settings: Settings, field_notes: pd.DataFrame | None = None
) -> PotentialResult:
    """How many customers each market could hold, how many are still to win, what they are worth, and what to do.

    Potential: customers that a market would hold with coverage and spend at best practice (their 90th percentile) and
    nothing else holding it back, by a stochastic frontier for counts, predicted out of fold over spatial blocks.
    Headroom: potential less the *expected* customers of today (JLMS-shrunk), so that a bad year is not mistaken for
    opportunity. Opportunity: money by the objective in ``targets.objective``; by default headroom x value of a new
    customer.

    Parameters
    ----------
    data : MarketData
    value_markets : DataFrame
        Artefact ``value_markets``; a market that is missing there takes the mean value of the others.
    settings : Settings
    field_notes : DataFrame, optional
        Contract table, each note until it expires; kind ``potential`` bounds a market's potential by at most 25% either
        way, ``play`` sets its play, ``blocked`` says that nothing can be started there.

    Returns
    -------
    PotentialResult
        Customers and money by market, with 90% ranges.

    Raises
    ------
    InputError
        A ``plays.yml`` beside ``plan.yml`` that can't be read.
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
    reached = _ratio(design.n, number(markets, "addressable_customers"))
    # more customers than people who could buy: that number of people is wrong, which the data stage says
    scores["penetration"] = np.where(reached <= 1, reached, np.nan)
    scores["share"] = _ratio(design.n, number(markets, "market_customers"))
    value, unvalued = _value(markets["market_id"], value_markets)
    scores = scores.join(value)
    scores["potential_customers"] = potential
    moved = potential / np.maximum(frontier.potential, 1e-12)
    scores["potential_low"] = np.minimum(np.maximum(frontier.potential_low * moved, 0.0), potential)
    scores["potential_high"] = np.maximum(np.minimum(frontier.potential_high * moved, design.bound), potential)
    scores["headroom"] = np.maximum(potential - frontier.expected, 0.0)
    grouping, groups, unread = _peers(data, design, settings)
    money = opportunities(scores, data, frontier.expected, grouping.member, settings)
    scores["opportunity"] = money.weighted
    scores["opportunity_share"] = _shares(money.weighted, scores["headroom"].to_numpy(float))
    scores["peer_group"] = grouping.names()
    shift = scores["headroom"].to_numpy() - (frontier.potential - frontier.expected)
    scores["headroom_low"] = np.clip(frontier.headroom_low + shift, 0.0, scores["headroom"])
    scores["headroom_high"] = np.maximum(frontier.headroom_high + shift, scores["headroom"])
    for column in ("top_fifth", "peer_potential", "outside"):
        scores[column] = getattr(frontier, column)
    if np.any(frontier.around != 0):
        scores["around"] = frontier.around
    scores["hot_spot"] = hot_and_cold(design, levels.now, markets["market_id"], data.neighbours, settings.seed)
    developed = development(markets, design, grouping.member)
    scores["development_index"] = developed.brand
    if np.isfinite(developed.category).any():
        scores["category_index"] = developed.category
    causes = decompose(data, design, frontier.lever_parts, scores["headroom"].to_numpy(float), potential,
                       frontier.expected, grouping.member)  # fmt: skip
    for column, cause in _GAPS.items():
        scores[column] = causes.of(cause)
    scores["cause"] = causes.largest()
    if (grouping.leaning >= 0).any():
        scores["peer_group_leaning"] = grouping.leaning_names()
    _add_money(scores, money)
    blocked, stops = blocked_by_field(markets["market_id"], field_notes, settings.as_of)
    set_by_field, idle, misnamed, strangers = _add_plays(
        scores, design, frontier, money, blocked, settings, field_notes
    )
    table = causes.table(markets["market_id"], scores["new_customer_clv"].to_numpy(float), blocked)
    findings = Findings(
        design, levels, frontier, (*changes, *stops, *set_by_field), unvalued, idle, misnamed, tuple(strangers), causes,
        table, developed, grouping, unread, money,
    )  # fmt: skip
    return PotentialResult(scores, table, groups, potential_notes(scores, findings))


def _peers(data: MarketData, design: Design, settings: Settings) -> tuple[Grouping, pd.DataFrame, str]:
    """Peer groups, those of the run before where they fit; their table; and why that run can't be used."""
    raw = structure(data.markets, [f for f in data.features if f in design.feature_names])
    before, why = read_previous(settings)
    if before is None:
        grouping = group_markets(raw, settings.seed)
        return grouping, grouping.groups.table(raw, grouping.member), why
    # a column that only the old groups know is still looked at
    for scale in before.groups.scales:
        if scale.name not in raw and scale.name in data.markets:
            raw[scale.name] = number(data.markets, scale.name)
    ids = data.markets["market_id"].astype(str)
    member = [m if isinstance(m, str) else None for m in ids.map(before.member)]
    leaning = [m if isinstance(m, str) else None for m in ids.map(before.leaning)]
    grouping = group_markets(raw, settings.seed, before.groups, member, leaning)
    return grouping, grouping.groups.table(raw, grouping.member), ""


def _add_money(scores: pd.DataFrame, money: Opportunities) -> None:
    for name, values in money.money.items():
        scores[f"opportunity_{name}"] = values
    if len(money.weights) > 1 or "acquire" not in money.weights:
        scores["objective"] = money.dominating
    if money.cross_sell is not None:
        scores["cross_sell"] = money.cross_sell


def _add_plays(
    scores: pd.DataFrame, design: Design, frontier: Frontier, money: Opportunities, blocked: FloatArray,
    settings: Settings, field_notes: pd.DataFrame | None,
) -> tuple[tuple[FieldChange, ...], tuple[str, ...], tuple[str, ...], list[str]]:  # fmt: skip
    """Quadrant, its odds and the play.

    Returns field notes on plays that set one, that name none, that name one which there isn't; and peer groups that
    plays are written for and no market is in.
    """
    potential = scores["potential_customers"].to_numpy(float)
    share = scores["share"].to_numpy(float)
    # share where the market's size is known; else the part of the potential that is reached stands in for it
    known = np.isfinite(share)
    served = standing(share, frontier.expected / np.maximum(potential, 1e-12))
    doubt = log_sd(scores["potential_low"].to_numpy(float), scores["potential_high"].to_numpy(float))
    counted = (1 - np.clip(np.where(known, share, 0.0), 0.0, 1.0)) / np.maximum(design.n, 0.5)
    served_sd = np.sqrt(counted + np.where(known, 0.0, doubt**2))
    well = bool(known.all() and len(share) and np.median(share) >= 0.5)
    quadrant, odds = quadrants(potential, served, doubt, served_sd, well=well)
    scores["quadrant"] = [QUADRANTS[q] for q in quadrant]
    scores["quadrant_odds"] = odds
    own = settings.path.parent / "plays.yml"
    library = play_library(own if own.is_file() else None)
    markets = {"quadrant": quadrant, "cause": scores["cause"].tolist(), "peer_group": scores["peer_group"].tolist(),
               "objective": money.dominating}  # fmt: skip
    plays = choose_plays(markets, library, blocked.tolist())
    plays, said, idle, misnamed = plays_of_field(plays, scores["market_id"], field_notes, settings.as_of, library)
    scores["play"] = plays
    return said, idle, misnamed, unknown_groups(library, scores["peer_group"].unique().tolist())


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
