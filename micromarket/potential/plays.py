"""The library of plays that users edit, and the play that each market gets from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.potential.causes import CAUSES
from micromarket.potential.objective import OBJECTIVES
from micromarket.potential.quadrants import QUADRANTS

BLOCKED = "blocked"
#: What a play may be written for, the decisive first: a play for a peer group goes before one for an objective, …
KEYS = ("peer_group", "objective", "cause", "quadrant")
_CHOICES: dict[str, Sequence[str]] = {
    "quadrant": tuple(QUADRANTS), "cause": (*CAUSES, BLOCKED), "objective": OBJECTIVES,
}  # fmt: skip


@dataclass(frozen=True)
class Play:
    """What to do in a market: ``what`` in one or two sentences, ``who`` does it, ``measure`` that shows it works.

    The other keys say where it applies; ``None``: anywhere.
    """

    title: str
    what: str
    who: str
    measure: str
    quadrant: str | None = None
    cause: str | None = None
    peer_group: str | None = None
    objective: str | None = None

    def fits(self, market: Mapping[str, str]) -> tuple[bool, ...] | None:
        """Which of :data:`KEYS` the play is written for, where all of them are the market's; ``None`` elsewhere."""
        said = [(getattr(self, key), market[key]) for key in KEYS]
        return None if any(own not in (None, here) for own, here in said) else tuple(own is not None for own, _ in said)


_TEXTS = ("title", "what", "who", "measure")


def play_library(path: str | Path | None = None) -> dict[str, Play]:
    """The plays by title, in the order of the file.

    Parameters
    ----------
    path : path, optional
        A ``plays.yml`` of the user's; default: ours.

    Raises
    ------
    InputError
        Listing every problem: unreadable file, unknown keys, causes, objectives or quadrants, titles used twice, a
        quadrant that has no play for whatever cause, peer group and objective.
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
    problems = [Problem(path.name, did_you_mean(str(k), ["plays"]), column=str(k)) for k in raw if k != "plays"]
    library: dict[str, Play] = {}
    for row, entry in enumerate(raw["plays"], start=1):
        found = _problems_of(entry, path.name, row)
        problems += found
        if found:
            continue
        play = Play(**{k: " ".join(v.split()) for k, v in entry.items() if v is not None})
        if play.title in library:
            problems.append(Problem(path.name, "a title of its own", column="title", row=row, value=shown(play.title)))
        library[play.title] = play
    for quadrant in QUADRANTS:
        if not problems and not any(_anywhere(p) and p.quadrant in (None, quadrant) for p in library.values()):
            expected = f"a play for the quadrant {quadrant} without cause, peer_group and objective"
            problems.append(Problem(path.name, expected, column="plays"))
    if problems:
        raise InputError(problems)
    return library


def _anywhere(play: Play) -> bool:
    return play.cause is None and play.peer_group is None and play.objective is None


def _problems_of(entry: object, file: str, row: int) -> list[Problem]:
    if not isinstance(entry, Mapping):
        return [Problem(file, "a play: title, quadrant, what, who, measure", column="plays", row=row)]
    known = [f.name for f in fields(Play)]
    found = [Problem(file, did_you_mean(str(k), known), column=str(k), row=row) for k in entry if k not in known]
    for key in known:
        value: Any = entry.get(key)
        if value is None and key not in _TEXTS:
            continue
        if not isinstance(value, str) or not value.strip():
            found.append(Problem(file, "text", column=key, row=row))
        elif key in _CHOICES and " ".join(value.split()) not in _CHOICES[key]:
            found.append(Problem(file, did_you_mean(value, _CHOICES[key]), column=key, row=row, value=shown(value)))
    return found


def choose_plays(
    markets: Mapping[str, Sequence[str]], library: Mapping[str, Play], blocked: Sequence[bool] | None = None
) -> list[str]:
    """Title of the play of each market: of those that fit, the one that is written for most, by the order of ``KEYS``.

    Among equals the first in the file goes first.

    Parameters
    ----------
    markets : mapping of each of ``KEYS`` to its value by market
    blocked : where the field has blocked the market: only plays with the cause blocked or without cause fit there.
    """
    count = len(markets["quadrant"])
    stopped = blocked if blocked is not None else [False] * count
    chosen: dict[tuple[str, ...], str] = {}
    out = []
    for i in range(count):
        at = tuple(BLOCKED if key == "cause" and stopped[i] else str(markets[key][i]) for key in KEYS)
        if at not in chosen:
            here = dict(zip(KEYS, at, strict=True))
            fits = [(key, play.title) for play in library.values() if (key := play.fits(here)) is not None]
            best = max(key for key, _ in fits)
            chosen[at] = next(title for key, title in fits if key == best)
        out.append(chosen[at])
    return out


def unknown_groups(library: Mapping[str, Play], groups: Sequence[str]) -> list[str]:
    """Peer groups that plays are written for and that no market is in."""
    return sorted({p.peer_group for p in library.values() if p.peer_group is not None} - set(groups))


__all__ = ["BLOCKED", "KEYS", "Play", "choose_plays", "play_library", "unknown_groups"]
