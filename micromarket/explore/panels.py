"""Sliders and menus for JupyterLab, offline. What they show is HTML that an unattended run keeps as well."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from micromarket import formats
from micromarket.config import Objective
from micromarket.errors import InfeasibleError, InputError
from micromarket.explore import pictures
from micromarket.explore.market import Markets, Profile
from micromarket.explore.market_pictures import profile_page
from micromarket.explore.pictures import Atlas, boxed
from micromarket.explore.saving import save_scenario
from micromarket.explore.scenarios import Explorer, Outcome, Scenario
from micromarket.report.style import label

_NO_WIDGETS = "Sliders need the package ipywidgets (it comes with the extra `lab`); what follows shows the plan itself."
SLIDERS = {
    "total": "Total budget, % of today",
    "max_shift": "May change place, %",
    "market_change": "A market, × today",
    "cell_change": "A channel in a market, × today",
    "min_return": "Least margin per 1 of money",
    "risk_aversion": "Risk aversion (0: none)",
    "margin_rate": "Margin, % of revenue",
    "acquire": "Objective: new customers",
    "deepen": "Objective: deeper accounts",
    "retain": "Objective: customers kept",
}
_WIDE = {"description_width": "190px"}


def _widgets() -> Any:
    """ipywidgets, or ``None`` where it isn't installed."""
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets


def money_of(currency: str) -> Callable[..., str]:
    """Writes an amount in ``currency``, short; takes ``digits`` and ``sign``."""

    def money(value: Any, digits: int = 3, sign: bool = False) -> str:
        return formats.money(value, currency, digits, sign)

    return money


