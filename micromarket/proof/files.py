"""The readout of a run's tests from files: actuals in, words and rows of ``experiments`` out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from micromarket.calendar import frequency_of
from micromarket.config import Source
from micromarket.errors import InputError, Problem
from micromarket.proof.feedback import experiment_rows
from micromarket.proof.foreign import records_of
from micromarket.proof.readout import TestReadout, read_test
from micromarket.proof.readout_words import in_words
from micromarket.proof.record import read_record
from micromarket.sources import Engine, read_source
from micromarket.validate import check_table, typed

_KINDS = ("outcomes", "spend", "tests")
_ENDINGS = (".csv", ".parquet", ".xlsx", ".tsv", ".json")


@dataclass(frozen=True)
class Files:
    """Actuals by kind: ``outcomes``; ``spend`` (optional); ``tests``: who was treated in tests designed elsewhere."""

    outcomes: tuple[Path, ...]
    spend: tuple[Path, ...]
    tests: tuple[Path, ...]


def sort_files(paths: Sequence[str | Path]) -> Files:
    """Files by how their name begins (``spend…``, ``tests…``, else outcomes); a folder stands for the files in it.

    Raises
    ------
    InputError
        For a folder without outcomes.
    """
    found: dict[str, list[Path]] = {k: [] for k in _KINDS}
    for path in map(Path, paths):
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _ENDINGS
                      and p.stem.lower().startswith(_KINDS)]  # fmt: skip
            if not any(p.stem.lower().startswith("outcomes") for p in inside):
                raise InputError([Problem(path.name, "a file whose name begins with outcomes")])
        else:
            inside = [path]
        for p in inside:
            kind = next((k for k in _KINDS if p.stem.lower().startswith(k)), "outcomes")
            found[kind].append(p)
    return Files(tuple(found["outcomes"]), tuple(found["spend"]), tuple(found["tests"]))


def read_tests(run: str | Path, files: Files, through: dt.date | None = None) -> list[TestReadout]:
    """The run's own test, where it has one, and those of ``files.tests``.

    Raises
    ------
    InputError
        Where a table cannot be read, or the record was changed.
    """
    run = Path(run)
    own = run / "tests.json"
    if not own.is_file() and not files.tests:
        return []
    outcomes = _joined(run, _table("outcomes", files.outcomes))
    if through is not None:
        outcomes = outcomes[pd.to_datetime(outcomes["period"]) <= pd.Timestamp(through)]
    spend = _joined(run, _table("spend", files.spend)) if files.spend else None
    records = [read_record(own)] if own.is_file() else []
    if files.tests:
        frequency = frequency_of(pd.to_datetime(outcomes["period"]).drop_duplicates())[0]
        records += records_of(_plain(files.tests), outcomes, frequency)
    return [read_test(record, outcomes, spend) for record in records]


def readouts_in_words(readouts: Sequence[TestReadout], currency: str) -> str:
    """All of them, for the terminal."""
    return "\n\n".join(in_words(found, currency) for found in readouts)


def write_experiments(readouts: Sequence[TestReadout], path: str | Path) -> Path:
    """What they found in the format of the table ``experiments``; finished tests only."""
    target = Path(path)
    experiment_rows(readouts).to_csv(target, index=False)
    return target


def _table(kind: str, paths: Sequence[Path]) -> pd.DataFrame:
    problems, frames = [], []
    for path in paths:
        with Engine() as engine:
            try:
                raw = read_source(engine, Source(kind, path=path.absolute(), shown_as=path.name))
                if kind == "outcomes" and "segment" in raw.table.columns:  # a row a segment: summed
                    whole = raw.table.to_pandas()
                    keys = ["market_id", "period"]
                    frames.append(whole.groupby(keys, as_index=False)["new_customers"].sum())
                    continue
                found = check_table(raw, dt.date.max)
                if found:
                    problems += found
                    continue
                frames.append(typed(raw).to_pandas())
            except InputError as error:
                problems += error.problems
    if problems or not frames:
        raise InputError(problems or [Problem("actuals", f"a table of {kind}")])
    every = pd.concat(frames, ignore_index=True)
    return every.assign(market_id=every["market_id"].astype(str))


def _plain(paths: Sequence[Path]) -> pd.DataFrame:
    frames = []
    for path in paths:
        with Engine() as engine:
            frames.append(
                read_source(engine, Source("tests", path=path.absolute(), shown_as=path.name)).table.to_pandas()
            )
    return pd.concat(frames, ignore_index=True)


def _joined(run: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """In the plan's markets, where it joined some of the company's."""
    path = run / "tables" / "market_map.parquet"
    if not path.is_file():
        return frame
    found = pd.read_parquet(path)
    names = dict(zip(found["original_id"].astype(str), found["market_id"].astype(str), strict=True))
    return frame.assign(market_id=frame["market_id"].map(lambda m: names.get(m, m)))
