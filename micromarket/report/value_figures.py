"""Pictures of customers' value for people to explore: who is worth what, where they live, which markets decay.

Every function takes plain frames and returns a :class:`~micromarket.report.style.Picture` whose title is the finding.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from micromarket.formats import count, percent
from micromarket.report.style import (
    ACCENT_DARK,
    ACCENT_PALE,
    ACCENT_SOFT,
    FAINT,
    GREY,
    INK,
    SEQUENTIAL,
    WARM,
    WARM_SOFT,
    Picture,
    canvas,
    label,
    to_svg,
)

Money = Callable[[float], str]
SOFT_GREY = "#DDE2E6"
MARKS = ("o", "s", "^", "D", "v", "P")
_TITLE_WIDTH = 102


def finish(figure: Figure, name: str, title: str, alt: str) -> Picture:
    """The figure with its finding set above it."""
    title = title.rstrip(".")
    shown = textwrap.fill(label(title), _TITLE_WIDTH)
    figure.suptitle(shown, x=0.004, ha="left", fontsize=9.5, fontweight=600, color=INK)
    return Picture(name, label(title), label(alt), to_svg(figure))


def show(shown: Picture | None, otherwise: str) -> Any:
    """A picture for the last line of a notebook's cell, with what it says for those who can't see it; without one,
    ``otherwise``."""
    from IPython.display import HTML, Markdown

    if shown is None:
        return Markdown(otherwise.replace("$", r"\$"))  # an amount is no formula
    svg = shown.svg.decode()
    return HTML(
        f'<div class="mathjax_ignore" role="img" aria-label="{html.escape(shown.alt)}">{svg[svg.index("<svg") :]}</div>'
    )


def rows(axes: Axes, names: list[str], width: int = 30) -> np.ndarray:
    """Positions from the top down, with names."""
    y = np.arange(len(names))[::-1].astype(float)
    axes.set_yticks(y, [label(n, width) for n in names])
    axes.set_ylim(-0.7, len(names) - 0.3)
    return y


def scale(axes: Axes, show: Callable[[float], str], which: str = "x", bins: int = 5) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda v, _: show(v))
    axes.grid(axis="x" if which == "x" else "y")


def legend_above(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, handletextpad=0.3, borderpad=0, columnspacing=1.4
    )


# --- who -------------------------------------------------------------------------------------------------------------
def concentration_curve(curve: pd.DataFrame, top_tenth: float, value: str) -> Picture:
    """Share of ``value`` (words) that the best customers hold. ``curve``: customers, value (fractions, cumulative)."""
    with canvas(64) as figure:
        axes = figure.add_subplot()
        x, y = curve["customers"].to_numpy(float), curve["value"].to_numpy(float)
        axes.fill_between(x, y, color=ACCENT_PALE, linewidth=0)
        axes.plot(x, y, color=ACCENT_DARK)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
        axes.annotate("all alike", (0.72, 0.72), (4, -10), textcoords="offset points", color=GREY, fontsize=7.5)
        axes.scatter([0.1], [top_tenth], s=30, color=ACCENT_DARK, zorder=3)
        axes.annotate(
            f"best tenth: {percent(top_tenth)}", (0.1, top_tenth), (8, -9), textcoords="offset points", fontweight=600
        )
        scale(axes, percent, "y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda v, _: percent(v))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(1.02, float(y.max()) * 1.02))
        axes.set_xlabel("Share of customers, best first")
        axes.set_ylabel("Share of value")
        title = f"The best tenth of the customers bring {percent(top_tenth)} of the {value}"
        return finish(figure, "concentration", title, f"Cumulative share of the {value} over customers, best first.")


def profile(frame: pd.DataFrame, trait: str, most: int = 12) -> Picture | None:
    """Where the best tenth are found: rows of one ``trait`` of :func:`~micromarket.value.explore.best_customers`.

    ``None`` where the trait has no groups large enough.
    """
    part = frame[frame["trait"] == trait].sort_values(["index", "name"], ascending=[False, True])
    if part.empty:
        return None
    ends = part if len(part) <= most else pd.concat([part.head(most // 2), part.tail(most // 2)])
    with canvas(19 + 5.4 * len(ends)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(n) for n in ends["name"]])
        low, value, high = (ends[c].clip(lower=_LEAST) for c in ("index_low", "index", "index_high"))
        sure = ((ends["index_low"] > 1) | (ends["index_high"] < 1)).to_numpy()
        axes.barh(y, high - low, left=low, height=0.42, color=np.where(sure, ACCENT_SOFT, SOFT_GREY))
        axes.scatter(value, y, s=28, color=np.where(sure, ACCENT_DARK, FAINT), zorder=3)
        axes.axvline(1, color=GREY, linewidth=0.7)
        right = axes.get_yaxis_transform()
        for at, customers, best in zip(y, ends["customers"], ends["best"], strict=True):
            text = f"{count(best) if np.isfinite(best) else 'few'} of {count(customers)}"
            axes.text(1.01, at, text, transform=right, va="center", fontsize=7.2, color=GREY)
        axes.set_xscale("log")
        _ratio_ticks(axes, min(float(low.min()), 0.9) / 1.1, max(float(high.max()), 1.1) * 1.1)
        axes.grid(axis="x")
        axes.set_xlabel(
            "Odds of being among the best tenth, against the company (bar: 90%); right: best of all customers"
        )
        first = part.iloc[0]
        title = (
            f"Best customers by {trait}: {label(first['name'], 32)} holds {first['index']:.2g} times its share of them"
            if first["index_low"] > 1
            else f"Best customers are spread over every {trait} much as all customers are"
        )
        if len(ends) < len(part):
            title += f" (highest and lowest {most // 2} of {len(part):,})"
        alt = "; ".join(f"{label(n, 30)} {i:.2g}" for n, i in zip(ends["name"], ends["index"], strict=True))
        return finish(figure, f"profile_{trait}", title, alt)


_LEAST = 0.05  # a ratio is drawn no lower: beyond, it is next to none
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_NEAR_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0)


def _ratio_ticks(axes: Axes, low: float, high: float) -> None:
    axes.set_xlim(low, high)
    ticks = [t for t in (_NEAR_TICKS if high / low < 3.5 else _TICKS) if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:g}×" for t in ticks])
    axes.minorticks_off()


# --- cohorts ---------------------------------------------------------------------------------------------------------
def cohort_heat(cohorts: pd.DataFrame, contractual: bool, most_ages: int = 13) -> Picture:
    """Active customers of each acquisition quarter, as a share of it, by quarters since; from ``explore.cohorts``."""
    shown = cohorts[cohorts["age"] < most_ages].assign(share=lambda d: d["active"] / d["customers"])
    table = shown.pivot(index="quarter", columns="age", values="share").sort_index()
    names = cohorts.drop_duplicates("quarter").set_index("quarter")["cohort"]
    sizes = cohorts.drop_duplicates("quarter").set_index("quarter")["customers"]
    with canvas(22 + 5.0 * len(table)) as figure:
        axes = figure.add_subplot()
        values = table.to_numpy(float)
        top = max(
            float(np.nanmax(values[:, 1:])) if values.shape[1] > 1 and np.isfinite(values[:, 1:]).any() else 1, 0.01
        )
        axes.imshow(np.ma.masked_invalid(values), cmap=SEQUENTIAL, vmin=0, vmax=top, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > 0.6 * top else INK
                axes.text(j, i, percent(value), ha="center", va="center", fontsize=6.8, color=colour)
        ticks = [f"{names[q]}  ({count(sizes[q])})" for q in table.index]
        axes.set_yticks(np.arange(len(table)), ticks)
        axes.set_xticks(np.arange(len(table.columns)), [str(a) for a in table.columns])
        axes.spines["bottom"].set_visible(False)
        what = "still there at the quarter's end" if contractual else "who buy in the quarter"
        axes.set_xlabel(f"Quarters since they were won; share of customers {what}")
        axes.set_ylabel("Won in (customers)")
        return finish(figure, "cohorts", _cohort_title(table, contractual), "Share of each cohort's customers by age.")


def _cohort_title(table: pd.DataFrame, contractual: bool) -> str:
    verb = "are still there" if contractual else "buy in a quarter"
    if 4 not in table.columns or table[4].notna().sum() < 4:
        return f"How many customers of each acquisition quarter {verb}, quarter by quarter"
    year = table[4].dropna()
    recent, before = percent(float(year.tail(2).mean())), percent(float(year.head(2).mean()))
    return (
        f"A year after they were won, {recent} of the latest customers {verb}, against {before} of the earliest shown"
    )


# --- markets ---------------------------------------------------------------------------------------------------------
def value_by_market(
    markets: pd.DataFrame, cells: pd.DataFrame, names: Mapping[str, str], money: Money, *, signal: str, most: int = 20
) -> Picture:
    """Lifetime value of a customer by market, as dots on soft bars (90%), with the segments' values as small marks.

    ``markets``, ``cells``: the artefacts value_markets and value_cells; ``signal``: the verdict (clear, weak, none).
    Highest and lowest where there are more than ``most``; all greyed where markets don't differ beyond chance.
    """
    order = markets[markets["customers"] > 0].sort_values(["clv", "market_id"], ascending=[False, True])
    part = order if len(order) <= most else pd.concat([order.head(most // 2), order.tail(most // 2)])
    none = signal == "none"
    with canvas(24 + 5.0 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(names.get(m, m)) for m in part["market_id"]], 26)
        axes.barh(
            y,
            part["clv_high"] - part["clv_low"],
            left=part["clv_low"],
            height=0.46,
            color=SOFT_GREY if none else ACCENT_SOFT,
        )
        segments = sorted(cells["segment"].astype(str).unique())
        if 1 < len(segments) <= len(MARKS):
            for mark, segment in zip(MARKS[1:] + MARKS[:1], segments, strict=False):
                own = cells[(cells["segment"].astype(str) == segment) & (cells["customers"] > 0)].set_index(
                    "market_id"
                )["clv"]
                at = own.reindex(part["market_id"]).to_numpy(float)
                axes.scatter(at, y, s=11, marker=mark, facecolor="none", edgecolor=GREY, linewidth=0.7, zorder=2,
                             label=label(segment, 20))  # fmt: skip
        axes.scatter(
            part["clv"], y, s=28, color=FAINT if none else ACCENT_DARK, zorder=3, linewidth=0, label="all customers"
        )
        scale(axes, money)
        axes.set_xlabel("Lifetime value of a customer (bar: 90%; small marks: segments)")
        # rows of a legend that is wider than the picture would squeeze the axes
        legend_above(axes, min(len(segments) + 1, 4 if max(map(len, segments)) < 16 else 3))
        if none:
            title = "Lifetime value doesn't differ between markets beyond chance: the order here means nothing"
        else:
            (top, best), (bottom, worst) = (
                (label(names.get(row["market_id"], row["market_id"]), 24), money(row["clv"]))
                for _, row in part.iloc[[0, -1]].iterrows()
            )
            title = f"A customer is worth {best} in {top} and {worst} in {bottom}"
        if len(part) < len(order):
            title += f" (highest and lowest {most // 2} of {len(order):,})"
        return finish(figure, "value_markets", title, title)


# --- decay -----------------------------------------------------------------------------------------------------------
def decaying(table: pd.DataFrame, names: Mapping[str, str], text: str, absolute: bool, most: int = 16) -> Picture:
    """The markets that lose most, with the range of their trend; from ``decay.market_trends``: ``table``, ``text``.

    ``absolute``: of the active customers themselves (two years of history), not against the company.
    """
    part = table.head(most)
    with canvas(22 + 5.4 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(names.get(m, m)) for m in part["market_id"]], 26)
        sure = part["decays"].to_numpy(bool)
        low, high = part["trend_low"], part["trend_high"]
        axes.barh(y, high - low, left=low, height=0.44, color=np.where(sure, WARM_SOFT, SOFT_GREY))
        axes.scatter(part["trend"], y, s=28, color=np.where(sure, WARM, FAINT), zorder=3, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.7)
        edge = axes.get_yaxis_transform()
        for at, active in zip(y, part["active"], strict=True):
            axes.text(1.01, at, f"{count(active)} active", transform=edge, va="center", fontsize=7.2, color=GREY)
        scale(axes, lambda v: percent(v, sign=True))
        axes.margins(x=0.03)
        against = "" if absolute else " against the company's"
        axes.set_xlabel(f"Change of active customers a year{against} (bar: 90%; orange: beyond chance)")
        return finish(figure, "decay", text, text)
