"""What if: the budget solved again under other limits, in well under a second, and compared with the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.basis import Response, plan_basis
from micromarket.allocation.budget_notes import MAX_NO_RESPONSE, MIN_ODDS
from micromarket.allocation.gain import Draws, risk_adjusted
from micromarket.allocation.limits import Cells, neutral, round_to_limits, solve
from micromarket.allocation.promise import best_within, interval
from micromarket.allocation.solver import Allocation
from micromarket.config import Budget, Objective, Settings
from micromarket.errors import InfeasibleError, StageError
from micromarket.formats import percent
from micromarket.market_data import MarketData
from micromarket.response.result import ResponseResult
from micromarket.workspace import Workspace

Array = NDArray[np.float64]
OTHER_TOTALS = (0.8, 0.9, 1.1, 1.2)  # of a scenario's total: the points of its frontier
FEW_DRAWS = 100  # that the frontier and a risk-averse scenario are read from
CAREFUL_STEPS = 5


@dataclass(frozen=True)
class Scenario:
    """What may differ from ``plan.yml``.

    ``total``: money over the plan period (``None``: as today); ``margin_rate``: contribution margin per unit of revenue
    (``None``: as in the plan); ``objective``: what counts as opportunity; ``limits``: every other limit of the budget.
    """

    name: str
    limits: Budget = field(default_factory=Budget)
    margin_rate: float | None = None
    objective: Objective = field(default_factory=Objective)

    def but(self, name: str, **changes: Any) -> Scenario:
        """The same under another name, with other ``margin_rate``, ``objective`` or limits.

        >>> Scenario("as planned").but("more", total=2e6, max_shift=0.1).limits.total
        2000000.0
        """
        own = {k: changes.pop(k) for k in ("margin_rate", "objective") if k in changes}
        return replace(self, name=name, limits=replace(self.limits, **changes), **own)


@dataclass(frozen=True)
class Outcome:
    """What a scenario recommends.

    Attributes
    ----------
    budget : DataFrame
        market_id, channel, current, recommended, change: money over the plan period.
    total, moved : float
        Money.
    gain : mapping
        Margin against today's allocation: expected, low, high (90%), p_positive (``None`` where nothing changes).
    customers : float
        New customers more than today's allocation brings.
    price : float
        Margin that the next unit of money would bring.
    pays : bool
        Whether the plan would move money here: else today's allocation, at the scenario's total, is recommended.
    opportunity : Series
        Money by market: what is still to be won, by the scenario's objective and margins. Empty without scores.
    frontier : DataFrame
        total, value, low, high: margin against today's allocation at other totals.
    """

    scenario: Scenario
    budget: pd.DataFrame
    total: float
    moved: float
    gain: dict[str, Any]
    customers: float
    price: float
    pays: bool
    opportunity: pd.Series
    frontier: pd.DataFrame

    def differs_from(self, other: Scenario, money: Callable[..., str]) -> str:
        """What is other than in another scenario, in words; empty where nothing is."""
        mine, its = self.scenario, other
        said = []
        if mine.limits.total != its.limits.total:
            said.append(f"total {money(mine.limits.total)}" if mine.limits.total is not None else "total as today")
        for key, words, show in (
            ("max_shift", "may move", percent),
            ("market_change", "a market", _times),
            ("cell_change", "a channel in a market", _times),
            ("channel_change", "a channel", _times),
            ("region_change", "a region", _times),
            ("min_return", "least margin per 1", lambda v: "none" if v is None else f"{v:g}"),
            ("risk_aversion", "risk aversion", lambda v: f"{v:g}"),
            ("min_ticket", "least ticket", money),
            ("round_to", "rounded to", money),
        ):
            if getattr(mine.limits, key) != getattr(its.limits, key):
                said.append(f"{words} {show(getattr(mine.limits, key))}")
        if mine.margin_rate != its.margin_rate:
            said.append(f"margin {percent(mine.margin_rate, 1)}")
        if mine.objective != its.objective:
            weights = [f"{k} {v:g}" for k, v in asdict(mine.objective).items() if v]
            said.append(f"objective {', '.join(weights) or 'none'}")
        return "; ".join(said)

    @cached_property
    def change(self) -> pd.Series:
        """Change of money by market."""
        return self.budget.groupby("market_id")["change"].sum()


def _times(band: tuple[float, float] | None) -> str:
    return "free" if band is None else f"{band[0]:g} to {band[1]:g} × today"


class Explorer:
    """A finished run, ready to be asked. Its own limits give the plan's own budget, to the cent.

    Parameters
    ----------
    settings : Settings
    data, response, value_markets, scores, field_notes, segments
        As for :func:`micromarket.allocation.plan_budget`.

    Raises
    ------
    StageError
        Where the run knows no response to spend: there is nothing to ask.
    """

    def __init__(
        self,
        settings: Settings,
        data: MarketData,
        response: Response,
        value_markets: pd.DataFrame,
        scores: pd.DataFrame | None,
        field_notes: pd.DataFrame | None = None,
        segments: pd.DataFrame | None = None,
    ):
        if response.curves is None or response.curve_draws is None or data.current is None:
            raise StageError(
                "This run knows no response to spend, so there is no budget to try out: it takes marketing"
                " spend by market, period and channel."
            )
        self.settings, self.markets, self.scores = settings, data.markets, scores
        basis = plan_basis(data, response, value_markets, scores, settings, field_notes, segments)
        self.cells, self.draws = basis.cells, basis.draws
        self.no_response = response.notes.numbers.get("p_no_response")
        self.current_total = float(self.cells.current.sum())
        if not self.current_total > 0:
            raise StageError("Nothing is spent today: limits are ratios of today's money, so there is nothing to try.")
        self._few = _thinned(self.draws)

    @property
    def as_planned(self) -> Scenario:
        """The scenario that ``plan.yml`` states."""
        s = self.settings
        return Scenario("As planned", s.budget, s.economics.margin_rate, s.targets.objective)

    @property
    def margins_can_change(self) -> bool:
        """Whether all value is in proportion to one margin rate: not with servicing cost, or margins of purchases."""
        return bool(self.settings.economics.margin_rate) and self.settings.economics.servicing_cost == 0

    def plan(self, scenario: Scenario) -> Outcome:
        """The best budget under ``scenario``; today's where the plan's own rule says that moving money doesn't pay.

        Raises
        ------
        InfeasibleError
            Where its limits contradict one another; says which, and what would do.
        """
        factor = self._value_factor(scenario)
        cells, draws = self.cells, self.draws
        if factor != 1:
            cells, draws = replace(cells, value=cells.value * factor), replace(draws, value=draws.value * factor)
        limits = scenario.limits
        total = round(self.current_total if limits.total is None else float(limits.total), 2)
        kept = neutral(cells, limits, total)
        if scenario.limits.risk_aversion > 0 and scenario.limits != self.settings.budget:
            few = replace(self._few, value=self._few.value * factor)
            best = _careful(cells, few, limits, total)
        else:
            best = best_within(cells, draws, limits, total)
        spent = total if limits.min_return is None else min(round(float(best.spend.sum()), 2), total)
        rounded = round_to_limits(cells, limits, best.spend, spent)
        edge = draws.gains(rounded, kept)
        pays = bool((edge > 0).mean() >= MIN_ODDS and edge.mean() > 0 and not (self.no_response or 0) > MAX_NO_RESPONSE)
        spend = rounded if pays else kept
        moved = float(np.abs(spend - cells.current).sum() / 2)
        gain = interval(draws.gains(spend), width=draws.width)
        if moved == 0:
            gain["p_positive"] = None
        budget = pd.DataFrame(
            {"market_id": np.array(cells.markets)[cells.market], "channel": np.array(cells.channels)[cells.channel],
             "current": cells.current, "recommended": spend, "change": np.round(spend - cells.current, 2)}
        )  # fmt: skip
        return Outcome(
            scenario, budget, float(spend.sum()), moved, gain, float(draws.customers(spend).mean()), best.price, pays,
            self.opportunity(scenario), self._frontier(cells, factor, limits, total, spend, gain, pays),
        )  # fmt: skip

    def opportunity(self, scenario: Scenario) -> pd.Series:
        """What is still to be won by market, money, by the scenario's objective; in this run's weights where its parts
        are not known."""
        if self.scores is None or "opportunity" not in self.scores:
            return pd.Series(dtype=float, name="opportunity")
        scores = self.scores.set_index("market_id")
        known = {k: scores[c] for k in ("acquire", "deepen", "retain") if (c := f"opportunity_{k}") in scores}
        parts = [getattr(scenario.objective, k) * v.fillna(0.0) for k, v in known.items()]
        weighted: pd.Series = sum(parts[1:], parts[0]) if parts else scores["opportunity"]
        return (weighted * self._value_factor(scenario)).rename("opportunity")

    @property
    def objectives(self) -> tuple[str, ...]:
        """Objectives whose opportunity this run measured."""
        columns = () if self.scores is None else self.scores.columns
        return tuple(k for k in ("acquire", "deepen", "retain") if f"opportunity_{k}" in columns)

    def _value_factor(self, scenario: Scenario) -> float:
        own = self.settings.economics.margin_rate
        if scenario.margin_rate is None or not own or scenario.margin_rate == own:
            return 1.0
        if not self.margins_can_change:
            raise StageError("Another margin rate needs a run of its own here: servicing cost doesn't change with it.")
        return scenario.margin_rate / own

    def _frontier(
        self, cells: Cells, factor: float, limits: Budget, total: float, spend: Array, gain: dict[str, Any], pays: bool
    ) -> pd.DataFrame:
        """Margin at totals around the scenario's, under limits that grow with it; ranges from few draws."""
        few = self._few if factor == 1 else replace(self._few, value=self._few.value * factor)
        rows = [{"total": float(spend.sum()), "value": gain["expected"], "low": gain["low"], "high": gain["high"]}]
        here = few.gains(spend)
        for step in OTHER_TOTALS:
            try:
                at = solve(cells, limits, total * step, scale=step).spend if pays else spend * step
            except InfeasibleError:  # blocked markets may leave no room at this total
                continue
            # the difference to the scenario's own gain, so that the line has no jump where it was drawn finely
            more = few.gains(at) - here
            found = interval(more, width=few.width)
            rows.append({"total": float(at.sum()), "value": gain["expected"] + found["expected"],
                         "low": gain["low"] + found["low"], "high": gain["high"] + found["high"]})  # fmt: skip
        return pd.DataFrame(rows).sort_values("total", kind="stable").drop_duplicates("total").reset_index(drop=True)


