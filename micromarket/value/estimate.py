"""The value stage: a company's customers to lifetime value by market and segment."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import ibis
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.errors import InputError, Problem
from micromarket.load import Dataset
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Check, Notes
from micromarket.segmentation import Rules, read_segments, segmented_customers
from micromarket.value import summaries as s
from micromarket.value.acquisition import AcquisitionResult, acquisition_economics
from micromarket.value.contractual import model_contracts
from micromarket.value.look_back_contracts import look_back_contracts
from micromarket.value.look_back_purchases import look_back_purchases, season_clock
from micromarket.value.model import CellModel, Cells
from micromarket.value.money import Weights, levelled, per_active_customer, settle
from micromarket.value.noncontractual import model_purchases
from micromarket.value.observed import model_observed
from micromarket.value.prior_mean import Surroundings
from micromarket.value.signal import verdict
from micromarket.value.validation import Holdout
from micromarket.workspace import Workspace


@dataclass(frozen=True)
class ValueResult:
    """``cells``, ``markets``: the artefacts value_cells and value_markets (money per customer; see ``ARTEFACTS``).

    ``payback_months`` is NaN where the margin doesn't repay the acquisition cost within the horizon or the cost is
    unknown; ``monthly_retention`` is NaN where value is observed, not modelled. Nothing else is ever missing where a
    pooled answer exists.
    """

    cells: pd.DataFrame
    markets: pd.DataFrame
    acquisition: AcquisitionResult
    holdout: Holdout | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        """Its tables and notes, into ``workspace``."""
        workspace.write("value_cells", self.cells)
        workspace.write("value_markets", self.markets)
        self.acquisition.write(workspace)
        if self.holdout is not None:
            workspace.write("value_holdout", self.holdout.by_market)
        workspace.write_notes("value", self.notes)


def estimate_value(dataset: s.Tables, data: MarketData, settings: Settings) -> ValueResult:
    """Lifetime value of today's and of tomorrow's customers in every market and segment.

    Contracts: sBG; purchases (or a customer_summary with ages): BG/NBD with Gamma-Gamma; a customer_summary without
    ages: the margin observed. Each is fitted by segment over all markets; markets then differ by empirical Bayes
    effects (:mod:`micromarket.value.pooling`). Value is discounted contribution margin less servicing cost.

    Parameters
    ----------
    dataset : Dataset
        Asked for counts of customers with equal histories only.
    data : MarketData
    settings : Settings
        ``economics``: margin, discount rate per year, horizon in months, servicing cost.

    Returns
    -------
    ValueResult
        Money per customer over the horizon, with 90% ranges.

    Raises
    ------
    InputError
        Where nobody has bought anything, or there is no margin to value revenue with.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # many tiny systems: threads only wait for each other
        return _estimate(dataset, data, settings)


def _estimate(dataset: s.Tables, data: MarketData, settings: Settings) -> ValueResult:
    money = settings.economics
    customers, together = known_customers(dataset, data)
    pairs = customers.select("market_id", "segment").distinct().to_pandas()
    pairs = pd.concat([pairs, data.cells[["market_id", "segment"]]])
    cells = Cells.of(pairs.astype(object), [str(m) for m in data.markets["market_id"]], together)
    about = Surroundings.of(data.markets, data.features, cells.market_ids, data.neighbours)
    contractual = dataset.has("subscriptions") and money.relationship == "contractual"
    if contractual:
        model, holdout = _from_contracts(dataset, customers, cells, about, settings, data)
    elif dataset.has("transactions"):
        model, holdout = _from_transactions(dataset, customers, cells, about, settings)
    elif dataset.has("customer_summary"):
        model, holdout = _from_summary(dataset, customers, cells, about, settings), None
    else:
        expected = "transactions for a non-contractual relationship (or economics.relationship: contractual)"
        raise InputError([Problem(settings.path.name, expected, column="data")])
    signal = verdict(model.components)
    if signal["verdict"] == "none":
        model = levelled(model)
    weights = Weights.of(cells, data.cells)
    observed = all(m["model"] == "observed" for m in model.models)
    servicing = 0.0 if observed else money.servicing_cost
    by_money = observed and together
    if by_money:
        weights = weights.leaning(cells)
    by_cell, by_market = settle(model, weights, servicing, settings.seed)
    if by_money:  # and so is its range
        of_new = (by_market["clv"] / by_market["new_customer_clv"]).where(by_market["new_customer_clv"] > 0, 1.0)
        by_market["clv_low"] = of_new * by_market["new_customer_clv_low"]
        by_market["clv_high"] = of_new * by_market["new_customer_clv_high"]
        by_market["customer_equity"] = by_market["customers"] * by_market["clv"]
    won = acquisition_economics(dataset, data, settings, model, weights, by_cell, by_market, servicing)
    if not (observed or contractual):
        alike = signal["verdict"] == "none"
        by_cell, by_market = per_active_customer(model, weights, by_cell, by_market, alike=alike)
    spend = _spend_last_year(data, settings, cells)
    by_market["acquisition_cost"], by_market["payback_months"] = won.market_cost, won.market_payback
    published = data.cells[["market_id", "segment"]].astype(object)
    by_cell = published.merge(by_cell, on=["market_id", "segment"], how="left")
    notes = _notes(model, signal, holdout, by_market, weights, spend, observed, won)
    return ValueResult(
        by_cell[list(ARTEFACTS["value_cells"].columns)].astype({"market_id": "str", "segment": "str"}),
        by_market[list(ARTEFACTS["value_markets"].columns)].astype({"market_id": "str"}),
        won,
        holdout,
        notes,
    )


