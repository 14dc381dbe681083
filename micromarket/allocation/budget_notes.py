"""What the allocation stage says in words: why money is kept, what binds, what is assumed, what was checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.allocation.solver import Allocation
from micromarket.config import Settings
from micromarket.formats import money
from micromarket.notes import Assumption, Check, Notes

Array = NDArray[np.float64]
# Money moves only where the odds are at least this that it brings more than today's allocation.
MIN_ODDS = 0.9
MAX_NO_RESPONSE = 0.5


def notes_of(
    cells: Cells,
    settings: Settings,
    numbers: dict[str, Any],
    plan: Allocation,
    spend: Array,
    total: float,
    pays: bool,
    odds: float,
    none: float | None,
    blocked: set[str],
) -> Notes:
    warnings, limits = [], settings.budget
    if not pays:
        why = f"the odds that moving money beats it are {odds:.0%}, below the {MIN_ODDS:.0%} we ask for"
        if none is not None and none > MAX_NO_RESPONSE:
            why = f"the odds that new customers do not respond to spend at all are {none:.0%}"
        warnings.append(f"Today's allocation is kept: {why}. A test of spend would settle it.")
    if cells.held.any() and not cells.held.all():
        warnings.append(
            f"{int(cells.held.sum()):,} of {len(spend):,} cells (market and channel) have no spend today and get none,"
            " as limits are ratios of today's money."
        )
    here = blocked & set(cells.markets)
    if here:
        warnings.append(
            f"{_plural(len(here), 'market keeps', 'markets keep')} today's money: the field has blocked changes there."
        )
    if not (cells.value > 0).all():
        count = len(set(np.array(cells.markets)[cells.market][cells.value <= 0]))
        warnings.append(
            f"In {_plural(count, 'market', 'markets')} a new customer is worth nothing or less: no money is moved in."
        )
    left = round(total - float(spend.sum()), 2)
    if left > 0.005:
        unspent = money(left, settings.company.currency)
        warnings.append(f"{unspent} stays unspent: it would bring less than {limits.min_return:g} per unit of money.")
    beyond = int((spend > 2 * np.maximum(cells.current, 1e-9)).sum()) if not cells.held.all() else 0
    if beyond and pays:
        warnings.append(
            f"{_plural(beyond, 'cell gets', 'cells get')} more than twice today's money: what that brings is"
            " read off the curve's shape, not seen in the past."
        )
    market, cell = limits.market_change, limits.cell_change
    assumptions = (
        Assumption(
            f"At most {limits.max_shift:.0%} of the money changes place; a market gets {market[0]:g} to {market[1]:g}"
            f" times, a cell (market and channel) {cell[0]:g} to {cell[1]:g} times today's money.",
            settings.path.name,
        ),
        Assumption(
            "The promised gain is the average over many draws of response and value, all shrunk towards their averages"
            " before the plan is made; it is not the estimate at which the plan looks best.",
            "default",
        ),
        *_mixture(numbers.get("stacking") or {}),
    )
    exact = abs(float(spend.sum()) - numbers["total"]) < 0.005
    gap, worst = plan.certificate.duality_gap, plan.certificate.max_violation
    checks = (
        Check("no better allocation exists within the limits", gap < 1e-6, f"gap {gap:.1e}"),
        Check("every limit is kept", worst < 1e-6, f"worst {worst:.1e}"),
        Check("the money adds up to the cent", exact, f"{spend.sum():,.2f}"),
    )
    return Notes(numbers, assumptions, tuple(warnings), checks)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _mixture(stacking: dict[str, Any]) -> tuple[Assumption, ...]:
    """How the response was mixed, where it was."""
    if "weight headroom" not in stacking:
        return ()
    own, room, size = (stacking[f"weight {name}"] for name in ("own effects", "headroom", "size"))
    how = (
        "by how well each predicts the half of the history that it has not seen"
        if stacking.get("held_out")
        else "by default, as the history is too short to tell"
    )
    return (
        Assumption(
            "Where money works better is a mixture of what each market's own history shows, of effects in proportion to"
            f" headroom and of effects alike per head, {how} (weights {own:.2f}, {room:.2f} and {size:.2f}); a weight"
            " below 0 means that markets differ by more than either says.",
            "estimated" if stacking.get("held_out") else "default",
        ),
        Assumption(
            "How wide the range of the gain is was set on simulated companies: it holds the real gain about nine"
            " times in ten there.",
            "benchmarks/README.md",
        ),
    )
