"""What must hold of every plan, whatever the company: used by the tests, and by hand on any run folder.

``make(plan, run_dir)`` runs the stages as functions, in order, in this process; ``broken(run_dir, settings)`` says in
words what does not hold of the result (an empty list: everything does).
"""

from __future__ import annotations

import html
import json
import re
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket.allocation import plan_budget
from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings, read_settings
from micromarket.funnel import back_solve
from micromarket.load import open_dataset
from micromarket.plan import Plan, assemble
from micromarket.plan.checks import table_totals
from micromarket.potential import estimate_potential
from micromarket.proof import design_holdout
from micromarket.report import write_reports
from micromarket.response import estimate_response
from micromarket.summarise import summarise
from micromarket.targets import set_targets
from micromarket.value import estimate_value
from micromarket.workspace import Workspace

# Columns that hold a number in every row. Left out: those that need data a company may not have, or are blanked.
NUMBERS = {
    "scores": "clv clv_low clv_high new_customer_clv potential_customers potential_low potential_high headroom"
    " opportunity opportunity_share",
    "causes": "customers value",
    "peer_groups": "centre markets",
    "response": "current_spend effect effect_low effect_high marginal_return",
    "budget": "current recommended change incremental_customers incremental_value value_low value_high marginal_return",
    "budget_segments": "incremental_customers incremental_value",
    "targets": "new_customers revenue margin p_attain",
    "target_limits": "low high forecast sd skew sd_company sd_region sd_luck sd_luck_company each",
    "capacity": "reps wanted target change reps_after",
    "scoreboard": "new_customers revenue margin margin_new later_margin contribution win_value",
    "funnel": "leads won",
    "pipeline": "expected_wins expected_low expected_high needed weekly_need",
    "lead_channels": "leads won lag_days leads_due",
    "territories": "",
    "market_map": "",
    "tests": "",
    "drift": "",
}
ORDERED = {
    "scores": [("clv_low", "clv", "clv_high"), ("potential_low", "potential_customers", "potential_high")],
    "response": [("effect_low", "effect", "effect_high")],
    "budget": [("value_low", "incremental_value", "value_high")],
    "pipeline": [("expected_low", "expected_wins", "expected_high")],
    "target_limits": [("low", "low", "high")],
}
NOT_NEGATIVE = {
    "scores": "customers penetration share potential_customers headroom",
    "causes": "customers",
    "response": "current_spend",
    "budget": "current recommended",
    "targets": "new_customers revenue p_attain",
    "target_limits": "low high forecast sd",
    "capacity": "reps wanted target reps_after",
    "funnel": "leads mql sal sql won",
    "pipeline": "open_leads expected_low needed waiting overdue accepted rejected",
    "lead_channels": "leads won lag_days leads_due",
}
CENT = 0.01


def make(plan: Path, run_dir: Path) -> tuple[Plan, Settings]:
    """All nine stages into ``run_dir``, as the notebooks call them."""
    settings, workspace = read_settings(plan), Workspace(run_dir)
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        data.write(workspace)
        value = estimate_value(dataset, data, settings)
        notes, experiments = dataset.frame("field_notes"), dataset.frame("experiments")
    value.write(workspace)
    potential = estimate_potential(data, value.markets, settings, field_notes=notes)
    potential.write(workspace)
    scores = workspace.read_if_there("scores")
    response = estimate_response(data, scores, value.markets, settings, experiments=experiments)
    response.write(workspace)
    allocation = plan_budget(
        data, response, value.markets, scores, settings, field_notes=notes, segments=value.acquisition.segments
    )
    allocation.write(workspace)
    targets = set_targets(data, value.cells, scores, allocation.budget, settings, field_notes=notes)
    targets.write(workspace)
    back_solve(data, targets.targets, allocation.budget, settings).write(workspace)
    design_holdout(data, allocation.budget, scores, settings).write(workspace)
    the_plan = assemble(workspace, settings)
    the_plan.write(workspace)
    write_reports(the_plan, workspace.run_dir, formats=settings.report.formats)
    return the_plan, settings


