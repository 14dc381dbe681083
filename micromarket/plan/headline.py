"""The finding in one sentence: chosen by what the data support, never stronger than they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from micromarket.config import Settings
from micromarket.formats import chance, count, finite, money, money_range, percent, plural
from micromarket.formats import odds as odds_of
from micromarket.notes import Notes
from micromarket.plan.customers import segments_tell
from micromarket.plan.direction import Direction, direction

SURE = 0.9  # odds of a gain above which the headline states it without "test first"


@dataclass(frozen=True)
class Card:
    """A figure for the cover: what it is, the figure, and what qualifies it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Story:
    headline: str
    subline: str
    cards: tuple[Card, ...]


class _Facts:
    """The figures a headline may use; ``None`` where the stage had no data."""

    def __init__(
        self,
        settings: Settings,
        stages: Mapping[str, Notes],
        tables: Mapping[str, pd.DataFrame],
        markets: pd.DataFrame,
        segments: pd.DataFrame | None,
    ):
        self.settings, self.stages, self.tables = settings, stages, tables
        self.markets, self.segments = markets, segments
        self.currency = settings.company.currency
        gain = self.number("allocation", "gain")
        self.gain = gain if isinstance(gain, Mapping) and finite(gain.get("expected")) is not None else None
        self.moved = finite(self.number("allocation", "moved")) if "budget" in tables else None
        self.value_ranked = self.number("value", "signal", "verdict") != "none"
        self.potential_ranked = self.number("potential", "signal", "verdict") != "none"
        self.opportunity = float(tables["scores"]["opportunity"].sum()) if "scores" in tables else None
        weights = self.number("potential", "objective", "weights")
        weights = weights if isinstance(weights, Mapping) else {}
        #: opportunity is of new customers alone, not also of deeper accounts or of customers kept
        self.only_new = not any(weights.get(goal) for goal in ("deepen", "retain"))

    def number(self, stage: str, *keys: str) -> Any:
        value: Any = self.stages[stage].numbers if stage in self.stages else None
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def money(self, value: Any, **how: Any) -> str:
        return money(value, self.currency, **how)


def tell(
    settings: Settings,
    stages: Mapping[str, Notes],
    tables: Mapping[str, pd.DataFrame],
    markets: pd.DataFrame,
    segments: pd.DataFrame | None,
) -> Story:
    """Headline, sub-headline and the (at most four) cards of a plan."""
    facts = _Facts(settings, stages, tables, markets, segments)
    return Story(_headline(facts), _subline(facts), tuple(_cards(facts)[:4]))


def _headline(f: _Facts) -> str:
    if f.gain is not None and f.moved is not None:
        return _move(f)
    if f.opportunity and f.potential_ranked:
        share = finite(f.number("potential", "opportunity_share_top_fifth"))
        best = f": {percent(share)} of it lies in the best fifth of markets" if share is not None else ""
        if f.number("potential", "signal", "verdict") == "weak":
            best = "; which markets hold it is only roughly known"
        what = "still to be won" if f.only_new else "open, in new, deeper and kept customers"
        return f"{f.money(f.opportunity)} of margin is {what}{best}"
    return _no_ranking(f)


def _move(f: _Facts) -> str:
    gain = f.gain or {}
    # less than one part in a thousand is rounding, not a move
    if not f.moved or f.moved < 1e-3 * (finite(f.number("allocation", "total")) or 0):
        return "Leave the budget where it is: the data show no move that would clearly pay"
    total, current = finite(f.number("allocation", "total")), finite(f.number("allocation", "current_total"))
    if total is not None and current is not None and abs(total - current) > f.moved:  # mostly one way
        move = _other_total(f, total - current)
    else:
        way = direction(f.tables, value_ranked=f.value_ranked, potential_ranked=f.potential_ranked)
        move = f"Move {f.money(f.moved)} {_where_from(f, way)} into {_where_to(f, way)}"
    low, high, odds = finite(gain.get("low")), finite(gain.get("high")), finite(gain.get("p_positive"))
    between = f" (90%: {money_range(low, high, f.currency)})" if low is not None and high is not None else ""
    promised = f"{f.money(gain['expected'], sign=True)} margin"
    if f.number("response", "source") == "assumed":
        return f"{move}: {promised} if spend works as studies elsewhere found{between}. Test it first"
    if low is not None and low < 0 and finite(gain["expected"]) is not None and gain["expected"] < 0:
        return f"{move}: {promised}{between}"
    if low is not None and low < 0:
        return f"{move}, in steps and with tests: {promised} expected, a loss is not ruled out{between}"
    if (odds is not None and odds < SURE) or (low is not None and low == 0):
        return f"{move}, in steps and with tests: {promised} expected{between}"
    return f"{move}: {promised}{between}"


