"""Notebooks are thin, clean and say what they do; each runs the stage that the stage table names."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from tiny import write_tiny

import micromarket
from micromarket.artefacts import STAGES
from micromarket.config import read_settings
from micromarket.load import open_dataset
from micromarket.runner.kernel import Kernels
from micromarket.runner.notebook import execute_notebook
from micromarket.runner.pipeline import PIPELINE, Stage, notebooks_folder
from micromarket.simulate import simulate
from micromarket.summarise import summarise
from micromarket.value import estimate_value
from micromarket.workspace import Workspace

NOTEBOOKS = sorted(notebooks_folder().glob("[0-9]*.ipynb"))
EXPLORE = sorted(notebooks_folder().glob("explore_*.ipynb"))


@pytest.fixture(params=[*NOTEBOOKS, *EXPLORE], ids=lambda p: p.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    return [c.source for c in notebook.cells if c.cell_type == "code"]


def test_every_stage_has_its_notebook_and_nothing_runs_without_a_stage() -> None:
    assert tuple(stage.name for stage in PIPELINE) == STAGES
    assert [stage.notebook for stage in PIPELINE] == [p.name for p in NOTEBOOKS]
    others = {p.name for p in notebooks_folder().glob("*.ipynb")} - {stage.notebook for stage in PIPELINE}
    assert others == {p.name for p in EXPLORE}, "explored by people, run by no plan"


def test_one_title_and_prose_for_a_reader(notebook: nbformat.NotebookNode) -> None:
    prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    assert len(re.findall(r"^# ", "\n".join(prose), re.M)) == 1
    assert notebook.cells[0].source.startswith("# ")
    assert len("\n".join(prose).split()) > 50, "says what the stage does and how to read it"


def test_one_parameters_cell_every_parameter_typed_and_commented(notebook: nbformat.NotebookNode) -> None:
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    statements = ast.parse(tagged[0].source).body
    assert [s.target.id for s in statements if isinstance(s, ast.AnnAssign)] == ["plan", "run_dir"]  # type: ignore[union-attr]
    assert len(statements) == 2
    assert all("  # " in line for line in tagged[0].source.splitlines())


def test_no_functions_no_classes_no_outputs_no_absolute_paths(notebook: nbformat.NotebookNode) -> None:
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for source in code_of(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(source))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
        assert not re.search(r"""["'](/|~|[A-Za-z]:\\)""", source)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert len({c.id for c in notebook.cells}) == len(notebook.cells)


def test_every_import_of_a_notebook_is_there(notebook: nbformat.NotebookNode) -> None:
    """One that is missing would only be found after the stages before it have run."""
    for node in (n for s in code_of(notebook) for n in ast.parse(s).body):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")


# --- notebooks to explore: they read what a run left, whatever the company has
def value_stage(plan: Path, run_dir: Path) -> Workspace:
    """What the notebooks 01 and 02 leave."""
    settings, workspace = read_settings(plan), Workspace(run_dir)
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        data.write(workspace)
        estimate_value(dataset, data, settings).write(workspace)
    return workspace


def summary_only(folder: Path) -> Path:
    """A company that knows nothing but what each customer has brought: value is observed, no spend, no segments."""
    folder.mkdir()
    ids = [f"c{i}" for i in range(60)]
    homes = pd.DataFrame({"customer_id": ids, "market_id": [f"m{i % 3}" for i in range(60)]})
    homes.to_csv(folder / "customers.csv", index=False)
    brought = pd.DataFrame({"customer_id": ids, "orders": 1 + np.arange(60) % 4, "revenue": 10.0 + np.arange(60)})
    brought.to_csv(folder / "summary.csv", index=False)
    pd.DataFrame({"market_id": ["m0", "m1", "m2"]}).to_csv(folder / "markets.csv", index=False)
    (folder / "plan.yml").write_text(
        "company: {name: Few tables}\nas_of: 2026-06-30\nplan: {start: 2026-07-01, end: 2027-06-30}\n"
        "economics: {relationship: non-contractual, margin_rate: 0.3}\n"
        "data: {markets: markets.csv, customers: customers.csv, customer_summary: summary.csv}\n"
    )
    return folder / "plan.yml"


