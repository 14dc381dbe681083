"""The stage table: what each stage needs, what it reads, what it leaves, and the key that says whether it must run."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from micromarket.artefacts import ARTEFACTS, STAGES
from micromarket.config import Settings
from micromarket.errors import StageError
from micromarket.notes import plain
from micromarket.runner.cells import source_hash

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stage:
    """One step of the run.

    Attributes
    ----------
    name : str
    notebook : str
        File name in the folder of notebooks.
    needs : tuple of str
        Stages whose outputs this one reads, directly.
    tables : tuple of str
        Inputs that it reads itself: tables (keys of ``data`` in ``plan.yml``), ``geography`` (every file that this
        section names) and files beside ``plan.yml``.
    settings : tuple of str
        Parts of the settings that it depends on: a section, or ``section.key``.
    outputs : tuple of str
        Paths in the run directory that it may leave.
    required : tuple of str
        Those of ``outputs`` without which it has not done its work.
    """

    name: str
    notebook: str
    needs: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


_BASE = (
    "company", "as_of", "later_rows", "plan", "economics", "features", "geography", "report.min_cell", "seed",
)  # fmt: skip
_MASTER = ("markets", "customers", "transactions", "customer_summary", "subscriptions", "geography")
_COUNTED = ("spend", "outcomes", "leads", "sales_force")


def _stage(number: int, name: str, needs: str = "", tables: tuple[str, ...] = (), settings: str = "") -> Stage:
    notes = f"work/notes/{name}.json"
    written = tuple(a.path for a in ARTEFACTS.values() if a.stage == name)
    return Stage(
        name, f"{number:02d}_{name}.ipynb", tuple(needs.split()), tables, (*_BASE, *settings.split()),
        outputs=(notes, *written), required=(notes,),
    )  # fmt: skip


_PLAN = ("plan.json", "plan.pdf", "plan.xlsx", "dashboard.html", "work/notes/plan.json")
_TABLES = tuple(a.path for a in ARTEFACTS.values() if a.path.startswith("tables/"))  # the plan blanks small groups

#: The sections of the settings that can change a plan; ``data`` counts by the content of its tables.
SECTIONS = (
    "company", "as_of", "later_rows", "plan", "economics", "features", "geography", "budget", "targets", "tests",
    "report", "seed", "locale", "run.alarms",
)  # fmt: skip

#: In the order in which they run. A test holds ``settings`` against what the stages' modules read.
PIPELINE: tuple[Stage, ...] = (
    _stage(1, "data", tables=(*_MASTER, *_COUNTED)),
    _stage(2, "value", "data", _MASTER),
    _stage(3, "potential", "data value", ("field_notes", "plays", "previous_run"), "targets.objective"),
    _stage(4, "response", "data value potential", ("experiments",)),
    _stage(5, "allocation", "data value potential response", ("field_notes",), "budget"),
    _stage(6, "targets", "data value potential response allocation", ("field_notes",), "budget targets"),
    _stage(7, "funnel", "data allocation targets", (), "targets"),
    dataclasses.replace(
        _stage(
            8,
            "tests",
            "data value potential response allocation",
            ("experiments", "field_notes", "previous_run"),
            "budget tests",
        ),
        outputs=("work/notes/tests.json", "tables/tests.parquet", "tests.json"),
    ),
    dataclasses.replace(
        _stage(
            9,
            "plan",
            " ".join(STAGES[:-1]),
            ("plays", "previous_run"),
            "budget targets report data locale run.alarms",
        ),
        outputs=(*_PLAN, *_TABLES),
        required=_PLAN[:1],
    ),
)


def notebooks_folder() -> Path:
    """The notebooks of a wheel (inside the package) or of a checkout (beside it).

    Raises
    ------
    StageError
        Where there are none.
    """
    for folder in (_PACKAGE / "notebooks", _PACKAGE.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise StageError(f"the notebooks are neither in {_PACKAGE} nor beside it: install micromarket again")


@cache
def package_hash() -> str:
    """sha256 over every file of the package but its notebooks, which count stage by stage."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        inside = path.relative_to(_PACKAGE)
        if path.is_file() and "__pycache__" not in inside.parts and inside.parts[0] != "notebooks":
            digest.update(inside.as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this package and what it depends on directly."""
    found = {"python": platform.python_version()}
    try:
        found["micromarket"] = importlib.metadata.version("micromarket")
        required = importlib.metadata.requires("micromarket") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        found["micromarket"], required = "unknown", []
    for line in required:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and "extra ==" not in line:
            try:
                found[name[0]] = importlib.metadata.version(name[0])
            except importlib.metadata.PackageNotFoundError:
                continue
    return dict(sorted(found.items()))


def digest_of(value: Any) -> str:
    """sha256 of a plain value, as canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def settings_part(settings: Settings, name: str) -> Any:
    """A section of the settings, or ``section.key``, as plain values. Of ``data`` only how tables are shown."""
    if name == "data":
        return {table: source.shown_as for table, source in sorted(settings.data.items())}
    if name == "geography":
        return None if settings.geography is None else settings.geography.plain()
    value: Any = settings
    for key in name.split("."):
        value = getattr(value, key)
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def stage_key(
    stage: Stage,
    settings: Settings,
    inputs: Mapping[str, str],
    upstream: Mapping[str, Mapping[str, str]],
    notebook: Path,
) -> str:
    """What the result of a stage depends on, as one sha256. Equal keys, equal results.

    Parameters
    ----------
    stage : Stage
    settings : Settings
    inputs : mapping of str to str
        Hash of every input table of the company.
    upstream : mapping of str to mapping of str to str
        For each stage that has run: hash of each of its outputs. Outputs, not keys: a stage that ran again and came to
        the same result does not make the ones after it run again.
    notebook : Path
        The stage's notebook, before it is run.
    """
    return digest_of(
        {
            "stage": stage.name,
            # the files of a section count under its name: geography.census1
            "inputs": {name: key for name, key in sorted(inputs.items()) if name.split(".")[0] in stage.tables},
            "settings": {part: settings_part(settings, part) for part in stage.settings},
            "upstream": {name: dict(upstream[name]) for name in stage.needs},
            "notebook": source_hash(notebook),
            "package": package_hash(),
            "versions": versions(),
        }
    )


def run_key(settings: Settings, inputs: Mapping[str, str]) -> str:
    """One sha256 of everything that a run depends on; part of the run folder's name. ``inputs``: hash by table."""
    return digest_of(
        {
            "inputs": dict(inputs),
            "settings": {part: settings_part(settings, part) for part in SECTIONS},
            "package": package_hash(),
            "versions": versions(),
        }
    )
