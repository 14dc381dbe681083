"""Steps of a primal-dual interior-point method for allocating money (Mehrotra 1992; Nocedal & Wright 2006, 16.6).

The Newton system is reduced three times: bounds into a diagonal, cells into rows (2 x 2 blocks), markets' rows (each
cell in one) into the few rows that are left (total, channels, regions, moves), which are solved densely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from micromarket.allocation.problem import Allocation, Problem

Array = NDArray[np.float64]


def interior_point(problem: Problem, tolerance: float = 1e-10, max_iterations: int = 200) -> Allocation:
    """The best answer on the way to ``tolerance`` (gap; a tenth of it in violations), whether it gets there or not."""
    best: tuple[float, Allocation | None] = (np.inf, None)
    state, since = State(problem), 0

    def worse(iteration: int) -> float:
        nonlocal best, since
        found = problem.answer(state.x(), -state.y, iteration)
        now = max(found.certificate.duality_gap, 10 * found.certificate.max_violation)
        since = 0 if now < 0.5 * best[0] else since
        if now < best[0] or best[1] is None:
            best = (now, found)
        return now

    for iteration in range(max_iterations):  # numbers that overflow end it, below
        # the certificate costs as much as a step: only where it may be good enough, or to see whether it gets better
        if (state.mu < 100 * tolerance or iteration % 8 == 7) and (worse(iteration) < tolerance or since > 25):
            break
        since += 1
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            going = state.step()
        if not going:
            worse(iteration)
            break
    else:
        worse(max_iterations)
    assert best[1] is not None
    return best[1]


class State:
    """Iterates of the interior-point method: up, down (cells), s (rows), their bound multipliers, y (rows)."""

    def __init__(self, problem: Problem):
        p = self.p = problem
        zero = np.zeros_like(p.ref)
        if p.capped:
            self.lo = np.concatenate([np.maximum(p.low - p.ref, 0), np.maximum(p.ref - p.high, 0), p.row_low])
            self.hi = np.concatenate([np.maximum(p.high - p.ref, 0), np.maximum(p.ref - p.low, 0), p.row_high])
        else:
            self.lo = np.concatenate([zero, zero, p.row_low])
            self.hi = np.concatenate([p.high - p.low, zero, p.row_high])
        self.n = len(p.ref)
        width = self.hi - self.lo
        self.fixed = ~(width > 1e-11 * max(1.0, float(np.abs(p.ref).max(initial=0.0))))
        self.has_lo = np.isfinite(self.lo) & ~self.fixed
        self.has_hi = np.isfinite(self.hi) & ~self.fixed
        with np.errstate(invalid="ignore"):
            middle = np.where(self.has_lo & self.has_hi, (self.lo + self.hi) / 2, 0.0)
        z = np.where(self.has_lo & ~self.has_hi, self.lo + 1, np.where(self.has_hi & ~self.has_lo, self.hi - 1, middle))
        cells = slice(0, 2 * self.n)
        # near today's plan, but inside: a tenth of the way into a box that may be wide
        start = np.minimum(0.1 * width[cells], 0.2)
        z[cells] = np.where(self.fixed[cells], self.lo[cells], self.lo[cells] + start)
        rows = slice(2 * self.n, None)
        reached = p.sums(p.ref + z[: self.n] - z[self.n : 2 * self.n], z[: self.n] + z[self.n : 2 * self.n])
        with np.errstate(invalid="ignore"):
            pad = np.where(self.has_lo[rows] & self.has_hi[rows], 0.1 * width[rows], 1.0)
        inside = np.clip(reached, np.where(self.has_lo[rows], self.lo[rows] + pad, -np.inf),
                         np.where(self.has_hi[rows], self.hi[rows] - pad, np.inf))  # fmt: skip
        z[rows] = np.where(self.fixed[rows], self.lo[rows], inside)
        self.z = z
        self.zl, self.zu = self.has_lo * 1.0, self.has_hi * 1.0
        self.y = np.zeros(len(p.row_low))
        self.mu = np.inf  # mean product of a bound's distance and its multiplier

    def x(self) -> Array:
        return self.p.ref + self.z[: self.n] - self.z[self.n : 2 * self.n]

    def step(self) -> bool:
        """One predictor-corrector step; ``False`` where it can't get any further."""
        p, n = self.p, self.n
        up, down = slice(0, n), slice(n, 2 * n)
        rows = slice(2 * n, None)
        x = np.maximum(self.x(), 1e-13)
        slope, bend = p.curves.marginal(x), p.curves.bend(x)
        price, by_move = p.spread(self.y)
        gl = np.where(self.has_lo, np.maximum(self.z - self.lo, 1e-16), 1.0)
        gu = np.where(self.has_hi, np.maximum(self.hi - self.z, 1e-16), 1.0)
        theta = self.zl / gl + self.zu / gu
        gradient = np.empty_like(self.z)
        gradient[up] = p.charge - slope - price - by_move
        gradient[down] = slope - p.charge + price - by_move
        gradient[rows] = self.y
        gap_rows = p.sums(self.x(), self.z[up] + self.z[down]) - self.z[rows]
        with np.errstate(divide="ignore"):
            soft = np.where(self.fixed, 0.0, 1 / np.maximum(theta, 1e-300))
        ia, ib = soft[up], soft[down]
        det = 1 + bend * (ia + ib)
        system = Schur(p, (ia + ib) / det, (ia - ib) / det, (ia + ib + 4 * bend * ia * ib) / det, soft[rows])

        def direction(target_l: Array, target_u: Array) -> tuple[Array, Array]:
            r = -(gradient - target_l / gl + target_u / gu)
            base = _apply(ia, ib, bend, det, r[up], r[down])
            right = -gap_rows - p.sums(base[0] - base[1], base[0] + base[1]) + soft[rows] * r[rows]
            dy = system.solve(right)
            cell, move = p.spread(dy)
            du, dd = _apply(ia, ib, bend, det, r[up] + cell + move, r[down] - cell + move)
            return np.concatenate([du, dd, soft[rows] * (r[rows] - dy)]), dy

        bounds = max(int(self.has_lo.sum() + self.has_hi.sum()), 1)
        mu = float((self.zl * gl * self.has_lo).sum() + (self.zu * gu * self.has_hi).sum()) / bounds
        self.mu = mu
        dz, dy = direction(np.zeros_like(gl), np.zeros_like(gu))
        dl = np.where(self.has_lo, -self.zl - self.zl / gl * dz, 0.0)
        dh = np.where(self.has_hi, -self.zu + self.zu / gu * dz, 0.0)
        a = self._length(dz, gl, gu, 1.0)
        b = min(_ratio(self.zl, dl), _ratio(self.zu, dh), 1.0)
        after = float(((self.zl + b * dl) * (gl + a * dz) * self.has_lo).sum()
                      + ((self.zu + b * dh) * (gu - a * dz) * self.has_hi).sum()) / bounds  # fmt: skip
        sigma = min(max(after / max(mu, 1e-300), 0.0), 1.0) ** 3
        aim_l = np.where(self.has_lo, sigma * mu - dl * dz, 0.0)
        aim_u = np.where(self.has_hi, sigma * mu + dh * dz, 0.0)
        dz, dy = direction(aim_l, aim_u)
        if not (np.isfinite(dz).all() and np.isfinite(dy).all()):
            return False
        dl = np.where(self.has_lo, aim_l / gl - self.zl - self.zl / gl * dz, 0.0)
        dh = np.where(self.has_hi, aim_u / gu - self.zu + self.zu / gu * dz, 0.0)
        a = self._length(dz, gl, gu, 0.995)
        b = min(0.995 * min(_ratio(self.zl, dl), _ratio(self.zu, dh)), 1.0)
        self.z, self.y = self.z + a * dz, self.y + b * dy
        self.zl, self.zu = self.zl + b * dl, self.zu + b * dh
        return max(a, b) > 1e-10

    def _length(self, dz: Array, gl: Array, gu: Array, share: float) -> float:
        low = _ratio(np.where(self.has_lo, gl, 1.0), np.where(self.has_lo, dz, 0.0))
        high = _ratio(np.where(self.has_hi, gu, 1.0), np.where(self.has_hi, -dz, 0.0))
        return min(share * min(low, high), 1.0)


