"""How sure we are, what was assumed, what can't be said yet; and every market in a table."""

from __future__ import annotations

from micromarket.formats import count, finite, listed, percent, plural
from micromarket.plan.assembly import NEEDS
from micromarket.report.blocks import Block, Column, Desk, Section, cards, lead, points, table
from micromarket.report.style import label

MOST_ROWS = 200
STAGE_WORDS = {
    "data": "data",
    "value": "customer value",
    "potential": "potential",
    "response": "response to spend",
    "allocation": "budget",
    "targets": "targets",
    "funnel": "funnel",
    "tests": "tests",
    "plan": "plan",
}
_VERDICTS = {"clear": "clear", "weak": "weak", "none": "none"}


def assumptions(desk: Desk) -> Section:
    plan = desk.plan
    blocks: list[Block] = []
    gain = desk.number("allocation", "gain") or {}
    expected, low, high = (finite(gain.get(k)) for k in ("expected", "low", "high"))
    title = "What we assumed, and how sure we are"
    if expected and low is not None and high is not None:
        p = finite(gain.get("p_positive"))
        chance = f" The odds that it beats today's allocation are {percent(p)}." if p is not None else ""
        blocks.append(
            lead(
                f"The gain of {desk.money(expected)} is the middle of a range: in nine cases of ten it lies"
                f" between {desk.money(low)} and {desk.money(high)}.{chance}"
            )
        )
    signals = []
    for stage, name in (("value", "Customer value by market"), ("potential", "Potential by market")):
        signal = desk.number(stage, "signal") or {}
        if signal.get("verdict"):
            signals.append(
                (
                    name,
                    f"{_VERDICTS.get(signal['verdict'], signal['verdict'])}".capitalize(),
                    label(signal.get("text") or ""),
                )
            )
    skill = finite(desk.number("potential", "rank_skill"))
    if signals:
        rows = [[n, v, t] for n, v, t in signals]
        if skill is not None:
            rows.append(
                [
                    "Order of markets by potential",
                    f"{skill:.2f}",
                    "rank agreement on markets the model had not seen (1: perfect, 0: chance)",
                ]
            )
        columns = [
            Column("Question", width="3fr"),
            Column("Signal", width="1.2fr"),
            Column("What the data say", width="6fr"),
        ]
        blocks.append(table("Do markets really differ?", columns, rows))
    said = (desk.number("targets", "gap") or {}).get("text")  # stands with the targets already
    warnings = [(w, STAGE_WORDS[s]) for s, w in plan.warnings if w != said]
    if warnings:
        blocks.append(points(warnings, "What could be wrong"))
    if plan.assumptions:
        rows = [[label(a.text), label(a.source), STAGE_WORDS[s]] for s, a in plan.assumptions]
        columns = [Column("Assumption", width="6fr"), Column("Who says so", width="3fr"), Column("For", width="1.6fr")]
        blocks.append(table("Taken as given", columns, rows))
    passed = [c for _, c in plan.checks if c.passed]
    failed = [(s, c) for s, c in plan.checks if not c.passed]
    if plan.checks:
        words = f"{plural(len(passed), 'check')} of {len(plan.checks)} passed"
        blocks.append(
            points(
                [f"{c.name}: {c.detail} ({STAGE_WORDS[s]})" for s, c in failed]
                or ["Rows add up to every total, and every stage passed its own tests; the list is in plan.json."],
                words,
            )
        )
    return Section("How sure we are", title, tuple(blocks))


def missing(desk: Desk) -> Section | None:
    if not desk.plan.missing:
        return None
    columns = [
        Column("Not yet known", width="3fr"),
        Column("Why", width="4fr"),
        Column("Data that would allow it", width="4fr"),
    ]
    rows = [
        [NEEDS[s][0].capitalize(), label(reason), NEEDS[s][1].capitalize()] for s, reason in desk.plan.missing.items()
    ]
    return Section(
        "Not yet", "What this plan can't say yet, and what data would allow it", (table("", columns, rows),), False
    )


