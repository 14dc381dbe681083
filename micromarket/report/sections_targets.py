"""What is to be delivered: targets by period, region and segment, and who stretches most."""

from __future__ import annotations

import pandas as pd

from micromarket.formats import chance, count, finite, listed, odds, percent
from micromarket.report import figures, views
from micromarket.report.blocks import HALF_MM, Block, Column, Desk, Section, beside, cards, points, table
from micromarket.report.sections_delivery import period_names
from micromarket.report.style import label

MOST_STRETCHED = 5


def _base_in_words(desk: Desk) -> str:
    """What growth is measured against: a year that was, or the run rate of too short a record."""
    source = desk.number("targets", "base_source")
    return f"at the {source}" if isinstance(source, str) and "run rate" in source else "the year before"


def targets(desk: Desk) -> Section | None:
    if "targets" not in desk.plan.tables:
        return None
    frame = desk.plan.tables["targets"]
    blocks: list[Block] = []
    growth, odds_ = finite(desk.number("targets", "growth")), finite(desk.number("targets", "p_company"))
    revenue = float(frame["revenue"].sum())
    title = f"{desk.money(revenue)} of revenue"
    goal = finite(desk.number("targets", "goal_revenue"))
    if growth is not None:
        title = f"{percent(growth, sign=True)} revenue means {desk.money(revenue)}"
        if goal is not None and revenue < 0.999 * goal:
            short = f"{desk.money(goal - revenue)} short of the {percent(growth, sign=True)} goal"
            title = f"{desk.money(revenue)} of revenue: {short}"
        elif odds_ is not None:
            title += f": the odds are {chance(odds_)}"
    new = float(frame["new_customers"].sum())
    base = finite(desk.number("targets", "base_revenue"))
    figures_ = [
        ("Revenue", desk.money(revenue), f"from {desk.money(base)} {_base_in_words(desk)}" if base else ""),
        ("New customers", count(new), "over the plan period"),
        ("Margin", desk.money(frame["margin"].sum()), "on that revenue"),
    ]
    if odds_ is not None:
        figures_.append(("Odds", odds(odds_), "that the company reaches it"))
    blocks.append(cards(figures_))
    gap = desk.number("targets", "gap")
    if gap and gap.get("text"):
        blocks.append(points([desk.prose(gap["text"])], "What stands in the way"))
    chances = desk.frame["p_attain"].dropna()
    width = HALF_MM if len(chances) > 4 else None
    pictures = [_periods(desk, frame, width)]
    if width:
        pictures.append(_chances(desk, chances, width))
    blocks.append(beside(*pictures))
    column = views.group_column(desk.plan)
    if column:
        blocks.append(
            _by(desk, frame.merge(desk.plan.markets[["market_id", column]], on="market_id", how="left"), column)
        )
    if frame["segment"].nunique() > 1:
        blocks.append(_by(desk, frame, "segment"))
    blocks += _stretch(desk)
    return Section("Targets", title, tuple(blocks))


def _periods(desk: Desk, frame: pd.DataFrame, width_mm: float | None) -> Block:
    by = frame.groupby("period")["revenue"].sum().sort_index()
    shown = pd.Series(by.to_numpy(), index=period_names(pd.Series(by.index)))
    most, least = float(shown.max()), float(shown.min())
    finding = f"{shown.index[int(by.to_numpy().argmax())]} carries most: {desk.money(most)}"
    if len(shown) > 1 and most - least < 0.15 * most:
        finding = f"Even over the plan: {desk.money(least)} to {desk.money(most)} a period"
    svg = figures.columns(shown, "Revenue target", desk.money, 42, width_mm)
    return desk.figure("target_periods", finding, f"Revenue target by period. {finding}.", svg)


def _chances(desk: Desk, p: pd.Series, width_mm: float) -> Block:
    low, high = (odds(v) for v in p.quantile([0.1, 0.9]))
    if low == high:
        finding = f"The stretch is shared: nearly every market's odds are {low}"
    else:
        finding = f"Eight in ten markets have odds of {low} to {high}"
        if p.quantile(0.9) - p.quantile(0.1) <= 0.2:
            finding += ": the stretch is shared"
    svg = figures.odds(p, finite(desk.number("targets", "wanted")), 42, width_mm)
    return desk.figure("odds", finding, f"Markets by odds of attainment. {finding}.", svg)