def _other_total(f: _Facts, more: float) -> str:
    """What leads where the budget grows or shrinks: half the changes is then no sum that "moves"."""
    kept = bool(f.number("allocation", "kept"))
    if more > 0:
        return f"Spend {f.money(more)} more, {'spread as today' if kept else 'placed where it earns most'}"
    return f"Spend {f.money(-more)} less, {'spread as today' if kept else 'taken where it earns least'}"


def _where_from(f: _Facts, way: Direction) -> str:
    """Where the money comes from, in the strongest words that are true of most of it."""
    if not way.down:
        return "between channels"
    if way.mostly_from_worst:
        return "from the markets worth least"
    return f"from {plural(way.down, 'market')} where it earns least"


def _where_to(f: _Facts, way: Direction) -> str:
    if not way.up:
        return "channels that earn more"
    if way.mostly_under_served:
        return f"{count(way.under_served)} under-served {'one' if way.under_served == 1 else 'ones'}"
    return f"{plural(way.up, 'market')} where it earns more"


def _no_ranking(f: _Facts) -> str:
    refusal = "Don't rank these markets by customer value: the differences between them are noise"
    if f.value_ranked:
        return _worth(f)
    segments = f.segments
    if segments is not None and len(segments) > 1 and segments_tell(f.stages.get("data")) is not False:
        best = segments.sort_values(["clv", "segment"]).iloc[-1]
        worst = segments.sort_values(["clv", "segment"]).iloc[0]
        if float(best["clv"]) > 1.2 * float(worst["clv"]):
            return (
                f"Steer by segment, not by market: a “{best['segment']}” customer is worth {f.money(best['clv'])},"
                f" a “{worst['segment']}” one {f.money(worst['clv'])}; differences between markets are noise"
            )
    return refusal


def _worth(f: _Facts) -> str:
    """What the value of today's customers by market says, where nothing is known of what is still to be won."""
    equity = finite(f.number("value", "customer_equity"))
    if equity is None:
        return f"What {f.settings.company.name}'s {plural(len(f.markets), 'market')} look like today"
    if "scores" in f.tables:
        scores = f.tables["scores"]
        known = scores[scores["customers"].notna()]
        losing = known[known["clv_high"] < 0]
        if len(losing):
            share = percent(losing["customers"].sum() / max(float(known["customers"].sum()), 1.0))
            where = f"In {plural(len(losing), 'market')} with {share} of the customers"
            return f"{where}, a customer costs more than it brings"
        worth = known["customer_equity"].clip(lower=0).sort_values(ascending=False)
        best = worth.head(max(1, math.ceil(len(worth) / 5)))
        if len(worth) >= 10 and float(worth.sum()) > 0:
            part = percent(best.sum() / worth.sum())
            return f"Today's customers are worth {f.money(equity)} of margin, {part} of it in a fifth of the markets"
    return f"Today's customers are worth {f.money(equity)} of margin; what is still to be won needs more data"


