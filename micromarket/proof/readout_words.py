"""A test's result in words: what it brought, what was promised, what follows."""

from __future__ import annotations

import datetime as dt

import numpy as np

from micromarket.formats import day, money, plural
from micromarket.proof.readout import CellReadout, Range, TestReadout


def in_words(found: TestReadout, currency: str) -> str:
    """For the terminal and the page; the finding first."""
    record = found.record
    lines = [f"Test {record.name}, {day(_date(record.start))} to {day(_date(record.end))}"]
    if found.missing:
        of = record.after + record.cool_down
        lines.append(
            f"It runs: {plural(found.missing, record.frequency)} of {of} are still to come. The result is read after"
            f" {day(_date(record.measured_until))}, not before: early looks find effects that are not there."
        )
        return "\n".join(lines)
    for cell in found.cells:
        lines += cell_words(cell, currency)
    return "\n".join([*lines, *(f"Note: {n}" for n in found.notes)])


def cell_words(cell: CellReadout, currency: str) -> list[str]:
    """Sentences on one thing that was tried."""
    lift = cell.lift
    verdict = "a clear effect" if cell.clear else "no clear effect"
    lines = [
        f"{cell.record.text}, {plural(len(cell.treated), 'market')}: {verdict}. New customers changed by"
        f" {lift.value:+.1%} (90% range {_end(lift.low)} to {_end(lift.high)}, p = {cell.p_value:.3f})."
    ]
    brought = "brought" if cell.customers.value >= 0 else "cost"
    if cell.record.value:
        sums = f", worth {money(abs(cell.value.value), currency)}"
        spent = f" for {money(abs(cell.money), currency)} of spend {'added' if cell.money >= 0 else 'saved'}"
    else:
        sums, spent = "", f" for {money(abs(cell.money), currency)} of spend" if cell.money else ""
    lines.append(f"  It {brought} {abs(cell.customers.value):,.0f} new customers{_range(cell.customers)}{sums}{spent}.")
    if cell.return_ is not None and cell.record.value:
        lines.append(
            f"  Value per unit of money: {cell.return_.value:.2f} ({_plain(cell.return_.low)} to"
            f" {_plain(cell.return_.high)})."
        )
    if cell.record.expected[0]:
        said = {
            "kept": "the promise holds", "open": "the range holds the promise, and zero too: neither is ruled out",
            "below": "the promise is out of range: the plan expects too much",
            "above": "the promise is out of range: the plan expects too little",
        }[cell.kept]  # fmt: skip
        lines.append(f"  Promised {cell.record.expected[0]:+.1%}: {said}.")
    if cell.checks:
        values = list(cell.checks.values())
        lines.append(f"  Other estimators: {min(values):+.1%} to {max(values):+.1%}.")
    return lines


def _date(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def _end(value: float) -> str:
    return f"{value:+.1%}" if np.isfinite(value) and value < 10 else ("unbounded" if value > 0 else "-100%")


def _plain(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "unbounded"


def _range(found: Range) -> str:
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        return ""
    return f" ({found.low:,.0f} to {found.high:,.0f})"