def _by(desk: Desk, frame: pd.DataFrame, column: str) -> Block:
    sums = ["revenue", "new_customers", "margin"]
    part = frame.assign(weight=frame["revenue"].where(frame["p_attain"].notna(), 0.0))
    part["odds"] = part["p_attain"].fillna(0) * part["weight"]
    # what is known of last year only counts where every row of the group has it
    has_last = frame["last_target"].notna().all()
    if has_last:
        part["last"] = part["last_target"]
        sums.append("last")
    by = views.grouped(part, column, [*sums, "weight", "odds"], 12)
    columns = [
        Column(column.capitalize(), width="3fr"),
        Column("Revenue", True),
        Column("Share", True),
        Column("New customers", True),
        Column("Margin", True),
    ]
    if has_last:
        columns.append(Column("Last target", True))
    moved = _moves_by_segment(desk) if column == "segment" else None
    if moved is not None:
        columns.append(Column("Moves add, margin", True, signed=True))
    # where customers pass from segment to segment, odds are those of markets, and say nothing of a segment
    entry = desk.number("targets", "entry_segments") if column == "segment" else None
    if entry is None:
        columns.append(Column("Odds, mean", True))
    total = by.sum()
    rows = []
    for name, r in [*by.iterrows(), ("Total", total)]:
        row = [
            label(name, 60),
            desk.money(r["revenue"]),
            percent(r["revenue"] / max(total["revenue"], 1e-9)),
            count(r["new_customers"]),
            desk.money(r["margin"]),
        ]
        if has_last:
            row.append(desk.money(r["last"]))
        if moved is not None:
            row.append(desk.signed(moved.sum() if name == "Total" else moved.get(name, 0.0)))
        if entry is None:
            row.append(odds(r["odds"] / r["weight"]) if r["weight"] > 0 else "–")
        rows.append(row)
    first = float(by["revenue"].iloc[0] / max(total["revenue"], 1e-9))
    finding = f"By {column}: {label(by.index[0], 40)} carries {percent(first)} of the revenue"
    note = ""
    if entry:
        into = listed([f"“{label(name, 40)}”" for name in entry[:4]])
        note = f"New customers are won into {into}; revenue counts in the segment that a buyer is in when buying."
    return table(finding, columns, rows, bold=[len(rows) - 1], note=note, dense=True)


def _moves_by_segment(desk: Desk) -> pd.Series | None:
    """Margin that the moves of money add, by segment; ``None`` where that isn't known or the rows are sums."""
    table_ = desk.plan.tables.get("budget_segments")
    targets_ = desk.plan.tables["targets"]
    if table_ is None or targets_["segment"].nunique() > 12 or not desk.number("allocation", "moved"):
        return None
    return table_.groupby("segment")["incremental_value"].sum()


def _stretch(desk: Desk) -> list[Block]:
    """Who is asked for most more than last year, beside what is forecast there; nothing where last year isn't known."""
    limits = desk.plan.tables.get("target_limits")
    last = desk.plan.tables["targets"].groupby("market_id")["last_target"].sum(min_count=1)
    if limits is None or not last.notna().any():
        return []
    by = desk.frame[["name", "target_revenue", "p_attain"]].copy()
    by["last"] = last.reindex(by.index)
    by["forecast"] = limits.groupby("market_id")["forecast"].sum().reindex(by.index)
    # a market of next to nothing can be asked for many times as much
    sound = by["last"].gt(0.2 * by["last"].median()) & by["forecast"].gt(0) & by["p_attain"].notna()
    by = by[sound]
    if len(by) < 2 * MOST_STRETCHED:
        return []
    by["asked"], by["foreseen"] = by["target_revenue"] / by["last"] - 1, by["forecast"] / by["last"] - 1
    most = by.sort_index().sort_values("asked", ascending=False, kind="stable").head(MOST_STRETCHED)
    first = most.iloc[0]
    finding = f"“{label(first['name'], 40)}” stretches most: {percent(first['asked'], sign=True)} on its last target"
    columns = [
        Column("Market", width="3fr"),
        Column("Last target", True),
        Column("Target", True),
        Column("Asked", True),
        Column("Forecast", True),
        Column("Odds", True),
    ]
    rows = [
        [label(r["name"], 60), desk.money(r["last"]), desk.money(r["target_revenue"]), percent(r["asked"], sign=True),
         percent(r["foreseen"], sign=True), odds(r["p_attain"])]
        for r in most.to_dict("records")
    ]  # fmt: skip
    agree = float(by["asked"].corr(by["foreseen"], method="spearman"))
    note = "Fair means equal odds, not equal growth."
    if agree > 0.7:
        note += " Who is asked for more is forecast to grow more."
    return [table(finding, columns, rows, note=note, dense=True)]
