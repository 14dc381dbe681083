"""``dashboard.html``: one page for the field, self-contained, offline, on a phone."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from micromarket.formats import (
    count,
    current_locale,
    day,
    finite,
    listed,
    money,
    percent,
    prose,
    rate_unit,
    span,
    symbol,
)
from micromarket.plan.assembly import Plan
from micromarket.report import cautions, maps, style, views
from micromarket.report.page_progress import add_progress
from micromarket.report.paths import svg_path
from micromarket.report.sections_delivery import period_names
from micromarket.report.sections_money import channel_name, why
from micromarket.report.style import label

MAP_SIDE = 800  # units of the map's larger side; shapes are rounded to whole units
MOST_BYTES = 440_000  # of data; beyond it the page leaves out its finest detail, step by step, to load on a phone
# steps of thrift: 1 new customers by market and period, 2 reasons but of a market's biggest move, 3 all but two moves,
# 4 all moves
MOST_THRIFT = 4
_LIGHT = ("#86390A", "#BF5B1D", "#F0CFB8", "#F5F3F0", "#A9D3D3", "#0B6E75", "#07474C")
_DARK = ("#FFB98A", "#D9793F", "#6B4430", "#27323B", "#2C5F63", "#3FA9AB", "#B6F2F0")


def write_page(plan: Plan, path: str | Path) -> Path:
    """Writes the page. It loads nothing, sends nothing, and shows every text from data as text."""
    path = Path(path)
    path.write_text(render(plan), encoding="utf-8")
    return path


def render(plan: Plan) -> str:
    """The page as HTML. Style and script are allowed by their hashes, everything else is refused by the page itself."""
    css = (style.TEMPLATES / "dashboard.css").read_text(encoding="utf-8")
    script = (style.TEMPLATES / "dashboard.js").read_text(encoding="utf-8")
    frame = _shown(plan)
    drawing = _map(plan, frame)
    for thrift in range(MOST_THRIFT + 1):
        data, around = _payload(plan, frame, drawing, thrift)
        if plan.progress is not None and "targets" in plan.tables:
            add_progress(data, plan.progress.found, plan.min_cell, plan.progress.made_on)
        text = embedded(data)
        if len(text.encode("utf-8")) <= MOST_BYTES:
            break
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(style.TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    company, period = label(plan.company, 80), span(plan.start, plan.end)
    return environment.get_template("dashboard.html").render(
        title=f"{company}: micromarket plan",
        kicker=f"{company} · {period}",
        headline=label(plan.headline),
        subline=label(plan.subline),
        footer=f"Data up to {day(plan.as_of)}. Money in {plan.currency} for {period}. In full: plan.pdf and plan.xlsx.",
        cautions=[prose(label(text), plan.currency) for _, text in cautions.cautions(plan)[0]],
        style=Markup(css),
        script=Markup(script),
        style_hash=_sha256(css),
        script_hash=_sha256(script),
        data=Markup(text),
        **around,
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def embedded(value: Any) -> str:
    """``value`` as JSON that can't end its script element, whatever it holds.

    >>> embedded({"a": "</script><!--\\u2028&"})
    '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--\\\\u2028\\\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _short(value: Any, digits: int = 4) -> float | int | None:
    """A figure in few digits: the page shows three."""
    number = finite(value)
    if number is None:
        return None
    number = float(f"{number:.{digits}g}")
    return int(number) if number == int(number) else number


def _coded(values: pd.Series) -> tuple[list[int], list[str]]:
    """Words as numbers into a sorted list; -1: none."""
    words = sorted({label(v, 400) for v in values if isinstance(v, str) and v})
    where = {w: i for i, w in enumerate(words)}
    return [where[label(v, 400)] if isinstance(v, str) and v else -1 for v in values], words


_FIGURES = {
    "customers": ("Customers", "count"), "penetration": ("Penetration", "rate"), "share": ("Our share", "percent"),
    "clv": ("Value of a customer", "money"), "headroom": ("Customers to win", "count"),
    "opportunity": ("Opportunity", "money"), "current": ("Money now", "money"), "recommended": ("Money, plan", "money"),
    "change": ("Change", "signed"), "gain": ("Margin it should add", "signed"),
    "target_revenue": ("Revenue target", "money"),
    "target_customers": ("New customers, target", "count"), "p_attain": ("Odds of the target", "odds"),
}  # fmt: skip


def _shown(plan: Plan) -> pd.DataFrame:
    """One row a market, without the figures whose order the data don't support."""
    frame = views.by_market(plan).sort_index()
    if plan.number("value", "signal", "verdict") == "none":
        frame = frame.drop(columns="clv", errors="ignore")
    if plan.number("potential", "signal", "verdict") == "none":
        frame = frame.drop(columns=["opportunity", "headroom", "quadrant", "play"], errors="ignore")
    return frame


