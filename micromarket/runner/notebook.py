"""One notebook, executed by papermill in a kernel of this very interpreter, published whole or kept as failed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from micromarket import errors
from micromarket.errors import EXIT_FAILED, EXIT_INPUT, StageError, did_you_mean
from micromarket.runner.kernel import Kernels
from micromarket.workspace import write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

# papermill takes seconds to import; meanwhile the kernels' imports can be on their way

#: Where a forked process can die of the system's own libraries, which were made to be used without forks.
FORKS_CAN_BREAK = sys.platform == "darwin"


class NotebookFailed(StageError):
    """A notebook stopped with an error.

    Attributes
    ----------
    notebook : Path
        The notebook as far as it got, error included (``NN_name.failed.ipynb``).
    error : str
        Name of the exception's class in the kernel.
    exit_status : int
        2 where the kernel met an :class:`~micromarket.errors.InputError`, else 1. The message then tells the whole
        input error and not where the notebook is: the run leaves nothing behind.
    """

    def __init__(self, stage: str, notebook: Path, error: str, text: str):
        known = getattr(errors, error, None)
        self.stage, self.notebook, self.error = stage, notebook, error
        self.exit_status = getattr(known, "exit_status", EXIT_FAILED)
        last = [line for line in text.splitlines() if line.strip()] or ["no message"]
        if self.exit_status == EXIT_INPUT:
            super().__init__(f"{text.rstrip()}\nfound by stage {stage}")
        else:
            what = f"{error}: {last[-1].strip()}"
            super().__init__(f"{what}\nstage {stage} stopped; the notebook with its error: {notebook}")


def refuse_unknown_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Papermill only warns about a parameter that the notebook doesn't have; a mistyped one must not run.

    Raises
    ------
    StageError
        Naming the parameter and those that the notebook has.
    """
    import papermill

    known = list(papermill.inspect_notebook(str(notebook)))
    for name in parameters:
        if name not in known:
            raise StageError(f"{notebook.name} has no parameter {name!r}: expected {did_you_mean(name, known)}")


def _made_fit_to_publish(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """Equal runs, equal notebooks: no clock, no random ids, no path of this machine."""
    from papermill.translators import PythonTranslator

    notebook.metadata.pop("papermill", None)
    shown = {
        name: PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value
        for name, value in parameters.items()
    }
    for number, cell in enumerate(notebook.cells):
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
            cell["source"] = PythonTranslator.codify(shown)
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
        ``output``; it appears at once, when the last cell is done. Of parameters that are absolute paths it shows the
        last part.

    Raises
    ------
    NotebookFailed
        After leaving ``<output stem>.failed.ipynb`` beside ``output``, and ``.failed.log`` where the kernel died and
        had written something to the terminal.
    StageError
        Where the notebook isn't there or has no such parameter.
    """
    import nbformat

    if not source.is_file():
        raise StageError(f"stage {stage}: there is no notebook {source}")
    refuse_unknown_parameters(source, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = _in_kernel(stage, source, output, parameters, kernels, following)
    except NotebookFailed as failure:
        if not (FORKS_CAN_BREAK and kernels.forking and failure.error == "DeadKernelError"):
            raise
        failure.notebook.unlink(missing_ok=True)
        kernels.stop_forking()
        done = _in_kernel(stage, source, output, parameters, kernels, following)
    write_atomically(output, lambda p: nbformat.write(_made_fit_to_publish(done, parameters), p))
    return output


def _in_kernel(
    stage: str, source: Path, output: Path, parameters: Mapping[str, Any], kernels: Kernels, following: Path | None
) -> NotebookNode:
    """The executed notebook."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    failed = output.with_suffix(".failed.ipynb")
    running = output.with_name(f".{output.stem}.running.ipynb")
    log: Path | None = None
    try:
        with kernels.kernel_for(source) as kernel:
            log = kernel.log_file
            if following is not None:
                kernels.prepare(following)
            return papermill.execute_notebook(
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
        if log is not None and log.is_file() and log.stat().st_size:
            shutil.copyfile(log, failed.with_suffix(".log"))
        dead = isinstance(error, DeadKernelError) or "died" in str(error).lower()
        text = (
            "the notebook's Python process died without a word; most often the machine ran out of memory"
            if dead
            else str(error)
        )
        raise NotebookFailed(stage, failed, "DeadKernelError" if dead else type(error).__name__, text) from error
    finally:
        running.unlink(missing_ok=True)
