"""A simulated company as the files of the contract: equal worlds, equal bytes."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from micromarket.simulate.country import territories
from micromarket.simulate.customers import Contracts
from micromarket.simulate.outcome import World
from micromarket.simulate.scenario import Scenario, stream
from micromarket.simulate.tables import labels, numbered, write_csv, write_table
from micromarket.workspace import write_atomically

FEATURES = ("median_income", "urban_share", "share_under_35", "household_size", "km_to_city", "competitor_stores")


def write_markets(world: World, directory: Path) -> None:
    company, frame = world.company, world.country.frame.copy()
    rng = stream(world.seed, "statistics")
    m = len(frame)
    ours = np.bincount(world.customers.market, world.on_books, m)
    anyone = company.addressable * np.clip(0.7 + 0.07 * rng.normal(size=m), 0.45, 0.9)
    addressable = np.maximum(np.round(company.addressable), ours + 1)
    frame["addressable_customers"] = addressable.astype(int)
    frame["market_customers"] = np.round(np.clip(anyone * np.exp(0.05 * rng.normal(size=m)), ours, addressable)).astype(
        int
    )
    frame["competitor_stores"] = company.competitor_stores.astype(int)
    frame["own_stores"] = company.own_stores.astype(int)
    if world.scenario.sparse:  # statistics with holes
        for name in ("share_under_35", "household_size"):
            frame.loc[rng.random(m) < 0.06, name] = np.nan
    features = []
    for row, shape in zip(frame.to_dict("records"), world.country.geometry, strict=True):
        properties = {k: (None if isinstance(v, float) and np.isnan(v) else v) for k, v in row.items()}
        geometry = _rounded(shapely.geometry.mapping(shape))
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    body = ",\n".join(json.dumps(f, ensure_ascii=False, separators=(",", ":")) for f in features)
    text = '{"type":"FeatureCollection","name":"markets","features":[\n' + body + "\n]}\n"
    write_atomically(directory / "markets.geojson", lambda p: p.write_text(text, encoding="utf-8"))


def _rounded(geometry):
    if isinstance(geometry, dict):
        return {k: _rounded(v) for k, v in geometry.items()}
    if isinstance(geometry, (list, tuple)):
        return [_rounded(v) for v in geometry]
    return round(geometry, 4) if isinstance(geometry, float) else geometry


def write_customers(world: World, directory: Path, contracts: Contracts | None, purchases: pd.DataFrame | None) -> None:
    scenario, customers = world.scenario, world.customers
    ids = numbered("C", len(customers))
    segments, channels = [g.name for g in scenario.segments], [c.name for c in scenario.channels]
    booked = np.where(customers.recorded >= 0, customers.recorded, len(channels) - 1 - customers.recorded)
    table = pd.DataFrame(
        {
            "customer_id": ids,
            "market_id": labels(customers.market, list(world.country.frame["market_id"])),
            "acquired_on": customers.started,
            "segment": labels(customers.segment, segments),
            "channel": labels(booked, [*channels, "Stores", "Referral"]),
        }
    )
    write_table(table, directory / "customers.parquet", ("customer_id",))
    products = [p for g in scenario.segments for p in g.products]
    if contracts is not None:
        table = pd.DataFrame(
            {
                "customer_id": ids,
                "started_on": customers.started,
                "ended_on": contracts.ended,
                "monthly_value": contracts.monthly_value,
                "product": labels(3 * customers.segment + contracts.product, products),
            }
        )
        write_table(table, directory / "subscriptions.parquet", ("customer_id",))
    if purchases is not None:
        who = purchases["customer"].to_numpy()
        table = pd.DataFrame(
            {
                "customer_id": ids.take(who),
                "date": purchases["date"],
                "amount": purchases["amount"],
                "margin": purchases["margin"],
                "product": labels(3 * customers.segment[who] + purchases["product"].to_numpy(), products),
            }
        )
        write_table(table, directory / "transactions.parquet", ("customer_id",))


def write_spend(world: World, directory: Path) -> None:
    money = world.spending.money
    market, channel, week = np.nonzero(money)
    table = pd.DataFrame(
        {
            "market_id": labels(market, list(world.country.frame["market_id"])),
            "period": world.window.weeks[week],
            "channel": labels(channel, [c.name for c in world.scenario.channels]),
            "amount": money[market, channel, week].astype(np.int32),
        }
    )
    write_table(table, directory / "spend.parquet")


def write_leads(world: World, directory: Path, leads: pd.DataFrame) -> None:
    scenario = world.scenario
    table = pd.DataFrame(
        {
            "lead_id": numbered("L", len(leads)),
            "market_id": labels(leads["market"].to_numpy(), list(world.country.frame["market_id"])),
            "segment": labels(leads["segment"].to_numpy(), [g.name for g in scenario.segments]),
            "channel": labels(leads["channel"].to_numpy(), [c.name for c in scenario.channels]),
        }
    ).join(leads.drop(columns=["market", "segment", "channel"]))
    table["value"] = table["value"].astype(np.float32)
    write_table(table, directory / "leads.parquet", ("lead_id",))


def write_sales_force(world: World, directory: Path) -> None:
    rng = stream(world.seed, "sales force")
    company, frame = world.company, world.country.frame
    m = len(frame)
    last = np.bincount(world.customers.market, world.revenue_last_year, m)
    won = world.spending.won.sum((1, 2)) / max(len(world.window.weeks), 1) + company.organic
    each = 1.6 * won.sum() * 52 / company.reps.sum()
    capacity = np.maximum(company.reps * each, 1.35 * won * 52)  # nobody sells more than they can
    table = pd.DataFrame(
        {
            "market_id": frame["market_id"],
            "territory": [f"T{code + 1:03d}" for code in territories(world.seed, world.country)],
            "reps": company.reps,
            "capacity": np.round(capacity * np.exp(0.1 * rng.normal(size=m))).astype(int),
            "last_target": np.round(last * np.exp(0.03 + 0.12 * rng.normal(size=m)), -1),
            "last_actual": np.round(last),
        }
    )
    write_csv(table, directory / "sales_force.csv")


_NOTES = (
    ("potential", "New housing estate opens this autumn; two estates are already sold out"),
    ("blocked", "Town hall has paused permits for street cabinets and posters"),
    ("play", "The harbour firms buy together: offer one contract to the chamber"),
    ("target", "Biggest employer leaves; shop traffic is down since spring"),
    ("potential", "The university adds a campus; students ask for prepaid"),
    ("play", "Rival's shop closed: win back with a door-to-door week"),
    ("target", "Two new reps start in July, trained by August"),
    ("potential", "Mine closes at the year's end; families are moving to the coast"),
)
_AUTHORS = ("M. Okada", "L. Tan", "R. Sato-Cruz", "A. N'Diel", "S. Ríos")


def write_field_notes(world: World, directory: Path) -> None:
    """A few notes of managers who know something: their ranges hold the truth about two times in three."""
    rng = stream(world.seed, "field notes")
    frame, company = world.country.frame, world.company
    count = min(len(_NOTES), max(1, len(frame) // 10))
    markets = rng.choice(len(frame), count, replace=False)
    last = np.bincount(world.customers.market, world.revenue_last_year, len(frame))
    rows = []
    for i, (kind, reason) in enumerate(_NOTES[:count]):
        m = markets[i]
        about = {"potential": company.potential[m], "target": 1.08 * last[m]}.get(kind)
        guess = None if about is None else about * np.exp(0.12 * rng.normal())
        date = world.scenario.as_of - dt.timedelta(days=int(rng.integers(5, 80)))
        rows.append(
            {
                "market_id": frame["market_id"][m],
                "author": _AUTHORS[i % len(_AUTHORS)],
                "date": date,
                "kind": kind,
                "low": None if guess is None else round(guess * 0.88),
                "high": None if guess is None else round(guess * 1.12),
                "reason": reason,
                "expires_on": date + dt.timedelta(days=365) if kind in ("blocked", "potential") else None,
            }
        )
    table = pd.DataFrame(rows)
    write_csv(table.astype({"low": "Int64", "high": "Int64"}), directory / "field_notes.csv")


def write_plan(scenario: Scenario, directory: Path, experiments: bool) -> None:
    purchases = "subscriptions: subscriptions.parquet" if scenario.contractual else "transactions: transactions.parquet"
    start = scenario.as_of + dt.timedelta(days=1)
    end = start + dt.timedelta(days=364)
    tests = "  experiments: experiments.csv         # finished geo experiments\n" if experiments else ""
    text = f"""# The plan's settings. Every path is relative to this file.
