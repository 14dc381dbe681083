"""Charts of potential: what holds the company back, and bars that stand in for maps where there are no borders.

Every function takes plain frames and returns a :class:`~micromarket.report.style.Picture` whose title is the finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from micromarket.formats import compact, count, percent
from micromarket.potential.causes import COVERAGE, FIXABLE, KINDS, PRICE, RIVALS, SPEND, UNEXPLAINED
from micromarket.report.style import (
    ACCENT,
    ACCENT_DARK,
    GREY,
    INK,
    WARM,
    Picture,
    canvas,
    label,
)
from micromarket.report.value_figures import SOFT_GREY, finish, legend_above, rows, scale

Show = Callable[[float], str]
# the same colour for a cause in every picture; grey is for what nobody can explain
_COLOURS = {SPEND: ACCENT_DARK, COVERAGE: "#DDA15E", PRICE: "#6FBFBF", RIVALS: WARM, UNEXPLAINED: "#B7C0C8"}
_OTHERS = ("#7A8793", "#2F4858", "#8C6A4A")
_STRUCTURAL, BLOCKED = "#7A8793", "blocked by the field"
MOST_ROWS = 24
_SURE = 0.8  # odds from which a market is taken to be in the top fifth


# --- stand-ins of maps, for companies without borders -----------------------------------------------------------------
def bars_of_markets(
    name: str,
    title: str,
    alt: str,
    values: pd.Series,
    names: pd.Series,
    show: Show,
    unit: str,
    *,
    diverging: bool = False,
    colours: tuple[str, str] = (ACCENT, WARM),
    beside: pd.Series | None = None,
    beside_unit: str = "",
    most: int = 18,
) -> Picture:
    """The largest (if ``diverging`` also the smallest) markets as bars. ``beside``: words written after each bar."""
    ordered = values.dropna().sort_index().sort_values(ascending=False, kind="stable")
    above = ordered[ordered > 0]
    below = ordered[ordered < 0]
    part = pd.concat([above.head(most // 2), below.tail(most // 2)]) if diverging else above.head(most)
    if part.empty:
        part = ordered.head(most)
    with canvas(24 + 4.8 * max(len(part), 1)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(names.get(m, m)) for m in part.index], 34)
        axes.barh(y, part, color=np.where(part >= 0, colours[0], colours[1]), height=0.64)
        axes.axvline(0, color=GREY, linewidth=0.6)
        if beside is not None:
            edge = axes.get_yaxis_transform()
            for at, market in zip(y, part.index, strict=True):
                axes.text(
                    1.01, at, label(beside.get(market, "")), transform=edge, va="center", fontsize=7.2, color=GREY
                )
        scale(axes, show)
        axes.set_xlabel(unit + (f"; right: {beside_unit[:1].lower()}{beside_unit[1:]}" if beside_unit else ""))
        return finish(figure, name, title, alt)


def bars_of_groups(
    name: str,
    title: str,
    alt: str,
    table: pd.DataFrame,
    colours: Sequence[Sequence[str]],
    unit: str,
    show: Show,
    *,
    hatches: Sequence[str] | None = None,
) -> Picture:
    """Rows of ``table`` as stacked bars, one part a column; ``colours``: by row and column."""
    with canvas(26 + 6.0 * max(len(table), 1)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(i) for i in table.index], 36)
        left = np.zeros(len(table))
        several = table.shape[1] > 1
        alike = (
            several and len({tuple(c) for c in colours}) == 1
        )  # one colour a column: a legend says more in less room
        for j, column in enumerate(table.columns):
            values = table[column].to_numpy(float)
            hatch = (hatches or [""] * table.shape[1])[j] or None
            axes.barh(
                y,
                values,
                left=left,
                height=0.66,
                color=[c[j] for c in colours],
                edgecolor="white",
                linewidth=0.6,
                hatch=hatch,
                label=str(column),
            )
            if several:
                for at, start, value in zip(y, left, values, strict=True):
                    if value > 0.07 * max(float(table.sum(axis=1).max()), 1e-9):
                        words = show(value) if alike else f"{column}: {show(value)}"
                        axes.text(
                            start + value / 2,
                            at,
                            words,
                            ha="center",
                            va="center",
                            fontsize=6.8,
                            color=INK,
                            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.8},
                        )
            left = left + values
        if not several:
            for at, end in zip(y, left, strict=True):
                axes.annotate(
                    show(end), (end, at), (4, 0), textcoords="offset points", va="center", fontsize=7.2, color=GREY
                )
        if alike:
            legend_above(axes, table.shape[1])
        scale(axes, show)
        axes.set_xlim(0, max(float(left.max(initial=0.0)), 1e-9) * (1.0 if several else 1.12))
        axes.set_xlabel(unit)
        return finish(figure, name, title, alt)


def cause_colours(causes: Sequence[str]) -> dict[str, str]:
    """A colour for each cause."""
    others = iter(_OTHERS * (1 + len(causes) // len(_OTHERS)))
    return {c: _COLOURS[c] if c in _COLOURS else next(others) for c in map(str, causes)}


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


# --- causes ----------------------------------------------------------------------------------------------------------
def gap_by_cause(causes: pd.DataFrame, today: float, money: Show) -> Picture | None:
    """From today's customers to the potential, step by step of cause, in customers and in money.

    Parameters
    ----------
    causes : DataFrame
        The artefact ``causes``: ``cause`` (words), ``kind`` (fixable, structural), ``customers``, ``value`` (money).
    today : float
        Customers now, as expected.

    Returns
    -------
    Picture or None
        ``None`` where no cause holds a customer.
    """
    # what could be mended but for a note of the field stands by itself
    stopped = (causes["kind"] != FIXABLE) & (causes["cause"].map(KINDS) == FIXABLE)
    causes = causes.assign(cause=causes["cause"].astype(object).where(~stopped, BLOCKED))
    by = causes.groupby(["cause", "kind"], as_index=False)[["customers", "value"]].sum()
    by = by[by["customers"].abs() > 1e-9]
    if by.empty or by["customers"].sum() <= 0:
        return None
    # what can be mended first, what nobody can explain last
    order = np.where(by["kind"] == FIXABLE, 0, np.where(by["cause"] == UNEXPLAINED, 2, 1))
    by = by.assign(order=order).sort_values(["order", "customers", "cause"], ascending=[True, False, True])
    total = float(by["customers"].sum())
    names = ["Customers today (expected)", *(_upper(label(c)) for c in by["cause"]), "Potential"]
    with canvas(28 + 7.0 * len(names)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, names, 36)
        # steps are what matters: the axis may begin above 0, and says so
        low = 0.0 if total > 0.4 * (today + total) else max(today - 1.2 * total, 0.0)
        sizes, values = by["customers"].to_numpy(float), by["value"].to_numpy(float)
        start = today + np.concatenate([[0.0], np.cumsum(sizes)])
        axes.barh(y[[0, -1]], [today, start[-1]], color=SOFT_GREY, height=0.6)
        axes.set_xlim(low, start[-1] + 0.02 * (start[-1] - low))
        for i, (cause, kind) in enumerate(zip(by["cause"].astype(str), by["kind"].astype(str), strict=True)):
            colour = ACCENT if kind == FIXABLE else _COLOURS[UNEXPLAINED] if cause == UNEXPLAINED else _STRUCTURAL
            axes.barh(y[i + 1], sizes[i], left=start[i], color=colour, height=0.6)
            axes.vlines(start[i + 1], y[i + 2] - 0.3, y[i + 1] + 0.3, color=GREY, linewidth=0.5)
            words = f"+{count(sizes[i])} customers · {money(values[i])}"
            words += f" · {kind}" if cause != UNEXPLAINED else ""
            side = -1 if start[i] - low > start[-1] - start[i + 1] else 1  # where there is more room
            end = start[i] if side < 0 else start[i + 1]
            align: Literal["left", "right"] = "right" if side < 0 else "left"
            axes.annotate(
                words, (end, y[i + 1]), (5 * side, 0), textcoords="offset points", va="center", ha=align, fontsize=7.5
            )
        for at, end in ((y[0], today), (y[-1], start[-1])):
            axes.annotate(
                count(end), (end, at), (-5, 0), textcoords="offset points", va="center", ha="right", fontsize=7.5
            )
        scale(axes, compact)
        axes.set_xlabel("Customers" + (" (the axis doesn't begin at 0)" if low > 0 else ""))
        title = _gap_title(by, total, money)
        told = "; ".join(
            f"{label(c, 40)} {count(n)} customers, {money(m)}"
            for c, n, m in zip(by["cause"], sizes, values, strict=True)
        )
        return finish(figure, "gap_by_cause", title, f"From {count(today)} customers to {count(start[-1])}: {told}.")


def _gap_title(by: pd.DataFrame, total: float, money: Show) -> str:
    fixable = by[by["kind"] == FIXABLE]
    if fixable.empty:
        gap = f"{count(total)} customers ({money(by['value'].sum())}) short of potential"
        return f"{gap}; no cause is known that the company can mend"
    customers, worth = float(fixable["customers"].sum()), float(fixable["value"].sum())
    part = f"{percent(customers / total)} of the gap to potential can be mended"
    first = f"{', above all' if len(fixable) > 1 else ':'} {label(fixable.iloc[0]['cause'], 40)}"
    return f"{part} ({count(customers)} customers, {money(worth)}){first}"


def causes_by_region(causes: pd.DataFrame, regions: pd.Series, money: Show, most: int = 14) -> Picture | None:
    """The gap of every region (money) by cause, stacked; ``regions``: by ``market_id``, ``causes`` as in
    :func:`gap_by_cause` with ``market_id``. ``None`` with fewer than two regions."""
    region = causes["market_id"].map(regions)
    known = causes.assign(region=region)[region.notna()]
    table = known.pivot_table(index="region", columns="cause", values="value", aggfunc="sum", fill_value=0.0).clip(
        lower=0
    )
    table = table.loc[:, table.sum() > 0]
    if len(table) < 2 or table.empty or not table.shape[1]:
        return None
    columns = table.sum().sort_values(ascending=False, kind="stable").index
    table = table[columns].loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    first, all_rows = str(table.index[0]), len(table)
    held = float(table.iloc[0].sum() / table.to_numpy().sum())
    title = f"{label(first, 32)} holds {percent(held)} of the money to be won"
    if table.shape[1] > 1:
        title += f"; its largest cause is {label(table.iloc[0].idxmax(), 40)}"
    part = table.head(most)
    colours = cause_colours([str(c) for c in part.columns])
    with canvas(26 + 5.6 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(i) for i in part.index], 26)
        left = np.zeros(len(part))
        for column in part.columns:
            axes.barh(
                y,
                part[column],
                left=left,
                height=0.66,
                color=colours[str(column)],
                edgecolor="white",
                linewidth=0.5,
                label=label(column, 24),
            )
            left = left + part[column].to_numpy(float)
        if len(part.columns) > 1:
            legend_above(axes, min(len(part.columns), 4))
        scale(axes, money)
        axes.set_xlabel(
            "Money to be won" + (f" (the {most} largest of {all_rows} regions)" if len(part) < all_rows else "")
        )
        return finish(figure, "causes_by_region", title, title)


__all__ = ["bars_of_groups", "bars_of_markets", "cause_colours", "causes_by_region", "gap_by_cause"]
