"""What is odd in a company's tables though it breaks no rule: said in words, with file and column, in every plan."""

from __future__ import annotations

from micromarket.plausibility.between import odd_between_tables
from micromarket.plausibility.markets import odd_markets
from micromarket.plausibility.one_table import odd_columns, odd_in_table
from micromarket.plausibility.views import View

__all__ = ["View", "odd_between_tables", "odd_columns", "odd_in_table", "odd_markets"]
