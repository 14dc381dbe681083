"""Results of tests as rows of the table ``experiments``, and what they change in the next plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from micromarket.formats import percent
from micromarket.proof.cells import WHOLE
from micromarket.proof.readout import TestReadout

COLUMNS = ("channel", "start", "end", "lift", "lift_se", "markets", "spend")


def experiment_rows(readouts: Sequence[TestReadout]) -> pd.DataFrame:
    """Finished tests in the format of the input table ``experiments``; null results too, as they say as much.

    ``lift``: new customers per unit of money, ``lift_se`` its standard error; ``spend``: money that the test added
    (below 0: took away); ``markets``: the treated ones. The
    plan's moves as a whole enter channel by channel without a lift: there, chance set the spend, and the history shows
    what came of it. A range without an end is no result and gives no row.
    """
    rows: list[dict[str, Any]] = []
    for found in readouts:
        record = found.record
        for cell in found.cells:
            if not (np.isfinite(cell.lift.low) and np.isfinite(cell.lift.high)):
                continue  # not a null result but none: the range rules nothing out
            base = {"start": record.start, "end": record.end, "markets": ";".join(cell.treated)}
            if cell.record.name == WHOLE:
                rows += [{**base, "channel": c, "lift": None, "lift_se": None, "spend": round(m, 2)}
                         for c, m in sorted(cell.record.money.items())]  # fmt: skip
            elif cell.per_money is not None and cell.per_money_error is not None:
                rows.append({**base, "channel": cell.record.name, "lift": _digits(cell.per_money),
                             "lift_se": _digits(cell.per_money_error), "spend": round(cell.money, 2)})  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _digits(value: float) -> float:
    """Six significant digits: in some currencies a customer costs millions, and decimals would be cut off."""
    return float(f"{value:.6g}")


def appended(experiments: pd.DataFrame | None, rows: pd.DataFrame) -> pd.DataFrame:
    """Both, each finding once: a test read out again replaces its rows."""
    if experiments is None or experiments.empty:
        return rows.reset_index(drop=True)
    both = pd.concat([experiments, rows], ignore_index=True)
    keys = pd.DataFrame({
        "channel": both["channel"].astype(str), "start": pd.to_datetime(both["start"]),
        "end": pd.to_datetime(both["end"]), "markets": both.get("markets", pd.Series(index=both.index)).astype(str),
    })  # fmt: skip
    return both[~keys.duplicated(keep="last")].reset_index(drop=True)


def changes(before: Mapping[str, Any], after: Mapping[str, Any], tested: Sequence[str]) -> list[str]:
    """What tests changed from one plan to the next: sentences about the tested channels.

    Parameters
    ----------
    before, after : mapping
        Numbers of the response notes of both plans (key ``channels``).
    tested : sequence of str
        Channels with a new result.
    """
    old = {c["channel"]: c for c in before.get("channels") or []}
    new = {c["channel"]: c for c in after.get("channels") or []}
    out = []
    for channel in sorted(set(tested) & set(old) & set(new)):
        a, b = old[channel].get("elasticity"), new[channel].get("elasticity")
        if not a or a < 0 or b is None:
            continue
        word = "as strong as thought" if abs(b / a - 1) < 0.1 else ("stronger" if b > a else "weaker")
        text = f"{channel}: the test shows it {word}"
        if word != "as strong as thought":
            text += " than thought, " + (
                f"by a factor of {b / a:.1f}" if b / a >= 2 else f"by {percent(abs(b / a - 1))}"
            )
        out.append(f"{text}. One percent more money there now counts as {_effect(new[channel])} more new customers;"
                   f" without the test, {_effect(old[channel])}.")  # fmt: skip
    return out


def _effect(channel: Mapping[str, Any]) -> str:
    """An elasticity with its 90% range, in percent of new customers."""
    if channel.get("elasticity_high") is None:
        return percent(channel["elasticity"] / 100, 2)
    low, high = (percent(channel[k] / 100, 2) for k in ("elasticity_low", "elasticity_high"))
    return f"{percent(channel['elasticity'] / 100, 2)} ({low} to {high})"


def taught(response: Mapping[str, Any] | None) -> list[str]:
    """What tests changed in this plan: its response estimates against those of the same history without the tests.

    Parameters
    ----------
    response : mapping or None
        Numbers of the response notes; no sentence where their key ``tests`` is missing (no test told anything).
    """
    found = (response or {}).get("tests")
    if not found:
        return []
    before, after = ({"channels": found[k]} for k in ("before", "after"))
    tested = [str(c) for c in found.get("tested") or []]
    out = changes(before, after, tested)
    old, new = ({c["channel"]: c["elasticity"] for c in side["channels"]} for side in (before, after))
    moved = [c for c in sorted(old) if c not in tested and old[c] > 0 and abs(new[c] / old[c] - 1) >= 0.1]
    for channel in moved:
        word = "stronger" if new[channel] > old[channel] else "weaker"
        share = percent(abs(new[channel] / old[channel] - 1))
        out.append(f"{channel}: not tested, but rated {word} by {share}, as channels are judged by one another.")
    a, b = found.get("p_no_response_before"), found.get("p_no_response_after")
    if out and a is not None and b is not None and abs(a - b) >= 0.05:
        out.append(f"The odds that marketing money brings nobody went from {percent(a)} to {percent(b)}.")
    return out
