"""A notebook kernel that has its imports behind it: ``python -m micromarket.runner.preloaded MODULE,MODULE… -f FILE``.

The runner starts the next stage's kernel while a stage runs; importing takes longer than many a stage.
"""

from __future__ import annotations

import contextlib
import importlib
import sys


def main() -> None:
    """Imports what can be imported, then becomes an ordinary ipykernel."""
    if sys.path and sys.path[0] in ("", "."):
        del sys.path[0]  # as ipykernel's own launcher: nothing in the working directory may stand in for a module
    for name in filter(None, sys.argv.pop(1).split(",")):
        with contextlib.suppress(Exception):  # the notebook's own import will tell
            importlib.import_module(name)
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
