"""Settings that contradict one another: which limits clash, by how much, and the least change that helps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from micromarket.allocation.problem import FAMILIES, Group, Problem, tally
from micromarket.errors import InfeasibleError
from micromarket.errors import Problem as Wrong

Array = NDArray[np.float64]
NAMED = 5  # groups that a message names
LARGEST = 60_000  # cells of a linear programme; beyond, markets of a region count as one


def infeasible(lines: list[str]) -> InfeasibleError:
    return InfeasibleError([Wrong("plan.yml", line, column="budget") for line in lines])


def check_sums(
    low: Array, high: Array, groups: dict[str, Group], total: float, free: bool, min_ticket: float = 0.0
) -> tuple[Array, Array]:
    """The bounds of cells, slips of rounding between the two closed.

    Raises
    ------
    InfeasibleError
        Clashes that sums of bounds already show, with the least change that helps.
    """
    slack = 1e-9 * max(total, 1.0)
    bad = np.flatnonzero(low > high + slack)
    if len(bad):
        text = f"lowest money of a cell at most its highest ({len(bad)} cells, worst by {(low - high)[bad].max():,.2f})"
        raise infeasible([text])
    high = np.maximum(high, low)
    lines, floor, ceiling = [], float(low.sum()), float(high.sum())
    if min_ticket > 0:
        between = (low > slack) & (high < min_ticket - slack) & (high > low + slack)
        if between.any():
            least = float(high[between].min())
            lines.append(
                f"min_ticket of {min_ticket:,.2f} within reach of every cell that must have money: {int(between.sum())}"
                f" cells may not go that high (one no higher than {least:,.2f}): lower it, or let these cells go to 0"
            )
        lines += _small_groups(low, high, groups, min_ticket, slack)
    for family, group in groups.items():
        size = len(group)
        least_sum = tally(group.code, low, size)
        most_sum = tally(group.code, high, size)
        for over, what in (
            (least_sum - group.high, f"{family} limits that leave room for the lowest money of its cells"),
            (group.low - most_sum, f"{family} limits that its cells' highest money can reach"),
            (group.low - group.high, f"lowest money of a {family} at most its highest"),
        ):
            clash = np.flatnonzero(over > slack)
            if len(clash):
                lines.append(f"{what}: {len(clash)} clash by up to {over[clash].max():,.2f} ({_named(group, over)})")
        floor = max(floor, float(np.maximum(group.low, least_sum).sum()))
        ceiling = min(ceiling, float(np.minimum(group.high, most_sum).sum()))
    if floor > total + slack:
        lines.append(
            f"lowest limits that add up to at most the total of {total:,.2f}: they need {floor - total:,.2f} more"
        )
    if ceiling < total - slack and not free:
        lines.append(f"highest limits that add up to the total of {total:,.2f}: they allow {total - ceiling:,.2f} less")
    if lines:
        raise infeasible(lines + _advice(_Limits.of(low, low, high, groups, total, None, free)))
    return low, high


def _small_groups(low: Array, high: Array, groups: dict[str, Group], ticket: float, slack: float) -> list[str]:
    """Groups that must get money beyond their fixed cells', but less than one ticket."""
    lines, fixed = [], high <= low
    for family, group in groups.items():
        still = tally(group.code, np.where(fixed, low, 0.0), len(group))
        room = group.high - still
        clash = np.flatnonzero((group.low - still > slack) & (room < ticket - slack))
        if len(clash):
            worst = clash[np.argsort(room[clash], kind="stable")[:NAMED]]
            names = ", ".join(f"{group.named(i)} at most {room[i]:,.2f}" for i in worst)
            more = f" and {len(clash) - len(worst):,} more" if len(clash) > len(worst) else ""
            lines.append(
                f"min_ticket of {ticket:,.2f} within the limits of every {family} that must get money: {len(clash)} may"
                f" not get that much ({names}{more}); lower it to {room[clash].min():,.2f}, or let these go to 0"
            )
    return lines


