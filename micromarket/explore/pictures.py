"""Pictures that are drawn again at every touch of a slider: SVG and HTML written by hand, in milliseconds."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from micromarket.explore.scenarios import Outcome
from micromarket.formats import NOTHING, count, odds, percent
from micromarket.report import maps, style
from micromarket.report.paths import svg_path
from micromarket.report.sections_money import channel_name
from micromarket.report.style import label

Money = Callable[..., str]
_LINES = (style.ACCENT_DARK, style.WARM, "#7A8793", "#3FA0A0", "#86390A")
SIDE = 560  # units of a map's larger side
_BOX = f"background:#fff;color:{style.INK};padding:10px 12px;font:13px/1.45 Inter,system-ui,sans-serif;max-width:1080px"
_LOW, _MIDDLE, _HIGH = (
    np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (style.WARM, "#F5F3F0", style.ACCENT)
)


@dataclass(frozen=True)
class Atlas:
    """The markets' shapes as paths, made once. ``names``: by ``market_id``; ``paths``: path or place; ``view``: box."""

    names: pd.Series
    paths: dict[str, object]
    view: str

    @classmethod
    def of(cls, markets: pd.DataFrame) -> Atlas:
        """From the artefact ``markets``; without shapes where the company has none."""
        by = markets.set_index("market_id")
        names = (
            by["name"].where(by["name"].notna(), by.index.to_series()).astype(str)
            if "name" in by
            else by.index.to_series()
        )
        if "geometry" not in by or not by["geometry"].notna().any():
            return cls(names, {}, "")
        shapes = maps.simplify(maps.project(markets), 420 if len(by) <= 1500 else 260)
        left, bottom, right, top = shapes.total_bounds
        scale = SIDE / max(right - left, top - bottom, 1.0)
        paths = {
            str(i): svg_path(shapes.get(i), left, top, scale, 1 if len(by) <= 400 else 0) for i in sorted(shapes.index)
        }
        view = f"-4 -4 {(right - left) * scale + 8:.0f} {(top - bottom) * scale + 8:.0f}"
        return cls(names, paths, view)

    @cached_property
    def _safe(self) -> dict[str, str]:
        return {str(i): html.escape(label(n, 60)) for i, n in self.names.items()}

    def name(self, market: object) -> str:
        """Ready for HTML."""
        return self._safe.get(str(market), html.escape(str(market)))

    def drawn(
        self, values: pd.Series, show: Money, alt: str, scale: float | None = None, on: Sequence[str] = ()
    ) -> str:
        """A map of ``values`` (by market; teal above 0, orange below) as SVG; empty without shapes.

        ``scale``: value of the full colour; ``on``: markets with a dark border.
        """
        if not self.paths:
            return ""
        known = {str(k): float(v) for k, v in values.items() if np.isfinite(v)}
        size = scale or colour_scale(values)
        ids = list(self.paths)
        t = np.clip(np.array([known.get(i, np.nan) for i in ids]) / size, -1, 1)[:, None]
        rgb = np.where(t < 0, _MIDDLE + (_LOW - _MIDDLE) * -t, _MIDDLE + (_HIGH - _MIDDLE) * t)
        parts = []
        for market, colour in zip(ids, rgb, strict=True):
            path = self.paths[market]
            if path is None:
                continue
            fill = style.LAND if np.isnan(colour[0]) else _hex(colour)
            place = f'<path d="{path}"' if isinstance(path, str) else f'<circle cx="{path[0]}" cy="{path[1]}" r="3"'  # type: ignore[index]
            told = f"{self.name(market)}: {show(known.get(market))}"
            edge = f' stroke="{style.INK}" stroke-width="2"' if market in on else ""
            parts.append(
                f'{place} fill="{fill}"{edge}><title>{told}</title></{"path" if isinstance(path, str) else "circle"}>'
            )
        return (
            f'<svg viewBox="{self.view}" role="img" aria-label="{html.escape(alt)}" style="width:100%;max-height:420px"'
            f' fill-rule="evenodd" stroke="#fff" stroke-width=".4">{"".join(parts)}</svg>'
        )  # fmt: skip


