"""Runs the stages' notebooks one after the other and publishes one finished run folder, whole or not at all."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from micromarket.config import Settings, read_settings
from micromarket.errors import EXIT_INPUT, MicromarketError, StageError, did_you_mean, printable
from micromarket.pinned import pin
from micromarket.runner.disk import disk_errors_told
from micromarket.runner.findings import finding
from micromarket.runner.inputs import Input, fingerprints, refuse_changed, settled
from micromarket.runner.kernel import Kernels, fork_server
from micromarket.runner.manifest import build_manifest, now
from micromarket.runner.notebook import execute_notebook
from micromarket.runner.pipeline import PIPELINE, Stage, notebooks_folder, run_key, stage_key
from micromarket.runner.store import Record, WorkingDirectory, copy_published, prune, publish, refuse_unwritable, slug
from micromarket.workspace import Workspace, write_json
from micromarket.write_back import after_publishing


def to_terminal(line: str) -> None:
    """One line of progress on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def check_input(settings: Settings) -> Mapping[str, int]:
    """Reads and validates every input, returns the tables' rows; see :func:`micromarket.runner.preview.check`."""
    from micromarket.runner.preview import check  # heavy; a mistyped option should be answered without it

    found = check(settings)
    for text in found.warnings:
        to_terminal(f"mind this: {printable(text)}")
    return found.rows


def run(
    plan: str | Path,
    out: str | Path = "reports",
    until: str | None = None,
    resume: bool = False,
    *,
    as_of: dt.date | None = None,
    progress: Callable[[str], None] = to_terminal,
    pipeline: Sequence[Stage] = PIPELINE,
    notebooks: str | Path | None = None,
    check: Callable[[Settings], Mapping[str, int] | None] = check_input,
    command: Sequence[str] | None = None,
    event: Callable[..., None] = lambda name, **more: None,
) -> Path:
    """Makes the plan.

    Everything is read and validated before anything is written. The notebooks then run in a private folder
    ``out/.work/…``; the finished run folder ``out/<as_of>-<company>-<key>`` appears at once, by a rename.

    Parameters
    ----------
    plan : str or Path
        ``plan.yml``.
    out : str or Path
        Folder of run folders; made if need be.
    until : str, optional
        Last stage to run; the manifest names those that did not.
    resume : bool
        Take over the result of a stage from an earlier run, finished or not, if nothing it depends on has changed.
    as_of : date, optional
        Day of the data, in the place of the one in ``plan.yml``; rows of a later day are then left out.
    progress : callable
        Gets one line of text at a time.
    pipeline, notebooks, check
        Stage table, folder of its notebooks and validation of the input, for pipelines of one's own.
    command : sequence of str, optional
        For the manifest.
    event : callable
        Gets the name of each event (``input sound``, ``stage started``, ``stage done``, ``stage reused``,
        ``stage failed``, ``published``) and its facts, by name.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    InputError
        Listing every problem of the input; nothing has been written.
    NotebookFailed
        A stage stopped; its notebook is kept with the error, nothing is published. Where it stopped for the input
        (``exit_status`` 2, such as limits that contradict each other), nothing is kept either.
    StageError
        Any other reason, such as a folder that can't be written or data that changed during the run.
    """
    names = [stage.name for stage in pipeline]
    if until is not None and until not in names:
        raise StageError(f"no stage {until!r}: expected {did_you_mean(until, names)}")
    wanted = pipeline[: names.index(until) + 1] if until else pipeline
    place = Path(out).absolute()
    settings = read_settings(plan, as_of)
    refuse_unwritable(place)
    folder = Path(notebooks) if notebooks is not None else notebooks_folder()
    began, started = time.monotonic(), now()
    with contextlib.ExitStack() as ending:
        server = fork_server([folder / stage.notebook for stage in wanted])
        if server is not None:
            ending.callback(server.close)
            if not resume:  # at once, so that it imports while the input is read; a resumed run may not need it
                with contextlib.suppress(OSError):
                    server.start()
        settings = settled(settings, place)
        rows = check(settings) or {}
        inputs = fingerprints(settings)
        progress(f"input is sound: {', '.join(inputs)} ({time.monotonic() - began:.1f} s)")
        event(
            "input sound", company=settings.company.name, as_of=settings.as_of.isoformat(), rows=dict(rows),
            previous_run=inputs["previous_run"].shown["file"] if "previous_run" in inputs else None,
        )  # fmt: skip
        key = run_key(settings, {table: item.name_key for table, item in inputs.items()})
        name = f"{settings.as_of.isoformat()}-{slug(settings.company.name)}-{key[:8]}"
        work = WorkingDirectory(place, name)
        kernels = Kernels(work.path, server)
        records: list[Record] = []
        useless = False
        at = wanted[0].name

        def manifest(failed: tuple[str, str] | None = None) -> dict[str, Any]:
            return build_manifest(
                settings, inputs, rows, pipeline, records,
                key=key, started=started, until=until, command=command, failed=failed,
            )  # fmt: skip

        try:
            with disk_errors_told():
                pin(settings, work.path)
                for number, stage in enumerate(wanted, start=1):
                    at = stage.name
                    event("stage started", stage=at)
                    following = wanted[number] if number < len(wanted) else None
                    done = _run_stage(stage, following, work, kernels, folder, settings, inputs, records, resume)
                    records.append(done)
                    progress(_line(number, len(wanted), done))
                    if done.status == "reused":
                        event("stage reused", stage=at, reused_from=done.reused_from)
                    else:
                        event("stage done", stage=at, took=done.seconds, kernel_peak_mb=kernels.peak)
                refuse_changed(settings, inputs)
                published = _publish(work, name, settings, records, manifest())
        except BaseException as error:
            useless = isinstance(error, MicromarketError) and error.exit_status == EXIT_INPUT
            if len(records) < len(wanted):
                event("stage failed", stage=at, error=type(error).__name__)
            with contextlib.suppress(OSError):  # the disk may be what failed
                told = str(error) if isinstance(error, MicromarketError) else type(error).__name__
                write_json(work.path / "manifest.json", manifest((at, told)))
            raise
        finally:
            kernels.close()
            work.close(discard=useless)
            prune(work.out)
    event("published", folder=published.name)
    after_publishing(published, settings)
    progress(f"done in {time.monotonic() - began:.0f} s")
    return published


