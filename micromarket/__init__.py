"""Micromarket opportunity planner: one plan that sales and marketing both sign.

The library is as usable without the command line: each stage is one function (see ARCHITECTURE.md).

>>> from micromarket import estimate_value, open_dataset, read_settings
>>> from micromarket.summarise import summarise
>>> settings = read_settings("plan.yml")              # doctest: +SKIP
>>> with open_dataset(settings) as dataset:           # doctest: +SKIP
...     data = summarise(dataset)
...     value = estimate_value(dataset, data, settings)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from micromarket._public import HOMES

if TYPE_CHECKING:  # for type checkers and editors; at run time a name is imported when first used
    from micromarket.allocation import Allocation, BudgetResult, Certificate, allocate, plan_budget
    from micromarket.config import Settings, WriteBack, read_settings
    from micromarket.errors import (
        InfeasibleError,
        InputError,
        MicromarketError,
        MicromarketWarning,
        Problem,
        StageError,
    )
    from micromarket.explore import (
        Explorer,
        Outcome,
        Profile,
        Scenario,
        compare,
        explorer_of,
        profile_of,
        save_scenario,
    )
    from micromarket.exports import crm_table, quota_table, write_table
    from micromarket.field import export_sheets, import_answers
    from micromarket.funnel import FunnelResult, back_solve
    from micromarket.leads import write_leads
    from micromarket.load import Dataset, check, open_dataset
    from micromarket.market_data import MarketData
    from micromarket.notes import Notes
    from micromarket.plan import Plan, assemble
    from micromarket.potential import PotentialResult, estimate_potential
    from micromarket.proof import TestDesign, design_holdout
    from micromarket.readout import Readout
    from micromarket.report import write_reports
    from micromarket.response import ResponseResult, estimate_response
    from micromarket.runner import run
    from micromarket.simulate import Truth
    from micromarket.targets import TargetsResult, set_targets
    from micromarket.value import ValueResult, estimate_value
    from micromarket.value.customer_values import write_customer_values
    from micromarket.workspace import Workspace

try:
    __version__ = version("micromarket")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0"

# functions that share their module's name (summarise, simulate, readout, write_back) are imported from there
__all__ = [
    "Allocation",
    "BudgetResult",
    "Certificate",
    "Dataset",
    "Explorer",
    "FunnelResult",
    "InfeasibleError",
    "InputError",
    "MarketData",
    "MicromarketError",
    "MicromarketWarning",
    "Notes",
    "Outcome",
    "Plan",
    "PotentialResult",
    "Problem",
    "Profile",
    "Readout",
    "ResponseResult",
    "Scenario",
    "Settings",
    "StageError",
    "TargetsResult",
    "TestDesign",
    "Truth",
    "ValueResult",
    "Workspace",
    "WriteBack",
    "__version__",
    "allocate",
    "assemble",
    "back_solve",
    "check",
    "compare",
    "crm_table",
    "design_holdout",
    "estimate_potential",
    "estimate_response",
    "estimate_value",
    "explorer_of",
    "export_sheets",
    "import_answers",
    "open_dataset",
    "plan_budget",
    "profile_of",
    "quota_table",
    "read_settings",
    "run",
    "save_scenario",
    "set_targets",
    "write_customer_values",
    "write_leads",
    "write_reports",
    "write_table",
]


def __getattr__(name: str) -> Any:
    # `micromarket --help` needn't wait for geopandas and scikit-learn
    if name in HOMES:
        return getattr(import_module(f"micromarket.{HOMES[name]}"), name)
    raise AttributeError(f"module 'micromarket' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