def _hex(rgb: Sequence[float]) -> str:
    return "#" + "".join(f"{round(c):02x}" for c in rgb)


def colour_scale(values: pd.Series) -> float:
    """Value of the full colour: the 97th percentile of sizes, so that one huge market doesn't leave the rest pale."""
    sizes = values[np.isfinite(values)].abs()
    return float(sizes.quantile(0.97)) or float(sizes.max()) or 1.0 if len(sizes) else 1.0


def boxed(*parts: str) -> str:
    """HTML on white, so that it reads on any theme; dollars in it are no formulas."""
    return f'<div class="mathjax_ignore tex2jax_ignore" style="{_BOX}">{"".join(parts)}</div>'


def beside(*parts: str, least: int = 300) -> str:
    columns = f"repeat(auto-fit,minmax({least}px,1fr))"
    inside = "".join(f"<div>{p}</div>" for p in parts if p)
    return f'<div style="display:grid;grid-template-columns:{columns};gap:18px;align-items:start">{inside}</div>'


def heading(text: str) -> str:
    return f'<p style="margin:10px 0 6px;font-weight:600;color:{style.INK}">{html.escape(text)}</p>'


def cards(items: Iterable[tuple[str, str, str]]) -> str:
    """(label, value, note) side by side."""
    box = f"background:{style.ACCENT_PALE};border-radius:6px;padding:8px 12px;flex:1 1 150px"
    grey = f"font-size:11.5px;color:{style.GREY}"
    return '<div style="display:flex;flex-wrap:wrap;gap:10px">' + "".join(
        f'<div style="{box}"><div style="{grey}">{html.escape(a)}</div><div style="font-size:20px;font-weight:600;'
        f'color:{style.ACCENT_DARK}">{html.escape(b)}</div><div style="{grey}">{html.escape(c)}</div></div>'
        for a, b, c in items
    ) + "</div>"  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[int] = (0,)) -> str:
    """Cells become texts, unless they are :class:`Safe`. ``words``: columns of words; the others are figures."""

    def cell(tag: str, j: int, value: object) -> str:
        text = value.text if isinstance(value, Safe) else html.escape(str(value))
        how = "text-align:left" if j in words else "text-align:right;white-space:nowrap"
        colour = style.GREY if tag == "th" else style.INK
        line = f"border-bottom:1px solid {style.LINE};padding:3px 8px;vertical-align:top;color:{colour};{how}"
        return f'<{tag} dir="auto" style="{line}">{text}</{tag}>'

    top = "".join(cell("th", j, v) for j, v in enumerate(head))
    body = "".join(f"<tr>{''.join(cell('td', j, v) for j, v in enumerate(row))}</tr>" for row in rows)
    # JupyterLab gives tables columns of equal width where they don't say otherwise
    look = "table-layout:auto;border-collapse:collapse;width:100%;font-size:12.5px;background:#fff"
    return f'<table style="{look}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


@dataclass(frozen=True)
class Safe:
    """Text that is already HTML."""

    text: str