def _ratio(level: Array, change: Array) -> float:
    """Largest step at which ``level + step * change`` stays at or above 0."""
    falling = change < 0
    return float((level[falling] / -change[falling]).min()) if falling.any() else np.inf


def _apply(ia: Array, ib: Array, bend: Array, det: Array, r_up: Array, r_down: Array) -> tuple[Array, Array]:
    """The inverse of [[1/ia + q, -q], [-q, 1/ib + q]], cell by cell, q: ``bend``."""
    both = bend * ia * ib * (r_up + r_down)
    return (ia * r_up + both) / det, (ib * r_down + both) / det


class Schur:
    """Rows of the Newton system once the cells are eliminated; markets are eliminated next, what is left is dense."""

    def __init__(self, p: Problem, xx: Array, xt: Array, tt: Array, soft: Array):
        self.p = p
        if p.few is not None:
            self._whole(p.few, xx, xt, tt, soft)
            return
        families = [(f, g) for f, g in p.families() if f != "market"]
        n = len(xx)
        codes = [np.zeros(n, np.int64)]
        self.others: list[tuple[str, int, int]] = [("total", 0, 1)]
        count = 1
        for family, group in families:
            codes.append(group.code + count)
            self.others.append((family, p.offset[family], len(group)))
            count += len(group)
        cells = np.arange(n)
        member = sparse.csr_matrix(
            (np.ones(n * len(codes)), (np.concatenate(codes), np.tile(cells, len(codes)))), shape=(count, n)
        )
        dense = (member @ member.multiply(xx).T.tocsc()).toarray()
        size = count + p.capped
        self.small = np.zeros((size, size))
        self.small[:count, :count] = dense
        if p.capped:
            self.small[count, :count] = self.small[:count, count] = member @ xt
            self.small[count, count] = tt.sum()
        index = np.concatenate([np.arange(first, first + k) for _, first, k in self.others])
        if p.capped:
            index = np.append(index, len(soft) - 1)
        self.index = index
        self.small[np.diag_indices(size)] += soft[index]
        self.market = p.groups.get("market")
        if self.market is not None:
            m, k = self.market.code, len(self.market)
            first = p.offset["market"]
            self.rows = slice(first, first + k)
            self.own = np.bincount(m, xx, k) + soft[self.rows]
            self.own += 1e-14 * max(float(self.own.max(initial=0.0)), 1e-300)
            side = sparse.csr_matrix(
                (np.tile(xx, len(codes)), (np.tile(m, len(codes)), np.concatenate(codes))), (k, size)
            )
            if p.capped:
                moves = np.bincount(m, xt, k)
                side = side + sparse.csr_matrix((moves, (np.arange(k), np.full(k, size - 1))), (k, size))
            self.side = side.tocsr()
            self.small -= (self.side.T @ self.side.multiply(1 / self.own[:, None]).tocsr()).toarray()
        self._decompose()

    def _whole(self, rows: Array, xx: Array, xt: Array, tt: Array, soft: Array) -> None:
        """Small problems: all rows at once."""
        size = len(soft)
        self.small = np.zeros((size, size))
        count = len(rows)
        self.small[:count, :count] = (rows * xx) @ rows.T
        if self.p.capped:
            self.small[count, :count] = self.small[:count, count] = rows @ xt
            self.small[count, count] = tt.sum()
        self.small[np.diag_indices(size)] += soft
        self.index, self.market = np.arange(size), None
        self._decompose()

    def _decompose(self) -> None:
        scale = 1 / np.sqrt(np.maximum(np.diag(self.small), 1e-300))
        self.scale = scale
        scaled = self.small * np.outer(scale, scale)
        self.values, self.vectors = np.linalg.eigh((scaled + scaled.T) / 2)

    def _dense(self, right: Array) -> Array:
        # rows may repeat one another (channels that add up to the total): the least-norm prices
        keep = self.values > 1e-13 * max(float(self.values.max(initial=0.0)), 1e-300)
        inner = self.vectors.T @ (right * self.scale)
        return self.scale * (self.vectors[:, keep] @ (inner[keep] / self.values[keep]))

    def solve(self, right: Array) -> Array:
        out = np.zeros_like(right)
        small = right[self.index]
        if self.market is None:
            out[self.index] = self._dense(small)
            return out
        mine = right[self.rows]
        y = self._dense(small - self.side.T @ (mine / self.own))
        out[self.index] = y
        out[self.rows] = (mine - self.side @ y) / self.own
        return out
