"""Synthetic companies in the input format of the contract, with their truth beside them.

>>> import tempfile
>>> directory = simulate(tempfile.mkdtemp(), markets=25, customers=1500, weeks=60, seed=3)
>>> truth = Truth.read(directory)
>>> truth.value_of(truth.best_budget()) > truth.value_of(truth.current)
True
"""

from __future__ import annotations

from micromarket.simulate.build import build_world, simulate
from micromarket.simulate.scenario import PRESETS, Scenario, scenario_of
from micromarket.simulate.truth import Truth, true_value

__all__ = ["PRESETS", "Scenario", "Truth", "build_world", "scenario_of", "simulate", "true_value"]
