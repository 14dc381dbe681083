"""Plain words for groups of markets: "Large, high median income"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, count

import numpy as np

_NOTABLE = 0.3  # standard deviations from the average market


def group_names(centres: np.ndarray, words: Sequence[str]) -> list[str]:
    """Like "Large, high median income": at most two traits a group, the strongest that no group before it has."""
    found: list[str] = []
    for centre in centres:
        strongest = [int(i) for i in np.argsort(-np.abs(centre), kind="stable")]
        notable = [i for i in strongest if abs(centre[i]) > _NOTABLE] or strongest[:1]
        # size and density come first: they are what people picture when they hear of a market
        place = [i for i in notable if _is_place(words[i])]
        others = [i for i in notable if not _is_place(words[i])]
        first, seconds = (place[:1], others) if place else (others[:1], others[1:])
        pairs = [[*first, i] for i in seconds] + [list(pair) for pair in combinations(notable, 2)] + [first]
        titles = [", ".join(_phrase(words[i], centre[i]) for i in pair) for pair in pairs]
        titles = [title[:1].upper() + title[1:] for title in titles]
        title = next((t for t in titles if t not in found), None)
        if title is None:
            number = next(n for n in count(2) if f"{titles[0]} ({n})" not in found)
            title = f"{titles[0]} ({number})"
        found.append(title)
    return found


def _is_place(feature: str) -> bool:
    return feature == "size" or "densit" in feature.lower()


def _phrase(feature: str, value: float) -> str:
    """A feature above or below the average in words.

    >>> _phrase("share_under_35", 0.8), _phrase("km_to_city", 1.5), _phrase("establishments_per_1000", -0.5)
    ('high share under 35', 'very far from city', 'few establishments per 1,000')
    """
    high, very = value > 0, "very " if abs(value) > 1.25 else ""
    if feature == "size":
        return very + ("large" if high else "small")
    if "densit" in feature.lower():
        return very + ("dense" if high else "sparse")
    text = feature_words(feature)
    if way := re.match(r"(?:km|kilometres|miles|minutes|hours|distance) to (.+)", text):
        return very + ("far from " if high else "near ") + way[1]
    # things that are counted: "persons per household", "competitor stores", but not "high unemployment, sales, access"
    counted = re.match(r"\w+s per ", text) or (re.search(r"(?<![sui])s$", text) and not text.endswith("sales"))
    return very + (("many " if high else "few ") if counted else ("high " if high else "low ")) + text


_SHORTS = {w.lower(): w for w in ("GDP", "TV", "ARPU", "HDI", "SME", "SMEs", "B2B", "IT", "US", "UK", "EU")}
_CURRENCIES = ("brl", "usd", "eur", "gbp", "inr", "jpy", "php", "idr", "thb", "vnd")


def feature_words(feature: str) -> str:
    """The name of a column as people write it: no underscores, currency or year of the statistics at its end.

    >>> feature_words("gdp_per_head_brl"), feature_words("pop_per_1000_2016"), feature_words("medianIncome")
    ('GDP per head', 'pop per 1,000', 'median income')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", feature)
    words = re.sub(r"[_\s]+", " ", spaced).strip().split(" ")
    while len(words) > 1 and (words[-1].lower() in _CURRENCIES or re.fullmatch(r"(19|20)\d\d", words[-1])):
        words.pop()
    if len(words) > 1 and words[0].lower() in ("log", "ln"):
        words = words[1:]
    plain = [_SHORTS.get(w.lower(), w if w.isupper() and len(w) > 1 else w.lower()) for w in words]
    return " ".join(f"{int(w):,}" if w.isdigit() and w[0] != "0" and len(w) > 3 else w for w in plain)


__all__ = ["feature_words", "group_names"]
