"""The mutations of ``mutations.py``, each on a fresh copy of its company. ``make mutations`` runs all, and counts.

Whatever is done to the files: refused with the place, or a plan whose invariants hold and whose warnings name what is
odd, or the very same input as undamaged. Never a parser's own error, a NaN, or a change that nobody is told of.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from invariants import broken, make
from mutation_companies import write_companies
from mutations import COLUMNS, Mutation, all_mutations

from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.load import Dataset, open_dataset

MUTATIONS = all_mutations()
COUNTED: Counter[str] = Counter()


@dataclass(frozen=True)
class Read:
    """What the loader made of a company: every table sorted, features, warnings."""

    tables: dict[str, pd.DataFrame]
    features: tuple[str, ...]
    warnings: list[str]


def read(plan: Path) -> Read:
    with open_dataset(read_settings(plan)) as dataset:
        return Read(_tables(dataset), dataset.features, list(dataset.warnings))


def _tables(dataset: Dataset) -> dict[str, pd.DataFrame]:
    tables = {t: dataset.table(t).to_pandas() for t in dataset.tables if t != "markets"}
    tables["markets"] = pd.DataFrame(dataset.markets)
    return {name: _sorted(table) for name, table in tables.items()}


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    table = table[sorted(c for c in table.columns if not c.startswith("column"))]
    by = [c for c in table.columns if c != "geometry"]
    text = table[by].astype(str)
    return table.loc[text.sort_values(by, kind="stable").index].reset_index(drop=True)


@pytest.fixture(scope="session")
def companies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("companies")
    write_companies(folder)
    return folder


@pytest.fixture(scope="session")
def undamaged(companies: Path) -> dict[str, Read]:
    """What is read of each company, when first asked for: most refusals need none."""

    class Known(dict):
        def __missing__(self, company: str) -> Read:
            self[company] = read(companies / company / "plan.yml")
            return self[company]

    return Known()


@pytest.fixture(scope="session")
def plans(companies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, pd.DataFrame]]:
    """The published tables of each undamaged company, made when first asked for."""

    class Made(dict):
        def __missing__(self, company: str) -> dict[str, pd.DataFrame]:
            run = tmp_path_factory.mktemp("run")
            make(companies / company / "plan.yml", run)
            self[company] = published(run)
            return self[company]

    return Made()


def published(run: Path) -> dict[str, pd.DataFrame]:
    return {p.stem: pd.read_parquet(p) for p in sorted((run / "tables").glob("*.parquet"))}


def _same(one: Read, other: Read) -> None:
    assert set(one.tables) == set(other.tables)
    assert one.features == other.features
    assert sorted(one.warnings) == sorted(other.warnings)
    for name, table in other.tables.items():
        pd.testing.assert_frame_equal(one.tables[name], table, check_dtype=False, obj=name, rtol=1e-12)


def _hold(mutation: Mutation, plan: Path, run: Path, known: dict[str, Read], plans: dict) -> None:
    """What must hold of a mutation's outcome; raises AssertionError."""
    if mutation.outcome == "refused":
        with pytest.raises(InputError) as caught:
            read(plan)
        assert caught.value.exit_status == 2
        said = [str(p) for p in caught.value.problems]
        assert any(all(word in text for word in mutation.words) for text in said), said
        assert all(len(text) < 2_000 and text.isprintable() for text in said), said
        assert not any(w in text for text in said for w in ("Traceback", "Exception")), said
        return
    if mutation.outcome == "infeasible":
        with pytest.raises(InputError) as caught:
            make(plan, run)
        assert mutation.words[0] in str(caught.value)
        assert not (run / "plan.json").exists()
        return
    found, undamaged = read(plan), known[mutation.company]
    if mutation.outcome == "harmless":
        _same(found, undamaged)
    elif mutation.outcome == "near":
        assert found.warnings == undamaged.warnings
        a, b = found.tables["markets"], undamaged.tables["markets"]
        assert np.allclose(a["area_km2"], b["area_km2"], rtol=1e-3)
        assert a["market_id"].tolist() == b["market_id"].tolist()
    elif mutation.outcome == "renamed":
        assert found.warnings == undamaged.warnings
        assert mutation.words[0] in set(found.tables["customers"]["segment"])
    elif mutation.outcome == "warned":
        new = [w for w in found.warnings if w not in undamaged.warnings]
        # of a whole plan, a stage may be the one that says it
        assert mutation.whole or any(all(word in w for word in mutation.words) for w in new), new
    if mutation.whole:
        _whole(mutation, plan, run, plans)


_OF_THE_DATA = (
    "check failed: response, spend explains less than all new customers",
    "check failed: value, value: the hidden end of the history is predicted",
)


