"""Every open lead (and prospect) by its odds to buy times its value; territories and sources summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from micromarket.errors import shown
from micromarket.formats import count, listed, money, percent, plural
from micromarket.leads.model import LeadModel
from micromarket.leads.snapshots import STAGES, as_on, horizon_of, prepared, take_snapshots
from micromarket.leads.validation import ENOUGH, LeadTest, look_back

LIST = (
    "territory", "rank", "work_first", "kind", "id", "market_id", "market", "region", "manager", "segment", "channel",
    "stage", "days_in_stage", "odds", "value", "expected_value",
)  # fmt: skip
_NOISE = 0.5  # a source whose leads surely win less than this part of the company's rate
_FEWEST = 50  # decided leads behind a word on a source
NO_TERRITORY = "No territory"


@dataclass(frozen=True)
class LeadScores:
    """Scores of open leads. ``people`` holds rows about single persons: it never goes into a run folder.

    Attributes
    ----------
    people : DataFrame
        Columns of :data:`LIST`: leads and prospects by territory, best first. ``odds``: probability to be won within
        ``horizon`` days; ``value``: money, contribution margin of the customer it would be; ``expected_value``: their
        product; ``work_first``: in the smallest list that holds 80% of the territory's expected value.
    territories : DataFrame
        territory, open_leads, enough (the short list's length), expected_wins, expected_value, prospects.
    sources : DataFrame
        channel, open_leads, expected_share (of the value), decided, win_rate, win_rate_high (95% bound), noise (bool).
    horizon : int
    test : LeadTest or None
        On later periods; ``None``: too few wins to test.
    calibrated_on : int
        Wins that the model learnt from; 0: there was nothing to learn from and all leads have the same odds.
    """

    people: pd.DataFrame
    territories: pd.DataFrame
    sources: pd.DataFrame
    horizon: int
    test: LeadTest | None
    calibrated_on: int

    def to_text(self, currency: str = "", min_cell: int = 10) -> str:
        """Aggregates alone, for the terminal or a report."""
        lines = []
        leads = self.people[self.people["kind"] == "lead"]
        if len(leads):
            first = int(leads["work_first"].sum())
            total = money(leads["expected_value"].sum(), currency) if currency else count(leads["expected_value"].sum())
            lines.append(
                f"{plural(len(leads), 'open lead')}: {count(leads['odds'].sum())} wins expected within"
                f" {self.horizon} days, worth {total}. {percent(ENOUGH)} of that is in {plural(first, 'lead')}"
                f" ({percent(first / len(leads))}): work these first."
            )
        else:
            lines.append("No open leads.")
        prospects = int((self.people["kind"] == "prospect").sum())
        if prospects:
            lines.append(f"{plural(prospects, 'prospect')} ranked as leads on their first day would be; nothing in the"
                         " data says how many of them answer.")  # fmt: skip
        t = self.test
        if t is None:
            lines.append("Too few wins to test the odds on a later period: use the order with care.")
        else:
            lines.append(
                f"Tested on {count(t.leads)} leads open from {t.since:%Y-%m-%d} to {t.until:%Y-%m-%d}, {count(t.wins)}"
                f" of them won: AUC {t.auc:.2f} (stage alone {t.auc_stage:.2f}, channel alone {t.auc_channel:.2f});"
                f" {t.expected:.2f} wins expected for each that came, slope {t.slope:.2f}; the best fifth won"
                f" {t.lift:.1f} times the average; {percent(t.enough_share)} of the leads held {percent(ENOUGH)} of the"
                " value won."
            )
        noisy = self.sources[self.sources["noise"]]
        if len(noisy):
            names = [
                f"{shown(str(r.channel), 40).strip(chr(39))} ({percent(r.win_rate, 1)} won)" for r in noisy.itertuples()
            ]
            lines.append(f"Little more than noise: {listed(names)}. Their leads are surely won less than half as often"
                         " as others.")  # fmt: skip
        shown_as = self.territories[self.territories["open_leads"] >= min_cell].head(15)
        if len(shown_as) > 1:
            table = shown_as.assign(
                expected_wins=shown_as["expected_wins"].map("{:,.1f}".format),
                expected_value=shown_as["expected_value"].map("{:,.0f}".format),
                territory=[shown(str(v), 30).strip("'") for v in shown_as["territory"]],
            ).rename(columns={"open_leads": "open", "enough": "work first", "expected_wins": "wins expected",
                              "expected_value": "worth"})  # fmt: skip
            lines += ["", table.to_string(index=False)]
        return "\n".join(lines)


def score_leads(
    leads: pd.DataFrame,
    as_of: pd.Timestamp,
    markets: pd.DataFrame,
    prospects: pd.DataFrame | None = None,
    margin_rate: float | None = None,
    seed: int = 0,
) -> LeadScores:
    """Scores every lead that is open at the end of ``as_of``.

    Parameters
    ----------
    leads : DataFrame
        The input table.
    as_of : Timestamp
    markets : DataFrame
        market_id; where known name, region, territory, manager and ``new_customer_clv`` (money: what a new customer
        brings). Without it a lead's own value times ``margin_rate``, and without that every lead counts 1.
    prospects : DataFrame, optional
        The input table.
    margin_rate : float, optional
    seed : int
    """
    table = prepared(leads)
    table = table[table["created_on"] <= as_of].reset_index(drop=True)
    found = take_snapshots(leads, as_of)
    worth = _Worth(table, markets, margin_rate)
    model, test, horizon, wins = LeadModel(seed), None, horizon_of(table), 0
    if found is not None:
        horizon, wins = found.horizon, int(found.rows["won"].sum())
        test = look_back(found, worth.of_market(found.rows["market_id"]), seed)
        model.fit(found.rows, found.rows["won"].to_numpy())
    now = as_on(table, as_of)
    odds = model.predict(now) if found is not None and len(now) else np.zeros(len(now))
    people = now.assign(
        kind="lead", id=table["lead_id"].to_numpy()[now["lead"].to_numpy()], odds=odds,
        stage=[STAGES[s] for s in now["stage"]], value=worth.of_leads(now),
    )  # fmt: skip
    if prospects is not None and len(prospects):
        people = pd.concat([people, _prospects(prospects, model if found is not None else None, worth)])
    people = _ranked(people.reset_index(drop=True), markets)
    return LeadScores(people, _territories(people), _sources(people, table, as_of, horizon), horizon, test, wins)


class _Worth:
    """Money that a lead stands for, were it won."""

    def __init__(self, table: pd.DataFrame, markets: pd.DataFrame, margin_rate: float | None):
        clv = markets.drop_duplicates("market_id").set_index("market_id").get("new_customer_clv")
        clv = None if clv is None else clv[clv > 0].astype(float)
        self.clv = clv if clv is not None and len(clv) else None
        self.own = table["value"].where(table["value"] > 0)
        self.margin = margin_rate
        self.middle = float(self.own.median()) if self.own.notna().any() else float("nan")

    def of_market(self, market: pd.Series) -> np.ndarray:
        if self.clv is None:
            rate = 1.0 if self.margin is None else self.margin
            return np.full(len(market), self.middle * rate if np.isfinite(self.middle) else 1.0)
        return market.map(self.clv).fillna(float(self.clv.mean())).to_numpy(float)

    def of_value(self, market: pd.Series, value: np.ndarray) -> np.ndarray:
        """Scaled by the lead's own value against the typical one, a quarter to four times."""
        base = self.of_market(market)
        ratio = np.nan_to_num(value / self.middle, nan=1.0) if np.isfinite(self.middle) else np.ones(len(base))
        return base * np.clip(ratio, 0.25, 4.0)

    def of_leads(self, now: pd.DataFrame) -> np.ndarray:
        return self.of_value(now["market_id"], self.own.to_numpy(float)[now["lead"].to_numpy()])


def _prospects(prospects: pd.DataFrame, model: LeadModel | None, worth: _Worth) -> pd.DataFrame:
    rows = pd.DataFrame({"id": prospects["prospect_id"].astype(object).to_numpy(), "kind": "prospect", "stage": 0})
    for column in ("channel", "segment", "market_id"):
        values = prospects[column].astype(object).to_numpy() if column in prospects else None
        rows[column] = "" if values is None else pd.Series(values, dtype=object).where(pd.Series(values).notna(), "")
    rows["days_in_stage"], rows["days"], rows["lead"] = 0, 0, np.arange(len(rows))
    rows["odds"] = 0.0 if model is None else model.predict(rows)
    value = prospects["value"].to_numpy(float) if "value" in prospects else np.full(len(rows), np.nan)
    rows["value"] = worth.of_value(rows["market_id"], np.where(value > 0, value, np.nan))
    return rows.assign(stage="prospect")


def _ranked(people: pd.DataFrame, markets: pd.DataFrame) -> pd.DataFrame:
    places = markets.drop_duplicates("market_id").set_index("market_id")
    for column, source in (
        ("market", "name"),
        ("region", "region"),
        ("territory", "territory"),
        ("manager", "manager"),
    ):
        found = people["market_id"].map(places[source]) if source in places else pd.Series(None, people.index, object)
        people[column] = found.astype(object).where(found.notna(), "")
    people["territory"] = people["territory"].where(people["territory"] != "", NO_TERRITORY)
    people["expected_value"] = people["odds"] * people["value"]
    people["_prospect"] = people["kind"] == "prospect"
    people = people.sort_values(
        ["territory", "_prospect", "expected_value", "id"], ascending=[True, True, False, True], kind="stable"
    ).reset_index(drop=True)
    by = people.groupby(["territory", "_prospect"], sort=False)
    people["rank"] = by.cumcount() + 1
    before = by["expected_value"].cumsum() - people["expected_value"]
    total = by["expected_value"].transform("sum")
    people["work_first"] = (before < ENOUGH * total - 1e-12) & (people["expected_value"] > 0)
    return people[list(LIST)]


def _territories(people: pd.DataFrame) -> pd.DataFrame:
    leads = people[people["kind"] == "lead"]
    by = leads.groupby("territory", sort=True)
    table = by.agg(open_leads=("id", "size"), enough=("work_first", "sum"), expected_wins=("odds", "sum"),
                   expected_value=("expected_value", "sum"))  # fmt: skip
    others = people[people["kind"] == "prospect"].groupby("territory").size().rename("prospects")
    table = table.join(others, how="outer").fillna(0.0)
    whole = dict.fromkeys(("open_leads", "enough", "prospects"), int)
    return table.astype(whole).rename_axis("territory").reset_index()


def _sources(people: pd.DataFrame, table: pd.DataFrame, as_of: pd.Timestamp, horizon: int) -> pd.DataFrame:
    """What each channel's leads of the last two years came to within the horizon, and what its open ones are worth."""
    age = (as_of - table["created_on"]).dt.days
    old = table[(age >= horizon) & (age < horizon + 730)]
    won = ((old["won_on"] - old["created_on"]).dt.days <= horizon).astype(int)
    by = won.groupby(old["channel"])
    decided, wins = by.count(), by.sum()
    rate = float(won.mean()) if len(won) else 0.0
    leads = people[people["kind"] == "lead"]
    expected = leads.groupby("channel")["expected_value"].sum()
    total = float(expected.sum())
    rows: list[dict[str, Any]] = []
    for channel in sorted(set(decided.index) | set(expected.index)):
        n, w = int(decided.get(channel, 0)), int(wins.get(channel, 0))
        high = float(beta.ppf(0.95, w + 0.5, n - w + 0.5)) if n else 1.0
        rows.append({
            "channel": channel or "unknown", "open_leads": int((leads["channel"] == channel).sum()),
            "expected_share": float(expected.get(channel, 0.0)) / total if total > 0 else 0.0, "decided": n,
            "win_rate": w / n if n else float("nan"), "win_rate_high": high,
            "noise": bool(n >= _FEWEST and high < _NOISE * rate),
        })  # fmt: skip
    columns = ["channel", "open_leads", "expected_share", "decided", "win_rate", "win_rate_high", "noise"]
    return pd.DataFrame(rows, columns=columns)
