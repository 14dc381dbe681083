"""The picture on the cover, and how any figure by market becomes a map (or bars, for a company without borders)."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

from micromarket.formats import count, listed
from micromarket.report import figures, maps, style
from micromarket.report.atlas import Ground
from micromarket.report.blocks import Block, Desk
from micromarket.report.callouts import far_apart
from micromarket.report.potential_map_figures import circles
from micromarket.report.style import label

CALLOUTS = 3


def _callouts(shapes: gpd.GeoSeries, values: pd.Series, diverging: bool) -> list[str]:
    """Markets to name: the biggest of each direction, none so near another that their labels would fight."""
    ordered = values.reindex(shapes.index).dropna().sort_index().sort_values(ascending=False, kind="stable")
    up, down = list(ordered[ordered > 0].index), list(ordered[ordered < 0].index[::-1])
    if not diverging:
        return far_apart(shapes, up, 2 * CALLOUTS)
    most = far_apart(shapes, up, CALLOUTS)
    return [*most, *far_apart(shapes, down, CALLOUTS, most)]


def told(unit: str, values: pd.Series, names: pd.Series, show, diverging: bool) -> str:
    """What a picture of ``values`` by market shows, for those who can't see it."""
    ordered = values.dropna().sort_index().sort_values(ascending=False, kind="stable")
    best = listed([f"{label(names[m], 40)} ({show(values[m])})" for m in ordered.index[:3]])
    alt = f"{unit if 'by market' in unit else unit + ' by market'}. Highest: {best}."
    if diverging and len(ordered):
        worst = listed([f"{label(names[m], 40)} ({show(values[m])})" for m in ordered.index[::-1][:3]])
        alt += f" Lowest: {worst}."
    return alt


def map_or_bars(
    desk: Desk,
    name: str,
    values: pd.Series,
    title: str,
    unit: str,
    show,
    *,
    diverging: bool = True,
    height_mm: float = 96,
    note: str = "",
    low: pd.Series | None = None,
    high: pd.Series | None = None,
) -> Block:
    """A map of ``values`` where the company has borders, otherwise the ranked markets."""
    names = desk.frame["name"]
    alt = told(unit, values, names, show, diverging)
    if desk.shapes is not None and len(desk.shapes):
        svg = maps.choropleth(
            desk.shapes,
            values,
            names,
            unit=unit,
            money=show,
            diverging=diverging,
            callouts=_callouts(desk.shapes, values, diverging),
            outlines=desk.outlines,
            height_mm=height_mm,
        )
    else:
        svg = maps.ranked_bars(
            values, names, unit=unit, money=show, diverging=diverging, low=low, high=high, height_mm=height_mm
        )
    return desk.figure(name, title, alt, svg, note)


PAGE_MM = 257.0  # of an A4 page between its margins, as in plan.typ
_PT = 25.4 / 72


def _room(desk: Desk, headline_size: float) -> float:
    """Millimetres that headline, sub-headline and cards leave on the cover."""
    width = style.TEXT_WIDTH * 72
    headline, subline = label(desk.plan.headline), label(desk.plan.subline)
    points = 17.0 + 1.15 * headline_size * style.lines(headline, width, headline_size * 1.03) + 20
    if subline:
        points += 11.5 * 1.36 * style.lines(subline, width, 11.5 * 0.97) + 22
    if desk.plan.cards:
        points += 62 + 12
    return PAGE_MM - points * _PT - 6


def cover(desk: Desk, headline_size: float) -> list[Block]:
    """The picture under the headline: money moved, else opportunity, else what customers are worth, else how many."""
    frame, room = desk.frame, max(90.0, _room(desk, headline_size))

    def drawn(column: str, unit: str, show, diverging: bool) -> list[Block]:
        return [map_or_bars(desk, "cover", frame[column], "", unit, show, diverging=diverging, height_mm=room)]

    if "change" in frame and float(frame["change"].abs().sum()) > 0:
        return drawn("change", "Change of money by market over the plan period", desk.signed, True)
    if desk.potential_ranked and "opportunity" in frame:
        if desk.shapes is None or not (frame["opportunity"].reindex(desk.shapes.index) > 0).any():
            return drawn("opportunity", "Opportunity by market, in margin", desk.money, False)
        place = Ground(frame["name"], frame["region"], desk.shapes, desk.outlines)
        unit = "Opportunity by market, in margin"
        svg = circles(place, frame["opportunity"], unit, desk.money, room)
        return [desk.figure("cover", "", told(unit, frame["opportunity"], frame["name"], desk.money, False), svg)]
    if desk.value_ranked and "clv" in frame and frame["clv"].notna().any():
        loss = bool((frame["clv"] < 0).any())
        return drawn("clv", "What a customer is worth, by market", desk.money, loss)
    segments = desk.plan.segments
    tell = desk.plan.segments_tell is not False
    if not desk.value_ranked and tell and segments is not None and len(segments) > 1:
        by = segments.set_index("segment").sort_values("clv", ascending=False)
        shown = pd.DataFrame({"value": by["clv"], "low": np.nan, "high": np.nan}).head(12)
        svg = figures.dots_on_bars(shown, "Lifetime value of a customer, by segment", desk.money)
        words = listed([f"{label(s)} {desk.money(v)}" for s, v in shown["value"].items()])
        title = "Value differs between segments, not between markets"
        return [desk.figure("cover", title, f"Lifetime value by segment: {words}.", svg)]
    if "customers" in frame and frame["customers"].notna().any():
        return drawn("customers", "Active customers by market", count, False)
    return []
