"""Targets and own rates → what marketing owes sales, and sales the company."""

from __future__ import annotations

from micromarket.funnel.solve import FunnelResult, back_solve

__all__ = ["FunnelResult", "back_solve"]
