"""The data stage: a validated :class:`~micromarket.load.Dataset` → :class:`~micromarket.market_data.MarketData`.

Every table is aggregated in the engine; what comes out holds no row about a single customer.
"""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd

from micromarket import geography
from micromarket.later import said_of_later_rows
from micromarket.load import Dataset
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Notes
from micromarket.segmentation import Segmentation, describe_segments, said, segment_rules
from micromarket.summarise.accounts import account_depth
from micromarket.summarise.customers import (
    customers_in_history,
    purchases_in_history,
    read_contracts,
    read_customers,
    read_purchases,
    records_begin_on,
)
from micromarket.summarise.history import market_cells, market_history
from micromarket.summarise.input_profile import input_profile
from micromarket.summarise.lead_steps import lead_steps
from micromarket.summarise.leads import leads_by_month
from micromarket.summarise.panel import current_spend, frequency_and_anchor, market_panel, spend_by_period

_SALES = ("territory", "manager", "reps", "capacity", "last_target", "last_actual")


def summarise(dataset: Dataset) -> MarketData:
    """Aggregates everything that the later stages need.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    MarketData
        With the notes of the stage in ``facts`` and ``notes``; ``.write(workspace)`` leaves both for the next stages.
    """
    rules = segment_rules(dataset)
    customers = read_customers(dataset, rules)
    contracts = read_contracts(dataset) if dataset.settings.economics.relationship == "contractual" else None
    purchases = read_purchases(dataset) if contracts is None and dataset.has("transactions") else None
    markets = _markets(dataset, customers)
    records_begin = None if contracts is None else records_begin_on(contracts, dataset.settings.as_of)
    purchases_then = purchases_in_history(dataset, purchases, rules)
    customers_then = customers_in_history(dataset, customers, rules)
    history = market_history(dataset, customers_then, contracts, purchases_then, records_begin)
    cells = market_cells(dataset, customers, contracts, purchases, history)
    totals = cells.groupby("market_id")["customers"].sum()
    markets["customers"] = markets["market_id"].map(totals).fillna(0.0)
    frequency, anchor = frequency_and_anchor(dataset)
    spend = spend_by_period(dataset, frequency, anchor)
    panel = market_panel(dataset, customers, purchases, frequency, anchor, spend, records_begin)
    current, covered_days = current_spend(dataset, markets, spend, frequency)
    accounts, products = account_depth(dataset, customers, records_begin)
    segmentation = describe_segments(dataset, customers, rules)
    steps = lead_steps(dataset)
    notes = _notes(
        dataset, segmentation, markets, cells, history, spend, frequency, covered_days, purchases, records_begin
    )
    return MarketData(
        markets=markets,
        neighbours=geography.neighbours(markets) if "geometry" in markets.columns else None,
        cells=cells,
        history=history,
        panel=panel,
        spend=spend,
        current=current,
        leads=leads_by_month(dataset),
        lead_steps=None if steps is None else steps.steps,
        open_leads=None if steps is None else steps.open_leads,
        lead_reasons=None if steps is None else steps.reasons,
        accounts=accounts,
        products=products,
        market_map=dataset.market_map,
        census_coverage=dataset.census_coverage,
        input_profile=input_profile(dataset),
        features=dataset.features,
        frequency=frequency if panel is not None else None,
        facts=notes.numbers,
        notes=notes,
    )


def _markets(dataset: Dataset, customers: ibis.Table) -> pd.DataFrame:
    markets = dataset.markets.copy()
    if dataset.has("sales_force"):
        force = dataset.table("sales_force").to_pandas()
        markets = markets.merge(force[[c for c in ("market_id", *_SALES) if c in force]], on="market_id", how="left")
    for column in _SALES:
        if column not in markets.columns:
            markets[column] = None if column in ("territory", "manager") else float("nan")
    for column in ("territory", "manager"):
        markets[column] = markets[column].astype("str").where(markets[column].notna(), None)
    return markets


def _notes(
    dataset: Dataset,
    segmentation: Segmentation,
    markets: pd.DataFrame,
    cells: pd.DataFrame,
    history: pd.DataFrame,
    spend: pd.DataFrame | None,
    frequency: str,
    covered_days: int,
    purchases: ibis.Table | None,
    records_begin: dt.date | None,
) -> Notes:
    settings, warnings = dataset.settings, list(dataset.warnings)
    assumptions = []
    empty = int((markets["customers"] == 0).sum())
    if empty:
        warnings.append(f"{empty:,} of {len(markets):,} markets have no customer yet.")
    for column, who in (("addressable_customers", "people who could buy"), ("market_customers", "buyers")):
        over = int((markets["customers"] > markets[column]).sum())
        if over:
            warnings.append(
                f"{over:,} of {len(markets):,} markets hold more customers of ours than {who} ({column}): that column"
                " is off there, or counts something else, and shares above 100% follow from it."
            )
    if records_begin is not None:
        warnings.append(
            f"No contract ended before {records_begin}: whoever left earlier is not in the data. Months before are not"
            " compared, and churn is measured from that day on."
        )
    if spend is None:
        warnings.append("There is no spend table: the plan can't say how markets answer to money or move a budget.")
    elif 0 < covered_days < 360:
        warnings.append(f"Spend covers only {covered_days} days; it is scaled to the length of the plan.")
    if spend is not None:
        assumptions.append(
            Assumption("'Current' is the last year's spend scaled to the length of the plan period.", "definition")
        )
    margin_rate = settings.economics.margin_rate
    observed = None
    if purchases is not None:
        money = purchases.filter(purchases.margin.notnull()).aggregate(
            margin=ibis._.margin.sum(), amount=ibis._.amount.sum()
        ).to_pyarrow().to_pylist()[0]  # fmt: skip
        if money["amount"]:
            observed = money["margin"] / money["amount"]
    if margin_rate is not None:
        assumptions.append(
            Assumption(f"Every unit of revenue brings {margin_rate:.0%} contribution margin.", "plan.yml")
        )
    if purchases is not None:
        text = "A customer is on the books who bought in the last 12 months; who didn't counts as gone."
        assumptions.append(Assumption(text, "definition"))
    assumptions += said(segmentation)
    assumptions += said_of_later_rows(settings)
    revenue = cells["revenue_last_year"]
    return Notes(
        numbers={
            "features": list(dataset.features),
            "frequency": frequency if spend is not None or len(history) else None,
            "markets": len(markets),
            "customers": dataset.rows.get("customers"),
            "active_customers": float(cells["customers"].sum()),
            "revenue_last_year": float(revenue.sum()) if revenue.notna().any() else None,
            "spend_last_year": None if spend is None else float(_last_year(spend)),
            "channels": [] if spend is None else sorted(spend["channel"].unique().tolist()),
            "segments": sorted(cells["segment"].unique().tolist()),
            "segmentation": segmentation.numbers(),
            "history_months": int(history["month"].nunique()),
            "tables": sorted(dataset.tables),
            "rows": dict(sorted(dataset.rows.items())),
            "records_begin": records_begin,
            "margin_rate_observed": observed,
            "geography": dataset.shaped or None,
            "has_geometry": "geometry" in markets.columns,
            "has_addressable_customers": bool(markets["addressable_customers"].notna().any()),
            "has_market_customers": bool(markets["market_customers"].notna().any()),
        },
        assumptions=tuple(assumptions),
        warnings=tuple(warnings),
    )


def _last_year(spend: pd.DataFrame) -> float:
    return spend.loc[spend["period"] > spend["period"].max() - pd.Timedelta(days=364), "amount"].sum()
