"""Pictures of what winning a customer costs against what the customer brings; from the artefact value_acquisition."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from micromarket.formats import NOTHING, count, plural
from micromarket.report.style import ACCENT, ACCENT_DARK, FAINT, GREY, LINE, WARM, WARM_SOFT, Picture, canvas, label
from micromarket.report.value_figures import SOFT_GREY, Money, finish, legend_above, rows, scale


def cost_and_value(table: pd.DataFrame, level: str, money: Money, horizon_months: int) -> Picture | None:
    """Cost of winning a customer (with its 90% range) against the value it brings, by ``segment`` or ``channel``.

    ``table``: the artefact value_acquisition. ``None`` where it has no such rows with a cost or value.
    """
    part = table[(table["level"] == level) & table["new_customer_clv"].notna()]
    part = part.sort_values(["ltv_to_cac", "name"], ascending=[False, True], na_position="last")
    if part.empty:
        return None
    with canvas(24 + 6.6 * len(part)) as figure:
        axes = figure.add_subplot()
        y = rows(axes, [str(n) for n in part["name"]], 26)
        known = part["cac"].notna().to_numpy()
        axes.barh(
            y[known],
            (part["cac_high"] - part["cac_low"])[known],
            left=part["cac_low"][known],
            height=0.42,
            color=WARM_SOFT,
        )
        axes.hlines(y[known], part["cac"][known], part["new_customer_clv"][known], color=LINE, linewidth=1.4, zorder=1)
        axes.scatter(part["cac"][known], y[known], s=30, marker="s", color=WARM, zorder=3, label="cost of winning one")
        axes.scatter(part["new_customer_clv"], y, s=32, color=ACCENT_DARK, zorder=3, label="value it brings")
        edge = axes.get_yaxis_transform()
        for at, ratio, months, basis in zip(y, part["ltv_to_cac"], part["payback_months"], part["basis"], strict=True):
            text = _repaid(ratio, months, basis)
            axes.text(1.01, at, text, transform=edge, va="center", fontsize=7.2, color=GREY)
        scale(axes, money)
        axes.set_xlim(left=min(0.0, float(part["new_customer_clv"].min()) * 1.05))
        axes.margins(x=0.04)
        axes.set_xlabel(
            f"Money per new customer (bar: 90% range of the cost; value: margin within {horizon_months} months)"
        )
        legend_above(axes, 2)
        return finish(figure, f"cost_{level}", _cost_title(part, level), _cost_title(part, level))


def _repaid(ratio: float, months: float, basis: str) -> str:
    if not np.isfinite(ratio):
        return "no spend of its own" if basis == "unpaid" else "cost unknown"
    when = f"repaid in {plural(round(months), 'month')}" if np.isfinite(months) else "not repaid"
    return f"{ratio:.1f}× · {when}"


def _cost_title(part: pd.DataFrame, level: str) -> str:
    known = part[part["ltv_to_cac"].notna()]
    if known.empty:
        return f"What a new customer brings by {level}; what winning one costs isn't known"
    best, worst = known.iloc[0], known.iloc[-1]
    if worst["ltv_to_cac"] < 1 and worst["new_customer_clv"] < worst["cac_low"]:
        return (
            f"Winning customers of {label(worst['name'], 30)} costs more than they bring; those of"
            f" {label(best['name'], 30)} repay best"
        )
    if len(known) == 1:
        return (
            f"A new customer of {label(best['name'], 30)} brings {best['ltv_to_cac']:.1f} times what winning one costs"
        )
    return (
        f"Value over cost by {level}: from {worst['ltv_to_cac']:.1f}× ({label(worst['name'], 26)}) to"
        f" {best['ltv_to_cac']:.1f}× ({label(best['name'], 26)})"
    )


def markets_cost_and_value(table: pd.DataFrame, money: Money) -> Picture | None:
    """Every market: cost of winning a customer against the value of a new one; ``None`` without costs by market."""
    part = table[(table["level"] == "market") & (table["basis"] == "blended")]
    part = part[(part["cac"] > 0) & (part["new_customer_clv"] > 0)]
    if len(part) < 2:
        return None
    with canvas(84) as figure:
        axes = figure.add_subplot()
        cost, value = part["cac"].to_numpy(float), part["new_customer_clv"].to_numpy(float)
        short = part["new_customer_clv"].to_numpy(float) < part["cac_low"].to_numpy(float)
        surely = value > part["cac_high"].to_numpy(float)
        ends = np.array([min(cost.min(), value.min()) * 0.8, max(cost.max(), value.max()) * 1.25])
        for times in (1, 3):
            axes.plot(ends, ends * times, color=GREY, linewidth=0.7, linestyle="-" if times == 1 else (0, (3, 3)))
        axes.hlines(value, part["cac_low"], part["cac_high"], color=SOFT_GREY, linewidth=0.8, zorder=1)
        for rows_, colour, mark, name in (
            (surely, ACCENT, "o", "repays its cost"),
            (~surely & ~short, FAINT, "D", "can't be told"),
            (short, WARM, "s", "costs more than it brings"),
        ):
            if rows_.any():
                text = f"{name} ({int(rows_.sum()):,})"
                axes.scatter(
                    cost[rows_], value[rows_], s=16, color=colour, marker=mark, linewidth=0, zorder=3, label=text
                )
        for axis, low, high in ((axes.set_xlim, cost.min(), cost.max()), (axes.set_ylim, value.min(), value.max())):
            axis(low * 0.85, high * 1.18)
        for set_log in (axes.set_xscale, axes.set_yscale):
            set_log("log")
        _round_ticks(axes)
        for which in (axes.xaxis, axes.yaxis):
            which.set_major_formatter(lambda v, _: money(float(f"{v:.2g}")))
        axes.minorticks_off()
        axes.grid(color=LINE)
        _line_names(axes, ends)
        axes.set_xlabel("Cost of winning a customer (all spend over all new customers; bar: 90%), log scale")
        axes.set_ylabel("Value of a new customer, log scale")
        legend_above(axes, 3)
        n = int(short.sum())
        title = (
            f"In {plural(n, 'market')} of {len(part):,} a new customer costs more to win than it brings"
            if n
            else f"In all {len(part):,} markets shown a new customer may repay what winning it costs"
        )
        return finish(figure, "cost_markets", title, title)


def _round_ticks(axes: Axes) -> None:
    """1, 2, 5 in every decade."""
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = (decades[:, None] * np.array([1.0, 2.0, 5.0])).ravel()
        axis.set_ticks(ticks[(ticks >= low) & (ticks <= high)])


def _line_names(axes: Axes, ends: np.ndarray) -> None:
    """Names the lines "value = cost" and "3 times" where they leave the picture."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    for times, name in ((1, "value = cost"), (3, "3 × cost")):
        x = min(x1, y1 / times)
        if x > x0 and x * times > y0:
            top = y1 / times < x1
            axes.annotate(
                name, (x, x * times), (-14 if top else -4, -3 if top else 3), textcoords="offset points", fontsize=7,
                color=GREY, ha="right", va="top" if top else "bottom",
            )  # fmt: skip