def frontier(lines: Sequence[tuple[str, pd.DataFrame, float]], money: Money) -> str:
    """Margin gained against the total budget: (name, points, own total) by scenario; the first with its 90% band."""
    lines = [(label(n, 40), p, t) for n, p, t in lines if len(p) > 1]
    if not lines:
        return ""
    x = np.concatenate([p["total"].to_numpy(float) for _, p, _ in lines])
    first = lines[0][1]
    y = np.concatenate([p["value"].to_numpy(float) for _, p, _ in lines] + [first["low"], first["high"], [0.0]])
    x0, x1, y0, y1 = x.min(), max(x.max(), x.min() + 1e-9), y.min(), max(y.max(), y.min() + 1e-9)
    left, top, wide, high = 62.0, 10.0, 380.0, 200.0

    def at(a: float, b: float) -> tuple[float, float]:
        return left + wide * (a - x0) / (x1 - x0), top + high * (1 - (b - y0) / (y1 - y0))

    def line(xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*at(a, b)) for a, b in zip(xs, ys, strict=True))

    def text(px: float, py: float, words: str, how: str) -> str:
        return f'<text x="{px:.1f}" y="{py:.1f}" {how}>{html.escape(words)}</text>'

    band = line(first["total"], first["high"]) + " " + line(first["total"][::-1], first["low"][::-1])
    zero = at(x0, 0.0)[1]
    out = [
        f'<polygon points="{band}" fill="{style.ACCENT_SOFT}" fill-opacity=".5"/>',
        f'<path d="M{left} {zero:.1f}h{wide}" stroke="{style.GREY}" stroke-width=".7"/>',
    ]
    for k, (name, points, total) in enumerate(lines):
        colour = _LINES[k % len(_LINES)]
        path = line(points["total"], points["value"])
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        px, py = at(total, float(np.interp(total, points["total"], points["value"])))
        out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}" stroke="#fff"/>')
        # names stand where rising lines leave room
        out.append(text(left + 8, top + 12 + 15 * k, f"● {name}", f'font-weight="600" fill="{colour}"'))
    grey = f'fill="{style.GREY}"'
    ends = f'text-anchor="end" {grey}'
    out += [text(left - 6, at(x0, v)[1] + 4, money(v, digits=2), ends) for v in np.linspace(y0, y1, 4)]
    middle = f'text-anchor="middle" {grey}'
    out += [text(at(v, y0)[0], top + high + 18, money(v), middle) for v in np.linspace(x0, x1, 4)]
    out.append(text(left + wide / 2, top + high + 36, "Total budget over the plan period", middle))
    told = [f"{n} {money(float(np.interp(t, p['total'], p['value'])))}" for n, p, t in lines]
    alt = html.escape("Margin gained against the total budget: " + "; ".join(told))
    return (
        f'<svg viewBox="0 0 470 256" role="img" aria-label="{alt}" style="width:100%;max-width:520px" font-size="11"'
        f' font-family="Inter,system-ui,sans-serif">{"".join(out)}</svg>'
    )


def moves(outcome: Outcome, atlas: Atlas, money: Money, most: int = 6) -> str:
    """The biggest rises and cuts, market x channel."""
    ordered = outcome.budget.sort_values(["change", "market_id", "channel"], kind="stable")
    least = 1e-6 * max(float(outcome.budget["current"].sum()), 1.0)
    up, down = ordered[ordered["change"] > least].iloc[::-1].head(most), ordered[ordered["change"] < -least].head(most)
    rows = [
        (
            Safe(atlas.name(r.market_id)),
            channel_name(r.channel),
            money(r.current),
            money(r.recommended),
            money(r.change, sign=True),
        )
        for r in pd.concat([up, down]).itertuples()
    ]
    return (
        table(("Market", "Channel", "Now", "Then", "Change"), rows, words=(0, 1)) if rows else "<p>No money moves.</p>"
    )


def in_best_fifth(outcome: Outcome) -> tuple[float, float] | None:
    """Share of today's and of the recommended money in the fifth of markets with most opportunity."""
    room = outcome.opportunity.dropna().sort_index().sort_values(ascending=False, kind="stable")
    by = outcome.budget.groupby("market_id")[["current", "recommended"]].sum()
    if len(room) < 5 or not float(room.clip(lower=0).sum()) > 0 or not (by.sum() > 0).all():
        return None
    best = by.reindex(room.index[: max(1, int(np.ceil(len(room) / 5)))]).sum() / by.sum()
    return float(best["current"]), float(best["recommended"])


