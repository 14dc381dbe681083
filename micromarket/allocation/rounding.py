"""Money in whole units (100s, say) that keeps every sum: each cell up or down, chosen together.

Which cells to round up is a small integer programme with one 0/1 choice a cell; where markets lie within regions its
rows form a network and the relaxed answer is whole already (Hoffman & Kruskal 1956), so that it takes a second for
100,000 cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from micromarket.allocation.clashes import infeasible
from micromarket.allocation.problem import Group

Array = NDArray[np.float64]
CENT = 0.01
SEARCHED = 1_000  # cells of the integer programme


def round_to_unit(
    spend: Array,
    unit: float,
    total: float,
    low: Array,
    high: Array,
    groups: Sequence[Group] = (),
    *,
    current: Array | None = None,
    max_shift: float | None = None,
    value: Callable[[Array], Array] | None = None,
) -> Array:
    """``spend`` in multiples of ``unit`` that add up to ``total`` and keep every limit.

    Cells whose bounds hold no multiple of the unit next to their money (blocked ones, say) keep theirs, in cents. What
    the total has beyond whole units goes to one cell, the largest that has room for it.

    Parameters
    ----------
    spend, low, high : arrays (cells,)
        Money within its bounds.
    unit, total : float
        Money.
    groups : sequence of Group
        Bounds of sums by market, channel, region.
    current, max_shift : array (cells,), float, optional
        Half of the sum of ``|x - current|`` at most.
    value : callable, optional
        Value of money by cell, (cells,) to (cells,): those are rounded up where it is worth most.

    Raises
    ------
    InfeasibleError
        Where no such money keeps the limits.
    """
    slack = 1e-6 * CENT
    down = np.floor(spend / unit + 1e-9) * unit
    up = down + unit
    can_down, can_up = (down >= low - slack) & (down <= high + slack), (up >= low - slack) & (up <= high + slack)
    # next to a bound that is no multiple, one unit further inside may be legal
    down = np.where(~can_down & ~can_up & (up + unit <= high + slack), up + unit, down)
    kept = ~can_down & ~can_up & (down < low - slack)
    base = np.where(kept, np.round(spend / CENT) * CENT, np.where(can_down, down, np.where(can_up, up, down)))
    choice = np.flatnonzero(can_down & can_up)
    units = (total - float(base.sum())) / unit
    whole = int(np.floor(units + 1e-9))
    odd = round(total - float(base.sum()) - whole * unit, 2)
    if whole < 0 or whole > len(choice):
        raise _cannot(unit)
    worth = np.zeros(len(base)) if value is None else value(base + unit) - value(base)
    chosen = _choose(base, choice, whole, odd, unit, groups, current, max_shift, worth[choice])
    if chosen is None:
        raise _cannot(unit)
    out = base.astype(float)
    out[choice[chosen]] += unit
    if odd > CENT / 2:
        out[_with_room(out, odd, high, kept, groups)] += odd
    rounded: Array = np.round(out, 2)
    return rounded


def _cannot(unit: float) -> Exception:
    return infeasible([f"a round_to of {unit:,.2f} that the limits leave room for: a smaller unit, or wider limits"])


def _choose(
    base: Array,
    choice: NDArray[np.int64],
    whole: int,
    odd: float,
    unit: float,
    groups: Sequence[Group],
    current: Array | None,
    max_shift: float | None,
    worth: Array,
) -> NDArray[np.bool_] | None:
    n = len(choice)
    if n == 0:
        return np.zeros(0, bool) if whole == 0 else None
    worth = worth / max(float(np.abs(worth).max()), 1e-300)
    rows, least, most = [sparse.csr_matrix(np.ones((1, n)))], [np.array([whole])], [np.array([whole])]
    for group in groups:
        sums = np.bincount(group.code, base, len(group))
        free = np.bincount(group.code[choice], minlength=len(group)) * unit
        tight = np.flatnonzero((sums + free + odd > group.high) | (sums < group.low))
        if not len(tight):
            continue
        member = sparse.csr_matrix((np.ones(n), (group.code[choice], np.arange(n))), (len(group), n))
        rows.append(member[tight])
        least.append(np.ceil((group.low - sums)[tight] / unit - 1e-6))
        # the odd money may have to go to one of the group's cells
        most.append(np.floor((group.high - sums)[tight] / unit + 1e-6))
    if current is not None and max_shift is not None:
        at, now = base[choice], current[choice]
        before = float(np.abs(base - current).sum())
        rows.append(sparse.csr_matrix((np.abs(at + unit - now) - np.abs(at - now))[None]))
        least.append(np.array([-np.inf]))
        most.append(np.array([2 * max_shift - before - odd]))
    matrix = sparse.vstack(rows).tocsr()
    return _whole(worth, matrix, np.concatenate(least), np.concatenate(most))


def _whole(worth: Array, rows: sparse.csr_matrix, least: Array, most: Array) -> NDArray[np.bool_] | None:
    """0 or 1 for every cell: of many, only those near the edge of the relaxed answer are left to the search."""
    n = len(worth)
    fixed, open_ = np.zeros(n), np.arange(n)
    if n > SEARCHED:
        up, down = np.isfinite(most), np.isfinite(least)
        relaxed = linprog(
            -worth, A_ub=sparse.vstack([rows[up], -rows[down]]), b_ub=np.concatenate([most[up], -least[down]]),
            bounds=(0, 1), method="highs",
        )  # fmt: skip
        if relaxed.x is None:
            return None
        part = (relaxed.x > 1e-6) & (relaxed.x < 1 - 1e-6)
        cost = np.abs(relaxed.lower.marginals + relaxed.upper.marginals)
        open_ = np.sort(np.argsort(np.where(part, -1.0, cost), kind="stable")[: max(SEARCHED, int(part.sum()))])
        fixed = np.round(relaxed.x)
        fixed[open_] = 0.0
    taken = rows @ fixed
    found = milp(
        -worth[open_], integrality=np.ones(len(open_)), bounds=Bounds(0, 1),
        options={"node_limit": 200, "mip_rel_gap": 1e-4},
        constraints=LinearConstraint(rows[:, open_], least - taken, most - taken),
    )  # fmt: skip
    if found.x is None:
        return None
    fixed[open_] = np.round(found.x)
    return fixed > 0.5


def _with_room(out: Array, odd: float, high: Array, kept: NDArray[np.bool_], groups: Sequence[Group]) -> int:
    room = (out + odd <= high + 1e-6) & ~kept & (out > 0)
    for group in groups:
        sums = np.bincount(group.code, out, len(group))
        room &= (sums + odd <= group.high + 1e-6)[group.code]
    pool = np.flatnonzero(room) if room.any() else np.flatnonzero(out + odd <= high + 1e-6)
    if not len(pool):
        raise _cannot(odd)
    return int(pool[np.argmax(out[pool])])
