"""Curves, values and limits → the best legal budget, its certificate and what it promises."""

from __future__ import annotations

from micromarket.allocation.budget import BudgetResult, plan_budget
from micromarket.allocation.solver import Allocation, Group, allocate

__all__ = ["Allocation", "BudgetResult", "Group", "allocate", "plan_budget"]
