"""What tests brought: blocks of the PDF's section, and a page of its own for `micromarket readout --results`."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from micromarket.errors import InputError, Problem
from micromarket.formats import count, day, money, percent, plural
from micromarket.report import proof_figures, style
from micromarket.report.blocks import Column
from micromarket.report.style import label

Rows = list[list[str]]
VERDICTS = {
    "kept": "The promise holds", "open": "Open: neither the promise nor zero is ruled out",
    "below": "The plan expected too much", "above": "The plan expected too little",
}  # fmt: skip
_MOST_GROUPS = 12


def verdict(cell: Mapping[str, Any]) -> str:
    """In words: was there an effect, and does the promise hold."""
    if cell["promised"] is None:
        return "A clear effect" if cell["clear"] else "No clear effect"
    return VERDICTS[cell["kept"]]


def title(results: Sequence[Mapping[str, Any]]) -> str:
    """The finding in one line."""
    cells = [c for r in results for c in r["cells"]]
    if not cells:
        return f"The test runs: its result is read after {_day(results[0]['measured_until'])}"
    first = max(cells, key=lambda c: bool(c["clear"]))
    change = percent(first["lift"], 1, sign=True)
    if first["clear"]:
        return f"Tested: {label(first['text'], 60)} changed new customers by {change}"
    return f"Tested: {label(first['text'], 60)} had no clear effect ({change})"


def opening(results: Sequence[Mapping[str, Any]]) -> str:
    """When, and what the range means."""
    said = []
    for found in results:
        span = f"{_day(found['start'])} to {_day(found['end'])}"
        if found["missing"]:
            said.append(
                f"The test of {span} runs: {plural(found['missing'], found['frequency'])} are still to come. Its result"
                f" is read after {_day(found['measured_until'])}, not before."
            )
        else:
            said.append(
                f"Measured from {_day(found['start'])} to {_day(found['measured_until'])} ({span} of spending)."
            )
    return " ".join(said)


def brought(results: Sequence[Mapping[str, Any]], currency: str) -> tuple[list[Column], Rows]:
    """A row a thing tried: lift, customers, value, return."""
    columns = [
        Column("What was tried", width="2fr"), Column("Markets", True), Column("New customers", True),
        Column("90% range", True), Column("Customers won", True), Column("Worth", True), Column("Spend", True),
        Column("Value per unit", True),
    ]  # fmt: skip
    rows = [
        [
            label(c["text"], 60), count(c["treated"]), _lift(c["lift"]), _between(c, "lift", _lift),
            _with_range(c, "customers", lambda v: count(round(v))), _amount(c.get("value"), currency),
            _amount(c["money"], currency) if c["money"] else "–",
            _with_range(c, "return", "{:.2f}".format),
        ]
        for r in results for c in r["cells"]
    ]  # fmt: skip
    return columns, rows


def promises(results: Sequence[Mapping[str, Any]]) -> tuple[list[Column], Rows]:
    """Promised beside delivered, with the verdict in words."""
    columns = [
        Column("What was tried", width="2fr"), Column("Promised", True), Column("Found", True),
        Column("By chance alone", True), Column("Verdict", width="2.2fr"),
    ]  # fmt: skip
    rows = [
        [label(c["text"], 60), "–" if c["promised"] is None else _lift(c["promised"]), _lift(c["lift"]),
         f"p = {c['p_value']:.3f}", verdict(c)]
        for r in results for c in r["cells"]
    ]  # fmt: skip
    return columns, rows


def groups(results: Sequence[Mapping[str, Any]]) -> tuple[list[Column], Rows]:
    """New customers promised and delivered by group of peer markets; empty where there is one group or no promise."""
    columns = [
        Column("Market group", width="2fr"), Column("Tried", width="1.6fr"), Column("Markets", True),
        Column("Promised", True), Column("Delivered", True),
    ]  # fmt: skip
    rows = []
    for cell in (c for r in results for c in r["cells"]):
        if len(cell["groups"]) > 1 and cell["promised"] is not None:
            rows += [
                [label(g["group"], 60), label(cell["text"], 40), count(g["markets"]), count(round(g["promised"])),
                 "too few to say" if g["delivered"] is None else _with_range(g, "delivered", lambda v: count(round(v)))]
                for g in cell["groups"][:_MOST_GROUPS]
            ]  # fmt: skip
    return columns, rows


def picture(results: Sequence[Mapping[str, Any]]) -> tuple[bytes, str] | None:
    """Promised and found, with what one who cannot see it should know."""
    cells = [c for r in results for c in r["cells"]]
    if not cells:
        return None
    said = "; ".join(
        f"{label(c['text'], 60)}: {_lift(c['lift'])}"
        + ("" if c["promised"] is None else f", {_lift(c['promised'])} was promised") for c in cells
    )  # fmt: skip
    return proof_figures.promised_and_delivered(proof_figures.rows_of(cells)), f"{said}."


def write_page(results: Sequence[Mapping[str, Any]], currency: str, path: str | Path) -> Path:
    """A page that stands alone (``.html``), or the same words as Markdown (``.md``).

    Parameters
    ----------
    results : sequence of mappings
        See :func:`micromarket.proof.results.figures`.

    Raises
    ------
    InputError
        For another ending, or where there is no test.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm", ".md"):
        raise InputError([Problem(path.name, "a file that ends in .html or .md")])
    if not results:
        raise InputError([Problem(path.name, "a test: the run designed none, and no table of tests is given")])
    tables = [
        ("What it brought", *brought(results, currency)), ("Promised and delivered", *promises(results)),
        ("By group of peer markets: new customers", *groups(results)),
    ]  # fmt: skip
    tables = [t for t in tables if t[2]]
    notes = [n for r in results for n in r["notes"]]
    words = [w for r in results for c in r["cells"] for w in c["words"]]
    write = _markdown if path.suffix.lower() == ".md" else _html
    path.write_text(write(results, tables, [*words, *notes]), encoding="utf-8")
    return path