def _run_stage(
    stage: Stage,
    following: Stage | None,
    work: WorkingDirectory,
    kernels: Kernels,
    notebooks: Path,
    settings: Settings,
    inputs: Mapping[str, Input],
    records: Sequence[Record],
    resume: bool,
) -> Record:
    """Takes over an equal result or runs the notebook; the record is written last."""
    source = notebooks / stage.notebook
    if not source.is_file():
        raise StageError(f"stage {stage.name}: there is no notebook {source}")
    key = stage_key(
        stage,
        settings,
        {table: item.key for table, item in inputs.items()},
        {
            record.stage: {p: h for p, h in record.outputs.items() if not p.startswith("notebooks/")}
            for record in records
        },
        source,
    )
    if resume and (found := work.take_over(stage.name, key)) is not None:
        work.record(found)
        return found
    started, began = now(), time.monotonic()
    inside = f"notebooks/{stage.notebook}"
    parameters = {"plan": str(settings.path), "run_dir": "."}
    after = None if following is None else notebooks / following.notebook
    execute_notebook(stage.name, source, work.path / inside, parameters, kernels, after)
    outputs = work.hashes([*stage.outputs, inside])
    for path in stage.required:
        if path not in outputs:
            raise StageError(f"stage {stage.name}: its notebook ended without writing {path}")
    record = Record(
        stage.name, key, "done", finding(stage.name, _numbers(work.path, stage.name), settings.company.currency),
        started, now(), round(time.monotonic() - began, 2), outputs,
    )  # fmt: skip
    work.record(record)
    return record


def _numbers(run_dir: Path, stage: str) -> Mapping[str, Any]:
    path = run_dir / "work" / "notes" / f"{stage}.json"
    return json.loads(path.read_text(encoding="utf-8"))["numbers"] if path.is_file() else {}


def _line(number: int, of: int, record: Record) -> str:
    took = "reused" if record.status == "reused" else f"{record.seconds:.1f} s"
    return f"[{number}/{of}] {record.stage:<10} {took:>7}  {record.finding}".rstrip()


def _publish(
    work: WorkingDirectory, name: str, settings: Settings, records: Sequence[Record], manifest: Mapping[str, Any]
) -> Path:
    write_json(work.path / "manifest.json", manifest)
    with work.publishing() as folder:
        for record in records:
            copy_published(work.path, folder, record.outputs)
        if not any(record.stage == "plan" for record in records):
            _blank_small_groups(folder, settings)
        write_json(folder / "manifest.json", manifest)
        return publish(folder, name)


def _blank_small_groups(folder: Path, settings: Settings) -> None:
    """What the plan stage does to the tables that it publishes, for a run that ends before it."""
    from micromarket.plan.assembly import suppress_small_cells

    workspace = Workspace(folder)
    scores = workspace.read_if_there("scores")
    if scores is not None:
        workspace.write("scores", suppress_small_cells(scores, settings.report.min_cell)[0])
