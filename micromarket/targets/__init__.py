"""History, headroom and budget → targets that every market and segment reaches with the same odds."""

from __future__ import annotations

from micromarket.targets.equal_odds import TargetsResult, set_targets

__all__ = ["TargetsResult", "set_targets"]
