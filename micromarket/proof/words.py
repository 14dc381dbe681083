"""What the tests stage says: for leaders, in numbers and sentences."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from micromarket.config import Settings
from micromarket.formats import day, listed, money, percent, plural
from micromarket.notes import Assumption, Check, Notes
from micromarket.proof.backtest import POWER
from micromarket.proof.cells import WHOLE
from micromarket.proof.proposals import MIN_BLOCKS, Ground, Proposal
from micromarket.proof.record import TestRecord

_WEEKS = {"week": 1.0, "month": 365.25 / 84}


def figures(proposal: Proposal, frequency: str) -> dict[str, Any]:
    """Numbers of a proposal, whether it runs or not. Lifts are relative (0.05: 5% more), money in the plan's."""
    cells = []
    for i, (trial, tested) in enumerate(zip(proposal.trials, proposal.backtests, strict=True)):
        expected, low, high = proposal.expected(i)
        seen, fall = tested.detectable, expected < 0

        def shown(lift: float, fall: bool = fall) -> float:
            """A fall shows like the rise that undoes it."""
            return lift / (1 + lift) if fall and np.isfinite(lift) else lift

        cells.append({
            "cell": trial.name, "text": trial.text, "factor": trial.factor,
            "treated": int((proposal.arms == i + 1).sum()), "expected_lift": expected, "expected_low": low,
            "expected_high": high, "minimum_detectable_lift": shown(seen) if np.isfinite(seen) else None,
            "power": tested.at(expected), "error": tested.error, "false_positives": tested.false_positives,
            "estimator": tested.method.text, "periods_before": tested.method.before,
            "power_curve": [{"lift": shown(float(a)), "power": float(b)}
                            for a, b in zip(tested.lifts, tested.power, strict=True)],
        })  # fmt: skip
    first = cells[0]
    return {
        "weeks": round(proposal.after * _WEEKS[frequency], 1),
        "cool_down_weeks": round(proposal.cool * _WEEKS[frequency], 1),
        "minimum_detectable_lift": first["minimum_detectable_lift"], "expected_lift": first["expected_lift"],
        "power": first["power"], "worth": proposal.worth, "cost": proposal.cost, "money": proposal.money,
        "cells": cells, "design": "few markets" if proposal.few else "blocks",
    }  # fmt: skip


def too_few(ground: Ground) -> str:
    """Why nothing could be designed."""
    return (f"Fewer than {2 * MIN_BLOCKS} markets like one another can take part within the reserve and the rules, or"
            f" the history is too short to try it out: the clearest result would not be rarer than chance allows"
            f" ({len(ground.history.markets):,} markets in all).")  # fmt: skip


def cannot_pay(proposal: Proposal, settings: Settings, frequency: str) -> str:
    """Why a test is not worth its cost."""
    currency = settings.company.currency
    tested, (expected, _, _) = proposal.backtests[0], proposal.expected(0)
    seen = f"{tested.detectable:.1%}" if np.isfinite(tested.detectable) else "no lift up to 100%"
    worth = max(proposal.worth, 0.0)
    weeks = plural(round(proposal.after * _WEEKS[frequency]), "week")
    return (
        f"The best test ({proposal.trials[0].text}, {weeks}) would cost {money(max(proposal.cost, 0.0), currency)} and"
        f" be worth {money(worth, currency)}: the plan expects a lift of {expected:.1%}, and the test sees {seen} in"
        f" {POWER:.0%} of cases. What it would teach would hardly change the next budget."
    )


def larger_reserve(proposal: Proposal, total: float, settings: Settings) -> str:
    """What reserve a paying test would need."""
    currency = settings.company.currency
    moved = sum(float(np.abs(t.tried - t.kept)[proposal.arms == i + 1].sum()) for i, t in enumerate(proposal.trials))
    share = np.ceil(max(abs(proposal.money), 1e-9) / max(total, 1e-9) * 1000) / 1000
    return (
        f"Within the test reserve of {settings.budget.test_reserve:.1%} no test pays. With a budget.test_reserve of"
        f" about {share:.1%} ({money(abs(proposal.money), currency)}) one would: {_tried(proposal)}, worth"
        f" {money(proposal.worth, currency)} against a cost of {money(max(proposal.cost, 0.0), currency)}."
        if moved
        else "Within the test reserve no test pays."
    )


def _tried(proposal: Proposal) -> str:
    parts = [f"{trial.text} in {plural(int((proposal.arms == i + 1).sum()), 'market')}"
             for i, trial in enumerate(proposal.trials)]  # fmt: skip
    return listed(parts)


