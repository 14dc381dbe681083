"""The process that kernels are forked from: ``python -P -m micromarket.runner.forkserver DESCRIPTOR MODULES``.

It imports the modules once and then only forks: it opens no connection, computes nothing and starts no thread, so each
kernel begins with the same pristine state and finds its imports done. Not ``multiprocessing``'s own fork server, which
imports the caller's main script anew in every child and takes its environment from the caller's.

Requests and answers are lines of JSON on the socket DESCRIPTOR, one answer for each request; the first line tells that
the imports are done. When the socket closes, because the runner closed it or died however suddenly, all kernels are
killed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import signal
import socket
import sys
import warnings
from typing import Any

from micromarket.runner.preloaded import USED_LATER, preload


class Children:
    """Forked processes. Only those not yet waited for are ever signalled: their ids can't be another process's."""

    def __init__(self) -> None:
        self._living: set[int] = set()
        self._ended: dict[int, int] = {}

    def fork(self) -> int:
        """Process id of a new child, the leader of a process group of its own; 0 in the child."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: allocators have some that mind forks
            pid = os.fork()
        with contextlib.suppress(OSError):  # in both: whoever comes first
            os.setpgid(pid, pid)
        if pid:
            self._living.add(pid)
        return pid

    def poll(self, pid: int) -> int | None:
        """Exit status, minus the signal's number if a signal ended it; ``None`` while it lives."""
        if pid in self._living:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._living.discard(pid)
                self._ended[pid] = os.waitstatus_to_exitcode(status)
        return self._ended.get(pid)

    def signal(self, pid: int, number: int) -> None:
        """To a living child and the processes that it started."""
        if self.poll(pid) is None and pid in self._living:
            with contextlib.suppress(OSError):
                os.killpg(pid, number)

    def kill_all(self) -> None:
        for pid in sorted(self._living):
            self.signal(pid, signal.SIGKILL)


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """Answers requests until the socket closes, then ``None``; in a forked child, the request that it was born for."""
    children = Children()
    with channel, channel.makefile("rw", encoding="utf-8") as stream:

        def answer(value: Any) -> None:
            stream.write(json.dumps(value) + "\n")
            stream.flush()

        try:
            answer("ready")
            for line in stream:
                request = json.loads(line)
                if request["do"] == "poll":
                    answer(children.poll(request["pid"]))
                elif request["do"] == "signal":
                    children.signal(request["pid"], request["number"])
                    answer(None)
                elif pid := children.fork():
                    answer(pid)
                else:
                    return request
        except OSError:  # the runner died in the middle of an exchange
            pass
    children.kill_all()
    return None


def become_kernel(request: dict[str, Any]) -> None:
    """Turns a forked child into an ordinary ipykernel that ends when the fork server does.

    Parameters
    ----------
    request : dict
        ``cwd``, ``env``, ``log`` (file that takes what would go to the terminal) and ``argv`` of ipykernel.
    """
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(log)  # ipykernel takes 1 and 2 for itself, and a crash takes ipykernel with it
    sys.argv = ["ipykernel_launcher", *request["argv"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    preload([*filter(None, sys.argv[2].split(",")), "ipykernel"])
    preload(later for library, names in USED_LATER.items() if library in sys.modules for later in names)
    gc.collect()
    gc.freeze()  # children needn't copy memory only because the collector looks at it
    request = serve(channel)
    if request is None:
        os._exit(0)  # nothing of ours is left to tidy up
    become_kernel(request)


if __name__ == "__main__":
    main()
