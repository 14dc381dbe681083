"""What ``notebooks/explore_customers.ipynb`` shows of a run, counted once; parts that a company lacks are None."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pandas as pd

from micromarket.config import Settings
from micromarket.errors import StageError
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.value import explore, explore_tracking
from micromarket.value import summaries as s
from micromarket.value.decay import MarketTrends, market_trends
from micromarket.workspace import Workspace


@dataclass(frozen=True)
class Exploration:
    """Attributes
    ----------
    kind : {"contracts", "purchases", "summary"}
    value_words : str
        What a customer's value means in ``concentration`` and ``best``.
    concentration, best, cohorts : see :mod:`micromarket.value.explore`
    trends : see :mod:`micromarket.value.decay`
    tracking, frequencies, survival : see :mod:`micromarket.value.explore_tracking`
    tracked : str
        What ``tracking`` counts.
    """

    kind: str
    value_words: str
    concentration: explore.Concentration | None
    best: pd.DataFrame | None
    cohorts: pd.DataFrame | None
    trends: MarketTrends | None
    tracking: pd.DataFrame | None
    tracked: str
    frequencies: pd.DataFrame | None
    survival: pd.DataFrame | None


def explore_customers(dataset: s.Tables, data: MarketData, settings: Settings, notes: Notes) -> Exploration:
    """From the company's tables and what the stages data and value left; ``notes``: of the value stage."""
    kind = explore.kind_of(dataset, settings)
    values = explore.customer_value(dataset, settings)
    keep = getattr(dataset, "keep", None)
    if keep is not None:
        values = keep("explored_value", values)
    found = explore.concentration(values)
    names = data.markets.set_index("market_id").get("name")
    best = None if found is None else explore.best_customers(dataset, settings, values, found, names)
    models, as_of = list(notes.numbers.get("models", [])), settings.as_of
    begins = data.facts.get("records_begin")
    since = None if begins is None else dt.date.fromisoformat(str(begins)[:10])
    tracking = frequencies = survival = None
    if kind == "contracts":
        tracking = explore_tracking.track_departures(dataset, as_of, models, since)
        survival = explore_tracking.survival(dataset, as_of, models, since, settings.report.min_cell)
    elif kind == "purchases":
        tracking = explore_tracking.track_purchases(dataset, as_of, models)
        frequencies = explore_tracking.purchase_frequencies(dataset, as_of, models)
    return Exploration(
        kind=kind,
        value_words=explore.value_words(dataset, settings),
        concentration=found,
        best=best,
        cohorts=explore.cohorts(dataset, settings, since),
        trends=market_trends(data.history, settings.report.min_cell),
        tracking=tracking,
        tracked="departures" if kind == "contracts" else "repeat purchases",
        frequencies=frequencies,
        survival=survival,
    )


def working_folder(workspace: Workspace) -> Workspace:
    """Where the tables of a finished run are: its own folder, or the working folder that ``micromarket run`` keeps.

    Takes the folder of notebooks run one by one, a run folder, or a folder of run folders (the latest counts).

    Raises
    ------
    StageError
        Where neither is there, with what to run.
    """
    run = workspace.run_dir
    if (run / "work" / "notes" / "value.json").exists():
        return workspace
    folders = [*(run.parent / ".work").glob(f"{run.name}-*"), *(run / ".work").glob("*")]
    done = [f for f in folders if (f / "work" / "notes" / "value.json").exists()]
    if not done:
        raise StageError(
            f"{run} holds no run: make one with micromarket run (its last line is the folder to name here), or run the"
            " notebooks 01_data and 02_value first"
        )
    return Workspace(max(done, key=lambda f: ((f / "work" / "notes" / "value.json").stat().st_mtime_ns, f.name)))