def _whole(mutation: Mutation, plan: Path, run: Path, plans: dict) -> None:
    made, settings = make(plan, run)
    found = broken(run, settings)
    if mutation.outcome == "warned":  # a check that says the data can't be right is no fault of the plan
        found = [text for text in found if not text.startswith(_OF_THE_DATA)]
    assert found == []
    if mutation.outcome == "warned":
        told = made.to_json()["warnings"]
        assert any(all(word in w for word in mutation.words) for w in told), told
    if mutation.outcome == "harmless":
        for name, table in plans[mutation.company].items():
            pd.testing.assert_frame_equal(published(run)[name], table, obj=name, rtol=1e-9)


def run_one(mutation: Mutation, companies: Path, folder: Path, undamaged: dict[str, Read], plans: dict) -> None:
    company = folder / "company"
    shutil.copytree(companies / mutation.company, company)
    try:
        mutation.damage(company)
        if mutation.outcome == "refused":
            _only_needed(company, mutation)
        _hold(mutation, company / "plan.yml", folder / "run", undamaged, plans)
        COUNTED[mutation.outcome] += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_NEEDED = {"markets", "customers", "transactions", "subscriptions", "customer_summary"}


def _only_needed(company: Path, mutation: Mutation) -> None:
    """Leaves the tables out of plan.yml that have nothing to do with a refusal: reading them takes most of the time."""
    table = mutation.words[0].split(".")[0] if mutation.words else ""
    if table not in COLUMNS:
        return
    plan = company / "plan.yml"
    lines = plan.read_text(encoding="utf-8").splitlines(keepends=True)
    others = tuple(f"  {t}: " for t in COLUMNS if t not in _NEEDED | {table})
    plan.write_text("".join(line for line in lines if not line.startswith(others)), encoding="utf-8")


def _ids(mutations: list[Mutation]) -> list[str]:
    return [m.name.encode("ascii", "backslashreplace").decode() for m in mutations]


SHORT = [m for m in MUTATIONS if m.short]


@pytest.mark.parametrize("mutation", SHORT, ids=_ids(SHORT))
def test_a_few_of_every_kind(
    mutation: Mutation, companies: Path, tmp_path: Path, undamaged: dict[str, Read], plans: dict
) -> None:
    run_one(dataclasses.replace(mutation, whole=False), companies, tmp_path / "here", undamaged, plans)


@pytest.mark.mutations
@pytest.mark.parametrize("mutation", MUTATIONS, ids=_ids(MUTATIONS))
def test_every_mutation(
    mutation: Mutation, companies: Path, tmp_path: Path, undamaged: dict[str, Read], plans: dict
) -> None:
    run_one(mutation, companies, tmp_path / "here", undamaged, plans)


#: Through the command itself, with its kernels: one mutation of every way to end.
COMMANDED = (
    "spend.amount: decimal comma",
    "transactions.date: Excel's serial",
    "plan.yml economics.margin_rate: 35",
    "spend.csv: a value too few in a row",
    "customers.segment: a hole",
    "customers as typed Parquet",
)


@pytest.mark.mutations
@pytest.mark.parametrize("name", COMMANDED)
def test_the_command_itself(name: str, companies: Path, tmp_path: Path, plans: dict) -> None:
    mutation = next(m for m in MUTATIONS if m.name == name)
    company, out = tmp_path / "company", tmp_path / "out"
    shutil.copytree(companies / mutation.company, company)
    mutation.damage(company)
    command = [sys.executable, "-m", "micromarket.cli", "run", str(company / "plan.yml"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "COLUMNS": "4000"})
    assert "Traceback" not in done.stdout + done.stderr
    if mutation.outcome == "refused":
        assert done.returncode == 2, done.stderr
        assert any(all(word in line for word in mutation.words) for line in done.stderr.splitlines()), done.stderr
        assert not list(out.rglob("*.parquet"))
        assert not list(out.rglob("plan.json"))
        return
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().splitlines()[-1])
    told = json.loads((run / "plan.json").read_text(encoding="utf-8"))["warnings"]
    if mutation.outcome == "warned":
        assert any(all(word in w for word in mutation.words) for w in told), told
        assert all(word in done.stderr for word in mutation.words), done.stderr
    else:
        made = published(run)
        for table, expected in plans[mutation.company].items():
            if table != "drift":
                pd.testing.assert_frame_equal(made[table], expected, obj=table, rtol=1e-9)


def test_there_are_enough_of_every_kind() -> None:
    counts = Counter(m.outcome for m in MUTATIONS)
    assert len(MUTATIONS) >= 500
    assert counts["refused"] >= 300
    assert counts["warned"] >= 100
    assert counts["harmless"] >= 60
