"""Budgets on two panels of 1,000 markets with known truth that come with the project's data, where it is there.

    python benchmarks/panels.py FOLDER      # holds sim_micromarkets_*.csv.gz and their truth

Every market x channel history may be multiplied by 0.2 to 3 at the same total. ``capture``: true value gained over the
history as a share of what the true optimum gains. No headroom is known there: response and allocation stand alone.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datetime as dt
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket.allocation import plan_budget
from micromarket.config import Budget, Company, Economics, PlanPeriod, Settings
from micromarket.market_data import MarketData
from micromarket.response import estimate_response

LOWEST, HIGHEST = 0.2, 3.0
SETTINGS = Settings(
    path=Path("plan.yml"),
    company=Company("Panel", "USD"),
    as_of=dt.date(2026, 6, 28),
    plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
    economics=Economics("contractual", margin_rate=0.4),
    data={},
    budget=Budget(max_shift=1.0, market_change=(0.0, HIGHEST), cell_change=(LOWEST, HIGHEST)),
)


def company(panel: pd.DataFrame, truth: pd.DataFrame) -> tuple[MarketData, pd.DataFrame]:
    """The panel as the data stage would hand it on, and the value of a new customer by market."""
    panel = panel.merge(truth[["geo", "pop_thousands"]], on="geo")
    start = pd.Timestamp(SETTINGS.as_of) - pd.Timedelta(weeks=int(panel["week"].max() - panel["week"].min()), days=6)
    period = start + pd.to_timedelta(7 * (panel["week"] - panel["week"].min()), unit="D")
    keys = pd.DataFrame({"market_id": panel["geo"].astype(str), "period": period})
    new = keys.assign(new_customers=panel["sales_pc"] * panel["pop_thousands"], revenue=0.0)
    spend = pd.concat(
        [keys.assign(channel=str(c), amount=panel[f"spend_pc_{c}"] * panel["pop_thousands"]) for c in range(1, 5)]
    )
    years = panel["week"].nunique() / 52
    current = spend.groupby(["market_id", "channel"], as_index=False)["amount"].sum()
    current = current.assign(current=current.pop("amount") / years)
    ids = truth["geo"].astype(str)
    markets = pd.DataFrame({"market_id": ids, "addressable_customers": truth["pop_thousands"] * 1000, "region": None})
    last = new[new["period"] > period.max() - pd.Timedelta(weeks=52)]
    cells = last.groupby("market_id", as_index=False)["new_customers"].sum().assign(segment="All")
    cells = cells.rename(columns={"new_customers": "new_customers_last_year"})
    data = MarketData(
        markets=markets, cells=cells, history=pd.DataFrame(), panel=new, spend=spend, current=current, frequency="week"
    )
    return data, pd.DataFrame({"market_id": ids, "new_customer_clv": truth["value_per_sale"]})


class PanelTruth:
    """True value of multiplying every market x channel history by ``m`` of shape (markets, 4)."""

    def __init__(self, panel: pd.DataFrame, truth: pd.DataFrame, channel: pd.DataFrame):
        self.geo = truth["geo"]
        self.worth = (truth["pop_thousands"] * truth["value_per_sale"]).to_numpy()[:, None]
        self.beta = truth[[f"true_beta_{c}" for c in range(1, 5)]].to_numpy()
        self.half = channel["true_half_saturation"].to_numpy()
        stock, cost = [], []
        for c, decay in enumerate(channel["true_adstock_decay"], start=1):
            x = panel.pivot(index="week", columns="geo", values=f"spend_pc_{c}").reindex(columns=self.geo).to_numpy()
            cost.append(x.sum(axis=0) * truth["pop_thousands"].to_numpy())
            level, path = np.zeros(x.shape[1]), []
            for week in x:
                level = decay * level + (1 - decay) * week
                path.append(level)
            stock.append(path)
        self.stock, self.cost = np.moveaxis(np.array(stock), 0, -1), np.array(cost).T

    def value(self, m: np.ndarray) -> float:
        a = self.stock * m
        return float((self.worth * self.beta * (a / (a + self.half)).sum(axis=0)).sum())

    def best(self) -> np.ndarray:
        """Exact up to a grid: every cell takes what it wants at one price of money, found by bisection."""
        grid = np.linspace(LOWEST, HIGHEST, 57)
        gained = np.stack(
            [self.worth * self.beta * (self.stock * g / (self.stock * g + self.half)).sum(0) for g in grid]
        )
        low, high = 0.0, 1e9
        for _ in range(100):
            price = (low + high) / 2
            m = grid[(gained - price * grid[:, None, None] * self.cost).argmax(axis=0)]
            low, high = (price, high) if (m * self.cost).sum() > self.cost.sum() else (low, price)
        return grid[(gained - high * grid[:, None, None] * self.cost).argmax(axis=0)]


def pulses(panel: pd.DataFrame) -> pd.DataFrame:
    """The randomised pulses as rows of the table ``experiments``, without a lift: the panel says what came of them."""
    start = pd.Timestamp(SETTINGS.as_of) - pd.Timedelta(weeks=int(panel["week"].max() - panel["week"].min()), days=6)
    parts = []
    for c in range(1, 5):
        weeks = panel[panel[f"pulse_{c}"] != 0].groupby("geo")["week"].agg(["min", "max"])
        first = start + pd.to_timedelta(7 * weeks["min"].to_numpy(), unit="D")
        last = start + pd.to_timedelta(7 * weeks["max"].to_numpy() + 6, unit="D")
        parts.append(pd.DataFrame({"channel": str(c), "start": first, "end": last, "markets": weeks.index.astype(str)}))
    return pd.concat(parts, ignore_index=True).assign(lift=np.nan, lift_se=np.nan)


def main() -> None:
    folder = Path(sys.argv[1])
    runs = (
        ("sim_micromarkets_clean", False),
        ("sim_micromarkets_endogenous_pulsed", False),
        ("sim_micromarkets_endogenous_pulsed", True),
    )
    for name, declared in runs:
        if not (folder / f"{name}.csv.gz").exists():
            print(f"{name}: not there, skipped")
            continue
        panel = pd.read_csv(folder / f"{name}.csv.gz")
        geo, channel = (pd.read_csv(folder / f"{name}_truth_{part}.csv") for part in ("geo", "channel"))
        data, value = company(panel, geo)
        start = time.perf_counter()
        response = estimate_response(data, None, value, SETTINGS, pulses(panel) if declared else None)
        budget = plan_budget(data, response, value, None, SETTINGS)
        seconds = time.perf_counter() - start
        assert budget.budget is not None
        table = budget.budget.assign(m=budget.budget["recommended"] / budget.budget["current"])
        m = table.pivot(index="market_id", columns="channel", values="m").reindex(geo["geo"].astype(str)).to_numpy()
        truth = PanelTruth(panel, geo, channel)
        now = truth.value(np.ones_like(m))
        real, possible = truth.value(m) - now, truth.value(truth.best()) - now
        promised = budget.notes.numbers["gain"]["expected"] * panel["week"].nunique() / 52
        text = f"capture {real / possible:.2f}, promised / real {promised / real:.2f}, {seconds:.0f} s"
        print(f"{name}{', pulses declared' if declared else ''}: {text}")


if __name__ == "__main__":
    main()
