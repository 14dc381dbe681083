"""Three small companies in plain files, for ``mutations.py`` to damage, and the tools that do the damage."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import yaml

from micromarket.simulate import simulate

Damage = Callable[[Path], None]
COMPANIES = ("contracts", "purchases", "summary")


# --- the companies --------------------------------------------------------------------------------------------------


def write_companies(folder: Path) -> None:
    """``contracts`` (every table but purchases), ``purchases`` (customers as points), ``summary`` (no log, no map)."""
    simulate(folder / "contracts", markets=12, customers=420, weeks=60, seed=3, endogenous=True)
    simulate(folder / "purchases", markets=12, customers=260, weeks=56, seed=4, relationship="non-contractual")
    for company in ("contracts", "purchases"):
        here = folder / company
        shutil.rmtree(here / "truth")
        for path in here.glob("*.parquet"):
            pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
            path.unlink()
        plan = (here / "plan.yml").read_text(encoding="utf-8").replace(".parquet", ".csv")
        (here / "plan.yml").write_text(plan.replace("formats: [pdf, html, xlsx]", "formats: []"), encoding="utf-8")
    _contracts(folder / "contracts")
    _purchases(folder / "purchases")
    _summary(folder / "purchases", folder / "summary")


def _contracts(folder: Path) -> None:
    customers = frame(folder, "customers")
    customers["acquisition_cost"] = [str(20 + i % 7) for i in range(len(customers))]
    customers.to_csv(folder / "customers.csv", index=False)
    week = pd.to_datetime(customers["acquired_on"]).dt.to_period("W-SUN").dt.start_time
    spend = frame(folder, "spend")
    first = pd.to_datetime(spend["period"]).min()
    won = customers.assign(period=week)[week >= first]
    keys = pd.MultiIndex.from_product(
        [sorted(customers["market_id"].unique()), pd.date_range(won["period"].min(), won["period"].max(), freq="7D")],
        names=["market_id", "period"],
    )
    outcomes = won.groupby(["market_id", "period"]).size().reindex(keys, fill_value=0).rename("new_customers")
    contracts = frame(folder, "subscriptions")
    monthly = pd.to_numeric(contracts.loc[contracts["ended_on"] == "", "monthly_value"]).sum()
    table = outcomes.reset_index()
    table["revenue"] = (12 * monthly / 52 / customers["market_id"].nunique()).round(2)
    table["period"] = table["period"].dt.strftime("%Y-%m-%d")
    table.to_csv(folder / "outcomes.csv", index=False)
    leads = frame(folder, "leads").rename(columns={"lead_id": "prospect_id"})
    leads["prospect_id"] = leads["prospect_id"].str.replace("L", "P")
    prospects = leads[["prospect_id", "market_id", "segment", "channel"]].head(60)
    prospects["market_id"] = prospects["market_id"].where(prospects["market_id"] != "", "M-001")
    prospects.assign(value=250).to_csv(folder / "prospects.csv", index=False)
    leads = frame(folder, "leads")
    leads["market_id"] = leads["market_id"].where(leads["market_id"] != "", "M-001")
    leads.to_csv(folder / "leads.csv", index=False)
    force = frame(folder, "sales_force")
    force["manager"] = [f"Manager {i % 3}" for i in range(len(force))]
    actual = 12 * monthly * pd.to_numeric(force["last_actual"]) / pd.to_numeric(force["last_actual"]).sum()
    force["last_actual"], force["last_target"] = actual.round(), (1.1 * actual).round()
    force.to_csv(folder / "sales_force.csv", index=False)
    (folder / "field_notes.csv").write_text(
        "market_id,author,date,kind,low,high,reason,expires_on,play\n"
        "M-001,M. Okada,2026-04-27,potential,75,95,New housing estate,2027-04-27,\n"
        "M-002,M. Okada,2026-05-02,target,4000,9000,A rival leaves,2027-04-27,\n"
        "M-003,A. Rossi,2026-05-12,blocked,,,No permit,,\n",
        encoding="utf-8",
    )
    (folder / "experiments.csv").write_text(
        "channel,start,end,lift,lift_se,markets,spend\nSearch,2025-09-01,2025-10-26,0.01,0.004,M-001;M-002;M-005,500\n",
        encoding="utf-8",
    )
    edit_plan(
        "data",
        {
            "outcomes": "outcomes.csv",
            "prospects": "prospects.csv",
            "field_notes": "field_notes.csv",
            "experiments": "experiments.csv",
        },
        merge=True,
    )(folder)


def _purchases(folder: Path) -> None:
    markets = gpd.read_file(folder / "markets.geojson").set_index("market_id")
    inside = markets.geometry.representative_point()
    customers = frame(folder, "customers")
    spread = np.random.default_rng(0).normal(0, 1e-3, (len(customers), 2))
    customers["longitude"] = (customers["market_id"].map(inside.x) + spread[:, 0]).round(6)
    customers["latitude"] = (customers["market_id"].map(inside.y) + spread[:, 1]).round(6)
    customers.drop(columns="market_id").to_csv(folder / "customers.csv", index=False)
    leads = frame(folder, "leads")
    leads["market_id"] = leads["market_id"].where(leads["market_id"] != "", "M-001")
    leads.to_csv(folder / "leads.csv", index=False)


def _summary(purchases: Path, folder: Path) -> None:
    folder.mkdir()
    markets = gpd.read_file(purchases / "markets.geojson")
    pd.DataFrame(markets.drop(columns="geometry")).to_csv(folder / "markets.csv", index=False)
    customers = frame(purchases, "customers")
    ids = sorted(markets["market_id"])
    at = {c: ids[i % len(ids)] for i, c in enumerate(customers["customer_id"])}
    bought = frame(purchases, "transactions")
    days = pd.to_datetime(bought["date"])
    by = bought.assign(day=days, amount=pd.to_numeric(bought["amount"])).groupby("customer_id")
    table = pd.DataFrame(
        {
            "orders": by.size(),
            "revenue": by["amount"].sum().round(2),
            "recency_days": (by["day"].max() - by["day"].min()).dt.days,
            "age_days": (pd.Timestamp("2026-06-30") - by["day"].min()).dt.days,
        }
    ).reset_index()
    table.to_csv(folder / "customer_summary.csv", index=False)
    known = customers[customers["customer_id"].isin(table["customer_id"])]
    known = known.assign(market_id=known["customer_id"].map(at))
    known[["customer_id", "market_id", "segment", "acquired_on"]].to_csv(folder / "customers.csv", index=False)
    plan = yaml.load((purchases / "plan.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    plan["data"] = {t: f"{t}.csv" for t in ("markets", "customers", "customer_summary")}
    _dump(plan, folder)


# --- tools ----------------------------------------------------------------------------------------------------------


def frame(folder: Path, table: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{table}.csv", dtype=str, keep_default_na=False)


def _records(folder: Path, table: str) -> list[list[str]]:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def _write(folder: Path, table: str, records: list[list[str]], **dialect: Any) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **dialect).writerows(records)
    (folder / f"{table}.csv").write_text(text.getvalue(), encoding="utf-8", newline="")


def cell(table: str, column: str, row: int, value: str) -> Damage:
    """Another value in one cell; ``row`` counts records from 1."""

    def damage(folder: Path) -> None:
        records = _records(folder, table)
        records[row][records[0].index(column)] = value
        _write(folder, table, records)

    return damage


def column(table: str, name: str, change: Callable[[str], str]) -> Damage:
    """Every value of a column, changed."""

    def damage(folder: Path) -> None:
        records = _records(folder, table)
        at = records[0].index(name)
        for record in records[1:]:
            record[at] = change(record[at])
        _write(folder, table, records)

    return damage


def records(table: str, change: Callable[[list[list[str]]], list[list[str]]], **dialect: Any) -> Damage:
    """All records (the header is the first), changed; ``dialect``: how they are written."""
    return lambda folder: _write(folder, table, change(_records(folder, table)), **dialect)


def content(file: str, change: Callable[[bytes], bytes]) -> Damage:
    """The bytes of a file, changed."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes())) and None


