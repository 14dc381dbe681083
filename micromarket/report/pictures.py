"""Small pictures of a finished plan for a README: its cover and pages, the page on a phone, the explorer.

``python -m micromarket.report.pictures RUN [--plan data/sample/plan.yml] [--to docs/pictures]``; RUN is a run folder,
or a folder of them (the latest one counts). The plan is read from the run's working folder beside it.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from micromarket.config import read_settings
from micromarket.errors import StageError
from micromarket.plan.assembly import Plan, assemble
from micromarket.report.blocks import Desk
from micromarket.report.page import write_page
from micromarket.report.pdf import document, first_page, pages
from micromarket.workspace import Workspace, write_atomically

COVER_PIXELS, COLOURS = 700, 128
PHONE = (390, 844)
SPREAD, SPREAD_PIXELS = 4, 1200  # pages side by side; all of them together
EXPLORER = (1080, 660)
_A4_INCHES = 210 / 25.4
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
          "--disable-background-networking", "--disable-component-update")  # fmt: skip


def plan_of_run(run: Path, plan_file: Path) -> Plan:
    """The plan of a run folder (or of the latest one in ``run``), from its working folder in ``.work`` beside it.

    Raises
    ------
    StageError
        Where there is no finished run, or its working folder was removed.
    """
    return assemble(Workspace(_working_folder(run)), read_settings(plan_file))


def _working_folder(run: Path) -> Path:
    runs = [run] if (run / "plan.json").is_file() else [p.parent for p in run.glob("*/plan.json")]
    if not runs:
        raise StageError(f"{run} holds no finished run: make one with micromarket run first")
    latest = max(runs, key=lambda p: ((p / "plan.json").stat().st_mtime_ns, p.name))
    work = [p for p in (latest.parent / ".work").glob(f"{latest.name}-*") if (p / "plan.json").is_file()]
    if not work:
        raise StageError(f"the working folder of {latest.name} is gone: run the plan again")
    return max(work, key=lambda p: p.stat().st_mtime_ns)


def cover(plan: Plan, path: Path) -> Path:
    """The first page of ``plan.pdf`` as PNG, :data:`COVER_PIXELS` wide."""
    desk = Desk(plan)
    page = Image.open(io.BytesIO(first_page(document(desk), desk.pictures, 2 * COVER_PIXELS / _A4_INCHES)))
    height = round(page.height * COVER_PIXELS / page.width)
    return _small(page.resize((COVER_PIXELS, height), Image.Resampling.LANCZOS), path)


def spread(plan: Plan, path: Path) -> Path:
    """The pages after the cover, :data:`SPREAD` of them side by side, as PNG."""
    desk = Desk(plan)
    drawn = pages(document(desk), desk.pictures, 2 * SPREAD_PIXELS / SPREAD / _A4_INCHES)[1 : 1 + SPREAD]
    width = SPREAD_PIXELS // SPREAD
    leaves: list[Image.Image] = [Image.open(io.BytesIO(page)) for page in drawn]
    leaves = [p.resize((width, round(p.height * width / p.width)), Image.Resampling.LANCZOS) for p in leaves]
    sheet = Image.new("RGB", (SPREAD_PIXELS, leaves[0].height), "white")
    for k, leaf in enumerate(leaves):
        sheet.paste(leaf, (k * width, 0))
    return _small(sheet, path)


def explorer(run: Path, plan_file: Path, path: Path) -> Path | None:
    """The explorer's answer to a tenth more money; ``None`` without a Chromium, or where nothing can be tried."""
    from micromarket.explore import explorer_of, scenario_panel  # lies above this package: only this picture needs it
    from micromarket.explore.panels import ScenarioPanel
    from micromarket.notebook import small_table

    settings = read_settings(plan_file)
    workspace = Workspace(_working_folder(run))
    panel = scenario_panel(explorer_of(workspace, settings, small_table(settings, "field_notes", workspace)))
    if not isinstance(panel, ScenarioPanel):
        return None
    panel.outcome = panel.examples()[1]
    with tempfile.TemporaryDirectory(prefix="micromarket-") as folder:
        page = Path(folder) / "explorer.html"
        page.write_text(f'<meta charset="utf-8"><body style="margin:0">{panel.page()}', encoding="utf-8")
        return phone(page, path, EXPLORER)


def phone(page: Path, path: Path, size: tuple[int, int] = PHONE) -> Path | None:
    """``page`` (HTML) as a phone shows it first; ``None`` where there is no Chromium to show it."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return None
    with tempfile.TemporaryDirectory(prefix="micromarket-") as folder:
        shot = Path(folder) / "page.png"
        command = [browser, *_QUIET, f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}",
                   f"--screenshot={shot}", page.resolve().as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        if not shot.is_file():
            raise StageError(f"{browser} took no picture (exit status {done.returncode})")
        return _small(Image.open(shot), path)


def _small(picture: Image.Image, path: Path) -> Path:
    flat = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return write_atomically(path, lambda p: flat.save(p, format="PNG", optimize=True))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m micromarket.report.pictures", description="Pictures of a plan.")
    parser.add_argument("run", type=Path, help="a run folder, or a folder of them: the latest counts")
    parser.add_argument("--plan", type=Path, default=Path("data/sample/plan.yml"), help="its plan.yml")
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"), help="where the pictures go")
    asked = parser.parse_args(arguments)
    try:
        plan = plan_of_run(asked.run, asked.plan)
        print(cover(plan, asked.to / "cover.png"))
        print(spread(plan, asked.to / "spread.png"))
        print(explorer(asked.run, asked.plan, asked.to / "explorer.png") or "the explorer's picture is left as it was")
        with tempfile.TemporaryDirectory(prefix="micromarket-") as folder:
            shown = phone(write_page(plan, Path(folder) / "dashboard.html"), asked.to / "page.png")
        print(shown or "no Chromium found: the picture of the page is left as it was")
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
