"""What the notebook on targets shows: how busy reps are, and one contribution margin seen from both teams."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from micromarket.formats import count, percent
from micromarket.report.figures import _money_axis, _rows
from micromarket.report.style import ACCENT, ACCENT_DARK, ACCENT_SOFT, GREY, INK, WARM, canvas, to_svg
from micromarket.targets.scoreboard import by

_MOST_ROWS = 24
PARTS = {
    "margin_old": ("Customers of today", ACCENT_DARK), "margin_new": ("New customers, in the plan", ACCENT),
    "later_margin": ("New customers, later", ACCENT_SOFT),
}  # fmt: skip


def busiest(capacity: pd.DataFrame, most: int = _MOST_ROWS) -> pd.DataFrame:
    """Territories with a known capacity, busiest first; those that gain or lose reps are always among them."""
    known = capacity[capacity["utilisation"].notna()].sort_values(
        ["utilisation", "territory"], ascending=[False, True], kind="stable"
    )
    moving = known["change"] != 0
    keep = pd.concat([known[moving], known[~moving].head(max(most - int(moving.sum()), 0))])
    return keep.sort_values(["utilisation", "territory"], ascending=[False, True], kind="stable").head(most)


def utilisation(capacity: pd.DataFrame, width_mm: float | None = None) -> bytes:
    """Share of what its reps can win that a territory's target asks; open dots: after the moves."""
    rows = busiest(capacity)
    with canvas(16 + 5.2 * len(rows), width_mm) as figure:
        axes = figure.add_subplot()
        y = _rows(axes, pd.Index(rows["territory"]), 26)
        now, after = rows["utilisation"].to_numpy(), rows["utilisation_after"].to_numpy()
        axes.barh(y, now, height=0.55, color=np.where(now > 1, WARM, ACCENT))
        moved = rows["change"].to_numpy() != 0
        axes.scatter(after[moved], y[moved], s=24, facecolor="white", edgecolor=INK, linewidth=1.0, zorder=4)
        for at, end, change in zip(y[moved], np.fmax(now, after)[moved], rows["change"][moved], strict=True):
            words = f"{change:+d} rep" + ("" if abs(change) == 1 else "s")
            axes.annotate(words, (end, at), (7, 0), textcoords="offset points", va="center", fontsize=7.5, color=GREY)
        axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlim(0, max(1.08, float(np.nanmax(np.fmax(now, after), initial=0.0)) * 1.12))
        axes.xaxis.set_major_formatter(lambda v, _: percent(v))
        axes.grid(axis="x")
        axes.set_xlabel("New customers of the target, of those the reps can win")
        return to_svg(figure)


def contribution(board: pd.DataFrame, money: Callable[[float], str], width_mm: float | None = None) -> bytes:
    """Where the contribution margin of each segment comes from, and the marketing money that it takes."""
    sums = by(board, "segment")
    sums["margin_old"] = sums["margin"] - sums["margin_new"]
    sums = sums.sort_values("contribution", ascending=False, kind="stable").head(12)
    with canvas(24 + 8 * len(sums), width_mm) as figure:
        axes = figure.add_subplot()
        y = _rows(axes, sums.index, 26)
        left = np.zeros(len(sums))
        for column, (words, colour) in PARTS.items():
            part = sums[column].fillna(0.0).clip(lower=0).to_numpy()
            axes.barh(y, part, left=left, height=0.5, color=colour, label=words)
            left += part
        spend = sums["spend"].fillna(0.0).to_numpy()
        axes.barh(y, -spend, height=0.5, color=WARM, label="Marketing money")
        for at, end, total in zip(y, left, sums["contribution"], strict=True):
            axes.annotate(money(total), (end, at), (6, 0), textcoords="offset points", va="center", fontsize=8)
        axes.axvline(0, color=GREY, linewidth=0.7)
        _money_axis(axes, money, bins=5)
        axes.set_xlim(-1.25 * max(float(spend.max(initial=0.0)), 0.02 * float(left.max(initial=1.0))),
                      1.18 * max(float(left.max(initial=0.0)), 1e-9))  # fmt: skip
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, fontsize=7.5)
        return to_svg(figure)


def capacity_table(capacity: pd.DataFrame, money: Callable[[float], str]) -> pd.DataFrame:
    """The busiest territories in words and figures."""
    rows = busiest(capacity)
    return pd.DataFrame({
        "Region": rows["region"], "Reps": rows["reps"].map("{:g}".format), "Can win": rows["capacity"].map(count),
        "Wanted": rows["wanted"].map(count), "Target": rows["target"].map(count),
        "Busy": rows["utilisation"].map(percent), "Moves": rows["change"].map(lambda v: f"{v:+d}" if v else ""),
        "Busy after": rows["utilisation_after"].map(percent),
        "One more rep brings": rows["value_of_next"].round().map(money),
    }).set_axis(pd.Index(rows["territory"], name="Territory"))  # fmt: skip


def scoreboard_table(board: pd.DataFrame, money: Callable[[float], str]) -> pd.DataFrame:
    """The scoreboard by segment, and its total: marketing's measures, sales' measures, and what both come to."""
    sums = pd.concat([by(board, "segment"), by(board, pd.Series("All", index=board.index))])
    columns = {
        "Marketing: money": "spend", "cost of a customer": "cost_per_customer", "a lead is worth": "lead_value",
        "an SQL is worth": "sql_value", "Sales: new customers": "new_customers", "revenue": "revenue",
        "a win is worth": "win_value", "a rep brings": "contribution_per_rep", "Both: contribution": "contribution",
    }  # fmt: skip
    shown = {
        h: sums[c].map(count if c == "new_customers" else money) for h, c in columns.items() if sums[c].notna().any()
    }
    return pd.DataFrame(shown).set_axis(pd.Index(sums.index, name="Segment"))


def limits_table(limits: pd.DataFrame, money: Callable[[float], str]) -> pd.DataFrame:
    """How many targets each limit holds, and how many forecasts it contradicts."""
    held, conflict = (
        limits[limits[c] != ""].groupby(c)["forecast"].agg(["size", "sum"]) for c in ("held_by", "conflict")
    )
    names = sorted(set(held.index) | set(conflict.index))
    both = pd.DataFrame(index=pd.Index(names, name="Limit"))
    both["Targets that it holds"] = held["size"].reindex(names).fillna(0).astype(int)
    both["their forecast"] = held["sum"].reindex(names).fillna(0.0).map(money)
    both["Forecasts that it contradicts"] = conflict["size"].reindex(names).fillna(0).astype(int)
    return both
