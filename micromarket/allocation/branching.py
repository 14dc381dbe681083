"""S-shaped curves and minimum tickets: a bound from concave envelopes, an answer by repair, the rest by branching.

Spatial branch and bound (Falk & Soland 1969) on the cells whose envelope is above the curve where the relaxed answer
puts them. Few cells are: at most about as many as limits on sums bind (Shapley-Folkman), so that the gap of the first
bound shrinks with the number of cells, and branching is for small problems.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.dual import dual_newton
from micromarket.allocation.envelope import Envelope, Minorant
from micromarket.allocation.interior_point import interior_point
from micromarket.allocation.problem import Allocation, Problem

Array = NDArray[np.float64]
WORK = 4_000  # cells x nodes
FEASIBLE = 1e-7
LARGE = 2_000  # cells beyond which answers are looked for less thoroughly


@dataclass(frozen=True)
class _Node:
    """Where each cell's money may be: ``[low, high]``; where ``hole`` is above 0 only 0 or at least ``hole``."""

    low: Array
    high: Array
    hole: Array


@dataclass(frozen=True)
class _Relaxed:
    """``x`` of the relaxed answer, an upper ``bound`` on the node's score, the ``excess`` of each cell's envelope."""

    x: Array
    bound: float
    excess: Array
    found: Allocation


@dataclass
class _Best:
    score: float = -np.inf
    x: Array | None = None
    found: Allocation | None = None


def solve_nonconcave(problem: Problem, ticket: float, tolerance: float, prices: Array | None) -> Allocation | None:
    """The best answer found, with the gap to the bound; ``None`` where none keeps every limit.

    ``ticket``: least money of a cell that gets any, in the problem's unit.
    """
    del prices  # envelopes have flat parts: their prices jump from one problem to the next
    search = _Search(problem, max(tolerance, 1e-8))
    return search.run(_root(problem, ticket))


def _root(p: Problem, ticket: float) -> _Node:
    low, high, hole = p.low.copy(), p.high.copy(), np.zeros(len(p.low))
    if ticket > 0:
        free = high > low
        low = np.where(free & (low > 0), np.minimum(np.maximum(low, ticket), high), low)
        high = np.where(free & (low <= 0) & (high < ticket), 0.0, high)
        hole = np.where(free & (low <= 0) & (high > 0), ticket, 0.0)
    return _Node(low, high, hole)


def _worst(found: Allocation) -> float:
    worst = max(found.certificate.duality_gap, 10 * found.certificate.max_violation)
    return worst if np.isfinite(worst) else np.inf


def _fine(found: Allocation) -> bool:
    return _worst(found) < 1e-10