def notes_of(proposal: Proposal, record: TestRecord, ground: Ground, settings: Settings, replaced: int) -> Notes:
    """Numbers, the text of the page, what is assumed and what was checked."""
    currency, frequency = settings.company.currency, ground.history.frequency
    numbers = figures(proposal, frequency)
    start, end, until = (dt.date.fromisoformat(d) for d in (record.start, record.end, record.measured_until))
    treated, control = int((proposal.arms > 0).sum()), int((proposal.arms == 0).sum())
    kept = "" if proposal.few else " of the same kind"
    sums = abs(proposal.money)
    added = "adds" if proposal.money >= 0 else "takes away"
    cost = (
        f"costs {money(proposal.cost, currency)}"
        if proposal.cost > 0
        else "costs nothing: its money works as well there"
    )
    text = (
        f"From {day(start)} to {day(end)}: {_tried(proposal)}; {control:,} markets{kept} keep today's money in what is"
        f" tested. Chance decided which. {_promise(numbers)} The test {added} {money(sums, currency)} of spend and,"
        f" against the plan, {cost}; deciding the next budget with its result is worth about"
        f" {money(proposal.worth, currency)}. We will know after {day(until)}, and not before: earlier looks would find"
        " effects that are not there."
    )
    brief = (
        f"From {day(start)} to {day(end)}: {_tried(proposal)}; {control:,} markets{kept} keep today's money in what is"
        f" tested. Chance decided which. We will know after {day(until)}, and not before."
    )
    weak = [c for c in numbers["cells"] if c["power"] < 0.5]
    warnings = tuple(
        f"{c['text']}: the lift that the plan expects ({c['expected_lift']:.1%}) would be called clear in"
        f" {percent(c['power'])} of cases only. The test still pays because of what its range rules out."
        for c in weak
    )
    checks = [
        Check("chance alone decides who is treated", record.by_lot),
        Check("a test of nothing calls an effect in 7% to 13% of past windows",
              all(0.07 <= b.false_positives <= 0.13 for b in proposal.backtests),
              ", ".join(f"{b.false_positives:.1%}" for b in proposal.backtests)),
        Check("the money that the test moves is within the test reserve", sums <= ground.reserve * (1 + 1e-9) + 1e-6,
              money(sums, currency)),
    ]  # fmt: skip
    assumptions = [
        Assumption(f"Carry-over of the test's money has faded {plural(round(numbers['cool_down_weeks']), 'week')} after"
                   " its end; customers until then count as brought by it", "the estimated carry-over"),
        Assumption("Tested markets don't touch one another" if ground.rules.buffer else
                   "Neighbouring markets don't share the effect: the history shows no clear spillover",
                   "tests.buffer in plan.yml" if settings.tests.buffer else "default of ours"),
        Assumption("During the test everything but what is tested goes ahead as planned in treated and control markets"
                   " alike", "default of ours"),
    ]  # fmt: skip
    if replaced:
        said = f"{replaced:,} market-{frequency}s of earlier tests are replaced by what untreated markets let expect"
        assumptions.append(Assumption(said, "table experiments"))
    numbers |= {
        "test": record.name, "treated": treated, "control": control, "start": record.start, "end": record.end,
        "measured_until": record.measured_until, "measure": record.measure, "alpha": record.alpha, "seed": record.seed,
        "estimator": proposal.backtests[0].method.text, "false_positives": proposal.backtests[0].false_positives,
        "verdict": "run", "text": text, "brief": brief,
    }  # fmt: skip
    return Notes(numbers, tuple(assumptions), warnings, tuple(checks))


def _promise(numbers: dict[str, Any]) -> str:
    parts = []
    for c in numbers["cells"]:
        seen = c["minimum_detectable_lift"]
        what = "the plan's moves" if c["cell"] == WHOLE else c["text"]
        at = (
            f"any change of {seen:.1%} or more shows in {POWER:.0%} of cases"
            if seen is not None
            else "only a very large change would show"
        )
        parts.append(f"{what}: the plan expects {c['expected_lift']:+.1%} new customers ({c['expected_low']:+.1%} to"
                     f" {c['expected_high']:+.1%}), {at}.")  # fmt: skip
    text = " ".join(p[0].upper() + p[1:] for p in parts)
    return (
        f"{text} A 90% range that leaves out zero convinces us; one that leaves out the promise says that it is wrong."
    )
