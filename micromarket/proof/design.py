"""The tests stage: from the plan's moves to a randomised test, frozen before it starts, or the reason for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from micromarket.allocation.limits import blocked_markets
from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.proof import words
from micromarket.proof.buffers import touching
from micromarket.proof.cells import Stage, stage_of, trials_of
from micromarket.proof.feedback import taught
from micromarket.proof.freeze import freeze
from micromarket.proof.history import DAYS, History, read_history, without_tests
from micromarket.proof.proposals import Ground
from micromarket.proof.readout import TestReadout
from micromarket.proof.record import TestRecord
from micromarket.proof.results import figures
from micromarket.proof.search import WINDOWS, find
from micromarket.proof.worth import decisions
from micromarket.workspace import Workspace

LEAST = {"week": 40, "month": 18}  # periods of history
_COOL = {"week": 4, "month": 1}


@dataclass(frozen=True)
class TestDesign:
    """The table ``tests`` (``None``: nothing to test or to test with, the notes say why), the record and the notes.

    ``arm``: ``treat``, ``control`` (keeps today's money in what is tested until the test ends) or ``none``; ``pair``:
    block of peers; ``cell``: what is tried there; ``factor``: of today's money. ``record`` is ``None`` where no test
    is worth its cost.
    """

    __test__ = False  # not a test of pytest

    tests: pd.DataFrame | None
    notes: Notes
    record: TestRecord | None = None

    def write(self, workspace: Workspace) -> None:
        """Leaves the table, if any, ``tests.json`` and the notes in ``workspace``."""
        if self.tests is not None:
            workspace.write("tests", self.tests)
        if self.record is not None:
            self.record.write(workspace.run_dir / "tests.json")
        else:
            (workspace.run_dir / "tests.json").unlink(missing_ok=True)
        workspace.write_notes("tests", self.notes)


def design_holdout(
    data: MarketData,
    budget: pd.DataFrame | None,
    scores: pd.DataFrame | None,
    settings: Settings,
    curves: pd.DataFrame | None = None,
    curve_draws: pd.DataFrame | None = None,
    value_markets: pd.DataFrame | None = None,
    response_notes: Notes | None = None,
    experiments: pd.DataFrame | None = None,
    field_notes: pd.DataFrame | None = None,
    earlier: Sequence[TestReadout] = (),
) -> TestDesign:
    """The test whose result would improve the next budget most, after its own cost.

    A cell tries one channel at a multiple of today's money, never against the plan's direction, or the plan's moves as
    a whole; several cells share a control. Markets are drawn by lot within blocks of peers alike in volume,
    trajectory and spend. What each design could see is measured on past windows with the estimator of the readout;
    what it is worth comes from the response posterior (:mod:`.worth`). Within ``budget.test_reserve`` (share of the
    total that a test may move) and the rules of ``tests`` in plan.yml.

    Parameters
    ----------
    data : MarketData
        ``panel``, ``current`` and ``frequency`` are needed; ``neighbours`` for buffers.
    budget, scores, curves, curve_draws, value_markets : DataFrames or None
        The artefacts of these names; ``scores`` for ``peer_group`` (one group where absent).
    settings : Settings
    response_notes : Notes, optional
        For carry-over by channel and spillover across borders.
    experiments : DataFrame, optional
        Earlier tests; their windows are replaced by counterfactuals.
    field_notes : DataFrame, optional
        Markets with an unexpired note ``blocked`` take no part.
    earlier : sequence of TestReadout
        What the test of the plan before brought; told in the notes (``results``) beside what tests changed in this
        plan's response estimates (``taught``).

    Returns
    -------
    TestDesign
        With the frozen record that the readout reads; no table where nothing can be tested.
    """
    found = _design(
        data, budget, scores, settings, curves, curve_draws, value_markets, response_notes, experiments, field_notes
    )
    lessons = {
        "taught": taught(None if response_notes is None else response_notes.numbers),
        "results": [figures(e, settings.company.currency) for e in earlier],
    }
    numbers = {**found.notes.numbers, **{k: v for k, v in lessons.items() if v}}
    return replace(found, notes=replace(found.notes, numbers=numbers))


def _design(
    data: MarketData, budget: pd.DataFrame | None, scores: pd.DataFrame | None, settings: Settings,
    curves: pd.DataFrame | None, curve_draws: pd.DataFrame | None, value_markets: pd.DataFrame | None,
    response_notes: Notes | None, experiments: pd.DataFrame | None, field_notes: pd.DataFrame | None,
) -> TestDesign:  # fmt: skip
    if budget is None or budget.empty or curves is None or curve_draws is None or value_markets is None:
        return _nothing("No test: there is no recommended budget with response curves whose moves could be tested.")
    if data.panel is None or data.panel.empty or data.frequency not in WINDOWS or data.current is None:
        return _nothing("No test: new customers by market and week or month are not known, so nothing shows how much"
                        " they vary by themselves.")  # fmt: skip
    frequency = data.frequency
    found = read_history(data.panel, frequency, settings.as_of)
    if found.counts.shape[1] < LEAST[frequency]:
        return _refused(data, f"The history of {found.counts.shape[1]} {frequency}s is too short to try a test out on"
                        f" the past ({LEAST[frequency]} are needed).")  # fmt: skip
    stage = stage_of(data, budget, curves, curve_draws, value_markets, settings,
                     blocked_markets(field_notes, settings.as_of))  # fmt: skip
    history, replaced = without_tests(found.take(stage.curves.markets), experiments, _COOL[frequency])
    numbers = {} if response_notes is None else response_notes.numbers
    settings = replace(settings, tests=replace(settings.tests, buffer=_buffer(settings, numbers)))
    trials = trials_of(stage, settings, settings.tests.channels)
    if not trials:
        return _refused(data, "No channel has money today in markets where the plan would keep or raise it.")
    forced = np.isin(np.array(stage.curves.markets), list(settings.tests.force_in))
    trials = [t for t in trials if t.eligible[forced].all()]
    if not trials:
        return _refused(data, "The markets that must take part (tests.force_in) cannot all take part in one test: the"
                        " plan moves them in different directions, blocks them, or has no money there.")  # fmt: skip
    ground = ground_of(stage, history, data, budget, scores, settings)
    decays = {str(c["channel"]): float(c["decay"]) for c in numbers.get("channels") or []
              if c.get("decay") is not None}  # fmt: skip
    search = find(trials, ground, decays)
    if search.best is None and search.unlimited is None:
        return _refused(data, words.too_few(ground))
    if search.best is None or (search.best.net <= 0 and settings.tests.run != "always"):
        better = search.unlimited
        if better is not None and better.net > 0:
            return _refused(data, words.larger_reserve(better, stage.total, settings),
                            words.figures(better, frequency), "run with a larger reserve")  # fmt: skip
        shown = search.best or better
        assert shown is not None
        return _refused(data, words.cannot_pay(shown, settings, frequency), words.figures(shown, frequency))
    best = search.best
    record = freeze(best, ground, settings, scores)
    notes = words.notes_of(best, record, ground, settings, replaced)
    return TestDesign(_table(data, record), notes, record)


def ground_of(
    stage: Stage, history: History, data: MarketData, budget: pd.DataFrame, scores: pd.DataFrame | None,
    settings: Settings,
) -> Ground:  # fmt: skip
    """What every proposal is measured against."""
    days = DAYS[history.frequency]
    year = min(round(365.25 / days), history.counts.shape[1])
    usual = history.counts[:, -year:].mean(axis=1)
    markets = pd.Index(stage.curves.markets)
    groups = np.full(len(markets), "all", dtype=object)
    if scores is not None and "peer_group" in scores:
        peer = scores.set_index("market_id")["peer_group"].reindex(markets)
        groups = peer.astype(object).where(peer.notna(), "none").astype(str).to_numpy(dtype=object)
    spread = budget["recommended"].clip(lower=0)
    price = float(np.average(budget["marginal_return"].fillna(0), weights=spread)) if spread.sum() > 0 else 1.0
    return Ground(
        stage=stage, history=history, values=decisions(stage, settings.budget), price=max(price, 0.0),
        reserve=settings.budget.test_reserve * stage.total, plan_periods=settings.plan.days / days, usual=usual,
        features=_features(history.counts, stage), groups=groups.astype(str),
        touches=touching(data.neighbours, stage.curves.markets), rules=settings.tests,
        discount=settings.economics.discount_rate, seed=settings.seed,
    )  # fmt: skip


def _features(counts: np.ndarray, stage: Stage) -> np.ndarray:
    """(markets, 3) log volume, trend and money per new customer; volume first, the others at half its spread."""
    half = max(min(26, counts.shape[1] // 2), 1)
    late, early = counts[:, -half:].sum(axis=1), counts[:, -2 * half : -half].sum(axis=1)
    volume = np.log(late + early + 0.5)
    money = np.log(stage.grid(stage.curves.current).sum(axis=1) + 1.0) - volume
    columns = [volume]
    for other in (np.log((late + 2) / (early + 2)), money):
        columns.append(other * (0.5 * volume.std() / other.std()) if other.std() > 0 else 0.0 * other)
    return np.column_stack(columns)


def _buffer(settings: Settings, numbers: Any) -> bool:
    """As the company says, else where the history shows clearly that spend works across borders."""
    if settings.tests.buffer is not None:
        return settings.tests.buffer
    spill = numbers.get("spillover") or {}
    ratio, error = spill.get("ratio"), spill.get("error")
    return bool(ratio is not None and error is not None and ratio > 0.05 and ratio > 2 * error)


def _nothing(why: str) -> TestDesign:
    return TestDesign(None, Notes(warnings=(why,)))


def _refused(
    data: MarketData, why: str, figures: dict[str, Any] | None = None, verdict: str = "do not run"
) -> TestDesign:
    """No market is drawn: a test that cannot pay would only cost."""
    text = f"{verdict[0].upper()}{verdict[1:]}. {why}"
    empty = dict.fromkeys(("test", "start", "end", "weeks", "minimum_detectable_lift", "power", "cost"))
    numbers = {**empty, "treated": 0, "control": 0, "measure": "new_customers", **(figures or {}),
               "verdict": verdict, "text": text}  # fmt: skip
    return TestDesign(_table(data, None), Notes(numbers, warnings=(text,)))


def _table(data: MarketData, record: TestRecord | None) -> pd.DataFrame:
    table = pd.DataFrame({"market_id": np.sort(data.markets["market_id"].astype(str).unique())})
    arm, cell, pair = {}, {}, {}
    factor: dict[str, float] = {}
    if record is not None:
        for i, market in enumerate(record.markets):
            number = record.arms[i]
            arm[market] = "treat" if number else "control"
            pair[market] = f"b{record.blocks[i] + 1:04d}" if record.blocks[i] >= 0 else "all"
            if number:
                tried = record.cells[number - 1]
                cell[market], factor[market] = tried.name, np.nan if tried.factor is None else tried.factor
    ids = table["market_id"]
    table["arm"] = [arm.get(m, "none") for m in ids]
    table["pair"] = pd.array([pair.get(m) for m in ids], dtype="string")
    table["test"] = pd.array([record.name if record and m in arm else None for m in ids], dtype="string")
    table["cell"] = pd.array([cell.get(m) for m in ids], dtype="string")
    table["factor"] = [factor.get(m, np.nan) for m in ids]
    return table