def broken(run_dir: Path, settings: Settings) -> list[str]:
    """What doesn't hold of the run in ``run_dir``, in words."""
    tables = {p.stem: pd.read_parquet(p) for p in sorted((run_dir / "tables").glob("*.parquet"))}
    plan = json.loads((run_dir / "plan.json").read_text(encoding="utf-8"), parse_constant=_no_constant)
    markets = pd.read_parquet(run_dir / "work" / "markets.parquet")
    found = [f"check failed: {c['stage']}, {c['name']} ({c['detail']})" for c in plan["checks"] if not c["passed"]]
    for name, frame in tables.items():
        found += _sound(name, frame, set(markets["market_id"]))
        if name == "drift":  # of this run against the one before: nothing in it adds up
            continue
        stated = plan["totals"][name]
        for column, total in table_totals(name, frame).items():
            if not np.isclose(total, stated[column], rtol=1e-9, atol=1e-6):
                found.append(f"{name}.{column}: rows {total}, plan.json {stated[column]}")
    found += _headline(plan, tables)
    if "scores" in tables:
        found += _scores(tables["scores"], markets)
    if "budget" in tables:
        found += limits_broken(tables["budget"], markets, settings)
    if "targets" in tables:
        found += _targets(tables["targets"], plan, settings)
    if "funnel" in tables:
        found += _funnel(tables["funnel"], tables["targets"])
    for form, file in (("pdf", "plan.pdf"), ("html", "dashboard.html"), ("xlsx", "plan.xlsx")):
        if (run_dir / file).is_file() != (form in settings.report.formats):
            found.append(f"{file}: asked for {settings.report.formats}, there: {(run_dir / file).is_file()}")
    return found


def _no_constant(text: str) -> float:
    raise AssertionError(f"plan.json holds {text}, which is no JSON")


def _sound(name: str, frame: pd.DataFrame, known: set[str]) -> list[str]:
    found = []
    artefact = ARTEFACTS[name]
    optional = [c for c in artefact.optional if c in frame.columns]
    if list(frame.columns) != [*artefact.columns, *optional]:
        found.append(f"{name}: columns {list(frame.columns)}")
    if not len(frame):
        found.append(f"{name}: no row")
    if frame.duplicated(list(artefact.keys)).any():
        found.append(f"{name}: repeated keys")
    if "market_id" in frame and set(frame["market_id"]) - known:
        found.append(f"{name}: unknown markets")
    for column in NUMBERS[name].split():
        bad = int((~np.isfinite(pd.to_numeric(frame[column]).to_numpy(dtype=float, na_value=np.nan))).sum())
        if bad:
            found.append(f"{name}.{column}: {bad} of {len(frame)} rows hold no number")
    for column in frame.select_dtypes("number"):
        if np.isinf(frame[column].to_numpy(dtype=float, na_value=np.nan)).any():
            found.append(f"{name}.{column}: infinite")
    for column in NOT_NEGATIVE.get(name, "").split():
        worst = frame[column].to_numpy(dtype=float, na_value=np.nan)
        if (worst < -1e-9).any():
            found.append(f"{name}.{column}: negative, {np.nanmin(worst)}")
    for low, middle, high in ORDERED.get(name, []):
        slack = 1e-9 * (1 + frame[middle].abs())
        off = int(((frame[low] > frame[middle] + slack) | (frame[middle] > frame[high] + slack)).sum())
        if off:
            found.append(f"{name}: {low} <= {middle} <= {high} fails in {off} of {len(frame)} rows")
    return found