class ScenarioPanel:
    """Sliders on the left, the answer on the right; scenarios kept beside one another, and saved as a plan.

    Attributes
    ----------
    kept : list of Outcome
        What was kept for comparison; the plan's own comes first.
    outcome : Outcome
        The answer on show.
    """

    def __init__(self, explorer: Explorer):
        self.explorer = explorer
        self.money = money_of(explorer.settings.company.currency)
        self.atlas = Atlas.of(explorer.markets)
        self.planned = explorer.plan(explorer.as_planned)
        self.outcome = self.planned
        self.kept: list[Outcome] = [self.planned]
        self.saved: str = ""
        self.widgets = _widgets()
        self.sliders: dict[str, Any] = {}
        self._quiet = False
        self.box: Any = None
        if self.widgets is not None:
            self._build()

    # --- the controls ---------------------------------------------------------------------------------------------
    def _build(self) -> None:
        w, limits = self.widgets, self.explorer.settings.budget
        base = self.explorer.current_total
        look = {"continuous_update": False, "style": _WIDE, "layout": w.Layout(width="440px")}
        share = 100 * (limits.total or base) / base
        s = self.sliders
        s["total"] = w.FloatSlider(share, min=min(40, share), max=max(160, share), step=1, **look)
        most = 100 * limits.max_shift
        s["max_shift"] = w.FloatSlider(most, min=0, max=max(60, most), step=1, **look)
        for name, top in (("market_change", 4), ("cell_change", 5)):
            low, high = getattr(limits, name)
            s[name] = w.FloatRangeSlider(value=(low, high), min=0, max=max(top, high), step=0.05, **look)
        for name, step in (("min_return", 0.05), ("risk_aversion", 0.1)):
            now = getattr(limits, name) or 0
            s[name] = w.FloatSlider(now, min=0, max=max(3, now), step=step, **look)
        if self.explorer.margins_can_change:
            own = 100 * float(self.explorer.settings.economics.margin_rate or 0)
            s["margin_rate"] = w.FloatSlider(own, min=1, max=100, step=0.5, **look)
        if len(self.explorer.objectives) > 1:
            for name in self.explorer.objectives:
                weight = getattr(self.explorer.settings.targets.objective, name)
                s[name] = w.FloatSlider(weight, min=0, max=1, step=0.1, **look)
        for name, slider in s.items():
            slider.description = SLIDERS[name]
        for slider in s.values():
            slider.observe(self._moved, "value")
        short = {"description_width": "60px"}
        self.name = w.Text("Scenario 1", description="Name", style=short, layout=w.Layout(width="240px"))
        keep, save, back = (w.Button(description=d) for d in ("Keep beside", "Save as plan.yml", "Back to the plan"))
        keep.on_click(lambda _: self.keep())
        save.on_click(lambda _: self.save())
        back.on_click(lambda _: self.back())
        self.said = w.HTML()
        self.answer = w.HTML(layout=w.Layout(flex="1 1 560px"))
        self.beside = w.HTML()
        controls = w.VBox([*s.values(), w.HBox([self.name, keep]), w.HBox([save, back]), self.said])
        self.box = w.VBox([w.HBox([controls, self.answer], layout=w.Layout(flex_flow="row wrap")), self.beside])
        self._show()

    @property
    def scenario(self) -> Scenario:
        """What the sliders say. A slider that nobody moved keeps the plan's own value, whatever its steps."""
        own, s = self.explorer.as_planned, self.sliders
        changes: dict[str, Any] = {}
        base, limits = self.explorer.current_total, own.limits
        if s["total"].value != 100 * (limits.total or base) / base:
            changes["total"] = None if s["total"].value == 100 else round(base * s["total"].value / 100, 2)
        if s["max_shift"].value != 100 * limits.max_shift:
            changes["max_shift"] = round(s["max_shift"].value / 100, 4)
        for name in ("market_change", "cell_change"):
            if tuple(s[name].value) != getattr(limits, name):
                changes[name] = tuple(round(v, 4) for v in s[name].value)
        if s["min_return"].value != (limits.min_return or 0):
            changes["min_return"] = round(s["min_return"].value, 4) or None
        if s["risk_aversion"].value != limits.risk_aversion:
            changes["risk_aversion"] = round(s["risk_aversion"].value, 4)
        if "margin_rate" in s and s["margin_rate"].value != 100 * float(own.margin_rate or 0):
            changes["margin_rate"] = round(s["margin_rate"].value / 100, 4)
        weights = {k: round(s[k].value, 2) for k in ("acquire", "deepen", "retain") if k in s}
        if weights and any(weights[k] != getattr(own.objective, k) for k in weights):
            changes["objective"] = Objective(**weights)
        return own.but(" ".join(self.name.value.split()) or "Scenario", **changes) if changes else own

    def _moved(self, _: Any = None) -> None:
        if self._quiet:
            return
        self.said.value = ""
        try:
            self.outcome = self.explorer.plan(self.scenario)
        except InfeasibleError as clash:
            words = "<br>".join(html.escape(label(p.expected, 220)) for p in clash.problems)
            self.said.value = f"<b>These limits contradict one another.</b> The last that held are shown.<br>{words}"
            return
        self._show()

    def _show(self) -> None:
        self.answer.value = pictures.answer(self.outcome, self.planned, self.atlas, self.money)
        if len(self.kept) > 1:
            self.beside.value = self.compared()

    # --- what the buttons do ----------------------------------------------------------------------------------------
    def keep(self) -> None:
        """Keeps the scenario on show beside the others (one of the same name is replaced)."""
        outcome = self.outcome
        self.kept = [o for o in self.kept if o.scenario.name != outcome.scenario.name or o is self.planned]
        if outcome.scenario != self.planned.scenario:
            self.kept.append(outcome)
        self.name.value = f"Scenario {len(self.kept)}"
        self.beside.value = self.compared()

    def save(self) -> None:
        """Writes the scenario on show beside ``plan.yml``; the message says how to run it."""
        try:
            path = save_scenario(self.outcome.scenario, self.explorer.settings, self.name.value)
        except (InputError, OSError) as error:
            self.said.value = f"<b>Not saved.</b> {html.escape(str(error))}"
            return
        self.saved = str(path)
        command = f"<code>micromarket run {html.escape(path.name)}</code>"
        self.said.value = f"Saved. Run it with {command} in the plan's folder."

    def back(self) -> None:
        """Every slider back to what ``plan.yml`` says."""
        own, base = self.explorer.as_planned, self.explorer.current_total
        values: dict[str, Any] = {
            "total": 100 * (own.limits.total or base) / base, "max_shift": 100 * own.limits.max_shift,
            "min_return": own.limits.min_return or 0, "risk_aversion": own.limits.risk_aversion,
            "market_change": own.limits.market_change, "cell_change": own.limits.cell_change,
            "margin_rate": 100 * float(own.margin_rate or 0),
            **{k: getattr(own.objective, k) for k in ("acquire", "deepen", "retain")},
        }  # fmt: skip
        self._quiet = True
        for name, slider in self.sliders.items():
            slider.value = values[name]
        self._quiet = False
        self._moved()

    def compared(self) -> str:
        """The kept scenarios side by side, HTML."""
        return pictures.side_by_side(self.kept, self.atlas, self.money, self.planned)

    def page(self) -> str:
        """The scenario on show as HTML, for who has no sliders."""
        return pictures.answer(self.outcome, self.planned, self.atlas, self.money)

    def examples(self) -> list[Outcome]:
        """The plan beside three that many ask for: a tenth more money, a tenth less, half as much moving."""
        own, base = self.explorer.as_planned, self.explorer.as_planned.limits.total or self.explorer.current_total
        wanted = (
            own.but("A tenth more money", total=round(1.1 * base, 2)),
            own.but("A tenth less", total=round(0.9 * base, 2)),
            own.but("Half as much may move", max_shift=own.limits.max_shift / 2),
        )
        out = [self.planned]
        for scenario in wanted:
            try:
                out.append(self.explorer.plan(scenario))
            except InfeasibleError:  # the company's other limits don't allow it
                continue
        return out

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if self.box is None:
            display(HTML(boxed(f"<p>{_NO_WIDGETS}</p>") + self.page()))  # type: ignore[no-untyped-call]
        else:
            display(self.box)  # type: ignore[no-untyped-call]


