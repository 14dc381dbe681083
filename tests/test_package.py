"""What others build on: the public API with its words and types, the wheel, a plan from it far from any checkout."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from public_api import SNAPSHOT, public_methods, public_objects, signatures
from test_connectors import edit
from tiny import write_tiny

import micromarket
from micromarket._public import HOMES, PUBLIC

#: Nothing that goes wrong there is the caller's to mend.
NEVER_RAISE = {
    "summarise.summarise", "response.estimate_response", "targets.set_targets", "funnel.back_solve",
    "proof.design_holdout", "explore.compare",
}  # fmt: skip


def test_every_public_name_is_there_and_documented(repo: Path) -> None:
    assert sorted([*HOMES, "__version__"]) == sorted(micromarket.__all__)
    page = (repo / "docs" / "api.md").read_text(encoding="utf-8")
    on_the_page = re.findall(r"^\.\. auto\w+:: micromarket\.(\S+)", page, re.MULTILINE)
    assert on_the_page == [name for names in PUBLIC.values() for name in names], "docs/api.md lists the public API"
    wrong = []
    for name, found in public_objects().items():
        text = inspect.getdoc(found) or ""
        sections = set(re.findall(r"^(\w+)\n-{3,}$", text, re.MULTILINE))
        if not inspect.isfunction(found):
            wrong += [f"{name}.{m}: no docstring" for m, f in public_methods(found) if not inspect.getdoc(f)]
            wrong += [] if vars(found).get("__doc__") else [f"{name}: no docstring"]
            continue
        signature = inspect.signature(found)
        wanted = {"Parameters", "Returns"} | (set() if name in NEVER_RAISE else {"Raises"})
        wrong += [f"{name}: no section {s}" for s in sorted(wanted - sections)]
        parameters = text.partition("Parameters\n---")[2].partition("\n---")[0]
        wrong += [
            f"{name}: {p} is not explained" for p in signature.parameters if not re.search(rf"\b{p}\b", parameters)
        ]
        untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
        wrong += [f"{name}: {p} has no type" for p in untyped]
        wrong += [f"{name}: result has no type"] * (signature.return_annotation is inspect.Signature.empty)
    assert not wrong


def test_signatures_change_only_with_the_changelog() -> None:
    recorded = SNAPSHOT.read_text(encoding="utf-8").partition("\n")[2].splitlines()
    now = signatures().splitlines()
    gone, new = ([x for x in a if x not in b] for a, b in ((recorded, now), (now, recorded)))
    changed = [*(f"- {line}" for line in gone), *(f"+ {line}" for line in new)]
    assert recorded == now, "\n".join(["say in CHANGELOG.md what changed, then `make api`:", *changed])


def test_version_is_the_changelogs_latest(repo: Path) -> None:
    version = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (repo / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == version


def test_a_users_program_is_type_checked(repo: Path) -> None:
    """By `make lint`, as strictly as mypy can."""
    settings = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert "tests/user_program.py" in settings["files"]
    (strict,) = (o for o in settings["overrides"] if o["module"] == "user_program")
    assert strict["disallow_untyped_calls"]
    assert strict["disallow_any_expr"]
    assert "assert_type" in (repo / "tests" / "user_program.py").read_text(encoding="utf-8")


def test_importing_is_quick() -> None:
    code = (
        "import micromarket, sys; sys.exit(any(m in sys.modules for m in ('pandas', 'geopandas', 'ibis', 'sklearn')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["errors", "exports", "calendar", "rounding", "workspace", "remote", "simulate"])
def test_examples_in_docstrings_hold(name: str) -> None:
    assert doctest.testmod(import_module(f"micromarket.{name}")).failed == 0


# --- the wheel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=repo, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_what_it_should(wheel: Path, repo: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"micromarket", next(t for t in tops if t.endswith(".dist-info"))}
    inside = {name for name in names if name.startswith("micromarket/")}
    tracked = subprocess.run(["git", "ls-files", "micromarket"], cwd=repo, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) - {n for n in tracked.stdout.split() if not (repo / n).exists()} <= inside
    notebooks = {p.name for p in (repo / "notebooks").glob("*.ipynb")}
    assert {name.rpartition("/")[2] for name in inside if name.endswith(".ipynb")} == notebooks
    assert not [n for n in names if "test_" in n or n.endswith((".pyc", ".parquet", ".csv")) or "/truth/" in n]
    assert "micromarket/py.typed" in inside


def unpacked(wheel: Path, folder: Path) -> dict[str, str]:
    """Environment of a process that sees the wheel, and of this machine only the dependencies."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def test_the_wheel_works_far_from_a_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere = unpacked(wheel, tmp_path / "site"), tmp_path / "elsewhere"
    elsewhere.mkdir()

    company = elsewhere / "company"
    plan = edit(write_tiny(company), "company:   ", "report: {formats: []}\ncompany:   ")
    # in one process, as importing takes longest
    several = [
        ["init", "mine"], ["check", "company/plan.yml"], ["notebooks", "books", "--plan", str(plan)],
    ]  # fmt: skip
    code = (
        "import sys, micromarket; from micromarket.cli import main; print(micromarket.__file__);"
        f" sys.exit(max(main(a) for a in {several!r}))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=elsewhere, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no problem found" in done.stdout
    assert str(plan) in (elsewhere / "books" / "explore_market.ipynb").read_text(encoding="utf-8")
    assert Path(done.stdout.splitlines()[0]).is_relative_to(tmp_path)


@pytest.mark.slow
def test_the_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path, repo: Path) -> None:
    """Every dependency installed anew from the lock; the sample company's whole plan, and an explorer."""
    if not os.environ.get("MICROMARKET_TEST_CLEAN"):
        pytest.skip("`make wheel-test` does this: it installs every dependency anew")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "env")], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--only-binary", ":all:"]
    constraint = tmp_path / "constraints.txt"
    lines = (repo / "requirements.lock").read_text().splitlines()
    constraint.write_text("\n".join(line.rstrip(" \\") for line in lines if re.match(r"[a-z0-9]", line)))
    subprocess.run([*install, "--constraint", str(constraint), f"{wheel}[spatial]"], check=True)
    command = [str(python), "-m", "micromarket.cli"]
    company = tmp_path / "company"
    subprocess.run([*command, "simulate", str(company), "--markets", "60", "--customers", "4000", "--weeks", "60"],
                   check=True, cwd=tmp_path, env=environment, capture_output=True)  # fmt: skip
    done = subprocess.run([*command, "run", "company/plan.yml"], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[-1])
    assert (run / "plan.pdf").is_file()
    subprocess.run([*command, "notebooks", "books"], check=True, cwd=tmp_path, env=environment, capture_output=True)
    book = tmp_path / "books" / "explore_market.ipynb"
    papermill = [str(python), "-m", "papermill", str(book), str(tmp_path / "out.ipynb"), "-p", "plan",
                 str(company / "plan.yml"), "-p", "run_dir", str(run)]  # fmt: skip
    explored = subprocess.run(papermill, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert explored.returncode == 0, explored.stderr
