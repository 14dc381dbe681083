"""What a budget is planned on: cells with curves and values, and joint draws of both, stacked by evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from micromarket.allocation.evidence import held_out
from micromarket.allocation.gain import Draws, joint_draws, new_customer_value
from micromarket.allocation.limits import Cells, blocked_markets, build_cells
from micromarket.allocation.segments import relative_value
from micromarket.allocation.stacking import Stacked, stack
from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.response.panel import build_panel, market_scale, relative_room


class Response(Protocol):
    """What is needed of the response stage's result. Where it has ``half_draws``, these are read too."""

    @property
    def curves(self) -> pd.DataFrame | None: ...

    @property
    def curve_draws(self) -> pd.DataFrame | None: ...

    @property
    def notes(self) -> Notes: ...


@dataclass(frozen=True)
class Basis:
    """``cells`` and ``draws`` of the mixture that plans are made on, what the notes say of it (``numbers``), and the
    markets that the field has ``blocked``."""

    cells: Cells
    draws: Draws
    numbers: dict[str, Any]
    blocked: set[str]


def plan_basis(
    data: MarketData,
    response: Response,
    value_markets: pd.DataFrame,
    scores: pd.DataFrame | None,
    settings: Settings,
    field_notes: pd.DataFrame | None = None,
    segments: pd.DataFrame | None = None,
) -> Basis:
    """Parameters as :func:`micromarket.allocation.plan_budget`; ``response`` has curves and their draws."""
    assert response.curves is not None
    assert response.curve_draws is not None
    markets = pd.Index(sorted(response.curves["market_id"].unique()), name="market_id")
    value, _ = new_customer_value(value_markets, tuple(markets))
    blocked = blocked_markets(field_notes, settings.as_of)
    cells = build_cells(data, response.curves, value, markets, blocked)
    names = np.array(cells.markets)[cells.market], np.array(cells.channels)[cells.channel]
    relative = relative_value(segments, *names, cells.value)
    cells = replace(cells, value=cells.value * relative)
    half = getattr(response, "half_draws", None)
    draws = joint_draws(cells, response.curve_draws, value_markets, settings.seed, half)
    mixed = _stacked(data, response, scores, cells, replace(draws, relative=relative), settings.seed)
    return Basis(mixed.cells, mixed.draws, mixed.numbers, blocked)


def _stacked(
    data: MarketData, response: Response, scores: pd.DataFrame | None, cells: Cells, draws: Draws, seed: int
) -> Stacked:
    """The curves that the plan is made on; as they are where they don't come from the company's own history."""
    panel = build_panel(data, scores) if response.notes.numbers.get("source") == "estimated" else None
    if panel is None:
        return Stacked(cells, draws, {"held_out": False})
    markets = pd.Index(cells.markets, name="market_id")
    heads = market_scale(data, markets)[0]
    table = response.notes.numbers.get("channels") or []
    tests = {row["channel"] for row in table if row.get("source") == "experiment"}
    tested = np.array([c in tests for c in cells.channels])
    return stack(cells, draws, held_out(panel), relative_room(scores, markets, heads), heads, tested, seed)
