"""How sure we are, what was assumed, and what can't be said yet."""

from __future__ import annotations

from micromarket.formats import chance, decimal, finite, listed, plural
from micromarket.plan.assembly import NEEDS
from micromarket.report import cautions
from micromarket.report.blocks import Block, Column, Desk, Section, fine_print, lead, points, table
from micromarket.report.sections_customers import already_told, foreseen
from micromarket.report.style import label

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


def _how_sure(desk: Desk) -> str:
    """The weakest part of the plan's ground, in a title."""
    verdicts = {s: desk.number(s, "signal", "verdict") for s in ("value", "potential")}
    known = {s: v for s, v in verdicts.items() if v}
    names = {"value": "customer value", "potential": "potential"}
    weak = [names[s] for s, v in known.items() if v != "clear"]
    solid = [names[s] for s, v in known.items() if v == "clear"]
    level = ", its level is not" if desk.number("potential", "level_known") is False else ""
    if not known:
        return "How sure we are"
    if not weak:
        return f"The order of markets by {listed(solid)} is solid{level if 'potential' in solid else ''}"
    if not solid:
        return f"The order of markets by {listed(weak)} is not well supported"
    verb = "it is not" if "none" in known.values() else "it is weak"
    return f"The order of markets by {listed(solid)} is solid, by {listed(weak)} {verb}"


def assumptions(desk: Desk) -> Section:
    plan = desk.plan
    blocks: list[Block] = []
    gain = desk.number("allocation", "gain") or {}
    expected, low, high = (finite(gain.get(k)) for k in ("expected", "low", "high"))
    title = _how_sure(desk)
    if expected and low is not None and high is not None:
        p = finite(gain.get("p_positive"))
        beats = f" The odds that it beats today's allocation are {chance(p)}." if p is not None else ""
        blocks.append(
            lead(
                f"The gain of {desk.money(expected)} is the middle of a range: in nine cases of ten it lies"
                f" between {desk.money(low)} and {desk.money(high)}.{beats}"
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
                    desk.prose(signal.get("text")),
                )
            )
    skill = finite(desk.number("potential", "rank_skill"))
    if signals:
        rows = [[n, v, t] for n, v, t in signals]
        if skill is not None:
            rows.append(
                [
                    "Order of markets by potential",
                    decimal(skill, 2),
                    "rank agreement on markets the model had not seen (1: perfect, 0: chance)",
                ]
            )
        columns = [
            Column("Question", width="3fr"),
            Column("Signal", width="1.2fr"),
            Column("What the data say", width="6fr"),
        ]
        blocks.append(table("Do markets really differ?", columns, rows, dense=True))
    blocks += foreseen(desk)
    main, rest = cautions.cautions(plan)
    if main:
        note = f"{plural(len(rest), 'smaller caution')} in the appendix." if rest else ""
        blocks.append(_caution_table(desk, "What could be wrong, most important first", main, note))
    if plan.checks:
        failed = [(s, c) for s, c in plan.checks if not c.passed]
        told = [desk.prose(f"{c.name}: {c.detail} ({STAGE_WORDS[s]})") for s, c in failed]
        sound = "Rows add up to every total, and every stage passed its own tests; the list is in plan.json."
        words = f"{plural(len(plan.checks) - len(failed), 'check')} of {len(plan.checks)} passed"
        blocks.append(points(told or [sound], words))
    return Section("How sure we are", title, tuple(blocks))


def _caution_table(desk: Desk, title: str, items: list[cautions.Caution], note: str = "") -> Block:
    rows, last = [], ""
    for touches, words in items:
        rows.append([touches if touches != last else "", desk.prose(words)])
        last = touches
    columns = [Column("What it touches", width="1.5fr"), Column("What could be wrong", width="6fr")]
    return table(title, columns, rows, note=note, dense=True)


def given(desk: Desk) -> Section | None:
    """The fine print: everything taken as given, what the field said, and smaller cautions."""
    blocks: list[Block] = []
    general, field = cautions.assumptions(desk.plan)
    if desk.plan.segments is not None and len(desk.plan.segments) > 1:
        general = [(s, a) for s, a in general if not already_told(s, a.source)]
    for items, title in ((general, ""), (field, "What the people of the field told us")):
        groups: dict[str, list[tuple[str, str]]] = {}
        for stage, a in items:
            groups.setdefault(STAGE_WORDS[stage].capitalize(), []).append((desk.prose(a.text), label(a.source)))
        if groups:
            blocks.append(fine_print(title, groups))
    _, rest = cautions.cautions(desk.plan)
    if rest:
        blocks.append(_caution_table(desk, "Smaller cautions", rest))
    if not blocks:
        return None
    n = len(general) + len(field)
    title = f"The plan rests on {plural(n, 'assumption')}" if n else "Smaller cautions"
    return Section("Appendix", title, tuple(blocks), newpage=False)


def missing(desk: Desk) -> Section | None:
    if not desk.plan.missing:
        return None
    columns = [
        Column("Not yet known", width="3fr"),
        Column("Why", width="4fr"),
        Column("Data that would allow it", width="4fr"),
    ]
    rows = [
        [NEEDS[s][0].capitalize(), desk.prose(reason), NEEDS[s][1].capitalize()]
        for s, reason in desk.plan.missing.items()
    ]
    return Section(
        "Not yet", "What this plan can't say yet, and what data would allow it", (table("", columns, rows),), False
    )
