"""The public lead tables of the shared data as a company that the planner reads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

PLAN = """\
company: {{name: Leads, currency: USD}}
as_of: {as_of}
plan: {{start: {start}, end: {end}}}
economics: {{relationship: non-contractual, margin_rate: 0.4}}
data: {{markets: markets.csv, customers: customers.csv, transactions: transactions.csv, leads: leads.csv}}
"""


def olist_leads(shared: Path) -> pd.DataFrame:
    """8,000 leads of which 842 were won; nothing is known of the others (no stage, no loss)."""
    folder = shared / "real" / "olist_funnel"
    leads = pd.read_csv(folder / "olist_marketing_qualified_leads_dataset.csv.gz")
    deals = pd.read_csv(folder / "olist_closed_deals_dataset.csv.gz")
    both = leads.merge(deals[["mql_id", "won_date"]], on="mql_id", how="left")
    created = pd.to_datetime(both["first_contact_date"])
    won = pd.to_datetime(both["won_date"], format="mixed").dt.normalize()
    return pd.DataFrame({
        "lead_id": both["mql_id"], "channel": both["origin"], "created_on": created,
        "won_on": won.where(~(won < created), created),  # one deal is won before its first contact
    })  # fmt: skip


def maven_leads(shared: Path) -> pd.DataFrame:
    """8,300 engaged opportunities by office: 4,238 won, 2,473 lost, 1,589 open (500 more have no date yet)."""
    folder = shared / "real" / "maven_crm_pipeline"
    deals = pd.read_csv(folder / "sales_pipeline.csv").merge(pd.read_csv(folder / "sales_teams.csv"), on="sales_agent")
    deals = deals[deals["engage_date"].notna()]
    closed = pd.to_datetime(deals["close_date"])
    return pd.DataFrame({
        "lead_id": deals["opportunity_id"], "market_id": deals["regional_office"], "channel": deals["product"],
        "created_on": pd.to_datetime(deals["engage_date"]), "won_on": closed.where(deals["deal_stage"] == "Won"),
        "lost_on": closed.where(deals["deal_stage"] == "Lost"),
        "value": deals["close_value"].where(deals["deal_stage"] == "Won"),
    })  # fmt: skip


def known_on(leads: pd.DataFrame, day: str) -> pd.DataFrame:
    """What the table looked like at the end of ``day``."""
    out = leads[leads["created_on"] <= day].copy()
    for column in ("mql_on", "sal_on", "sql_on", "won_on", "lost_on"):
        if column in out:
            out[column] = out[column].where(out[column] <= day)
    return out


def write_company(folder: Path, leads: pd.DataFrame, as_of: str, markets: list[str]) -> Path:
    """A company with these leads and next to no customers; returns its ``plan.yml``."""
    folder.mkdir(parents=True, exist_ok=True)
    day = pd.Timestamp(as_of)
    start = day + pd.Timedelta(days=1)
    end = start + pd.DateOffset(years=1) - pd.Timedelta(days=1)
    (folder / "plan.yml").write_text(PLAN.format(as_of=as_of, start=f"{start:%Y-%m-%d}", end=f"{end:%Y-%m-%d}"))
    pd.DataFrame({"market_id": markets, "region": markets}).to_csv(folder / "markets.csv", index=False)
    pd.DataFrame({"customer_id": ["a"], "market_id": markets[:1]}).to_csv(folder / "customers.csv", index=False)
    bought = pd.DataFrame({"customer_id": ["a"], "date": [as_of], "amount": [10]})
    bought.to_csv(folder / "transactions.csv", index=False)
    leads.to_csv(folder / "leads.csv", index=False, date_format="%Y-%m-%d")
    return folder / "plan.yml"
