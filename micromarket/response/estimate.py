"""The response stage: from the data stage's tables to curves with posterior draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Notes
from micromarket.response.assumed import assumed_curves
from micromarket.response.curves import PlanSpend, by_market, curves_from_draws, expected_new_customers, plan_spend
from micromarket.response.endogeneity import Endogeneity, control, diagnose
from micromarket.response.experiments import Readout, during, readouts, undisturbed, windows
from micromarket.response.model import SaturatingPanel
from micromarket.response.panel import Panel, build_panel, market_scale
from micromarket.response.posterior import ChannelPosterior, Evidence, channel_posterior, draw_channels
from micromarket.response.pulses import pulse_effects
from micromarket.response.result import Curves, ResponseResult, to_result
from micromarket.response.search import SEARCH_MARKETS
from micromarket.response.skill import measure
from micromarket.response.spillover import spillover
from micromarket.response.tested import what_tests_changed
from micromarket.response.transform import Array, saturated
from micromarket.response.words import ELASTICITY, FOLLOWS, Findings, facts_of, notes_of, warnings_of

DRAWS = 200
MIN_MARKETS = 10
MIN_PERIODS = {"week": 40, "month": 18}


def estimate_response(
    data: MarketData,
    scores: pd.DataFrame | None,
    value_markets: pd.DataFrame,
    settings: Settings,
    experiments: pd.DataFrame | None = None,
) -> ResponseResult:
    """How many new customers each market brings for money in each channel, over the plan period.

    Parameters
    ----------
    data : MarketData
        ``panel`` and ``spend`` carry the history, ``current`` today's spend (money over the plan period).
    scores : DataFrame or None
        ``headroom`` (customers) by market; the effect of spend may rise with headroom per head, if the data say so.
    value_markets : DataFrame
        ``new_customer_clv`` (money per new customer), for marginal returns.
    settings : Settings
    experiments : DataFrame, optional
        Table ``experiments`` of the contract. ``lift``: new customers per unit of money. Where ``spend`` (money that
        the test added; below 0: took away) and ``markets`` (how many) are given, it is read as the lift of that money
        on top of today's spend; where only ``markets`` is, as ids, by what their spend was from ``start`` to ``end``;
        else as the average lift of today's spend. Spend of listed markets on these days counts as drawn by lot;
        without a lift, the panel says what came of it.

    Returns
    -------
    ResponseResult
        With ``source`` "estimated" (own history), "assumed" (a cited elasticity) or "none" (no spend: no tables).
    """
    if data.current is None or data.spend is None or not float(data.current["current"].sum()) > 0:
        return _nothing("There is no spend data, so the plan cannot say where marketing money works, and moves none.")
    markets = pd.Index(sorted(data.markets["market_id"]), name="market_id")
    scale, scale_name = market_scale(data, markets)
    current = data.current.pivot_table(index="market_id", columns="channel", values="current", aggfunc="sum")
    current = current.reindex(index=markets).fillna(0.0).sort_index(axis=1).clip(lower=0.0)
    channels = tuple(current.columns)
    years = settings.plan.years
    new = data.cells.groupby("market_id")["new_customers_last_year"].sum().reindex(markets).fillna(0.0).to_numpy(float)
    panel = build_panel(data, scores)
    if not new.sum() > 0 and panel is not None:
        new = panel.outcome[-round(panel.periods_per_year) :].sum(axis=0) * scale
    expected = expected_new_customers(new, scale, years)
    if not expected.sum() > 0:
        return _nothing("No new customers are on record, so what spend brings cannot be said; the plan moves no money.")
    value = by_market(value_markets, "new_customer_clv", tuple(markets))
    assumptions = [Assumption(f"The size of a market is measured by its {scale_name}.", "default")]
    estimable, why = _estimable(data, panel, channels)
    source = ["estimated" if c in estimable else "assumed" for c in channels]
    curves, decay, facts, warnings = None, None, None, [why] if why else []
    if estimable:
        assert panel is not None
        with threadpool_limits(limits=1):  # thousands of tiny products: threads only get in each other's way
            found = _estimate(data, panel, estimable, current[list(estimable)].to_numpy(float), expected, experiments,
                              settings)  # fmt: skip
        curves, decay, facts = found.curves, found.decay, found.facts
        left = [c for c in channels if c not in estimable]
        warnings += warnings_of(found.posterior, left, found.plan, estimable, found.findings, found.spend)
        source = [
            "experiment" if c in found.posterior.experiments else s for c, s in zip(channels, source, strict=True)
        ]
        assumptions += found.assumptions
    if "assumed" in source:
        assumed = assumed_curves(expected, current.to_numpy(float), scale, DRAWS, settings.seed)
        curves = assumed if curves is None else _merge(assumed, curves, [channels.index(c) for c in estimable])
        assumptions.insert(0, ELASTICITY)
    assert curves is not None
    notes = notes_of(channels, source, curves, expected, assumptions, warnings, facts, decay)
    return to_result(tuple(markets), channels, curves, value, source, notes)


def _nothing(why: str) -> ResponseResult:
    numbers: dict[str, Any] = {"source": "none", "channels": [], "p_no_response": None, "skill": None}
    return ResponseResult(None, None, None, Notes(numbers, warnings=(why,)))


def _estimable(data: MarketData, panel: Panel | None, channels: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Channels whose history can show an effect, or why there are none."""
    lead = "How new customers answer to spend is taken from published research, not from your own data: "
    if panel is None:
        return (), lead + "there is no history of new customers beside the spend."
    frequency = data.frequency or "week"
    if len(panel.outcome) < MIN_PERIODS.get(frequency, 40):
        need = MIN_PERIODS.get(frequency, 40)
        return (), lead + f"the history of {len(panel.outcome)} {frequency}s is too short ({need} are needed)."
    if len(panel.markets) < MIN_MARKETS:
        return (), lead + f"{len(panel.markets)} markets are too few to compare ({MIN_MARKETS} are needed)."
    s = panel.spend
    inner = s - s.mean(axis=0) - s.mean(axis=1, keepdims=True) + s.mean(axis=(0, 1))
    moves = np.sqrt((inner**2).mean(axis=(0, 1))) > 0.01 * s.mean(axis=(0, 1))
    wide = (s > 0).any(axis=0).sum(axis=0) >= MIN_MARKETS
    good = tuple(c for c, ok in zip(panel.channels, moves & wide, strict=True) if ok and c in channels)
    return good, None if good else lead + "in no channel did spend change differently from market to market."


