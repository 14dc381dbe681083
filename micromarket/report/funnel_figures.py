"""Charts of the funnel: weeks that open leads cover, what channels bring and cost, when leads are due.

Every function takes plain frames and returns a :class:`~micromarket.report.style.Picture` whose title is the finding.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from micromarket.formats import compact, count, decimal, percent, plural
from micromarket.report.style import ACCENT, ACCENT_DARK, ACCENT_SOFT, GREY, INK, WARM, Picture, canvas, label
from micromarket.report.value_figures import finish, legend_above, rows, scale

MOST = 18
_STAGES = {"leads": "Leads", "mql": "Marketing-qualified", "sal": "Sales-accepted", "sql": "Sales-qualified",
           "won": "Won"}  # fmt: skip


def weeks_covered(pipeline: pd.DataFrame) -> Picture | None:
    """Weeks of the targets that open leads hold, against those that they must hold; regions, else territories.

    ``pipeline``: the artefact. ``None`` where no level below the company has a need.
    """
    level = next((v for v in ("region", "territory") if (pipeline["level"] == v).any()), None)
    part = pipeline[(pipeline["level"] == level) & pipeline["weeks_needed"].notna()]
    if part.empty:
        return None
    part = part.sort_values(["weeks_short", "key"], ascending=[False, True], kind="stable").head(MOST)
    short = part[(part["weeks_short"] >= 1) & (part["expected_high"] < part["needed"])]
    first = part.iloc[0]
    title = (
        f"{label(first['key'], 40)} is {plural(round(float(first['weeks_short'])), 'week')} of leads short"
        if len(short)
        else f"No {level} is a week of leads short beyond chance"
    )
    with canvas(22 + 6.2 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, part["key"].astype(str).tolist())
        covered, needed = (part[c].to_numpy(float) for c in ("weeks_covered", "weeks_needed"))
        lacking = part.index.isin(short.index)
        axes.barh(y, covered, height=0.6, color=np.where(lacking, WARM, ACCENT_SOFT))
        axes.plot(needed, y, "|", color=INK, markersize=12, markeredgewidth=1.6)
        unit = part["weekly_need"].to_numpy(float)
        low, high = (part[c].to_numpy(float) / unit for c in ("expected_low", "expected_high"))
        axes.hlines(y, low, high, color=ACCENT_DARK, linewidth=1.0)
        for at, w, s in zip(y, np.maximum(high, needed), part["weeks_short"].to_numpy(float), strict=True):
            words = f"{decimal(s, 1)} short" if s > 0 else f"{decimal(-s, 1)} ahead"
            axes.text(w + 0.02 * max(np.max(high), np.max(needed)), at, words, va="center", fontsize=7.5, color=GREY)
        axes.set_xlim(0, 1.18 * max(float(np.max(high)), float(np.max(needed)), 1e-9))
        scale(axes, lambda v: compact(v))
        axes.set_xlabel("Weeks of the targets' wins that leads open today hold (line: 90% range; mark: needed)")
        alt = ", ".join(
            f"{r.key}: {decimal(r.weeks_covered, 1)} of {decimal(r.weeks_needed, 1)} weeks" for r in part.itertuples()
        )
        return finish(figure, "weeks_covered", title, alt)


def channels(table: pd.DataFrame, money: Callable[[float], str]) -> Picture | None:
    """Share of leads beside share of wins by channel, with what a win costs. ``table``: ``lead_channels``."""
    part = table[table["leads"] > 0].copy()
    if part.empty:
        return None
    wins = part["leads"] * part["won"]
    part["of_leads"], part["of_wins"] = part["leads"] / part["leads"].sum(), wins / max(float(wins.sum()), 1e-12)
    part = part.sort_values(["of_leads", "channel"], ascending=[False, True], kind="stable").head(MOST)
    paid = part[part["cost_per_won"].notna()].sort_values(["cost_per_won", "channel"], kind="stable")
    best = part.sort_values(["won", "channel"], ascending=[False, True], kind="stable").iloc[0]
    if len(paid) > 1:
        title = (f"A win costs {money(paid['cost_per_won'].iloc[0])} through {label(paid['channel'].iloc[0], 24)},"
                 f" {money(paid['cost_per_won'].iloc[-1])} through {label(paid['channel'].iloc[-1], 24)}")  # fmt: skip
    else:
        title = f"Leads of {label(best['channel'], 30)} are won most often: {percent(best['won'], 1)} of them"
    with canvas(24 + 8.5 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, part["channel"].astype(str).tolist())
        axes.barh(y + 0.19, part["of_leads"], height=0.34, color=ACCENT_SOFT, label="Share of leads")
        axes.barh(y - 0.19, part["of_wins"], height=0.34, color=ACCENT_DARK, label="Share of the wins they end in")
        widest = float(part[["of_leads", "of_wins"]].max(axis=1).max())
        record: Any
        for at, record in zip(y, part.to_dict("records"), strict=True):
            words = f"{percent(record['won'], 1)} won after {count(record['lag_days'])} days"
            if pd.notna(record["cost_per_won"]):
                words += f", {money(float(record['cost_per_won']))} a win"
            end = max(record["of_leads"], record["of_wins"]) + 0.015 * widest
            axes.text(end, at, words, va="center", fontsize=7.5, color=GREY)
        axes.set_xlim(0, 1.55 * widest)
        scale(axes, lambda v: percent(v))
        legend_above(axes, 2)
        alt = "; ".join(
            f"{r.channel}: {percent(r.of_leads)} of leads, {percent(r.of_wins)} of wins" for r in part.itertuples()
        )
        return finish(figure, "lead_channels", title, alt)


def due(funnel: pd.DataFrame) -> Picture | None:
    """Leads due and wins by period, with the wins that leads open today still bring. ``funnel``: the artefact."""
    columns = [c for c in ("leads", "won", "from_pipeline") if c in funnel and funnel[c].notna().any()]
    by = funnel.groupby("period")[columns].sum().astype(float).sort_index()
    if by.empty or not by["won"].sum() > 0:
        return None
    names = [f"{d:%b %Y}" if len(by) <= 12 else f"{d:%Y-%m-%d}" for d in pd.DatetimeIndex(by.index)]
    known = by["from_pipeline"].sum() if "from_pipeline" in by else 0.0
    first = float(by["won"].iloc[0])
    title = f"{count(by['leads'].sum())} leads are due for {count(by['won'].sum())} wins"
    if known > 0 and first > 0:
        part = min(float(by["from_pipeline"].iloc[0]) / first, 1.0)
        title += f"; leads open today bring {percent(part)} of the first {'month' if len(by) >= 6 else 'period'}'s"
    with canvas(72) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
        x = np.arange(len(by))
        upper.bar(x, by["leads"], color=ACCENT_SOFT, width=0.7)
        upper.set_ylabel("Leads due")
        lower.bar(x, by["won"], color=ACCENT, width=0.7, label="Wins of the targets")
        if known > 0:
            lower.bar(x, by["from_pipeline"], color=ACCENT_DARK, width=0.7, label="From leads open today")
            lower.legend(loc="upper right", ncols=2, borderpad=0, bbox_to_anchor=(1, 1.18))
        lower.set_ylabel("Wins")
        for axes in (upper, lower):
            scale(axes, lambda v: compact(v), "y", 4)
        lower.set_xticks(x, names, rotation=0 if len(x) <= 12 else 90, fontsize=7)
        return finish(
            figure,
            "leads_due",
            title,
            "; ".join(f"{n}: {count(v)} leads" for n, v in zip(names, by["leads"], strict=True)),
        )


def stages(funnel: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Steps and the shares that go on between them, over the recorded stages, for :func:`~.figures.funnel`."""
    known = [c for c in _STAGES if funnel[c].notna().any()]
    sums = funnel[known].sum().astype(float)
    rates = [percent(after / before) if before > 0 else "–" for before, after in pairwise(sums)]
    return sums.set_axis([_STAGES[c] for c in known]), rates
