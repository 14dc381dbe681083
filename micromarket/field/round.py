"""A field round: answers blended into a run's targets, in a new run folder that names its parent; the old one stays."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.field.answers import Answer, read_answers
from micromarket.field.blend import Blend, blend, by_period
from micromarket.field.published import AUDIT, KEYS, MOST_ROUNDS, PublishedRun, read_published
from micromarket.field.results import write_results
from micromarket.formats import money, plural
from micromarket.funnel.solve import follow_targets
from micromarket.notes import plain
from micromarket.rounding import largest_remainder
from micromarket.runner.manifest import now
from micromarket.runner.pipeline import digest_of, package_hash, versions
from micromarket.runner.store import publish, slug
from micromarket.targets.attainment import odds
from micromarket.workspace import write_json

#: Why a change is not the one that was proposed.
TOOK_OVER = "takes over what others of the same sum gave up"
CAPPED, GUARDED, SHARED = "held by the cap", "held by its limits", "counts in part; the sum is kept"
_NOT_COPIED = ("tables/targets.parquet", "tables/funnel.parquet", AUDIT)


def import_answers(
    run: str | Path, files: Sequence[str | Path], out: str | Path | None = None, command: Sequence[str] | None = None
) -> Path:
    """Blends the field's answers into the targets of ``run`` and publishes the result as a new run folder.

    The new folder holds the tables of the old one with new targets, the funnel that goes with them, the audit trail
    ``tables/field_round.parquet``, ``field_round.xlsx`` for people, ``plan.json`` and a manifest that names its parent.
    It appears at once, or not at all; ``run`` is only read.

    Parameters
    ----------
    run : str or Path
        A finished run folder, or one that a first round made.
    files : sequence of str or Path
        Answered sheets.
    out : str or Path, optional
        Folder of run folders; default: the one that ``run`` lies in.
    command : sequence of str, optional
        For the manifest.

    Returns
    -------
    Path
        The new run folder.

    Raises
    ------
    InputError
        With every problem of the answers; nothing is written. Also where both rounds are over, or nobody changed
        anything.
    """
    parent = read_published(run)
    if parent.rounds >= MOST_ROUNDS:
        expected = f"a run before its last field round: there are at most {MOST_ROUNDS}"
        raise InputError([Problem(str(parent.folder), expected, value=f"{parent.rounds} rounds")])
    answers = read_answers(parent, files)
    if not answers:
        names = ", ".join(Path(f).name for f in files)
        raise InputError([Problem(names, "at least one change of a target", value="none")])
    units, blended, region = _blend(parent, answers)
    targets = _targets(parent, units, blended, region)
    audit = _audit(parent, units, blended, answers, targets)
    digest = [(Path(f).name, hashlib.sha256(Path(f).read_bytes()).hexdigest()) for f in files]
    key = digest_of({"parent": parent.manifest["key"], "files": digest, "package": package_hash()})
    base = Path(out).absolute() if out is not None else parent.folder.parent
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f".field-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(mode=0o755)
        _fill(folder, parent, targets, audit, answers, digest, key, command)
        name = f"{parent.plan['as_of']}-{slug(str(parent.plan['company']))}-{key[:8]}"
        return publish(folder, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _blend(parent: PublishedRun, answers: list[Answer]) -> tuple[pd.DataFrame, Blend, np.ndarray]:
    units = parent.units()
    cents = np.round(units["revenue"].to_numpy(float) * 100).astype(np.int64)
    position = {k: i for i, k in enumerate(units[KEYS].itertuples(index=False, name=None))}
    proposed = np.full(len(units), np.nan)
    for answer in answers:
        proposed[position[answer.market_id, answer.segment]] = round(answer.change * 100)
    original = cents
    if parent.audit is not None and len(parent.audit):
        first = parent.audit[parent.audit["round"] == 1].set_index(KEYS)["before"]
        known = first.reindex(pd.MultiIndex.from_frame(units[KEYS])).to_numpy(float)
        original = np.where(np.isnan(known), cents, np.round(np.nan_to_num(known) * 100)).astype(np.int64)
    region, _ = pd.factorize(units["region"].fillna(""), sort=True)
    low, high = (units[c].to_numpy(float) * 100 for c in ("low", "high"))
    units["proposed"] = proposed / 100
    return units, blend(cents, proposed, low, high, region, parent.rules, original), region


def _targets(parent: PublishedRun, units: pd.DataFrame, blended: Blend, region: np.ndarray) -> pd.DataFrame:
    """The table ``targets`` after the round: money to the cent, whole customers, the sums of every region kept."""
    table = parent.targets.copy()
    count, periods = len(units), len(table) // len(units)
    group = region if parent.rules.within == "region" else np.zeros_like(region)
    revenue = np.round(table["revenue"].to_numpy(float) * 100).astype(np.int64).reshape(count, periods)
    moved = by_period(blended.change, np.maximum(revenue, 0).astype(float), group)
    if ((revenue + moved < 0) & (moved < 0)).any():  # a period that can't give as much: each its own season
        own = np.maximum(revenue, 0).astype(float)
        moved = np.vstack([np.diff(np.floor(np.concatenate([[0], np.cumsum(row / max(row.sum(), 1e-9))]) * c + 0.5))
                           for row, c in zip(own, blended.change, strict=True)]).astype(np.int64)  # fmt: skip
        moved[:, -1] += blended.change - moved.sum(axis=1)
    table["revenue"] = (revenue + moved).ravel() / 100
    if table["margin"].notna().all() and revenue.sum() != 0:
        margin = np.round(table["margin"].to_numpy(float) * 100).astype(np.int64)
        rate = margin.sum() / revenue.sum()
        for code in np.unique(group):  # the running sum is rounded, so that a region's margins add up as before
            rows = np.flatnonzero(np.repeat(group == code, periods))
            running = np.concatenate([[0], np.cumsum(moved.ravel()[rows])])
            margin[rows] += np.diff(np.floor(running * rate + 0.5)).astype(np.int64)
        table["margin"] = margin / 100
    before = table["new_customers"].to_numpy(np.int64).reshape(count, periods)
    table["new_customers"] = (before + _customers(units, blended, before, group)).ravel()
    table["p_attain"] = np.repeat(_odds(units, blended), periods)
    return table


def _customers(units: pd.DataFrame, blended: Blend, before: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Whole new customers that go with the change of revenue, by period; every group keeps its number.

    By the revenue that one brings in the plan where the run knows it, else in proportion to the unit's own target.
    """
    revenue = units["revenue"].to_numpy(float)
    total = before.sum(axis=1)
    each = units["each"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_each = blended.change / 100 / each
        in_proportion = np.where(revenue != 0, total * (blended.change / 100) / revenue, 0.0)
    shift = np.where(np.isfinite(by_each) & (each > 0), by_each, in_proportion)
    out = np.zeros_like(before)
    for code in np.unique(group[blended.change != 0]):
        unit = np.flatnonzero((group == code) & (blended.change != 0))
        wanted = np.maximum(total[unit] + shift[unit], 0.0)
        if total[unit].sum() == 0:
            continue
        wanted = wanted if wanted.sum() > 0 else total[unit].astype(float)
        whole = largest_remainder(wanted * (total[unit].sum() / wanted.sum()), int(total[unit].sum()))
        for i, new in zip(unit, whole, strict=True):
            weights = before[i] if before[i].sum() else np.ones(before.shape[1])
            out[i] = largest_remainder(weights * (new / weights.sum()), int(new)) - before[i] if new else -before[i]
    return out


def _odds(units: pd.DataFrame, blended: Blend) -> np.ndarray:
    """Odds of the new targets where the run holds forecasts; empty for changed targets where it doesn't."""
    changed = blended.change != 0
    mean, sd = units["forecast"].to_numpy(float), units["sd"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        after = units["revenue"].to_numpy(float) + blended.change / 100
        reached = odds(mean, sd, after, np.nan_to_num(units["skew"].to_numpy(float)))
    return np.where(changed, np.where(sd > 0, reached, np.nan), units["p_attain"].to_numpy(float))


def _audit(
    parent: PublishedRun, units: pd.DataFrame, blended: Blend, answers: list[Answer], targets: pd.DataFrame
) -> pd.DataFrame:
    """Who changed what and why: a row for every answer and every target that moved, the rounds before included."""
    said = {(a.market_id, a.segment): a for a in answers}
    customers = targets.groupby(KEYS, sort=True)["new_customers"].sum()
    rows = []
    for i, unit in enumerate(units.to_dict("records")):
        answer = said.get((unit["market_id"], unit["segment"]))
        change = int(blended.change[i])
        if answer is None and change == 0:
            continue
        wanted = int(blended.wanted[i])
        why = TOOK_OVER
        if answer is not None:
            stuck = change == (blended.highest[i] if wanted > 0 else blended.lowest[i]) and abs(change) < abs(wanted)
            limit = units[["low", "high"]].iloc[i].notna().any()
            room = parent.rules.cap * abs(unit["revenue"]) * 100
            why = SHARED if not stuck else GUARDED if limit and abs(change) < room - 1 else CAPPED
        rows.append({
            "round": parent.rounds + 1, "market_id": unit["market_id"], "segment": unit["segment"],
            "name": unit["name"], "region": unit["region"], "territory": unit["territory"],
            "author": "" if answer is None else answer.author, "reason": "" if answer is None else answer.reason,
            "comment": "" if answer is None else answer.comment,
            "proposed": np.nan if answer is None else answer.change,
            "before": round(unit["revenue"], 2), "after": round(unit["revenue"] + change / 100, 2),
            "change": change / 100, "customers_before": int(unit["new_customers"]),
            "customers_after": int(customers[unit["market_id"], unit["segment"]]), "outcome": why,
            "file": "" if answer is None else answer.file, "sheet": "" if answer is None else answer.sheet,
            "row": -1 if answer is None else answer.row,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table if parent.audit is None else pd.concat([parent.audit, table], ignore_index=True)


def _fill(
    folder: Path, parent: PublishedRun, targets: pd.DataFrame, audit: pd.DataFrame, answers: list[Answer],
    digest: list[tuple[str, str]], key: str, command: Sequence[str] | None,
) -> None:  # fmt: skip
    started, number = now(), parent.rounds + 1
    (folder / "tables").mkdir()
    for path in sorted((parent.folder / "tables").glob("*.parquet")):
        if f"tables/{path.name}" not in _NOT_COPIED:
            shutil.copyfile(path, folder / "tables" / path.name)
    targets.to_parquet(folder / "tables/targets.parquet", index=False, compression="zstd")
    audit.to_parquet(folder / AUDIT, index=False, compression="zstd")
    plan = parent.plan
    funnel = parent.folder / "tables/funnel.parquet"
    totals = dict(plan.get("totals", {}))
    if funnel.is_file():
        table = follow_targets(pd.read_parquet(funnel), targets)
        table.to_parquet(folder / "tables/funnel.parquet", index=False, compression="zstd")
        totals["funnel"] = {**totals.get("funnel", {}), **{
            c: float(table[c].sum()) for c in ("leads", "mql", "sal", "sql", "won")}}  # fmt: skip
    mine = audit[audit["round"] == number]
    moved = float(mine["change"].clip(lower=0).sum())
    people = mine.loc[mine["author"] != "", "author"].nunique()
    text = (
        f"Field round {number}: {plural(len(answers), 'answer')} of {plural(people, 'person', 'people')}"
        f" moved {money(moved, parent.currency)} between {plural(int((mine['change'] != 0).sum()), 'target')};"
        f" every {parent.rules.within} adds up as before."
    )
    summary = {"round": number, "answers": len(answers), "moved": round(moved, 2), "text": text,
               "cap": parent.rules.cap, "weight": parent.rules.weight, "within": parent.rules.within}  # fmt: skip
    stages = {s: dict(n) for s, n in plan.get("stages", {}).items()}
    if "targets" in stages:
        stages["targets"]["field_round"] = summary
    if "funnel" in stages and "funnel" in totals:
        stages["funnel"]["total"] = {c: totals["funnel"][c] for c in ("leads", "mql", "sal", "sql", "won")}
    warnings = [text, *plan.get("warnings", [])]
    if parent.limits is None:
        warnings.insert(
            1, "The run names no lowest and highest targets, so the field round's cap alone bounds changes."
        )
    sums = [round(float(t["revenue"].sum()) * 100) for t in (parent.targets, targets)]
    check = {"stage": "targets", "name": "the field round keeps the sum of the targets to the cent",
             "passed": sums[0] == sums[1], "detail": f"{sums[1] / 100:,.2f}"}  # fmt: skip
    changed: dict[str, Any] = {
        "totals": totals, "stages": stages, "warnings": warnings, "checks": [*plan.get("checks", []), check],
    }  # fmt: skip
    write_json(folder / "plan.json", {**plan, **changed})
    write_results(parent, targets, audit, text, folder / "field_round.xlsx")
    write_json(folder / "manifest.json", plain({
        **parent.manifest,
        "key": key, "command": list(command) if command else None, "started": started, "ended": now(),
        "micromarket": versions()["micromarket"], "package_sha256": package_hash(),
        "parent": {"run": parent.folder.name, "key": parent.manifest["key"],
                   "manifest_sha256": hashlib.sha256((parent.folder / "manifest.json").read_bytes()).hexdigest()},
        "field_round": {"round": number, **asdict(parent.rules), "answers": len(answers),
                        "files": [{"file": f, "sha256": h} for f, h in digest]},
    }))  # fmt: skip