def today(desk: Desk) -> Section | None:
    """The state of things, for a plan that has little else: data and value."""
    n = desk.number
    items = []
    for name, value, note in (
        ("Active customers", n("data", "active_customers"), "count"),
        ("Revenue, last year", n("data", "revenue_last_year"), "money"),
        ("Spend, last year", n("data", "spend_last_year"), "money"),
        ("Worth of today's customers", n("value", "customer_equity"), "money"),
    ):
        if finite(value) is not None:
            items.append((name, desk.money(value) if note == "money" else count(value), ""))
    blocks: list[Block] = [cards(items)] if items else []
    segments = desk.plan.segments
    if segments is not None and len(segments) > 1:
        by = segments.sort_values(["clv", "segment"], ascending=[False, True]).head(15)
        columns = [
            Column("Segment", width="3fr"),
            Column("Customers", True),
            Column("Value of a customer", True),
            Column("Value of a new one", True),
        ]
        rows = [
            [label(r.segment, 60), count(r.customers), desk.money(r.clv), desk.money(r.new_customer_clv)]
            for r in by.itertuples()
        ]
        finding = "What a customer is worth, by segment"
        note = "Discounted margin over the horizon."
        if desk.number("value", "observed"):
            note = "Value as observed so far, not modelled: the purchases carry no dates."
        blocks.append(table(finding, columns, rows, note=note))
    models = n("value", "models") or []
    errors = [(m.get("segment"), m.get("model"), finite(m.get("holdout_error"))) for m in models]
    told = [f"{label(s or 'all')}: {percent(e)} ({label(m)})" for s, m, e in errors if e is not None][:6]
    if told:
        blocks.append(
            points(
                [f"Error on a later period that the model had not seen: {listed(told)}."],
                "How good the forecast of value is",
            )
        )
    if not blocks:
        return None
    worth = finite(n("value", "customer_equity"))
    title = f"Today's customers are worth {desk.money(worth)}" if worth is not None else "Where the company stands"
    return Section("Today", title, tuple(blocks))


def appendix(desk: Desk) -> Section | None:
    frame = desk.frame
    order = next((c for c in ("opportunity", "customers", "current") if c in frame and frame[c].notna().any()), None)
    if desk.number("potential", "signal", "verdict") == "none" and "customers" in frame:
        order = "customers"
    frame = frame.sort_index()
    if order:
        frame = frame.sort_values(order, ascending=False, kind="stable", na_position="last")
    columns, cells = [Column("Market", width="2fr")], [frame["name"].map(lambda v: label(v, 44))]
    region = frame["region"] if frame["region"].notna().any() else None
    if region is not None:
        columns.append(Column("Region", width="2fr"))
        cells.append(region.map(lambda v: label(v, 40) if v is not None else ""))
    ranked = desk.number("value", "signal", "verdict") != "none"
    for column, name, show, signed in (
        ("customers", "Customers", count, False),
        ("clv", "Value each", desk.money, False),
        ("headroom", "To win", count, False),
        ("opportunity", "Opportunity", desk.money, False),
        ("recommended", "Money", desk.money, False),
        ("current", "Spend now", desk.money, False),
        ("change", "Change", desk.signed, True),
        ("target_revenue", "Target", desk.money, False),
    ):
        if column == "current" and "recommended" in frame:
            continue
        if column in frame and frame[column].notna().any() and (column != "clv" or ranked):
            columns.append(Column(name, True, signed=signed))
            cells.append(frame[column].map(show))
    if not any(c.right for c in columns):
        return None
    if "quadrant" in frame and frame["quadrant"].notna().any():
        columns.append(Column("Quadrant"))
        cells.append(frame["quadrant"].map(lambda v: label(v.split(":")[0], 14) if isinstance(v, str) else ""))
    rows = list(zip(*(c.head(MOST_ROWS) for c in cells), strict=True))
    by = {"opportunity": "opportunity", "customers": "customers", "current": "spend", None: "id"}[order]
    shown = (
        plural(len(frame), "market") if len(frame) <= MOST_ROWS else f"The first {MOST_ROWS} of {len(frame):,} markets"
    )
    note = "All figures of all markets: plan.xlsx and tables/scores.parquet." if len(frame) > MOST_ROWS else ""
    if desk.plan.suppressed:
        note += f" A dash under customers: fewer than {desk.plan.min_cell}."
    return Section("Appendix", f"{shown}, by {by}", (table("", columns, rows, note=note.strip(), dense=True),))
