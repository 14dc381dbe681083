"""One procedure for p-value and interval: the rank of the drawn assignment among all that might have been drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.proof.estimators.simplex import Array

_TIE = 1e-12


@dataclass(frozen=True)
class RankTest:
    """Statistics that are linear in the effect taken out: ``offset - slope * effect`` for every assignment.

    Under the sharp null of an effect, taking it out of what was treated leaves an outcome that does not depend on who
    was drawn, so the drawn assignment's statistic is one of equals (Fisher 1935; Rosenbaum 2002, section 2.4).

    Attributes
    ----------
    offset, slope : float
        Of the assignment that was drawn.
    offsets, slopes : arrays of shape (assignments,)
        Of the others.
    """

    offset: float
    slope: float
    offsets: Array
    slopes: Array

    @property
    def estimate(self) -> float:
        """Effect at which the drawn assignment's statistic is 0."""
        return self.offset / self.slope if self.slope else np.nan

    @property
    def smallest(self) -> float:
        """Smallest p-value that can come out."""
        return 1 / (len(self.offsets) + 1)

    def p_value(self, effect: float = 0.0) -> float:
        """Two-sided, of a true ``effect``."""
        mine = abs(self.offset - self.slope * effect)
        reached = np.abs(self.offsets - self.slopes * effect) >= mine - _TIE
        return float((reached.sum() + 1) / (len(self.offsets) + 1))

    def interval(self, alpha: float = 0.10) -> tuple[float, float]:
        """Smallest interval that holds every effect with a p-value above ``alpha``; ends may be infinite."""
        if not self.slope:
            return -np.inf, np.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts = np.concatenate([
                (self.offsets - self.offset) / (self.slopes - self.slope),
                (self.offsets + self.offset) / (self.slopes + self.slope),
                [self.estimate],
            ])  # fmt: skip
        cuts = np.unique(cuts[np.isfinite(cuts)])
        edges = np.r_[cuts[0] - 1 - abs(cuts[0]), cuts, cuts[-1] + 1 + abs(cuts[-1])]
        middle = (edges[1:] + edges[:-1]) / 2
        reached = np.zeros(len(middle))
        for part in np.array_split(np.arange(len(middle)), max(len(middle) // 500, 1)):
            h = middle[part, None]
            mine = np.abs(self.offset - self.slope * h)
            reached[part] = (np.abs(self.offsets - self.slopes * h) >= mine - _TIE).sum(axis=1)
        held = np.flatnonzero((reached + 1) / (len(self.offsets) + 1) > alpha)
        if not len(held):  # the estimate itself is held, if by a point
            return self.estimate, self.estimate
        low = -np.inf if held[0] == 0 else float(edges[held[0]])
        high = np.inf if held[-1] == len(middle) - 1 else float(edges[held[-1] + 1])
        return min(low, self.estimate), max(high, self.estimate)
