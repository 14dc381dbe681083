"""Prices of limits and what cells do at them: the dual of an allocation problem and Newton's steps on it.

Given the prices of the total, channels, regions and moves, a market's own price is the root of a function of one
variable; all markets' roots are found side by side. The few prices follow by a projected semismooth Newton method
(Bertsekas 1982; Qi & Sun 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from micromarket.allocation.curves import Curves
from micromarket.allocation.problem import Allocation, Problem, tally

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class _Point:
    """Prices by row with what cells do there.

    ``d``: fall of a cell's money per unit of price; ``side``: +1 where more than the reference, -1 where less;
    ``miss``: by few row, money beyond the limit that its price stands for; ``bound``: the dual, to be made small.
    """

    price: Array
    x: Array
    d: Array
    side: Array
    miss: Array
    bound: float


class Dual:
    def __init__(self, problem: Problem):
        p = self.p = problem
        self.market = p.groups.get("market")
        rows = np.arange(len(p.row_low))
        if self.market is None:
            self.few = rows
        else:
            first = p.offset["market"]
            self.own = slice(first, first + len(self.market))
            self.few = np.concatenate([rows[:first], rows[self.own.stop :]])
        self.low, self.high = p.row_low[self.few], p.row_high[self.few]
        self.channel, self.region = p.groups.get("channel"), p.groups.get("region")
        # region of each market, where every market lies in one: its part of the Newton system is then a sum
        self.home: Index | None = None
        if self.market is not None and self.region is not None:
            home = np.zeros(len(self.market), np.int64)
            home[self.market.code] = self.region.code
            self.home = home if (home[self.market.code] == self.region.code).all() else None

    # --- cells at prices
    def respond(self, curves: Curves, price: Array, move: float, low: Array, high: Array, ref: Array):  # type: ignore[no-untyped-def]
        if self.p.capped:
            more = curves.demand(price + move)
            less = curves.demand(price - move) if move else more
            side = (more > ref) * 1.0 - (less < ref) * 1.0
            x = np.where(side > 0, more, np.where(side < 0, less, ref))
        else:
            x, side = curves.demand(price), np.zeros(0)
        inside = (x > low) & (x < high)
        if self.p.capped:
            inside &= side != 0
        x = np.minimum(np.maximum(x, low), high)
        if self.p.capped and len(side):
            side = np.sign(x - ref) if not move else side
        return x, np.where(inside, 1 / curves.bend(x), 0.0), side

    def at(self, price: Array, loose: float) -> _Point | None:
        """Cells at ``price``, with markets' prices put right (to ``loose`` money)."""
        p = self.p
        price = price.copy()
        base = price.copy()
        if self.market is not None:
            base[self.own] = 0.0
        by_cell, move = p.spread(base)
        by_cell += p.charge
        move = max(move, 0.0)
        if self.market is None:
            x, d, side = self.respond(p.curves, by_cell, move, p.low, p.high, p.ref)
        else:
            own = price[self.own]
            code = self.market.code
            x, d, side = self.respond(p.curves, by_cell + own[code], move, p.low, p.high, p.ref)
            x, d, side, own, fine = self._markets(by_cell, move, own, x, d, side, loose)
            if not fine:
                return None
            price[self.own] = own
        sums = p.sums(x, np.abs(x - p.ref) if p.capped else x)[self.few]
        v = price[self.few]
        target = np.where(v > 0, self.high, np.where(v < 0, self.low, np.clip(sums, self.low, self.high)))
        bound = float((p.curves.value(x) - by_cell * x).sum()) - move * (
            float(np.abs(x - p.ref).sum()) if move else 0.0
        )
        bound += float(v @ np.where(v == 0, 0.0, target))
        if self.market is not None:
            least, most = p.row_low[self.own], p.row_high[self.own]
            limit = np.where(own > 0, most, np.where(own < 0, least, 0.0))
            bound += float(own @ (limit - tally(code, x, len(limit))))
        return _Point(price, x, d, side, sums - target, bound)

    def _markets(self, by_cell, move, own, x, d, side, loose):  # type: ignore[no-untyped-def]
        """Each market's price at which its limits hold: Newton's method within brackets, all markets side by side."""
        p, group = self.p, self.market
        assert group is not None
        size, code = len(group), group.code
        least, most = p.row_low[self.own], p.row_high[self.own]
        floor, ceiling = np.full(size, -np.inf), np.full(size, np.inf)
        own = own.copy()
        sums, slope = tally(code, x, size), tally(code, d, size)
        todo, height = np.ones(size, bool), float(np.abs(by_cell).max())
        cells: Index | None = None  # those of the markets that are left
        for step in range(100):
            target = np.where(own > 0, most, np.where(own < 0, least, np.clip(sums, least, most)))
            miss = sums - target
            # prices have 16 digits: on nearly straight curves money is not known better than this
            enough = loose * (1 + np.abs(target)) + 1e-15 * slope * (1 + np.abs(own) + height)
            todo &= np.abs(miss) > enough
            if not todo.any():
                return x, d, side, own, True
            floor = np.where(todo & (miss > 0), own, floor)
            ceiling = np.where(todo & (miss < 0), own, ceiling)
            after = own + miss / slope
            wild = ~np.isfinite(after) | (np.abs(after - own) > 4 * (1 + np.abs(own)))
            after = np.where(wild, own + np.sign(miss) * 4 * (1 + np.abs(own)) * 2.0 ** min(step, 40), after)
            outside = (after <= floor) | (after >= ceiling)
            if step > 30:  # halve the bracket when Newton's steps only creep
                outside |= np.isfinite(floor) & np.isfinite(ceiling)
            middle = (np.where(np.isfinite(floor), floor, own) + np.where(np.isfinite(ceiling), ceiling, own)) / 2
            after = np.where(outside, middle, after)
            after = np.where(own * after < 0, 0.0, after)  # look at 0 before going on beyond it
            stuck = todo & (after == own)
            if stuck.any():
                if (np.abs(miss[stuck]) > 1e3 * enough[stuck]).any():
                    return x, d, side, own, False
                todo &= ~stuck
            own = np.where(todo, after, own)
            mask = todo[code] if cells is None else todo[code[cells]]
            cells = np.flatnonzero(mask) if cells is None else cells[mask]
            c = code[cells]
            whole = len(cells) > 0.7 * len(code)
            if whole:
                x, d, side = self.respond(p.curves, by_cell + own[code], move, p.low, p.high, p.ref)
                sums, slope = tally(code, x, size), tally(code, d, size)
            else:
                new = self.respond(
                    p.curves.take(cells), by_cell[cells] + own[c], move, p.low[cells], p.high[cells], p.ref[cells]
                )
                x[cells], d[cells] = new[0], new[1]
                if p.capped:
                    side[cells] = new[2]
                sums = np.where(todo, tally(c, new[0], size), sums)
                slope = np.where(todo, tally(c, new[1], size), slope)
        return x, d, side, own, False

    # --- Newton's system in the few rows
    def system(self, point: _Point) -> Array:
        p, d = self.p, point.d
        k = len(self.few)
        signed = d * point.side if p.capped else d
        place: list[tuple[slice, Index | None, int]] = [(slice(0, 1), None, 1)]
        at = 1
        for group in (self.channel, self.region):
            if group is not None:
                place.append((slice(at, at + len(group)), group.code, len(group)))
                at += len(group)
        out = np.zeros((k, k))

        def summed(code: Index | None, weight: Array, size: int) -> Array:
            return np.array([weight.sum()]) if code is None else tally(code, weight, size)

        for i, (rows, code, size) in enumerate(place):
            mine = summed(code, d, size)
            out[rows, rows] += np.diag(mine)
            if i > 0:
                out[0, rows] = out[rows, 0] = mine
            if p.capped:
                out[-1, rows] = out[rows, -1] = summed(code, signed, size)
        if self.channel is not None and self.region is not None:
            c, r = place[1], place[2]
            cross = tally(self.channel.code * r[2] + self.region.code, d, c[2] * r[2]).reshape(c[2], r[2])
            out[c[0], r[0]], out[r[0], c[0]] = cross, cross.T
        if p.capped:
            out[-1, -1] = float((d * (point.side != 0)).sum())
        if self.market is None:
            return out
        # markets at a limit of theirs take part only in how their money is divided
        m, size = self.market.code, len(self.market)
        own = tally(m, d, size)
        held = (point.price[self.own] != 0) & (own > 0)
        inverse = np.where(held, 1 / np.where(held, own, 1.0), 0.0)
        dense: list[tuple[slice, Array]] = [(slice(0, 1), own[:, None])]
        if self.channel is not None:
            size_c = len(self.channel)
            by = tally(m * size_c + self.channel.code, d, size * size_c).reshape(size, size_c)
            dense.append((place[1][0], by))
        if p.capped:
            dense.append((slice(k - 1, k), tally(m, signed, size)[:, None]))
        for i, (rows, left) in enumerate(dense):
            weighted = left * inverse[:, None]
            for cols, right in dense[i:]:
                part = weighted.T @ right
                out[rows, cols] -= part
                if rows != cols:
                    out[cols, rows] -= part.T
            if self.region is not None:
                place_r = place[-1][0]
                if self.home is not None:  # a region's column is the market's own sum
                    part = np.stack([
                        tally(self.home, column * held, len(self.region)) for column in left.T
                    ])  # fmt: skip
                else:
                    side = sparse.csr_matrix((d, (m, self.region.code)), (size, len(self.region)))
                    part = np.asarray((side.T @ weighted).T)
                out[rows, place_r] -= part
                out[place_r, rows] -= part.T
        if self.region is not None:
            rows = place[-1][0]
            if self.home is not None:
                out[rows, rows] -= np.diag(tally(self.home, own * held, len(self.region)))
            else:
                side = sparse.csr_matrix((d, (m, self.region.code)), (size, len(self.region)))
                out[rows, rows] -= (side.T @ side.multiply(inverse[:, None])).toarray()
        return out

    def descend(self, start: Array | None, tolerance: float, steps: int) -> tuple[_Point, int]:
        p = self.p
        price = np.zeros(len(p.row_low))
        if (
            start is not None
        ):  # prices of another method: what is next to nothing is nothing, what exploded says nothing
            ranged = p.row_low < p.row_high
            sound = np.isfinite(start) & (np.abs(start) < 1e4) & (~ranged | (np.abs(start) > 1e-8))
            price = np.where(sound, start, 0.0)
        if start is None:
            with np.errstate(all="ignore"):
                slope = p.curves.marginal(np.maximum((p.low + np.minimum(p.high, 10.0)) / 2, 1e-9))
            price[0] = max(float(np.median(slope[np.isfinite(slope)])) - p.charge, 0.0)
        if p.capped:
            price[-1] = max(price[-1], 0.0)
        price[0] = price[0] if np.isfinite(p.row_low[0]) else max(price[0], 0.0)
        wanted = tolerance * max(p.total, 1.0)
        fine = max(min(1e-13, tolerance), 1e-15)
        point = self.at(price, fine)
        iteration = 0
        while point is not None and iteration < steps:
            iteration += 1
            if float(np.abs(point.miss).max()) <= wanted:
                break
            found = self._step(point, fine)
            if found is None:
                break
            point = found
        if point is None:
            raise ArithmeticError
        return point, iteration

    def _direction(self, point: _Point) -> Array:
        """Newton's step; rows at price 0 take part where their sums miss, as long as the step goes their way."""
        v, miss = point.price[self.few], point.miss
        whole = self.system(point)
        free = (v != 0) | (miss != 0)
        while True:
            rows = np.flatnonzero(free)
            system = whole[np.ix_(rows, rows)]
            scale = 1 / np.sqrt(np.maximum(np.diag(system), 1e-12))
            values, vectors = np.linalg.eigh(system * np.outer(scale, scale))
            step = np.zeros(len(v))
            bounded = np.maximum(values, 1e-11 * max(float(values.max()), 1.0))
            step[rows] = scale * (vectors @ ((vectors.T @ (miss[rows] * scale)) / bounded))
            wrong = free & (v == 0) & (step * miss < 0) & (self.low < self.high)
            if not wrong.any():
                break
            free &= ~wrong
        return step * min(1.0, 4 * (1 + float(np.abs(v).max())) / max(float(np.abs(step).max()), 1e-300))

    def _step(self, point: _Point, fine: float) -> _Point | None:
        miss, v = point.miss, point.price[self.few]
        step, length = self._direction(point), 1.0
        ranged, noise = self.low < self.high, 1e-14 * (1 + abs(point.bound))
        for _ in range(20):
            after = v + length * step
            tiny = np.abs(after) < 1e-9 * (1 + float(np.abs(after).max()))
            after = np.where(ranged & ((v * after < 0) | tiny), 0.0, after)
            after = np.where(~np.isfinite(self.low), np.maximum(after, 0.0), after)
            if not (after != v).any():
                return None
            price = point.price.copy()
            price[self.few] = after
            found = self.at(price, fine)
            shrink = 0.25
            if found is not None:
                fall, expected = point.bound - found.bound, float(miss @ (after - v))
                if fall > 1e-4 * abs(expected) and fall > noise:
                    return found
                if fall >= -noise and np.abs(found.miss).max() < np.abs(miss).max():
                    return found
                late = float(found.miss @ (after - v))  # secant on the dual's slope along the step
                shrink = min(max(expected / (expected - late), 0.1), 0.6) if late < 0 < expected else 0.4
            length *= shrink
        return None

    def minimise(self, start: Array | None, tolerance: float, steps: int) -> Allocation | None:
        try:
            point, iterations = self.descend(start, tolerance, steps)
        except (ArithmeticError, np.linalg.LinAlgError):
            return None
        return self.p.answer(point.x, point.price, iterations)