def _headline(plan: dict, tables: dict[str, pd.DataFrame]) -> list[str]:
    """The headline numbers of plan.json against the rows."""
    found, pairs = [], []
    if "budget" in tables:
        b, gain = tables["budget"], plan["gain"]
        moved = b["change"].abs().sum() / 2
        pairs += [("budget.total", plan["budget"]["total"], b["recommended"].sum()),
                  ("budget.moved", plan["budget"]["moved"], moved),
                  ("gain.expected", gain["expected"], b["incremental_value"].sum())]  # fmt: skip
        # the mean of a skewed posterior may lie outside its 90% interval only when nothing is at stake
        if not gain["low"] <= gain["high"]:
            found.append(f"gain: {gain}")
        if moved > 0 and not 0 <= gain["p_positive"] <= 1:
            found.append(f"gain: {gain}")
    if "targets" in tables:
        for column in ("new_customers", "revenue", "margin"):
            pairs.append((f"targets.total.{column}", plan["targets"]["total"][column], tables["targets"][column].sum()))
    for name, stated, rows in pairs:
        if stated is None or not np.isclose(stated, rows, rtol=1e-9, atol=0.006):
            found.append(f"{name}: plan.json {stated}, rows {rows}")
    for key in ("company", "as_of", "plan", "budget", "gain", "targets", "signal", "assumptions", "warnings"):
        if key not in plan:
            found.append(f"plan.json lacks {key}")
    return found


def _scores(scores: pd.DataFrame, markets: pd.DataFrame) -> list[str]:
    found = []
    if set(scores["market_id"]) != set(markets["market_id"]):
        found.append("scores: not one row for every market")
    if scores["opportunity"].sum() > 0 and not np.isclose(scores["opportunity_share"].sum(), 1):
        found.append(f"scores.opportunity_share adds up to {scores['opportunity_share'].sum()}")
    for column in ("penetration", "share"):
        if (scores[column] > 1 + 1e-9).any():
            found.append(f"scores.{column}: above 1, {scores[column].max()}")
    worth = scores["headroom"] * scores["new_customer_clv"]  # below zero where a new customer costs more than it brings
    if not np.allclose(scores["opportunity"], worth, rtol=1e-6, atol=1e-6):
        found.append("scores.opportunity isn't headroom x new_customer_clv")
    return found


def limits_broken(budget: pd.DataFrame, markets: pd.DataFrame, settings: Settings) -> list[str]:
    """Limits of ``settings.budget`` that the table breaks, with a cent's room in every cell for rounding."""
    limits, found = settings.budget, []
    rows = budget.merge(markets[["market_id", "region"]], on="market_id", how="left")
    total, current = float(budget["recommended"].sum()), float(budget["current"].sum())
    wanted = current if limits.total is None else limits.total
    if abs(total - wanted) > CENT and not (limits.min_return is not None and total < wanted):
        found.append(f"budget: recommended {total:.2f}, the total is {wanted:.2f}")
    half = float(budget["change"].abs().sum()) / 2
    room = limits.max_shift * wanted + CENT * len(budget)
    # another total alone changes half the difference; max_shift can only speak of the rest
    if half - abs(total - current) / 2 > room:
        found.append(f"budget: {half:.2f} moves, max_shift allows {room:.2f}")
    cents = budget["recommended"] / CENT
    if (cents - cents.round()).abs().max() > 1e-4:
        found.append("budget: not in whole cents")
    for by, band in (
        (["market_id", "channel"], limits.cell_change), (["market_id"], limits.market_change),
        (["channel"], limits.channel_change), (["region"], limits.region_change),
    ):  # fmt: skip
        if band is None:
            continue
        sums = rows.groupby(by, dropna=False)[["current", "recommended"]].agg(["sum", "size"])
        now, then, n = sums["current"]["sum"], sums["recommended"]["sum"], sums["current"]["size"]
        low, high = now * band[0] - CENT * n - 1e-6, now * band[1] + CENT * n + 1e-6
        off = (then < low) | (then > high)
        if off.any():
            worst = pd.concat([now, then], axis=1)[off].head(2).to_numpy().tolist()
            found.append(f"budget: {int(off.sum())} of {len(off)} {' x '.join(by)} outside {band}: {worst}")
    return found