def _subline(f: _Facts) -> str:
    said = []
    spend_share = finite(f.number("value", "spend_share_lowest_decile"))
    top_fifth = finite(f.number("potential", "opportunity_share_top_fifth"))
    if not f.value_ranked:
        said.append("Customers are worth much the same in every market, so the plan doesn't rank markets by value")
    elif spend_share is not None:
        said.append(
            f"{percent(spend_share)} of the spend sits in the tenth of markets with the lowest customer lifetime value"
        )
    if f.opportunity and not f.potential_ranked:
        said.append("The data don't show which markets have more room than others")
    elif top_fifth is not None and f.gain is not None:
        said.append(f"{percent(top_fifth)} of the opportunity lies in the best fifth of markets")
    growth, goal = finite(f.number("targets", "growth")), finite(f.number("targets", "goal_revenue"))
    if "targets" in f.tables and growth is not None:
        odds = finite(f.number("targets", "p_company"))
        with_odds = f", with odds {_of(odds)}" if odds is not None else ""
        amount = f" ({f.money(goal)})" if goal is not None else ""
        said.append(f"The goal is {percent(growth, sign=True)} revenue{amount}{with_odds}")
    months = finite(f.number("data", "history_months"))
    if "targets" in f.tables and months is not None and months < 12:
        said.append(f"The records cover {plural(months, 'month')} only, so treat targets and odds as rough")
    if f.number("value", "observed"):
        said.append("Customers are valued at what they brought so far: without dates of purchase nothing is forecast")
    if f.gain is None and "budget" not in f.tables:
        known = finite(f.number("data", "spend_last_year"))
        why = "There is no spend history, so the" if known is None else "The"
        said.append(f"{why} plan doesn't say where money should move")
    if len(said) >= 2 and said[0][0].isdigit() and said[1][0].isdigit():
        said[:2] = [f"{said[0]}; {said[1]}"]
    return ". ".join(said) + "." if said else ""


def _of(odds: float) -> str:
    text = chance(odds)
    return text if text[0] in "ab" else f"of {text}"


def _cards(f: _Facts) -> list[Card]:
    cards = []
    total = finite(f.number("allocation", "total"))
    if f.gain is not None and f.moved is not None:
        share = f"{percent(f.moved / total)} of {f.money(total)}" if total else ""
        cards.append(Card("Money that moves", f.money(f.moved), share))
        g = f.gain
        odds = finite(g.get("p_positive"))
        note = (
            f"90%: {money_range(g.get('low'), g.get('high'), f.currency)}" if finite(g.get("low")) is not None else ""
        )
        if odds is not None:
            note += f"{'; ' if note else ''}odds of a gain {odds_of(odds)}"
        cards.append(Card("Margin it should add", f.money(g["expected"], sign=True), note))
    if f.opportunity and f.potential_ranked:
        headroom = float(f.tables["scores"]["headroom"].sum())
        level = "" if f.number("potential", "level_known") is not False else ", level uncertain"
        cards.append(
            Card(
                "Opportunity still to be won" if f.only_new else "Opportunity, by all objectives",
                f.money(f.opportunity),
                f"{count(headroom)} more customers{level}",
            )
        )
    growth = finite(f.number("targets", "growth"))
    if "targets" in f.tables and growth is not None:
        odds = finite(f.number("targets", "p_company"))
        total_revenue = f.money(f.tables["targets"]["revenue"].sum())
        note = f"odds {odds_of(odds)}" if odds is not None else ""
        cards.append(
            Card("Revenue target", total_revenue, f"{percent(growth, sign=True)} goal{', ' if note else ''}{note}")
        )
    equity = finite(f.number("value", "customer_equity"))
    if equity is not None:
        note = "margin earned so far" if f.number("value", "observed") else "margin over the horizon"
        cards.append(Card("Worth of today's customers", f.money(equity), note))
    clv = finite(f.number("value", "clv"))
    if clv is not None:
        note = "so far, on average" if f.number("value", "observed") else "over the horizon, on average"
        cards.append(Card("Value of a customer", f.money(clv), note))
    customers = finite(f.number("data", "active_customers"))
    if customers is not None:
        cards.append(Card("Active customers", count(customers), f"in {plural(len(f.markets), 'market')}"))
    revenue = finite(f.number("data", "revenue_last_year"))
    if revenue is not None:
        cards.append(Card("Revenue, last year", f.money(revenue), ""))
    return cards
