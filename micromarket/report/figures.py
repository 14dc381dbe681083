"""The charts of the plan. Every one: the finding as its title (set above it), units, uncertainty, nothing idle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.ticker import MaxNLocator

from micromarket.formats import compact, count, percent, rate, rate_unit
from micromarket.report.style import (
    ACCENT,
    ACCENT_DARK,
    ACCENT_PALE,
    ACCENT_SOFT,
    GREY,
    INK,
    LINE,
    WARM,
    canvas,
    label,
    to_svg,
)

Money = Callable[[float], str]
# the same colour and mark in every plan
QUADRANTS = {"Grow": (ACCENT_DARK, "^"), "Defend": ("#6FBFBF", "o"), "Fix": (WARM, "s"), "Maintain": ("#A9B2BA", "D")}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FAMILY = (ACCENT, WARM, "#7A8793", "#3FA0A0", "#DDA15E", "#2F4858", "#B7C0C8")


def _money_axis(axes: Axes, money: Money, which: Literal["x", "y"] = "x", bins: int = 5) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(bins))
    axis.set_major_formatter(lambda v, _: money(v))
    axes.grid(axis=which)


def _rows(axes: Axes, names: pd.Index, width: int = 30) -> np.ndarray:
    """Positions from the top down, with names."""
    y = np.arange(len(names))[::-1].astype(float)
    axes.set_yticks(y, [label(n, width) for n in names])
    axes.set_ylim(-0.7, len(names) - 0.3)
    return y


def tenths(by: pd.DataFrame, height_mm: float = 62) -> bytes:
    """Share of spend against share of opportunity, from the markets worth least to those worth most."""
    with canvas(height_mm) as figure:
        axes = figure.add_subplot()
        x = np.arange(len(by))
        bars = (
            (-0.205, "spend_share", WARM, "Share of spend"),
            (0.205, "opportunity_share", ACCENT, "Share of opportunity"),
        )
        for shift, column, colour, name in bars:
            axes.bar(x + shift, by[column], width=0.37, color=colour, label=name)
            for at, value in zip(x + shift, by[column], strict=True):
                axes.annotate(
                    percent(value),
                    (at, max(value, 0)),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=7,
                    color=GREY,
                )
        step = "tenth" if len(by) == 10 else "fifth"
        ticks = [f"Lowest {step}", *(str(i) for i in range(2, len(by))), f"Highest {step}"]
        axes.set_xticks(x, ticks)
        axes.set_xlabel("Markets in order of customer lifetime value")
        axes.set_yticks([])
        axes.margins(y=0.14, x=0.02)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.02), ncols=2, handlelength=1, borderpad=0, columnspacing=1.6)
        return to_svg(figure)


def from_to(by: pd.DataFrame, money: Money, height_mm: float | None = None, width_mm: float | None = None) -> bytes:
    """Money now (hollow) and recommended (full), with the change written beside; one row a group."""
    with canvas(height_mm or 16 + 6.2 * len(by), width_mm) as figure:
        axes = figure.add_subplot()
        y = _rows(axes, by.index, 22 if width_mm is None else 16)
        change = (by["recommended"] - by["current"]).to_numpy()
        colours = np.where(change >= 0, ACCENT, WARM)
        axes.hlines(y, by["current"], by["recommended"], color=colours, linewidth=2.4, alpha=0.45)
        axes.scatter(by["current"], y, s=26, facecolor="white", edgecolor=GREY, linewidth=1.1, zorder=3)
        axes.scatter(by["recommended"], y, s=30, color=colours, zorder=4, linewidth=0)
        right = by[["current", "recommended"]].max(axis=1)
        for at, end, moved in zip(y, right, change, strict=True):
            sign = "+" if moved > 0 else ""
            axes.annotate(
                f"{sign}{money(moved)}",
                (end, at),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=ACCENT if moved >= 0 else WARM,
            )
        _money_axis(axes, money, bins=4)
        # dots, not bars: the axis need not start at zero, and differences stay visible
        left = float(by[["current", "recommended"]].min().min())
        span = float(right.max()) - left or max(abs(left), 1.0)
        axes.set_xlim(max(left - 0.12 * span, 0 - 0.02 * span), float(right.max()) + 0.3 * span)
        axes.set_xlabel("Money: now (open), plan (full)")
        return to_svg(figure)


def dots_on_bars(
    frame: pd.DataFrame,
    unit: str,
    show: Money,
    *,
    height_mm: float | None = None,
    width: int = 30,
    width_mm: float | None = None,
) -> bytes:
    """``value`` as a dot on a soft bar from ``low`` to ``high`` (90%), one row an index label."""
    with canvas(height_mm or 15 + 5.6 * len(frame), width_mm) as figure:
        axes = figure.add_subplot()
        y = _rows(axes, frame.index, width)
        known = frame["low"].notna() & frame["high"].notna()
        axes.barh(
            y[known], (frame["high"] - frame["low"])[known], left=frame["low"][known], height=0.42, color=ACCENT_SOFT
        )
        axes.scatter(frame["value"], y, s=28, color=ACCENT_DARK, zorder=3, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.7)
        _money_axis(axes, show, bins=5 if width_mm is None else 4)
        axes.set_xlabel(unit)
        return to_svg(figure)


def frontier(
    points: pd.DataFrame, total: float, money: Money, height_mm: float = 58, width_mm: float | None = None
) -> bytes:
    """Gain against the total budget with its 90% band; the plan's own total marked."""
    with canvas(height_mm, width_mm) as figure:
        axes = figure.add_subplot()
        axes.fill_between(points["total"], points["low"], points["high"], color=ACCENT_SOFT, alpha=0.55, linewidth=0)
        axes.plot(points["total"], points["value"], color=ACCENT_DARK)
        axes.axhline(0, color=GREY, linewidth=0.7)
        here = float(np.interp(total, points["total"], points["value"]))
        axes.axvline(total, color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
        axes.scatter([total], [here], s=34, color=ACCENT_DARK, zorder=4, edgecolor="white", linewidth=0.8)
        axes.annotate("This plan", (total, here), (6, -11), textcoords="offset points", fontsize=8, fontweight=600)
        _money_axis(axes, money, "x", 6 if width_mm is None else 4)
        _money_axis(axes, money, "y", 5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("Total budget over the plan period")
        axes.set_ylabel("Margin gained (band: 90%)")
        axes.margins(x=0.01)
        return to_svg(figure)


def columns(values: pd.Series, unit: str, show: Money, height_mm: float = 48, width_mm: float | None = None) -> bytes:
    """One bar a period (or group)."""
    with canvas(height_mm, width_mm) as figure:
        axes = figure.add_subplot()
        x = np.arange(len(values))
        axes.bar(x, values, width=0.66, color=ACCENT)
        step = max(1, int(np.ceil(len(values) / (13 if width_mm is None else 5))))
        axes.set_xticks(x[::step], [label(i, 12) for i in values.index[::step]])
        if len(values) <= (13 if width_mm is None else 6):
            for at, value in zip(x, values, strict=True):
                axes.annotate(
                    show(value),
                    (at, value),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=6.8,
                    color=GREY,
                )
            axes.set_yticks([])
        else:
            _money_axis(axes, show, "y", 4)
        axes.set_ylabel(unit)
        axes.margins(x=0.01, y=0.12)
        return to_svg(figure)


def odds(p: pd.Series, wanted: float | None, height_mm: float = 44, width_mm: float | None = None) -> bytes:
    """How many markets have which odds of reaching their target."""
    with canvas(height_mm, width_mm) as figure:
        axes = figure.add_subplot()
        edges = np.linspace(0, 1, 21)
        counts, _ = np.histogram(p.dropna().clip(0, 1), bins=edges)
        axes.bar(edges[:-1] + 0.025, counts, width=0.044, color=ACCENT)
        if wanted is not None:
            axes.axvline(wanted, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
            right = wanted < 0.7
            axes.annotate(
                f"wanted: {percent(wanted)}",
                (wanted, max(counts.max(), 1) * 1.24),
                (4 if right else -4, 0),
                textcoords="offset points",
                fontsize=7.5,
                color=GREY,
                va="top",
                ha="left" if right else "right",
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(counts.max(), 1) * 1.25)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda v, _: percent(v))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(lambda v, _: compact(v))
        axes.grid(axis="y")
        axes.set_xlabel("Odds that a market reaches its target")
        axes.set_ylabel("Markets")
        return to_svg(figure)


def funnel(steps: pd.Series, rates: Sequence[str], height_mm: float | None = None) -> bytes:
    """Leads to won, centred bars with the share that goes on between them; widths are on a square-root scale."""
    with canvas(height_mm or 8 + 11 * len(steps)) as figure:
        axes = figure.add_subplot()
        y = np.arange(len(steps))[::-1].astype(float)
        width = np.sqrt(steps.clip(lower=0) / max(float(steps.max()), 1e-9))
        shades = [ACCENT_SOFT, "#7DBBBC", "#4A9A9D", ACCENT, ACCENT_DARK][-len(steps) :]
        axes.barh(y, width, left=-width / 2, height=0.62, color=shades)
        for at, name, value in zip(y, steps.index, steps, strict=True):
            axes.text(-0.56, at, name, ha="right", va="center", fontsize=8.5, fontweight=600)
            axes.text(0.56, at, count(value), ha="left", va="center", fontsize=9, fontweight=600)
        for i, rate in enumerate(rates):
            axes.text(0.72, y[i] - 0.5, f"↓ {rate} go on", ha="left", va="center", fontsize=7.5, color=GREY)
        axes.set_xlim(-1.1, 1.1)
        axes.set_ylim(-0.5, len(steps) - 0.5)
        axes.axis("off")
        return to_svg(figure)


def plays(frame: pd.DataFrame, x: str, unit: str, money: Money, height_mm: float = 74) -> bytes:
    """Every market: how much we have (``x``, a fraction) against what is still to be won, marked by its quadrant."""
    with canvas(height_mm) as figure:
        axes = figure.add_subplot()
        known = frame[(frame["opportunity"] > 0) & frame[x].notna()]
        kinds = known["quadrant"].fillna("none").astype(str)
        names = sorted(kinds.unique(), key=lambda k: (not k.startswith(tuple(QUADRANTS)), k))[: len(MARKERS)]
        size = float(np.clip(6000 / max(len(known), 1), 8, 26))
        for i, name in enumerate(names):
            part = known[kinds == name]
            points = axes.scatter(
                part[x],
                part["opportunity"],
                s=size,
                color=QUADRANTS.get(name.split(":")[0], (FAMILY[i % len(FAMILY)], ""))[0],
                alpha=0.85,
                marker=QUADRANTS.get(name.split(":")[0], ("", MARKERS[i % len(MARKERS)]))[1],
                linewidth=0.3,
                edgecolor="white",
                label=f"{label(name.split(':')[0], 18)} ({count(len(part))})",
            )
            points.set_rasterized(len(known) > 3000)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda v, _: money(v))
        axes.yaxis.set_minor_formatter(lambda *_: "")
        axes.tick_params(which="minor", length=0)
        factor, words = rate_unit(known[x])
        axes.xaxis.set_major_locator(MaxNLocator(7))
        axes.xaxis.set_major_formatter(lambda v, _: rate(v, factor, 0 if (v * factor).is_integer() else 1))
        axes.grid(color=LINE)
        axes.set_xlabel(unit if factor == 100 else f"{unit} ({words})")
        axes.set_ylabel("Opportunity, log scale")
        legend = axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=min(len(names), 5), handletextpad=0.2
        )
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([26.0])
        return to_svg(figure)


