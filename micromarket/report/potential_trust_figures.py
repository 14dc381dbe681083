"""How far potential can be trusted: were held-out areas foreseen, and how sure are the ranks?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from micromarket.formats import chance, compact, percent, plural, rate_unit
from micromarket.formats import odds as odds_in_words
from micromarket.report.style import (
    ACCENT,
    ACCENT_DARK,
    ACCENT_SOFT,
    FAINT,
    GREY,
    INK,
    LINE,
    WARM,
    Picture,
    canvas,
    label,
)
from micromarket.report.value_figures import SOFT_GREY, finish, rows, scale

Show = Callable[[float], str]
MOST_ROWS = 30
_SURE = 0.8  # odds from which a market is taken to be in the top fifth


def predicted_by_region(
    frame: pd.DataFrame, skill: float | None = None, what: str = "penetration", least: int = 0
) -> Picture | None:
    """What models foresaw for areas that they had not seen, against what is there: by market, and by region.

    Parameters
    ----------
    frame : DataFrame
        One row a market: ``region`` (may be missing), ``predicted`` and ``actual`` customers, ``size`` (buyers; missing
        or absent: counts are compared).
    skill : float, optional
        Rank correlation out of fold, for the title.
    least : int
        Smallest group of customers that is shown: markets in which fewer are expected are left out, those that turn out
        to have fewer are drawn at the lower edge.

    Returns
    -------
    Picture or None
        ``None`` with fewer than five markets.
    """
    known = frame[(frame["predicted"] > 0) & np.isfinite(frame["predicted"])]
    # the order is what is judged: the level is the company's, as a typical market's prediction is no mean
    known = known.assign(predicted=known["predicted"] * known["actual"].sum() / max(known["predicted"].sum(), 1e-12))
    part = known[known["predicted"] >= least]
    if len(part) < 5:
        return None
    size = part["size"] if "size" in part and (part["size"] > 0).all() else pd.Series(1.0, index=part.index)
    relative = bool((size != 1).any())
    by = _by_region(known, least)
    with canvas(74 if by is None else max(74, 22 + 3.6 * len(by))) as figure:
        left, right = (figure.add_subplot(), None) if by is None else figure.subplots(1, 2, width_ratios=[1.15, 1])
        x, y = (part["predicted"] / size).to_numpy(float), (part["actual"] / size).to_numpy(float)
        factor, words = rate_unit(y) if relative else (1.0, "customers")
        seen = part["actual"].to_numpy(float) >= max(least, 1)
        low = min(float(np.quantile(x, 0.01)), float(np.quantile(y[seen], 0.01)) if seen.any() else np.inf) * factor
        high = max(float(x.max()), float(y.max())) * factor * 1.3
        shown, area = np.where(seen, np.maximum(y * factor, low), low), float(np.clip(4000 / len(part), 2.5, 22))
        points = left.scatter(x * factor, shown, s=area, color=ACCENT, alpha=0.45, linewidth=0)
        points.set_rasterized(len(part) > 3000)
        left.plot([low, high], [low, high], color=INK, linewidth=0.8)
        left.set_xscale("log")
        left.set_yscale("log")
        left.set_xlim(low * 0.8, high)
        left.set_ylim(low * 0.8, high)
        for axis in (left.xaxis, left.yaxis):
            if high / low < 100:
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(lambda v, _: compact(v))
        left.minorticks_off()
        left.grid(color=LINE)
        unit = f"{what} ({words})" if relative else "customers"
        left.set_xlabel(f"Predicted without the area's own data: {unit}")
        left.set_ylabel(f"Actual {unit}")
        if not seen.all():
            few = "without customers" if least < 2 else f"with fewer than {least} customers"
            left.annotate(
                f"{plural(int((~seen).sum()), 'market')} {few}, at the lower edge",
                (0.99, 0.03),
                xycoords="axes fraction",
                ha="right",
                fontsize=7,
                color=GREY,
            )
        title = "How markets were foreseen by models that had not seen their area"
        if skill is not None and np.isfinite(skill):
            strength = "well" if skill >= 0.7 else "fairly well" if skill >= 0.4 else "poorly"
            title = f"Areas that the models had not seen were foreseen {strength}: rank correlation {skill:.2f}"
        if by is not None and right is not None:
            title += _regions(right, by)
        return finish(figure, "predicted_by_region", title, f"{title}. One dot a market.")


def _by_region(part: pd.DataFrame, least: int) -> pd.DataFrame | None:
    if "region" not in part or part["region"].nunique() < 2:
        return None
    by = part[part["region"].notna()].groupby("region")[["predicted", "actual"]].sum()
    by["ratio"] = by["actual"] / by["predicted"]
    by = by[by["actual"] >= max(least, 1)]
    if len(by) < 2:
        return None
    by = by.sort_index().sort_values("actual", ascending=False, kind="stable").head(MOST_ROWS)
    return by.sort_values("ratio", ascending=False, kind="stable")


def _regions(axes: Axes, by: pd.DataFrame) -> str:
    """Actual over predicted by region, with the range of counting noise (90%)."""
    y = rows(axes, [str(r) for r in by.index], 20)
    axes.tick_params(axis="y", labelsize=8 if len(by) < 16 else 7)
    noise = np.exp(1.645 / np.sqrt(np.maximum(by["actual"], 1.0)))
    axes.hlines(y, by["ratio"] / noise, by["ratio"] * noise, color=ACCENT_SOFT, linewidth=4)
    far = ((by["ratio"] / noise > 1) | (by["ratio"] * noise < 1)).to_numpy()
    axes.scatter(by["ratio"], y, s=22, color=np.where(by["ratio"] >= 1, ACCENT_DARK, WARM), zorder=3, linewidth=0)
    axes.axvline(1, color=GREY, linewidth=0.7)
    axes.set_xscale("log")
    low, high = float((by["ratio"] / noise).min()), float((by["ratio"] * noise).max())
    wide = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    ticks = [
        t for t in (wide if high / low > 3 else (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8)) if low <= t <= high
    ]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) < 6 else ticks[::2]))
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}×")
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.grid(axis="x")
    axes.set_xlabel("Actual over predicted (bar: 90%)")
    if not far.any():
        return ""
    off = by["ratio"].apply(np.log).abs().idxmax()
    ratio = float(by.loc[off, "ratio"])
    words = f"{ratio:.1f} times" if ratio >= 1.15 else percent(ratio) + " of"
    return f"; {label(off, 28)} has {words} what was foreseen"


def ranks(
    scores: pd.DataFrame, names: pd.Series, money: Show, *, supported: bool = True, most: int = 20
) -> Picture | None:
    """The markets with most headroom, with the odds that each is truly among the top fifth by headroom.

    Parameters
    ----------
    scores : DataFrame
        ``market_id``, ``headroom`` (customers), ``opportunity`` (money), ``top_fifth`` (probability); where known
        ``headroom_low``, ``headroom_high`` (90%).
    supported : bool
        ``False``: the data support no order; everything is grey.

    Returns
    -------
    Picture or None
        ``None`` with fewer than five markets, or without odds.
    """
    if "top_fifth" not in scores:
        return None
    known = scores[scores["top_fifth"].notna()].sort_values(["headroom", "market_id"], ascending=[False, True])
    if len(known) < 5:
        return None
    fifth = int(np.ceil(len(scores) / 5))
    sure = int((known["top_fifth"].head(fifth) >= _SURE).sum())
    part = known.head(most)
    with canvas(28 + 4.6 * len(part)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.9, 1])
        y = rows(left, [f"{i}. {label(names.get(m, m), 26)}" for i, m in enumerate(part["market_id"], start=1)], 34)
        odds = part["top_fifth"].to_numpy(float)
        if {"headroom_low", "headroom_high"} <= set(part.columns):
            left.hlines(
                y,
                part["headroom_low"],
                part["headroom_high"],
                linewidth=5,
                color=ACCENT_SOFT if supported else SOFT_GREY,
            )
        colours = np.where(odds >= _SURE, ACCENT_DARK, np.where(odds >= 0.5, "#3FA0A0", WARM))
        left.scatter(part["headroom"], y, s=24, color=colours if supported else FAINT, zorder=3, linewidth=0)
        edge = left.get_yaxis_transform()
        for at, value, p in zip(y, part["opportunity"], odds, strict=True):
            left.text(1.02, at, odds_in_words(p), transform=edge, va="center", fontsize=7.2, fontweight=600, color=INK)
            left.text(1.2, at, money(value), transform=edge, va="center", fontsize=7.2, color=GREY)
        left.text(1.02, y[0] + 0.8, "odds", transform=edge, va="bottom", fontsize=7, color=GREY)
        left.text(1.2, y[0] + 0.8, "money", transform=edge, va="bottom", fontsize=7, color=GREY)
        scale(left, compact, bins=4)
        left.set_xlim(left=0)
        left.set_xlabel("Customers still to be won (bar: 90%)")
        _odds_by_rank(right, known, fifth, supported)
        if not supported:
            title = "The data support no order of markets: these odds say little more than size"
        elif sure == fifth:
            title = (
                f"Each of the {fifth:,} markets with most headroom is in the top fifth with odds of {percent(_SURE)}"
            )
        else:
            title = (
                f"{sure:,} of the {fifth:,} markets with most headroom are in the top fifth with odds of"
                f" {percent(_SURE)} or better; the others are candidates"
            )
        told = "; ".join(
            f"{label(names.get(m, m), 30)} {chance(o)}" for m, o in zip(part["market_id"].head(5), odds, strict=False)
        )
        return finish(figure, "ranks", title, f"Odds of being in the top fifth by headroom: {told}.")


def _odds_by_rank(axes: Axes, known: pd.DataFrame, fifth: int, supported: bool) -> None:
    """The odds of all markets in falling order: where ranks are sure, a cliff at the dashes, else a slope."""
    odds = np.sort(known["top_fifth"].to_numpy(float))[::-1]
    step = np.unique(np.linspace(0, len(odds) - 1, 400).astype(int))
    axes.fill_between(step + 1, odds[step], color=ACCENT_SOFT if supported else SOFT_GREY, linewidth=0)
    axes.axvline(fifth, color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Markets, best odds first")
    axes.set_ylabel("Odds of being in the top fifth")
    axes.yaxis.set_major_formatter(lambda v, _: percent(v))
    axes.set_xlim(1, max(len(odds), 2))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda v, _: compact(v))
    axes.grid(axis="y")


__all__ = ["predicted_by_region", "ranks"]
