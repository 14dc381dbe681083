"""What a page of the plan is made of: leads, figures, tables, bullet points; and what the writers of sections share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import geopandas as gpd
import pandas as pd

from micromarket import formats
from micromarket.plan.assembly import Plan
from micromarket.report import maps, views
from micromarket.report.style import Picture, breakable, label
from micromarket.report.typefaces import FOLDER, Typefaces, scripts_of, typefaces_for

Block = dict[str, Any]
HALF_MM = 84  # width of a figure that stands beside another


@dataclass(frozen=True)
class Section:
    """A part of the plan. ``newpage``: starts on a page of its own."""

    kicker: str
    title: str
    blocks: tuple[Block, ...]
    newpage: bool = True

    def to_json(self) -> Block:
        return {"kicker": self.kicker, "title": self.title, "newpage": self.newpage, "blocks": list(self.blocks)}


@dataclass
class Desk:
    """A plan on the writer's desk: its joined tables, its formats, and the pictures drawn so far."""

    plan: Plan
    pictures: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """By market; an id stands for a name that no font on this machine can show."""
        frame = views.by_market(self.plan)
        hidden = self._hidden
        if hidden:
            frame["name"] = frame["name"].where(~frame.index.isin(hidden), frame.index.astype(str))
        return frame

    @cached_property
    def faces(self) -> Typefaces:
        places = self.plan.markets[["name", "region", "territory"]]
        texts = [str(v) for c in places for v in places[c].dropna().unique()]
        return typefaces_for([self.plan.company, *texts])

    @cached_property
    def _hidden(self) -> frozenset[str]:
        by = self.plan.markets.set_index("market_id")["name"].astype(str)
        return frozenset(str(i) for i, name in by.items() if not self.faces.shows(name))

    def name_of(self, market_id: str, name: str) -> str:
        """The name, or the id where it can't be shown."""
        return market_id if market_id in self._hidden else name

    @cached_property
    def unshown(self) -> str:
        """What the PDF can't show, in words; empty where nothing is amiss."""
        places = self.plan.markets[["name", "region", "territory"]]
        names = [self.plan.company, *(str(v) for c in places for v in places[c].dropna().unique())]
        lost = " ".join(n for n in names if not self.faces.shows(n))
        if not lost:
            return ""
        scripts = formats.listed(["another script" if s == "other" else s for s in scripts_of(lost)])
        ids = f", and ids stand for the names of {formats.plural(len(self._hidden), 'market')}" if self._hidden else ""
        return (
            f"No font on the machine that made this file shows {scripts}: letters of it are left as boxes{ids}. The"
            f" page and the workbook show them all. Fonts to be used are put into the folder that {FOLDER} names."
        )

    @cached_property
    def shapes(self) -> gpd.GeoSeries | None:
        if not self.plan.has_geometry:
            return None
        return maps.simplify(maps.project(self.plan.markets), 1400 if len(self.plan.markets) < 2000 else 900)

    @cached_property
    def outlines(self) -> gpd.GeoSeries | None:
        """Borders of the regions, where they help to find one's way (two to forty), or of the whole."""
        if self.shapes is None or not len(self.shapes):
            return None
        region = self.frame["region"].reindex(self.shapes.index)
        if 2 <= region.nunique() <= 40:
            return maps.dissolve(self.shapes, region)
        if len(self.shapes) > maps.FINE_SHAPES:  # markets without borders of their own: at least the coast
            return maps.dissolve(self.shapes, pd.Series(0, index=self.shapes.index))
        return None

    @property
    def value_ranked(self) -> bool:
        """Whether the data support an order of markets by customer value."""
        return bool(self.plan.number("value", "signal", "verdict") != "none")

    @property
    def potential_ranked(self) -> bool:
        """Whether the data support an order of markets by potential: without it none is shown."""
        return bool(self.plan.number("potential", "signal", "verdict") != "none")

    def prose(self, text: Any) -> str:
        """A stage's own sentence, ready to print."""
        return formats.prose(label(text or ""), self.plan.currency)

    def money(self, value: Any) -> str:
        return formats.money(value, self.plan.currency)

    def signed(self, value: Any) -> str:
        return formats.money(value, self.plan.currency, sign=True)

    def money_range(self, low: Any, high: Any) -> str:
        return formats.money_range(low, high, self.plan.currency)

    def number(self, stage: str, *keys: str) -> Any:
        return self.plan.number(stage, *keys)

    def figure(self, name: str, title: str, alt: str, svg: bytes, note: str = "") -> Block:
        picture = Picture(name, label(title), label(alt), svg)
        self.pictures[f"{name}.svg"] = picture.svg
        return {
            "kind": "figure",
            "file": f"{name}.svg",
            "title": picture.title,
            "alt": picture.alt,
            "note": label(note),
        }