def figures_of(outcome: Outcome, money: Money) -> list[tuple[str, str, str]]:
    """A scenario in (label, value, note)."""
    g = outcome.gain
    range_ = f"90%: {money(g['low'], digits=2)} to {money(g['high'], digits=2)}"
    sure = g.get("p_positive")
    out = [
        ("Total budget", money(outcome.total), f"{money(outcome.moved)} moves" if outcome.moved else "nothing moves"),
        (
            "Margin against today",
            money(g["expected"], sign=True),
            range_ + (f"; odds of a gain {odds(sure)}" if sure is not None else ""),
        ),
        ("New customers against today", ("+" if outcome.customers > 0 else "") + count(outcome.customers), ""),
        ("The next 1 of budget brings", money(outcome.price, digits=2) if outcome.pays else NOTHING, "of margin"),
    ]
    fifth = in_best_fifth(outcome)
    if fifth:
        out.append(("Money in the fifth with most opportunity", percent(fifth[1]), f"today {percent(fifth[0])}"))
    return out


def answer(outcome: Outcome, planned: Outcome | None, atlas: Atlas, money: Money) -> str:
    """Everything about one scenario, beside the plan's own frontier."""
    lines = [(outcome.scenario.name, outcome.frontier, outcome.total)]
    if planned is not None and planned.scenario != outcome.scenario:
        lines.append((planned.scenario.name, planned.frontier, planned.total))
    why = "" if outcome.pays or outcome.moved != 0 else (
        "<p>Within these limits no move clearly pays, so today's allocation stays.</p>"
    )  # fmt: skip
    alt = "Change of money by market under this scenario; the table beside names the largest."
    show = lambda v: money(v, sign=True)  # noqa: E731
    picture = atlas.drawn(outcome.change, show, alt)
    return boxed(
        cards(figures_of(outcome, money)), why,
        beside(
            heading("What moves: more (teal), less (orange)") + picture if picture else "",
            heading("What another total would bring, limits growing with it") + frontier(lines, money),
        ),
        heading("The biggest moves"), moves(outcome, atlas, money),
    )  # fmt: skip


def side_by_side(outcomes: Sequence[Outcome], atlas: Atlas, money: Money, planned: Outcome) -> str:
    """Scenarios in columns: their figures, what differs in their limits, and maps in one scale of colours."""
    if not outcomes:
        return boxed("<p>No scenario is kept yet.</p>")
    columns = [figures_of(o, money) for o in outcomes]
    titles = list(dict.fromkeys(label_ for c in columns for label_, _, _ in c))
    differs = [html.escape(o.differs_from(planned.scenario, money)) for o in outcomes]
    wrap = '<span style="white-space:normal">'
    rows: list[list[object]] = [["What differs", *(Safe(f"{wrap}{d}</span>") for d in differs)]]
    for title in titles:
        row: list[object] = [title]
        for column in columns:
            found = next(((v, n) for t, v, n in column if t == title), (NOTHING, ""))
            note = (
                f'<br><span style="color:{style.GREY};font-size:11px;white-space:normal">{html.escape(found[1])}</span>'
                if found[1]
                else ""
            )
            row.append(Safe(f"<b>{html.escape(found[0])}</b>{note}"))
        rows.append(row)
    scale = max(colour_scale(o.change) for o in outcomes)
    show = lambda v: money(v, sign=True)  # noqa: E731
    pictures = [
        heading(o.scenario.name) + atlas.drawn(o.change, show, f"Change of money by market: {o.scenario.name}", scale)
        for o in outcomes
    ]
    head = ["", *(o.scenario.name for o in outcomes)]
    lines = [(o.scenario.name, o.frontier, o.total) for o in outcomes]
    return boxed(
        table(head, rows),
        beside(*pictures, least=220) if atlas.paths else "",
        heading("What other totals would bring, limits growing with them"),
        frontier(lines, money),
    )


__all__ = ["Atlas", "Safe", "answer", "beside", "boxed", "cards", "figures_of", "frontier", "heading", "moves",
           "side_by_side", "table"]  # fmt: skip
