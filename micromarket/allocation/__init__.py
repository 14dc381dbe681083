"""Curves, values and limits → the best legal budget, its certificate and what it promises."""

from __future__ import annotations

from micromarket.allocation.budget import BudgetResult, plan_budget
from micromarket.allocation.frontier import Frontier, frontier
from micromarket.allocation.risk import Cautious, cautious
from micromarket.allocation.solver import Allocation, Certificate, Group, allocate, optimise

__all__ = [
    "Allocation",
    "BudgetResult",
    "Cautious",
    "Certificate",
    "Frontier",
    "Group",
    "allocate",
    "cautious",
    "frontier",
    "optimise",
    "plan_budget",
]
