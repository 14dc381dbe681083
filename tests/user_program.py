"""What a user's program may look like; `make lint` checks its types, as strictly as mypy can."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from micromarket import (
    BudgetResult,
    Dataset,
    InputError,
    MarketData,
    PotentialResult,
    ResponseResult,
    Settings,
    ValueResult,
    estimate_potential,
    estimate_response,
    estimate_value,
    open_dataset,
    plan_budget,
    read_settings,
    run,
)
from micromarket.summarise import summarise


def plan_of(path: Path) -> Path | None:
    """A whole run; ``None`` where the input is wrong."""
    try:
        return assert_type(run(path, until="allocation"), Path)
    except InputError as error:
        for problem in error.problems:
            assert_type(problem.row, int | None)
        return None


def budget_of(path: Path) -> BudgetResult:
    """The same, stage by stage."""
    settings = assert_type(read_settings(path), Settings)
    with open_dataset(settings) as dataset:
        assert_type(dataset, Dataset)
        data = assert_type(summarise(dataset), MarketData)
        value = assert_type(estimate_value(dataset, data, settings), ValueResult)
    potential = assert_type(estimate_potential(data, value.markets, settings), PotentialResult)
    response = assert_type(estimate_response(data, potential.scores, value.markets, settings), ResponseResult)
    return assert_type(plan_budget(data, response, value.markets, potential.scores, settings), BudgetResult)