def cost_table(table: pd.DataFrame | None, money: Money) -> pd.DataFrame:
    """The artefact value_acquisition without its markets, in words and short numbers; empty where nothing is known."""
    columns = ["of", "basis", "spend", "new customers", "cost of one", "value of one", "value over cost", "repaid"]
    if table is None or table.empty:
        return pd.DataFrame(columns=columns)
    part = table[table["level"] != "market"]
    part = part.sort_values("level", key=lambda c: c.map({"company": 0, "segment": 1, "channel": 2}), kind="stable")
    low, high = part["cac_low"].map(money), part["cac_high"].map(money)
    shown = part["cac"].map(money) + " (" + low + " to " + high + ")"
    repaid = [
        _repaid(r, m, b).split(" · ")[-1].removeprefix("repaid ")
        for r, m, b in zip(part["ltv_to_cac"], part["payback_months"], part["basis"], strict=True)
    ]
    return pd.DataFrame(
        {
            "of": part["level"].where(part["level"] == "company", part["level"] + ": " + part["name"].map(label)),
            "basis": part["basis"],
            "spend": part["spend"].map(money),
            "new customers": part["new_customers"].map(count),
            "cost of one": shown.where(part["cac"].notna(), NOTHING),
            "value of one": part["new_customer_clv"].map(money),
            "value over cost": part["ltv_to_cac"].map(lambda v: f"{v:.1f}" if np.isfinite(v) else NOTHING),
            "repaid": repaid,
        }
    ).set_index("of")[columns[1:]]
