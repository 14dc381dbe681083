"""This plan against the one before: what changed, market by market, and why."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.formats import finite, percent
from micromarket.notes import Notes
from micromarket.potential.previous_run import previous_files

NOTABLE = 0.05  # a cause is named where it changed by more than this share
# figure -> (words, kind, stage, keys of its notes)
FIGURES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("Active customers", "count", "data", ("active_customers",)),
    ("Value of a customer", "money", "value", ("clv",)),
    ("Opportunity still to be won", "money", "potential", ("opportunity",)),
    ("Budget", "money", "allocation", ("total",)),
    ("Money that moves", "money", "allocation", ("moved",)),
    ("Margin it should add", "money", "allocation", ("gain", "expected")),
    ("Revenue target", "money", "targets", ("total", "revenue")),
    ("Odds of the goal", "percent", "targets", ("p_company",)),
)
_LIMITS = {
    "total": "the total budget",
    "max_shift": "how much may move",
    "market_change": "how far a market may rise or fall",
    "cell_change": "how far a channel in a market may rise or fall",
    "channel_change": "how far a channel may rise or fall",
    "region_change": "how far a region may rise or fall",
    "min_return": "the least return",
    "risk_aversion": "risk aversion",
    "min_ticket": "the least ticket",
    "round_to": "rounding",
}


@dataclass(frozen=True)
class Changes:
    """
    Attributes
    ----------
    since : date
        Data date of the plan before.
    run : str
        Its folder.
    figures : tuple of (words, kind, before, now)
        Headline figures; kind: money, count or percent.
    table : DataFrame
        market_id, customers_before, customers_now, money_before, money_now, money_change, target_before, target_now,
        target_change, play_before, play_now, reason. Money of both plans over the same length of time.
    rules : tuple of str
        Settings that were changed by people, in words.
    markets_new, markets_gone : int
    """

    since: dt.date
    run: str
    figures: tuple[tuple[str, str, float, float], ...]
    table: pd.DataFrame
    rules: tuple[str, ...] = ()
    markets_new: int = 0
    markets_gone: int = 0


def changes_since(
    settings: Settings, tables: Mapping[str, pd.DataFrame], stages: Mapping[str, Notes]
) -> Changes | None:
    """What changed since the run that ``previous_run`` names; ``None`` where there is none that can be read.

    A market's reason names what changed most there among value of a new customer, customers to win and today's money,
    where it points the way the money went; otherwise that others changed more.
    """
    files = previous_files(settings)
    if "scores" not in files or "scores" not in tables:
        return None
    folder = files["scores"].parent.parent
    try:
        before = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        said = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["settings"]
        since = dt.date.fromisoformat(before["as_of"])
        period = {k: dt.date.fromisoformat(v) for k, v in before["plan"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if before.get("currency") != settings.company.currency:
        return None
    days = (period["end"] - period["start"]).days + 1
    old = {n: _read(folder, n) for n in ("scores", "budget", "targets")}
    scale = settings.plan.days / days if abs(settings.plan.days / days - 1) > 0.01 else 1.0  # leap days are no change
    table = _by_market(tables, old, scale)
    known = set(old["scores"]["market_id"]) if old["scores"] is not None else set()
    here = set(tables["scores"]["market_id"])
    return Changes(
        since, folder.name, _headline(before, stages, scale), table, _rules(said, settings),
        len(here - known), len(known - here),
    )  # fmt: skip


def _read(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / ARTEFACTS[name].path
    return pd.read_parquet(path) if path.is_file() else None


def _headline(
    before: Mapping[str, Any], stages: Mapping[str, Notes], scale: float
) -> tuple[tuple[str, str, float, float], ...]:
    rows = []
    for words, kind, stage, keys in FIGURES:
        old, new = before.get("stages", {}).get(stage), stages[stage].numbers if stage in stages else None
        a, b = finite(_deep(old, keys)), finite(_deep(new, keys))
        if a is None or b is None:
            continue
        if stage in ("allocation", "targets") and kind == "money":
            a *= scale
        rows.append((words, kind, a, b))
    return tuple(rows)


def _deep(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _by_market(
    tables: Mapping[str, pd.DataFrame], old: Mapping[str, pd.DataFrame | None], scale: float
) -> pd.DataFrame:
    by = pd.DataFrame({"market_id": sorted(tables["scores"]["market_id"].astype(str))}).set_index("market_id")
    both = {"before": old, "now": tables}
    for when, source in both.items():
        factor = scale if when == "before" else 1.0
        scores = source.get("scores")
        if scores is not None:
            scores = scores.set_index("market_id")
            for column in ("customers", "play", "new_customer_clv", "headroom"):
                by[f"{column}_{when}"] = scores.get(column, np.nan)
        if (budget := source.get("budget")) is not None:
            sums = budget.groupby("market_id")[["current", "recommended"]].sum() * factor
            by[f"today_{when}"], by[f"money_{when}"] = sums["current"], sums["recommended"]
        if (targets := source.get("targets")) is not None:
            by[f"target_{when}"] = targets.groupby("market_id")["revenue"].sum() * factor
    wanted = ("customers", "play", "new_customer_clv", "headroom", "today", "money", "target")
    by = by.reindex(columns=[f"{c}_{w}" for c in wanted for w in both])
    numbers = [c for c in by.columns if not c.startswith("play")]
    by[numbers] = by[numbers].astype(float)
    for column in ("money", "target"):
        by[f"{column}_change"] = by[f"{column}_now"] - by[f"{column}_before"]
    least = 1e-3 * float(by["money_now"].mean()) if by["money_now"].notna().any() else 0.0
    by["reason"] = [_reason({str(k): v for k, v in row.items()}, least) for row in by.to_dict("records")]
    for when in both:
        play = by[f"play_{when}"].astype(object)
        by[f"play_{when}"] = play.where(play.notna(), None)
    return by.reset_index()[list(ARTEFACTS["changes"].columns)]


def _reason(row: Mapping[str, Any], least: float) -> str:
    """Why a market's money is other than in the plan before, in words; empty where it isn't, or nothing is known."""
    change = row["money_change"]
    if not np.isfinite(change):
        return "New in this plan." if np.isfinite(row["money_now"]) else ""
    if abs(change) <= least:
        return ""
    causes = []
    for column, more, less in (
        ("new_customer_clv", "a new customer is worth {} more", "a new customer is worth {} less"),
        ("headroom", "{} more customers to win", "{} fewer customers to win"),
        ("today", "{} more is spent there today", "{} less is spent there today"),
    ):
        before, now = row[f"{column}_before"], row[f"{column}_now"]
        if not (np.isfinite(before) and np.isfinite(now) and before > 0 and now > 0):
            continue
        ratio = now / before
        if abs(ratio - 1) > NOTABLE and (ratio > 1) == (change > 0):
            causes.append((abs(np.log(ratio)), (more if ratio > 1 else less).format(percent(abs(ratio - 1)))))
    if not causes:
        return "Little changed here; others changed more, and the money follows them."
    words = [text for _, text in sorted(causes, key=lambda c: (-c[0], c[1]))[:2]]
    text = "; ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def _rules(said: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
    """Limits and goals that people set otherwise than in the plan before."""
    out = []
    before = said.get("budget") or {}
    for key, words in _LIMITS.items():
        now = getattr(settings.budget, key)
        was = before.get(key)
        if key in before and (tuple(was) if isinstance(was, list) else was) != now:
            out.append(words)
    targets, economics = said.get("targets") or {}, said.get("economics") or {}
    if "growth" in targets and targets["growth"] != settings.targets.growth:
        out.append("the growth goal")
    if "margin_rate" in economics and economics["margin_rate"] != settings.economics.margin_rate:
        out.append("the margin rate")
    return tuple(out)


__all__ = ["Changes", "changes_since"]
