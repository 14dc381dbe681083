"""Rows of the table ``experiments``: what tests found, and where spend was drawn by lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.response.panel import Panel
from micromarket.response.transform import Array

LEAST_FACTOR, MOST_FACTOR = 0.02, 20.0


@dataclass(frozen=True)
class Readout:
    """What a finished test found. ``lift``, ``error``: new customers per unit of money; ``money``: what the test added
    (below 0: took away), NaN where not known; ``rows``: its markets, ``None`` where not listed; ``count``: how many;
    ``start``, ``end``: first and last day, NaT where not known.
    """

    channel: str
    lift: float
    error: float
    days: int
    money: float
    count: float | None
    rows: NDArray[np.int64] | None
    start: pd.Timestamp = pd.NaT  # type: ignore[assignment]
    end: pd.Timestamp = pd.NaT  # type: ignore[assignment]


@dataclass(frozen=True)
class Window:
    """Markets x periods whose spend in ``channel`` (index) was drawn by lot; ``readout``: a lift is given with it."""

    channel: int
    rows: NDArray[np.int64]
    periods: NDArray[np.int64]
    money: float
    readout: bool

    @property
    def cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Index into (periods, markets, channels) arrays."""
        return self.periods[:, None], self.rows[None, :], self.channel


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _listed(text: Any, markets: pd.Index) -> NDArray[np.int64] | None:
    """Positions of the markets in a list of ids ("a, b; c"), ``None`` where ``text`` is none."""
    if not isinstance(text, str):
        return None
    parts = [m.strip() for m in text.replace(";", ",").split(",") if m.strip()]
    found = markets.get_indexer(pd.Index(parts)) if parts else np.zeros(0, dtype=np.int64)
    known = found[found >= 0]
    return np.unique(known).astype(np.int64) if len(known) and len(known) >= 0.5 * len(parts) else None


def _count(text: Any) -> float | None:
    """Number of markets from a number, "80 markets …" or a list of ids."""
    if isinstance(text, str):
        parts = [m for m in text.replace(";", ",").split(",") if m.strip()]
        return float(len(parts)) if len(parts) > 1 else _count(_number(text.split()[0] if text.split() else ""))
    number = _number(text)
    return number if np.isfinite(number) and number >= 1 else None


def _sorted(experiments: pd.DataFrame | None) -> list[dict[str, Any]]:
    if experiments is None or experiments.empty:
        return []
    numbers = {c: pd.to_numeric(experiments[c], errors="coerce") if c in experiments else np.nan
               for c in ("lift", "lift_se")}  # fmt: skip
    dates = {c: pd.to_datetime(experiments[c], errors="coerce") for c in ("start", "end")}
    rows = experiments.assign(channel=experiments["channel"].astype(str), **numbers, **dates)
    return rows.sort_values(["channel", "start", "lift"], kind="stable").to_dict("records")  # type: ignore[return-value]


def _read(row: dict[str, Any]) -> bool:
    return bool(np.isfinite(row["lift"]) and np.isfinite(row["lift_se"]) and row["lift_se"] > 0)


def readouts(experiments: pd.DataFrame | None, markets: tuple[str, ...]) -> list[Readout]:
    """Rows with a lift and its standard error."""
    ids, out = pd.Index(markets), []
    for row in _sorted(experiments):
        if _read(row):
            length = (row["end"] - row["start"]).days if pd.notna(row["end"]) and pd.notna(row["start"]) else 27
            out.append(
                Readout(
                    row["channel"], float(row["lift"]), float(row["lift_se"]), int(length) + 1,
                    _number(row.get("spend")), _count(row.get("markets")), _listed(row.get("markets"), ids),
                    row["start"], row["end"],
                )
            )  # fmt: skip
    return out


def during(periods: pd.DatetimeIndex, start: pd.Timestamp, end: pd.Timestamp) -> NDArray[np.int64]:
    """Positions of the periods, given by first days, from ``start`` to ``end``; none where these are not known."""
    return np.flatnonzero((periods >= start - pd.Timedelta(days=3)) & (periods <= end)).astype(np.int64)


