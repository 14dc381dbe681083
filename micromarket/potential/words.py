"""What the potential stage says about itself, for readers who have to act on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

from micromarket.notes import Assumption, Check, Notes
from micromarket.potential.causes import FIXABLE, Decomposition
from micromarket.potential.cross_check import agreement
from micromarket.potential.design import BEST_PRACTICE, LEVER_NAMES, Design
from micromarket.potential.development import Development
from micromarket.potential.estimate import NO_SKILL, Frontier, Levels
from micromarket.potential.field_view import CAP, FieldChange
from micromarket.potential.objective import Opportunities
from micromarket.potential.peer_groups import Grouping, group_numbers
from micromarket.potential.words_plays import (
    cause_assumptions,
    group_assumptions,
    objective_assumptions,
    play_warnings,
)

_SHOWN_CHANGES = 20
SURE = 0.8  # probability from which a market is said to be in the top fifth
CLEAR_SKILL = 0.35  # lower 5% bound of the rank correlation: below, neighbours in the ranking are interchangeable


@dataclass(frozen=True)
class Findings:
    """Everything the notes are made from.

    ``unvalued``: markets that the value stage did not know; ``idle``: field notes on plays that set none,
    ``misnamed``: that name one which there isn't; ``strangers``: peer groups that plays are written for and nobody is
    in; ``cause_table``: the artefact; ``unread``: why the run before gave no peer groups.
    """

    design: Design
    levels: Levels
    frontier: Frontier
    changes: tuple[FieldChange, ...]
    unvalued: int
    idle: tuple[str, ...]
    misnamed: tuple[str, ...]
    strangers: tuple[str, ...]
    causes: Decomposition
    cause_table: pd.DataFrame
    developed: Development
    grouping: Grouping
    unread: str
    money: Opportunities


def potential_notes(scores: pd.DataFrame, found: Findings) -> Notes:
    """Numbers: customers (``potential_customers``, ``headroom``), money (``opportunity``), the rest fractions."""
    opportunity = np.maximum(scores["opportunity"].to_numpy(float), 0.0)
    best = np.sort(opportunity)[::-1][: max(1, math.ceil(len(opportunity) / 5))]
    verdict, text = _signal(found)
    levels, frontier = found.levels, found.frontier
    numbers = {
        "method": levels.method,
        "potential_customers": float(scores["potential_customers"].sum()),
        "headroom": float(scores["headroom"].sum()),
        "opportunity": float(scores["opportunity"].sum()),
        "opportunity_share_top_fifth": float(best.sum() / opportunity.sum()) if opportunity.sum() > 0 else None,
        "rank_skill": levels.rank_skill,
        "rank_skill_low": levels.rank_skill_low,
        "skew_test": {"verdict": frontier.skew, "p_value": frontier.p_value},
        "level_known": frontier.level_known,
        "audited": frontier.audited,
        "size_source": found.design.size_source,
        "levers": list(found.design.lever_names),
        "headroom_by_cause": {c: float(scores[c].sum()) for c in scores.columns if c.endswith("_gap")},
        "causes": _causes(found.cause_table, scores),
        "cause_evidence": dict(found.causes.evidence),
        "share": {
            "company": _total_share(scores),
            "markets": int(scores["share"].notna().sum()),
            "development_index_from": found.developed.source,
        },
        "top_fifth": {"probability": SURE, "markets": int((frontier.top_fifth >= SURE).sum())},
        "cross_check": agreement(frontier.potential, frontier.peer_potential),
        "outside": int(frontier.outside.sum()),
        "leaning_on_neighbours": _leaning(frontier),
        "hot_spots": {kind: int((scores["hot_spot"] == kind).sum()) for kind in ("hot", "cold")},
        "quadrants": {q: int(c) for q, c in scores["quadrant"].value_counts().sort_index().items()},
        "quadrant_unsure": int((scores["quadrant_odds"] < 0.5).sum()),
        "peer_groups": dict(group_numbers(found.grouping)),
        "objective": {
            "weights": dict(found.money.weights),
            "markets": {o: found.money.dominating.count(o) for o in sorted(set(found.money.dominating))},
            "left_out": list(found.money.left_out),
            **found.money.numbers,
        },
        "signal": {"verdict": verdict, "text": text},
        "field_notes": [
            {
                "kind": c.kind,
                "market_id": c.market_id,
                "author": c.author,
                "reason": c.reason,
                "expires_on": c.expires_on or None,
                "before": c.before,
                "after": c.after,
            }
            for c in found.changes
        ],
    }
    return Notes(numbers, _assumptions(found), _warnings(scores, found, verdict, text), _checks(scores, found))


def _causes(table: pd.DataFrame, scores: pd.DataFrame) -> list[dict[str, object]]:
    """By cause: customers, money, both where it can be fixed, markets where it is the largest; largest cause first."""
    fixable = (table["kind"] == FIXABLE).to_numpy()
    split = table.assign(fixable_customers=table["customers"] * fixable, fixable_value=table["value"] * fixable)
    sums = ["customers", "value", "fixable_customers", "fixable_value"]
    by = split.groupby("cause", sort=True)[sums].sum().sort_values("customers", ascending=False, kind="stable")
    leads = scores["cause"].value_counts()
    return [{"cause": str(c), **{k: float(r[k]) for k in sums}, "markets": int(leads.get(c, 0))}
            for c, r in by.iterrows()]  # fmt: skip


def _leaning(frontier: Frontier) -> int:
    """Markets where neighbours account for more than a third of the customers expected today."""
    return int((frontier.around > frontier.expected / 3).sum())


def _total_share(scores: pd.DataFrame) -> float | None:
    """Ours of all who buy from anyone, over the markets where they are known."""
    known = scores[scores["share"] > 0]
    buyers = float((known["customers"] / known["share"]).sum())
    return float(known["customers"].sum() / buyers) if buyers > 0 else None


def _adds_up(scores: pd.DataFrame, table: pd.DataFrame) -> bool:
    by = table.groupby("market_id")["customers"].sum().reindex(scores["market_id"]).to_numpy(float)
    return bool(np.allclose(by, scores["headroom"], rtol=1e-9, atol=1e-9) and (table["customers"] >= 0).all())


def _signal(found: Findings) -> tuple[str, str]:
    skill, low = found.levels.rank_skill, found.levels.rank_skill_low
    if _same_everywhere(found.design):
        return "none", (
            "Markets of every size hold nearly the same number of customers, more alike than chance allows: that comes"
            " from how the data were drawn or assigned, not from demand. No ranking by potential is supported."
        )
    what = "how many customers a market has" if found.design.size_source == "none" else "how much of a market buys"
    if low <= NO_SKILL:
        return "none", (
            f"Nothing in the data about the markets tells {what} where it has not been seen (rank correlation"
            f" {skill:.2f}). The ranking of markets by potential is not supported; only their own counts speak."
        )
    strength = f"Features predict {what} in areas held out, with a rank correlation of {skill:.2f}"
    if low < CLEAR_SKILL:
        return "weak", f"{strength}: a weak guide. Treat neighbours in the ranking as equal."
    return "clear", f"{strength}: the ranking of markets by potential has a sound basis."


def _same_everywhere(design: Design) -> bool:
    """Are counts less spread than even equal markets' would be (index of dispersion, Fisher 1925), sizes apart?"""
    n, mean = len(design.n), float(design.n.mean())
    if n < 20 or mean <= 0 or design.size_source == "none" or np.std(design.size) < 0.3 * design.size.mean():
        return False
    dispersion = float(np.var(design.n, ddof=1)) / mean
    return bool(dispersion < 0.8 and chi2.cdf((n - 1) * dispersion, n - 1) < 1e-3)


