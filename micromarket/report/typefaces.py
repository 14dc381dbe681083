"""Fonts for names in scripts that ours lack: those of the machine, of a folder, or none, and then it is said.

Our own fonts (Inter) cover Latin, Greek and Cyrillic. Fonts for every script would make the package a hundred times as
large, so others are looked for where they are: the folder that the environment variable ``MICROMARKET_FONTS`` names,
then the machine's fonts. A plan without such names never looks.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError

from micromarket.report import style

NO_GLYPH = "□"  # stands for a character that no font has
FOLDER = "MICROMARKET_FONTS"
_FORMATS = {".ttf", ".otf", ".ttc"}
_INVISIBLE = frozenset("\n\u200b\u200c\u200d\u2068\u2069")
# letters that run from right to left: a name in them is set apart, so that signs beside it stay where they belong
_RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff"
_RTL_NAME = re.compile(f"[{_RIGHT_TO_LEFT}](?:[{_RIGHT_TO_LEFT}\\s'\\-]*[{_RIGHT_TO_LEFT}])?")
_SCRIPTS = (
    ("Arabic", 0x0600, 0x06FF), ("Hebrew", 0x0590, 0x05FF), ("Thai", 0x0E00, 0x0E7F), ("Devanagari", 0x0900, 0x097F),
    ("Bengali", 0x0980, 0x09FF), ("Tamil", 0x0B80, 0x0BFF), ("Georgian", 0x10A0, 0x10FF), ("Armenian", 0x0530, 0x058F),
    ("Khmer", 0x1780, 0x17FF), ("Lao", 0x0E80, 0x0EFF), ("Burmese", 0x1000, 0x109F), ("Sinhala", 0x0D80, 0x0DFF),
    ("Ethiopic", 0x1200, 0x137F), ("Korean", 0xAC00, 0xD7AF), ("Japanese", 0x3040, 0x30FF),
    ("Chinese", 0x3400, 0x9FFF),
)  # fmt: skip


@dataclass(frozen=True)
class Typefaces:
    """``files``: fonts beside our own that a text needs; ``covered``: characters that can be shown with them."""

    files: tuple[Path, ...]
    covered: frozenset[int]

    def shows(self, text: str) -> bool:
        """Whether every letter and digit of ``text`` can be shown (other signs may fall away)."""
        return all(ord(c) in self.covered or c in _INVISIBLE or not c.isalnum() for c in text)

    def showable(self, text: str) -> str:
        """``text`` with a box for every letter that no font has; pictures and signs that none has fall away."""
        return "".join(
            c if ord(c) in self.covered or c in _INVISIBLE else NO_GLYPH if c.isalnum() else "" for c in text
        )


def typefaces_for(texts: Iterable[str]) -> Typefaces:
    """The fonts that ``texts`` need, found on this machine.

    Equal texts on a machine with equal fonts give equal typefaces.
    """
    own = style.covered()
    open_ = {ord(c) for text in texts for c in text if c.isalnum() or unicodedata.category(c)[0] == "M"} - own
    files: list[Path] = []
    covered = set(own)
    if open_:
        for path in _candidates():
            has = _coverage(path)
            if open_ & has:
                files += [path, *_bold_beside(path)]
                covered |= has
                open_ -= has
            if not open_:
                break
    return Typefaces(tuple(files), frozenset(covered))


def _candidates() -> list[Path]:
    """Font files, the likeliest first: sans and upright, Noto before others; variable weights and italics last."""
    from matplotlib.font_manager import findSystemFonts

    folder = os.environ.get(FOLDER)
    mine = [p for p in sorted(Path(folder).rglob("*")) if p.suffix.lower() in _FORMATS] if folder else []
    found = [Path(p) for p in findSystemFonts()]
    found = sorted((p for p in found if p.suffix.lower() in _FORMATS), key=lambda p: (_unlikely(p), p.name, str(p)))
    return [*sorted(mine, key=lambda p: (_unlikely(p), p.name)), *found]


def _unlikely(path: Path) -> int:
    name = path.stem.lower()
    ugly = re.search(r"mono|italic|oblique|serif|condensed|thin|light|black|naskh|nastaliq|kufi|looped|ui|narrow", name)
    upright = "regular" in name or not re.search(r"bold|medium", name)
    return (0 if "noto" in name else 1) + (0 if "sans" in name else 2) + (4 if ugly else 0) + (0 if upright else 8)


def _bold_beside(path: Path) -> list[Path]:
    bold = path.with_name(path.name.replace("Regular", "Bold"))
    return [bold] if bold != path and bold.is_file() else []


@cache
def _coverage(path: Path) -> frozenset[int]:
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, ValueError, KeyError, AssertionError):
        return frozenset()


def scripts_of(text: str) -> list[str]:
    """Names of the scripts that ``text`` holds letters of, beyond those that our fonts cover.

    >>> scripts_of("Ville 北京 القاهرة")
    ['Arabic', 'Chinese']
    """
    letters = {ord(c) for c in text if c.isalpha()} - style.covered()
    known = [name for name, first, last in _SCRIPTS if any(first <= c <= last for c in letters)]
    other = any(not any(first <= c <= last for _, first, last in _SCRIPTS) for c in letters)
    return [*known, *(["other"] if other else [])]


def isolated(text: str) -> str:
    """Names that run from right to left set apart (Unicode isolates), so that figures beside them keep their place."""
    return _RTL_NAME.sub(lambda m: f"\u2068{m[0]}\u2069", text)


__all__ = ["FOLDER", "NO_GLYPH", "Typefaces", "isolated", "scripts_of", "typefaces_for"]
