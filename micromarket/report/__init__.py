"""What people see: the leaders' PDF, the page for the field, the workbook. Only input: the frozen plan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from micromarket.config import FORMATS
from micromarket.formats import in_locale
from micromarket.plan.assembly import Plan
from micromarket.report.page import write_page
from micromarket.report.pdf import write_pdf
from micromarket.report.workbook import write_workbook
from micromarket.workspace import write_atomically

__all__ = ["FILES", "write_page", "write_pdf", "write_reports", "write_workbook"]

FILES = {"pdf": "plan.pdf", "html": "dashboard.html", "xlsx": "plan.xlsx"}
_WRITERS = {"pdf": write_pdf, "html": write_page, "xlsx": write_workbook}


def write_reports(plan: Plan, run_dir: str | Path, formats: Sequence[str] = FORMATS) -> tuple[Path, ...]:
    """Writes the files that people read into ``run_dir``, each whole or not at all; equal plans give equal bytes.

    Parameters
    ----------
    plan : Plan
        From :func:`micromarket.plan.assemble`. ``plan.json`` and the tables are written by :meth:`Plan.write`.
    run_dir : str or Path
    formats : sequence of {"pdf", "html", "xlsx"}
        As ``report.formats`` in ``plan.yml``.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    ValueError
        For a format that does not exist.
    StageError
        Where the PDF can't be set.
    """
    unknown = [f for f in formats if f not in _WRITERS]
    if unknown:
        raise ValueError(f"unknown report format {unknown[0]!r}: one of {', '.join(_WRITERS)}")
    folder = Path(run_dir)
    wanted = [form for form in FILES if form in formats]
    with in_locale(plan.locale):
        return tuple(write_atomically(folder / FILES[form], partial(_WRITERS[form], plan)) for form in wanted)