def _targets(targets: pd.DataFrame, plan: dict, settings: Settings) -> list[str]:
    found = []
    periods = targets["period"].nunique()
    cells = targets[["market_id", "segment"]].drop_duplicates()
    if len(targets) != periods * len(cells):
        found.append(f"targets: {len(targets)} rows, {len(cells)} cells x {periods} periods")
    first, last = pd.to_datetime(targets["period"]).min(), pd.to_datetime(targets["period"]).max()
    start, end = pd.Timestamp(settings.plan.start), pd.Timestamp(settings.plan.end)
    longest = {"week": 7, "month": 31, "quarter": 92}[settings.targets.period]
    if not start - pd.Timedelta(days=longest) < first <= start or not end - pd.Timedelta(days=longest) < last <= end:
        found.append(f"targets: periods {first:%Y-%m-%d} to {last:%Y-%m-%d}")
    if not targets["p_attain"].between(0, 1).all():
        found.append("targets.p_attain outside 0..1")
    goal, gap = plan["targets"]["goal_revenue"], plan["targets"]["gap"]
    if goal is not None and gap is None and targets["revenue"].sum() < goal - 1:
        found.append(f"targets.revenue adds up to {targets['revenue'].sum():.2f}, the goal is {goal:.2f}, no gap named")
    if "segment" not in settings.targets.split and targets["segment"].nunique() > 1:
        found.append("targets: split by segment though not asked for")
    return found


def _funnel(funnel: pd.DataFrame, targets: pd.DataFrame) -> list[str]:
    found = []
    steps = [c for c in ("leads", "mql", "sal", "sql", "won") if funnel[c].notna().any()]
    for before, after in pairwise(steps):
        if (funnel[before].astype(float) < funnel[after].astype(float)).any():
            found.append(f"funnel: {after} above {before}")
    keys = ["market_id", "segment", "period"]
    both = targets.merge(funnel, on=keys, how="outer")
    if len(both) != len(targets) or not (both["won"].astype(float) == both["new_customers"].astype(float)).all():
        found.append("funnel.won isn't targets.new_customers, row by row")
    return found


def published_text(run_dir: Path) -> dict[str, str]:
    """The text of everything a reader may open: JSON, page, workbook (its XML), notebooks."""
    texts = {p.name: p.read_text(encoding="utf-8") for p in (run_dir / "plan.json", run_dir / "dashboard.html")
             if p.is_file()}  # fmt: skip
    texts |= {p.name: p.read_text(encoding="utf-8") for p in sorted((run_dir / "notebooks").glob("*.ipynb"))}
    if (run_dir / "plan.xlsx").is_file():
        with zipfile.ZipFile(run_dir / "plan.xlsx") as book:
            texts |= {f"plan.xlsx/{n}": book.read(n).decode("utf-8", "replace") for n in sorted(book.namelist())}
    for table in sorted((run_dir / "tables").glob("*.parquet")) + sorted((run_dir / "work").glob("*.parquet")):
        frame = pd.read_parquet(table)
        words = [c for c in frame.columns if c != "geometry" and frame[c].dtype != float]
        texts[table.name] = " ".join(" ".join(map(str, pd.unique(frame[c]))) for c in words)
    return texts


def leaks(run_dir: Path, customer_ids: list[str]) -> list[str]:
    """Files of the run that name one of ``customer_ids`` (whole words), with the first one found."""
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(re.escape(c) for c in customer_ids) + r")(?![\w-])")
    found = []
    for name, text in published_text(run_dir).items():
        hit = pattern.search(text)
        if hit:
            found.append(f"{name}: {hit[0]}")
    return found


def unescaped(page: Path, texts: list[str]) -> list[str]:
    """Texts from data with a character that means something in HTML, that stand in the page as they are."""
    raw = page.read_text(encoding="utf-8")
    return [t for t in texts if html.escape(t, quote=False) != t and t in raw]
