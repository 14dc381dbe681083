"""Runs in processes of their own that can be killed, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parent.parent
#: Keys of the manifest that hold times, where a stage's result was taken from, or code that is being edited.
_TIMES = {"started", "ended", "seconds", "status", "reused_from", "command", "package_sha256"}

#: Three small stages on real kernels; `wait` makes a stage last, so that there is something to kill.
SMALL = """\
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import micromarket.runner.pipeline, test_runner
micromarket.runner.pipeline.package_hash = lambda: "the same"  # the package may be edited while its tests run
from micromarket.cli import main
from micromarket.operation import unattended
company = Path({company!r})
run = unattended.run
unattended.run = lambda *a, **k: run(*a, **k, pipeline=test_runner.PIPELINE, notebooks=company / "notebooks",
                                     check=lambda settings: {{"markets": 2}})
sys.exit(main(["run", str(company / "plan.yml"), "--out", {out!r}, *{options!r}]))
"""


def small_run(company: Path, out: Path, *options: str) -> list[str]:
    """The command of a run of the small pipeline."""
    code = SMALL.format(tests=str(REPO / "tests"), company=str(company), out=str(out), options=options)
    return [sys.executable, "-c", code]


def full_run(plan: Path, out: Path, *options: str) -> list[str]:
    """The command of a run of all nine notebooks."""
    return [sys.executable, "-m", "micromarket.cli", "run", str(plan), "--out", str(out), *options]


def start(command: Sequence[str], **env: str) -> subprocess.Popen[str]:
    """Starts it as the leader of a process group of its own."""
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **env}, text=True, cwd=REPO, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(command: Sequence[str], seconds: float = 300, **env: str) -> tuple[int, str, str]:
    """Runs it to its end: status, standard output, standard error."""
    process = start(command, **env)
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> dict[str, list[psutil.Process]]:
    """The run's processes by what they are: main, fork server, kernels, others."""
    found: dict[str, list[psutil.Process]] = {"main": [], "server": [], "kernel": []}
    try:
        main = psutil.Process(pid)
        found["main"].append(main)
        for child in main.children(recursive=True):
            try:
                parent, words = child.ppid(), " ".join(child.cmdline())
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            server = "micromarket.runner.forkserver" in words and parent == pid
            found["server" if server else "kernel"].append(child)
    except psutil.NoSuchProcess:
        pass
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def visible(out: Path) -> list[Path]:
    """Run folders that people see."""
    if not out.is_dir():
        return []
    return sorted(p for p in out.iterdir() if p.is_dir() and not p.name.startswith("."))


def contents(folder: Path) -> dict[str, Any]:
    """Hash of every file; of the manifest what is not about time."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == "manifest.json":
            found[name] = _without_times(json.loads(path.read_text(encoding="utf-8")))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def different(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Files, and keys of the manifest, that are not the same."""
    odd = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if "manifest.json" in odd:
        a, b = found.get("manifest.json", {}), wanted.get("manifest.json", {})
        odd += [f"manifest: {key}" for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    return odd


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in _TIMES}
    return [_without_times(v) for v in value] if isinstance(value, list) else value
