"""Six companies, from plain to hostile: whatever comes in, what comes out adds up, keeps to the limits, leaks nobody.

The invariants themselves are in ``invariants.py``. The stages run as functions, in this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pypdf
import pytest
import yaml
from invariants import broken, leaks, make, unescaped

from micromarket.formats import count, money
from micromarket.simulate import simulate

NASTY = (
    "=cmd|'/c calc'!A0", "<script>alert(1)</script>", "#let x = 1", "$x$", "*a*", "北京 市场", "مركز السوق",
    "\u202eRTL",
    "n" * 80, "O'Brien \"q\"", "`code` @ref <l>", "\\u{41} \\ ]", "[link](x) _u_", "-1+1", "@SUM(A1)",
    "</script><img src=x onerror=alert(1)>", "&amp; é ü", "{{x}} {% y %}", "line\nbreak\ttab", "//comment /* x */",
)  # fmt: skip


def settings(folder: Path, **changes: Any) -> None:
    """Sets ``section__key`` or ``section`` in plan.yml; ``None`` removes."""
    plan = folder / "plan.yml"
    raw = yaml.load(plan.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            raw.setdefault(section, {})[key] = value
        else:
            raw[section] = value
        if value is None:
            del (raw[section] if key else raw)[key or section]
    # BaseLoader reads every scalar as text; dumped unquoted they mean what they meant
    text = yaml.safe_dump(raw, allow_unicode=True, sort_keys=False)
    plan.write_text(re.sub(r"'(-?[\d.]+)'", r"\1", text), encoding="utf-8")


def rewrite(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def remap(folder: Path, change: Callable[[gpd.GeoDataFrame], gpd.GeoDataFrame]) -> None:
    path = folder / "markets.geojson"
    markets = change(gpd.read_file(path))
    path.unlink()
    markets.to_file(path, driver="GeoJSON")


def moving(folder: Path) -> None:
    """Spend follows demand, another total, bands on everything: the plan moves money against its limits."""
    simulate(folder, markets=30, customers=1800, weeks=80, seed=4, endogenous=True)
    spend = pd.read_parquet(folder / "spend.parquet")
    period = pd.to_datetime(spend["period"])
    current = float(spend.loc[period > period.max() - pd.Timedelta(days=364), "amount"].sum())
    settings(
        folder, budget__total=round(1.1 * current, 2), budget__channel_change=[0.8, 1.3],
        budget__region_change=[0.9, 1.25], budget__risk_aversion=0.3, targets__growth=0.02,
    )  # fmt: skip


def buying(folder: Path) -> None:
    """Purchases with refunds, sparse markets, targets by market and quarter, a third of the ids with leading zeros."""
    simulate(folder, markets=30, customers=1500, weeks=60, seed=2, relationship="non-contractual", sparse=True)

    def refunds(t: pd.DataFrame) -> pd.DataFrame:
        back = t.sample(frac=0.1, random_state=1)
        return pd.concat([t, back.assign(amount=-1.1 * back["amount"], margin=-1.1 * back["margin"])])

    rewrite(folder, "transactions", refunds)
    settings(folder, targets__split=["market"], targets__period="quarter", report__formats=["pdf"])


def hostile(folder: Path) -> None:
    """Names, ids, regions, segments, channels and notes that are formulas, markup, code or other scripts."""
    simulate(folder, markets=24, customers=1200, weeks=60, seed=5, endogenous=True)
    ids: dict[str, str] = {}

    def rename(markets: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        old = list(markets["market_id"])
        ids.update((m, f"{i:04d}" if i % 3 else f"{NASTY[i % 18]}-{i}") for i, m in enumerate(old))
        markets["market_id"] = [ids[m] for m in old]
        markets["name"] = [NASTY[i % len(NASTY)] for i in range(len(old))]
        markets["region"] = [NASTY[i // 6] for i in range(len(old))]
        return markets

    def retext(table: pd.DataFrame) -> pd.DataFrame:
        table = table.assign(market_id=table["market_id"].astype(str).map(ids))
        for column, first in (("segment", 1), ("channel", 3)):
            if column in table:
                words = sorted(table[column].dropna().astype(str).unique())
                table[column] = table[column].astype(str).map({w: NASTY[first + i] for i, w in enumerate(words)})
        return table

    remap(folder, rename)
    for name in ("customers", "spend", "leads"):
        rewrite(folder, name, retext)
    for name in ("sales_force", "field_notes"):
        table = pd.read_csv(folder / f"{name}.csv", dtype=str)
        table["market_id"] = table["market_id"].map(ids)
        text = "territory" if name == "sales_force" else "reason"
        table[text] = [NASTY[i % len(NASTY)] for i in range(len(table))]
        table.to_csv(folder / f"{name}.csv", index=False)
    settings(folder, company={"name": 'Acme <script>alert(2)</script> #let $x$ *b* "北京"', "currency": "XAF"})
    settings(folder, data__experiments=None)


def bare(folder: Path) -> None:
    """Only what is required: no segments, spend, leads, sales force, dates of acquisition; markets without a map."""
    simulate(folder, markets=20, customers=1000, weeks=60, seed=3)
    rewrite(folder, "customers", lambda t: t[["customer_id", "market_id"]])
    columns = ["market_id"]
    gpd.read_file(folder / "markets.geojson")[columns].to_csv(folder / "markets.csv", index=False)
    gone = {f"data__{t}": None for t in ("spend", "leads", "sales_force", "field_notes", "experiments")}
    settings(folder, data__markets="markets.csv", features=None, **gone)


def short(folder: Path) -> None:
    """Three markets in one region, a plan of three months from the middle of one, weekly targets, monthly spend."""
    simulate(folder, markets=3, customers=300, weeks=40, seed=6)
    remap(folder, lambda markets: markets.assign(region="Here"))

    def monthly(spend: pd.DataFrame) -> pd.DataFrame:
        month = pd.to_datetime(spend["period"]).dt.to_period("M").dt.start_time
        keys = ["market_id", "period", "channel"]
        return spend.assign(period=month).groupby(keys, as_index=False, observed=True)["amount"].sum()

    rewrite(folder, "spend", monthly)
    settings(folder, plan={"start": "2026-08-10", "end": "2026-11-09"}, targets__period="week", data__experiments=None)


def holed(folder: Path) -> None:
    """Features missing and constant, markets without people, outcomes by month, a shrinking goal, no small groups."""
    simulate(folder, markets=24, customers=1200, weeks=60, seed=7)

    def holes(markets: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        markets["addressable_customers"] = markets["addressable_customers"].astype(float)
        markets.loc[markets.index[:4], "addressable_customers"] = np.nan
        markets.loc[markets.index[4:8], "addressable_customers"] = 0
        markets.loc[markets.index[::3], "median_income"] = np.nan
        return markets.assign(urban_share=1.0, empty=np.nan)

    remap(folder, holes)
    won = pd.read_parquet(folder / "customers.parquet")
    month = pd.to_datetime(won["acquired_on"]).dt.to_period("M").dt.start_time
    won = won.assign(period=month)[month >= "2025-05-01"]
    outcomes = won.groupby(["market_id", "period"], observed=True).size().rename("new_customers").reset_index()
    outcomes.to_csv(folder / "outcomes.csv", index=False)
    settings(folder, data__outcomes="outcomes.csv", features=None, targets__growth=-0.2, report__min_cell=500,
             budget__max_shift=0)  # fmt: skip


@pytest.mark.filterwarnings("ignore:No font on the machine")  # one name is Chinese: not every machine has a font for it
@pytest.mark.parametrize("company", [moving, buying, hostile, bare, short, holed], ids=lambda f: f.__name__)
def test_whatever_comes_in_what_comes_out_holds(company: Callable[[Path], None], tmp_path: Path) -> None:
    folder, run = tmp_path / "company", tmp_path / "run"
    company(folder)
    plan, read = make(folder / "plan.yml", run)
    assert broken(run, read) == []
    customers = pd.read_parquet(folder / "customers.parquet")["customer_id"].astype(str)
    assert leaks(run, list(customers.iloc[:: max(1, len(customers) // 400)])) == []
    if "html" in read.report.formats:
        assert unescaped(run / "dashboard.html", [*NASTY, plan.company]) == []
    if "pdf" in read.report.formats:
        assert missing_in_pdf(run / "plan.pdf", plan.to_json()) == []


def missing_in_pdf(path: Path, plan: dict[str, Any]) -> list[str]:
    """Totals of plan.json, as they are printed, that the text of the PDF doesn't hold."""
    text = "".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    flat = re.sub(r"\s+", "", text)
    currency, budget, targets = plan["currency"], plan["budget"], plan["targets"]["total"]
    figures: dict[str, str] = {}
    if budget["total"] is not None:
        figures["budget.total"] = money(budget["total"], currency)
        if budget["moved"] > 1e-3 * budget["total"]:
            figures["budget.moved"] = money(budget["moved"], currency)
            figures["gain.expected"] = money(plan["gain"]["expected"], currency, sign=True)
    if targets is not None:
        figures["targets.total.revenue"] = money(targets["revenue"], currency)
        figures["targets.total.new_customers"] = count(targets["new_customers"])
    if "funnel" in plan["totals"]:
        figures["funnel.won"] = count(plan["totals"]["funnel"]["won"])
        figures["funnel.leads"] = count(plan["totals"]["funnel"]["leads"])
    ranked = (plan["signal"]["potential"] or {}).get("verdict") != "none"  # else the plan doesn't state it
    if ranked and plan["totals"].get("scores", {}).get("opportunity"):
        figures["scores.opportunity"] = money(plan["totals"]["scores"]["opportunity"], currency)
    return [f"{name}: {figure}" for name, figure in figures.items() if re.sub(r"\s+", "", figure) not in flat]
