"""The recipes of docs/operation.md do what they say: each is run, not only read."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from micromarket.runner.pipeline import PIPELINE, notebooks_folder

FAKE = """\
#!/bin/sh
echo "$@" >> "{calls}"
[ "$1" = run ] && [ -f "{fails}" ] && {{ rm "{fails}"; exit 1; }}
[ "$1" = run ] && [ -f "{wrong}" ] && exit 2
[ "$1" = run ] && mkdir -p reports/2026-06-30-x-00000000 && echo plan > reports/2026-06-30-x-00000000/plan.json \\
  && echo "$PWD/reports/2026-06-30-x-00000000"
exit 0
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A stand-in for the command: recipes are about how it is called, other tests about what it does."""
    path = tmp_path / "bin" / "micromarket"
    path.parent.mkdir()
    names = {name: str(tmp_path / name) for name in ("calls", "fails", "wrong")}
    path.write_text(FAKE.format(**names))
    path.chmod(0o755)
    return path


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


@pytest.mark.skipif(os.name != "posix", reason="cron")
def test_cron_line_in_crons_bare_environment(repo: Path, tmp_path: Path, command: Path) -> None:
    company = tmp_path / "company"
    company.mkdir()
    (company / "secrets.env").write_text("DB_PASSWORD=secret\n")
    lines = (repo / "recipes" / "crontab").read_text().splitlines()
    jobs = [line for line in lines if re.match(r"[\d*]", line)]
    assert len(jobs) == 2
    assert all("%" not in job for job in jobs), "cron takes % for a new line"
    names = {"MICROMARKET": str(command), "COMPANY": str(company), "HOME": str(tmp_path), "MICROMARKET_PAUSE": "0"}

    def cron(job: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "planner", **names}
        return subprocess.run(["/bin/sh", "-c", job.split(None, 5)[5]], env=env, capture_output=True, text=True)

    (tmp_path / "fails").touch()
    assert cron(jobs[0]).returncode == 0
    assert calls(tmp_path) == ["run plan.yml --out reports --resume --log reports.jsonl"] * 2, "tried again, once"
    (tmp_path / "wrong").touch()
    assert cron(jobs[0]).returncode == 2
    assert len(calls(tmp_path)) == 3, "a wrong input is not tried again"
    quiet = cron(jobs[1])
    assert (quiet.returncode, quiet.stdout) == (0, ""), "cron mails whatever is printed"


def test_systemd_units(repo: Path, tmp_path: Path, command: Path) -> None:
    texts = {}
    for name in ("micromarket.service", "micromarket.timer"):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        texts[name] = (repo / "recipes" / name).read_text()
        unit.read_string(texts[name])
        assert set(unit.sections()) <= {"Unit", "Service", "Timer", "Install"}
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.read_string(texts["micromarket.service"])
    assert service["Service"]["restartpreventexitstatus"] == "2"
    if shutil.which("systemd-analyze") is None:
        return
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace("/opt/micromarket/bin/micromarket", str(command)))
    found = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / n) for n in texts)], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    said = [line for line in found.stderr.splitlines() if str(tmp_path) in line or "micromarket" in line]
    assert not said, said


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_github_workflow_and_its_steps(repo: Path, tmp_path: Path, command: Path) -> None:
    flow = yaml.safe_load((repo / "recipes" / "github-actions.yml").read_text())
    assert set(flow) <= {"name", True, "on", "permissions", "concurrency", "jobs"}  # YAML reads `on` as true
    triggers = flow.get("on") or flow[True]
    assert len(triggers["schedule"][0]["cron"].split()) == 5
    job = flow["jobs"]["plan"]
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"uses", "run", "name", "with", "if", "shell", "env"}
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step["uses"])
    (tmp_path / "company").mkdir()
    runs = [step for step in job["steps"] if "run" in step and step["name"] != "Install"]
    env = {"PATH": f"{command.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "AS_OF": "2026-06-30"}

    def take(step: dict[str, Any]) -> int:
        how = ["bash", "-eo", "pipefail", "-c"] if step.get("shell") == "bash" else ["bash", "-e", "-c"]
        return subprocess.run([*how, step["run"]], cwd=tmp_path, env=env, capture_output=True).returncode

    assert [take(step) for step in runs] == [0, 0, 0]
    assert calls(tmp_path)[0] == "run plan.yml --out reports --resume --log reports.jsonl --as-of 2026-06-30"
    assert (tmp_path / "company" / "latest" / "plan.json").read_text() == "plan\n"
    (tmp_path / "fails").touch()
    assert take(runs[0]) == 1, "a failure inside the pipe counts"


class Task:
    """What the recipe uses of an Airflow operator: a place in the order, and the papermill call."""

    made: ClassVar[list[Task]] = []

    def __init__(self, **given: Any):
        self.given, self.before = given, []
        Task.made.append(self)

    def __rshift__(self, other: Task) -> Task:
        other.before.append(self)
        return other


class Dag:
    def __init__(self, **given: Any):
        self.given = given

    def __enter__(self) -> Dag:
        return self

    def __exit__(self, *exc: object) -> None: ...


def airflow_tasks(repo: Path, monkeypatch: pytest.MonkeyPatch, **env: str) -> list[Task]:
    """The recipe's tasks, in order, with stand-ins for Airflow's classes."""
    Task.made = []
    for name, what in (("airflow.sdk", {"DAG": Dag}),
                       ("airflow.providers.papermill.operators.papermill", {"PapermillOperator": Task}),
                       ("airflow.providers.standard.operators.bash", {"BashOperator": Task})):  # fmt: skip
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        vars(sys.modules[name]).update(what)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    exec(compile((repo / "recipes" / "airflow_dag.py").read_text(), "airflow_dag.py", "exec"), {})  # noqa: S102
    return Task.made


def test_airflow_dag_has_every_notebook_in_order(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = airflow_tasks(repo, monkeypatch, MICROMARKET_NOTEBOOKS=str(notebooks_folder()))
    assert [t.given["task_id"] for t in tasks] == ["settle", *(stage.name for stage in PIPELINE)]
    assert all(t.before == [tasks[i]] for i, t in enumerate(tasks[1:]))
    assert len({t.given["parameters"]["run_dir"] for t in tasks[1:]}) == 1


@pytest.mark.faults
@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_airflow_dag_runs(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the operator does: papermill with these arguments, one notebook after the other, each a kernel of its own."""
    import papermill
    from tiny import write_tiny

    from micromarket.pinned import pinned_in

    plan = write_tiny(tmp_path / "company")
    plan.write_text(plan.read_text().replace("as_of:     2026-06-30", "as_of:     last full month"))
    tasks = airflow_tasks(repo, monkeypatch, MICROMARKET_NOTEBOOKS=str(notebooks_folder()),
                          MICROMARKET_PLAN=str(plan), MICROMARKET_OUT=str(tmp_path / "reports"))  # fmt: skip

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items()}
        return value.replace("{{ data_interval_end | ds }}", "2026-07-03") if isinstance(value, str) else value

    first = tasks[0].given
    bin_ = Path(sys.executable).parent
    env = {**os.environ, **filled(first["env"]), "PATH": f"{bin_}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", first["bash_command"]], env=env, check=True, capture_output=True)
    for task in tasks[1:]:
        given = filled(task.given)
        papermill.execute_notebook(
            given["input_nb"], given["output_nb"], parameters=given["parameters"], progress_bar=False,
            report_mode=True, kernel_name=given["kernel_name"],
        )  # fmt: skip
    run_dir = Path(filled(tasks[-1].given["parameters"]["run_dir"]))
    assert (run_dir / "plan.pdf").is_file()
    pinned = pinned_in(run_dir)
    assert pinned is not None
    assert str(pinned.as_of) == "2026-06-30"
