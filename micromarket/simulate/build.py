"""Puts a world together and writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.simulate import files
from micromarket.simulate.company import build_company
from micromarket.simulate.country import build_country
from micromarket.simulate.customers import Contracts, draw_customers, remaining_contracts, sign_contracts
from micromarket.simulate.leads import draw_leads
from micromarket.simulate.outcome import PLAN_DAYS, World, story_of, truth_of
from micromarket.simulate.purchases import draw_purchases, remaining_purchases
from micromarket.simulate.scenario import Scenario, scenario_of
from micromarket.simulate.spending import Window, spend_weekly
from micromarket.simulate.tables import write_csv
from micromarket.simulate.value import build_value

_DAYS_A_MONTH = 365.25 / 12


def build_world(
    scenario: Scenario, markets: int, customers: int, weeks: int, seed: int
) -> tuple[World, Contracts | None, pd.DataFrame | None]:
    """The world, its contracts or its purchases; nothing is written."""
    country = build_country(seed, markets, scenario.regions, scenario.prefix)
    value = build_value(seed, scenario, country)
    company = build_company(seed, scenario, country, value, customers, weeks)
    window = Window.until(scenario.as_of, weeks)
    spending = spend_weekly(seed, scenario, company, window, country.frame["market_id"].to_numpy())
    everyone = draw_customers(seed, scenario, company, value, spending, window)
    as_of = np.datetime64(scenario.as_of)
    contracts, purchases = None, None
    if scenario.contractual:
        contracts = sign_contracts(seed, scenario, value, everyone)
        last_day = np.where(contracts.active, as_of, contracts.ended)
        first_day = np.maximum(everyone.started, as_of - PLAN_DAYS + 1)
        days = np.maximum((last_day - first_day).astype(int) + 1, 0)
        last_year = contracts.monthly_value * days / _DAYS_A_MONTH
        rate, books = contracts.monthly_value, contracts.active
        remaining = remaining_contracts(scenario, value, everyone, contracts)
    else:
        buyers, purchases = draw_purchases(seed, scenario, value, everyone)
        recent = (purchases["date"] > as_of - PLAN_DAYS).to_numpy()
        last_year = np.bincount(purchases["customer"][recent], purchases["amount"][recent], len(everyone))
        rate, books = buyers.orders * buyers.amount / 12, buyers.alive
        remaining = remaining_purchases(scenario, buyers)
    world = World(
        scenario, seed, country, value, company, window, spending, everyone, books, remaining, rate, last_year
    )
    return world, contracts, purchases


def simulate(
    directory: str | Path,
    *,
    markets: int = 200,
    customers: int = 40_000,
    weeks: int = 104,
    seed: int = 1,
    relationship: str = "contractual",
    preset: str | None = None,
    endogenous: bool = False,
    no_response: bool = False,
    sparse: bool = False,
    scenario: Scenario | None = None,
) -> Path:
    """Writes a synthetic company in the input format into ``directory``, and its truth into ``directory/truth``.

    Parameters
    ----------
    markets, customers : int
        Number of markets; customers on the books at ``as_of`` (those who left are in the files too).
    weeks : int
        Whole weeks of spend, up to ``as_of``; the week that holds ``as_of`` comes on top.
    directory : str or Path
    seed : int
        Equal seeds, equal companies.
    relationship : {"contractual", "non-contractual"}
    preset : {"telecom"}, optional
        The sample company with its story; without it a plain company.
    endogenous : bool
        Spend follows demand shocks that the data don't show.
    no_response : bool
        Spend brings nobody.
    sparse : bool
        Many empty cells, two channels in few markets only, very unequal markets, holes in the statistics.
    scenario : Scenario, optional
        A world of one's own; replaces the options from ``relationship`` on.

    Returns
    -------
    Path
        ``directory``. Equal arguments give equal bytes.

    Raises
    ------
    InputError
        For numbers out of range or an unknown relationship or preset.
    """
    problems = [
        Problem("simulate", f"a whole number from {low:,} to {high:,}", column=name, value=str(number))
        for name, number, low, high in (
            ("markets", markets, 2, 200_000),
            ("customers", customers, 50, 20_000_000),
            ("weeks", weeks, 8, 520),
            ("seed", seed, 0, 2**31 - 1),
        )
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not low <= number <= high
    ]
    if problems:
        raise InputError(problems)
    if scenario is None:
        scenario = scenario_of(relationship, preset, endogenous, no_response, sparse)
    world, contracts, purchases = build_world(scenario, markets, customers, weeks, seed)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_markets(world, folder)
    files.write_customers(world, folder, contracts, purchases)
    files.write_spend(world, folder)
    leads = draw_leads(seed, scenario, world.company, world.value, world.spending, world.window, world.customers)
    files.write_leads(world, folder, leads)
    files.write_sales_force(world, folder)
    files.write_field_notes(world, folder)
    experiment = world.spending.experiment
    if experiment is not None:
        write_csv(experiment, folder / "experiments.csv")
    files.write_plan(scenario, folder, experiment is not None)
    truth = truth_of(world)
    truth = replace(truth, story=story_of(truth))
    truth.write(folder / "truth")
    return folder