def known_customers(dataset: s.Tables, data: MarketData) -> tuple[ibis.Table, bool]:
    """Customers with the segments of the data stage, and whether these were made from behaviour."""
    found = data.facts.get("segmentation") or {}
    if found.get("source") != "derived" or not isinstance(dataset, Dataset):
        return s.customers_of(dataset), False
    rules = read_segments(found["rules"])
    assert isinstance(rules, Rules)
    customers = segmented_customers(dataset, rules)
    return customers.filter(customers.market_id.notnull()).drop("acquired_on"), not found["at_start"]


def _from_contracts(
    dataset: s.Tables, customers: ibis.Table, cells: Cells, about: Surroundings, settings: Settings, data: MarketData
) -> tuple[CellModel, Holdout | None]:
    money, as_of = settings.economics, settings.as_of
    if money.margin_rate is None:
        raise _no_margin(settings)
    contracts = s.contract_customers(dataset, as_of)
    bounds = s.contract_bounds(contracts)
    since = _records_begin(data)
    counts = s.count_contracts(customers, contracts, as_of, since)
    if not len(counts):
        raise _nobody(settings, "subscriptions")
    moments = s.log_value_moments(customers, contracts)
    holdout = look_back_contracts(dataset, customers, cells, bounds, as_of, since)
    model = model_contracts(
        cells, counts, moments, about, money.margin_rate, money.discount_rate, money.horizon_months, **_learnt(holdout)
    )  # fmt: skip
    return replace(model, warnings=[*model.warnings, *_missing_ends(counts, bounds, as_of, since)]), holdout


def _learnt(holdout: Holdout | None) -> dict[str, Any]:
    return {} if holdout is None else {"family": holdout.family, "calibration": holdout.calibration}


def _records_begin(data: MarketData) -> dt.date | None:
    """The day from which ended contracts are recorded, as the data stage found it."""
    found = data.facts.get("records_begin")
    return None if found is None else dt.date.fromisoformat(str(found)[:10])


def _missing_ends(counts: pd.DataFrame, bounds: dict[str, Any], as_of: dt.date, since: dt.date | None) -> list[str]:
    """What to say where ended contracts seem to be missing, and no day is known from which they aren't."""
    if not bounds["gone"]:
        return ["No contract in the data has ended: how long customers stay is an assumption (3% leave a month)."]
    first_end = bounds["first_end"]
    blank = (first_end - bounds["first_start"]).days / s.DAYS_PER_MONTH
    # customer-months lived before the first recorded end, times the average rate of leaving: ends that should be there
    months = (counts["age"] * counts["customers"] + counts["age_part"]).to_numpy(float)
    since_first_end = (as_of - first_end).days / s.DAYS_PER_MONTH
    lived_since = np.minimum(months, since_first_end * counts["customers"].to_numpy(float))
    missing = counts.loc[counts["gone"] == 1, "customers"].sum() / months.sum() * (months - lived_since).sum()
    if since is not None or blank < 6 or missing < 20:
        return []
    return [
        f"All contract ends lie between {first_end} and {bounds['last_end']}, although contracts go back to"
        f" {bounds['first_start']}: if earlier ends are missing from the data, customers leave faster, and are worth"
        " less, than stated here."
    ]


def _from_transactions(
    dataset: s.Tables, customers: ibis.Table, cells: Cells, about: Surroundings, settings: Settings
) -> tuple[CellModel, Holdout | None]:
    money, as_of = settings.economics, settings.as_of
    t = dataset.table("transactions")
    if money.margin_rate is None and ("margin" not in t.columns or t.margin.isnull().any().execute()):
        raise _no_margin(settings)
    days = dataset.keep("purchase_days", s.purchase_days(dataset, money.margin_rate, as_of))  # read many times
    buyers = dataset.keep("buyers", s.purchase_customers(days, as_of))
    counts = s.count_purchases(customers, buyers)
    if not len(counts):
        raise _nobody(settings, "transactions")
    first = as_of - dt.timedelta(days=int(counts["T"].max()))
    clock = season_clock(days, counts, as_of)
    if not clock.steady:
        buyers = dataset.keep("buyers", s.purchase_customers(days, as_of, clock))
        counts = s.count_purchases(customers, buyers)
    spend = s.count_spend(customers, buyers)
    holdout = look_back_purchases(days, customers, cells, first, as_of, clock)
    model = model_purchases(
        cells, counts, spend, about, money.discount_rate, money.horizon_months, **_learnt(holdout)
    )  # fmt: skip
    return model, holdout


