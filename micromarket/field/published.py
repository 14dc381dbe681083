"""A finished run as the field round and the exports read it: targets with who answers for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import FieldRound
from micromarket.errors import InputError, Problem, shown

KEYS = ["market_id", "segment"]
AUDIT = "tables/field_round.parquet"
MOST_ROUNDS = 2


@dataclass(frozen=True)
class PublishedRun:
    """What a run folder says of its targets.

    Attributes
    ----------
    folder : Path
    plan, manifest : dict
    targets : DataFrame
        The published table, sorted by market, segment, period; ids are texts.
    places : DataFrame
        market_id, name, region, territory, manager; texts, empty where not known.
    limits : DataFrame or None
        market_id, segment, ``low``, ``high``: guardrails of the target over the plan (money); where the run knows them
        also ``forecast``, ``sd`` (money), ``skew`` and ``each`` (revenue in the plan of one new customer).
    rules : FieldRound
        Caps of the round, as the run's settings have them.
    audit : DataFrame or None
        Rounds so far.
    """

    folder: Path
    plan: dict[str, Any]
    manifest: dict[str, Any]
    targets: pd.DataFrame
    places: pd.DataFrame
    limits: pd.DataFrame | None
    rules: FieldRound
    audit: pd.DataFrame | None

    @property
    def key(self) -> str:
        """Eight letters that name the run."""
        return str(self.manifest["key"])[:8]

    @property
    def rounds(self) -> int:
        return int((self.manifest.get("field_round") or {}).get("round", 0))

    @property
    def currency(self) -> str:
        return str(self.plan.get("currency", ""))

    def units(self) -> pd.DataFrame:
        """Market x segment over the whole plan: sums, odds, last target, limits, place; sorted by market, segment."""
        columns = ["revenue", "new_customers", "margin", "last_target"]
        by = self.targets.groupby(KEYS, sort=True)
        units = by[columns].sum(min_count=1).join(by["p_attain"].mean()).reset_index()
        units = units.merge(self.places, on="market_id", how="left")
        if self.limits is not None:
            units = units.merge(self.limits, on=KEYS, how="left")
        for column in ("low", "high", "forecast", "sd", "skew", "each"):
            if column not in units:
                units[column] = np.nan
        return units


def read_published(run: str | Path) -> PublishedRun:
    """Reads a finished run folder.

    Raises
    ------
    InputError
        Naming every file that is missing or can't be read.
    """
    folder = Path(run).absolute()
    problems = [
        Problem(str(folder / inside), "a finished run with targets", value="nothing there")
        for inside in ("plan.json", "manifest.json", "tables/targets.parquet", "tables/territories.parquet")
        if not (folder / inside).is_file()
    ]
    if problems:
        raise InputError(problems)
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        targets = pd.read_parquet(folder / "tables/targets.parquet")
        places = pd.read_parquet(folder / "tables/territories.parquet")
        limits = _if_there(folder / "tables/target_limits.parquet")
        audit = _if_there(folder / AUDIT)
        rules = FieldRound(**(manifest["settings"]["targets"].get("field_round") or {}))
        str(manifest["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError([Problem(str(folder), "a finished run folder", value=shown(str(error)))]) from error
    targets = targets.assign(**{k: targets[k].astype(object).map(str) for k in KEYS})
    targets = targets.sort_values([*KEYS, "period"], kind="stable").reset_index(drop=True)
    for column in ("market_id", "name", "region", "territory", "manager"):
        values = (
            places[column].astype(object) if column in places else pd.Series(None, index=places.index, dtype=object)
        )
        places[column] = values.where(values.notna(), "").map(str)
    places["name"] = places["name"].where(places["name"] != "", places["market_id"])
    if limits is not None:
        limits = limits.assign(**{k: limits[k].astype(object).map(str) for k in KEYS})
        limits = limits[[*KEYS, *(c for c in ("low", "high", "forecast", "sd", "skew", "each") if c in limits)]]
    return PublishedRun(folder, plan, manifest, targets, places, limits, rules, audit)


def _if_there(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None