def explain(problem: Problem, min_ticket: float = 0.0) -> InfeasibleError:
    """Why no money keeps every limit of ``problem``."""
    p, unit = problem, problem.unit
    groups = {
        f: Group(g.code, g.low, g.high, g.names) for f, g in p.families()
    }  # fmt: skip
    shift = float(p.row_high[-1]) * unit if p.capped else None
    limits = _Limits.of(
        p.now * unit, p.low * unit, p.high * unit, groups, p.total * unit, shift, not np.isfinite(p.row_low[0])
    )
    lines = _advice(limits)
    if not lines and min_ticket > 0:
        lines = [
            f"limits that cells with nothing or at least the min_ticket of {min_ticket:,.2f} can keep: none was found,"
            " though without it the limits can be kept; lower it, or widen the limits of markets and channels"
        ]
    return infeasible(lines or ["limits that can hold together"])


def _named(group: Group, over: Array) -> str:
    worst = np.argsort(-over, kind="stable")[: min(NAMED, int((over > 0).sum()))]
    rest = int((over > 0).sum()) - len(worst)
    text = ", ".join(f"{group.named(i)} by {over[i]:,.2f}" for i in worst)
    return text + (f" and {rest:,} more" if rest > 0 else "")


@dataclass(frozen=True)
class _Limits:
    """Limits on sums as rows: ``rows @ (x, up, down)`` between ``least`` and ``most``."""

    rows: sparse.csr_matrix
    least: Array
    most: Array
    names: list[str]
    low: Array
    high: Array
    capped: bool

    @classmethod
    def of(
        cls,
        now: Array,
        low: Array,
        high: Array,
        groups: dict[str, Group],
        total: float,
        shift: float | None,
        free: bool,
    ) -> _Limits:
        if len(low) > LARGEST:
            now, low, high, groups = _merged(now, low, high, groups)
        n = len(low)
        cells = np.arange(n)
        blocks = [sparse.csr_matrix(np.ones((1, n)))]
        least, most, names = [np.array([-np.inf if free else total])], [np.array([total])], ["the total"]
        for family in FAMILIES:
            if family in groups:
                g = groups[family]
                blocks.append(sparse.csr_matrix((np.ones(n), (g.code, cells)), (len(g), n)))
                least.append(g.low)
                most.append(g.high)
                names += [f"{family} {g.named(i)}" for i in range(len(g))]
        rows = sparse.vstack(blocks)
        if shift is not None:  # x = now + up - down; the boxes become those of the moves
            rows = sparse.vstack([sparse.hstack([rows, -rows]), sparse.csr_matrix(np.ones((1, 2 * n)))])
            base = np.concatenate([blocks_sum @ now for blocks_sum in blocks])
            least = [np.concatenate(least) - base, np.array([-np.inf])]
            most = [np.concatenate(most) - base, np.array([shift])]
            names.append("max_shift")
            forced_up, forced_down = np.maximum(low - now, 0.0), np.maximum(now - high, 0.0)
            low, high = (
                np.concatenate([forced_up, forced_down]),
                np.concatenate([np.maximum(high - now, 0.0), np.maximum(now - low, 0.0)]),
            )
        return cls(rows.tocsr(), np.concatenate(least), np.concatenate(most), names, low, high, shift is not None)


