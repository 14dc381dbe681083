"""A first randomised holdout: which of the plan's moves start at once, which wait, and what that can prove."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.formats import day, money
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Check, Notes
from micromarket.proof.pairing import MATERIAL, MIN_PAIRS, Candidates, Option, best_option, find_candidates
from micromarket.proof.power import ALPHA, POWER, minimum_detectable_effect
from micromarket.workspace import Workspace

_WINDOWS_TEXT = {"week": "8 weeks", "month": "2 months"}


@dataclass(frozen=True)
class TestDesign:
    """The table ``tests`` (``None``: nothing to test or to test with, the notes say why) and the stage's notes.

    ``arm``: ``treat`` gets its new money at once, ``control`` keeps its current money until the test ends, ``none`` is
    not part of the test; ``pair`` and ``test`` are empty there. In the notes ``minimum_detectable_lift`` and
    ``expected_lift`` are relative (0.05: 5% more new customers), ``cost`` is the value (money) that waiting
    delays, ``money_waiting`` the spend it delays.
    """

    __test__ = False  # not a test of pytest

    tests: pd.DataFrame | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        """Leaves the table, if any, and the notes in ``workspace``."""
        if self.tests is not None:
            workspace.write("tests", self.tests)
        workspace.write_notes("tests", self.notes)


def design_holdout(
    data: MarketData, budget: pd.DataFrame | None, scores: pd.DataFrame | None, settings: Settings
) -> TestDesign:
    """Pairs of like markets whose money rises; a lot decides who of a pair goes first.

    Markets pair within their peer group by volume and trend of new customers. Pairs join in order of what they add
    to the test per unit of money that has to wait, until the test is strong enough or ``budget.test_reserve`` of the
    total is used up. The readout will compare log new customers of treated and control, adjusted for the time before
    (blocked analysis of covariance) with a p-value by re-randomisation; the same estimator, slid over the history,
    gives the power stated here. The shortest window with 80% power at alpha 10% is taken.

    Parameters
    ----------
    data : MarketData
        ``panel`` and ``frequency`` are needed.
    budget : DataFrame or None
        Artefact of the allocation.
    scores : DataFrame or None
        ``peer_group`` (one group where absent).
    settings : Settings
    """
    if budget is None or budget.empty:
        return _nothing("No test: there is no recommended budget whose moves could be tested.")
    if data.panel is None or data.panel.empty or data.frequency not in _WINDOWS_TEXT:
        return _nothing("No test: new customers by market and week or month are not known, so nothing shows how much"
                        " they vary by themselves.")  # fmt: skip
    candidates = find_candidates(data.panel, budget, scores)
    pairs = len(candidates.pairs)
    if pairs < MIN_PAIRS:
        return _refused(data, f"Only {2 * pairs:,} markets whose money rises by {MATERIAL:.0%} or more have a partner"
                        f" like themselves; a test needs {2 * MIN_PAIRS} or more.", {})  # fmt: skip
    limit = settings.budget.test_reserve * float(budget["recommended"].sum())
    bound = best_option(candidates, data.frequency, settings.plan.days, limit)
    free = best_option(candidates, data.frequency, settings.plan.days, np.inf)
    if free is None:
        return _refused(data, "The history of new customers is too short, or the plan is, for a window of"
                        f" {_WINDOWS_TEXT[data.frequency]} to be tried out on the past.", {})  # fmt: skip
    if free.power < POWER:
        return _refused(data, _too_weak(free), _figures(free, candidates, settings))
    if bound is None:
        return _refused(data, f"Within the test reserve of {settings.budget.test_reserve:.0%} fewer than {MIN_PAIRS}"
                        f" pairs of markets can be made to wait. {_larger(free, settings, budget)}",
                        _figures(free, candidates, settings), "run with a larger reserve")  # fmt: skip
    return _drawn(data, bound, free, candidates, settings, budget)


def _nothing(why: str) -> TestDesign:
    return TestDesign(None, Notes(warnings=(why,)))


def _refused(data: MarketData, why: str, figures: dict[str, Any], verdict: str = "do not run") -> TestDesign:
    """No market is drawn: a test that can't see the plan's own promise would only cost."""
    table = _table(data, [], [], "")
    text = f"{verdict[0].upper()}{verdict[1:]}. {why}"
    numbers = {"test": None, "treated": 0, "control": 0, "start": None, "end": None, "measure": "new_customers",
               "weeks": None, "minimum_detectable_lift": None, "power": None, "cost": None,
               **figures, "verdict": verdict, "text": text}  # fmt: skip
    return TestDesign(table, Notes(numbers, warnings=(text,)))


def _too_weak(option: Option) -> str:
    seen = np.expm1(minimum_detectable_effect(option.error, len(option.chosen)))
    markets = 2 * len(option.chosen)
    return (f"The plan expects {np.expm1(option.expected):.1%} more new customers in {markets:,} markets; even"
            f" with all of them the smallest lift that shows against their usual ups and downs is {seen:.1%}."
            " Larger moves in fewer markets, or more history, would make it provable.")  # fmt: skip


def _larger(option: Option, settings: Settings, budget: pd.DataFrame) -> str:
    total = max(float(budget["recommended"].sum()), 1e-9)
    share = np.ceil(option.money / total * 1000) / 1000
    return (f"With a test_reserve of {share:.1%} ({money(option.money, settings.company.currency)} waiting in at most"
            f" {len(option.chosen):,} markets) the test would see the expected lift in {option.power:.0%} of"
            " cases.")  # fmt: skip


def _figures(option: Option, candidates: Candidates, settings: Settings) -> dict[str, Any]:
    return {
        "weeks": round(option.days / 7, 1),
        "minimum_detectable_lift": float(np.expm1(minimum_detectable_effect(option.error, len(option.chosen)))),
        "expected_lift": float(np.expm1(option.expected)),
        "power": option.power,
        "alpha": ALPHA,
        "pairs_possible": len(candidates.pairs),
    }


def _table(data: MarketData, treated: list[str], control: list[str], test: str) -> pd.DataFrame:
    table = pd.DataFrame({"market_id": np.sort(data.markets["market_id"].unique())})
    pair = {m: f"p{i:04d}" for both in (treated, control) for i, m in enumerate(both, start=1)}
    arm = {**dict.fromkeys(treated, "treat"), **dict.fromkeys(control, "control")}
    table["arm"] = [arm.get(m, "none") for m in table["market_id"]]
    table["pair"] = pd.array([pair.get(m) for m in table["market_id"]], dtype="string")
    table["test"] = pd.array([test if m in arm else None for m in table["market_id"]], dtype="string")
    return table


def _drawn(
    data: MarketData, option: Option, free: Option, candidates: Candidates, settings: Settings, budget: pd.DataFrame
) -> TestDesign:
    """The lot is drawn: within every pair one market goes first."""
    pairs = candidates.pairs[option.chosen]
    first = np.random.default_rng([settings.seed, 7]).random(len(pairs)) < 0.5
    treat, control_rows = np.where(first, pairs[:, 0], pairs[:, 1]), np.where(first, pairs[:, 1], pairs[:, 0])
    moves = candidates.moves
    treated, control = list(moves.index[treat]), list(moves.index[control_rows])
    share = option.days / settings.plan.days
    start = settings.plan.start
    end = start + dt.timedelta(days=round(option.days) - 1)
    name = f"spend-{start:%Y-%m}"
    waiting = float(moves["change"].to_numpy(float)[control_rows].sum() * share)
    cost = float(moves["incremental_value"].to_numpy(float)[control_rows].sum() * share)
    false_positives = option.spread.false_positives(option.chosen, np.where(first, 1, -1), settings.seed)
    enough = option.power >= POWER
    verdict = "run" if enough else "run with a larger reserve"
    figures = _figures(option, candidates, settings)
    currency, lift = settings.company.currency, figures["minimum_detectable_lift"]
    hoped = f"{figures['expected_lift']:.1%}"
    text = (
        f"By lot, {len(treated):,} markets get their new money on {day(start)} and {len(control):,} like them keep"
        f" today's until {day(end)}. The plan expects {hoped} more new customers in the first group; the test sees"
        f" that in {option.power:.0%} of cases, and any lift from {lift:.1%} in 80%. A lift whose 90% range lies above"
        f" zero convinces us; a range whose top lies below {hoped} says that the plan promises too much. We will know"
        f" after {day(end)}. Waiting holds back {money(waiting, currency)} of spend and delays {money(cost, currency)}"
        " of value."
    )
    warnings: tuple[str, ...] = () if enough else (
        f"The test is weak: it would see the expected lift in {option.power:.0%} of cases only."
        f" {_larger(free, settings, budget)}",
    )  # fmt: skip
    numbers = {
        "test": name, "treated": len(treated), "control": len(control),
        "start": start.isoformat(), "end": end.isoformat(),
        "measure": "new_customers", **figures, "cost": cost, "money_waiting": waiting,
        "false_positives": false_positives, "periods_before": option.spread.before, "periods": option.spread.after,
        "estimator": "blocked ANCOVA of log new customers, p-value by re-randomisation", "seed": settings.seed,
        "verdict": verdict, "text": text if enough else f"{text} {warnings[0]}",
    }  # fmt: skip
    peers = moves["peer"].to_numpy()
    checks = (
        Check("both markets of every pair are peers", bool((peers[pairs[:, 0]] == peers[pairs[:, 1]]).all())),
        Check("the money that waits is within the test reserve",
              waiting <= settings.budget.test_reserve * float(budget["recommended"].sum()) * (1 + 1e-9),
              money(waiting, currency)),
    )  # fmt: skip
    assumptions = (
        Assumption("The effect of new money is there from its first week; where it builds up slowly the test sees less",
                   "default of ours"),
        Assumption("Neighbouring markets don't share the effect", "default of ours: no buffers yet"),
    )  # fmt: skip
    return TestDesign(_table(data, treated, control, name), Notes(numbers, assumptions, warnings, checks))
