"""How long a whole run takes and how much memory, on a simulated company: ``python benchmarks/run_time.py``.

Prints seconds by stage (from the run's own manifest), the whole run's wall time, and the peak memory of the process
tree (sampled every 0.2 s). Absolute figures depend on the machine, so a fixed piece of work (a 2,500 x 2,500 matrix
inverted ten times) is timed in the same session: quote ratios to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil


def reference_seconds() -> float:
    """Seconds for the fixed piece of work."""
    matrix = np.random.default_rng(0).normal(size=(2500, 2500))
    start = time.perf_counter()
    for _ in range(10):
        np.linalg.inv(matrix)
    return time.perf_counter() - start


class PeakMemory(threading.Thread):
    """Highest sum of resident memory over a process and its children, in bytes."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process, self.peak, self.over = psutil.Process(pid), 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            try:
                tree = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(p.memory_info().rss for p in tree))
            except psutil.Error:
                continue


def measured(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, peak GB and standard output of a command that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = PeakMemory(process.pid)
    memory.start()
    out, _ = process.communicate()
    memory.over.set()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, memory.peak / 1e9, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--customers", type=int, default=300_000)
    parser.add_argument("--weeks", type=int, default=104)
    parser.add_argument("--relationship", default="contractual")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    micromarket = [sys.executable, "-m", "micromarket.cli"]
    with tempfile.TemporaryDirectory() as folder:
        company, reports = Path(folder, "company"), Path(folder, "reports")
        options = [f"--{k}={v}" for k, v in vars(arguments).items()]
        seconds, gigabytes, _ = measured([*micromarket, "simulate", str(company), *options, "--seed=1"])
        size = sum(f.stat().st_size for f in company.rglob("*") if f.is_file()) / 1e6
        print(f"simulate: {seconds:.1f} s, {gigabytes:.2f} GB peak, {size:.0f} MB written")
        seconds, gigabytes, out = measured([*micromarket, "run", str(company / "plan.yml"), "--out", str(reports)])
        run = Path(out.strip().splitlines()[-1])
        manifest = json.loads((run / "manifest.json").read_text())
        stages = manifest["stages"]
        rows = stages.items() if isinstance(stages, dict) else ((s["stage"], s) for s in stages)
        for name, stage in rows:
            print(f"  {name:<12}{stage['seconds']:7.1f} s")
        reference = reference_seconds()
        print(f"run: {seconds:.1f} s, {gigabytes:.2f} GB peak; {seconds / reference:.1f} x the reference work")


if __name__ == "__main__":
    main()