def _from_summary(
    dataset: s.Tables, customers: ibis.Table, cells: Cells, about: Surroundings, settings: Settings
) -> CellModel:
    money = settings.economics
    if money.margin_rate is None:
        raise _no_margin(settings)
    t = dataset.table("customer_summary")
    if "age_days" in t.columns and t.age_days.count().execute() > 0:
        buyers = s.summary_buyers(dataset, money.margin_rate)
        counts = s.count_purchases(customers, buyers)
        if len(counts):
            spend = s.count_spend(customers, buyers)
            return model_purchases(cells, counts, spend, about, money.discount_rate, money.horizon_months)
    counts = s.observed_value(dataset, customers)
    if not len(counts):
        raise _nobody(settings, "customer_summary")
    return model_observed(cells, counts, about, money.margin_rate)


def _no_margin(settings: Settings) -> InputError:
    expected = "this key, as not every purchase carries a margin of its own"
    return InputError([Problem(settings.path.name, expected, column="economics.margin_rate")])


def _nobody(settings: Settings, table: str) -> InputError:
    source = settings.data.get(table)
    shown = source.shown_as if source is not None else table
    return InputError([Problem(shown, "at least one purchase or contract of a customer who lives in a market")])


def _spend_last_year(data: MarketData, settings: Settings, cells: Cells) -> np.ndarray | None:
    if data.current is None or not len(data.current):
        return None
    total = data.current.groupby("market_id")["current"].sum() / settings.plan.years
    return total.reindex(list(cells.market_ids)).fillna(0.0).to_numpy(float)


def _notes(
    model: CellModel,
    signal: dict[str, Any],
    holdout: Holdout | None,
    markets: pd.DataFrame,
    weights: Weights,
    spend: np.ndarray | None,
    observed: bool,
    won: AcquisitionResult,
) -> Notes:
    total, equity = weights.customers.sum(), markets["customer_equity"].sum()
    of_company = np.bincount(model.cells.market, weights=weights.new_customers, minlength=len(markets))
    if of_company.sum() == 0:
        of_company = markets["customers"].to_numpy()
    of_company = of_company / of_company.sum() if of_company.sum() else np.full(len(markets), 1 / len(markets))
    models = [dict(m) for m in model.models]
    warnings, checks = list(model.warnings), []
    numbers: dict[str, Any] = {}
    if holdout is not None:
        for m in models:
            m["holdout_error"] = holdout.by_segment[m["segment"]]
        numbers["holdout"] = {
            "cut": holdout.cut, "what": holdout.what, "predicted": holdout.predicted, "actual": holdout.actual,
            "error": holdout.error, "wape": holdout.wape, "wape_without_markets": holdout.wape_no_markets,
            "family": holdout.family, "scores": holdout.scores, "market_misfit_sd": holdout.calibration.market_sd,
            "windows": [
                {"cut": w.cut, "until": w.until, "predicted": float(w.predicted.sum()), "actual": float(w.actual.sum())}
                for w in holdout.windows
            ],
        }  # fmt: skip
        detail = (
            f"From the data up to {holdout.cut}, {holdout.predicted:,.0f} {holdout.what} were predicted for the time"
            f" since; there were {holdout.actual:,.0f} ({holdout.error:+.0%})."
        )
        checks.append(
            Check("value: the hidden end of the history is predicted within 25%", abs(holdout.error) < 0.25, detail)
        )
        if abs(holdout.error) >= 0.25:
            warnings.append(f"{detail} Take the level of lifetime values with caution; comparisons hold better.")
    settled = all(m["converged"] for m in models)
    checks.append(Check("value: every model settled (by its gradient)", settled))
    if signal["verdict"] == "none":
        warnings.append(str(signal["text"]))
    warnings += won.warnings
    assumptions = [*model.assumptions, *won.assumptions]
    if not observed:
        assumptions.append(
            Assumption("What a customer does next is like what customers did before; prices and margins stay.", "ours")
        )
    return Notes(
        numbers={
            "observed": observed,
            "models": models,
            "signal": signal,
            "clv": equity / total if total else markets["clv"].mean(),
            "customer_equity": equity,
            "new_customer_clv": float(of_company @ markets["new_customer_clv"].to_numpy()),
            "spend_share_lowest_decile": _lowest_decile(markets, spend) if signal["verdict"] != "none" else None,
            "acquisition": won.numbers,
            **numbers,
        },
        assumptions=tuple(assumptions),
        warnings=tuple(warnings),
        checks=tuple(checks),
    )


def _lowest_decile(markets: pd.DataFrame, spend: np.ndarray | None) -> float | None:
    """Share of last year's spend in the tenth of the markets with customers (at least one) that has the lowest clv."""
    with_customers = np.flatnonzero(markets["customers"].to_numpy() > 0)
    if spend is None or spend.sum() <= 0 or not len(with_customers):
        return None
    order = with_customers[np.argsort(markets["clv"].to_numpy()[with_customers], kind="stable")]
    return float(spend[order[: max(round(len(order) / 10), 1)]].sum() / spend.sum())
