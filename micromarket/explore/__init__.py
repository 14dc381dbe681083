"""What people try out and look up in notebooks: what if, and everything about one market. Reads a finished run."""

from __future__ import annotations

from micromarket.explore.market import Markets, Profile, profile_of
from micromarket.explore.panels import compare, market_panel, scenario_panel
from micromarket.explore.saving import save_scenario
from micromarket.explore.scenarios import Explorer, Outcome, Scenario, explorer_of

__all__ = [
    "Explorer",
    "Markets",
    "Outcome",
    "Profile",
    "Scenario",
    "compare",
    "explorer_of",
    "market_panel",
    "profile_of",
    "save_scenario",
    "scenario_panel",
]
