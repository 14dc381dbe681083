"""A readout for the terminal: short, the worst first, what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from micromarket.errors import shown
from micromarket.formats import money, odds, plural

if TYPE_CHECKING:
    from micromarket.readout.attainment import Readout

_MEASURES = ("new_customers", "revenue")


def in_words(found: Readout, most: int) -> str:
    """``most``: markets that are shown."""
    measures = [m for m in _MEASURES if f"{m}_actual" in found.markets.columns]
    unit = {"new_customers": "new customers", "revenue": f"revenue ({found.currency})"}
    lines = [f"From {found.since} through {found.through}"]
    for m in measures:
        ratio = found.total[f"{m}_attainment"]
        lines.append(
            f"{unit[m]}: {found.total[f'{m}_actual']:,.0f} of {found.total[f'{m}_target']:,.0f} planned to date"
            + (f" ({ratio:.0%})" if np.isfinite(ratio) else "")
        )
    lines += _outlook(found)
    behind = found.markets.assign(gap=found.markets[f"{measures[-1]}_target"] - found.markets[f"{measures[-1]}_actual"])
    behind = behind[behind["gap"] > 0].sort_values("gap", ascending=False, kind="stable").head(most)
    for title, frame in (
        ("By region", found.regions), ("By territory", found.territories.head(40)), ("By segment", found.segments),
        ("Markets furthest behind", behind),
    ):  # fmt: skip
        if len(frame):
            lines += ["", title, _table(frame, measures)]
    return "\n".join([*lines, *(["", *(f"Note: {n}" for n in found.notes)] if found.notes else [])])


def _outlook(found: Readout) -> list[str]:
    """Why, against the band, and where the plan will end."""
    total, lines = found.total, []
    if "volume" in total:
        parts = {"fewer or more leads" if total["conversion"] else "fewer or more new customers": total["volume"],
                 "conversion": total["conversion"], "revenue of each customer": total["value"]}  # fmt: skip
        said = [f"{name} {money(v, found.currency, sign=True)}" for name, v in parts.items() if v]
        gap = total["revenue_actual"] - total["revenue_target"]
        lines.append(f"actual less target {money(gap, found.currency, sign=True)}: {', '.join(said) or 'nothing'}")
    if "projection" in total:
        ends = [money(total[c], found.currency) for c in ("projection", "projection_low", "projection_high")]
        band = [money(total[c], found.currency) for c in ("band_low", "band_high")]
        place = {"below": "below", "above": "above", "": "inside"}[total["off_track"]]
        lines.append(f"revenue to date is {place} the forecast's 90% range, {band[0]} to {band[1]}")
        lines.append(
            f"by the end of the plan: {ends[0]} (90% range {ends[1]} to {ends[2]})"
            f" of {money(total['plan_target'], found.currency)}; odds of the target {odds(total['p_attain'])}"
        )
        off = found.markets["off_track"]
        chance = len(off) * 0.05
        lines.append(
            f"off track: {plural(int((off == 'below').sum()), 'market')} below the range,"
            f" {int((off == 'above').sum()):,} above; chance alone would put about {chance:.0f} on each side"
        )
    return lines


def _table(frame: pd.DataFrame, measures: Sequence[str]) -> str:
    columns = {}
    for m in measures:
        word = m.replace("_", " ")
        columns[f"{word}: target"] = frame[f"{m}_target"].map("{:,.0f}".format)
        columns[f"{word}: actual"] = frame[f"{m}_actual"].map("{:,.0f}".format)
        columns[f"{word}: attained"] = frame[f"{m}_attainment"].map(lambda v: f"{v:.0%}" if np.isfinite(v) else "")
    if "projection" in frame:
        for cause in ("volume", "conversion", "value"):
            if frame[cause].any():
                columns[cause] = frame[cause].map("{:+,.0f}".format)
        columns["by the end"] = (frame["projection"] / frame["plan_target"].where(frame["plan_target"] > 0)).map(
            lambda v: f"{v:.0%}" if np.isfinite(v) else ""
        )
        columns["odds"] = frame["p_attain"].map("{:.0%}".format)
        columns["range"] = frame["off_track"]
    index = pd.Index([shown(str(i), 30).strip("'") for i in frame.index], name=frame.index.name)
    return pd.DataFrame(columns).set_axis(index).to_string()
