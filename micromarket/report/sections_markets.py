"""The appendix: every market with its figures in a table."""

from __future__ import annotations

import pandas as pd

from micromarket.formats import count
from micromarket.report.blocks import Block, Column, Desk, Section, halves, small, table
from micromarket.report.style import label

ALL_ROWS, MOST_ROWS = 400, 200  # every market up to so many, else the first so many
FEW_ROWS = 40  # up to so many stand in one column, with all their figures
ONE_PAGE = 130  # rows of the narrow table that go on one page, in halves of equal length
MOST_REGIONS = 40  # more would be headings rather than groups


def appendix(desk: Desk) -> Section | None:
    """Few markets in one wide table; many in two columns, by region, with the figures that most ask for."""
    frame = desk.frame
    if not desk.potential_ranked:
        frame = frame.drop(columns=["opportunity", "headroom", "quadrant"], errors="ignore")
    if not desk.value_ranked:
        frame = frame.drop(columns="clv", errors="ignore")
    order = next((c for c in ("opportunity", "customers", "current") if c in frame and frame[c].notna().any()), None)
    frame = frame.sort_index()
    if order:
        frame = frame.sort_values(order, ascending=False, kind="stable", na_position="last")
    figures = [
        (column, name, show, signed)
        for column, name, show, signed in (
            ("customers", "Customers", count, False),
            ("clv", "Value each", desk.money, False),
            ("headroom", "To win", count, False),
            ("opportunity", "Opportunity", desk.money, False),
            ("recommended", "Money", desk.money, False),
            ("current", "Spend now", desk.money, False),
            ("change", "Change", desk.signed, True),
            ("target_revenue", "Target", desk.money, False),
        )
        if column in frame and frame[column].notna().any() and not (column == "current" and "recommended" in frame)
    ]
    if not figures:
        return None
    most = len(frame) if len(frame) <= ALL_ROWS else MOST_ROWS
    by = {"opportunity": "opportunity", "customers": "customers", "current": "spend", None: "id"}[order]
    told = (
        f"All {count(len(frame))} markets" if most == len(frame) else f"The first {most} of {count(len(frame))} markets"
    )
    note = "" if len(frame) <= FEW_ROWS else "All figures of all markets: plan.xlsx and tables/scores.parquet."
    if desk.plan.suppressed:
        note += f" A dash under customers: fewer than {desk.plan.min_cell}."
    if len(frame) <= FEW_ROWS:
        block, grouped, letters = _wide(frame, figures), "", ""
    else:
        block, grouped, letters = _narrow(frame.head(most), figures, order)
    said = f"{letters}{note} {desk.unshown}".strip()
    blocks = (small(said), block) if said else (block,)
    return Section("Appendix", f"{told}, {grouped}by {by}", blocks, newpage=False)


def _quadrant(frame: pd.DataFrame) -> pd.Series | None:
    if "quadrant" not in frame or not frame["quadrant"].notna().any():
        return None
    return frame["quadrant"].map(lambda v: label(v.split(":")[0], 14) if isinstance(v, str) else "")


def _wide(frame: pd.DataFrame, figures: list) -> Block:
    columns, cells = [Column("Market", width="2fr")], [frame["name"].map(lambda v: label(v, 44))]
    if frame["region"].notna().any():
        columns.append(Column("Region", width="2fr"))
        cells.append(frame["region"].map(lambda v: label(v, 40) if v is not None else ""))
    for column, name, show, signed in figures:
        columns.append(Column(name, True, signed=signed))
        cells.append(frame[column].map(show))
    if (quadrant := _quadrant(frame)) is not None:
        columns.append(Column("Quadrant"))
        cells.append(quadrant)
    return table("", columns, list(zip(*cells, strict=True)), dense=True)


def _narrow(frame: pd.DataFrame, figures: list, order: str | None) -> tuple[Block, str, str]:
    """The table, "by region and " where it is grouped, and what its letters mean."""
    keep = [f for f in figures if f[0] not in ("clv", "headroom")]
    columns = [Column("Market", width="1fr"), *(Column(n, True, signed=s) for _, n, _, s in keep)]
    quadrant, letters = _quadrant(frame), ""
    if quadrant is not None:
        words = sorted({q for q in quadrant if q})
        if len({w[0] for w in words}) == len(words):
            columns.append(Column(""))
            letters = ", ".join(f"{w[0]}: {w.lower()}" for w in words) + ". "
        else:
            quadrant = None
    groups: list[tuple[str | None, pd.DataFrame]] = [(None, frame)]
    if 2 <= frame["region"].nunique() <= MOST_REGIONS:
        region = frame["region"].where(frame["region"].notna(), "No region").astype(str)
        size = frame[order].groupby(region).sum() if order else region.value_counts()
        first = sorted(size.index, key=lambda name: (-size[name], name))
        groups = [(name, frame[region == name]) for name in first]
    rows: list[list[str]] = []
    for name, part in groups:
        if name is not None:
            rows.append([label(name, 60)])
        mark = None if quadrant is None else quadrant.reindex(part.index)
        shown = [part[c].map(show) for c, _, show, _ in keep]
        for k, market in enumerate(part["name"]):
            last = [] if mark is None else [str(mark.iloc[k])[:1]]
            rows.append([label(market, 44), *(str(c.iloc[k]) for c in shown), *last])
    block = table("", columns, rows, dense=True, columns_of_page=2)
    if len(rows) <= ONE_PAGE:
        block = halves(block)
    return block, "by region and " if groups[0][0] is not None else "", letters
