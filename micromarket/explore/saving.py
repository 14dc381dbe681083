"""A scenario as a ``plan.yml`` that ``micromarket run`` takes: the company's own file with the changed keys."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from micromarket._yaml import parse
from micromarket.config import Budget, Settings, read_settings
from micromarket.errors import InputError, Problem
from micromarket.explore.scenarios import Scenario
from micromarket.workspace import write_atomically


def save_scenario(scenario: Scenario, settings: Settings, name: str | None = None) -> Path:
    """Writes ``plan-NAME.yml`` beside the plan's own file, whose relative paths then hold.

    Only what the scenario changes is written over; secrets stay the names of variables. A file of an earlier scenario
    of the same name is replaced.

    Parameters
    ----------
    scenario : Scenario
    settings : Settings
        Those that the scenario was tried under.
    name : str, optional
        Default: the scenario's name.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    InputError
        Where the name holds no letter or digit, or the file would not read back as the scenario.
    """
    words = re.sub(r"[^\w]+", "-", (name or scenario.name).strip().lower(), flags=re.UNICODE).strip("-_")[:60]
    if not words:
        raise InputError([Problem("scenario", "a name with letters or digits", value=name or scenario.name)])
    raw = parse(settings.path.read_text(encoding="utf-8-sig"))
    raw["budget"] = {**(raw.get("budget") or {}), **_changed(scenario, settings)}
    if scenario.margin_rate not in (None, settings.economics.margin_rate):
        raw["economics"] = {**raw["economics"], "margin_rate": scenario.margin_rate}
    if scenario.objective != settings.targets.objective:
        raw["targets"] = {**(raw.get("targets") or {}), "objective": asdict(scenario.objective)}
    path = settings.path.with_name(f"plan-{words}.yml")
    head = f"# The scenario “{' '.join(scenario.name.split())}”, made from {settings.path.name} in explore_scenarios.\n"
    text = head + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=120)

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")
        back = read_settings(beside)
        limits, margin = back.budget, back.economics.margin_rate
        wanted = scenario.margin_rate if scenario.margin_rate is not None else settings.economics.margin_rate
        if (limits, margin, back.targets.objective) != (scenario.limits, wanted, scenario.objective):
            raise InputError([Problem(path.name, "settings that read back as the scenario")])

    return write_atomically(path, write)


def _changed(scenario: Scenario, settings: Settings) -> dict[str, Any]:
    """Keys of ``budget`` that differ from the plan, as YAML has them."""
    out: dict[str, Any] = {}
    for key in (f.name for f in fields(Budget)):
        value = getattr(scenario.limits, key)
        if value != getattr(settings.budget, key):
            out[key] = (
                "current" if key == "total" and value is None else list(value) if isinstance(value, tuple) else value
            )
    return out


__all__ = ["save_scenario"]
