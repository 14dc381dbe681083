"""The list of people to call, on request: a file that only its owner can read, outside every run folder."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from micromarket.config import Settings, read_settings
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.exports import refuse_run_folder, write_csv, write_xlsx
from micromarket.leads.score import LeadScores, score_leads
from micromarket.load import Dataset, open_dataset
from micromarket.workspace import write_atomically

_SUFFIXES = (".csv", ".xlsx", ".parquet")


def write_leads(run: str | Path, out: str | Path, plan: str | Path | None = None) -> str:
    """Scores open leads and prospects and writes them to ``out``, readable and writable by its owner only.

    Parameters
    ----------
    run : str or Path
        A finished run: what customers are worth there, and the data date.
    out : str or Path
        ``.csv``, ``.xlsx`` or ``.parquet``.
    plan : str or Path, optional
        Default: the ``plan.yml`` that the run's manifest names, if it is still there unchanged.

    Returns
    -------
    str
        Aggregates, for the terminal.

    Raises
    ------
    InputError
        A place inside a run folder; another suffix; no finished run; no ``plan.yml``; no leads; data of another day.
    """
    path = Path(out).absolute()
    if path.suffix.lower() not in _SUFFIXES:
        expected = f"a file name that ends in {did_you_mean(path.suffix, list(_SUFFIXES))}"
        raise InputError([Problem(str(path), expected, value=shown(path.suffix))])
    refuse_run_folder(path, "rows about single persons don't belong there")
    folder = Path(run).absolute()
    manifest = _manifest(folder)
    settings = read_settings(Path(plan) if plan is not None else _plan_of(manifest))
    if str(settings.as_of) != str(manifest["settings"]["as_of"]):
        if settings.later_rows == "refuse":
            expected = f"the data date of the run, {manifest['settings']['as_of']}"
            raise InputError([Problem(settings.path.name, expected, "as_of", value=str(settings.as_of))])
        settings = read_settings(settings.path, dt.date.fromisoformat(str(manifest["settings"]["as_of"])))
    if not settings.has("leads"):
        raise InputError([Problem(settings.path.name, "this table", column="data.leads")])
    with open_dataset(settings) as dataset:
        scores = scores_of(dataset, settings, folder)
    write_atomically(path, lambda p: _write(scores.people, p))
    return scores.to_text(settings.company.currency, settings.report.min_cell) + f"\n\n{path}"


def scores_of(dataset: Dataset, settings: Settings, run: Path | None = None) -> LeadScores:
    """Scores from a company's tables; ``run``: folder whose scores say what a new customer is worth."""
    markets = pd.DataFrame(dataset.markets)[["market_id", "name", "region"]].astype(object)
    force = dataset.frame("sales_force")
    if force is not None:
        known = [c for c in ("territory", "manager") if c in force]
        markets = markets.merge(force[["market_id", *known]].astype(object), on="market_id", how="left")
    scores = None if run is None else run / "tables" / "scores.parquet"
    if scores is not None and scores.is_file():
        worth = pd.read_parquet(scores, columns=["market_id", "new_customer_clv"]).astype({"market_id": object})
        markets = markets.merge(worth, on="market_id", how="left")
    leads = dataset.table("leads").to_pandas()
    prospects = dataset.table("prospects").to_pandas() if dataset.has("prospects") else None
    as_of = pd.Timestamp(settings.as_of)
    return score_leads(leads, as_of, markets, prospects, settings.economics.margin_rate, settings.seed)


def _manifest(run: Path) -> dict[str, Any]:
    path = run / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        str(manifest["settings"]["as_of"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError([Problem(str(path), "a finished run folder", value=type(error).__name__)]) from error
    return manifest


def _plan_of(manifest: dict[str, Any]) -> Path:
    """The file of the run's command whose content is the one that the run was made from."""
    wanted = manifest.get("plan_file", {})
    for word in manifest.get("command") or []:
        path = Path(word)
        if path.name == wanted.get("file") and path.is_file():
            if hashlib.sha256(path.read_bytes()).hexdigest() == wanted.get("sha256"):
                return path
            raise InputError(
                [Problem(str(path), "the plan.yml that the run was made from (it has changed since): --plan")]
            )
    raise InputError([Problem(str(wanted.get("file", "plan.yml")), "--plan PLAN.yml: it isn't where the run found it")])


def _write(people: pd.DataFrame, path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # before the first row is in it
    os.chmod(path, 0o600)
    if path.suffix.lower() == ".csv":
        write_csv(people, path)
    elif path.suffix.lower() == ".xlsx":
        write_xlsx(people, path)
    else:
        people.to_parquet(path, index=False, compression="zstd")
