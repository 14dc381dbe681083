"""From the published files alone, nobody can be found: not by name, not by amount, not by arithmetic."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pypdf
import pytest
from invariants import broken, leaks, make, published_text
from scipy.optimize import linprog

from micromarket.disclosure import hidden_groups, rounded_count
from micromarket.funnel.service import joined
from micromarket.funnel.solve import hide_few
from micromarket.simulate import simulate

MIN_CELL = 10
AMOUNT = 48_713.37  # one purchase of one customer, found nowhere else
PLANTED = ("C-PLANTED-7741", "L-PLANTED-9982")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company with several tiny markets; a customer and a lead that are easy to recognise."""
    folder = tmp_path_factory.mktemp("privacy")
    simulate(
        folder / "company", markets=14, customers=500, weeks=60, seed=3, relationship="non-contractual", sparse=True
    )
    company = folder / "company"
    for table, key, name in (("customers", "customer_id", PLANTED[0]), ("leads", "lead_id", PLANTED[1])):
        frame = pd.read_parquet(company / f"{table}.parquet")
        old = frame[key].iloc[-5]
        frame[key] = frame[key].replace(old, name)
        frame.to_parquet(company / f"{table}.parquet")
        if table == "customers":
            bought = pd.read_parquet(company / "transactions.parquet")
            bought["customer_id"] = bought["customer_id"].replace(old, name)
            at = bought.index[bought["customer_id"] == name][0]
            bought.loc[at, ["amount", "margin"]] = [AMOUNT, AMOUNT / 2]
            bought.to_parquet(company / "transactions.parquet")
    _, settings = make(company / "plan.yml", folder / "run")
    assert broken(folder / "run", settings) == []
    return folder / "run"


@pytest.fixture(scope="module")
def truth(run: Path) -> pd.Series:
    return pd.read_parquet(run / "work" / "markets.parquet").set_index("market_id")["customers"]


def test_no_file_names_a_customer_or_a_lead(run: Path) -> None:
    ids = pd.read_parquet(run.parent / "company" / "customers.parquet")["customer_id"]
    leads = pd.read_parquet(run.parent / "company" / "leads.parquet")["lead_id"]
    assert PLANTED[0] in set(ids)
    assert PLANTED[1] in set(leads)
    assert leaks(run, [*PLANTED, *ids.iloc[::40], *leads.iloc[::20]]) == []
    pdf = "".join(page.extract_text() for page in pypdf.PdfReader(run / "plan.pdf").pages)
    assert not any(name in pdf for name in PLANTED)


def test_no_file_holds_the_amount_of_one_customer(run: Path) -> None:
    written = re.compile(r"48[,. \u00a0\u202f]?713")
    for name, text in published_text(run).items():
        if not name.startswith("work"):
            assert not written.search(text), name
    for path in sorted((run / "tables").glob("*.parquet")):
        numbers = pd.read_parquet(path).select_dtypes("number").to_numpy(float)
        assert not np.isclose(numbers, AMOUNT, rtol=1e-6).any(), path.name


def scores_of(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "tables" / "scores.parquet").set_index("market_id")


def test_small_markets_are_hidden_and_so_are_those_that_would_give_them_away(run: Path, truth: pd.Series) -> None:
    scores = scores_of(run)
    hidden = scores["customers"].isna()
    assert (truth < MIN_CELL).any()
    assert hidden[truth.index[truth < MIN_CELL]].all()
    assert hidden.sum() >= 3
    assert (scores.loc[~hidden, "customers"] >= MIN_CELL).all()


def test_arithmetic_on_totals_leaves_every_hidden_market_room(run: Path, truth: pd.Series) -> None:
    """Every sum that is published beside its parts, as linear equations in the hidden markets' customers."""
    plan, scores = json.loads((run / "plan.json").read_text(encoding="utf-8")), scores_of(run)
    hidden = scores.index[scores["customers"].isna()]
    whole = plan["stages"]["data"]["active_customers"]
    known = float(scores["customers"].sum())
    equations, left = [np.ones(len(hidden))], [whole - known]
    assert left[0] == pytest.approx(truth[hidden].sum()), "the attacker's first equation is true"
    equity = plan["stages"]["value"]["customer_equity"]
    over = equity - float(scores["customer_equity"].sum())
    if abs(over) > 1:
        equations.append(scores.loc[hidden, "clv"].to_numpy())
        left.append(over)
    share = plan["stages"]["potential"].get("share", {}).get("company")
    assert share is not None, "the same equation once more: customers of all markets over all buyers"
    for i, market in enumerate(hidden):
        aim = np.zeros(len(hidden))
        aim[i] = 1.0
        ends = [
            linprog(sign * aim, A_eq=np.array(equations), b_eq=np.array(left), bounds=(0, None)).fun * sign
            for sign in (1.0, -1.0)
        ]
        assert ends[1] - ends[0] >= MIN_CELL, (market, ends)
    mean = plan["stages"]["value"]["clv"]
    assert abs(mean * whole - equity) > 1 or abs(over) <= 1, "value per customer times customers is no second equation"


