"""What the field knows about a market's potential, within a cap, with author, reason and expiry."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.errors import shown
from micromarket.potential.design import number
from micromarket.potential.families import FloatArray

CAP = 0.25


@dataclass(frozen=True)
class FieldChange:
    """One applied note: potential (customers) before and after; ``capped``: the note asked for more than allowed."""

    market_id: str
    author: str
    reason: str
    expires_on: str
    before: float
    after: float
    capped: bool

    @property
    def text(self) -> str:
        until = f", until {self.expires_on}" if self.expires_on else ""
        cap = f" (the note asked for more; at most {CAP:.0%} is taken)" if self.capped else ""
        return (
            f"{self.market_id}: potential {self.before:,.0f} changed to {self.after:,.0f} customers on the word of"
            f" {self.author}: {self.reason}{until}{cap}"
        )


def apply_field_notes(
    potential: FloatArray, floor: FloatArray, bound: FloatArray, market_id: pd.Series, notes: pd.DataFrame | None,
    as_of: dt.date,
) -> tuple[FloatArray, tuple[FieldChange, ...]]:  # fmt: skip
    """Potential moved into [low, high] of the valid notes of kind "potential", by at most 25% either way.

    A note counts until the end of ``expires_on``; the newest note of a market wins. Potential never falls below what
    the market holds already (``floor``) nor rises above ``bound``; all in customers.
    """
    out = potential.copy()
    if notes is None or not len(notes) or "kind" not in notes:
        return out, ()
    valid = notes[notes["kind"].astype(str).str.strip().str.lower() == "potential"].copy()
    if "expires_on" in valid:
        expires = pd.to_datetime(valid["expires_on"], errors="coerce")
        valid = valid[expires.isna() | (expires >= pd.Timestamp(as_of))]
    if not len(valid):
        return out, ()
    valid["_when"] = pd.to_datetime(valid["date"], errors="coerce") if "date" in valid else pd.NaT
    valid = valid.sort_values(["market_id", "_when", "author"], kind="stable", na_position="first")
    valid = valid.drop_duplicates("market_id", keep="last")
    low, high = number(valid, "low"), number(valid, "high")
    place = pd.Series(np.arange(len(potential)), index=market_id.astype(str).to_numpy())
    changes = []
    for row, (_, note) in enumerate(valid.iterrows()):
        at = place.get(str(note["market_id"]))
        if at is None:
            continue
        lowest, highest = np.nan_to_num(low[row], nan=0.0), np.nan_to_num(high[row], nan=np.inf)
        wanted = float(np.clip(out[at], lowest, max(lowest, highest)))
        after = float(np.clip(wanted, potential[at] * (1 - CAP), potential[at] * (1 + CAP)))
        capped = abs(after - wanted) > 1e-9
        after = max(min(after, bound[at]), floor[at])
        if abs(after - potential[at]) < 1e-9:
            continue
        out[at] = after
        changes.append(
            FieldChange(
                str(note["market_id"]),
                _said(note, "author"),
                _said(note, "reason"),
                _day(note),
                float(potential[at]),
                after,
                capped,
            )
        )
    return out, tuple(changes)


def _said(note: pd.Series, column: str) -> str:
    value = note.get(column)
    return "unknown" if value is None or pd.isna(value) else shown(str(value), 120).strip("'\"")


def _day(note: pd.Series) -> str:
    value = pd.to_datetime(pd.Series([note.get("expires_on")]), errors="coerce").iloc[0]
    return "" if pd.isna(value) else value.date().isoformat()
