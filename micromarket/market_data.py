"""A company's data once it is aggregated: everything the stages after ``data`` read, and no row about one customer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from micromarket.notes import Notes
from micromarket.workspace import Workspace

_TABLES = ("markets", "neighbours", "cells", "history", "panel", "spend", "current", "leads", "accounts",
           "products", "market_map", "census_coverage", "lead_steps", "open_leads", "lead_reasons",
           "input_profile")  # fmt: skip
_OPTIONAL = ("neighbours", "panel", "spend", "current", "leads", "accounts", "products", "market_map",
             "census_coverage", "lead_steps", "open_leads", "lead_reasons", "input_profile")  # fmt: skip


@dataclass(frozen=True)
class MarketData:
    """Aggregated tables; columns and keys as declared in :data:`micromarket.artefacts.ARTEFACTS`.

    ``neighbours``, ``panel``, ``spend``, ``current``, ``leads``,
    ``accounts`` and ``products`` are ``None`` where the company has no such data.

    Attributes
    ----------
    features : tuple of str
        Numeric columns of ``markets`` that may explain potential.
    frequency : {"week", "month", None}
        Length of the periods in ``panel`` and ``spend``.
    market_map, census_coverage : DataFrame or None
        What became of the company's own markets where some were joined; how far its census files reach.
    lead_steps, open_leads, lead_reasons : DataFrame or None
        Leads stage by stage: how long they waited and how they left, who waits today, why they fell.
    input_profile : DataFrame or None
        The shape of the input, for the next run to compare with.
    facts : mapping
        The numbers of the data stage's notes.
    """

    markets: pd.DataFrame
    cells: pd.DataFrame
    history: pd.DataFrame
    neighbours: pd.DataFrame | None = None
    panel: pd.DataFrame | None = None
    spend: pd.DataFrame | None = None
    current: pd.DataFrame | None = None
    leads: pd.DataFrame | None = None
    accounts: pd.DataFrame | None = None
    products: pd.DataFrame | None = None
    market_map: pd.DataFrame | None = None
    census_coverage: pd.DataFrame | None = None
    lead_steps: pd.DataFrame | None = None
    open_leads: pd.DataFrame | None = None
    lead_reasons: pd.DataFrame | None = None
    input_profile: pd.DataFrame | None = None
    features: tuple[str, ...] = ()
    frequency: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    @classmethod
    def read(cls, workspace: Workspace) -> MarketData:
        """What the data stage left in ``workspace``."""
        notes = workspace.notes("data")
        facts = notes.numbers
        tables: dict[str, Any] = {
            t: workspace.read_if_there(t) if t in _OPTIONAL else workspace.read(t) for t in _TABLES
        }
        return cls(**tables, features=tuple(facts["features"]), frequency=facts["frequency"], facts=facts, notes=notes)

    def write(self, workspace: Workspace) -> None:
        """Its tables and notes, into ``workspace``."""
        for table in _TABLES:
            frame = getattr(self, table)
            if frame is not None:
                workspace.write(table, frame)
        places = ["market_id", "name", "region", "territory", "manager"]
        workspace.write("territories", pd.DataFrame(self.markets).reindex(columns=places))
        workspace.write_notes("data", self.notes)