@dataclass(frozen=True)
class _Estimate:
    curves: Curves
    plan: PlanSpend
    posterior: ChannelPosterior
    findings: Findings
    decay: dict[str, float]
    facts: dict[str, Any]
    assumptions: list[Assumption]
    spend: Array


def _estimate(
    data: MarketData,
    panel: Panel,
    channels: tuple[str, ...],
    money: Array,
    expected: Array,
    experiments: pd.DataFrame | None,
    settings: Settings,
) -> _Estimate:
    """Everything that the panel says about ``channels``; ``money`` (markets, channels): today's, over the plan."""
    chosen = [panel.channels.index(c) for c in channels]
    spend = panel.spend if chosen == list(range(panel.spend.shape[2])) else panel.spend[:, :, chosen]
    drawn = windows(experiments, panel)
    without = undisturbed(panel, drawn)[:, :, chosen] if drawn else spend
    model, endogeneity, extra, removed = fit_panel(panel, spend, without)
    plan = plan_spend(spend, panel.unit[chosen], panel.scale, money, panel.periods_per_year, settings.plan.years)
    evidence = _readouts(readouts(experiments, panel.markets), model, plan, channels, panel, spend, without)
    mine = [w for w in drawn if w.channel in chosen and not w.readout]
    if mine:
        local = [type(w)(chosen.index(w.channel), w.rows, w.periods, w.money, w.readout) for w in mine]
        for c, (seen, variance) in pulse_effects(model, panel.outcome, spend, without, extra, local).items():
            base = float(model.base_beta_[c])
            evidence.append(Evidence(c, seen * base, float(np.sqrt(variance)) * base, 1.0, "pulse"))
    relative = model.weight_ * model.own_.mean
    _, bend = plan.at(model.shape_)
    elasticity = (bend * (plan.current > 0) * plan.heads[:, None] * relative).sum(axis=0)
    elasticity = elasticity / max(float(expected.sum()), 1e-12)
    total = plan.current.sum(axis=0)
    unsafe = endogeneity.follows or endogeneity.weights is None  # spend follows demand, or it could not be told
    posterior = channel_posterior(model, channels, elasticity, total, evidence, removed, unsafe)
    draws = draw_channels(posterior, len(channels), DRAWS, np.random.default_rng(settings.seed))
    curves = curves_from_draws(model, draws, plan, float(expected.sum()), settings.seed)
    findings = Findings(
        measure(model, panel.outcome, spend, panel.scale, extra, max(len(spend) // 8, 3)),
        endogeneity,
        spillover(model, panel.outcome, spend, extra, data.neighbours, panel.markets),
    )
    assumptions = [FOLLOWS] if endogeneity.follows else []
    if model.room_strength_ > 0.1:
        text = "Spend works better where more headroom is left: in the history, twice the headroom per head goes with"
        assumptions.append(Assumption(f"{text} {2**model.room_strength_:.1f} times the effect.", "estimated"))
    assumptions.append(Assumption("Over the plan, spend is spread over the year as it was last year.", "default"))
    if panel.gaps:
        text = f"The history lacks {panel.gaps} periods in between; they are taken to lie between those beside them."
        assumptions.append(Assumption(text, "default"))
    decay = {c: float(d) for c, d in zip(channels, model.shape_.decay, strict=True)}
    facts = facts_of(posterior, findings)
    if evidence:
        untested = channel_posterior(model, channels, elasticity, total, [], removed, unsafe)
        facts["tests"] = what_tests_changed(channels, elasticity, posterior, untested, evidence, DRAWS, settings.seed)
    return _Estimate(curves, plan, posterior, findings, decay, facts, assumptions, spend)


def fit_panel(panel: Panel, spend: Array, without: Array) -> tuple[SaturatingPanel, Endogeneity, Array, Array | None]:
    """The model, with a control for spend that follows demand where one can be had.

    Parameters
    ----------
    spend, without : arrays (periods, markets, channels)
        As it was, and as it would have been without what was drawn by lot.

    Returns
    -------
    model, endogeneity
    extra : array (periods, markets, columns)
        Columns that it was fitted with, the control among them.
    removed : array (channels,) or None
        What the control took off each channel's effect, in units of ``model.beta_``.
    """
    count = len(panel.scale)
    few = np.arange(0, count, -(-count // SEARCH_MARKETS))

    def fit(rows: Any, extra: Array) -> SaturatingPanel:
        region = None if panel.region is None else panel.region[rows]
        return SaturatingPanel(panel.periods_per_year).fit(
            panel.outcome[:, rows], spend[:, rows], panel.scale[rows], panel.room[rows], region, panel.features[rows],
            extra[:, rows],
        )  # fmt: skip

    rows: Any = few if len(few) < count else slice(None)
    first = fit(rows, panel.extra)
    region = None if panel.region is None else panel.region[rows]
    found = diagnose(first, panel.outcome[:, rows], without[:, rows], region, panel.extra[:, rows])
    if found.weights is None:
        return (first if len(few) == count else fit(slice(None), panel.extra)), found, panel.extra, None
    extra = np.concatenate([panel.extra, control(panel.outcome, without, panel.region, found)], axis=2)
    model = fit(slice(None), extra)
    reached = [saturated(spend[:, few], m.shape_).mean(axis=(0, 1)) for m in (first, model)]
    removed = first.beta_ * reached[0] / np.maximum(reached[1], 1e-12) - model.beta_
    return model, found, extra, removed


def _readouts(
    tests: list[Readout],
    model: SaturatingPanel,
    plan: PlanSpend,
    channels: tuple[str, ...],
    panel: Panel,
    spend: Array,
    without: Array,
) -> list[Evidence]:
    relative, out = model.weight_ * model.own_.mean, []
    for test in tests:
        if test.channel in channels:
            c = channels.index(test.channel)
            factor = _factor(test, c, plan, panel)
            if factor is None and test.rows is not None:
                cells = (during(pd.DatetimeIndex(panel.periods), test.start, test.end)[:, None], test.rows[None, :], c)
                factor = _seen_factor(spend[cells], without[cells])
            unit = plan.lift(model.shape_, relative[:, c], c, factor, test.rows)
            if unit > 0:
                out.append(Evidence(c, test.lift, test.error, unit, "experiment"))
    return out


def _factor(test: Readout, index: int, plan: PlanSpend, panel: Panel) -> float | None:
    """What a test multiplied spend by in its markets, or ``None`` where its table does not say."""
    active = plan.current[:, index] > 0
    if not np.isfinite(test.money) or test.money == 0 or not active.any():
        return None
    count = min(test.count or float(active.sum()), float(len(active)))
    heads = float(panel.scale.mean()) * count if test.rows is None else float(panel.scale[test.rows].sum())
    periods = max(test.days * panel.periods_per_year / 365.25, 1.0)
    added = test.money / (heads * periods * float(plan.unit[index]))
    where = (
        active
        if test.rows is None or not active[test.rows].any()
        else active & np.isin(np.arange(len(active)), test.rows)
    )
    more = added / max(float(plan.pattern[:, where, index].mean()), 1e-12)
    return None if more <= -0.9 or abs(more) < 1e-6 else 1 + more  # switched off: all of today's spend


def _seen_factor(spend: Array, without: Array) -> float | None:
    """The same from the history of the test's own markets and days; ``None`` where nothing shows there."""
    if not float(without.sum()) > 0:
        return None
    factor = float(spend.sum() / without.sum())
    return factor if factor > 0.1 and abs(factor - 1) > 0.05 else None


def _merge(assumed: Curves, fitted: Curves, where: list[int]) -> Curves:
    """The assumed curves with the fitted channels in their places."""
    parts = {}
    for name in Curves.__dataclass_fields__:
        whole = np.array(getattr(assumed, name))
        whole[..., where] = getattr(fitted, name)
        parts[name] = whole
    return Curves(**parts)
