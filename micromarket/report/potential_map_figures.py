"""Maps of potential: where money is to be won, where spend is misplaced, what to mend where, and what not to trust.

Every function takes the ground (:func:`~micromarket.report.atlas.ground`) and Series indexed by ``market_id``, and
returns a :class:`~micromarket.report.style.Picture` whose title is the finding; a company without borders gets bars.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize, TwoSlopeNorm

from micromarket.formats import compact, count, listed, percent, plural
from micromarket.report.atlas import Ground, Sheet, Show, biggest, sheet
from micromarket.report.callouts import far_apart
from micromarket.report.potential_figures import bars_of_groups, bars_of_markets, cause_colours
from micromarket.report.style import (
    ACCENT,
    ACCENT_DARK,
    DIVERGING,
    FAINT,
    GREY,
    INK,
    LAND,
    MM,
    WARM,
    Picture,
    label,
    to_svg,
)

# pale to strong teal, never so dark that circles in orange don't stand out
_SOFT = LinearSegmentedColormap.from_list("share", ["#F3F6F6", "#BFDEDE", "#6DB3B6", "#1F7F85"])
# begins where grey can't be taken for little
_CLEAR = LinearSegmentedColormap.from_list("clear", ["#CFE6E6", "#7DBBBC", ACCENT, ACCENT_DARK])
THIN = "#D3D6D9"
MOST_CIRCLES, MANY_CIRCLES, LARGEST_MM = 40, 300, 8.0
# potential (rows, low to high) x share (columns, low to high): orange is much potential and little share
BIVARIATE = (
    ("#ECEEEF", "#B9DADB", "#4FA3A7"),
    ("#F3CDB0", "#B5B3A8", "#3D7F86"),
    ("#C4601F", "#7E5A45", "#173F46"),
)
MOST_CAUSES = 7
_LEVELS = ("low", "middle", "high")


def _named(place: Ground, markets: Iterable) -> str:
    return listed([label(place.names[m], 32) for m in markets])


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _alt(place: Ground, values: pd.Series, show: Show, what: str) -> str:
    best = values.dropna().sort_index().sort_values(ascending=False, kind="stable").head(3)
    told = listed([f"{label(place.names[m], 40)} {show(v)}" for m, v in zip(best.index, best, strict=True)])
    return f"{what}; most: {told}." if told else f"{what}."


def _range(values: pd.Series) -> Normalize:
    """Colours from the 3rd to the 97th percentile: a few extremes leave the rest apart."""
    known = values[np.isfinite(values)]
    low, high = (float(known.quantile(q)) for q in (0.03, 0.97)) if len(known) else (0.0, 1.0)
    return Normalize(low, high) if high > low else Normalize(low - abs(low) / 2 - 1e-9, low + abs(low) / 2 + 1e-9)


def money_over_share(
    place: Ground, opportunity: pd.Series, share: pd.Series, unit: str, show: Show, show_share: Show
) -> Picture:
    """Opportunity (money) as circles over ``share`` (a fraction; ``unit`` names it): where the money lies, and how much
    of each market is won already. The largest
    forty get a circle."""
    worth = opportunity.where(opportunity > 0).dropna().sort_index().sort_values(ascending=False, kind="stable")
    fifth = int(np.ceil(len(opportunity) / 5))
    top = float(worth.head(fifth).sum() / worth.sum()) if len(worth) else 0.0
    if worth.empty:
        title = "No market is left to win money from"
    else:
        title = (
            f"{show(float(worth.sum()))} still to be won, {percent(top)} of it in"
            f" {fifth:,} of {plural(len(opportunity), 'market')}; most in {_named(place, worth.index[:2])}"
        )
    alt = _alt(place, opportunity, show, f"Money still to be won by market, over {unit.lower()}")
    if place.shapes is None:
        return bars_of_markets(
            "money_over_share",
            title,
            alt,
            opportunity,
            place.names,
            show,
            "Opportunity: margin still to be won",
            beside=share.map(show_share),
            beside_unit=unit,
        )
    norm = _range(share)
    with sheet(place, title, legend_mm=15) as page:
        page.paint(share, norm, _SOFT)
        page.scale(34, 48, norm, _SOFT, unit, show_share, open_low=True)
        _circles(page, worth, MOST_CIRCLES, 100, "Money still to be won", show)
        page.name(opportunity, show, biggest(place, opportunity, 6), lambda _: WARM)
        return Picture("money_over_share", label(title), label(alt), to_svg(page.figure))


def circles(place: Ground, values: pd.Series, unit: str, show: Show, height_mm: float) -> bytes:
    """Amounts by market as circles on plain ground, untitled: as colours, large empty markets would look rich."""
    ordered = values.where(values > 0).dropna().sort_index().sort_values(ascending=False, kind="stable")
    with sheet(place, "", legend_mm=15, height_mm=height_mm) as page:
        page.land()
        _circles(page, ordered, MANY_CIRCLES, 62, unit, show)
        page.name(values, show, biggest(place, values, 6), lambda _: WARM)
        return to_svg(page.figure)


def _circles(page: Sheet, worth: pd.Series, most: int, x_mm: float, unit: str, show: Show) -> None:
    """The ``most`` largest as circles, largest first so that small ones lie on top; and their key."""
    drawn = worth[worth.index.isin(page.shapes.index)].head(most)
    if drawn.empty:
        return
    points = page.shapes[drawn.index].representative_point()
    diameter = LARGEST_MM * np.sqrt(drawn.to_numpy(float) / float(drawn.iloc[0]))
    page.axes.scatter(
        points.x,
        points.y,
        s=(diameter * MM * 72) ** 2,
        color=WARM,
        alpha=0.7,
        edgecolor="white",
        linewidth=0.5,
        zorder=3,
    )
    steps = [float(f"{float(drawn.iloc[0]) / part:.2g}") for part in (16, 4, 1)]
    sizes = [(float(LARGEST_MM * np.sqrt(v / float(drawn.iloc[0]))), show(v)) for v in steps]
    few = f" ({most} largest markets)" if len(worth) > most else ""
    page.circles(x_mm, sizes, f"{unit}{few}", WARM)


def thirds(values: pd.Series) -> pd.Series:
    """0, 1, 2 for the lower, middle and upper third of the known values; equal values stay together.

    >>> thirds(pd.Series([5.0, 1.0, 3.0, 3.0])).tolist()
    [2.0, 0.0, 1.0, 1.0]
    """
    place = (values.rank(method="average") - 0.5) / max(int(values.notna().sum()), 1)
    return (place * 3).clip(upper=2.999).apply(np.floor)


def potential_and_share(
    place: Ground, potential: pd.Series, share: pd.Series, headroom: pd.Series, unit: str
) -> Picture:
    """Potential (customers) x ``share`` (a fraction in ``unit``) by thirds: orange holds much and has won little."""
    high, won = thirds(potential), thirds(share.reindex(potential.index))
    kind = high * 3 + won
    hot = kind.index[kind == 6]
    part = float(headroom.reindex(hot).sum() / headroom.sum()) if headroom.sum() > 0 else 0.0
    if len(hot):
        best = headroom.reindex(hot).sort_index().sort_values(ascending=False, kind="stable").index[:2]
        title = (
            f"{len(hot):,} of {plural(len(kind), 'market')} {'holds' if len(hot) == 1 else 'hold'} much potential, and"
            f" we have little of it: {percent(part)} of the headroom, first {_named(place, best)}"
        )
    else:
        title = "We have much of the potential of every large market"
    alt = f"Potential against {unit.lower()}, in thirds; {plural(len(hot), 'market')} with much and little of them."
    if place.shapes is None:
        counts = pd.DataFrame(
            [[int((kind == 3 * p + s).sum()) for s in range(3)] for p in (2, 1, 0)],
            index=[f"{_LEVELS[p].capitalize()} potential" for p in (2, 1, 0)],
            columns=[f"{_LEVELS[s]} share" for s in range(3)],
        )
        colours = [[BIVARIATE[p][s] for s in range(3)] for p in (2, 1, 0)]
        return bars_of_groups("potential_and_share", title, alt, counts, colours, "Markets", count)
    with sheet(place, title, legend_mm=24, height_mm=118) as page:
        flat = [colour for row in BIVARIATE for colour in row]
        page.paint(kind, Normalize(-0.5, 8.5), ListedColormap(flat))
        _bivariate_key(page, kind, unit)
        page.name(
            headroom,
            lambda v: f"{count(v)} to win",
            biggest(place, headroom.reindex(hot), 6),
            lambda _: BIVARIATE[2][0],
        )
        return Picture("potential_and_share", label(title), label(alt), to_svg(page.figure))


def _bivariate_key(page: Sheet, kind: pd.Series, unit: str) -> None:
    wide, high, left = 17.0, 4.6, 62.0
    for p in range(3):
        for s in range(3):
            page.box(left + s * wide, 5.2 + p * high, wide - 0.4, high - 0.4, BIVARIATE[p][s])
            dark = (p, s) in ((2, 0), (2, 1), (2, 2), (1, 2), (0, 2))
            page.text(
                left + (s + 0.5) * wide,
                4.9 + (p + 0.5) * high,
                count(int((kind == 3 * p + s).sum())),
                ha="center",
                va="center",
                color="white" if dark else INK,
            )
    page.text(left - 1.5, 5.2 + 2.5 * high, "much potential", ha="right", va="center")
    page.text(left - 1.5, 5.2 + 0.5 * high, "little potential", ha="right", va="center")
    page.text(left + 0.5 * wide, 4.2, "low", ha="center", va="top")
    page.text(left + 2.5 * wide, 4.2, "high", ha="center", va="top")
    page.text(left + 1.5 * wide, 4.2, "→", ha="center", va="top")
    page.text(left + 3 * wide + 2, 5.2 + 0.5 * high, f"{unit}, in thirds", va="center")
    page.text(left + 3 * wide + 2, 5.2 + 1.5 * high, "figures: markets", va="center")


def misplaced_spend(place: Ground, spend: pd.Series, opportunity: pd.Series, show: Show) -> Picture | None:
    """Share of spend minus share of opportunity, in points: orange gets more than its opportunity, teal less.

    ``spend``, ``opportunity``: money by market. ``None`` where nothing is spent or nothing is to be won.
    """
    room = opportunity.clip(lower=0).fillna(0.0)
    money = spend.reindex(room.index).fillna(0.0)
    if money.sum() <= 0 or room.sum() <= 0:
        return None
    gap = money / money.sum() - room / room.sum()
    wrong = float(gap.clip(lower=0).sum())
    over = gap[gap > 0].sort_index().sort_values(ascending=False, kind="stable").index
    under = gap[gap < 0].sort_index().sort_values(kind="stable").index
    if wrong < 0.005:
        title = "Spend follows the opportunity: next to nothing is in the wrong place"
    else:
        title = f"{percent(wrong)} of the spend ({show(wrong * float(money.sum()))}) is where the opportunity isn't"
        if len(over) and len(under):
            title += f": most too much in {_named(place, over[:1])}, most too little in {_named(place, under[:1])}"

    def points(value: float) -> str:
        return f"{compact(100 * value, 2) if value <= 0 else '+' + compact(100 * value, 2)}\u00a0pt"

    alt = f"{title}. Share of spend minus share of opportunity by market."
    cmap = DIVERGING.reversed()  # as everywhere: orange should get less, teal more
    if place.shapes is None:
        return bars_of_markets(
            "misplaced_spend",
            title,
            alt,
            gap,
            place.names,
            points,
            "Share of spend minus share of opportunity, points",
            diverging=True,
            colours=(WARM, ACCENT),
        )
    # among thousands of markets the largest are the story: colours reach further up
    size = float(gap.abs().quantile(0.97 if len(gap) < 1000 else 0.99)) or float(gap.abs().max())
    norm = TwoSlopeNorm(0, -size, size)
    with sheet(place, title) as page:
        page.paint(gap, norm, cmap)
        # by turns, the larger first: the first of either side has a label before the others take its place
        turns = [m for pair in zip_longest(over, under) for m in sorted(filter(None, pair), key=lambda m: -abs(gap[m]))]
        named = far_apart(page.shapes, [m for m in turns if m in page.shapes.index], 6)
        page.scale(62, 50, norm, cmap, "Share of spend minus share of opportunity, points", points, open_low=True)
        page.name(gap, points, named, lambda v: WARM if v > 0 else ACCENT)
        return Picture("misplaced_spend", label(title), label(alt), to_svg(page.figure))


def largest_cause(
    place: Ground,
    cause: pd.Series,
    worth: pd.Series,
    show: Show,
    what: str = "fixable cause",
    none: str = "nothing fixable",
) -> Picture | None:
    """The largest cause of each market's gap (a word; missing: ``none``), in one colour each.

    ``worth``: money to be won by market. ``None`` where no market has a cause.
    """
    known = cause.dropna().astype(str)
    money = worth.reindex(cause.index).clip(lower=0).fillna(0.0)
    by = money.groupby(cause.astype(object).where(cause.notna(), None), dropna=True).sum()
    order = sorted(by.index, key=lambda c: (-by[c], str(c)))
    shown, rest = order[:MOST_CAUSES], order[MOST_CAUSES:]
    colours = cause_colours([str(c) for c in shown])
    if known.empty:
        return None
    first, total = str(shown[0]), float(money.sum())
    held = f", which hold {percent(float(by[shown[0]]) / total)} of the money to be won" if total > 0 else ""
    number = f"{int((known == first).sum()):,} of {len(cause):,} markets"
    title = f"{_upper(label(first, 40))} is the largest {what} in {number}{held}"
    counts = known.value_counts()
    told = listed([f"{label(str(c), 30)} in {plural(int(counts[str(c)]), 'market')}" for c in shown])
    alt = f"Largest {what} by market: {told}."
    left = int(len(cause) - known.isin(colours.keys()).sum())
    if place.shapes is None:
        rows = [str(c) for c in shown]
        table = pd.DataFrame(
            {"": [float(by[c]) for c in shown]}, index=[f"{label(c, 26)} ({counts[c]:,})" for c in rows]
        )
        return bars_of_groups(
            "largest_cause",
            title,
            alt,
            table,
            [[colours[c]] for c in rows],
            "Money to be won in the markets of each cause (markets in brackets)",
            show,
        )
    codes = {c: float(i) for i, c in enumerate(colours)}
    with sheet(place, title, legend_mm=9) as page:
        page.paint(
            cause.astype(object).map(codes), Normalize(-0.5, len(codes) - 0.5), ListedColormap(list(colours.values()))
        )
        kinds = [(colour, "", f"{label(c, 28)} ({counts[c]:,})") for c, colour in colours.items()]
        if left:
            kinds.append((LAND, "", f"{none if not rest else 'other'} ({left:,})"))
        page.swatches(kinds)
        page.name(worth, show, biggest(place, worth.where(cause.notna()), 6), lambda _: GREY)
        return Picture("largest_cause", label(title), label(alt), to_svg(page.figure))


def reliability(
    place: Ground, values: pd.Series, unit: str, show: Show, thin: pd.Series, outside: pd.Series
) -> Picture:
    """``values`` only where they can be trusted. ``thin`` (bool): greyed; ``outside`` (bool) the area of applicability,
    where the model has not seen markets like it: hatched."""
    ids = values.index
    few, far = (s.reindex(ids).fillna(False).astype(bool) for s in (thin, outside))
    sound = ~few & ~far
    parts = [
        f"{plural(int(n), 'market')} {words}"
        for n, words in ((few.sum(), "too thin to show alone"), (far.sum(), "unlike those the model learnt from"))
        if n
    ]
    title = (
        f"Read {int(sum(sound)):,} of {len(ids):,} markets one by one; {listed(parts)}"
        if parts
        else f"All {len(ids):,} markets have enough data and resemble others: each can be read by itself"
    )
    alt = f"{title}. {unit}."
    if place.shapes is None:
        region = place.regions.reindex(ids)
        region = region.where(region.notna(), "All markets" if region.isna().all() else "No region").astype(str)
        kinds = pd.DataFrame({"sound": sound, "too thin": few & ~far, "unlike others": far}).astype(float)
        table = kinds.groupby(region).sum()
        table = table.loc[sorted(table.index, key=lambda r: (-table.loc[r].sum(), r))][:14]
        return bars_of_groups(
            "reliability",
            title,
            alt,
            table,
            [[ACCENT, THIN, FAINT]] * len(table),
            "Markets",
            count,
            hatches=("", "", "////"),
        )
    norm = _range(values[sound])
    with sheet(place, title, named=False, legend_mm=17) as page:
        page.paint(values.where(~few), norm, _CLEAR, THIN)
        page.hatch([m for m in ids if far[m]], "/////", INK)
        page.scale(62, 50, norm, _CLEAR, unit, show, open_low=True)
        keys = [
            (THIN, "", f"data too thin ({int(few.sum()):,})"),
            ("white", "/////", f"unlike the others ({int(far.sum()):,})"),
        ]
        page.swatches(keys, y_mm=12.2)
        return Picture("reliability", label(title), label(alt), to_svg(page.figure))


__all__ = [
    "circles",
    "largest_cause",
    "misplaced_spend",
    "money_over_share",
    "potential_and_share",
    "reliability",
    "thirds",
]
