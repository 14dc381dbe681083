"""What the stages' notebooks share: finding their files from any working directory, and showing what a stage says."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from micromarket import formats
from micromarket.config import Settings, read_settings
from micromarket.errors import InputError
from micromarket.notes import Notes
from micromarket.pinned import pinned_in
from micromarket.runner.findings import finding
from micromarket.workspace import Workspace


def open_run(plan: str | Path, run_dir: str | Path) -> tuple[Settings, Workspace]:
    """Settings and run directory of a notebook; what the run has settled (:mod:`micromarket.pinned`) holds.

    Relative paths are looked for from the working directory, and from the folder above it where ``plan`` is only
    there: the same defaults then serve papermill in the repository and JupyterLab in ``notebooks/``.

    Raises
    ------
    InputError
        Where ``plan`` can't be read; lists every problem.
    """
    pd.set_option("display.html.use_mathjax", False)  # amounts in dollars are no formulas
    pd.set_option("styler.html.mathjax", False)
    here = Path.cwd()
    base = here.parent if not (here / plan).exists() and (here.parent / plan).exists() else here
    workspace = Workspace(base / run_dir)
    workspace.run_dir.mkdir(parents=True, exist_ok=True)
    return read_settings(base / plan, pinned=pinned_in(workspace.run_dir)), workspace


#: Classes of HTML in which JupyterLab leaves dollars alone: "$620k to $1.3M" is no formula.
NO_MATHS = "mathjax_ignore tex2jax_ignore"


@dataclass(frozen=True)
class Said:
    """A stage's notes as a notebook shows them; text from data is escaped."""

    stage: str
    notes: Notes

    def _parts(self) -> list[tuple[str, list[str]]]:
        failed = [f"{c.name}: {c.detail}".rstrip(": ") for c in self.notes.checks if not c.passed]
        passed = [c.name for c in self.notes.checks if c.passed]
        return [
            ("Mind this", list(self.notes.warnings)),
            ("Checks that failed", failed),
            ("Taken as given", [f"{a.text} (source: {a.source})" for a in self.notes.assumptions]),
            ("Checks passed", ["; ".join(passed)] if passed else []),
        ]

    def _repr_html_(self) -> str:
        lines = [f"<p><b>{html.escape(finding(self.stage, self.notes.numbers))}</b></p>"]
        for title, texts in self._parts():
            if texts:
                items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
                lines.append(f"<p>{title}</p><ul>{items}</ul>")
        return f'<div class="{NO_MATHS}">{"".join(lines)}</div>'

    def __repr__(self) -> str:
        lines = [finding(self.stage, self.notes.numbers)]
        for title, texts in self._parts():
            lines += [f"{title}:", *(f"  - {text}" for text in texts)] if texts else []
        return "\n".join(lines)


def show_notes(stage: str, notes: Notes) -> Said:
    """What ``stage`` found, warns of and takes as given, for the last line of a cell."""
    return Said(stage, notes)


def small_table(settings: Settings, table: str, workspace: Workspace | None = None) -> pd.DataFrame | None:
    """A small input table (field notes, experiments), checked by itself; ``None`` where the company has none.

    Where ``geography.merge`` joined markets it speaks of those: as the data stage left in ``workspace``, else joined
    anew.

    Raises
    ------
    InputError
        With every problem of the table.
    """
    if not settings.has(table):
        return None
    from micromarket.later import as_it_stood
    from micromarket.sources import Engine, read_source
    from micromarket.validate import check_table, typed

    with Engine() as engine:
        given = read_source(engine, settings.data[table])
        raw = as_it_stood(given, settings)
        if raw is not given and not int(raw.table.count().execute()) and int(given.table.count().execute()):
            return None  # the company had none on that day
        problems = check_table(raw, settings.as_of)
        if problems:
            raise InputError(problems)
        frame = typed(raw).to_pandas()
    if settings.geography is None or settings.geography.merge is None:
        return frame
    from micromarket.geography.merged import small_in_merged_markets
    from micromarket.load import open_dataset

    found = workspace.read_if_there("market_map") if workspace is not None else None
    if found is None:
        with open_dataset(settings) as dataset:
            found = dataset.market_map
    assert found is not None
    return small_in_merged_markets(table, frame, found)[0]


def picture(svg: bytes) -> Any:
    """A figure of :mod:`micromarket.report.figures` for the last line of a cell."""
    from IPython.display import SVG

    return SVG(data=svg)


def picture_of_markets(
    markets: pd.DataFrame, values: pd.Series, unit: str, show: Callable[[Any], str], diverging: bool = False
) -> Any:
    """A map of ``values`` (by ``market_id``) where the company has borders or points, else its largest markets as bars.

    Parameters
    ----------
    markets : DataFrame or GeoDataFrame
        The artefact ``markets``.
    values : Series
        Indexed by ``market_id``.
    unit : str
        What the scale shows.
    show : callable
        Writes a value.
    diverging : bool
        Rises against falls, around 0.
    """
    from micromarket.report import maps

    names = markets.set_index("market_id")["name"]
    names = names.where(names.notna(), names.index.to_series())
    if "geometry" in markets.columns and markets["geometry"].notna().any():
        shapes = maps.simplify(maps.project(markets), 900)
        return picture(maps.choropleth(shapes, values, names, unit=unit, money=show, diverging=diverging))
    return picture(maps.ranked_bars(values, names, unit=unit, money=show, diverging=diverging))


def money_in(settings: Settings) -> Callable[[Any], str]:
    """Writes an amount in the company's currency, short."""
    return lambda value: formats.money(value, settings.company.currency)
