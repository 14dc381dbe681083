"""The runner on a small pipeline of its own: what it publishes, what it keeps, what it refuses, what it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest

from micromarket.errors import InputError, StageError
from micromarket.runner.execution import run
from micromarket.runner.kernel import Kernels
from micromarket.runner.notebook import NotebookFailed, execute_notebook
from micromarket.runner.pipeline import Stage
from micromarket.runner.store import publish, slug

PLAN = """\
company:   {name: Société Générale 株式会社, currency: EUR}
as_of:     2026-06-30
plan:      {start: 2026-07-01, end: 2027-06-30}
economics: {relationship: non-contractual, margin_rate: 0.3}
data:      {markets: markets.csv, customers: customers.csv, transactions: transactions.csv, field_notes: notes.csv}
"""
COUNT = """\
from pathlib import Path
from micromarket.config import read_settings
settings = read_settings(plan)
text = settings.data["markets"].path.read_text()
Path(run_dir, "work").mkdir(exist_ok=True)
Path(run_dir, "work/one.txt").write_text(str(len(text.splitlines())))
"""
DOUBLE = """\
import os, time
from pathlib import Path
if Path(os.environ.get("SLOW_STAGE", "/nonexistent")).exists():
    time.sleep(60)
n = int(Path(run_dir, "work/one.txt").read_text())
Path(run_dir, "tables").mkdir(exist_ok=True)
_ = Path(run_dir, "tables/two.txt").write_text(str(2 * n))
print(2 * n)
"""
TELL = """\
from pathlib import Path
_ = Path(run_dir, "plan.json").write_text(Path(run_dir, "tables/two.txt").read_text())
"""
PIPELINE = (
    Stage("count", "01_count.ipynb", tables=("markets",), outputs=("work/one.txt",), required=("work/one.txt",)),
    Stage("double", "02_double.ipynb", ("count",), ("field_notes",), outputs=("tables/two.txt",)),
    Stage("tell", "03_tell.ipynb", ("double",), settings=("report",), outputs=("plan.json",), required=("plan.json",)),
)


def write_notebook(path: Path, code: str, parameters: str = 'plan: str = ""\nrun_dir: str = ""') -> None:
    cell = nbformat.v4.new_code_cell(parameters)
    cell.metadata["tags"] = ["parameters"]
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Test"), cell, nbformat.v4.new_code_cell(code)]
    )
    nb.metadata["kernelspec"] = {"name": "a-kernel-nobody-has", "display_name": "x", "language": "python"}
    for i, c in enumerate(nb.cells):
        c["id"] = f"c{i}"
    nbformat.write(nb, path)


@pytest.fixture
def company(tmp_path: Path) -> Path:
    folder = tmp_path / "company"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "plan.yml").write_text(PLAN, encoding="utf-8")
    for table in ("markets", "customers", "transactions", "notes"):
        (folder / f"{table}.csv").write_text("id\n1\n2\n")
    for stage, code in zip(PIPELINE, (COUNT, DOUBLE, TELL), strict=True):
        write_notebook(folder / "notebooks" / stage.notebook, code)
    return folder


def in_this_process(
    stage: str, source: Path, output: Path, parameters: dict[str, object], kernels: Kernels, following: Path | None
) -> Path:
    """Stands in for papermill where a test is not about kernels: a kernel takes a second to start."""
    names = {**parameters, "run_dir": str(kernels.run_dir)}
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, str(source), "exec"), names)  # noqa: S102
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(source.read_bytes())
    return output


@pytest.fixture(autouse=True)
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may be edited while its tests run; that is not what these tests are about."""
    monkeypatch.setattr("micromarket.runner.pipeline.package_hash", lambda: "the same")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micromarket.runner.execution.execute_notebook", in_this_process)


def go(company: Path, out: Path, **options: object) -> tuple[Path, dict[str, str]]:
    """Runs; returns the run folder and the status of each stage."""
    options.setdefault("check", lambda settings: {"markets": 2})
    folder = run(company / "plan.yml", out, pipeline=PIPELINE, notebooks=company / "notebooks",
                 progress=lambda line: None, **options)  # type: ignore[arg-type]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    return folder, {s["stage"]: s["status"] for s in manifest["stages"]}


def published(out: Path) -> list[str]:
    return sorted(p.name for p in out.iterdir() if not p.name.startswith("."))


