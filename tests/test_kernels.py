"""Kernels forked from one process that has done the imports: pristine, quiet, and replaceable by ordinary processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from test_runner import write_notebook

from micromarket.runner import notebook as runner_notebook
from micromarket.runner.forked import ForkServer, can_fork
from micromarket.runner.kernel import Kernels, kernel_environment
from micromarket.runner.notebook import NotebookFailed, execute_notebook

pytestmark = pytest.mark.skipif(not can_fork(), reason="no fork on this system")
BROKEN = {"raises_when_imported": "1 / 0", "exits_when_imported": "raise SystemExit(3)", "counts": "n = 0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    folder = tmp_path_factory.mktemp("modules")
    for name, code in BROKEN.items():
        (folder / f"{name}.py").write_text(code)
    env = kernel_environment()
    env["PYTHONPATH"] = f"{folder}:{env.get('PYTHONPATH', '')}"
    server = ForkServer([*BROKEN, "not_there_at_all"], env)
    yield server
    server.close()


def printed(kernels: Kernels, code: str) -> str:
    """Runs ``code`` in a notebook; what it printed."""
    source, output = kernels.run_dir / "source.ipynb", kernels.run_dir / "out.ipynb"
    write_notebook(source, code)
    execute_notebook("x", source, output, {"run_dir": "."}, kernels)
    cells = nbformat.read(output, as_version=4).cells
    return "".join(o.text for c in cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream")


def test_every_kernel_starts_from_the_same_state(
    tmp_path: Path, server: ForkServer, capfd: pytest.CaptureFixture
) -> None:
    code = """
        import os, sys
        was_there = "counts" in sys.modules
        import counts
        counts.n += 1
        print(was_there, counts.n, hash("a"), os.getcwd(), os.environ["OMP_NUM_THREADS"], os.getpid() == os.getpgrp())
        os.write(2, b"written past Python")
        """
    code = "\n".join(line.strip() for line in code.splitlines())
    kernels = Kernels(tmp_path, server)
    first, second = printed(kernels, code), printed(kernels, code)
    assert first == second
    assert first.startswith(f"True 1 {hash_of_a()} {tmp_path} ")
    assert kernels.forking
    assert capfd.readouterr().err == ""


def hash_of_a() -> int:
    command = [sys.executable, "-c", "print(hash('a'))"]
    return int(subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True).stdout)


def test_a_kernel_that_dies_is_named_and_its_last_words_kept(tmp_path: Path, server: ForkServer) -> None:
    write_notebook(tmp_path / "source.ipynb", "import os, ctypes; ctypes.string_at(0)")
    with pytest.raises(NotebookFailed, match="ran out of memory"):
        execute_notebook(
            "x", tmp_path / "source.ipynb", tmp_path / "out.ipynb", {"run_dir": "."}, Kernels(tmp_path, server)
        )
    assert not (tmp_path / "out.ipynb").exists()
    assert "Segmentation fault" in (tmp_path / "out.failed.log").read_text()


def test_where_forks_can_break_a_dead_kernel_gets_a_second_try_of_its_own(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_notebook, "FORKS_CAN_BREAK", True)
    monkeypatch.setattr(server, "close", lambda: None)  # shared with other tests
    kernels = Kernels(tmp_path, server)
    forked = "'micromarket.runner.forkserver' in sys.modules or sys.orig_argv[3] == 'micromarket.runner.forkserver'"
    assert printed(kernels, f"import os, sys\nif {forked}: os._exit(9)\nprint('done')") == "done\n"
    assert not kernels.forking
    assert not list(tmp_path.glob("*.failed.*"))


def test_without_a_fork_server_kernels_are_processes_of_their_own(tmp_path: Path) -> None:
    broken = ForkServer([], {**kernel_environment(), "PYTHONHASHSEED": "nonsense"})  # Python won't start with it
    kernels = Kernels(tmp_path, broken)
    assert printed(kernels, "print(hash('a'))") == f"{hash_of_a()}\n"
    assert not kernels.forking
