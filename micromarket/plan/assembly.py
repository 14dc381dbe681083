"""Everything the stages found as one frozen :class:`Plan`: the only input of ``report/``, and ``plan.json``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from micromarket.artefacts import ARTEFACTS, STAGES
from micromarket.config import Settings
from micromarket.drift import alarms_of, drift
from micromarket.formats import in_locale
from micromarket.notes import Assumption, Check, Notes, plain
from micromarket.plan import customers as people
from micromarket.plan.changes import Changes, changes_since
from micromarket.plan.checks import check_tables, table_totals
from micromarket.plan.headline import Card, Story, tell
from micromarket.plan.progress import Progress, progress_since
from micromarket.plan.suppression import of_shown_markets, suppress_small_cells
from micromarket.potential.plays import Play, play_library
from micromarket.workspace import Workspace, write_json

SCHEMA_VERSION = 1
PUBLISHED = tuple(name for name, a in ARTEFACTS.items() if a.path.startswith("tables/"))

# What a stage needs before it can speak: shown as "what this plan can't say yet, and what data would allow it".
NEEDS: dict[str, tuple[str, str]] = {
    "potential": ("how much each market could still bring", "the number of addressable customers in every market"),
    "response": ("what the next unit of marketing money brings", "marketing spend by market, period and channel"),
    "allocation": ("where marketing money should move", "marketing spend by market, period and channel"),
    "targets": ("what each market should deliver", "a year or more of dated sales by market"),
    "funnel": ("how many leads marketing owes sales", "leads with the dates at which they moved on"),
    "tests": ("how the moves will be proven", "a budget that moves money, and two years of outcomes by market"),
    "value": ("what a customer is worth", "dated purchases or contracts of every customer"),
}
_TABLE_OF = {"potential": "scores", "response": "response", "allocation": "budget", "targets": "targets",
             "funnel": "funnel", "tests": "tests", "value": "value_markets"}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What the company is told. Money in ``currency``; ``low`` and ``high`` bound 90% intervals.

    Attributes
    ----------
    headline, subline : str
        The finding the data support, and the story's numbers.
    cards : tuple of Card
        At most four figures for the cover.
    stages : mapping
        Stage name to its :class:`~micromarket.notes.Notes`; only stages that ran.
    missing : mapping
        Stage name to why it has no result, in words.
    tables : mapping
        Published tables that exist, with their declared columns, small cells blank.
    markets : DataFrame or GeoDataFrame
        ``market_id, name, region, territory`` and, where the company has boundaries, ``geometry`` (WGS 84).
    segments : DataFrame or None
        ``segment, definition, customers, clv, new_customer_clv``: value per customer over all markets.
    segments_tell : bool or None
        Whether a customer's segment says what it is worth (``None``: not judged).
    acquisition : DataFrame or None
        What winning a customer costs and brings, by company, channel, segment and market (small groups blank).
    foresight : mapping or None
        How the model of value was chosen and did on hidden months (:func:`~micromarket.plan.customers.foresight`).
    new_customers : DataFrame or None
        ``market_id, value, low, high``: value of a customer won tomorrow, with its 90% range.
    spend : DataFrame or None
        ``market_id, channel, current``: last year's money scaled to the plan period.
    plays : mapping
        Title to :class:`~micromarket.potential.plays.Play`: what each play in the scores means.
    totals : mapping
        Table name to the sums of its published rows.
    suppressed : int
        Markets with fewer than ``min_cell`` customers, whose small figures are blank.
    changes : Changes or None
        This plan against the one before (``previous_run``).
    drift : DataFrame or None
        The artefact ``drift``: what is watched from run to run; its alarms are among the warnings.
    progress : Progress or None
        What the plan before has brought so far.
    locale : str or None
        How numbers, dates and currencies are written (see :func:`micromarket.formats.in_locale`).
    """

    company: str
    currency: str
    as_of: dt.date
    start: dt.date
    end: dt.date
    relationship: str
    headline: str
    subline: str
    cards: tuple[Card, ...]
    stages: Mapping[str, Notes]
    missing: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    markets: pd.DataFrame
    segments: pd.DataFrame | None = None
    segments_tell: bool | None = None
    acquisition: pd.DataFrame | None = None
    foresight: Mapping[str, Any] | None = None
    new_customers: pd.DataFrame | None = None
    spend: pd.DataFrame | None = None
    plays: Mapping[str, Play] = field(default_factory=dict)
    totals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    assumptions: tuple[tuple[str, Assumption], ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    checks: tuple[tuple[str, Check], ...] = ()
    min_cell: int = 10
    suppressed: int = 0
    locale: str | None = None
    changes: Changes | None = None
    drift: pd.DataFrame | None = None
    progress: Progress | None = None

    def number(self, stage: str, *keys: str) -> Any:
        """A headline number of a stage, by its keys; ``None`` where there is none."""
        notes = self.stages.get(stage)
        value: Any = notes.numbers if notes else None
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def has_geometry(self) -> bool:
        """Whether the markets can be drawn."""
        return "geometry" in self.markets.columns and bool(self.markets["geometry"].notna().any())

    @cached_property
    def regions(self) -> dict[str, str | None]:
        """Market to its region; to its sales territory where no market has a region; empty where none has either."""
        column = next((c for c in ("region", "territory") if self.markets[c].notna().any()), None)
        if column is None:
            return {}
        return {
            str(m): None if r is None else str(r)
            for m, r in zip(self.markets["market_id"], self.markets[column], strict=True)
        }

    @cached_property
    def notes(self) -> Notes:
        """What the plan stage itself says."""
        own = tuple(c for stage, c in self.checks if stage == "plan")
        return Notes(
            numbers={
                "headline": self.headline,
                "tables": sorted(self.tables),
                "missing": dict(self.missing),
                "suppressed_markets": self.suppressed,
            },
            warnings=tuple(text for stage, text in self.warnings if stage == "plan"),
            checks=own,
        )

    def to_json(self) -> dict[str, Any]:
        """``plan.json``; its schema is ``docs/plan-schema.json``."""
        budget = self.totals.get("budget")
        moves = {k: self.number("allocation", k) for k in ("moved", "moved_share", "markets_up", "markets_down")}
        gain = {k: self.number("allocation", "gain", k) for k in ("expected", "low", "high", "p_positive")}
        goal = {k: self.number("targets", k) for k in ("goal_revenue", "base_revenue", "growth", "p_company", "wanted")}
        columns = ("new_customers", "revenue", "margin")
        targets = self.totals.get("targets")
        no_budget, no_targets = self.missing.get("allocation"), self.missing.get("targets")
        return plain(
            {
                "schema": SCHEMA_VERSION,
                "company": self.company,
                "currency": self.currency,
                "as_of": self.as_of,
                "plan": {"start": self.start, "end": self.end},
                "headline": self.headline,
                "subheadline": self.subline,
                "cards": [{"label": c.label, "value": c.value, "note": c.note} for c in self.cards],
                "budget": {
                    "total": budget["recommended"] if budget else None,
                    "current_total": budget["current"] if budget else None,
                    **moves,
                    "reason": no_budget,
                },
                "gain": {**gain, "reason": no_budget},
                "targets": {
                    "total": {c: targets[c] for c in columns} if targets else None,
                    **goal,
                    "gap": self.number("targets", "gap"),
                    "reason": no_targets,
                },
                "signal": {s: self.number(s, "signal") for s in ("value", "potential")},
                "segments": people.segments_json(self.segments, self.stages.get("data")),
                "acquisition": people.cost_json(self.acquisition, self.stages.get("value")),
                "foresight": self.foresight,
                "totals": self.totals,
                "regions": self.regions,
                "stages": {s: self.stages[s].numbers for s in STAGES if s in self.stages},
                "missing": self.missing,
                "min_cell": self.min_cell,
                "suppressed_markets": self.suppressed,
                "assumptions": [{"stage": s, "text": a.text, "source": a.source} for s, a in self.assumptions],
                "warnings": [text for _, text in self.warnings],
                "checks": [
                    {"stage": s, "name": c.name, "passed": c.passed, "detail": c.detail} for s, c in self.checks
                ],
            }
        )

    def write(self, workspace: Workspace) -> None:
        """Publishes: rewrites every table as it is shown (small cells blank), the notes and ``plan.json``."""
        for name, frame in self.tables.items():
            workspace.write(name, frame)
        if self.drift is not None:
            workspace.write("drift", self.drift)
        workspace.write_notes("plan", self.notes)
        write_json(workspace.run_dir / "plan.json", self.to_json())


def assemble(workspace: Workspace, settings: Settings) -> Plan:
    """The plan from what the stages left in ``workspace``.

    A stage that left no table, or has not run, is listed in :attr:`Plan.missing` with its reason. Nothing is written.

    Parameters
    ----------
    workspace : Workspace
    settings : Settings

    Returns
    -------
    Plan

    Raises
    ------
    StageError
        Where the data stage has not run into this folder.
    """
    with in_locale(settings.locale):
        return _assembled(workspace, settings)


def _assembled(workspace: Workspace, settings: Settings) -> Plan:
    markets = _markets(workspace.read("markets"))
    min_cell = settings.report.min_cell
    stages = {s: workspace.notes(s) for s in STAGES if s != "plan" and _has_notes(workspace, s)}
    stages = people.without_small_groups(stages, min_cell)
    tables, suppressed = _published(workspace, min_cell)
    stages = of_shown_markets(stages, tables.get("scores"))
    missing = {s: _reason(s, stages.get(s)) for s, table in _TABLE_OF.items() if not workspace.has(table)}

    changes = changes_since(settings, tables, stages)
    if changes is not None:
        tables["changes"] = changes.table
    watched = drift(settings, workspace.read_if_there("input_profile"), tables, stages)
    checks = [(s, c) for s in STAGES if s in stages for c in stages[s].checks]
    own_checks = check_tables(tables, markets, stages)
    warnings = [(s, w) for s in STAGES if s in stages for w in stages[s].warnings]
    warnings += [
        ("plan", f"The plan's own check “{c.name}” failed: {c.detail}. Treat its totals with care.")
        for c in own_checks
        if not c.passed
    ]
    warnings += [("plan", text) for text in alarms_of(watched)]
    if suppressed:
        fewer = f"fewer than {min_cell} customers"
        which = "1 market has" if suppressed == 1 else f"{suppressed:,} markets have"
        text = (
            f"{which} {fewer}, or would give such a market away: their customers, share and equity are left out, and"
            " the totals leave them out too."
        )
        warnings.append(("plan", text))

    spend, segments = _spend(workspace, tables), people.customers_by_segment(workspace, stages.get("data"), min_cell)
    story: Story = tell(settings, stages, tables, markets, segments)
    return Plan(
        company=settings.company.name,
        currency=settings.company.currency,
        as_of=settings.as_of,
        start=settings.plan.start,
        end=settings.plan.end,
        relationship=settings.economics.relationship,
        headline=story.headline,
        subline=story.subline,
        cards=story.cards,
        stages=stages,
        missing=missing,
        tables=tables,
        markets=markets,
        segments=segments,
        segments_tell=people.segments_tell(stages.get("data")),
        acquisition=people.cost_of_winning(workspace),
        foresight=people.foresight(workspace, stages.get("value")),
        new_customers=people.new_customers(workspace),
        spend=spend,
        plays=play_library(own if (own := settings.path.with_name("plays.yml")).is_file() else None),
        totals={name: table_totals(name, frame) for name, frame in tables.items()},
        assumptions=tuple(_unique((s, a) for s in STAGES if s in stages for a in stages[s].assumptions)),
        warnings=tuple(_unique(warnings)),
        checks=(*checks, *(("plan", c) for c in own_checks)),
        min_cell=min_cell,
        suppressed=suppressed,
        locale=settings.locale,
        changes=changes,
        drift=watched,
        progress=progress_since(settings, workspace.read_if_there("history")),
    )


def _unique(pairs: Any) -> list[Any]:
    """The (stage, thing) pairs, each thing only where it is first said."""
    first: dict[Any, Any] = {}
    for stage, thing in pairs:
        first.setdefault(thing, stage)
    return [(stage, thing) for thing, stage in first.items()]


def _has_notes(workspace: Workspace, stage: str) -> bool:
    return (workspace.run_dir / "work" / "notes" / f"{stage}.json").exists()


def _reason(stage: str, notes: Notes | None) -> str:
    if notes and notes.warnings:
        return notes.warnings[0]
    what, needs = NEEDS[stage]
    return f"The plan can't say {what}: that takes {needs}."


def _markets(markets: pd.DataFrame) -> pd.DataFrame:
    """Names for people: an empty name becomes the id, an empty region or territory stays empty."""
    frame = markets.copy()
    frame["name"] = frame["name"].where(frame["name"].notna(), frame["market_id"]).astype(str)
    for column in ("region", "territory"):
        frame[column] = frame[column].astype("object").where(frame[column].notna(), None)
    keep = ["market_id", "name", "region", "territory"]
    if "geometry" in frame.columns:
        keep.append("geometry")
    return frame[keep].sort_values("market_id", kind="stable").reset_index(drop=True)


def _published(workspace: Workspace, min_cell: int) -> tuple[dict[str, pd.DataFrame], int]:
    tables: dict[str, pd.DataFrame] = {}
    suppressed = 0
    for name in PUBLISHED:
        frame = None if name in ("changes", "drift") else workspace.read_if_there(name)  # made anew by this stage
        if frame is None:
            continue
        known = ARTEFACTS[name]
        frame = pd.DataFrame(frame)
        frame = frame[[*known.columns, *(c for c in known.optional if c in frame.columns)]]
        if name == "scores":
            frame, suppressed = suppress_small_cells(frame, min_cell)
        tables[name] = frame.sort_values(list(ARTEFACTS[name].keys), kind="stable").reset_index(drop=True)
    return tables, suppressed


def _spend(workspace: Workspace, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    columns = ["market_id", "channel", "current"]
    if "budget" in tables:
        return tables["budget"][columns]
    current = workspace.read_if_there("current")
    return None if current is None else pd.DataFrame(current)[columns]
