"""Notebooks are thin, clean and say what they do; each runs the stage that the stage table names."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import nbformat
import pytest

import micromarket
from micromarket.artefacts import STAGES
from micromarket.runner.pipeline import PIPELINE, Stage, notebooks_folder

NOTEBOOKS = sorted(notebooks_folder().glob("[0-9]*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    return [c.source for c in notebook.cells if c.cell_type == "code"]


def test_every_stage_has_its_notebook_and_nothing_runs_without_a_stage() -> None:
    assert tuple(stage.name for stage in PIPELINE) == STAGES
    assert [stage.notebook for stage in PIPELINE] == [p.name for p in NOTEBOOKS]


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


# the modules of each stage, to hold what they read of the settings against the stage table
_MODULES = {
    "data": ("load.py", "sources.py", "geography.py", "summarise"),
    "value": ("value",),
    "potential": ("potential",),
    "response": ("response",),
    "allocation": ("allocation",),
    "targets": ("targets", "periods.py"),
    "funnel": ("funnel",),
    "tests": ("proof",),
}
_SECTION = re.compile(r"settings\.(company|as_of|plan|economics|features|budget|targets|report|seed)\b(?:\.(\w+))?")


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
