"""What the response stage says beside its tables: warnings, assumptions, numbers, checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from micromarket.notes import Assumption, Check, Notes
from micromarket.response.curves import PlanSpend
from micromarket.response.endogeneity import Endogeneity
from micromarket.response.posterior import ChannelPosterior
from micromarket.response.result import Curves
from micromarket.response.skill import Skill
from micromarket.response.spillover import Spillover
from micromarket.response.transform import Array

ELASTICITY = Assumption(
    "Where your own data cannot show how new customers answer to spend, 1% more spend is taken to bring 0.12% more new"
    " customers (90% range 0.03% to 0.3%), with today's spend half-way to saturation.",
    "Sethuraman, Tellis & Briesch (2011), Journal of Marketing Research 48, 457-471: mean short-run elasticity .12",
)
FOLLOWS = Assumption(
    "What all channels' spend does together in a market's week, and what customers do weeks ahead of it, is taken as"
    " spend that follows demand; only the rest is credited to spend.",
    "Sims (1972), American Economic Review 62, 540-552: leads as a test of what causes what",
)


@dataclass(frozen=True)
class Findings:
    """What was found out about the estimate."""

    skill: Skill
    endogeneity: Endogeneity
    spillover: Spillover | None


def warnings_of(
    posterior: ChannelPosterior,
    left: list[str],
    plan: PlanSpend,
    channels: tuple[str, ...],
    findings: Findings,
    spend: Array,
) -> list[str]:
    """Sentences for the plan, the gravest first."""
    out = []
    skill, endogeneity, spill = findings.skill, findings.endogeneity, findings.spillover
    if endogeneity.follows:
        text = (
            "Spend followed demand: it rose in weeks before and after which customers came anyway (odds that this is"
            f" chance: below {max(endogeneity.p_value, 1e-3):.1%}). That part is taken out of the estimates"
        )
        tested = "; tests back the level." if posterior.experiments else ", but only a test can prove the level."
        out.append(text + tested)
    elif not posterior.experiments:
        out.append(
            "No experiment backs the response estimates. Nothing shows that spend was raised where demand was rising"
            " anyway, but a history alone cannot rule it out: trust where money works better more than how much it"
            " brings, until a test is run."
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
    if spill is not None and spill.clear:
        out.append(
            f"Spend also works across borders: money spent next door brings about {spill.ratio:.0%} of what it would"
            " bring if spent in the market itself. The curves count it where it is spent; moves between neighbours"
            " change less than they say."
        )
    empty = [c for c, n in zip(channels, (plan.current <= 0).sum(axis=0), strict=True) if n]
    if empty:
        out.append(
            "Some markets have no spend today in " + ", ".join(empty) + ": their curves are the channel's average."
        )
    beyond = _never_doubled(spend)
    if beyond > 0.5:
        out.append(
            f"In {beyond:.0%} of the cells (market and channel) spend was never twice its average for a month: what"
            " doubling it would bring is read off the curve's shape and off other markets."
        )
    if skill.periods <= 0:
        out.append(
            "On the last periods, held out, spend did not help to predict new customers: treat effects with care."
        )
    return out


def _never_doubled(spend: Array) -> float:
    """Share of used cells whose spend over four periods never was twice its mean."""
    window = min(4, len(spend))
    total = np.cumsum(np.concatenate([np.zeros_like(spend[:1]), spend]), axis=0)
    most = (total[window:] - total[:-window]).max(axis=0) / window
    mean = spend.mean(axis=0)
    used = mean > 0
    return float((most < 2 * mean)[used].mean()) if used.any() else 0.0


def notes_of(
    channels: tuple[str, ...],
    source: list[str],
    curves: Curves,
    expected: Array,
    assumptions: list[Assumption],
    warnings: list[str],
    facts: dict[str, Any] | None = None,
    decay: dict[str, float] | None = None,
) -> Notes:
    """Notes with the numbers of every channel; ``facts``: further numbers (none where nothing was estimated)."""
    rows: list[dict[str, Any]] = []
    for i, channel in enumerate(channels):
        low, high = np.quantile(curves.pull[:, i], [0.05, 0.95])
        rows.append({
            "channel": channel, "source": source[i], "elasticity": float(curves.pull[:, i].mean()),
            "elasticity_low": float(low), "elasticity_high": float(high),
            "decay": None if decay is None else decay.get(channel),
            "spend": float(curves.current[:, i].sum()),
            "customers": float(curves.effect[:, i].sum()),
        })  # fmt: skip
    total = float(sum(r["customers"] for r in rows))
    share = total / max(float(expected.sum()), 1e-300)
    sound = np.isfinite(curves.half_spend).all() and (curves.amplitude >= 0).all() and (curves.half_spend > 0).all()
    checks = (
        Check("spend explains less than all new customers", share < 1, f"{share:.0%} of those expected without change"),
        Check("curves are finite and not negative", bool(sound)),
    )
    if share >= 1:
        text = f"The estimates credit spend with {share:.0%} of all new customers, which cannot be: they are inflated,"
        warnings = [*warnings, text + " most likely because spend follows demand."]
    numbers = {
        "source": "estimated" if any(s != "assumed" for s in source) else "assumed",
        "channels": rows,
        "p_no_response": None,
        "p_value": None,
        "skill": None,
    }
    return Notes(numbers | (facts or {}), tuple(assumptions), tuple(warnings), checks)


def facts_of(posterior: ChannelPosterior, findings: Findings) -> dict[str, Any]:
    """Numbers about the estimate as a whole."""
    skill, endogeneity, spill = findings.skill, findings.endogeneity, findings.spillover
    return {
        "p_no_response": posterior.p_no_response,
        "p_value": posterior.p_value,
        "skill": skill.periods,
        "skill_markets": skill.markets,
        "forecast_errors": skill.errors,
        "spend_follows_demand": {"follows": endogeneity.follows, "p_value": endogeneity.p_value},
        "spillover": None if spill is None else {"ratio": spill.ratio, "error": spill.error},
    }
