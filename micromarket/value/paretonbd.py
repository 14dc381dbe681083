"""Pareto/NBD: customers buy at a steady rate and leave at any time, unseen (no contract).

Schmittlein, Morrison & Colombo 1987, Management Science 33; Fader & Hardie 2005, note 009.
"""

from __future__ import annotations

from micromarket.value.pareto_terms import p_alive, residual_paths, time_terms

__all__ = ["p_alive", "residual_paths", "time_terms"]