def gone(file: str) -> Damage:
    return lambda folder: (folder / file).unlink()


def shapes(change: Callable[[dict], None]) -> Damage:
    """``markets.geojson`` as a mapping, changed in place."""

    def damage(folder: Path) -> None:
        path = folder / "markets.geojson"
        collection = json.loads(path.read_text(encoding="utf-8"))
        change(collection)
        path.write_text(json.dumps(collection), encoding="utf-8")

    return damage


def shape(number: int, change: Callable[[dict], None]) -> Damage:
    """One feature of ``markets.geojson``, changed in place."""
    return shapes(lambda collection: change(collection["features"][number]))


def attribute(name: str, number: int, value: Any) -> Damage:
    return shape(number, lambda feature: feature["properties"].update({name: value}))


def attributes(name: str, change: Callable[[Any], Any]) -> Damage:
    def every(collection: dict) -> None:
        for feature in collection["features"]:
            feature["properties"][name] = change(feature["properties"].get(name))

    return shapes(every)


def _dump(plan: dict, folder: Path) -> None:
    text = yaml.safe_dump(plan, allow_unicode=True, sort_keys=False)
    (folder / "plan.yml").write_text(re.sub(r"'(-?[\d.]+)'", r"\1", text), encoding="utf-8")


def edit_plan(section: str, values: Any, merge: bool = False) -> Damage:
    """A section (or key) of plan.yml set; ``merge``: its keys beside those that are there."""

    def damage(folder: Path) -> None:
        plan = yaml.load((folder / "plan.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        plan[section] = {**plan.get(section, {}), **values} if merge else values
        _dump(plan, folder)

    return damage


def plan_text(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / "plan.yml").read_text(encoding="utf-8")
        assert old in text, old
        (folder / "plan.yml").write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def as_file(table: str, suffix: str, write: Callable[[pd.DataFrame, Path], Any]) -> Damage:
    """A table in another format, plan.yml pointing at it."""

    def damage(folder: Path) -> None:
        write(frame(folder, table), folder / f"{table}{suffix}")
        (folder / f"{table}.csv").unlink()
        plan_text(f"{table}.csv", f"{table}{suffix}")(folder)

    return damage


def typed_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers and days of a text frame as such."""
    out = table.copy()
    for name in out:
        if name in ("market_id", "customer_id", "lead_id", "prospect_id"):
            continue
        known = out[name].where(out[name] != "", None)
        try:
            out[name] = pd.to_numeric(known)
        except (ValueError, TypeError):
            try:
                out[name] = pd.to_datetime(known, format="%Y-%m-%d")
            except (ValueError, TypeError):
                out[name] = known
    return out


def packed(table: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / f"{table}.csv.gz").write_bytes(gzip.compress((folder / f"{table}.csv").read_bytes()))
        plan_text(f"{table}.csv", f"{table}.csv.gz")(folder)

    return damage


def both(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)

    return damage


def temporary() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="mutation-")
