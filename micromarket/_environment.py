"""Prints ``environment.yml`` (conda) from ``pyproject.toml``: ``python -m micromarket._environment``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HEAD = (
    "# Generated from pyproject.toml by `make lock`; change that, not this. Use: conda env create -f environment.yml\n"
)


def environment(pyproject: Path) -> str:
    """The conda environment that ``pyproject`` asks for, with the package itself installed from its folder.

    Raises
    ------
    subprocess.CalledProcessError
        Where pyproject2conda (extra ``dev``) is missing or can't read the file.
    """
    command = [sys.executable, "-m", "pyproject2conda", "yaml", "--pyproject", str(pyproject), "--no-header"]
    options = [
        "--name",
        "micromarket",
        "--python-include",
        "python>=3.11",
        "--extra",
        "dev",
        "--extra",
        "spatial",
        "--pip-dep",
        "-e .",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return _HEAD + done.stdout.strip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(environment(Path(__file__).resolve().parent.parent / "pyproject.toml"))
