"""Kernels of this very interpreter: one at work, the next one already importing."""

from __future__ import annotations

import ast
import contextlib
import os
import site
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import nbformat
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from traitlets import default


def imports_of(notebook: Path) -> tuple[str, ...]:
    """Modules that a notebook's cells import, sorted."""
    found: set[str] = set()
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        with contextlib.suppress(SyntaxError):  # magics: running the cell will tell
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Import):
                    found.update(name.name for name in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
    return tuple(sorted(found))


def _manager(folder: Path, preload: tuple[str, ...]) -> AsyncKernelManager:
    """Not one of the installed kernels: whatever is or isn't installed, notebooks run as we do, state in ``folder``."""
    env = {"IPYTHONDIR": str(folder / "ipython"), "PYTHONHASHSEED": "0"}
    # several threads wait for each other whenever another program runs: 5 times slower on a busy machine with 2 cores
    env["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    package = Path(__file__).resolve().parent.parent.parent
    if str(package) not in site.getsitepackages():  # a checkout: the kernel must find the same package as we did
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    spec = KernelSpec(
        argv=[sys.executable, "-m", "micromarket.runner.preloaded", ",".join(preload), "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
        env=env,
        metadata={"supported_encryption": ["curve"]},
    )

    class PrivateKernelManager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        @default("transport_encryption")
        def _encrypt_where_possible(self) -> str:  # else ipykernel 7 warns about unencrypted TCP
            return "auto" if zmq.has("curve") else "disabled"

        @default("connection_file")
        def _private_connection_file(self) -> str:
            return str(folder / f"kernel-{uuid.uuid4().hex}.json")

    return PrivateKernelManager()


class Kernels:
    """Starts kernels for notebooks, ahead of time where told what comes next.

    Parameters
    ----------
    run_dir : Path
        Working directory of the kernels; connection files are kept in ``run_dir/.kernel``.
    """

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self._waiting: tuple[tuple[str, ...], AsyncKernelManager] | None = None

    def prepare(self, notebook: Path) -> None:
        """Starts the kernel for ``notebook``; returns at once."""
        self.close()
        preload = imports_of(notebook)
        self._waiting = preload, self._start(preload)

    @contextlib.contextmanager
    def kernel_for(self, notebook: Path) -> Iterator[AsyncKernelManager]:
        """A running kernel for ``notebook``; it is gone afterwards."""
        preload = imports_of(notebook)
        if self._waiting is not None and self._waiting[0] == preload and run_sync(self._waiting[1].is_alive)():
            (_, manager), self._waiting = self._waiting, None
        else:
            manager = self._start(preload)
        try:
            yield manager
        finally:
            _stop(manager)

    def close(self) -> None:
        """Stops the kernel that waits, if any."""
        if self._waiting is not None:
            _stop(self._waiting[1])
            self._waiting = None

    def _start(self, preload: tuple[str, ...]) -> AsyncKernelManager:
        folder = self.run_dir / ".kernel"
        folder.mkdir(parents=True, exist_ok=True)
        manager = _manager(folder, preload)
        run_sync(manager.start_kernel)(cwd=str(self.run_dir))
        return manager


def _stop(manager: AsyncKernelManager) -> None:
    with contextlib.suppress(Exception):  # it may be dead already
        run_sync(manager.shutdown_kernel)(now=True)