# An invented company, made by `micromarket simulate`; its truth is in truth/.
company:   {{name: {scenario.company}, currency: {scenario.currency}}}
as_of:     {scenario.as_of}                 # data up to and including this day
plan:      {{start: {start}, end: {end}}}   # first and last day of the plan

economics:
  relationship: {scenario.relationship}       # contractual: subscriptions; non-contractual: purchases
  margin_rate: {scenario.margin_rate}                # contribution margin per unit of revenue
  discount_rate: {scenario.discount_rate}               # a year
  horizon_months: {scenario.horizon_months}              # a customer's value is counted this far ahead

data:
  markets: markets.geojson
  customers: customers.parquet
  {purchases}
  spend: spend.parquet                 # weekly, by market and channel
  leads: leads.parquet
  sales_force: sales_force.csv
  field_notes: field_notes.csv         # what the people on the ground know
{tests}
# market columns that may explain potential (default: every numeric one)
features: [{", ".join(FEATURES)}]

budget:
  total: current                       # or an amount for the plan period
  max_shift: 0.30                      # largest share of the money that may change place
  market_change: [0.5, 2.0]            # a market's money against today, lowest and highest
  cell_change: [0.0, 3.0]              # the same for one channel in one market
  test_reserve: 0.05                   # kept for the test that proves the plan

targets:
  growth: 0.10                         # of company revenue against the same span a year before
  split: [market, segment]
  period: month
  attainment: 0.6                      # the odds of reaching a target that you want

report:
  formats: [pdf, html, xlsx]
  min_cell: 10                         # groups of fewer customers are not shown
"""
    write_atomically(directory / "plan.yml", lambda p: p.write_text(text, encoding="utf-8"))
