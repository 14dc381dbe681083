"""Everything the stages found → the frozen :class:`Plan`, the only input of the reports."""

from __future__ import annotations

from micromarket.plan.assembly import Plan, assemble, suppress_small_cells

__all__ = ["Plan", "assemble", "suppress_small_cells"]