def test_no_column_divided_by_or_less_another_tells_the_customers(run: Path, truth: pd.Series) -> None:
    """An attacker learns on the shown markets which figure follows customers, and applies it to the hidden ones."""
    scores = scores_of(run)
    hidden = scores["customers"].isna().to_numpy()
    small = (truth.reindex(scores.index) < MIN_CELL).to_numpy()
    true = truth.reindex(scores.index).to_numpy(float)
    blank = ("customers", "penetration", "share", "customer_equity")
    columns = [c for c in scores.select_dtypes("number") if c not in blank and scores[c].notna().all()]
    tried: dict[str, np.ndarray] = {c: scores[c].to_numpy(float) for c in columns}
    with np.errstate(all="ignore"):
        for a, b in combinations(columns, 2):
            x, y = scores[a].to_numpy(float), scores[b].to_numpy(float)
            tried |= {f"{a} - {b}": x - y, f"{a} / {b}": x / y, f"{b} / {a}": y / x}
    found = []
    for name, figure in tried.items():
        if not np.isfinite(figure).all() or np.ptp(figure[~hidden]) == 0:
            continue
        line = np.polyfit(figure[~hidden], true[~hidden], 1)
        guess = np.polyval(line, figure)
        if np.corrcoef(guess[~hidden], true[~hidden])[0, 1] > 0.98 and (np.abs(guess - true)[small] < 1.0).all():
            found.append(name)
    assert found == []


@pytest.mark.parametrize("seed", range(5))
def test_hidden_groups_keep_room_for_any_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(200):
        counts = rng.choice([0, 1, 2, 5, 8, 9, 10, 11, 30, 400], size=rng.integers(1, 12)).astype(float)
        hidden = hidden_groups(counts, MIN_CELL)
        assert hidden[counts < MIN_CELL].all()
        assert not hidden.any() or (counts < MIN_CELL).any()
        if not hidden.any() or hidden.all():
            continue
        inside = counts[hidden]
        assert len(inside) >= 3
        assert inside.sum() >= 2 * MIN_CELL
        if (inside < MIN_CELL).all():  # who knows the rule: nobody has more than 9
            low = np.maximum(0, inside.sum() - (MIN_CELL - 1) * (len(inside) - 1))
            assert min(MIN_CELL - 1, inside.sum()) - low >= MIN_CELL - 1


def test_rounded_counts_leave_a_small_rest_unknown() -> None:
    for count in range(10, 200):
        assert abs(rounded_count(count, MIN_CELL) - count) <= MIN_CELL


def test_channels_with_few_leads_share_a_row() -> None:
    table = pd.DataFrame(
        {
            "channel": ["Fair", "Mail", "Search", "Shop"],
            "leads": [3, 40, 900, 25],
            "mql": 0.5,
            "sal": np.nan,
            "sql": 0.25,
            "won": [0.2, 0.1, 0.1, 0.04],
            "lag_days": [10.0, 30.0, 20.0, 40.0],
            "spend": [60.0, 100.0, np.nan, 80.0],
        }
    )
    found = joined(table, MIN_CELL).set_index("channel")
    assert found.index.tolist() == ["Mail", "Search", "2 smaller channels"]
    few = found.loc["2 smaller channels"]
    assert (few["leads"], few["spend"], few["mql"]) == (28, 140.0, 0.5)
    assert few["leads"] * few["won"] == pytest.approx(3 * 0.2 + 25 * 0.04)
    assert few["lag_days"] == pytest.approx((10 * 0.6 + 40 * 1.0) / 1.6)
    assert np.isnan(few["sal"])
    pd.testing.assert_frame_equal(joined(table, 3), table)
    assert joined(table.assign(leads=[1, 2, 3, 900]), MIN_CELL)["leads"].tolist() == [906]
    assert joined(table.assign(leads=[4, 3, 4, 900]), MIN_CELL)["leads"].tolist() == [900, 11]


def test_open_leads_of_a_region_are_no_remainder() -> None:
    table = pd.DataFrame(
        {
            "level": ["company", *["region"] * 4, *["territory"] * 3],
            "key": ["company", "A", "B", "C", "D", "A1", "A2", "B1"],
            "open_leads": [330.0, 100.0, 4.0, 26.0, 200.0, 90.0, 10.0, 4.0],
            "waiting": [30.0, 30.0, 0.0, np.nan, 0.0, np.nan, np.nan, np.nan],
            "overdue": 0.0,
        }
    )
    markets = pd.DataFrame({"region": ["A", "A", "B"], "territory": ["A1", "A2", "B1"]})
    found = hide_few(table, markets, MIN_CELL).set_index("key")["open_leads"]
    assert found.isna().to_dict() == {
        "company": False, "A": True, "B": True, "C": True, "D": False, "A1": False, "A2": False, "B1": True,
    }  # fmt: skip