@dataclass(frozen=True)
class Column:
    """``width``: millimetres, ``"2fr"`` or "" (as wide as needed); ``signed``: coloured by its sign."""

    name: str
    right: bool = False
    width: str = ""
    signed: bool = False


def halves(block: Block, least: int = 8) -> Block:
    """A narrow table as two of about equal length side by side; a heading is said again where its group goes on."""
    rows = block["rows"]
    cut = -(-len(rows) // 2)
    if len(rows) < 2 * least:
        return block
    if len(rows[cut - 1]) == 1:  # a heading stays with what it heads
        cut -= 1
    above = [r for r in rows[:cut] if len(r) == 1]
    again = [above[-1]] if above and len(rows[cut]) > 1 else []
    parts = [rows[:cut], [*again, *rows[cut:]]]
    return {"kind": "halves", "items": [{**block, "flows": False, "rows": part} for part in parts]}


def beside(*blocks: Block) -> Block:
    """Figures side by side; one alone takes the whole width."""
    return blocks[0] if len(blocks) == 1 else {"kind": "beside", "items": list(blocks)}


def lead(text: str) -> Block:
    return {"kind": "lead", "text": label(text)}


def text(words: str) -> Block:
    return {"kind": "text", "text": label(words)}


def small(words: str) -> Block:
    """What one must know to read what follows."""
    return {"kind": "small", "text": label(words)}


def cards(items: Iterable[tuple[str, str, str]]) -> Block:
    return {"kind": "cards", "items": [{"label": a, "value": b, "note": c} for a, b, c in items]}


def points(items: Iterable[str | tuple[str, str]], title: str = "") -> Block:
    pairs = [(i, "") if isinstance(i, str) else i for i in items]
    return {
        "kind": "points",
        "title": label(title),
        "items": [{"text": breakable(label(a)), "source": label(b)} for a, b in pairs],
    }


def fine_print(title: str, groups: Mapping[str, Sequence[tuple[str, str]]]) -> Block:
    """Sentences with their sources, small, under the names of their groups: (sentence, source) pairs by heading."""
    return {
        "kind": "fine_print",
        "title": label(title),
        "groups": [
            {"name": label(name), "items": [{"text": breakable(label(t)), "source": label(s)} for t, s in items]}
            for name, items in groups.items()
        ],
    }


def table(
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    *,
    note: str = "",
    bold: Sequence[int] = (),
    dense: bool = False,
    columns_of_page: int = 1,
) -> Block:
    """A table of texts. ``bold``: row numbers that stand out (totals, groups); ``dense``: small, for long lists;
    ``columns_of_page``: 2 for a narrow table that goes on in the page's second half. A row of one cell goes right
    across, as a heading."""
    return {
        "kind": "table",
        "title": label(title),
        "columns": [{"name": c.name, "right": c.right, "width": c.width, "signed": c.signed} for c in columns],
        "rows": [[breakable(label(cell, 400)) for cell in row] for row in rows],
        "bold": list(bold),
        "dense": dense,
        "narrow": columns_of_page > 1,
        "flows": columns_of_page > 1,
        "note": label(note),
    }