class Page:
    """HTML for the last line of a cell."""

    def __init__(self, page: str):
        self.page = page

    def _repr_html_(self) -> str:
        return self.page


class NothingToTry(Page):
    """Stands where a run knows no response to spend."""

    def __init__(self, why: str):
        super().__init__(boxed(f"<p>{html.escape(why)}</p>"))


def scenario_panel(explorer: Explorer | None) -> ScenarioPanel | NothingToTry:
    """Sliders on a run (see :class:`ScenarioPanel`); a sentence where there is nothing to try."""
    if explorer is None:
        return NothingToTry(
            "This run knows no response to spend, so there is no budget to try out: it takes marketing spend by market,"
            " period and channel."
        )
    return ScenarioPanel(explorer)


def compare(panel: ScenarioPanel | NothingToTry, outcomes: Sequence[Outcome] | None = None) -> Page:
    """Scenarios side by side.

    Parameters
    ----------
    panel : ScenarioPanel or NothingToTry
        From :func:`scenario_panel`.
    outcomes : sequence of Outcome, optional
        Default: the plan beside three that many ask for.

    Returns
    -------
    Page
        Shows itself in a notebook.
    """
    if isinstance(panel, NothingToTry):
        return panel
    shown = panel.examples() if outcomes is None else outcomes
    return Page(pictures.side_by_side(shown, panel.atlas, panel.money, panel.planned))


class MarketPanel:
    """A menu of markets, and everything about the chosen one."""

    def __init__(self, markets: Markets, first: str | None = None):
        self.markets = markets
        self.atlas = Atlas.of(markets.geometry)
        self.money = money_of(markets.settings.company.currency)
        self.profile: Profile = markets.profile(first or markets.first())
        self.widgets = _widgets()
        self.box: Any = None
        if self.widgets is not None:
            w = self.widgets
            options = [(words, i) for words, i in markets.choices()]
            self.menu = w.Combobox(
                placeholder="type a name", options=[words for words, _ in options], ensure_option=True,
                description="Market", value=next(words for words, i in options if i == self.profile.market_id),
                layout=w.Layout(width="440px"),
            )  # fmt: skip
            self._by_words = dict(options)
            self.answer = w.HTML(self.page())
            self.menu.observe(self._chosen, "value")
            self.box = w.VBox([self.menu, self.answer])

    def _chosen(self, change: Any) -> None:
        market = self._by_words.get(change["new"])
        if market is not None:
            self.profile = self.markets.profile(market)
            self.answer.value = self.page()

    def paper(self) -> Page:
        """The chosen market, for the last line of a cell."""
        return Page(self.page())

    def page(self) -> str:
        """The chosen market, HTML."""
        return profile_page(self.profile, self.atlas, self.money)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if self.box is not None:
            display(self.box)  # type: ignore[no-untyped-call]
        else:
            display(HTML(self.page()))  # type: ignore[no-untyped-call]


def market_panel(markets: Markets, first: str | None = None) -> MarketPanel:
    """A menu of markets (see :class:`MarketPanel`), opened at ``first`` or the market that is most worth a look."""
    return MarketPanel(markets, first)


__all__ = ["MarketPanel", "NothingToTry", "Page", "ScenarioPanel", "compare", "market_panel", "scenario_panel"]
