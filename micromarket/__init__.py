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
from typing import Any

try:
    __version__ = version("micromarket")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0"

# functions that share their module's name (summarise, simulate) are imported from there
_HOMES = {
    "read_settings": "config",
    "Settings": "config",
    "open_dataset": "load",
    "check": "load",
    "Dataset": "load",
    "MarketData": "market_data",
    "Workspace": "workspace",
    "Notes": "notes",
    "estimate_value": "value",
    "estimate_potential": "potential",
    "estimate_response": "response",
    "allocate": "allocation",
    "plan_budget": "allocation",
    "set_targets": "targets",
    "back_solve": "funnel",
    "design_holdout": "proof",
    "assemble": "plan",
    "Plan": "plan",
    "write_reports": "report",
    "run": "runner",
    "InputError": "errors",
    "MicromarketError": "errors",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    # imported when first used: `micromarket --help` needn't wait for geopandas and scikit-learn
    if name in _HOMES:
        return getattr(import_module(f"micromarket.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'micromarket' has no attribute {name!r}")
