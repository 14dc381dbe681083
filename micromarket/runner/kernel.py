"""Kernels of this very interpreter for notebooks: one at work, the next one getting ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import site
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import ensure_event_loop, run_sync
from traitlets import default

from micromarket.runner.cells import imports_of
from micromarket.runner.forked import ForkProvisioner, ForkServer, can_fork


def kernel_environment() -> dict[str, str]:
    """Environment of kernels and of what they are forked from."""
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    # several threads wait for each other whenever another program runs: 5 times slower on a busy machine with 2 cores
    env.setdefault("OMP_NUM_THREADS", "1")
    # chosen by ipykernel too, but too late where matplotlib is there before it
    env.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # macOS stops forked processes that meet its own libraries; ours have not been used before the fork
    env["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    package = Path(__file__).resolve().parent.parent.parent
    if str(package) not in site.getsitepackages():  # a checkout: the kernel must find the same package as we did
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return env


def fork_server(notebooks: Sequence[Path]) -> ForkServer | None:
    """What can fork kernels with all that ``notebooks`` import, not yet started; ``None`` where nothing can."""
    if not can_fork():
        return None
    return ForkServer(imports_of(*(n for n in notebooks if n.is_file())), kernel_environment())


def peak_memory(pid: int | None) -> float | None:
    """Most memory that a living process has held so far (MB); ``None`` where the system doesn't tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return next(round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _drop_what_waits() -> None:
    """Ends what waits for an answer of a kernel since the run was stopped: it would complain later that none came."""
    with contextlib.suppress(Exception):
        loop = ensure_event_loop()
        waiting = [] if loop.is_running() else [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in waiting:
            task.cancel()
        if waiting:
            loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))


class PrivateKernelManager(AsyncKernelManager):
    """Not of one of the installed kernels: whatever is or isn't installed, notebooks run as we do.

    State, connection file and the kernel's output (``log_file``) are kept in ``folder``.
    """

    def __init__(self, folder: Path, preload: Sequence[str]):
        self._folder = folder
        self._spec = KernelSpec(
            argv=[sys.executable, "-P", "-m", "micromarket.runner.preloaded", ",".join(preload),
                  "-f", "{connection_file}"],
            display_name="Python 3", language="python", metadata={"supported_encryption": ["curve"]},
            env={**kernel_environment(), "IPYTHONDIR": str(folder / "ipython")},
        )  # fmt: skip
        super().__init__()
        self._clients: list[Any] = []
        self.log_file = Path(self.connection_file).with_suffix(".log")

    @property
    def kernel_spec(self) -> KernelSpec:
        return self._spec

    @default("transport_encryption")
    def _encrypt_where_possible(self) -> str:  # else ipykernel 7 warns about unencrypted TCP
        return "auto" if zmq.has("curve") else "disabled"

    @default("connection_file")
    def _private_connection_file(self) -> str:
        return str(self._folder / f"kernel-{uuid.uuid4().hex}.json")

    def start(self, cwd: Path, server: ForkServer | None) -> None:
        """Starts a kernel, forked from ``server`` if there is one.

        Raises
        ------
        OSError
            Where the fork server has ended.
        """
        if server is not None:
            self.provisioner = ForkProvisioner(kernel_id=uuid.uuid4().hex, kernel_spec=self._spec, parent=self)
            self.provisioner.server, self.provisioner.log_file = server, self.log_file
            run_sync(self.start_kernel)(cwd=str(cwd))
            return
        self.provisioner = None
        with self.log_file.open("ab") as log:
            run_sync(self.start_kernel)(cwd=str(cwd), stdout=log, stderr=log)

    def client(self, **kwargs: Any) -> Any:
        """A client of the kernel; :meth:`stop` ends it too."""
        self._clients.append(super().client(**kwargs))
        return self._clients[-1]

    def stop(self) -> None:
        """Ends the kernel and its clients, at once and without a word: it has nothing left to do."""
        if self._clients:
            _drop_what_waits()
        while self._clients:
            with contextlib.suppress(Exception):
                # papermill leaves its client to who gave it the manager; each holds a dozen files and two threads
                self._clients.pop().stop_channels()
        with contextlib.suppress(Exception):  # it may be dead already
            provisioner = self.provisioner
            if isinstance(provisioner, LocalProvisioner) and provisioner.process is not None:
                run_sync(provisioner.kill)()
                provisioner.process.wait(10)
            run_sync(self.cleanup_resources)()


class Kernels:
    """Starts kernels for notebooks, ahead of time where told what comes next.

    Parameters
    ----------
    run_dir : Path
        Working directory of the kernels; connection files are kept in ``run_dir/.kernel``.
    server : ForkServer, optional
        What they are forked from. Without it, or once it has failed, each is a process of its own that does all its
        imports.
    """

    def __init__(self, run_dir: Path, server: ForkServer | None = None):
        self.run_dir = run_dir
        self._server = server
        self._waiting: tuple[tuple[str, ...], PrivateKernelManager] | None = None
        self.peak: float | None = None  # MB, of the kernel that ended last

    @property
    def forking(self) -> bool:
        return self._server is not None

    def stop_forking(self) -> None:
        """From now on, every kernel is a process of its own."""
        self.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    def prepare(self, notebook: Path) -> None:
        """Starts the kernel for ``notebook``; returns at once."""
        self.close()
        preload = imports_of(notebook)
        self._waiting = preload, self._start(preload)

    @contextlib.contextmanager
    def kernel_for(self, notebook: Path) -> Iterator[PrivateKernelManager]:
        """A running kernel for ``notebook``; it is gone afterwards."""
        preload = imports_of(notebook)
        if self._waiting is not None and self._waiting[0] == preload and run_sync(self._waiting[1].is_alive)():
            (_, manager), self._waiting = self._waiting, None
        else:
            manager = self._start(preload)
        try:
            yield manager
        finally:
            self.peak = peak_memory(getattr(manager.provisioner, "pid", None))
            manager.stop()

    def close(self) -> None:
        """Stops the kernel that waits, if any."""
        if self._waiting is not None:
            self._waiting[1].stop()
            self._waiting = None

    def _start(self, preload: tuple[str, ...]) -> PrivateKernelManager:
        folder = self.run_dir / ".kernel"
        folder.mkdir(parents=True, exist_ok=True)
        if self._server is not None:
            manager = PrivateKernelManager(folder, preload)
            try:
                manager.start(self.run_dir, self._server)
                return manager
            except OSError:
                manager.stop()
                self.stop_forking()
        manager = PrivateKernelManager(folder, preload)
        manager.start(self.run_dir, None)
        return manager