def _merged(
    now: Array, low: Array, high: Array, groups: dict[str, Group]
) -> tuple[Array, Array, Array, dict[str, Group]]:
    """Cells of one region and channel as one: a clash of these is one of all, and the check of each market is done."""
    n = len(low)
    codes = {f: groups[f].code if f in groups else np.zeros(n, np.int64) for f in ("channel", "region")}
    size = [len(groups[f]) if f in groups else 1 for f in ("channel", "region")]
    code = codes["channel"] * size[1] + codes["region"]
    kept, place = np.unique(code, return_inverse=True)
    sums = [tally(place, v, len(kept)) for v in (now, low, high)]
    out = {}
    for f, part in (("channel", kept // size[1]), ("region", kept % size[1])):
        if f in groups:
            out[f] = Group(part, groups[f].low, groups[f].high, groups[f].names)
    if "market" in groups:
        g = groups["market"]
        home = np.zeros(len(g), np.int64)
        home[g.code] = codes["region"]
        if (home[g.code] == codes["region"]).all():
            floor = np.maximum(g.low, tally(g.code, low, len(g)))
            ceiling = np.minimum(g.high, tally(g.code, high, len(g)))
            names = groups["region"].names if "region" in groups and len(groups["region"].names) else []
            out["market"] = Group(
                kept % size[1], tally(home, floor, size[1]), tally(home, ceiling, size[1]),
                [f"limits together, region {name}" for name in names] or ["limits together"] * size[1],
            )  # fmt: skip
    return sums[0], sums[1], sums[2], out


def _advice(limits: _Limits) -> list[str]:
    """What clashes and the least change in money that helps: an elastic linear programme; nothing where none clash."""
    k, n = limits.rows.shape
    unit = max(float(np.abs(limits.high).max(initial=0.0)), 1e-12)
    up, down = np.flatnonzero(np.isfinite(limits.most)), np.flatnonzero(np.isfinite(limits.least))
    eye = sparse.identity(k, format="csr")
    zero = [sparse.csr_matrix((len(up), len(down))), sparse.csr_matrix((len(down), len(up)))]
    matrix = sparse.vstack([
        sparse.hstack([limits.rows[up], -eye[up][:, up], zero[0]]),
        sparse.hstack([-limits.rows[down], zero[1], -eye[down][:, down]]),
    ])  # fmt: skip
    right = np.concatenate([limits.most[up], -limits.least[down]]) / unit
    cost = np.concatenate([np.zeros(n), np.ones(len(up) + len(down))])
    box = np.column_stack([
        np.concatenate([limits.low / unit, np.zeros(len(up) + len(down))]),
        np.concatenate([limits.high / unit, np.full(len(up) + len(down), np.inf)]),
    ])  # fmt: skip
    found = linprog(cost, A_ub=matrix, b_ub=right, bounds=box, method="highs")
    if found.x is None:
        return []
    slack = found.x[n:] * unit
    worth = 1e-8 * max(float(np.abs(right).max(initial=0.0)) * unit, 1e-12)
    change = np.flatnonzero(slack > worth)
    if not len(change):
        return []
    lines = _clashes(limits, up, down, -np.asarray(found.ineqlin.marginals))
    by = slack[change]
    said = []
    for at in np.argsort(-by, kind="stable")[: 2 * NAMED]:
        row = int(change[at])
        upper = row < len(up)
        name = limits.names[up[row] if upper else down[row - len(up)]]
        side = (
            "" if name in ("the total", "max_shift") else "the highest money of " if upper else "the lowest money of "
        )
        said.append(f"{'raise' if upper else 'lower'} {side}{name} by {by[at]:,.2f}")
    more = len(change) - len(said)
    tail = f", and {more:,} more such changes" if more > 0 else ""
    return [*lines, f"limits that fit; the least change that helps: {'; '.join(said)}{tail}"]


def _clashes(limits: _Limits, up: NDArray[np.int64], down: NDArray[np.int64], weight: Array) -> list[str]:
    """Sets of limits that contradict one another, from the multipliers of the elastic programme (Farkas' lemma)."""
    rows = np.flatnonzero(weight > 1e-7)
    if not len(rows):
        return []
    place = np.concatenate([up, down])[rows]
    movable = limits.high > limits.low
    touch = limits.rows[place][:, np.flatnonzero(movable)] != 0
    shared = sparse.csr_matrix(touch, dtype=np.int8)
    count, part = sparse.csgraph.connected_components((shared @ shared.T), directed=False)
    lines = []
    for number in range(min(count, 2 * NAMED)):
        mine = np.flatnonzero(part == number)
        names = []
        for i in mine[: 2 * NAMED]:
            row = int(place[i])
            upper = rows[i] < len(up)
            limit = (limits.most if upper else limits.least)[row]
            if limits.capped:
                names.append(f"{limits.names[row]} ({'highest' if upper else 'lowest'})")
            else:
                names.append(f"{limits.names[row]} (at {'most' if upper else 'least'} {limit:,.2f})")
        rest = len(mine) - len(names)
        if len(mine) > 1 or count > 1:
            lines.append(f"limits that can hold together: {', '.join(names)}{f' and {rest:,} more' if rest else ''}")
    return lines
