"""A company small enough to check by hand: four square markets, five contracts, weekly spend."""

from __future__ import annotations

import json
from pathlib import Path

PLAN = """\
company:   {name: Tiny, currency: USD}
as_of:     2026-06-30
plan:      {start: 2026-07-01, end: 2027-06-30}
economics: {relationship: contractual, margin_rate: 0.4}
data:
  markets: markets.geojson
  customers: customers.csv
  subscriptions: subscriptions.csv
  spend: spend.csv
"""
CUSTOMERS = """\
customer_id,market_id,segment,acquired_on
007,01,Home,2025-01-15
008,01,Home,2026-05-02
009,02,Firm,2024-03-01
010,03,Firm,2026-06-10
011,04,Home,2025-11-30
"""
SUBSCRIPTIONS = """\
customer_id,started_on,ended_on,monthly_value
007,2025-01-15,2026-03-31,20
008,2026-05-02,,30
009,2024-03-01,,100
010,2026-06-10,,50.5
011,2025-11-30,,10
"""
SPEND = """\
market_id,period,channel,amount
01,2026-06-08,Search,10
01,2026-06-15,Search,12.5
02,2026-06-15,Outdoor,40
"""


def _square(x: float, y: float) -> dict:
    ring = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def markets() -> dict:
    features = [
        {
            "type": "Feature",
            "properties": {
                "market_id": f"0{i + 1}",
                "name": f"Town {i + 1}",
                "region": "North" if i < 2 else "South",
                "addressable_customers": 1000 * (i + 1),
                "median_income": 20000 + 1000 * i,
            },
            "geometry": _square(100 + i % 2, 10 + i // 2),
        }
        for i in range(4)
    ]
    return {"type": "FeatureCollection", "features": features}


def write_tiny(folder: Path) -> Path:
    """Writes the company and returns the path of its ``plan.yml``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "markets.geojson").write_text(json.dumps(markets()))
    for name, text in (("customers", CUSTOMERS), ("subscriptions", SUBSCRIPTIONS), ("spend", SPEND)):
        (folder / f"{name}.csv").write_text(text)
    (folder / "plan.yml").write_text(PLAN)
    return folder / "plan.yml"