def company(kind: str, folder: Path) -> Path:
    if kind == "summary":
        return summary_only(folder)
    if kind == "tiny":
        return write_tiny(folder)
    return simulate(folder, markets=12, customers=700, weeks=80, seed=3, relationship=kind) / "plan.yml"


@pytest.fixture(scope="module", params=["contractual", "non-contractual", "tiny", "summary"])
def explored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a company's plan.yml and its run up to the value stage; each kind made once."""
    folder = tmp_path_factory.mktemp(request.param)
    value_stage(company(request.param, folder / "company"), folder / "run")
    return folder


@pytest.mark.parametrize("path", EXPLORE, ids=lambda p: p.stem)
def test_explore_notebooks_run_whatever_the_company_has(
    path: Path, explored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = {p: p.stat().st_mtime_ns for p in explored.rglob("*") if p.is_file()}
    monkeypatch.chdir(explored)
    names: dict[str, object] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.name, "exec"), names)  # noqa: S102
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"plan": "company/plan.yml", "run_dir": "run"}
    after = {p: p.stat().st_mtime_ns for p in explored.rglob("*") if p.is_file()}
    assert before == after, "looks, and changes nothing"


@pytest.mark.parametrize("path", EXPLORE, ids=lambda p: p.stem)
def test_explore_notebooks_run_by_papermill_on_the_working_folder_of_a_run(path: Path, tmp_path: Path) -> None:
    plan = company("summary", tmp_path / "company")
    value_stage(plan, tmp_path / "reports" / ".work" / "a-run-1234")
    (tmp_path / "reports" / "a-run").mkdir()
    asked = {"plan": str(plan), "run_dir": str(tmp_path / "reports" / "a-run")}
    execute_notebook("explore", path, tmp_path / "out.ipynb", asked, Kernels(tmp_path))
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    shown = "".join(o.get("data", {}).get("text/html", "") for c in cells for o in c.get("outputs", []))
    wanted = {"explore_market": "Beside its peers", "explore_scenarios": "knows no response to spend"}
    assert wanted.get(path.stem, "<svg") in shown


# the modules of each stage, to hold what they read of the settings against the stage table
_MODULES = {
    "data": ("load.py", "sources.py", "geography", "summarise"),
    "value": ("value",),
    "potential": ("potential",),
    "response": ("response",),
    "allocation": ("allocation",),
    "targets": ("targets", "periods.py"),
    "funnel": ("funnel",),
    "tests": ("proof",),
}
_SECTION = re.compile(r"settings\.(company|as_of|plan|economics|features|budget|targets|report|seed)\b(?:\.(\w+))?")


def test_amounts_in_dollars_are_no_formulas(tmp_path: Path) -> None:
    """JupyterLab sets what stands between two dollar signs as mathematics, where it isn't told to leave it."""
    from micromarket.explore.pictures import boxed
    from micromarket.notebook import open_run, show_notes
    from micromarket.notes import Notes
    from micromarket.report.value_figures import show

    open_run(str(write_tiny(tmp_path)), str(tmp_path / "run"))
    frame = pd.DataFrame({"range": ["$620k to $1.3M"]})
    notes = Notes(warnings=("between $620k and $1.3M",))
    said = (frame._repr_html_(), frame.style.to_html(), show_notes("value", notes)._repr_html_(), boxed("$1 $2"))
    assert all("mathjax_ignore" in text.split("$")[0] for text in said)
    assert show(None, "$620k to $1.3M").data == r"\$620k to \$1.3M"


@pytest.mark.parametrize("stage", [s for s in PIPELINE if s.name in _MODULES], ids=lambda s: s.name)
def test_a_stage_depends_on_the_settings_that_its_code_reads(stage: Stage) -> None:
    """Else `--resume` would reuse a result after a setting has changed."""
    package = Path(micromarket.__file__).parent
    paths = [package / module for module in _MODULES[stage.name]]
    files = [f for p in paths for f in (p.rglob("*.py") if p.is_dir() else [p])]
    assert files
    for file in files:
        for section, key in _SECTION.findall(file.read_text(encoding="utf-8")):
            known = section in stage.settings or f"{section}.{key}" in stage.settings
            assert known, f"{file.name} reads settings.{section}.{key}"
