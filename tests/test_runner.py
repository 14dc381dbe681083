"""The runner on a small pipeline of its own: what it publishes, what it keeps, what it refuses, what it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import nbformat
import psutil
import pytest

from micromarket.errors import InputError, StageError
from micromarket.runner.execution import run
from micromarket.runner.kernel import Kernels
from micromarket.runner.notebook import NotebookFailed, execute_notebook
from micromarket.runner.pipeline import PIPELINE as FULL
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
slow = Path(os.environ.get("SLOW_STAGE", "/nonexistent"))
if slow.exists():
    _ = slow.write_text(str(os.getpid()))
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
    monkeypatch.setattr("micromarket.runner.execution.fork_server", lambda notebooks: None)


def go(company: Path, out: Path, **options: object) -> tuple[Path, dict[str, str]]:
    """Runs; returns the run folder and the status of each stage."""
    options.setdefault("check", lambda settings: {"markets": 2})
    options.setdefault("pipeline", PIPELINE)
    folder = run(company / "plan.yml", out, notebooks=company / "notebooks",
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
    notebook = (folder / "notebooks/02_double.ipynb").read_text()
    assert 'plan = \\"plan.yml\\"' in notebook
    assert str(tmp_path) not in notebook
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


INFEASIBLE = """\
from micromarket.errors import InfeasibleError, Problem
raise InfeasibleError([Problem("plan.yml", "less", "budget.total"), Problem("plan.yml", "more", "budget.x")])
"""


def test_input_error_in_a_notebook_is_told_whole_and_leaves_nothing(company: Path, tmp_path: Path) -> None:
    write_notebook(company / "notebooks" / "02_double.ipynb", INFEASIBLE)
    with pytest.raises(NotebookFailed) as caught:
        go(company, tmp_path / "new" / "out")
    assert caught.value.exit_status == 2
    text = str(caught.value)
    assert all(words in text for words in ("2 problems", "budget.total", "budget.x", "stage double"))
    assert ".work" not in text
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("fast")
def test_input_error_in_a_notebook_leaves_what_was_there(company: Path, tmp_path: Path) -> None:
    first, _ = go(company, tmp_path / "out")
    kept = sorted((tmp_path / "out" / ".work").iterdir())
    write_notebook(company / "notebooks" / "02_double.ipynb", INFEASIBLE)
    with pytest.raises(InputError):
        go(company, tmp_path / "out")
    assert published(tmp_path / "out") == [first.name]
    assert sorted((tmp_path / "out" / ".work").iterdir()) == kept


@pytest.mark.usefixtures("fast")
def test_plays_beside_the_plan_count_as_input(company: Path, tmp_path: Path) -> None:
    stages = (PIPELINE[0], replace(PIPELINE[1], tables=("plays",)), PIPELINE[2])
    assert all("plays" in stage.tables for stage in FULL if stage.name in ("potential", "plan"))
    first, _ = go(company, tmp_path / "out", pipeline=stages)
    (company / "plays.yml").write_text("plays: []")
    second, status = go(company, tmp_path / "out", pipeline=stages, resume=True)
    assert status == {"count": "reused", "double": "done", "tell": "reused"}
    assert second.name.rsplit("-", 1)[1] != first.name.rsplit("-", 1)[1]
    assert json.loads((second / "manifest.json").read_text())["inputs"]["plays"]["file"] == "plays.yml"
    change = f"\nPath({str(company / 'plays.yml')!r}).unlink()"
    write_notebook(company / "notebooks" / "03_tell.ipynb", TELL + change)
    with pytest.raises(StageError, match=r"plays\.yml"):
        go(company, tmp_path / "out", pipeline=stages)


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
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs deaf to it
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import micromarket.runner.pipeline, micromarket.runner.execution, test_runner
micromarket.runner.pipeline.package_hash = lambda: "the same"
folder, status = test_runner.go(Path({company!r}), Path({out!r}))
print(folder)
"""


def start(company: Path, out: Path, **env: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(DRIVER).format(tests=str(Path(__file__).parent), company=str(company), out=str(out))
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **env}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.usefixtures("fast")
def test_runs_at_once_do_not_meet(company: Path, tmp_path: Path) -> None:
    together = Barrier(4)

    def check(settings: object) -> dict[str, int]:
        together.wait(30)
        return {"markets": 2}

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(go, company, tmp_path / "out", check=check) for _ in range(4)]
        names = {run.result(60)[0].name for run in runs}
    assert len(names) == 4
    assert set(published(tmp_path / "out")) == names
    assert {(tmp_path / "out" / n / "plan.json").read_text() for n in names} == {"6"}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition: Callable[[], object], seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def stopped_in_its_second_stage(company: Path, tmp_path: Path, how: int) -> tuple[int, str]:
    """Signals a run while its second notebook works; returns its status and standard error. No process outlives it."""
    slow, out = tmp_path / "slow", tmp_path / "out"
    slow.touch()
    process = start(company, out, SLOW_STAGE=str(slow))
    wait_for(lambda: slow.read_text())  # the kernel writes its process id there
    kernels = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    assert int(slow.read_text()) in kernels
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    wait_for(lambda: not any(alive(pid) for pid in kernels), 10)
    slow.unlink()
    assert published(out) == []
    return process.returncode, err


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_9_leaves_no_process_and_resumes(company: Path, tmp_path: Path) -> None:
    stopped_in_its_second_stage(company, tmp_path, signal.SIGKILL)
    folder, status = go(company, tmp_path / "out", resume=True)
    assert status == {"count": "reused", "double": "done", "tell": "done"}
    assert (folder / "plan.json").read_text() == "6"
    assert not list((tmp_path / "out").glob(".publish*"))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_leaves_no_process_and_no_noise(company: Path, tmp_path: Path) -> None:
    status, err = stopped_in_its_second_stage(company, tmp_path, signal.SIGINT)
    assert status != 0
    assert err.rstrip().endswith("KeyboardInterrupt")  # the interpreter's own; the command line tells it in words
    assert "caught in kernel" not in err
    assert "IPKernelApp" not in err


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