def _assumptions(found: Findings) -> tuple[Assumption, ...]:
    design, out = found.design, []
    method = "Jondrow et al. 1982; Aigner, Lovell & Schmidt 1977"
    if found.frontier.level_known:
        audited = f"{found.frontier.audited:,} markets whose potential was measured fix the level of potential."
        out.append(Assumption(audited, "audited markets"))
    else:
        sure = int((found.frontier.top_fifth >= SURE).sum())
        out.append(
            Assumption(
                "The order of markets by potential can be learnt from the data, its level can't: the total of potential"
                " and headroom rests on the shape assumed for what holds markets back. Audit a few dozen markets to fix"
                f" it. Until then only ranks are supported: {sure:,} of {len(design.n):,} markets are in the top fifth"
                f" by headroom with a probability of {SURE:.0%} or more.",
                method,
            )
        )
    for lever in design.lever_names:
        out.append(
            Assumption(
                f"A market reaches its potential with {LEVER_NAMES[lever]} per buyer at the level of the best tenth of"
                " markets; that the link between the two is cause and effect is assumed, not shown.",
                f"{BEST_PRACTICE:.0%} percentile of today's markets",
            )
        )
    if found.frontier.fallback:
        out.append(
            Assumption(
                "Every market can reach what the best fifth of comparable markets reach.",
                "default of ours: no one-sided shortfall and no lever was found",
            )
        )
    out += cause_assumptions(found.causes)
    out += objective_assumptions(found.money)
    out += group_assumptions(found.grouping)
    out += [Assumption(text, "field notes on plays") for text in found.idle[:_SHOWN_CHANGES]]
    for change in found.changes[:_SHOWN_CHANGES]:
        out.append(Assumption(change.text, f"field note by {change.author}"))
    if len(found.changes) > _SHOWN_CHANGES:
        more = len(found.changes) - _SHOWN_CHANGES
        out.append(Assumption(f"{more} more field notes change potential, plays or block markets.", "field notes"))
    return tuple(out)


