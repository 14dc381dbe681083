"""Pictures of response and of the plans made on it: curves with their data, channels by return, plans side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from micromarket.formats import compact, percent
from micromarket.formats import odds as odds_text
from micromarket.report.figures import Money
from micromarket.report.style import (
    ACCENT,
    ACCENT_DARK,
    ACCENT_PALE,
    ACCENT_SOFT,
    GREY,
    INK,
    WARM,
    canvas,
    label,
    to_svg,
)

MOST = 6


def curves_with_data(lines: pd.DataFrame, points: pd.DataFrame, height_mm: float | None = None) -> bytes:
    """New customers against money, a panel a channel: the curve, its 90% range, and what past weeks showed.

    ``lines``, ``points``: see :func:`.response_views.curve_lines`, :func:`.response_views.curve_points`. The dotted
    line is where the next unit of money brings half of what it brings today.
    """
    size = lines.groupby("channel")["customers"].max().sort_values(ascending=False, kind="stable")
    channels = list(size.index[:MOST])
    columns = min(len(channels), 2) or 1
    rows = -(-len(channels) // columns) or 1
    with canvas(height_mm or 6 + 50 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, channel in zip(axes, channels, strict=False):
            line = lines[lines["channel"] == channel]
            seen = points[points["channel"] == channel]
            axis.fill_between(line["multiple"], line["low"], line["high"], color=ACCENT_PALE, linewidth=0)
            axis.plot(line["multiple"], line["customers"], color=ACCENT_DARK)
            top = float(line["high"].max())
            half = line[line["marginal"] <= 0.5]
            if len(half):
                at = float(half["multiple"].iloc[0])
                axis.axvline(at, color=WARM, linewidth=0.9, linestyle=(0, (1, 2)))
                left = at > 1.6
                axis.annotate("next unit half as good", (at, 0), (-3 if left else 3, 3), textcoords="offset points",
                              ha="right" if left else "left", fontsize=7, color=WARM)  # fmt: skip
            if len(seen):
                size_ = 8 + 26 * np.sqrt(seen["weeks"] / seen["weeks"].max())
                axis.vlines(seen["multiple"], seen["low"], seen["high"], color=GREY, linewidth=0.8)
                axis.scatter(seen["multiple"], seen["customers"], s=size_, color="white", edgecolor=INK, linewidth=0.9,
                             zorder=3)  # fmt: skip
                top = max(top, min(float(seen["high"].max()), 1.6 * top))
            now = line.iloc[int(np.argmin(np.abs(line["multiple"] - 1)))]
            axis.scatter([1], [now["customers"]], s=34, color=ACCENT, zorder=4)
            axis.set_title(f"{label(channel, 28)}: {percent(now['share'])} saturated today")
            axis.set_xlim(0, 3)
            axis.set_ylim(min(0.0, float(seen["low"].min()) if len(seen) else 0.0, 0.0) if len(seen) else 0, 1.05 * top)
            axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}x")
            axis.yaxis.set_major_locator(MaxNLocator(4))
            axis.yaxis.set_major_formatter(lambda v, _: compact(v))
            axis.grid(axis="y")
        for axis in axes[len(channels) :]:
            axis.axis("off")
        for axis in axes[: len(channels)][-columns:]:
            axis.set_xlabel("Money, times today's")
        for axis in axes[::columns][:rows]:
            axis.set_ylabel("New customers over the plan")
        return to_svg(figure)


def odds_of_channels(returns: pd.DataFrame, height_mm: float | None = None) -> bytes:
    """Odds that a channel's next unit of money beats the average unit; an even chance in the middle."""
    ordered = returns.sort_values("odds", kind="stable")
    with canvas(height_mm or 14 + 7 * len(ordered)) as figure:
        axes = figure.add_subplot()
        y = np.arange(len(ordered))
        away = ordered["odds"].to_numpy() - 0.5
        axes.barh(y, away, left=0.5, height=0.5, color=np.where(away >= 0, ACCENT, WARM))
        axes.axvline(0.5, color=GREY, linewidth=0.8)
        axes.set_yticks(y, [label(c, 30) for c in ordered.index])
        for at, odds in zip(y, ordered["odds"], strict=True):
            right = odds >= 0.5
            axes.annotate(percent(odds), (odds, at), (4 if right else -4, 0), textcoords="offset points", va="center",
                          ha="left" if right else "right", fontsize=7.5, color=INK)  # fmt: skip
        axes.set_xlim(-0.06, 1.06)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["surely worse", "", "even", "", "surely better"])
        axes.set_xlabel("Odds that the next unit of money here brings more than the average unit")
        return to_svg(figure)


def plans_side_by_side(plans: pd.DataFrame, money: Money, height_mm: float | None = None) -> bytes:
    """Expected gain and 90% range of every plan, with what it moves and its odds. ``plans``: see `plans_beside`."""
    with canvas(height_mm or 16 + 9 * len(plans)) as figure:
        axes = figure.add_subplot()
        y = np.arange(len(plans))[::-1].astype(float)
        first = plans.index == plans.index[0]
        axes.hlines(y, plans["low"], plans["high"], color=np.where(first, ACCENT_SOFT, "#D5DADE"), linewidth=7)
        axes.scatter(plans["value"], y, s=36, color=np.where(first, ACCENT_DARK, GREY), zorder=3)
        axes.axvline(0, color=GREY, linewidth=0.8)
        words = []
        for name, row_odds, moved in zip(plans.index, plans["odds"], plans["moved"], strict=True):
            chance = f", gains at odds of {odds_text(row_odds)}" if row_odds == row_odds else ""  # NaN: none to state
            words.append(f"{label(name, 24)}\nmoves {money(moved)}{chance}")
        axes.set_yticks(y, words)
        axes.set_ylim(-0.6, len(plans) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda v, _: money(v))
        axes.grid(axis="x")
        axes.set_xlabel("Gain over keeping today's money (dot: expected; bar: 90% range)")
        return to_svg(figure)
