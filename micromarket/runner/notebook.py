"""One notebook, executed by papermill in a kernel of this very interpreter, published whole or kept as failed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from micromarket import errors
from micromarket.errors import EXIT_FAILED, StageError, did_you_mean
from micromarket.runner.kernel import Kernels
from micromarket.workspace import write_atomically


class NotebookFailed(StageError):
    """A notebook stopped with an error.

    Attributes
    ----------
    notebook : Path
        The notebook as far as it got, error included (``NN_name.failed.ipynb``).
    error : str
        Name of the exception's class in the kernel.
    exit_status : int
        2 where the kernel met an :class:`~micromarket.errors.InputError`, else 1.
    """

    def __init__(self, stage: str, notebook: Path, error: str, text: str):
        known = getattr(errors, error, None)
        self.stage, self.notebook, self.error = stage, notebook, error
        self.exit_status = getattr(known, "exit_status", EXIT_FAILED)
        last = [line for line in text.splitlines() if line.strip()] or ["no message"]
        what = text if self.exit_status == errors.EXIT_INPUT else f"{error}: {last[-1].strip()}"
        super().__init__(f"{what}\nstage {stage} stopped; the notebook with its error: {notebook}")


def source_hash(notebook: Path) -> str:
    """sha256 of what a notebook does: kinds, sources and tags of its cells, not its outputs or metadata."""
    digest = hashlib.sha256()
    for cell in nbformat.read(notebook, as_version=4).cells:
        digest.update(repr((cell.cell_type, cell.source, cell.metadata.get("tags", []))).encode())
    return digest.hexdigest()


def refuse_unknown_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Papermill only warns about a parameter that the notebook doesn't have; a mistyped one must not run.

    Raises
    ------
    StageError
        Naming the parameter and those that the notebook has.
    """
    known = list(papermill.inspect_notebook(str(notebook)))
    for name in parameters:
        if name not in known:
            raise StageError(f"{notebook.name} has no parameter {name!r}: expected {did_you_mean(name, known)}")


def _without_times(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Equal runs, equal notebooks: no clock, no random ids, no path of the working directory."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
        elif not cell.get("id"):
            cell["id"] = f"cell-{number}"
    return notebook


def execute_notebook(
    stage: str,
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    kernels: Kernels,
    following: Path | None = None,
) -> Path:
    """Runs ``source``, and has the kernel of the notebook ``following`` get ready meanwhile.

    Returns
    -------
    Path
        ``output``; it appears at once, when the last cell is done.

    Raises
    ------
    NotebookFailed
        After leaving ``<output stem>.failed.ipynb`` beside ``output``.
    StageError
        Where the notebook isn't there or has no such parameter.
    """
    if not source.is_file():
        raise StageError(f"stage {stage}: there is no notebook {source}")
    refuse_unknown_parameters(source, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    running = output.with_name(f".{output.stem}.running.ipynb")
    try:
        with kernels.kernel_for(source) as kernel:
            if following is not None:
                kernels.prepare(following)
            done = papermill.execute_notebook(
                str(source),
                str(running),
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                km=kernel,
            )
    except PapermillExecutionError as error:
        os.replace(running, failed)
        raise NotebookFailed(stage, failed, error.ename, error.evalue) from None
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
        if running.exists():
            os.replace(running, failed)
        text = (
            "the notebook's Python process died without a word; most often the machine ran out of memory"
            if isinstance(error, DeadKernelError) or "died" in str(error).lower()
            else str(error)
        )
        raise NotebookFailed(stage, failed, type(error).__name__, text) from error
    finally:
        running.unlink(missing_ok=True)
    write_atomically(output, lambda p: nbformat.write(_without_times(done), p))
    return output
