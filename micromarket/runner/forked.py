"""The runner's side of the fork server: starting it, asking it for kernels, and making them look like processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

#: Seconds that importing may take on a very busy machine.
PATIENCE = 300.0


def can_fork() -> bool:
    """Whether this system has fork servers at all: not Windows."""
    return hasattr(os, "fork") and hasattr(os, "setpgid") and sys.platform not in ("emscripten", "wasi")


class ForkServer:
    """A process with ``modules`` imported that forks kernels; see :mod:`micromarket.runner.forkserver`.

    Parameters
    ----------
    modules : sequence of str
        What to import. A module that can't be is passed over.
    env : mapping of str to str
        Its environment. What Python and libraries read when they start (hash seed, number of threads) counts here, not
        in a kernel's.
    """

    def __init__(self, modules: Sequence[str], env: Mapping[str, str]):
        self.modules, self.env = tuple(modules), dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = self._ready = False

    def start(self) -> None:
        """Starts it, if need be; returns at once.

        Raises
        ------
        OSError
            Where it can't be started, or is closed.
        """
        if self._closed:
            raise ConnectionError("the fork server is closed")
        if self._process is not None:
            return
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self._socket, self._stream = ours, ours.makefile("rw", encoding="utf-8")
        with theirs:
            command = [sys.executable, "-P", "-m", "micromarket.runner.forkserver", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, ",".join(self.modules)], env=self.env, pass_fds=[theirs.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def ask(self, **request: Any) -> Any:
        """The answer to a request; the first starts the server if need be, and waits until the imports are done.

        Raises
        ------
        OSError
            Where the server has ended, or takes longer than ``PATIENCE``. It is closed then.
        """
        self.start()
        try:
            if not self._ready:
                self._ready = self._read() == "ready"
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            return self._read()
        except BaseException as error:  # also Ctrl-C: an answer half read would be taken for the next one
            self.close()
            if isinstance(error, ValueError):
                raise ConnectionError("the fork server answers nonsense") from error
            raise

    def _read(self) -> Any:
        line = self._stream.readline()
        if not line.endswith("\n"):
            raise ConnectionError("the fork server has ended")
        return json.loads(line)

    def close(self) -> None:
        """Ends the server and every kernel forked from it."""
        closed, self._closed = self._closed, True
        if closed or self._process is None:
            return
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()
        if not self._ready:  # still importing, no kernels: it need not finish
            self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ForkedProcess:
    """A forked kernel with what jupyter_client uses of :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, server: ForkServer, pid: int):
        self._server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self._server.ask(do="poll", pid=self.pid)
            except OSError:  # it takes its kernels with it
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._server.ask(do="signal", pid=self.pid, number=int(number))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkProvisioner(LocalProvisioner):
    """Where jupyter_client would start a process, asks ``server`` for one; ``log`` takes its output."""

    process: Any = None
    server: ForkServer
    log_file: Path

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        env = {k: v for k, v in kwargs["env"].items() if k != "JPY_PARENT_PID"}
        argv = cmd[cmd.index("-f") :]
        pid = self.server.ask(do="start", cwd=str(kwargs["cwd"]), env=env, log=str(self.log_file), argv=argv)
        self.process = ForkedProcess(self.server, pid)
        self.pid = pid
        return self.connection_info