def windows(experiments: pd.DataFrame | None, panel: Panel) -> list[Window]:
    """Rows that list their markets by id: there, chance set the spend from ``start`` to ``end``."""
    ids, out = pd.Index(panel.markets), []
    first = pd.DatetimeIndex(panel.periods)
    for row in _sorted(experiments):
        rows = _listed(row.get("markets"), ids)
        if rows is None or row["channel"] not in panel.channels or pd.isna(row["start"]) or pd.isna(row["end"]):
            continue
        inside = during(first, row["start"], row["end"])
        if len(inside):
            channel = panel.channels.index(row["channel"])
            out.append(Window(channel, rows, inside, _number(row.get("spend")), _read(row)))
    return out


def _known_ratio(panel: Panel, window: Window) -> float | None:
    """Spend of a window over what it would have been, where its table says what money the test added."""
    if not np.isfinite(window.money) or window.money == 0:
        return None
    heads = panel.unit[window.channel] * panel.scale[window.rows]
    seen = float((panel.spend[window.cells] * heads).sum())
    return float(np.clip(seen / max(seen - window.money, 1e-12), LEAST_FACTOR, MOST_FACTOR))


def _rhythm(outside: Array, level: Array) -> Array:
    """Spend of all markets together over their usual level, (periods, channels); where every market was drawn at once,
    on a straight line between the periods beside."""
    usual = level.sum(axis=1)
    out = outside.sum(axis=1) / np.maximum(usual, 1e-300)
    t = np.arange(len(out))
    for c in range(out.shape[1]):
        some = usual[:, c] > 0.02 * max(float(usual[:, c].max()), 1e-300)
        out[:, c] = np.interp(t, t[some], out[some, c]) if some.any() else 1.0
    return out


def undisturbed(panel: Panel, drawn: list[Window]) -> Array:
    """Spend (as in the panel) as it would have been without the drawn windows.

    Each window's factor is what its markets spent over what they spend otherwise in such periods. Factors of windows
    that go the same way in a channel are shrunk together (empirical Bayes): tests use few levels.
    """
    spend = panel.spend
    out, inside, outside = spend.copy(), np.zeros(spend.shape, dtype=bool), spend.copy()
    known = [_known_ratio(panel, w) for w in drawn]
    for w, ratio in zip(drawn, known, strict=True):
        inside[w.cells] = ratio is None
        outside[w.cells] = 0.0 if ratio is None else spend[w.cells] / ratio
    level = outside.sum(axis=0) / np.maximum((~inside).sum(axis=0), 1)
    rhythm = _rhythm(outside, np.where(inside, 0.0, level))
    logs, errors = np.zeros(len(drawn)), np.full(len(drawn), 0.02)
    for i, (w, ratio) in enumerate(zip(drawn, known, strict=True)):
        if ratio is None:
            usual, now = level[w.rows, w.channel][None] * rhythm[w.periods, w.channel][:, None], spend[w.cells]
            ratio = float(np.clip(now.sum() / max(float(usual.sum()), 1e-12), LEAST_FACTOR, MOST_FACTOR))
            each = np.log(np.maximum(now, 1e-9) / np.maximum(usual, 1e-9))
            errors[i] = max(float(np.std(each)) / np.sqrt(max(each.size, 1)), 0.02)
        logs[i] = np.log(ratio)
    ratios = np.exp(logs)
    for group in {(w.channel, bool(up)) for w, up in zip(drawn, logs > 0, strict=True)}:
        at = np.array([(w.channel, bool(up)) == group for w, up in zip(drawn, logs > 0, strict=True)])
        x, v = logs[at], errors[at] ** 2
        middle = float(np.log(np.average(ratios[at], weights=1 / (v + float(np.median(v))))))  # no log of noise
        between = max(float(((x - middle) ** 2 - v).mean()), 0.0)
        logs[at] = (x * between + middle * v) / np.maximum(between + v, 1e-12)
    for w, log in zip(drawn, logs, strict=True):
        out[w.cells] = spend[w.cells] / np.exp(log)
        if np.exp(log) <= 2 * LEAST_FACTOR:  # switched off: what would have been spent is the usual
            usual = level[w.rows, w.channel][None] * rhythm[w.periods, w.channel][:, None]
            out[w.cells] = usual
    return out