class _Search:
    def __init__(self, problem: Problem, tolerance: float):
        self.p, self.tolerance = problem, tolerance
        self.turn = problem.curves.inflection
        self.best = _Best()
        self.nodes = 0
        self.steps = 0

    def run(self, root: _Node) -> Allocation | None:
        first = self._relax(root)
        if first is None:
            return None
        self._repair(root, first)
        bound = self._branch(root, first)
        best = self.best
        if best.x is None or best.found is None:
            return None
        self._sharpen(root, best.x)
        gap = max(bound - best.score, 0.0) / max(abs(best.score), 1e-9 * len(best.x))
        certificate = replace(best.found.certificate, duality_gap=float(gap), iterations=self.steps)
        objective = float(self.p.curves.value(best.x).sum()) * self.p.worth
        return replace(best.found, spend=best.x * self.p.unit, objective=objective, certificate=certificate)

    def _offer(self, x: Array, found: Allocation) -> float:
        score = self.score(x)
        if score > self.best.score:
            self.best = _Best(score, x, found)
        return score

    def score(self, x: Array) -> float:
        return float(self.p.curves.value(x).sum()) - self.p.charge * float(x.sum())

    def _solve(self, part: Problem, near: Allocation | None = None, corners: bool = False) -> Allocation:
        """The dual method from a like answer, else the interior point; the dual method again from what that finds."""
        first = None if near is None or not corners else self._from(part, near)
        if first is not None and _worst(first) < 1e-9:
            return first
        found = interior_point(part, 1e-11, 40 if len(part.low) > LARGE else 60)
        self.steps += found.certificate.iterations
        if _worst(found) > (1e-9 if corners else 1e-6):
            second = self._from(part, found)
            found = found if second is None or _worst(second) > _worst(found) else second
        return found if first is None or _worst(found) <= _worst(first) else first

    def _from(self, part: Problem, near: Allocation) -> Allocation | None:
        found = dual_newton(part, part.rows_of(near), steps=12, near=near.spend / self.p.unit)
        self.steps += 0 if found is None else found.certificate.iterations
        return found

    # --- the bound
    def _relax(self, node: _Node, near: Allocation | None = None) -> _Relaxed | None:
        p = self.p
        envelope = Envelope.over(p.curves, node.low, node.high, node.hole)
        part = p.restricted(envelope, node.low, node.high)
        found = self._solve(part, near, bool((node.hole > 0).any()))
        if not found.certificate.max_violation <= FEASIBLE:
            return None
        x = np.clip(found.spend / p.unit, node.low, node.high)
        prices = part.rows_of(found)
        bound = part.bound(prices)
        excess = np.maximum(envelope.value(x) - p.curves.value(x), 0.0)
        share = np.where(node.hole > 0, x / np.where(node.hole > 0, node.hole, 1.0), 0.0)
        between = (share > 1e-7) & (share < 1 - 1e-7)
        excess = np.where(between, share * (1 - share) * p.curves.value(node.hole), excess)
        return _Relaxed(x, bound, excess, found)

    # --- answers
    def _repair(self, node: _Node, relaxed: _Relaxed) -> None:
        """Answers near the relaxed one: tickets decided, then local gains; and every cell on one side of its chord."""
        dived = self._decide_tickets(node, relaxed)
        if dived is not None:
            decided, x = dived
            # in the tree, local gains are worth a try where the answer is near the best as it is, and now and then
            if not self.nodes or self.nodes % 8 == 0 or self.score(x) > self.best.score * (1 - 5e-3):
                self._polish(decided, x)
            if not self.nodes:
                self._one_side(decided, x)

    def _decide_tickets(self, node: _Node, relaxed: _Relaxed) -> tuple[_Node, Array] | None:
        """Cells between nothing and their ticket go to one of the two, the clearest first, until none is left."""
        x: Array = relaxed.x
        for _ in range(40):
            between = (node.hole > 0) & (x > 1e-7 * node.hole) & (x < node.hole * (1 - 1e-7))
            if not between.any():
                none = (node.hole > 0) & (x <= 1e-7 * node.hole)
                some = (node.hole > 0) & ~none
                return self._sided(node, none, some), x
            cells = np.flatnonzero(between)
            share = x[cells] / node.hole[cells]
            order = np.argsort(-np.abs(share - 0.5), kind="stable")
            chosen = cells[order[: max(len(cells) // 2, 1)]]
            for part, flip in ((chosen, False), (chosen[:1], False), (chosen[:1], True)):
                up = (x[part] >= 0.5 * node.hole[part]) != flip
                none, some = np.zeros(len(x), bool), np.zeros(len(x), bool)
                none[part[~up]], some[part[up]] = True, True
                nearer = self._sided(node, none, some)
                after = self._relax(nearer, relaxed.found)
                if after is not None:
                    node, x = nearer, after.x
                    break
            else:
                return None
        return None

    @staticmethod
    def _sided(node: _Node, none: NDArray[np.bool_], some: NDArray[np.bool_]) -> _Node:
        return _Node(
            np.where(some, np.maximum(node.low, node.hole), node.low), np.where(none, 0.0, node.high),
            np.where(none | some, 0.0, node.hole),
        )  # fmt: skip

    def _one_side(self, node: _Node, x: Array) -> None:
        """S-shaped cells either at their lower end or beyond their inflection: a concave problem."""
        bent = (self.turn > node.low) & (node.high > self.turn)
        if not bent.any():
            return
        touch = Envelope.over(self.p.curves, node.low, node.high, node.hole).touch
        large = len(x) > LARGE
        for share in (0.5,) if large else (0.5, 0.05, 0.95):
            up = bent & (x - node.low > share * (touch - node.low))
            low = np.where(up, self.turn, node.low)
            high = np.where(bent & ~up, node.low, node.high)
            part = self.p.restricted(self.p.curves, low, high)
            found = dual_newton(part) if large else self._solve(part)
            if found is None or not found.certificate.max_violation <= FEASIBLE:
                continue
            after = np.clip(found.spend / self.p.unit, low, high)
            self._offer(after, found)
            if not large:
                self._polish(node, after)

    def _polish(self, node: _Node, x: Array) -> None:
        """Gains step by step on concave curves that lie below and touch at the answer so far (Hunter & Lange 2004)."""
        p, top = self.p, -np.inf
        for _ in range(3 if self.nodes or len(x) > LARGE else 10):
            part = p.restricted(Minorant.touching(p.curves, x), node.low, node.high)
            found = self._solve(part)
            if not found.certificate.max_violation <= FEASIBLE:
                return
            after = np.clip(found.spend / p.unit, node.low, node.high)
            score = self._offer(after, found)
            if score <= top + 1e-10 * abs(top):
                return
            x, top = after, score

    def _sharpen(self, root: _Node, x: Array) -> None:
        """The last digits: cells stay on the side where they are, those on a convex part where they are."""
        bent = (self.turn > root.low) & (root.high > root.low)
        convex = bent & (x < self.turn)
        low = np.where(convex, x, np.where(bent, np.maximum(self.turn, root.low), root.low))
        high = np.where(convex, x, root.high)
        none = (root.hole > 0) & (x < root.hole / 2)
        low, high = np.where(none, 0.0, np.maximum(low, np.minimum(root.hole, high))), np.where(none, 0.0, high)
        found = dual_newton(self.p.restricted(self.p.curves, low, high))
        if found is not None and found.certificate.max_violation <= 1e-12:
            after = np.clip(found.spend / self.p.unit, low, high)
            if self.score(after) >= self.best.score * (1 - 1e-12):
                self.best = _Best(self.score(after), after, found)

    # --- branching
    def _branch(self, root: _Node, first: _Relaxed) -> float:
        """Upper bound on every answer once the nodes are used up."""
        n = len(root.low)
        most = min(WORK // max(n, 1), 200)
        heap = [(-first.bound, 0, root, first)]
        count = 0
        settled = -np.inf  # bounds of nodes that need no more work
        while heap:
            bound = max(-heap[0][0], settled)
            if bound <= self.best.score + self.tolerance * abs(self.best.score) or self.nodes >= most:
                return bound
            _, _, node, relaxed = heapq.heappop(heap)
            if float(relaxed.excess.max()) <= 1e-12 * max(abs(self.best.score), 1e-300):
                settled = max(settled, relaxed.bound)
                continue
            for child in self._split(node, relaxed):
                self.nodes += 1
                found = self._relax(child, relaxed.found)
                if found is None:
                    continue
                if found.bound > self.best.score:
                    self._repair(child, found)
                count += 1
                heapq.heappush(heap, (-min(found.bound, relaxed.bound), count, child, found))
        return max(settled, self.best.score)

    def _split(self, node: _Node, relaxed: _Relaxed) -> list[_Node]:
        i = int(np.argmax(relaxed.excess))
        at = float(relaxed.x[i])
        mark = np.arange(len(node.low)) == i
        if node.hole[i] > 0 and at < node.hole[i]:
            return [self._sided(node, mark, ~mark & False), self._sided(node, mark & False, mark)]
        start = max(float(node.low[i]), float(node.hole[i]))
        width = float(node.high[i]) - start
        at = min(max(at, start + 0.1 * width), start + 0.9 * width)
        stay = float(self.p.ref[i])  # with a cap on moves many cells stay: their money is a good place to cut
        if self.p.capped and start + 1e-3 * width < stay < start + (1 - 1e-3) * width:
            at = stay
        below, above = np.where(mark, at, node.high), np.where(mark, at, node.low)
        opened = np.where(mark, 0.0, node.hole)
        return [_Node(node.low, below, node.hole), _Node(above, node.high, opened)]
