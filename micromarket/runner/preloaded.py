"""A notebook kernel that has its imports behind it: ``python -P -m micromarket.runner.preloaded MODULES -f FILE``.

Where kernels can't be forked (:mod:`micromarket.runner.forkserver`), the runner starts the next stage's kernel while a
stage runs; importing takes longer than many a stage.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable

#: What libraries import when they are first used: worth having ready where the library is.
USED_LATER = {
    "geopandas": ("pyarrow.parquet", "pyarrow.dataset"),
    "ibis": ("ibis.backends.duckdb",),
    "ipykernel": ("ipykernel.kernelapp", "ipykernel.debugger"),
}


def preload(modules: Iterable[str]) -> None:
    """Imports what can be imported; the notebook's own import will tell what can't."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def main() -> None:
    """Imports what can be imported, then becomes an ordinary ipykernel."""
    preload(filter(None, sys.argv.pop(1).split(",")))
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