def _careful(cells: Cells, few: Draws, limits: Budget, total: float) -> Allocation:
    """:func:`~micromarket.allocation.promise.best_within` for who waits for the answer: few draws, few steps."""
    best = solve(cells, limits, total)

    def score(spend: Array) -> float:
        gains = few.gains(spend)
        return float(gains.mean() - limits.risk_aversion * gains.std())

    spend, top = best.spend, score(best.spend)
    for step in range(CAREFUL_STEPS):
        found = solve(cells, limits, total, risk_adjusted(cells, few, limits.risk_aversion, spend))
        spend = spend + (found.spend - spend) * 2 / (step + 2)  # Frank-Wolfe on a concave goal
        if (now := score(spend)) > top:
            best, top = replace(found, spend=spend), now
    return best


def _thinned(draws: Draws) -> Draws:
    """Every so-manieth draw."""
    pick = np.unique(np.linspace(0, len(draws) - 1, min(FEW_DRAWS, len(draws))).astype(int))
    half = draws.half_spend if draws.half_spend.shape[1] == 1 else draws.half_spend[:, pick]
    return replace(draws, amplitude=draws.amplitude[:, pick], half_spend=half, value=draws.value[:, pick])


def explorer_of(workspace: Workspace, settings: Settings, field_notes: pd.DataFrame | None = None) -> Explorer | None:
    """The explorer of a run's working folder.

    Parameters
    ----------
    workspace : Workspace
    settings : Settings
    field_notes : DataFrame, optional
        Markets with an unexpired note of kind ``blocked`` keep their money.

    Returns
    -------
    Explorer or None
        ``None`` where the run holds no response to spend.

    Raises
    ------
    StageError
        Where nothing is spent today.
    """
    if not workspace.has("curves") or not workspace.has("current"):
        return None
    data, response = MarketData.read(workspace), ResponseResult.read(workspace)
    values, scores = workspace.read("value_markets"), workspace.read_if_there("scores")
    segments = workspace.read_if_there("channel_segments")
    return Explorer(settings, data, response, values, scores, field_notes, segments)
