"""What the field knows about a market: its potential (within a cap), its play, that it is blocked; and until when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import did_you_mean, shown
from micromarket.potential.design import number
from micromarket.potential.families import FloatArray

CAP = 0.25
BLOCKED = "blocked"


@dataclass(frozen=True)
class FieldNote:
    """One valid note, its words safe to show. ``expires_on``: ISO 8601, empty where it has no end."""

    kind: str
    market_id: str
    author: str
    reason: str
    expires_on: str
    low: float = float("nan")
    high: float = float("nan")
    play: str = ""

    @property
    def says(self) -> str:
        until = f", until {self.expires_on}" if self.expires_on else ""
        return f"{self.author}: {self.reason}{until}"


@dataclass(frozen=True)
class FieldChange:
    """One applied note. ``text``: what it changed, for people; ``before``, ``after``: customers, or names of plays."""

    kind: str
    market_id: str
    author: str
    reason: str
    expires_on: str
    before: float | str | None
    after: float | str | None
    text: str

    @property
    def moved(self) -> float:
        """How far potential moved, as a fraction of what it was; 0 for the other kinds."""
        if isinstance(self.before, float) and isinstance(self.after, float) and self.before > 0:
            return abs(self.after / self.before - 1)
        return 0.0


def valid_notes(notes: pd.DataFrame | None, kind: str, as_of: dt.date) -> list[FieldNote]:
    """The newest note of this kind of every market that counts at ``as_of`` (to the end of ``expires_on``), by market.

    Of notes of one day the last author by name wins, so that the order of the file doesn't matter.
    """
    if notes is None or not len(notes) or "kind" not in notes:
        return []
    valid = notes[notes["kind"].astype(str).str.strip().str.lower() == kind].copy()
    if "expires_on" in valid:
        expires = pd.to_datetime(valid["expires_on"], errors="coerce")
        valid = valid[expires.isna() | (expires >= pd.Timestamp(as_of))]
    if not len(valid):
        return []
    valid["_when"] = pd.to_datetime(valid["date"], errors="coerce") if "date" in valid else pd.NaT
    by = ["market_id", "_when", *(c for c in ("author", "reason") if c in valid)]
    valid = valid.sort_values(by, kind="stable", na_position="first").drop_duplicates("market_id", keep="last")
    low, high = number(valid, "low"), number(valid, "high")
    return [
        FieldNote(kind, str(note["market_id"]), _said(note, "author"), _said(note, "reason"), _day(note),
                  float(low[row]), float(high[row]), _text(note.get("play")))
        for row, (_, note) in enumerate(valid.iterrows())
    ]  # fmt: skip


def apply_field_notes(
    potential: FloatArray, floor: FloatArray, bound: FloatArray, market_id: pd.Series, notes: pd.DataFrame | None,
    as_of: dt.date,
) -> tuple[FloatArray, tuple[FieldChange, ...]]:  # fmt: skip
    """Potential moved into [low, high] of the valid notes of kind "potential", by at most 25% either way.

    Potential never falls below what the market holds already (``floor``) nor rises above ``bound``; all in customers.
    """
    out = potential.copy()
    place = _places(market_id)
    changes = []
    for note in valid_notes(notes, "potential", as_of):
        at = place.get(note.market_id)
        if at is None:
            continue
        lowest, highest = np.nan_to_num(note.low, nan=0.0), np.nan_to_num(note.high, nan=np.inf)
        wanted = float(np.clip(out[at], lowest, max(lowest, highest)))
        before = float(potential[at])
        after = float(np.clip(wanted, before * (1 - CAP), before * (1 + CAP)))
        capped = abs(after - wanted) > 1e-9
        after = float(max(min(after, bound[at]), floor[at]))
        if abs(after - before) < 1e-9:
            continue
        out[at] = after
        text = f"{note.market_id}: potential {before:,.0f} changed to {after:,.0f} customers on the word of {note.says}"
        text += f" (the note asked for more; at most {CAP:.0%} is taken)" if capped else ""
        changes.append(_change(note, before, after, text))
    return out, tuple(changes)


def blocked_by_field(
    market_id: pd.Series, notes: pd.DataFrame | None, as_of: dt.date
) -> tuple[np.ndarray, tuple[FieldChange, ...]]:
    """Where the field has blocked the market (bool by market), and its words."""
    out, place = np.zeros(len(market_id), dtype=bool), _places(market_id)
    changes = []
    for note in valid_notes(notes, BLOCKED, as_of):
        at = place.get(note.market_id)
        if at is None:
            continue
        out[at] = True
        text = f"{note.market_id}: nothing is started and its money stays as it is, on the word of {note.says}"
        changes.append(_change(note, None, BLOCKED, text))
    return out, tuple(changes)


def plays_of_field(
    plays: list[str], market_id: pd.Series, notes: pd.DataFrame | None, as_of: dt.date, library: Collection[str]
) -> tuple[list[str], tuple[FieldChange, ...], tuple[str, ...], tuple[str, ...]]:
    """Plays set by the valid notes of kind "play"; what notes that set none say; notes of plays that there are not.

    A note names a play by its title in the column ``play``, or else as its whole reason (case and spaces don't matter).
    """
    out, place = list(plays), _places(market_id)
    titles = {_plain(title): title for title in library}
    changes, idle, misnamed = [], [], []
    for note in valid_notes(notes, "play", as_of):
        at = place.get(note.market_id)
        if at is None:
            continue
        title = titles.get(_plain(note.play or note.reason))
        if title is None:
            if note.play:
                misnamed.append(f"{note.market_id}: {did_you_mean(note.play, list(library))} ({note.author})")
            else:
                idle.append(f"{note.market_id}: the field says of its play, on the word of {note.says}")
            continue
        text = f"{note.market_id}: play \u201c{title}\u201d on the word of {note.says}"
        changes.append(_change(note, out[at], title, text))
        out[at] = title
    return out, tuple(changes), tuple(idle), tuple(misnamed)


def _change(note: FieldNote, before: float | str | None, after: float | str | None, text: str) -> FieldChange:
    return FieldChange(note.kind, note.market_id, note.author, note.reason, note.expires_on, before, after, text)


def _places(market_id: pd.Series) -> dict[str, int]:
    return {str(m): i for i, m in enumerate(market_id)}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else " ".join(str(value).split())


def _said(note: pd.Series, column: str) -> str:
    value = note.get(column)
    return "unknown" if value is None or pd.isna(value) else shown(str(value), 120).strip("'\"")


def _day(note: pd.Series) -> str:
    value = pd.to_datetime(pd.Series([note.get("expires_on")]), errors="coerce").iloc[0]
    return "" if pd.isna(value) else value.date().isoformat()
