"""``plan.pdf`` by typst: tagged (PDF/UA-1), own fonts, equal plans give equal bytes."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typst

from micromarket.errors import MicromarketWarning, StageError
from micromarket.formats import day, span
from micromarket.plan.assembly import Plan
from micromarket.report import (
    sections_changes,
    sections_cover,
    sections_customers,
    sections_delivery,
    sections_markets,
    sections_money,
    sections_proof,
    sections_targets,
    sections_today,
    sections_trust,
    style,
)
from micromarket.report.blocks import Desk, Section
from micromarket.report.style import label
from micromarket.report.typefaces import isolated, typefaces_for


def write_pdf(plan: Plan, path: str | Path) -> Path:
    """Writes the leaders' plan.

    Raises
    ------
    StageError
        Where typst refuses or warns: a plan with a wrong font or a hole is not published.

    Warns
    -----
    MicromarketWarning
        Where names are in a script that no font on this machine has: their ids stand for them.
    """
    path = Path(path)
    desk = Desk(plan)
    if desk.unshown:
        warnings.warn(desk.unshown, MicromarketWarning, stacklevel=2)
    data = document(desk)
    path.write_bytes(compile_pdf(data, desk.pictures, plan.as_of))
    return path


def sections(desk: Desk) -> list[Section]:
    """The plan's sections in reading order; those without data are left out, and the last but one says which."""
    written = [
        sections_today.today(desk) if "budget" not in desk.plan.tables else None,
        sections_money.where_money_is(desk),
        sections_money.moves(desk),
        sections_money.shifts(desk),
        sections_changes.changes(desk),
        sections_customers.customers(desk) if "budget" in desk.plan.tables else None,
        sections_targets.targets(desk),
        sections_delivery.funnel(desk),
        sections_delivery.plays(desk),
        sections_proof.results(desk),
        sections_proof.tests(desk),
        sections_trust.assumptions(desk),
        sections_trust.missing(desk),
        sections_trust.given(desk),
        sections_markets.appendix(desk),
    ]
    return _flowing([s for s in written if s is not None])


def _flowing(written: list[Section]) -> list[Section]:
    """A section of a few words stands on no page of its own, nor does what comes after it start one."""
    out: list[Section] = []
    after_few = False
    for section in written:
        few = not any(b["kind"] in ("table", "figure", "beside") for b in section.blocks)
        out.append(replace(section, newpage=False) if few or after_few else section)
        after_few = few
    return out


def document(desk: Desk) -> dict[str, Any]:
    """Everything that the template prints; the pictures it names are then on the desk."""
    plan = desk.plan
    company, headline = label(plan.company, 80), label(plan.headline)
    size = 23 if len(headline) <= 105 else 20 if len(headline) <= 150 else 17
    period = span(plan.start, plan.end)
    return {
        "title": f"{company}: micromarket plan {period}",
        "company": company,
        "headline": headline,
        "headline_size": size,
        "subline": label(plan.subline),
        "kicker": f"{company} · Micromarket plan · {period}",
        "footer": f"{company} · data up to {day(plan.as_of)} · money in {plan.currency}",
        "cards": [{"label": label(c.label), "value": label(c.value), "note": label(c.note)} for c in plan.cards],
        "cover": sections_cover.cover(desk, size),
        "sections": [s.to_json() for s in sections(desk)],
        "colours": {
            "ink": style.INK,
            "grey": style.GREY,
            "line": style.LINE,
            "accent": style.ACCENT,
            "dark": style.ACCENT_DARK,
            "pale": style.ACCENT_PALE,
            "warm": style.WARM,
        },
    }


def compile_pdf(data: Mapping[str, Any], pictures: Mapping[str, bytes], as_of: dt.date) -> bytes:
    """The template with ``data`` (JSON) and ``pictures`` (SVG by file name) as PDF; dated ``as_of``.

    PDF/UA-1, but where the fonts of a script such as Arabic don't let it be: then tagged without the claim.
    """
    stamp = dt.datetime.combine(as_of, dt.time(), dt.UTC)
    try:
        pdf: bytes = _compile(data, pictures, format="pdf", pdf_standards=["ua-1"], timestamp=stamp)
    except StageError as error:
        if "missing codepoints" not in str(error):
            raise
        # fonts of joined-up scripts have glyphs that are no character: tagged all the same, but no longer by the norm
        pdf = _compile(data, pictures, format="pdf", timestamp=stamp)
    return pdf


def first_page(data: Mapping[str, Any], pictures: Mapping[str, bytes], ppi: float) -> bytes:
    """The cover as PNG, ``ppi`` pixels an inch."""
    return pages(data, pictures, ppi)[0]


def pages(data: Mapping[str, Any], pictures: Mapping[str, bytes], ppi: float) -> list[bytes]:
    """Every page as PNG, ``ppi`` pixels an inch."""
    drawn = _compile(data, pictures, format="png", ppi=ppi)
    return drawn if isinstance(drawn, list) else [drawn]


def _compile(data: Mapping[str, Any], pictures: Mapping[str, bytes], **how: Any) -> Any:
    with tempfile.TemporaryDirectory(prefix="micromarket-") as folder:
        root = Path(folder)
        shutil.copy(style.TEMPLATES / "plan.typ", root / "plan.typ")
        text = json.dumps(data, ensure_ascii=False, sort_keys=True, allow_nan=False)
        drawn = {name: svg.decode("utf-8") for name, svg in pictures.items()}
        faces = typefaces_for([text, *drawn.values()])
        (root / "data.json").write_text(isolated(faces.showable(text)), encoding="utf-8")
        for name, svg in drawn.items():
            (root / name).write_text(faces.showable(svg), encoding="utf-8")
        (root / "fonts").mkdir()
        for number, file in enumerate(faces.files):
            shutil.copy(file, root / "fonts" / f"{number:02d}{file.suffix}")
        folders = [str(style.FONTS), str(root / "fonts")]
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
        try:
            out, said = typst.compile_with_warnings(
                root / "plan.typ", root=root, font_paths=fonts, ignore_system_fonts=True, **how
            )
        except typst.TypstError as error:
            raise StageError(f"the PDF could not be set: {error.message} {error.diagnostic}") from error
    if said:
        raise StageError("the PDF was not published, typst warns: " + "; ".join(w.message for w in said))
    return out