def _markdown(
    results: Sequence[Mapping[str, Any]], tables: list[tuple[str, list[Column], Rows]], words: list[str]
) -> str:
    def cell(text: str) -> str:
        return html.escape(text, quote=False).replace("|", "\\|")

    lines = [f"# {cell(title(results))}", "", cell(opening(results))]
    for name, columns, rows in tables:
        lines += ["", f"## {name}", "", "| " + " | ".join(c.name for c in columns) + " |",
                  "|" + "|".join("--:" if c.right else "---" for c in columns) + "|"]  # fmt: skip
        lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in rows]
    if words:
        lines += ["", "## In words", "", *(f"- {cell(w)}" for w in words)]
    return "\n".join(lines) + "\n"


def _html(results: Sequence[Mapping[str, Any]], tables: list[tuple[str, list[Column], Rows]], words: list[str]) -> str:
    e = html.escape
    head = e(title(results))
    parts = [f"<h1>{head}</h1><p>{e(opening(results))}</p>"]
    drawn = picture(results)
    if drawn is not None:
        svg = drawn[0].decode("utf-8")
        svg = svg[svg.index("<svg") :]
        parts.append(f'<figure role="img" aria-label="{e(drawn[1])}">{svg}</figure>')
    for name, columns, rows in tables:
        kinds = [' class="r"' if c.right else "" for c in columns]
        top = "".join(f'<th scope="col"{k}>{e(c.name)}</th>' for c, k in zip(columns, kinds, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{k}>{e(v)}</td>" for v, k in zip(row, kinds, strict=True)) + "</tr>" for row in rows
        )
        parts.append(f"<h2>{e(name)}</h2><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")
    if words:
        parts.append("<h2>In words</h2><ul>" + "".join(f"<li>{e(w)}</li>" for w in words) + "</ul>")
    look = (
        f"body{{font:15px/1.5 Inter,system-ui,sans-serif;color:{style.INK};max-width:880px;margin:40px auto;"
        f"padding:0 20px}}h1{{font-size:26px;line-height:1.25}}h2{{font-size:16px;margin-top:28px}}"
        f"table{{border-collapse:collapse;width:100%}}th{{text-align:left;color:{style.GREY};font-weight:600}}"
        f"th,td{{padding:5px 8px;border-bottom:1px solid {style.LINE};vertical-align:top}}"
        ".r{text-align:right;font-variant-numeric:tabular-nums}figure{margin:18px 0}svg{width:100%;height:auto}"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{head}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{look}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _day(text: Any) -> str:
    return day(dt.date.fromisoformat(str(text)))


def _lift(value: Any) -> str:
    return percent(value, 1, sign=True)


def _amount(value: Any, currency: str) -> str:
    return "–" if value is None else money(value, currency)


def _between(row: Mapping[str, Any], key: str, shown: Any) -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if low is None and high is None:
        return "not bounded"
    if low is None or high is None:
        return f"at most {shown(high)}" if low is None else f"at least {shown(low)}"
    return f"{shown(low)} to {shown(high)}"


def _with_range(row: Mapping[str, Any], key: str, shown: Any) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if row.get(f"{key}_low") is None or row.get(f"{key}_high") is None:
        return str(shown(value))
    return f"{shown(value)} ({_between(row, key, shown)})"
