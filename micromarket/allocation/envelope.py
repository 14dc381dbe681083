"""Concave curves around S-shaped ones and around minimum tickets: from above (a bound), from below (a step that gains).

A cell's money lies in an interval, with a hole below the ticket if one is asked for: {0} or at least the ticket. The
smallest concave curve above its own is a chord from the lower end to the point where it touches, and the curve itself
from there on (Falk & Hoffman 1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.curves import Curves

Array = NDArray[np.float64]
Index = NDArray[np.int64]
PULL = 1e-3  # curvature of the pull on straight parts
KINK = 1e-4  # share of the ticket over which a step uses a rounded corner


@dataclass(frozen=True)
class Envelope:
    """``base``: value at the lower end ``low``; ``slope`` of the chord up to ``touch``; the curve itself beyond."""

    curves: Curves
    low: Array
    touch: Array
    base: Array
    slope: Array

    @classmethod
    def over(cls, curves: Curves, low: Array, high: Array, hole: Array) -> Envelope:
        """The smallest concave curves over ``[low, high]``; where ``hole`` is above 0, over {0} and [hole, high]."""
        turn = curves.inflection
        base = curves.value(low)
        first = np.minimum(np.maximum(np.maximum(turn, hole), low), high)
        chord = (first > low) & (high > low)
        touch, slope = low.copy(), np.full(len(low), np.inf)
        index = np.flatnonzero(chord)
        if len(index):
            own, a, b, left, right = curves.take(index), low[index], base[index], first[index], high[index].copy()

            def short(t: Array) -> Array:  # below 0 where the chord to t lies under the curve beyond t
                return own.value(t) - b - own.marginal(t) * (t - a)

            done = short(left) >= 0
            right = np.where(done, left, right)
            left = np.where(short(right) <= 0, right, left)
            for _ in range(60):
                middle = (left + right) / 2
                over = short(middle) >= 0
                left, right = np.where(over, left, middle), np.where(over, middle, right)
            touch[index] = right
            slope[index] = (own.value(right) - b) / np.maximum(right - a, 1e-300)
        return cls(curves, low, touch, base, slope)

    def __len__(self) -> int:
        return len(self.low)

    def _part(self, x: Array) -> NDArray[np.bool_]:
        return x < self.touch

    def value(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            chord = self.base + self.slope * np.maximum(x - self.low, 0.0)
        return np.where(self._part(x), chord, self.curves.value(x))

    def _corner(self, x: Array) -> tuple[NDArray[np.bool_], Array, Array]:
        """Where a step has to round a corner: cells, its width, the marginal value at its end."""
        width = KINK * np.maximum(self.touch, 1e-9)
        after = self.curves.marginal(self.touch + width)
        sharp = np.isfinite(self.slope) & (self.curves.marginal(self.touch) < self.slope * (1 - 1e-7))
        return sharp & (x >= self.touch) & (x < self.touch + width), width, after

    def marginal(self, x: Array) -> Array:
        corner, width, after = self._corner(x)
        with np.errstate(invalid="ignore"):
            bent = self.slope + (after - self.slope) * (x - self.touch) / width
        return np.where(self._part(x), self.slope, np.where(corner, bent, self.curves.marginal(x)))

    def bend(self, x: Array) -> Array:
        corner, width, after = self._corner(x)
        inner = np.where(corner, (self.slope - after) / width, self.curves.bend(x))
        return np.where(self._part(x), 0.0, np.maximum(inner, 0.0))

    def demand(self, price: Array) -> Array:
        return np.where(price > self.slope, self.low, np.maximum(self.curves.demand(price), self.touch))

    def line(self) -> tuple[Array, Array]:
        """Where the straight part ends, and its slope."""
        return self.touch, self.slope

    @property
    def inflection(self) -> Array:
        return np.zeros(len(self))

    @property
    def reach(self) -> Array:
        return self.curves.reach

    def take(self, index: Index) -> Envelope:
        return Envelope(
            self.curves.take(index), self.low[index], self.touch[index], self.base[index], self.slope[index]
        )

    def scaled(self, unit: float, worth: float) -> Envelope:
        return Envelope(
            self.curves.scaled(unit, worth), self.low / unit, self.touch / unit, self.base / worth,
            self.slope * (unit / worth),
        )  # fmt: skip


@dataclass(frozen=True)
class Minorant:
    """Concave curves below S-shaped ones that touch them at ``at``: what gains on them gains on the curves.

    Up to ``join`` a straight line, then the curve, lowered by ``drop`` to meet it. Left of the inflection the line is
    the tangent at ``at``, which the curve meets again in slope at ``join``; right of it, the tangent at the inflection.
    """

    curves: Curves
    join: Array
    slope: Array
    drop: Array

    @classmethod
    def touching(cls, curves: Curves, at: Array) -> Minorant:
        turn = curves.inflection
        bent = turn > 0
        left = bent & (at < turn)
        slope = np.where(left, curves.marginal(at), curves.marginal(np.where(bent, turn, 1.0)))
        join = np.where(bent, np.where(left, np.maximum(curves.demand(np.maximum(slope, 1e-300)), turn), turn), -1.0)
        join = np.where(left & ~(slope > 1e-250), np.inf, join)
        far = np.where(np.isfinite(join), np.maximum(join, 0.0), at)
        line = curves.value(at) + slope * (far - at)
        return cls(curves, join, slope, np.where(left, curves.value(far) - line, 0.0))

    def __len__(self) -> int:
        return len(self.join)

    def value(self, x: Array) -> Array:
        far = np.where(np.isfinite(self.join), np.maximum(self.join, 0.0), 0.0)
        line = self.curves.value(far) - self.drop + self.slope * (x - far)
        return np.where(x < self.join, line, self.curves.value(x) - self.drop)

    def marginal(self, x: Array) -> Array:
        return np.where(x < self.join, self.slope, self.curves.marginal(x))

    def bend(self, x: Array) -> Array:
        return np.where(x < self.join, 0.0, np.maximum(self.curves.bend(x), 0.0))

    def demand(self, price: Array) -> Array:
        curved = self.join > 0
        return np.where(curved & (price > self.slope), 0.0, np.maximum(self.curves.demand(price), self.join))

    def line(self) -> tuple[Array, Array]:
        """Where the straight part ends, and its slope."""
        return self.join, self.slope

    @property
    def inflection(self) -> Array:
        return np.zeros(len(self))

    @property
    def reach(self) -> Array:
        return self.curves.reach

    def take(self, index: Index) -> Minorant:
        return Minorant(self.curves.take(index), self.join[index], self.slope[index], self.drop[index])

    def scaled(self, unit: float, worth: float) -> Minorant:
        return Minorant(
            self.curves.scaled(unit, worth), self.join / unit, self.slope * (unit / worth), self.drop / worth
        )


@dataclass(frozen=True)
class Pulled:
    """``curves`` less a weak pull of their straight parts towards ``middle``: strictly concave.

    ``cells`` have a straight part up to ``end``, with ``slope``; off it go ``PULL / 2 (x - middle)^2`` there and the
    pull's tangent at ``end`` beyond, ``middle`` being at most ``end``.
    """

    curves: Curves
    cells: Index
    end: Array
    slope: Array
    middle: Array

    def __len__(self) -> int:
        return len(self.curves)

    def _force(self, x: Array) -> Array:
        return PULL * (np.minimum(x[self.cells], self.end) - self.middle)

    def value(self, x: Array) -> Array:
        out, force = self.curves.value(x), self._force(x)
        beyond = np.maximum(x[self.cells] - self.end, 0.0)
        out[self.cells] -= force**2 / (2 * PULL) + force * beyond
        return out

    def marginal(self, x: Array) -> Array:
        out = self.curves.marginal(x)
        out[self.cells] -= self._force(x)
        return out

    def bend(self, x: Array) -> Array:
        out, own = self.curves.bend(x), x[self.cells]
        out[self.cells] = np.where(own < self.end, PULL, np.where(own == self.end, np.inf, out[self.cells]))
        return out

    def demand(self, price: Array) -> Array:
        raised = price.copy()
        own = price[self.cells]
        with np.errstate(invalid="ignore"):
            full = np.where(np.isfinite(self.end), PULL * (self.end - self.middle), np.inf)
        raised[self.cells] = np.where(np.isfinite(full), own + full, 1.0)
        out = self.curves.demand(raised)
        straight = self.middle + (self.slope - own) / PULL
        out[self.cells] = np.where(straight < self.end, straight, np.maximum(out[self.cells], self.end))
        return out

    @property
    def inflection(self) -> Array:
        return np.zeros(len(self))

    @property
    def reach(self) -> Array:
        return self.curves.reach

    def take(self, index: Index) -> Pulled:
        place = np.full(len(self), -1, np.int64)
        place[self.cells] = np.arange(len(self.cells))
        here = place[index]
        kept = here[here >= 0]
        return Pulled(
            self.curves.take(index), np.flatnonzero(here >= 0), self.end[kept], self.slope[kept], self.middle[kept]
        )

    def scaled(self, unit: float, worth: float) -> Pulled:
        raise NotImplementedError("only curves that are in a problem's numbers are pulled")
