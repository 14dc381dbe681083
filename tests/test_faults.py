"""What a run does when the machine fails it: nothing half-published, a clear message, and it goes on from there.

`make faults` kills it at many moments, spread over the whole run by a fixed seed, and compares what is published after
`--resume` with an undisturbed run, byte by byte. What takes no kernel runs with `make test`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faulty import alive, contents, different, family, finish, full_run, small_run, start, visible, wait_for
from test_runner import DOUBLE, PIPELINE, TELL, in_this_process, write_notebook
from test_runner import company as company
from test_runner import go as go_small
from test_runner import same_code as same_code
from tiny import write_tiny

from micromarket import cli
from micromarket.errors import StageError
from micromarket.operation.status import state_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals and process groups")

SEED = 20_261
#: Kill points of the small pipeline and of all nine notebooks; fewer in CI (``MICROMARKET_KILL_POINTS=8,2``).
POINTS = tuple(int(n) for n in os.environ.get("MICROMARKET_KILL_POINTS", "42,12").split(","))
HOW = ("group", "main", "kernel", "server")


def killed(command: list[str], delay: float, how: str) -> tuple[int, str, bool]:
    """Starts a run, kills part of it after ``delay`` seconds; its status, standard error, whether all of it is gone."""
    process = start(command)
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    people = family(process.pid)
    victims = people.get(how) or people["main"]
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if how == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif victims:  # else it has ended by itself
            victims[0].kill()
    _, err = process.communicate(timeout=300)
    everyone = [p for several in people.values() for p in several]
    gone = wait_for(lambda: not any(alive(p) for p in everyone), 60)  # a kernel looks for its parent between its steps
    for stray in (p for p in everyone if alive(p)):
        stray.kill()  # of ours, and about to fail the test
    return process.returncode, err, gone


def check_kill_points(
    undisturbed: Path, command: list[str], resume: list[str], out: Path, points: list[tuple[float, str]]
) -> dict[str, int]:
    """Kills, checks what is left, resumes, and compares with an undisturbed run; how the killed runs ended."""
    wanted, ended = contents(undisturbed), {"died": 0, "failed": 0, "done": 0}
    for number, (delay, how) in enumerate(points):
        shutil.rmtree(out, ignore_errors=True)
        where = f"kill point {number}: {how} after {delay:.2f} s"
        status, err, gone = killed(command, delay, how)
        assert gone, f"{where}: a process outlived the run"
        for folder in visible(out):  # it was published before the kill, or survived it
            assert different(contents(folder), wanted) == [], f"{where}: half-published"
        if status < 0:
            ended["died"] += 1
        elif status == 0:
            ended["done"] += 1
        else:
            ended["failed"] += 1
            assert status == 1, f"{where}: {err}"
            assert "Traceback" not in err, f"{where}: {err}"
            assert "died" in err or "ended" in err, f"{where}: {err}"
        status, _, err = finish(resume)
        assert status == 0, f"{where}, resumed: {err}"
        folders = visible(out)
        assert folders, where
        for folder in folders:
            assert different(contents(folder), wanted) == [], f"{where}: another result"
        assert not list(out.glob(".publish*")), where
        assert state_of(out).sound, where
        print(f"{where}: status of the killed run {ended}", flush=True)
    return ended


def spread(count: int, seconds: float, seed: int) -> list[tuple[float, str]]:
    """Moments over the whole run, one in each part of it, and what is killed then."""
    rng = random.Random(seed)
    return [((i + rng.random()) / count * seconds, HOW[i % len(HOW)]) for i in range(count)]


@pytest.fixture
def slow_company(company: Path) -> Path:
    """Its stages last long enough to be met."""
    for stage, code in zip(PIPELINE[1:], (DOUBLE, TELL), strict=True):
        write_notebook(company / "notebooks" / stage.notebook, f"import time; time.sleep(0.5)\n{code}")
    return company


def timed(command: list[str]) -> float:
    began = time.monotonic()
    status, _, err = finish(command)
    assert status == 0, err
    return time.monotonic() - began


@pytest.mark.faults
def test_killed_at_any_moment_small(slow_company: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    timed(small_run(slow_company, reference))
    seconds = timed(small_run(slow_company, tmp_path / "warm"))
    command = small_run(slow_company, tmp_path / "out")
    points = spread(POINTS[0], seconds, SEED)
    resume = small_run(slow_company, tmp_path / "out", "--resume")
    ended = check_kill_points(visible(reference)[0], command, resume, tmp_path / "out", points)
    print(f"\n{len(points)} kill points of three notebooks (seed {SEED}, {seconds:.1f} s a run): {ended}")


@pytest.mark.faults
def test_killed_at_any_moment_full(tmp_path: Path) -> None:
    plan, reference = write_tiny(tmp_path / "company"), tmp_path / "reference"
    seconds = timed(full_run(plan, reference))
    folder = visible(reference)[0]
    assert {"plan.pdf", "plan.xlsx", "dashboard.html", "plan.json"} <= set(contents(folder))
    points = spread(POINTS[1], seconds, SEED + 1)
    out = tmp_path / "elsewhere" / "out"
    command = full_run(plan, out)
    ended = check_kill_points(folder, command, [*command, "--resume"], out, points)
    print(f"\n{len(points)} kill points of nine notebooks (seed {SEED + 1}, {seconds:.1f} s a run): {ended}")


# --- disks ------------------------------------------------------------------------------------------------------------

FILL = """\
from pathlib import Path
_ = Path(run_dir, "work/large").write_bytes(bytes(8_000_000))
"""


@pytest.mark.usefixtures("fast_kernels")
def test_a_disk_that_is_full_is_told_and_the_run_goes_on_when_there_is_room(company: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: it needs no rights, and the system says it in one place."""
    write_notebook(company / "notebooks" / "02_double.ipynb", FILL + DOUBLE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, hard))
    try:
        with pytest.raises(StageError, match=r"larger than the system allows.*--resume goes on"):
            go_small(company, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert visible(tmp_path / "out") == []
    assert go_small(company, tmp_path / "out", resume=True)[1]["count"] == "reused"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
def test_a_disk_that_fills_up_while_real_kernels_work(company: Path, tmp_path: Path) -> None:
    write_notebook(company / "notebooks" / "02_double.ipynb", FILL + DOUBLE)
    disk = tmp_path / "disk"
    with small_disk(disk, "6m"):
        status, _, err = finish(small_run(company, disk / "out"))
        assert status == 1
        assert "the disk is full" in err
        assert "Traceback" not in err
        assert visible(disk / "out") == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        status, _, err = finish(small_run(company, disk / "out", "--resume"))
        assert status == 0, err
        assert "count       reused" in err


@pytest.mark.usefixtures("fast_kernels")
def test_a_disk_without_room_for_the_published_folder(
    company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full only when the run copies its result: in the main process, not in a kernel."""

    def full(source: Path, folder: Path, outputs: object) -> None:
        (folder / "half").write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "half"))

    with monkeypatch.context() as patched:
        patched.setattr("micromarket.runner.execution.copy_published", full)
        with pytest.raises(StageError, match="the disk is full"):
            go_small(company, tmp_path / "out")
    assert visible(tmp_path / "out") == []
    assert not list((tmp_path / "out").glob(".publish*"))
    assert set(go_small(company, tmp_path / "out", resume=True)[1].values()) == {"reused"}


@pytest.mark.faults
def test_output_on_a_read_only_disk(company: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        status, _, err = finish(small_run(company, disk / "out"))
    assert status == 1
    assert "can't write into" in err
    assert "Read-only" in err
    assert "input is sound" not in err


# --- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.faults
def test_a_python_that_can_start_no_kernel_is_told(company: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "ipykernel").mkdir(parents=True)
    (tmp_path / "broken" / "ipykernel" / "__init__.py").write_text("raise ImportError('no kernel here')\n")
    status, _, err = finish(small_run(company, tmp_path / "out"), PYTHONPATH=str(tmp_path / "broken"))
    assert status == 1
    assert "Traceback" not in err
    assert "died" in err
    assert "ImportError: no kernel here" in "".join(p.read_text() for p in (tmp_path / "out").rglob("*.failed.log"))
    assert visible(tmp_path / "out") == []


KILLED = "import os, signal\nif not os.path.exists({marker!r}): os.kill(os.getpid(), signal.SIGKILL)\n"
GREEDY = """\
import resource
_, hard = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, hard))
much = bytearray(2_000_000_000)
"""


@pytest.mark.parametrize("code", ["killed", "greedy"])
@pytest.mark.faults
def test_out_of_memory_is_told_as_the_likely_cause(company: Path, tmp_path: Path, code: str) -> None:
    first = KILLED.format(marker=str(tmp_path / "room")) if code == "killed" else GREEDY
    write_notebook(company / "notebooks" / "02_double.ipynb", first + DOUBLE)
    status, _, err = finish(small_run(company, tmp_path / "out"))
    assert status == 1
    assert "memory" in err
    assert "stage double" in err
    assert visible(tmp_path / "out") == []
    if code == "killed":
        (tmp_path / "room").touch()
        status, _, err = finish(small_run(company, tmp_path / "out", "--resume"))
        assert status == 0, err
        assert "count       reused" in err


# --- two at once, clocks, inputs that change --------------------------------------------------------------------------


@pytest.mark.faults
def test_two_schedulers_at_once_both_end_well_with_the_same_result(slow_company: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = [start(small_run(slow_company, out, "--resume")) for _ in range(2)]
    assert [p.communicate(timeout=300) and p.returncode for p in both] == [0, 0]
    first, second = visible(out)
    assert contents(first) == contents(second)
    assert len(json.loads((out / "latest.json").read_text())["companies"]) == 1


@pytest.fixture
def fast_kernels(monkeypatch: pytest.MonkeyPatch, same_code: None) -> None:
    monkeypatch.setattr("micromarket.runner.execution.execute_notebook", in_this_process)
    monkeypatch.setattr("micromarket.runner.execution.fork_server", lambda notebooks: None)


@pytest.mark.usefixtures("fast_kernels")
def test_a_clock_that_jumps_hides_no_change_and_invents_none(company: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", company / "customers.csv"
    future = time.time() + 10 * 365 * 86_400
    os.utime(data, (future, future))
    go_small(company, out)
    for folder in (out / ".work").iterdir():
        os.utime(folder, (future, future))
    os.utime(data, (1, 1))  # another time, the same content
    assert set(go_small(company, out, resume=True)[1].values()) == {"reused"}
    # other content of the same length under the same time, while the run is on
    then = data.stat()
    change = f"import os\np = Path({str(data)!r})\np.write_text(p.read_text()[::-1])\n"
    change += f"os.utime(p, ns=({then.st_atime_ns}, {then.st_mtime_ns}))\n"
    write_notebook(company / "notebooks" / "03_tell.ipynb", TELL + change)
    with pytest.raises(StageError, match=r"changed while the run was on: customers\.csv"):
        go_small(company, out)
    assert data.stat().st_mtime_ns == then.st_mtime_ns


# --- inputs that are broken -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def rude_server() -> Iterator[int]:
    """Takes connections, reads a little, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError):
                        connection.settimeout(2)
                        connection.recv(8)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def refused(plan: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """`micromarket check` says what is wrong, with status 2 and without a traceback."""
    status = cli.main(["check", str(plan)])
    err = capsys.readouterr().err
    assert status == 2, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_a_database_that_hangs_up(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    plan = write_tiny(tmp_path)
    with rude_server() as port:
        url = f"postgres://me:${{DB_PASSWORD}}@127.0.0.1:{port}/shop"
        new = f'customers: {{connection: "{url}", sql: "select * from c"}}'
        plan.write_text(plan.read_text().replace("customers: customers.csv", new))
        status = cli.main(["check", str(plan)])
    err = capsys.readouterr().err
    assert status == 2, err
    assert "customers" in err
    assert "hunter2" not in err


def test_half_written_files_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    plan = write_tiny(tmp_path)
    people = tmp_path / "customers.csv"
    text = people.read_text()
    people.write_text(text[: text.rindex(",")])  # in the middle of the last row
    refused(plan, capsys, "customers.csv")
    people.write_text(text + '012,04,"Ho')  # inside quotes
    refused(plan, capsys, "customers.csv")
    people.write_text("")
    refused(plan, capsys, "customers.csv")
    people.write_text(text)
    whole = tmp_path / "subscriptions.parquet"
    pd.read_csv(tmp_path / "subscriptions.csv", dtype=str).to_parquet(whole)
    plan.write_text(plan.read_text().replace("subscriptions.csv", "subscriptions.parquet"))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    refused(plan, capsys, "subscriptions.parquet")
    middle = len(data) // 4
    whole.write_bytes(data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 40]) + data[middle + 40 :])
    refused(plan, capsys, "subscriptions.parquet")


@pytest.mark.faults
def test_a_database_that_disappears_during_the_run(tmp_path: Path) -> None:
    import duckdb

    plan, base = write_tiny(tmp_path / "company"), tmp_path / "company" / "shop.duckdb"
    with duckdb.connect(str(base)) as db:
        db.execute(
            "create table c as select * from read_csv(?, all_varchar = true)", [str(plan.parent / "customers.csv")]
        )
    new = f'customers: {{connection: "duckdb:///{base}?read_only=True", sql: "select * from c"}}'
    text = plan.read_text()
    plan.write_text(text.replace("customers: customers.csv", new))
    process = start(full_run(plan, tmp_path / "out"))
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("input is sound"), first
    base.rename(base.with_suffix(".away"))
    _, err = process.communicate(timeout=300)
    assert process.returncode in (1, 2), err
    assert "Traceback" not in err
    assert visible(tmp_path / "out") == []
    base.with_suffix(".away").rename(base)
    status, _, err = finish(full_run(plan, tmp_path / "out", "--resume"))
    assert status == 0, err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-m", "faults", "-s"]))