def _warnings(scores: pd.DataFrame, found: Findings, verdict: str, text: str) -> tuple[str, ...]:
    design, out = found.design, []
    if design.size_source == "none":
        out.append(
            "The number of possible buyers per market is unknown, so share and penetration are empty and potential is"
            " read from markets with similar features. Add addressable_customers to the markets table."
        )
    if not design.feature_names:
        out.append(
            "No usable feature describes the markets, so potential rests on their own counts alone. Add columns such as"
            " income, density or number of firms."
        )
    elif verdict != "clear":
        out.append(text)
    if design.dropped:
        out.append(f"Left out as constant or mostly empty: {', '.join(sorted(design.dropped))}.")
    if found.frontier.skew == "wrong sign":
        source = "the best fifth of similar markets" if found.frontier.fallback else "coverage and spend"
        out.append(
            "Markets don't lag behind a common ceiling: some run ahead instead. No hidden shortfall is assumed, so"
            f" headroom comes from {source} only."
        )
    elif found.frontier.skew == "unclear":
        out.append(
            "The data hardly tell markets that lag from plain differences between markets: the amount of headroom is"
            " uncertain, and its interval wide."
        )
    if (negative := int((scores["new_customer_clv"] < 0).sum())) > 0:
        out.append(
            f"In {negative:,} markets a new customer costs more than it brings: their opportunity is below zero."
        )
    if found.unvalued:
        out.append(f"{found.unvalued:,} markets have no customer value of their own; they take the average.")
    if (leaning := _leaning(found.frontier)) > 0:
        out.append(
            f"In {leaning:,} markets more than a third of the customers go with what neighbouring markets have"
            " (coverage, spend, rivals): money taken from those neighbours would cost customers there too."
        )
    out += play_warnings(found.misnamed, found.strangers, found.grouping, found.unread, found.money)
    return tuple(out)


def _checks(scores: pd.DataFrame, found: Findings) -> tuple[Check, ...]:
    needed = ["potential_customers", "potential_low", "potential_high", "headroom", "opportunity"]
    finite = bool(np.isfinite(scores[needed].to_numpy(float)).all())
    inside = bool((scores["potential_customers"] <= found.design.bound + 1e-6).all())
    total = float(scores["opportunity_share"].sum())
    return (
        Check("every market has a potential", finite),
        Check("no market holds more than its possible buyers", inside),
        Check("shares of the opportunity add up to 1", abs(total - 1) < 1e-9, f"{total:.12f}"),
        Check(f"field notes move potential by at most {CAP:.0%}",
              all(c.moved <= CAP + 1e-9 for c in found.changes)),
        Check("causes add up to the headroom", _adds_up(scores, found.cause_table)),
    )  # fmt: skip
