"""Pictures of tests: what each could see, and what it brought beside what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from micromarket.formats import percent
from micromarket.report.style import ACCENT_DARK, ACCENT_PALE, GREY, INK, LINE, WARM, canvas, label, to_svg

MOST = 4


def power_curves(cells: Sequence[Mapping[str, Any]], height_mm: float = 62, width_mm: float | None = None) -> bytes:
    """Chance to call an effect clear against the true lift, a panel a cell.

    ``cells``: see the key ``cells`` of the notes of the tests stage. The band is what the plan expects (90% range).
    """
    cells = list(cells)[:MOST]
    with canvas(height_mm, width_mm) as figure:
        panels = figure.subplots(1, max(len(cells), 1), squeeze=False, sharey=True)[0]
        for panel, cell in zip(panels, cells, strict=False):
            curve = cell.get("power_curve") or []
            x = np.array([p["lift"] for p in curve], dtype=float)
            y = np.array([p["power"] for p in curve], dtype=float)
            sign = -1.0 if cell["expected_lift"] < 0 else 1.0
            low, high = sorted((sign * cell["expected_low"], sign * cell["expected_high"]))
            seen = cell.get("minimum_detectable_lift")
            right = max(1.5 * high, 1.6 * (seen or 0), 0.05)
            panel.axvspan(max(low, 0), high, color=ACCENT_PALE, linewidth=0)
            panel.text((max(low, 0) + high) / 2, 1.03, "expected", ha="center", fontsize=7.5, color=ACCENT_DARK)
            panel.plot(x, y, color=ACCENT_DARK)
            panel.axhline(0.8, color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
            if seen is not None:
                panel.scatter([seen], [0.8], s=28, color=WARM, zorder=4)
                words = f"{percent(sign * seen, 1, sign=True)} shows in 80%"
                panel.annotate(words, (seen, 0.8), (-6, 6), textcoords="offset points", fontsize=8, fontweight=600,
                               color=WARM, ha="right" if seen > 0.45 * right else "left")  # fmt: skip
            panel.set_xlim(0, right)
            panel.set_ylim(0, 1.1)
            panel.set_title(label(cell["text"], 34), fontsize=9, fontweight=600, loc="left", pad=8)
            panel.xaxis.set_major_locator(_ticks())
            panel.xaxis.set_major_formatter(lambda v, _, s=sign: percent(s * v, 0 if abs(v) >= 0.1 or v == 0 else 1))
            panel.yaxis.set_major_formatter(lambda v, _: percent(v))
            panel.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
            panel.grid(color=LINE)
            panel.set_xlabel("True change of new customers")
        panels[0].set_ylabel("Chance to call it clear")
        return to_svg(figure)


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def promised_and_delivered(rows: Sequence[Mapping[str, Any]], height_mm: float | None = None) -> bytes:
    """Bars of 90% ranges: what the plan expected (pale) and what the test found (dark), a row a cell or a group.

    ``rows``: mappings with ``name``, ``promised``, ``promised_low``, ``promised_high``, ``found``, ``low``, ``high``
    (relative lifts); an end that is not known may be ``None`` or infinite.
    """
    rows = list(rows)
    with canvas(height_mm or 16 + 13 * len(rows)) as figure:
        axes = figure.add_subplot()
        known = [float(v) for r in rows for k, v in r.items()
                 if k != "name" and v is not None and np.isfinite(v)]  # fmt: skip
        span = max(max(known, default=0.1), 0.0) - min(min(known, default=0.0), 0.0) or 0.1
        left = min(min(known, default=0.0), 0.0) - 0.06 * span
        right = max(max(known, default=0.1), 0.0) + 0.12 * span
        for i, r in enumerate(rows):
            y = len(rows) - 1 - i
            for low, high, at, shift, colour, thick in (
                ("promised_low", "promised_high", "promised", 0.17, ACCENT_PALE, 7.0),
                ("low", "high", "found", -0.17, ACCENT_DARK, 2.2),
            ):
                if r.get(at) is None:
                    continue
                a, b = (_end(r.get(k), e) for k, e in ((low, left), (high, right)))
                axes.plot([a, b], [y + shift] * 2, color=colour, linewidth=thick, solid_capstyle="butt")
                axes.scatter([r[at]], [y + shift], s=26, color=ACCENT_DARK if at == "found" else GREY, zorder=3)
            axes.text(right, y - 0.17, percent(r["found"], 1, sign=True), ha="right", va="center", fontsize=8.5,
                      fontweight=600, color=INK)  # fmt: skip
            if r["promised"] is not None:
                axes.text(right, y + 0.17, percent(r["promised"], 1, sign=True), ha="right", va="center", fontsize=8,
                          color=GREY)  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_xlim(left, right)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), [label(r["name"], 36) for r in reversed(rows)])
        axes.xaxis.set_major_formatter(lambda v, _: percent(v, 0, sign=True))
        axes.grid(axis="x", color=LINE)
        axes.set_xlabel("Change of new customers (pale: expected, dark: found, 90% ranges)")
        return to_svg(figure)


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of :func:`promised_and_delivered` from the cells of a test's results (:mod:`micromarket.proof.results`)."""
    return [
        {"name": c["text"], "found": c["lift"], "low": c["lift_low"], "high": c["lift_high"],
         **{k: c[k] for k in ("promised", "promised_low", "promised_high")}}
        for c in cells
    ]  # fmt: skip


def _end(value: Any, edge: float) -> float:
    return edge if value is None or not np.isfinite(value) else float(value)