def share_line(by: pd.Series, height_mm: float = 40, width_mm: float | None = None) -> bytes:
    """How much of the opportunity the best markets hold: cumulative share, best first."""
    with canvas(height_mm, width_mm) as figure:
        axes = figure.add_subplot()
        ordered = by.clip(lower=0).sort_values(ascending=False, kind="stable").to_numpy()
        cumulative = np.concatenate([[0.0], np.cumsum(ordered) / max(ordered.sum(), 1e-12)])
        x = np.linspace(0, 1, len(cumulative))
        keep = np.unique(np.linspace(0, len(x) - 1, 400).astype(int))
        axes.fill_between(x[keep], cumulative[keep], color=ACCENT_PALE, linewidth=0)
        axes.plot(x[keep], cumulative[keep], color=ACCENT_DARK)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
        fifth = float(cumulative[int(np.ceil((len(cumulative) - 1) / 5))])  # as the potential stage counts it
        axes.scatter([0.2], [fifth], s=28, color=ACCENT_DARK, zorder=3)
        axes.annotate(
            f"best fifth: {percent(fifth)}", (0.2, fifth), (7, -8), textcoords="offset points", fontweight=600
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(lambda v, _: percent(v))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(axis="y")
        axes.set_xlabel("Share of markets, most opportunity first")
        axes.set_ylabel("Share of opportunity")
        return to_svg(figure)
