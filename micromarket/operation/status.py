"""How a folder of runs stands: what runs, what failed last and why, how old the latest plan is. For a monitor."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from micromarket.artefacts import STAGES
from micromarket.formats import plural
from micromarket.operation.runs import attempts, headline, published, working

_DAY = 86_400.0


@dataclass(frozen=True)
class State:
    """
    Attributes
    ----------
    out : str
    running : tuple of dict
        ``run``, ``stage`` of every run that is on.
    latest : tuple of dict
        ``company``, ``run``, ``as_of``, ``ended``, ``age_days``, ``headline`` of the newest complete run of each
        company.
    failed : dict or None
        The last attempt that did not end well: ``time``, ``status``, ``message`` and where known ``stage``; its
        ``since_then``: a later attempt ended well.
    problems : tuple of str
        What a monitor should know; empty where all is well.
    """

    out: str
    running: tuple[dict[str, Any], ...]
    latest: tuple[dict[str, Any], ...]
    failed: dict[str, Any] | None
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Plain values, with ``sound``."""
        return {**asdict(self), "sound": self.sound}

    def to_text(self) -> str:
        """For the terminal."""
        lines = [f"running   {run['run']}, stage {run['stage'] or 'publishing'}" for run in self.running]
        lines = lines or ["running   nothing"]
        for run in self.latest:
            age = "today" if run["age_days"] < 1 else f"{plural(int(run['age_days']), 'day')} ago"
            lines += [
                f"latest    {run['run']} ({run['company']}, data up to {run['as_of']}), made {age}",
                f"          {run['headline'] or ''}".rstrip(),
            ]
        if not self.latest:
            lines.append("latest    none")
        if self.failed is not None:
            where = f" in stage {self.failed['stage']}" if self.failed.get("stage") else ""
            after = "; a later run ended well" if self.failed["since_then"] else ""
            lines.append(f"failed    {self.failed['time']}{where}: {self.failed['message']}{after}")
        else:
            lines.append("failed    nothing")
        lines += [f"problem   {text}" for text in self.problems] or ["all is well"]
        return "\n".join(lines)


def state_of(out: str | Path, max_age: float | None = None, now: dt.datetime | None = None) -> State:
    """Reads how the folder of runs ``out`` stands; writes nothing.

    Parameters
    ----------
    out : str or Path
    max_age : float, optional
        Most days since the newest complete run of each company was made.
    now : datetime, optional
        With a time zone; default: this moment.
    """
    place = Path(out).absolute()
    now = now or dt.datetime.now(dt.UTC)
    seen = working(place, STAGES)
    complete = {run.company: run for run in published(place) if run.complete}
    latest: tuple[dict[str, Any], ...] = tuple(
        {
            "company": company, "run": run.folder.name, "as_of": run.as_of, "ended": run.ended,
            "age_days": round(max(0.0, (now - _moment(run.ended)).total_seconds() / _DAY), 2),
            "headline": headline(run.folder).get("headline"),
        }
        for company, run in sorted(complete.items())
    )  # fmt: skip
    ended = attempts(place)
    dead = [w for w in seen if not w.living and not w.ended]
    failed = _last_failure(ended, dead)
    problems = []
    if not place.is_dir():
        problems.append(f"there is no folder {place.name}")
    elif not latest:
        problems.append("there is no complete run")
    for run in latest:
        if max_age is not None and run["age_days"] > max_age:
            problems.append(
                f"the latest plan of {run['company']} was made {run['age_days']:.0f} days ago, more than {max_age:g}"
            )
    if failed is not None and not failed["since_then"]:
        problems.append(f"the last run did not end well: {failed['message']}")
    running = tuple({"run": w.name, "stage": w.stage} for w in seen if w.living)
    return State(str(place), running, latest, failed, tuple(problems))


def _moment(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _last_failure(ended: Sequence[Mapping[str, Any]], dead: Sequence[Any]) -> dict[str, Any] | None:
    """The last attempt that failed, was stopped or died without a word."""
    bad = [a for a in ended if a.get("status") in ("failed", "stopped")]
    found: list[dict[str, Any]] = [
        {"time": a["time"], "status": a["status"], "stage": a.get("stage"), "message": a.get("message") or a["status"]}
        for a in bad[-1:]
    ]
    for w in dead[:1]:  # the newest
        at = dt.datetime.fromtimestamp(w.changed, dt.UTC).isoformat(timespec="milliseconds")
        words = "its process was killed, or the machine went down"
        found.append({"time": at, "status": "died", "stage": w.stage, "message": words})
    if not found:
        return None
    last = max(found, key=lambda f: _moment(f["time"]))
    good = [_moment(a["time"]) for a in ended if a.get("status") == "done"]
    return {**last, "since_then": bool(good) and max(good) > _moment(last["time"])}


__all__ = ["State", "state_of"]
