"""Peer groups of similar markets, quadrants of potential and share, and the play that each market gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations, count
from pathlib import Path

import numpy as np
import yaml
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from micromarket.errors import InputError, Problem, did_you_mean, shown

QUADRANTS = {
    "grow": "Grow: high potential, low share",
    "defend": "Defend: high potential, high share",
    "fix": "Fix: low potential, low share",
    "maintain": "Maintain: low potential, high share",
}
LOW_COVERAGE, LOW_SPEND, RIVALS, UNEXPLAINED = "low rep coverage", "low spend", "strong rivals", "unexplained"
CAUSES = (LOW_COVERAGE, LOW_SPEND, RIVALS, UNEXPLAINED)
ONE_GROUP = "All markets"
_FEWEST_PER_GROUP, _MOST_GROUPS = 8, 8
_NOTABLE = 0.3  # standard deviations from the average market


@dataclass(frozen=True)
class Play:
    """What to do in a market: ``what`` in one or two sentences, ``who`` does it, ``measure`` that shows it works."""

    title: str
    quadrant: str
    what: str
    who: str
    measure: str
    cause: str | None = None


def play_library(path: str | Path | None = None) -> dict[str, Play]:
    """The plays by title, in the order of the file.

    Parameters
    ----------
    path : path, optional
        A ``plays.yml`` of the user's; default: ours.

    Raises
    ------
    InputError
        Listing every problem: unreadable file, unknown keys, causes or quadrants, titles used twice, a quadrant
        without a play for any cause.
    """
    path = Path(path) if path is not None else Path(__file__).with_name("plays.yml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(path.name, "a readable UTF-8 file", value=type(error).__name__)]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError([Problem(path.name, "YAML", row=mark.line + 1 if mark else None)]) from error
    if not isinstance(raw, Mapping) or not isinstance(raw.get("plays"), list):
        raise InputError([Problem(path.name, "a list of plays under the key plays", column="plays")])
    problems: list[Problem] = []
    library: dict[str, Play] = {}
    for row, entry in enumerate(raw["plays"], start=1):
        found = _problems_of(entry, path.name, row)
        problems += found
        if found:
            continue
        play = Play(**{k: " ".join(v.split()) for k, v in entry.items()})
        if play.title in library:
            problems.append(Problem(path.name, "a title of its own", column="title", row=row, value=shown(play.title)))
        library[play.title] = play
    for quadrant in QUADRANTS:
        if not problems and not any(p.quadrant == quadrant and p.cause is None for p in library.values()):
            problems.append(Problem(path.name, f"a play without cause for the quadrant {quadrant}", column="plays"))
    if problems:
        raise InputError(problems)
    return library


def _problems_of(entry: object, file: str, row: int) -> list[Problem]:
    if not isinstance(entry, Mapping):
        return [Problem(file, "a play: title, quadrant, what, who, measure", column="plays", row=row)]
    known = [f.name for f in fields(Play)]
    found = [Problem(file, did_you_mean(k, known), column=str(k), row=row) for k in entry if k not in known]
    for key in known:
        value = entry.get(key)
        if key == "cause" and key not in entry:
            continue
        if not isinstance(value, str) or not value.strip():
            found.append(Problem(file, "text", column=key, row=row))
        elif key == "quadrant" and value not in QUADRANTS:
            found.append(Problem(file, did_you_mean(value, list(QUADRANTS)), column=key, row=row, value=shown(value)))
        elif key == "cause" and value not in CAUSES:
            found.append(Problem(file, did_you_mean(value, CAUSES), column=key, row=row, value=shown(value)))
    return found


def choose_plays(quadrant: Sequence[str], cause: Sequence[str], library: Mapping[str, Play]) -> list[str]:
    """Title of the first play that fits each market's quadrant (a key of ``QUADRANTS``) and cause."""
    chosen: dict[tuple[str, str], str] = {}
    for q in QUADRANTS:
        fit = [p for p in library.values() if p.quadrant == q]
        for c in CAUSES:
            exact = [p.title for p in fit if p.cause == c]
            chosen[q, c] = (exact or [p.title for p in fit if p.cause is None])[0]
    return [chosen[q, c] for q, c in zip(quadrant, cause, strict=True)]


def quadrants(potential: np.ndarray, share: np.ndarray) -> list[str]:
    """Keys of ``QUADRANTS``: potential (any unit) and share (0 to 1) at or above the median market, or below.

    Markets without a share count as low: where nothing is known, there is something to find.
    """
    high = potential >= np.median(potential)
    strong = np.nan_to_num(share, nan=-1.0) >= (np.nanmedian(share) if np.isfinite(share).any() else 0.0)
    names = np.array([["fix", "maintain"], ["grow", "defend"]])
    return names[high.astype(int), strong.astype(int)].tolist()


def causes(parts: np.ndarray, levers: Sequence[str], rivals: np.ndarray | None = None) -> list[str]:
    """The largest cause of each market's headroom.

    Parameters
    ----------
    parts : array (markets, levers + 1)
        Share of the headroom by lever ("reps", "spend") and, last, what no lever explains.
    rivals : bool array (markets,), optional
        Where rivals hold an unusual part of the buyers: names what would otherwise be unexplained.
    """
    words = {"reps": LOW_COVERAGE, "spend": LOW_SPEND}
    names = np.array([*(words.get(x, UNEXPLAINED) for x in levers), UNEXPLAINED], dtype=object)
    found = names[np.argmax(parts, axis=1)]
    if rivals is not None:
        found = np.where((found == UNEXPLAINED) & rivals, RIVALS, found)
    return found.tolist()


def peer_groups(features: np.ndarray, names: Sequence[str], size: np.ndarray, seed: int = 1) -> list[str]:
    """A plain-word peer group for each market, from what it *is*, never from how we do there.

    k-means on standardised features and log size (three to eight groups, the number with the best silhouette; fewer
    where there are few markets), groups numbered from the largest mean size down and named after what sets them apart.

    Parameters
    ----------
    features : array (markets, features), standardised
    names : names of the features
    size : array (markets,): buyers, or 1 where unknown
    """
    columns, words = [*features.T], list(names)
    if np.ptp(size) > 0:
        log_size = np.log(size)
        columns.append((log_size - log_size.mean()) / log_size.std())
        words.append("size")
    if not columns:
        return [ONE_GROUP] * len(size)
    z = np.clip(np.column_stack(columns), -3, 3)
    most = min(_MOST_GROUPS, len(size) // _FEWEST_PER_GROUP, len(np.unique(z, axis=0)))
    if most < 2:
        return [ONE_GROUP] * len(size)
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(z), min(len(z), 1_500), replace=False))
    best: tuple[float, np.ndarray] | None = None
    for k in range(min(3, most), most + 1):
        fitted = KMeans(k, n_init=3, random_state=seed).fit(z[sample])
        score = silhouette_score(z[sample], fitted.labels_) if len(set(fitted.labels_)) > 1 else -1.0
        if best is None or score > best[0] + 0.01:  # a further group must earn its place
            best = (score, fitted.cluster_centers_)
    assert best is not None
    centres = best[1]
    label = np.argmin(((z[:, None, :] - centres) ** 2).sum(axis=2), axis=1)
    typical = np.array([np.median(size[label == g]) if (label == g).any() else 0.0 for g in range(len(centres))])
    order = np.argsort(-typical, kind="stable")
    titles = _group_names(centres[order], words)
    number = np.empty(len(order), dtype=int)
    number[order] = np.arange(len(order))
    return [titles[i] for i in number[label]]


def _group_names(centres: np.ndarray, words: Sequence[str]) -> list[str]:
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
