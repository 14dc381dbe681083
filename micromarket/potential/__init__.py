"""Markets to potential: how many customers each could hold, how many are still to win."""

from __future__ import annotations

from micromarket.potential.frontier import CountFrontier
from micromarket.potential.means import BoostedMean, SplineMean
from micromarket.potential.result import PotentialResult, estimate_potential

__all__ = ["BoostedMean", "CountFrontier", "PotentialResult", "SplineMean", "estimate_potential"]
