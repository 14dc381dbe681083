"""``micromarket run``: the run itself, and around it the log, the hooks, ``latest.json``, retention and the journal."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from micromarket.config import read_run_rules
from micromarket.errors import EXIT_FAILED, MicromarketError, StageError
from micromarket.operation.hooks import call
from micromarket.operation.log import RunLog, peak_memory, told, utc
from micromarket.operation.retention import sweep
from micromarket.operation.runs import headline, note, plan_of, write_pointer
from micromarket.operation.signals import Stopped, stoppable
from micromarket.runner.execution import run, to_terminal
from micromarket.settings import RunRules


def run_unattended(
    plan: str | Path,
    out: str | Path = "reports",
    until: str | None = None,
    resume: bool = False,
    *,
    as_of: dt.date | None = None,
    log: str | Path | None = None,
    command: Sequence[str] | None = None,
    progress: Callable[[str], None] = to_terminal,
    **more: Any,
) -> Path:
    """Makes the plan and does all that ``run`` in ``plan.yml`` asks for around it.

    Parameters
    ----------
    plan, out, until, resume, as_of, command, progress
        As in :func:`micromarket.runner.execution.run`, which takes ``more`` too.
    log : str or Path, optional
        Instead of ``run.log`` in ``plan.yml``.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    MicromarketError
        What the run raises; or a hook failed that ``run.hook_required`` makes count.
    Stopped
        By SIGTERM or SIGHUP; nothing is published then, and a resumed run goes on from here.
    """
    rules = read_run_rules(plan)
    place = Path(out).absolute()
    path = Path(log).absolute() if log is not None else rules.log
    story = RunLog(path)
    began = utc()
    story.event("run started", plan=Path(plan).name, out=str(place), resume=resume, until=until)
    seen = _Seen(story)
    failure: BaseException | None = None
    folder: Path | None = None
    try:
        with stoppable():
            folder = run(
                plan, place, until, resume, as_of=as_of, progress=progress, command=command, event=seen.event, **more
            )
    except BaseException as error:
        failure = error
    status = "done" if failure is None else "stopped" if isinstance(failure, KeyboardInterrupt) else "failed"
    code = 0 if failure is None else _exit_status(failure)
    attempt: dict[str, Any] = {
        "time": utc(), "run": story.run, "started": began, "status": status, "exit_status": code, **seen.facts,
        "folder": folder.name if folder is not None else None, "seconds": story.seconds,
        "peak_memory_mb": max(filter(None, (seen.peak, peak_memory())), default=None), "stages": seen.stages,
    }  # fmt: skip
    if failure is not None:
        attempt |= told(failure)
    elif folder is not None:
        attempt |= headline(folder)
        for text in plan_of(folder).get("warnings") or ():  # with names of markets and channels, never a customer
            story.event("warning", text=text)
        _tidy(place, seen.facts.get("company"), rules, story)
    note(place, attempt)  # before the hook: it may ask for the history
    problem = ""
    if status != "stopped":  # who stops a run doesn't wait for hooks
        problem = _hook(rules, plan, place, status, attempt, folder, story)
    story.event("finished", **{k: v for k, v in attempt.items() if k not in ("time", "run", "seconds")})
    if failure is not None:
        raise failure
    assert folder is not None
    if problem and rules.hook_required:
        raise StageError(f"the plan is in {folder}, but the command of run.on_success failed: {problem}")
    return folder


class _Seen:
    """Passes the run's events on to the log and keeps what the journal needs."""

    def __init__(self, story: RunLog):
        self._story = story
        self.facts: dict[str, Any] = {}
        self.stages: dict[str, float] = {}
        self.peak: float | None = None

    def event(self, name: str, **more: Any) -> None:
        if name == "input sound":
            self.facts = {k: more[k] for k in ("company", "as_of", "previous_run")}
        if name in ("stage done", "stage reused"):
            self.stages[more["stage"]] = more.get("took", 0.0)
            self.peak = max(filter(None, (self.peak, more.get("kernel_peak_mb"))), default=None)
        self._story.event(name, **more)


def _exit_status(error: BaseException) -> int:
    if isinstance(error, Stopped):
        return error.status
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_status if isinstance(error, MicromarketError) else EXIT_FAILED


def _tidy(out: Path, company: str | None, rules: RunRules, story: RunLog) -> None:
    """The pointer and retention: neither may turn a published plan into a failed run."""
    try:
        write_pointer(out)
    except OSError as error:
        _warn(story, f"latest.json could not be written: {error.strerror or type(error).__name__}")
    if company is not None:
        try:
            swept = sweep(out, company, rules.keep)
        except OSError as error:
            _warn(story, f"old runs could not be looked through: {error.strerror or type(error).__name__}")
            return
        if swept.removed:
            story.event("retention", removed=list(swept.removed))
        for name, why in swept.spared:
            if why != "a run that stays goes on from it":
                _warn(story, f"the old run {name} stays: {why}")


def _warn(story: RunLog, text: str) -> None:
    to_terminal(text)
    story.event("warning", text=text)


def _hook(
    rules: RunRules,
    plan: str | Path,
    out: Path,
    status: str,
    attempt: dict[str, Any],
    folder: Path | None,
    story: RunLog,
) -> str:
    """Calls what ``plan.yml`` names; what went wrong with it, or nothing."""
    argv = rules.on_success if status == "done" else rules.on_failure
    if not argv:
        return ""
    env = {
        "MICROMARKET_RUN": str(folder) if folder is not None else "",
        "MICROMARKET_RUN_ID": story.run,
        "MICROMARKET_STATUS": status,
        "MICROMARKET_EXIT_STATUS": str(attempt["exit_status"]),
        "MICROMARKET_HEADLINE": str(attempt.get("headline") or attempt.get("message") or "").replace("\0", ""),
        "MICROMARKET_AS_OF": str(attempt.get("as_of") or ""),
        "MICROMARKET_COMPANY": str(attempt.get("company") or "").replace("\0", ""),
        "MICROMARKET_OUT": str(out),
        "MICROMARKET_LOG": str(story.path) if story.path is not None else "",
        "MICROMARKET_PLAN": str(Path(plan).absolute()),
        "MICROMARKET_WARNINGS": str(attempt.get("warnings") or 0),
    }
    sys.stderr.flush()
    called = call(argv, env, Path(plan).absolute().parent, rules.hook_timeout)
    story.event("hook", command=called.command, ok=called.ok, status=called.status, took=called.seconds,
                problem=called.problem or None)  # fmt: skip
    if not called.ok:
        _warn(story, f"the command {called.command} of run.on_{'success' if status == 'done' else 'failure'} failed:"
              f" {called.problem}")  # fmt: skip
    return called.problem


__all__ = ["run_unattended"]
