"""How the plan will be proven: what is tried where, what would convince us, when we will know."""

from __future__ import annotations

import datetime as dt
from typing import Any

from micromarket.formats import count, day, finite, percent, plural
from micromarket.report import maps, proof_figures, proof_results
from micromarket.report.blocks import HALF_MM, Block, Column, Desk, Section, beside, cards, lead, points, table
from micromarket.report.style import ACCENT, WARM, label

_TAUGHT = "What changed in this plan because of tests"


def tests(desk: Desk) -> Section | None:
    if "tests" not in desk.plan.tables:
        return None
    n = desk.number
    treated, control = (desk.plan.totals["tests"][k] for k in ("treated", "control"))
    verdict, text = str(n("tests", "verdict") or ""), n("tests", "text")
    if not treated:
        if not verdict or not text:
            return None
        title = "No test would pay for itself this time"
        if "reserve" in verdict:
            title = "A test would pay, with a larger reserve"
        return Section("Proof", title, (lead(desk.prose(text)),))
    lift = finite(n("tests", "minimum_detectable_lift"))
    title = "How it will be proven"
    if lift is not None:
        first = "1 market is" if treated == 1 else f"{count(treated)} markets are"
        title = f"{first} tested by lot: a change of {percent(lift, 1)} or more will show"
    if verdict and verdict not in ("run", "go"):
        title = f"How it could be proven: {label(verdict, 60)}"
    items = [
        ("Something is tried", count(treated), "markets"),
        ("Stay as they are", count(control), "markets, for comparison"),
    ]
    weeks, power, cost = finite(n("tests", "weeks")), finite(n("tests", "power")), finite(n("tests", "cost"))
    worth, until = finite(n("tests", "worth")), n("tests", "measured_until")
    if weeks is not None:
        items.append(("Length", plural(weeks, "week"), _dates(n("tests", "start"), n("tests", "end"))))
    if worth is not None and cost is not None:
        items.append(("Worth", desk.money(worth), f"against a cost of {desk.money(max(cost, 0.0))}"))
    elif cost is not None:
        items.append(("Cost", desk.money(cost), "of waiting and measuring"))
    elif power is not None:
        items.append(("Power", percent(power), "chance to see that lift"))
    opening = n("tests", "brief") or text
    blocks: list[Block] = [lead(desk.prose(opening))] if opening else []
    blocks.append(cards(items[:4]))
    cells = [c for c in n("tests", "cells") or [] if isinstance(c, dict)]
    power_seen = bool(cells) and any(c.get("power_curve") for c in cells)
    drawn = desk.shapes is not None and len(desk.shapes) > 0
    abreast = power_seen and drawn and len(cells) == 1  # one curve and the map share a line
    if cells:
        blocks.append(_tried(cells))
    pictures = [_power(desk, cells, HALF_MM if abreast else None)] if power_seen else []
    if drawn:
        pictures.append(_map(desk, 112 if not cells else 66, HALF_MM if abreast else None))
    blocks += [beside(*pictures)] if abreast else pictures[:1] if power_seen else []
    words = [
        "Markets were grouped with ones like them; chance alone decided which of each group is treated."
        " Nobody's judgement can tilt the result.",
        f"What is compared: {label(n('tests', 'measure') or 'new customers', 60).replace('_', ' ')},"
        " in treated markets against those that stay as they are.",
    ]
    if power is not None and lift is not None and len(cells) < 2:
        words.append(
            f"The change that the plan expects would be called clear in {percent(power)} of cases."
            " A smaller effect may go unseen: that is no proof that there is none."
        )
    if until:
        words.append(
            f"The result is read after {day(dt.date.fromisoformat(str(until)))}, not before. Markets, estimator and"
            " dates are frozen in tests.json; what the test finds, even if nothing, calibrates the next plan."
        )
    blocks.append(points(words, "Why the result can be trusted"))
    if drawn and not abreast:
        blocks.append(pictures[-1])
    taught = [desk.prose(t) for t in n("tests", "taught") or []]
    if taught and not n("tests", "results"):
        blocks.append(points(taught, _TAUGHT))
    return Section("Proof", title, tuple(blocks))


def results(desk: Desk) -> Section | None:
    """What the test of the plan before brought, and what results of tests changed in this plan."""
    found, taught = list(desk.number("tests", "results") or []), list(desk.number("tests", "taught") or [])
    blocks: list[Block] = []
    if not found and "tests" in desk.plan.tables and desk.plan.totals["tests"]["treated"]:
        return None  # nothing was tested before: the section on this plan's test says what changed
    if found:
        blocks.append(lead(proof_results.opening(found)))
        drawn = proof_results.picture(found)
        if drawn is not None:
            blocks.append(desk.figure("delivered", "Promised (pale) and found (dark), 90% ranges", drawn[1], drawn[0]))
        for name, (columns, rows) in (
            ("What it brought", proof_results.brought(found, desk.plan.currency)),
            ("Promised and delivered", proof_results.promises(found)),
            ("New customers by group of peer markets", proof_results.groups(found)),
        ):
            if rows:
                blocks.append(table(name, columns, rows, dense=True))
    if taught:
        blocks.append(points([desk.prose(t) for t in taught], _TAUGHT))
    if not blocks:
        return None
    title = proof_results.title(found) if found else "What tests changed in this plan"
    return Section("Proof", title, tuple(blocks), newpage=bool(found))


def _tried(cells: list[dict[str, Any]]) -> Block:
    """What is tried, cell by cell, and what each could show."""
    rows = [
        [
            label(c["text"], 60), count(c["treated"]), percent(c["expected_lift"], 1, sign=True),
            f"{percent(c['expected_low'], 1, sign=True)} to {percent(c['expected_high'], 1, sign=True)}",
            percent(c["power"]), percent(c["false_positives"]),
        ]
        for c in cells
    ]  # fmt: skip
    columns = [
        Column("What is tried", width="2fr"), Column("Markets", True), Column("Plan expects", True),
        Column("90% range", True), Column("Seen if true", True), Column("False alarms", True),
    ]  # fmt: skip
    return table("What is tried, and what would convince us", columns, rows)


def _power(desk: Desk, cells: list[dict[str, Any]], width_mm: float | None) -> Block:
    first = cells[0]
    alt = (
        f"Chance to call an effect clear against its true size. {label(first['text'], 60)}: the expected change of"
        f" {percent(first['expected_lift'], 1, sign=True)} is seen in {percent(first['power'])} of cases."
    )
    svg = proof_figures.power_curves(cells, 46 if width_mm is None else 62, width_mm)
    return desk.figure("power", "What the test could see, measured on past weeks", alt, svg)


def _map(desk: Desk, height_mm: float, width_mm: float | None) -> Block:
    arm = desk.frame["arm"]
    kinds = {"treat": (ACCENT, "treated"), "control": (WARM, "stays as it is")}
    assert desk.shapes is not None
    svg = maps.categories(desk.shapes, arm, kinds, height_mm, width_mm)
    alt = (
        f"{count((arm == 'treat').sum())} markets are treated, {count((arm == 'control').sum())} stay as they are, the"
        " others are not in the test."
    )
    return desk.figure("arms", "Which markets take part", alt, svg)


def _dates(start: object, end: object) -> str:
    try:
        return f"{day(dt.date.fromisoformat(str(start)))} to {day(dt.date.fromisoformat(str(end)))}"
    except ValueError:
        return ""
