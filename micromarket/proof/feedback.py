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
    (left empty where it took money away: the lift is then that of today's money); ``markets``: the treated ones. The
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
                rows.append({**base, "channel": cell.record.name, "lift": round(cell.per_money, 8),
                             "lift_se": round(cell.per_money_error, 8), "spend": round(cell.money, 2)})  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


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
        widths = [
            None if c.get("elasticity_high") is None else c["elasticity_high"] - c["elasticity_low"]
            for c in (old[channel], new[channel])
        ]
        if not a or b is None:
            continue
        word = "as strong as thought" if abs(b / a - 1) < 0.1 else ("stronger" if b > a else "weaker")
        text = f"{channel}: the test shows it {word}"
        if word != "as strong as thought":
            text += f" than thought, by {percent(abs(b / a - 1))}"
        if widths[0] and widths[1] is not None:
            text += f"; what is not known about it changed by {percent(widths[1] / widths[0] - 1, sign=True)}"
        out.append(text + ".")
    return out