def test_publishes_one_whole_folder_and_nothing_else(company: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    folder, status = go(company, out)
    assert status == {"count": "done", "double": "done", "tell": "done"}
    assert published(out) == [folder.name]
    assert folder.name.startswith("2026-06-30-societe-generale-")
    inside = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert inside == ["manifest.json", "notebooks/01_count.ipynb", "notebooks/02_double.ipynb",
                      "notebooks/03_tell.ipynb", "plan.json", "tables/two.txt"]  # fmt: skip
    assert (folder / "plan.json").read_text() == "6"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"]["markets"]["rows"] == 2
    assert len(manifest["inputs"]["markets"]["sha256"]) == 64
    assert manifest["complete"] is True
    hidden = [p for p in out.iterdir() if p.name.startswith(".")]
    assert [p.name for p in hidden] == [".work"]
    if os.name == "posix":
        assert all(p.stat().st_mode & 0o077 == 0 for p in (out / ".work").iterdir())


@pytest.mark.usefixtures("fast")
def test_same_input_again_gives_the_same_bytes_under_a_second_name(company: Path, tmp_path: Path) -> None:
    first, _ = go(company, tmp_path / "out")
    second, _ = go(company, tmp_path / "out")
    assert second.name == f"{first.name}-2"
    for path in (p for p in first.rglob("*") if p.is_file() and p.name != "manifest.json"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


@pytest.mark.usefixtures("fast")
def test_resume_runs_only_what_changed(company: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(company, out)
    assert go(company, out, resume=True)[1] == {"count": "reused", "double": "reused", "tell": "reused"}
    (company / "markets.csv").write_text("id\n1\n2\n3\n")
    folder, status = go(company, out, resume=True)
    assert status == {"count": "done", "double": "done", "tell": "done"}
    assert (folder / "plan.json").read_text() == "8"
    # other bytes, same result of the first stage: the ones after it need not run
    (company / "markets.csv").write_text("id\n1\n2\n4\n")
    assert go(company, out, resume=True)[1] == {"count": "done", "double": "reused", "tell": "reused"}
    # a setting that only the last stage depends on
    (company / "plan.yml").write_text(PLAN + "report: {min_cell: 5}\n", encoding="utf-8")
    assert go(company, out, resume=True)[1] == {"count": "reused", "double": "reused", "tell": "done"}
    # a table that the second stage reads
    (company / "notes.csv").write_text("id\n9\n")
    assert go(company, out, resume=True)[1] == {"count": "reused", "double": "done", "tell": "reused"}
    # another notebook
    write_notebook(company / "notebooks" / "03_tell.ipynb", TELL + "# now with a comment\n")
    assert go(company, out, resume=True)[1] == {"count": "reused", "double": "reused", "tell": "done"}
    assert len(list((out / ".work").iterdir())) == 3  # older ones are pruned


@pytest.mark.usefixtures("fast")
def test_a_damaged_result_is_not_reused(company: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(company, out)
    for path in (out / ".work").glob("*/stages/count/work/one.txt"):
        path.unlink()
        path.write_text("77")
    assert go(company, out, resume=True)[1]["count"] == "done"


@pytest.mark.usefixtures("fast")
def test_without_resume_everything_runs(company: Path, tmp_path: Path) -> None:
    go(company, tmp_path)
    assert set(go(company, tmp_path)[1].values()) == {"done"}


@pytest.mark.usefixtures("fast")
def test_until_publishes_what_there_is_and_says_what_is_not(company: Path, tmp_path: Path) -> None:
    folder, status = go(company, tmp_path / "out", until="double")
    assert status == {"count": "done", "double": "done", "tell": "skipped"}
    assert (folder / "tables/two.txt").exists()
    assert not (folder / "plan.json").exists()
    with pytest.raises(StageError, match="did you mean double"):
        go(company, tmp_path / "never", until="dubble")
    assert not (tmp_path / "never").exists()


def test_a_failed_notebook_is_kept_with_its_error_and_nothing_is_published(company: Path, tmp_path: Path) -> None:
    write_notebook(company / "notebooks" / "01_count.ipynb", "1 / 0")
    with pytest.raises(NotebookFailed) as caught:
        go(company, tmp_path / "out")
    assert caught.value.exit_status == 1
    assert "ZeroDivisionError: division by zero" in str(caught.value)
    assert caught.value.notebook.name == "01_count.failed.ipynb"
    assert "ZeroDivisionError" in caught.value.notebook.read_text()
    assert str(caught.value.notebook) in str(caught.value)
    assert published(tmp_path / "out") == []
    manifest = json.loads((caught.value.notebook.parent.parent / "manifest.json").read_text())
    assert [s["status"] for s in manifest["stages"]] == ["failed", "skipped", "skipped"]


def test_input_error_in_a_notebook_keeps_its_whole_text_and_status(tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "source.ipynb",
        "from micromarket.errors import InfeasibleError, Problem\n"
        'raise InfeasibleError([Problem("plan.yml", "less", "budget.total"), Problem("plan.yml", "more", "budget.x")])',
    )
    with pytest.raises(NotebookFailed) as caught:
        execute_notebook("x", tmp_path / "source.ipynb", tmp_path / "out.ipynb", {"run_dir": "."}, Kernels(tmp_path))
    assert caught.value.exit_status == 2
    assert "2 problems" in str(caught.value)
    assert "budget.total" in str(caught.value)
    assert "budget.x" in str(caught.value)


def test_a_kernel_that_dies_is_named(tmp_path: Path) -> None:
    write_notebook(tmp_path / "source.ipynb", "import os; os._exit(9)")
    with pytest.raises(NotebookFailed, match="ran out of memory"):
        execute_notebook("x", tmp_path / "source.ipynb", tmp_path / "out.ipynb", {"run_dir": "."}, Kernels(tmp_path))
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.usefixtures("fast")
def test_a_stage_that_failed_runs_again_and_those_before_it_do_not(company: Path, tmp_path: Path) -> None:
    write_notebook(company / "notebooks" / "02_double.ipynb", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        go(company, tmp_path)
    write_notebook(company / "notebooks" / "02_double.ipynb", DOUBLE)
    assert go(company, tmp_path, resume=True)[1] == {"count": "reused", "double": "done", "tell": "done"}


@pytest.mark.usefixtures("fast")
def test_a_stage_that_leaves_nothing_has_failed(company: Path, tmp_path: Path) -> None:
    write_notebook(company / "notebooks" / "03_tell.ipynb", "pass")
    with pytest.raises(StageError, match=r"tell.*without writing plan\.json"):
        go(company, tmp_path / "out")
    assert published(tmp_path / "out") == []


def test_bad_input_leaves_nothing_at_all(company: Path, tmp_path: Path) -> None:
    (company / "plan.yml").write_text(PLAN.replace("economics:", "economix:"), encoding="utf-8")
    with pytest.raises(InputError, match="economics"):
        go(company, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("fast")
def test_data_that_change_during_the_run_are_refused(company: Path, tmp_path: Path) -> None:
    change = f"\nPath({str(company / 'customers.csv')!r}).write_text('other')"
    write_notebook(company / "notebooks" / "03_tell.ipynb", TELL + change)
    with pytest.raises(StageError, match=r"customers\.csv"):
        go(company, tmp_path / "out")
    assert published(tmp_path / "out") == []


def test_unknown_parameter_is_refused(company: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no parameter 'run_dirr'.*did you mean run_dir"):
        execute_notebook(
            "count", company / "notebooks/01_count.ipynb", tmp_path / "x.ipynb", {"run_dirr": "."}, Kernels(tmp_path)
        )
    assert list(tmp_path.glob("*.ipynb")) == []


DRIVER = """\
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import micromarket.runner.pipeline, micromarket.runner.execution, test_runner
micromarket.runner.pipeline.package_hash = lambda: "the same"
if "--fast" in sys.argv:
    micromarket.runner.execution.execute_notebook = test_runner.in_this_process
folder, status = test_runner.go(Path({company!r}), Path({out!r}), resume="--resume" in sys.argv)
print(folder)
"""


def start(company: Path, out: Path, *options: str, **env: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(DRIVER).format(tests=str(Path(__file__).parent), company=str(company), out=str(out))
    return subprocess.Popen([sys.executable, "-c", code, *options], env={**os.environ, **env}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def test_two_runs_at_once_do_not_meet(company: Path, tmp_path: Path) -> None:
    runs = [start(company, tmp_path / "out", "--fast") for _ in range(2)]
    ended = [r.communicate(timeout=120) for r in runs]
    assert [r.returncode for r in runs] == [0, 0], ended
    names = {Path(stdout.split()[-1]).name for stdout, _ in ended}
    assert len(names) == 2
    assert set(published(tmp_path / "out")) == names
    assert {(tmp_path / "out" / n / "plan.json").read_text() for n in names} == {"6"}


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_9_then_resume(company: Path, tmp_path: Path) -> None:
    out, slow = tmp_path / "out", tmp_path / "slow"
    slow.touch()
    killed = start(company, out, SLOW_STAGE=str(slow))
    until = time.monotonic() + 60
    while not list(out.glob(".work/*/stages/count.json")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert published(out) == []
    slow.unlink()
    folder, status = go(company, out, resume=True)
    assert status == {"count": "reused", "double": "done", "tell": "done"}
    assert (folder / "plan.json").read_text() == "6"
    assert not list(out.glob(".publish*"))


def test_publishing_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious")
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / "file").write_text("x")
    assert publish(tmp_path / ".new", "run").name == "run-2"
    assert (tmp_path / "run" / "mine").read_text() == "precious"


@pytest.mark.parametrize(("text", "name"), [("A/B: ../C", "a-b-c"), ("株式会社", "plan"), ("x" * 99, "x" * 40)])
def test_a_company_name_can_not_leave_the_folder(text: str, name: str) -> None:
    assert slug(text) == name
