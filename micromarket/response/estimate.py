"""The response stage: from the data stage's tables to curves with posterior draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Check, Notes
from micromarket.response.curves import (
    PlanSpend,
    assumed_curves,
    by_market,
    curves_from_draws,
    expected_new_customers,
    plan_spend,
)
from micromarket.response.model import SaturatingPanel
from micromarket.response.panel import Panel, build_panel, market_scale
from micromarket.response.posterior import ChannelPosterior, channel_posterior, draw
from micromarket.response.result import Curves, ResponseResult, to_result
from micromarket.response.transform import Array

DRAWS = 200
MIN_MARKETS = 10
MIN_PERIODS = {"week": 40, "month": 18}
ELASTICITY = Assumption(
    "Where your own data cannot show how new customers answer to spend, 1% more spend is taken to bring 0.12% more new"
    " customers (90% range 0.03% to 0.3%), with today's spend half-way to saturation.",
    "Sethuraman, Tellis & Briesch (2011), Journal of Marketing Research 48, 457-471: mean short-run elasticity .12",
)


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
    experiments : DataFrame, optional
        Table ``experiments`` of the contract. ``lift``: new customers per unit of money. Where ``spend`` (money that
        the test added; below 0: took away) and ``markets`` (how many) are given, it is read as the lift of that money
        on top of today's spend, else as the average lift of today's spend.

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
    assumed = assumed_curves(expected, current.to_numpy(float), scale, DRAWS, settings.seed)
    estimable, why = _estimable(data, panel, channels)
    value = by_market(value_markets, "new_customer_clv", tuple(markets))
    assumptions = [Assumption(f"The size of a market is measured by its {scale_name}.", "default")]
    if not estimable:
        assert why is not None
        notes = _notes(channels, ["assumed"] * len(channels), assumed, expected, None, None, None,
                       [ELASTICITY, *assumptions], [why])  # fmt: skip
        return to_result(tuple(markets), channels, assumed, value, ["assumed"] * len(channels), notes)
    assert panel is not None
    chosen = [panel.channels.index(c) for c in estimable]
    money = current[list(estimable)].to_numpy(float)
    with threadpool_limits(limits=1):  # thousands of tiny products: threads only get in each other's way
        spend = panel.spend[:, :, chosen]
        model = SaturatingPanel(panel.periods_per_year).fit(panel.outcome, spend, panel.scale, panel.room, panel.region)
        plan = plan_spend(spend, panel.unit[chosen], panel.scale, money, panel.periods_per_year, years)
        posterior = _posterior(model, plan, estimable, expected, experiments, panel)
        draws = draw(model, posterior, DRAWS, settings.seed)
        fitted = curves_from_draws(draws, plan, model.shape_, float(expected.sum()))
        skill = model.skill(panel.outcome, spend, max(len(spend) // 8, 3))
    where = [channels.index(c) for c in estimable]
    curves = _merge(assumed, fitted, where)
    source = ["assumed"] * len(channels)
    for c, i in zip(estimable, where, strict=True):
        source[i] = "experiment" if c in posterior.experiments else "estimated"
    warnings = _warnings(posterior, [c for c in channels if c not in estimable], plan, estimable, skill)
    if "assumed" in source:
        assumptions.insert(0, ELASTICITY)
    if model.room_strength_ > 0.1:
        text = "Spend works better where more headroom is left: in the history, twice the headroom per head goes with"
        assumptions.append(Assumption(f"{text} {2**model.room_strength_:.1f} times the effect.", "estimated"))
    assumptions.append(Assumption("Over the plan, spend is spread over the year as it was last year.", "default"))
    decay = {c: float(d) for c, d in zip(estimable, model.shape_.decay, strict=True)}
    notes = _notes(channels, source, curves, expected, posterior, skill, decay, assumptions, warnings)
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


def _posterior(
    model: SaturatingPanel,
    plan: PlanSpend,
    channels: tuple[str, ...],
    expected: Array,
    experiments: pd.DataFrame | None,
    panel: Panel,
) -> ChannelPosterior:
    _, bend = plan.at(model.shape_)
    active = plan.current > 0
    elasticity = (bend * active * (plan.heads * model.weight_)[:, None]).sum(axis=0) / max(float(expected.sum()), 1e-12)
    lift: dict[str, tuple[float, float, float]] = {}
    for index, channel in enumerate(channels):
        tests = _experiments(experiments, channel)
        if tests:
            units = [plan.lift(model.shape_, model.weight_, index, _factor(t, index, plan, panel)) for t in tests]
            precision = np.array([1 / t["lift_se"] ** 2 for t in tests])
            share = precision / precision.sum()
            mean = float(share @ [t["lift"] for t in tests])
            lift[channel] = (mean, float(precision.sum() ** -0.5), float(share @ units))
    return channel_posterior(model, channels, elasticity, plan.current.sum(axis=0), lift)


def _experiments(experiments: pd.DataFrame | None, channel: str) -> list[dict[str, Any]]:
    if experiments is None or experiments.empty:
        return []
    rows = experiments[experiments["channel"].astype(str) == channel]
    numbers = rows[["lift", "lift_se"]].apply(pd.to_numeric, errors="coerce")
    usable = np.isfinite(numbers).all(axis=1) & (numbers["lift_se"] > 0)
    rows = rows.assign(**{c: numbers[c] for c in numbers})[usable]
    return rows.sort_values(["start", "lift"], kind="stable").to_dict("records")  # type: ignore[return-value]


def _count(text: Any) -> float | None:
    """Number of markets from a number, "80 markets …" or a list of ids."""
    if isinstance(text, str):
        parts = [m for m in text.replace(";", ",").split(",") if m.strip()]
        first = text.split()[0] if text.split() else ""
        return float(len(parts)) if len(parts) > 1 else _count(_number(first))
    number = _number(text)
    return number if np.isfinite(number) and number >= 1 else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _factor(test: dict[str, Any], index: int, plan: PlanSpend, panel: Panel) -> float | None:
    """What a test multiplied spend by in its markets, or ``None`` where its table does not say."""
    money = _number(test.get("spend"))
    active = plan.current[:, index] > 0
    if not np.isfinite(money) or money == 0 or not active.any():
        return None
    count = min(_count(test.get("markets")) or float(active.sum()), float(len(active)))
    days = (pd.Timestamp(test["end"]) - pd.Timestamp(test["start"])).days + 1
    periods = max(days * panel.periods_per_year / 365.25, 1.0)
    added = money / (count * float(panel.scale.mean()) * periods * float(plan.unit[index]))
    more = added / max(float(plan.pattern[:, active, index].mean()), 1e-12)
    return None if more <= -0.9 or abs(more) < 1e-6 else 1 + more  # switched off: all of today's spend


def _merge(assumed: Curves, fitted: Curves, where: list[int]) -> Curves:
    """The assumed curves with the fitted channels in their places."""
    parts = {}
    for name in ("half_spend", "amplitude_draws", "effect_draws", "current", "pull"):
        whole = np.array(getattr(assumed, name))
        whole[..., where] = getattr(fitted, name)
        parts[name] = whole
    return Curves(**parts)


def _warnings(
    posterior: ChannelPosterior, left: list[str], plan: PlanSpend, channels: tuple[str, ...], skill: float
) -> list[str]:
    out = []
    if not posterior.experiments:
        out.append(
            "No experiment backs the response estimates. If spend was raised where demand was rising anyway, they are"
            " too high, often by a factor of two: trust where money works better, less how much it brings, until a test"
            " is run."
        )
    if posterior.p_no_response > 0.2:
        out.append(
            "It is not clear that new customers respond to spend at all: the odds that they do not are"
            f" {posterior.p_no_response:.0%}. Effects are held close to zero."
        )
    for channel in posterior.negative:
        out.append(f"{channel}: the history shows no positive effect; it is held at or just above zero.")
    for channel in left:
        out.append(
            f"{channel}: its spend hardly varied between markets over time, so its effect is assumed, not estimated."
        )
    empty = [c for c, n in zip(channels, (plan.current <= 0).sum(axis=0), strict=True) if n]
    if empty:
        out.append(
            "Some markets have no spend today in " + ", ".join(empty) + ": their curves are the channel's average."
        )
    if skill <= 0:
        out.append(
            "On the last periods, held out, spend did not help to predict new customers: treat effects with care."
        )
    return out


def _notes(
    channels: tuple[str, ...],
    source: list[str],
    curves: Curves,
    expected: Array,
    posterior: ChannelPosterior | None,
    skill: float | None,
    decay: dict[str, float] | None,
    assumptions: list[Assumption],
    warnings: list[str],
) -> Notes:
    rows: list[dict[str, Any]] = []
    for i, channel in enumerate(channels):
        low, high = np.quantile(curves.pull[:, i], [0.05, 0.95])
        rows.append({
            "channel": channel, "source": source[i], "elasticity": float(curves.pull[:, i].mean()),
            "elasticity_low": float(low), "elasticity_high": float(high),
            "decay": None if decay is None else decay.get(channel),
            "spend": float(curves.current[:, i].sum()),
            "customers": float(curves.effect_draws[..., i].mean(axis=0, dtype=float).sum()),
        })  # fmt: skip
    total = float(sum(r["customers"] for r in rows))
    share = total / max(float(expected.sum()), 1e-300)
    sound = np.isfinite(curves.half_spend).all() and (curves.amplitude >= 0).all() and (curves.half_spend > 0).all()
    text = f"{share:.0%} of the new customers expected without change"
    checks = (
        Check("spend explains less than all new customers", share < 1, text),
        Check("curves are finite and not negative", bool(sound)),
    )
    if share >= 1:
        text = f"The estimates credit spend with {share:.0%} of all new customers, which cannot be: they are inflated,"
        warnings = [*warnings, text + " most likely because spend follows demand."]
    numbers = {
        "source": "estimated" if any(s != "assumed" for s in source) else "assumed",
        "channels": rows,
        "p_no_response": None if posterior is None else posterior.p_no_response,
        "p_value": None if posterior is None else posterior.p_value,
        "skill": skill,
    }
    return Notes(numbers, tuple(assumptions), tuple(warnings), checks)
