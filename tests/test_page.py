"""The page for the field in a real browser: keyboard, screen reader, contrast, phone, paper, and many markets."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_world as world
from browser import Browser
from PIL import Image
from test_report import payload, plan_of

from micromarket.errors import InputError
from micromarket.formats import percent
from micromarket.plan import Plan, assemble
from micromarket.readout import Readout, attained
from micromarket.readout.actuals import Actuals, Promise
from micromarket.report import write_page, write_pdf
from micromarket.report.page import render
from micromarket.report.page_progress import page_with_progress

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write_page(plan_of(folder / "run", n=40, hostile=True), folder / "dashboard.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def test_a_screen_reader_hears_what_everything_is(browser: Browser, page: Path) -> None:
    browser.open(page)
    tree = browser.tree()
    roles = [n["role"] for n in tree]
    assert {"main", "banner", "contentinfo", "search"} <= set(roles)
    nameless = [n["role"] for n in tree if n["focusable"] and not n["name"] and n["role"] != "RootWebArea"]
    assert not nameless
    levels = [n["level"] for n in tree if n["role"] == "heading"]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), "no level is skipped"
    named = {(n["role"], n["name"]) for n in tree}
    assert ("combobox", "My patch") in named
    assert any(role == "searchbox" and name.startswith("Find a market") for role, name in named)
    assert sum(n["role"] == "image" and "by market" in n["name"] for n in tree) == 1
    assert browser.run("document.documentElement.lang") == "en"
    assert not browser.errors, "the page's own policy lets everything of it through"


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1440, False)], ids=["phone", "dark", "desk"])
def test_axe_finds_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    """axe-core 4.12: WCAG 2.2 A and AA and its best practices, before and after a market is opened."""
    browser.open(page, width, 900, dark)
    assert browser.axe() == []
    browser.run("document.querySelector('#markets button').click()")
    assert browser.axe() == []
    browser.run("document.querySelector('#markets button').replaceChildren()")
    browser.run("document.documentElement.style.setProperty('--grey', '#777')")
    rules = {found.split()[1] for found in browser.axe()}
    assert {"button-name", "color-contrast"} <= rules, "the measure itself tells"


def test_it_fits_a_phone_and_a_thumb(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 844)
    browser.run("document.querySelector('#markets button').click()")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    small = browser.run(
        "[...document.querySelectorAll('button,select,input')].filter(n => n.checkVisibility())"
        ".map(n => n.getBoundingClientRect()).filter(r => r.height < 43.5 || r.width < 43.5).length"
    )
    assert small == 0
    browser.open(page, 320, 640)
    assert browser.run("document.documentElement.scrollWidth") <= 320, "enlarged four times on a desktop (WCAG 1.4.10)"


def test_keys_do_what_a_finger_does(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.run("document.querySelector('#markets button').focus()")
    name = browser.run("document.activeElement.querySelector('b').textContent")
    browser.press("Enter")
    assert browser.run("document.activeElement.textContent") == name
    assert browser.run("document.activeElement.id") == "h-detail"
    browser.press("Escape")
    assert browser.run("document.getElementById('detail').hidden")
    assert browser.run("document.activeElement.querySelector('b').textContent") == name, "back where one came from"


def test_a_patch_is_picked_and_kept(browser: Browser, page: Path) -> None:
    browser.open(page)
    everyone = browser.run("document.querySelector('#cards dd').textContent")
    assert browser.run("document.querySelectorAll('#actions li').length") == 3
    browser.run(
        "(() => { const p = document.getElementById('patch'); p.selectedIndex = 1;"
        " p.dispatchEvent(new Event('change')); })()"
    )
    patch = browser.run("document.getElementById('h-patch').textContent")
    assert browser.run("document.querySelector('#cards dd').textContent") != everyone
    mine = browser.run("[...document.querySelectorAll('#markets b:first-child')].map(n => n.textContent)")
    asked = browser.run("[...document.querySelectorAll('#actions b')].map(n => n.textContent)")
    assert all(any(m in a for m in mine) for a in asked), "my actions are about my markets"
    browser.open(page)
    assert browser.run("document.getElementById('h-patch').textContent") == patch
    browser.run("localStorage.clear()")


def test_a_tap_beside_a_small_market_finds_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.getElementById('map').scrollIntoView()")
    browser.run(
        "(() => { const m = document.getElementById('map'), r = m.querySelector('[data-i]').getBoundingClientRect();"
        " m.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: r.right + 8, clientY: r.top})); })()"
    )
    assert not browser.run("document.getElementById('detail').hidden")


def test_on_paper_it_is_dark_on_white_without_controls(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True, print_=True)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('.picker')).display") == "none"
    assert browser.axe() == []


def test_thousands_of_markets_stay_usable(browser: Browser, tmp_path: Path) -> None:
    """Twenty thousand are in benchmarks/report.py."""
    many = plan_of(tmp_path / "run", n=4000, geometry=False)
    path = write_page(many, tmp_path / "dashboard.html")
    assert path.stat().st_size < 1_000_000
    assert browser.open(path) < 4_000
    took = browser.run(
        "(() => { const f = document.getElementById('find'), t = performance.now(); f.value = 'jaya';"
        " f.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - t; })()"
    )
    assert took < 300
    assert not browser.errors


def after_three_months(plan: Plan, part: float) -> Readout:
    """A plan whose first region has sold ``part`` of what was due, and whose others all of it."""
    targets = plan.tables["targets"].assign(period=lambda t: pd.to_datetime(t["period"]))
    places = plan.markets.set_index("market_id")[["name", "region", "territory"]]
    begin = targets["period"].min()
    frame = targets.groupby(["market_id", "period"], as_index=False)[["new_customers", "revenue"]].sum()
    frame = frame[frame["period"] < begin + pd.DateOffset(months=3)]
    weak = frame["market_id"].map(places["region"]) == sorted(set(places["region"]))[0]
    frame["revenue"] *= np.where(weak, part, 1.0)
    dates = {"start": plan.start.isoformat(), "end": plan.end.isoformat()}
    promise = Promise({"plan": dates, "currency": plan.currency}, "month", targets, None, None, places)
    return attained(promise, Actuals(frame, "month"))


def test_progress_can_be_put_on_a_published_page(browser: Browser, tmp_path: Path) -> None:
    run = world.build(tmp_path / "run", n=40)
    scores = run.read("scores")
    scores.loc[scores.index[0], "customers"] = 3
    run.write("scores", scores)
    plan = assemble(run, world.settings(tmp_path / "run"))
    found = after_three_months(plan, 0.5)
    html = render(plan)
    once = page_with_progress(html, found, plan.min_cell, "dashboard.html")
    assert page_with_progress(once, found, plan.min_cell, "dashboard.html") == once, "replaced, not piled up"
    path = tmp_path / "dashboard.html"
    path.write_text(once, encoding="utf-8")
    browser.open(path)
    assert browser.axe() == []
    said = browser.run("document.getElementById('progress').textContent")
    assert percent(found.total["revenue_attainment"]) in said
    assert "Progress, 1 July 2026 to 30 September 2026" in said
    worst = browser.run(
        "(() => { const s = document.getElementById('sort'); s.value = 'short'; s.dispatchEvent(new Event('change'));"
        " return [...document.querySelectorAll('#markets button')].slice(0, 3).map(n => n.textContent); })()"
    )
    weak = plan.markets.loc[plan.markets["region"] == sorted(set(plan.markets["region"]))[0], "name"]
    assert all("50%" in text and any(text.startswith(name) for name in weak) for text in worst)
    small = set(plan.tables["scores"].loc[plan.tables["scores"]["customers"].isna(), "market_id"])
    data = payload(once)
    at = {name: i for i, name in enumerate(data["columns"])}
    told = {row[at["id"]] for row in data["markets"] if row[at["attained"]] is not None}
    assert small
    assert not small & told, "a handful of customers stays unseen"
    with pytest.raises(InputError, match="a page that this version"):
        page_with_progress("<html></html>", found, 10, "dashboard.html")


# --- pictures that are kept -----------------------------------------------------------------------------------------
def held_against(picture: Image.Image, name: str) -> None:
    """Compares small grey pictures: what has moved or vanished shows, another machine's antialiasing doesn't.

    ``MICROMARKET_SNAPSHOTS=1`` keeps the pictures of today instead.
    """
    small = picture.convert("L").resize((picture.width // 4, picture.height // 4), Image.Resampling.BOX)
    path = SNAPSHOTS / f"{name}.png"
    if os.environ.get("MICROMARKET_SNAPSHOTS"):
        SNAPSHOTS.mkdir(exist_ok=True)
        small.quantize(16).save(path, optimize=True)
        return
    with Image.open(path) as kept:
        before = np.asarray(kept.convert("L"), float)
    now = np.asarray(small.quantize(16).convert("L"), float)
    assert now.shape == before.shape, f"{name}: {now.shape} instead of {before.shape}"
    apart = np.abs(now - before)
    assert apart.mean() < 3, f"{name} has changed: see {path} (mean {apart.mean():.1f} of 255)"
    assert (apart > 60).mean() < 0.02, f"{name} has changed in places: see {path}"


def test_pages_of_the_pdf_look_as_they_did(tmp_path: Path) -> None:
    if shutil.which("pdftoppm") is None:
        pytest.skip("pdftoppm is not installed")
    pdf = write_pdf(plan_of(tmp_path / "run", n=40), tmp_path / "plan.pdf")
    subprocess.run(["pdftoppm", "-r", "48", "-png", str(pdf), str(tmp_path / "p")], check=True)
    pages = [Image.open(p) for p in sorted(tmp_path.glob("p-*.png"))]
    sheet = Image.new("RGB", (pages[0].width * 4, pages[0].height * -(-len(pages) // 4)), "white")
    for k, one in enumerate(pages):
        sheet.paste(one, (one.width * (k % 4), one.height * (k // 4)))
    held_against(sheet, "pdf")


def test_the_pdfs_tags_tell_its_parts(tmp_path: Path) -> None:
    if shutil.which("pdfinfo") is None:
        pytest.skip("pdfinfo is not installed")
    pdf = write_pdf(plan_of(tmp_path / "run", n=40), tmp_path / "plan.pdf")
    done = subprocess.run(["pdfinfo", "-struct", str(pdf)], capture_output=True, check=True)
    tags = [line.split()[0] for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    for tag, least in (("Document", 1), ("H1", 8), ("H2", 8), ("Table", 6), ("TH", 20), ("Figure", 6)):
        assert sum(t.split("(")[0].rstrip(":") == tag for t in tags) >= least, tag


@pytest.mark.parametrize(("name", "width", "height"), [("phone", 390, 844), ("desk", 1440, 900)])
def test_the_page_looks_as_it_did(
    browser: Browser, page: Path, tmp_path: Path, name: str, width: int, height: int
) -> None:
    found = (
        subprocess.run(["fc-match", "Inter"], capture_output=True, check=False) if shutil.which("fc-match") else None
    )
    if found is None or b"Inter" not in found.stdout:
        pytest.skip("letters have another shape here: the font Inter is not installed")
    for dark in (False, True):
        browser.open(page, width, height, dark)
        shown = Image.open(browser.picture(tmp_path / "now.png"))
        held_against(shown, f"page-{name}-{'dark' if dark else 'light'}")
