"""Pictures of how far values can be trusted: the model against what happened, and how much of the ranking is signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator

from micromarket.formats import compact, count, percent
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
from micromarket.report.value_figures import SOFT_GREY, finish, legend_above, scale

HIDDEN = "#F5F3F0"
FAMILY = (ACCENT, WARM, "#5A6672", "#3FA0A0", "#DDA15E", "#2F4858")


def tracking(frame: pd.DataFrame, what: str) -> Picture:
    """Actual against expected by month, cumulative and month by month; the months hidden from the model are shaded.

    ``frame``: month, actual, expected, hidden (``explore_tracking.track_purchases`` or ``track_departures``);
    ``what``: purchases, departures.
    """
    with canvas(66) as figure:
        left, right = figure.subplots(1, 2)
        months = pd.to_datetime(frame["month"])
        ends = (months + pd.offsets.MonthEnd(0)).to_numpy()
        hidden = frame["hidden"].to_numpy(bool)
        for axes, cumulative, name in ((left, True, "Cumulative"), (right, False, "By month")):
            actual, expected = (
                frame[c].cumsum() if cumulative else frame[c] for c in ("actual", "expected")
            )  # fmt: skip
            if hidden.any():
                begin = months[hidden].iloc[0]
                axes.axvspan(begin, ends[-1], color=HIDDEN, linewidth=0, zorder=0)
                axes.text(ends[-1], 0.02, "hidden from the model ", transform=axes.get_xaxis_transform(), fontsize=7,
                          color=GREY, ha="right")  # fmt: skip
            axes.plot(ends, actual, color=INK, label="actual")
            axes.plot(ends, expected, color=ACCENT, linestyle=(0, (4, 2)), label="model")
            scale(axes, lambda v: compact(v), "y")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=2, maxticks=7))
            axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
            axes.set_ylabel(f"{name}: {what}")
        legend_above(left, 2)
        seen = frame[hidden]
        if len(seen) and seen["actual"].sum() > 0:
            error = seen["expected"].sum() / seen["actual"].sum() - 1
            title = (
                f"Over {len(seen)} months it had not seen, the model expected {count(seen['expected'].sum())} {what};"
                f" there were {count(seen['actual'].sum())} ({percent(error, int(abs(error) < 0.01), sign=True)})"
            )
        else:
            title = f"Actual and expected {what} by month"
        return finish(figure, "tracking", title, title)


def predicted_and_actual(by_market: pd.DataFrame, what: str) -> Picture | None:
    """One dot a market: what was predicted for the hidden months (bar: 90%) against what happened.

    ``by_market``: predicted, actual, low, high (counts). ``None`` with fewer than two markets.
    """
    part = by_market[(by_market["predicted"] > 0) | (by_market["actual"] > 0)]
    if len(part) < 2:
        return None
    with canvas(84) as figure:
        axes = figure.add_subplot()
        predicted, actual = part["predicted"].to_numpy(float), part["actual"].to_numpy(float)
        low, high = part["low"].to_numpy(float), part["high"].to_numpy(float)
        inside = (actual >= low) & (actual <= high)
        top = max(actual.max(), high.max()) * 1.2 + 1
        axes.plot([0.5, top], [0.5, top], color=GREY, linewidth=0.7)
        axes.vlines(
            np.maximum(actual, 0.5), np.maximum(low, 0.5), np.maximum(high, 0.5), color=ACCENT_SOFT, linewidth=1.1
        )
        for chosen, colour, mark, name in ((inside, ACCENT_DARK, "o", "within"), (~inside, WARM, "s", "outside")):
            if chosen.any():
                text = f"{name} its 90% range ({int(chosen.sum()):,})"
                axes.scatter(np.maximum(actual[chosen], 0.5), np.maximum(predicted[chosen], 0.5), s=15, color=colour,
                             marker=mark, linewidth=0, zorder=3, label=text)  # fmt: skip
        least = float(min(actual.min(), low.min()))
        for set_scale, limit in ((axes.set_xscale, axes.set_xlim), (axes.set_yscale, axes.set_ylim)):
            if least >= 5:
                set_scale("log")
            else:
                set_scale("symlog", linthresh=10, linscale=0.5)
            limit(least * 0.8 if least >= 5 else 0, top)
        for axis in (axes.xaxis, axes.yaxis):
            if least >= 5 and top < 200 * least:  # few decades
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(lambda v, _: compact(v))
        axes.minorticks_off()
        axes.grid(color=LINE)
        axes.set_xlabel(f"Actual {what} in the hidden months, log scale")
        axes.set_ylabel(f"Predicted {what} (bar: 90%)")
        legend_above(axes, 2)
        title = f"{percent(inside.mean())} of {len(part):,} markets ended within the 90% range predicted for them"
        return finish(figure, "holdout_markets", title, title)


def frequencies(frame: pd.DataFrame) -> Picture:
    """Customers by number of repeat purchases, actual and model (``explore_tracking.purchase_frequencies``)."""
    with canvas(60) as figure:
        axes = figure.add_subplot()
        x = frame["repeats"].to_numpy(float)
        for shift, column, colour, name in ((-0.2, "actual", INK, "actual"), (0.2, "expected", ACCENT, "model")):
            axes.bar(x + shift, frame[column], width=0.37, color=colour, label=name)
        last = len(frame) - 1
        axes.set_xticks(x, [f"{int(v)}" if i < last else f"{int(v)} or more" for i, v in enumerate(x)])
        scale(axes, compact, "y", 4)
        axes.set_xlabel("Repeat purchases since the first one")
        axes.set_ylabel("Customers")
        legend_above(axes, 2)
        off = float((frame["expected"] - frame["actual"]).abs().sum() / 2 / max(frame["actual"].sum(), 1.0))
        title = f"The model puts {percent(1 - off)} of the customers where they are by number of purchases"
        return finish(figure, "frequencies", title, title)


def survival_curves(frame: pd.DataFrame, most: int = 5) -> Picture:
    """Share of customers still there by age and segment: observed (band: 90%), model, and how many are watched.

    ``frame``: of ``explore_tracking.survival``.
    """
    sizes = frame.groupby("segment")["at_risk"].max().sort_values(ascending=False)
    segments = [str(s) for s in sizes.index[:most]]
    longest = int(frame.loc[frame["segment"].isin(segments), "month"].max())
    longest = min(longest, 84)
    ticks = np.arange(0, longest + 1, 6 if longest <= 36 else 12)
    with canvas(72 + 5 * len(segments)) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[58, 5 * len(segments)])
        for i, segment in enumerate(segments):
            part = frame[(frame["segment"] == segment) & (frame["month"] <= longest)]
            colour = FAMILY[i % len(FAMILY)]
            axes.fill_between(part["month"], part["low"], part["high"], color=colour, alpha=0.25, linewidth=0)
            axes.plot(part["month"], part["there"], color=colour, label=label(segment, 24))
            axes.plot(part["month"], part["model"], color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
            watched = part.set_index("month")["at_risk"]
            for month in ticks[1:]:
                if month in watched.index:
                    below.text(
                        float(month), -i, count(watched[month]), ha="center", va="center", fontsize=7, color=GREY
                    )
        below.set_yticks(-np.arange(len(segments)), [label(s, 20) for s in segments], fontsize=7)
        below.set_ylim(-len(segments) + 0.4, 0.6)
        below.spines["bottom"].set_visible(False)
        below.tick_params(axis="x", labelbottom=False)
        below.set_title("Customers watched", fontsize=7, fontweight=400, color=GREY)
        axes.set_xlim(0, longest)
        axes.set_ylim(0, 1.02)
        scale(axes, percent, "y")
        axes.set_xticks(ticks)
        axes.tick_params(axis="x", labelbottom=True)
        axes.set_xlabel("Months since the start (colour: observed, band 90%; dashes: model)")
        axes.set_ylabel("Share still there")
        legend_above(axes, len(segments))
        year = frame[(frame["month"] == 12) & frame["segment"].isin(segments)]
        title = "Share of customers still there by age"
        if len(year):
            best, worst = (year.sort_values("there").iloc[i] for i in (-1, 0))
            title = f"After a year {percent(best['there'])} of {label(best['segment'], 28)} customers are still there"
            if best["segment"] != worst["segment"]:
                title += f", {percent(worst['there'])} of {label(worst['segment'], 28)}"
        return finish(figure, "survival", title, title)


def signal_ladder(
    markets: pd.DataFrame, company: float, show: Callable[[float], str], *, signal: str, text: str,
    names: Mapping[str, str] | None = None,
) -> Picture:  # fmt: skip
    """Every market's value with its range, in order: coloured where it surely differs from the company's, else grey.

    ``markets``: value_markets; ``company``: mean value (money); ``signal``, ``text``: of the notes.
    """
    part = markets[markets["customers"] > 0].sort_values(["clv", "market_id"]).reset_index(drop=True)
    above, below = (part["clv_low"] > company).to_numpy(), (part["clv_high"] < company).to_numpy()
    if signal == "none":
        above, below = np.zeros(len(part), bool), np.zeros(len(part), bool)
    with canvas(66) as figure:
        axes = figure.add_subplot()
        x = np.arange(len(part))
        kinds = (
            (~above & ~below, FAINT, SOFT_GREY, "no telling from the mean"),
            (above, ACCENT_DARK, ACCENT_SOFT, "surely above"),
            (below, WARM, "#F0CFB8", "surely below"),
        )
        for chosen, dark, soft, name in kinds:
            if chosen.any():
                width = float(np.clip(400 / max(len(part), 1), 0.5, 4))
                axes.vlines(x[chosen], part["clv_low"][chosen], part["clv_high"][chosen], color=soft, linewidth=width)
                size = float(np.clip(1500 / max(len(part), 1), 2, 20))
                axes.scatter(x[chosen], part["clv"][chosen], s=size, color=dark, zorder=3, linewidth=0,
                             label=f"{name} ({int(chosen.sum()):,})")  # fmt: skip
        axes.axhline(company, color=GREY, linewidth=0.7)
        axes.set_xticks([])
        scale(axes, show, "y")
        axes.set_xlabel(f"{len(part):,} markets in order of value")
        axes.set_ylabel("Lifetime value of a customer (bar: 90%)")
        legend_above(axes, 3)
        sure = int(above.sum() + below.sum())
        title = (
            text if signal == "none"
            else f"{sure:,} of {len(part):,} markets surely differ from the mean; don't read the order of the others"
        )  # fmt: skip
        return finish(figure, "signal", title, title)