def _payload(
    plan: Plan, frame: pd.DataFrame, drawing: tuple[dict[str, Any] | None, str], thrift: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the script reads, and what the template says around it."""
    figures = [c for c in _FIGURES if c in frame and frame[c].notna().any()]
    columns: dict[str, list[Any]] = {
        "id": [label(i, 60) for i in frame.index],
        "name": [label(n, 120) for n in frame["name"]],
    }
    words: dict[str, list[str]] = {}
    for name in ("region", "territory", "play"):
        if name in frame and frame[name].notna().any():
            columns[name], words[name] = _coded(frame[name])
    for name in figures:
        columns[name] = [_short(v) for v in frame[name]]
    if "budget" in plan.tables and thrift < 4:
        columns["moves"], words["channel"], words["reason"] = _moves(plan, frame.index, thrift)
    data: dict[str, Any] = {}
    if plan.changes is not None and thrift < 2:
        columns["since"], words["cause"] = _since(plan, frame.index)
    if "targets" in plan.tables:
        data |= _periods(plan, frame, columns, words, thrift)
    groups = [(g, t) for g, t in (("region", "Region"), ("territory", "Territory")) if len(words.get(g, [])) > 1]
    shown = _ordering(figures)
    map_, box = drawing
    data |= {
        "since": "" if plan.changes is None else f"Since {day(plan.changes.since)}",
        "currency": symbol(plan.currency),
        "locale": current_locale(),
        "code": plan.currency,
        "columns": list(columns),
        "markets": [list(row) for row in zip(*columns.values(), strict=True)],
        "words": words,
        "plays": {
            label(t, 400): label(p.what) for t, p in plan.plays.items() if label(t, 400) in words.get("play", [])
        },
        "groups": groups,
        "detail": [(c, *_FIGURES[c]) for c in figures],
        "rate": rate_unit(frame["penetration"]) if "penetration" in figures else (100, "%"),
        "cards": _cards(figures, plan.suppressed > 0),
        "orders": shown,
        "figure": _figure(figures),
        "map": map_,
        "progress": None,
        "ramp": {"light": _ramp(_LIGHT, map_), "dark": _ramp(_DARK, map_)},
    }
    around = {"groups": groups, "has_map": map_ is not None, "has_targets": "targets" in plan.tables, "viewbox": box}
    around |= _map_words(plan, map_) | _actions_words(figures, data.get("periods"))
    around["since"] = _since_words(plan)
    return data, around


def _actions_words(figures: list[str], periods: list[str] | None) -> dict[str, Any]:
    when = f" for {periods[0]}" if periods else ""
    return {
        "has_actions": bool({"change", "target_customers", "opportunity"} & set(figures)),
        "actions_title": f"Three things to do first{when}",
    }


def _since(plan: Plan, index: pd.Index) -> tuple[list[Any], list[str]]:
    """By market: (change of its money against the plan before, reason); ``None`` where there is none."""
    assert plan.changes is not None
    table = plan.changes.table.set_index("market_id").reindex(index)
    code, words = _coded(table["reason"])
    change = [_short(v, 3) for v in table["money_change"]]
    return [[c, k] if c and k >= 0 else None for c, k in zip(change, code, strict=True)], words


def _since_words(plan: Plan) -> dict[str, Any] | None:
    if plan.changes is None or not plan.changes.figures:
        return None
    show = {"money": lambda v: money(v, plan.currency), "percent": percent, "count": count}
    rules = plan.changes.rules
    return {
        "title": f"Since {day(plan.changes.since)}",
        "said": f"People set otherwise: {listed(list(rules))}." if rules else "",
        "rows": [(words, show[kind](a), show[kind](b)) for words, kind, a, b in plan.changes.figures],
    }


def _figure(figures: list[str]) -> tuple[str, str, str]:
    """The figure that stands beside every market of the list where its order tells of none: name, heading, format."""
    for name in ("change", "opportunity", "customers"):
        if name in figures:
            return name, *_FIGURES[name]
    return "id", "", "count"


def _ordering(figures: list[str]) -> list[tuple[str, bool, str]]:
    """Orders of the list: key, ascending, words."""
    orders = []
    if "opportunity" in figures:
        orders.append(("opportunity", False, "Most opportunity first"))
    if "change" in figures:
        orders += [("change-", False, "Money: biggest rise first"), ("change+", True, "Money: biggest cut first")]
    if "customers" in figures:
        orders.append(("customers", False, "Most customers first"))
    return [*orders, ("name", True, "By name")]


def _cards(figures: list[str], suppressed: bool) -> list[tuple[str, str, str, str]]:
    cards = [("markets", "Markets", "count", "")]
    if "change" in figures:
        cards.append(("moves", "Money up and down", "signed", "between markets, over all channels"))
    for name in ("target_revenue", "target_customers", "opportunity", "headroom", "customers"):
        if name in figures and len(cards) < 4:
            heading, form = _FIGURES[name]
            note = "without markets that have very few" if name == "customers" and suppressed else ""
            cards.append((name, heading, form, note))
    return cards


def _moves(plan: Plan, index: pd.Index, thrift: int) -> tuple[list[list[Any]], list[str], list[str]]:
    """By market: (channel, now, plan, reason, gain at its low end) of the cells that change, biggest first; the gain
    only of the rise that brings most at its low end, as that is what one does first."""
    budget = plan.tables["budget"]
    channel, channels = _coded(budget["channel"].map(channel_name))
    cells = budget[["market_id", "current", "recommended", "change", "reason", "value_low"]].assign(channel=channel)
    cells["reason"] = cells["reason"].map(why)
    least = 1e-6 * max(float(cells["current"].sum()), 1e-12)
    cells = cells[cells["change"].abs() > least]
    cells = cells.assign(size=-cells["change"].abs()).sort_values(["market_id", "size", "channel"], kind="stable")
    place = cells.groupby("market_id").cumcount()
    if thrift >= 2:
        cells["reason"] = cells["reason"].where(place == 0, None)
    if thrift >= 3:
        cells = cells[place < 2]
    reason, reasons = _coded(cells["reason"])
    cells = cells.assign(reason=reason)
    low = cells["value_low"].where((cells["change"] > 0) & (cells["value_low"] > 0))
    best = low.eq(low.groupby(cells["market_id"]).transform("max"))
    cells = cells.assign(low=low.where(best))
    by: dict[Any, list[Any]] = {}
    for r in cells.itertuples(index=False):
        move = [r.channel, _short(r.current, 3), _short(r.recommended, 3), r.reason]
        by.setdefault(r.market_id, []).append(move if (gain := _short(r.low, 2)) is None else [*move, gain])
    return [by.get(i, []) for i in index], channels, reasons


def _periods(
    plan: Plan, frame: pd.DataFrame, columns: dict[str, list[Any]], words: dict[str, list[str]], thrift: int
) -> dict[str, Any]:
    targets = plan.tables["targets"]
    by = targets.groupby(["market_id", "period"])[["revenue", "new_customers"]].sum()
    revenue, new = (by[c].unstack("period").reindex(frame.index).fillna(0) for c in ("revenue", "new_customers"))
    names = period_names(pd.Series(revenue.columns))
    totals = {"all": np.ones(len(frame), dtype=bool)}
    for group in ("region", "territory"):
        for code in range(len(words.get(group, []))):
            totals[f"{group}{code}"] = np.array(columns[group]) == code
    sums = {
        key: [[_short(a), _short(b)] for a, b in zip(revenue[where].sum(), new[where].sum(), strict=True)]
        for key, where in totals.items()
    }
    if thrift < 1:
        columns["monthly"] = [[_short(v, 3) for v in row] for row in new.to_numpy()]
    return {"periods": names, "period_totals": sums}


def _map(plan: Plan, frame: pd.DataFrame) -> tuple[dict[str, Any] | None, str]:
    column = next((c for c in ("change", "opportunity", "customers") if c in frame and frame[c].notna().any()), None)
    if not plan.has_geometry or column is None:
        return None, ""
    many = len(plan.markets)
    shapes = maps.simplify(maps.project(plan.markets), 900 if many <= 400 else 420 if many <= 3000 else 300)
    left, bottom, right, top = shapes.total_bounds
    scale = MAP_SIDE / max(right - left, top - bottom, 1.0)
    digits = 1 if len(shapes) <= 1000 else 0
    paths = [svg_path(shapes.get(i), left, top, scale, digits) for i in frame.index]
    values = frame[column].abs()
    size = float(values.quantile(0.97)) or float(values.max()) or 1.0
    radius = round(max(3.0, 160 / np.sqrt(len(shapes))), 1)
    box = f"-4 -4 {(right - left) * scale + 8:.0f} {(top - bottom) * scale + 8:.0f}"
    return {
        "paths": paths,
        "column": column,
        "diverging": column == "change",
        "size": _short(size),
        "radius": radius,
    }, box


def _ramp(colours: tuple[str, ...], map_: dict[str, Any] | None) -> list[list[int]]:
    used = colours if map_ is None or map_["diverging"] else colours[3:]
    return [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in used]


def _map_words(plan: Plan, map_: dict[str, Any] | None) -> dict[str, str]:
    if map_ is None:
        return {"map_title": "", "legend_low": "", "legend_high": ""}
    titles = {
        "change": "Where the money moves",
        "opportunity": "Where the opportunity is",
        "customers": "Where the customers are",
    }
    size = map_["size"]
    if map_["column"] == "customers":
        low, high = count(0), f"{count(size)} or more"
    elif map_["diverging"]:
        low, high = money(-size, plan.currency, 2), money(size, plan.currency, 2, sign=True)
    else:
        low, high = money(0, plan.currency), f"{money(size, plan.currency, 2)} or more"
    return {"map_title": titles[map_["column"]], "legend_low": low, "legend_high": high}
