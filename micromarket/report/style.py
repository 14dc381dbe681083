"""How everything looks: one accent family against one warm contrast, Inter, generous white."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

HERE = Path(__file__).parent
FONTS = HERE / "fonts"
TEMPLATES = HERE / "templates"

INK, GREY, FAINT, LINE = "#17212B", "#5A6672", "#8A949E", "#DDE2E6"
ACCENT, ACCENT_DARK, ACCENT_SOFT, ACCENT_PALE = "#0B6E75", "#07474C", "#A9D3D3", "#EDF5F5"
WARM, WARM_DARK, WARM_SOFT = "#BF5B1D", "#86390A", "#F0CFB8"
LAND = "#EEF0F1"
# orange to teal keeps its two ends apart under every common colour blindness, and in grey both ends are dark
DIVERGING = LinearSegmentedColormap.from_list(
    "money", [WARM_DARK, WARM, WARM_SOFT, "#F5F3F0", ACCENT_SOFT, ACCENT, ACCENT_DARK]
)
SEQUENTIAL = LinearSegmentedColormap.from_list("room", ["#F3F6F6", ACCENT_SOFT, ACCENT, ACCENT_DARK])

MM = 1 / 25.4
TEXT_WIDTH = 174 * MM  # inches: A4 less margins of 18 mm, as in plan.typ

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the PDF sets it in the same font
    "svg.hashsalt": "micromarket",
    "text.parse_math": False,  # names may hold dollar signs
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "Inter",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": 600,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": GREY,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "figure.dpi": 72,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 2 / 72,
    "figure.constrained_layout.w_pad": 2 / 72,
}


_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would turn a line round
_SPACE = re.compile(r"[^\S\u00a0\u202f\u2009]+")  # no-break and thin spaces inside figures stay what they are


@dataclass(frozen=True)
class Picture:
    """A figure at its final size. ``title``: the finding; ``alt``: what one who can't see it should know."""

    name: str
    title: str
    alt: str
    svg: bytes


@cache
def _load_fonts() -> None:
    for path in sorted(FONTS.glob("*.otf")):
        font_manager.fontManager.addfont(path)


@contextmanager
def canvas(height_mm: float, width_mm: float | None = None) -> Iterator[Figure]:
    """A figure in the house style, ``width_mm`` wide (the text width without it)."""
    _load_fonts()
    with mpl.rc_context(_RC):
        width = TEXT_WIDTH if width_mm is None else width_mm * MM
        figure = Figure(figsize=(width, height_mm * MM), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def to_svg(figure: Figure) -> bytes:
    """The figure at its exact size; equal figures give equal bytes."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # other scripts: typst sets them in other fonts (see typefaces), only their width is a guess here
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


@cache
def covered() -> frozenset[int]:
    """The code points that our fonts can show (upright ones in every weight)."""
    sets = []
    for path in sorted(FONTS.glob("*.otf")):
        with TTFont(path, lazy=True) as font:
            sets.append(frozenset(font.getBestCmap()))
    return frozenset.intersection(*sets)


@cache
def _advances() -> tuple[dict[int, int], float]:
    with TTFont(FONTS / "Inter-SemiBold.otf", lazy=True) as font:
        widths = {code: font["hmtx"][glyph][0] for code, glyph in font.getBestCmap().items()}
        return widths, float(font["head"].unitsPerEm)


def fit(text: str, points: float, size: float) -> str:
    """``text`` cut so that it is at most ``points`` wide at ``size`` (semibold)."""
    widths, em = _advances()
    limit = points / size * em
    total, cut = 0.0, len(text)
    for i, c in enumerate(text):
        if total <= limit - 0.9 * em:
            cut = i
        total += widths.get(ord(c), em)
    return text if total <= limit else text[:cut].rstrip() + "…"


def lines(text: str, points: float, size: float) -> int:
    """Lines that ``text`` (semibold) takes in a column ``points`` wide at ``size``.

    >>> lines("one two", 1000, 10), lines("one two", 30, 10)
    (1, 2)
    """
    widths, em = _advances()
    count, used = 1, 0.0
    space = widths.get(32, em / 4) * size / em
    for word in text.split(" "):
        long = sum(widths.get(ord(c), em) for c in word) * size / em
        if used and used + space + long > points:
            count, used = count + 1, long
        else:
            used += (space if used else 0.0) + long
    return count


def label(text: object, width: int | None = None) -> str:
    """A text from data as one printable line, at most ``width`` characters.

    >>> label("a\\tb\\x00c  d"), label("abcdefgh", 5)
    ('a bc d', 'abcd…')
    """
    line = _SPACE.sub(" ", str(text)).strip()
    line = "".join(
        c for c in line if unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") and c not in _DIRECTIONS
    )
    if width is not None and len(line) > width:
        line = line[: width - 1].rstrip() + "…"
    return line


_OWN_RULES = "\u0590"  # beyond Cyrillic, scripts join letters or break lines by rules of their own, which typst knows


def breakable(text: str, run: int = 12) -> str:
    """``text`` with invisible places to break inside very long words, so that no cell overflows."""
    return " ".join(
        word
        if len(word) <= run or any(c > _OWN_RULES and c.isalpha() for c in word)
        else "\u200b".join(word[i : i + run] for i in range(0, len(word), run))
        for word in text.split(" ")
    )
