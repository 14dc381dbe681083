"""What people see: every file renders from any plan, shows texts literally, and is equal for equal plans."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import openpyxl
import pandas as pd
import pytest
import report_world as world
from PIL import Image
from pypdf import PdfReader
from shapely.geometry import MultiPolygon, Point, box

from micromarket import formats
from micromarket.artefacts import ARTEFACTS
from micromarket.errors import MicromarketWarning, StageError
from micromarket.plan.assembly import Plan, assemble
from micromarket.potential.peer_groups import group_markets
from micromarket.potential.peer_names import group_names
from micromarket.report import cautions, maps, pictures, style, typefaces, workbook, write_reports
from micromarket.report.blocks import Desk
from micromarket.report.page import render
from micromarket.report.pdf import compile_pdf, document, write_pdf
from micromarket.report.workbook import write_workbook
from micromarket.workspace import Workspace


def plan_of(folder: Path, **how) -> Plan:
    return assemble(world.build(folder, **how), world.settings(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("hostile"), hostile=True)


def text_of(pdf: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    done = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, check=True)
    return " ".join(done.stdout.decode("utf-8").replace("\u200b", "").split())


def payload(html: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.S)[1])


def test_equal_plans_give_equal_bytes(tmp_path):
    plans = [plan_of(tmp_path / run, n=16) for run in ("x", "y")]
    first = write_reports(plans[0], tmp_path / "a")
    time.sleep(1.1)  # a clock that is read would show
    again = write_reports(plans[1], tmp_path / "b")
    assert [p.name for p in first] == ["plan.pdf", "dashboard.html", "plan.xlsx"]
    for a, b in zip(first, again, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_the_pdf_is_tagged_and_shows_texts_as_they_are(hostile, tmp_path):
    path = write_pdf(hostile, tmp_path / "plan.pdf")
    raw = path.read_bytes()
    assert b"pdfuaid:part" in raw
    assert b"/StructTreeRoot" in raw
    text = text_of(path)
    assert "#set page(fill: red) $x^2$" in text
    assert "Move $1.27M from the markets worth least" in text
    for part in ("<script>", "=HYPERLINK", "*bold* _it_ `raw` @ref <label>", "${7*7}", "{{7*7}}", "São Tomé"):
        assert part.replace(" ", "") in text.replace(" ", "")
    assert "7 April" not in text
    assert formats.money(hostile.totals["targets"]["revenue"], "USD") in text


@pytest.mark.parametrize(
    "how",
    [
        {"stages": (), "n": 16},
        {"stages": ("value",), "n": 16, "value_signal": "none"},
        {"stages": ("value", "potential"), "geometry": False, "n": 24},
        {"geometry": False, "n": 24},
        {"null": True, "n": 16},
        {"value_signal": "none", "potential_signal": "none", "n": 16},
        {"n": 3},
        {"n": 1, "stages": ("value", "potential", "response", "allocation", "targets")},
    ],
)
def test_any_plan_renders_without_holes(tmp_path, how):
    plan = plan_of(tmp_path, **how)
    assert all(path.stat().st_size > 5_000 for path in write_reports(plan, tmp_path / "out", ("html", "xlsx")))
    desk = Desk(plan)
    data = document(desk)
    assert compile_pdf(data, desk.pictures, plan.as_of).startswith(b"%PDF")
    written = data["sections"]
    assert all(s["blocks"] and s["title"] for s in written)
    kickers = [s["kicker"] for s in written]
    assert ("Targets" in kickers) == ("targets" in plan.tables)
    assert ("Not yet" in kickers) == bool(plan.missing)
    said = json.dumps(data)
    assert "nan" not in re.findall(r"\bnan\b", said)
    if plan.number("value", "signal", "verdict") == "none":
        assert "Value each" not in said


@pytest.mark.parametrize("n", [12, 90])
def test_the_plan_is_short_and_names_every_market(tmp_path, n):
    """Few markets in a wide table, many in two columns under their regions; 20,000 are in benchmarks/report.py."""
    plan = plan_of(tmp_path, n=n)
    path = write_pdf(plan, tmp_path / "plan.pdf")
    assert 8 <= len(PdfReader(path).pages) <= 12
    text = text_of(path).split(f"All {n} markets")[1]
    assert all(name in text for name in plan.markets["name"])
    told = [text.count(r) for r in sorted(set(plan.regions.values()))]
    # in two halves a region's heading is said again where it goes on
    assert sum(told) <= len(told) + 1 if n > 40 else sum(told) == n


NAMES = ["北京", "القاهرة", "מרכז", "😀 bell\x07", "สยาม"]


def many_scripts(folder: Path, company: str = "東京 Telecom") -> Plan:
    run = world.build(folder, n=20)
    markets = run.read("markets")
    markets["name"] = NAMES * 4
    run.write("markets", markets)
    return assemble(run, world.settings(folder, company=company))


def test_names_that_no_font_shows_are_ids_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(typefaces, "_candidates", list)
    plan = many_scripts(tmp_path)
    with pytest.warns(MicromarketWarning, match="Arabic, Hebrew, Thai and Chinese: letters of it are left as boxes"):
        text = text_of(write_pdf(plan, tmp_path / "plan.pdf"))
    assert "□□ Telecom" in text
    assert text.count("□") == 2 * text.count("□□ "), "no market is a box"
    assert "M00000" in text
    assert "bell" in text
    assert "ids stand for the names of 16 markets" in text
    assert "北京" in json.dumps(payload(render(plan)), ensure_ascii=False)


def test_names_in_other_scripts_take_fonts_of_the_machine(tmp_path):
    faces = typefaces.typefaces_for(["القاهرة", "מרכז"])
    if not faces.shows("القاهرة מרכז"):
        pytest.skip("no font with Arabic and Hebrew is installed")
    run = world.build(tmp_path, n=20)
    markets = run.read("markets")
    markets["name"] = ["القاهرة 4", "מרכז"] * 10
    run.write("markets", markets)
    plan = assemble(run, world.settings(tmp_path))
    first = write_pdf(plan, tmp_path / "a.pdf").read_bytes()
    assert first == write_pdf(plan, tmp_path / "b.pdf").read_bytes()
    text = text_of(tmp_path / "a.pdf")
    assert "□" not in text
    assert "M00000" not in text
    assert re.search("מרכז|זכרמ", text)


def test_a_line_can_not_be_turned_round_by_a_name():
    assert style.label("safe\u202egnp.exe") == "safegnp.exe"
    assert typefaces.isolated("From القاهرة الجديدة: 3") == "From \u2068القاهرة الجديدة\u2069: 3"
    thai = "กรุงเทพมหานครอมรรัตนโกสินทร์"
    assert style.breakable(thai) == thai, "typst knows where a Thai line breaks"


def test_the_page_is_safe_and_self_contained(hostile):
    html = render(hostile)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not re.search(r"""(src|href|action)\s*=\s*["']?(https?:|//)""", html)
    assert html.count("</script>") == 2
    assert "<script>alert" not in html
    names = [row[1] for row in payload(html)["markets"]]
    assert names[1] == "<script>alert(1)</script>"
    assert any(n.startswith("</script><!--") for n in names)


def test_the_page_adds_up(hostile):
    data = payload(render(hostile))
    column = data["columns"].index("target_revenue")
    assert sum(row[column] for row in data["markets"]) == pytest.approx(hostile.totals["targets"]["revenue"], rel=1e-3)
    assert sum(p[0] for p in data["period_totals"]["all"]) == pytest.approx(
        hostile.totals["targets"]["revenue"], rel=1e-3
    )
    regions = [sum(p[0] for p in v) for k, v in data["period_totals"].items() if k.startswith("region")]
    assert sum(regions) == pytest.approx(hostile.totals["targets"]["revenue"], rel=1e-3)
    assert all(data["map"]["paths"])


@pytest.mark.slow
def test_two_thousand_markets_in_half_a_megabyte(tmp_path):
    page = render(plan_of(tmp_path / "b", n=2000))
    assert len(page.encode("utf-8")) < 500_000


def test_the_workbook_holds_no_formula_and_every_row(hostile, tmp_path):
    path = write_workbook(hostile, tmp_path / "plan.xlsx")
    with zipfile.ZipFile(path) as parts:
        sheets = [parts.read(n).decode("utf-8") for n in parts.namelist() if n.startswith("xl/worksheets/sheet")]
        assert not any("<f>" in s or "hyperlink" in s for s in sheets)
    with pytest.warns(UserWarning, match="extension"):  # data bars, which openpyxl doesn't know
        book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Read me", "Markets", "Response", "Budget", "Targets", "Funnel", "Tests", "Segments"]
    for sheet, table in (("Markets", "scores"), ("Budget", "budget"), ("Targets", "targets")):
        assert book[sheet].max_row == 1 + len(hostile.tables[table])
        assert book[sheet].freeze_panes is not None
        assert book[sheet].auto_filter.ref
    budget = book["Budget"]
    head = [c.value for c in budget[1]]
    column = head.index("Money, plan") + 1
    total = sum(budget.cell(r, column).value for r in range(2, budget.max_row + 1))
    assert total == pytest.approx(hostile.totals["budget"]["recommended"])
    named = book.defined_names["Budget_plan"].attr_text.split("!")[1].replace("$", "")
    assert book["Read me"][named].value == pytest.approx(total)
    assert book["Markets"].page_setup.fitToHeight == 0
    assert book["Markets"].print_title_rows == "$1:$1"
    assert '=HYPERLINK("http://x","y")' in [book["Markets"].cell(r, 2).value for r in range(2, 6)]


def test_sheets_of_the_funnel_the_reps_and_the_scoreboard_have_words(tmp_path):
    plan = plan_of(tmp_path, n=16)
    keys = {"pipeline": ("level", "key"), "lead_channels": ("channel",), "capacity": ("territory", "region"),
            "scoreboard": ("market_id", "segment")}  # fmt: skip
    extra = {}
    for table, own in workbook.OTHERS.items():
        columns = [c for c in ARTEFACTS[table].columns if c not in keys[table]]
        assert set(own) - set(keys[table]) <= set(columns), table
        assert set(columns) <= set(own) | set(workbook.COLUMNS), f"{table}: a column without words"
        row = {c: "M00001" if c == "market_id" else "=1+1" for c in keys[table]} | dict.fromkeys(columns, 0.5)
        extra[table] = pd.DataFrame([row])
    path = write_workbook(dataclasses.replace(plan, tables={**plan.tables, **extra}), tmp_path / "plan.xlsx")
    with pytest.warns(UserWarning, match="extension"):
        book = openpyxl.load_workbook(path)
    assert book["Lead channels"]["A2"].value == "=1+1"
    assert book["Lead channels"]["A2"].data_type == "s", "a text, not a formula"
    head = [c.value for c in book["Sales force"][1]]
    assert "Utilisation" in head
    assert book["Sales force"].cell(2, head.index("Utilisation") + 1).number_format == "0.0%"
    assert {"Budget_table", "Lead_channels_table"} <= set(book.defined_names)
    told = [c.value for c in book["Read me"]["A"]]
    assert "Pipeline: Weeks covered" in told


def test_libreoffice_opens_the_workbook_and_loses_nothing(hostile, tmp_path):
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    path = write_workbook(hostile, tmp_path / "plan.xlsx")
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    every_sheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
    command = [office, profile, "--headless", "--convert-to", every_sheet, "--outdir", str(tmp_path), str(path)]
    done = subprocess.run(command, capture_output=True, timeout=240, check=True)
    assert b"rror" not in done.stderr
    sheet = pd.read_csv(tmp_path / "plan-Markets.csv", dtype=str)
    assert len(sheet) == len(hostile.tables["scores"])
    assert '=HYPERLINK("http://x","y")' in set(sheet["Market"])


def test_maps_cross_the_date_line_and_keep_shared_borders():
    fiji = gpd.GeoDataFrame(
        {"market_id": ["a", "b"]},
        geometry=[MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179.5, -17)]), box(-179.5, -18, -179, -17)],
        crs=4326,
    )
    shapes = maps.project(fiji)
    left, _bottom, right, _top = shapes.total_bounds
    assert right - left < 250_000  # metres: some 2 degrees, not round the world
    simple = maps.simplify(shapes, 100)
    assert simple.area.sum() == pytest.approx(shapes.area.sum(), rel=0.02)
    assert simple["a"].intersection(simple["b"]).area < 1e-6 * simple.area.sum()


def test_maps_take_points_and_missing_shapes():
    frame = gpd.GeoDataFrame({"market_id": ["a", "b", "c"]}, geometry=[Point(1, 1), None, box(2, 2, 3, 3)], crs=4326)
    shapes = maps.simplify(maps.project(frame), 500)
    values, names = shapes.index.to_series().map({"a": 1.0, "c": -2.0}), shapes.index.to_series()
    svg = maps.choropleth(shapes, values, names, unit="x", money=str, callouts=["a", "c"])
    assert list(shapes.index) == ["a", "c"]
    assert svg.startswith(b"<?xml")


def test_long_words_break_and_labels_fit():
    long = "x" * 70
    assert max(len(part) for part in style.breakable(long).split("\u200b")) <= 12
    assert style.fit("Surabaya", 200, 7.5) == "Surabaya"
    assert style.fit("W" * 40, 60, 7.5).endswith("…")
    assert style.label("tab\there\x00 and\u2028there") == "tab here and there"


def test_formats_round_up_to_the_next_unit():
    assert formats.money(999_999, "USD") == "$1M"
    assert formats.percent(0.996) == ">99%"
    assert formats.span(dt.date(2026, 2, 1), dt.date(2026, 2, 28)) == "February 2026"


def test_numbers_and_dates_follow_the_locale(tmp_path):
    """German and Indian figures as CLDR has them; what a stage wrote in English is rewritten, words stay."""
    with formats.in_locale("de_DE"):
        assert formats.money(-5_300, "EUR", sign=True) == "−5.300\u00a0€"
        assert formats.money_range(1.9e6, 5.02e6, "EUR") == "1,9\u00a0Mio.\u00a0€ to 5\u00a0Mio.\u00a0€"
        assert formats.prose("Till 2026-08-25: 4,433 EUR, 12.5% of 1,234 in 2026.", "EUR") == (
            "Till 25. August 2026: 4.430\u00a0€, 12,5\u00a0% of 1.234 in 2026."
        )
    with formats.in_locale("en_IN"):
        assert (formats.money(12_345_678, "INR"), formats.count(1_234_567)) == ("₹1.23Cr", "12,34,567")
    assert formats.count(1_234_567) == "1,234,567", "the house style is back"
    folder = tmp_path / "x"
    settings = dataclasses.replace(world.settings(folder), locale="de_DE")
    plan = assemble(world.build(folder, n=24), settings)
    assert "1,27" in plan.headline or "Mio." in plan.headline or ".000" in plan.headline
    write_reports(plan, tmp_path)
    told = text_of(tmp_path / "plan.pdf")
    assert "Juli 2026" in told
    assert not re.search(r"\$\d", told), "no amount in the house style is left"
    assert re.search(r"\d\u00a0?\s?% of", told)
    data = payload((tmp_path / "dashboard.html").read_text())
    assert (data["locale"], data["code"]) == ("de-DE", "USD")
    with pytest.warns(UserWarning, match="extension"):
        sheet = openpyxl.load_workbook(tmp_path / "plan.xlsx")["Targets"]
    assert "dd.mm.yyyy" in {c.number_format for c in sheet[2]}


def test_an_unknown_format_is_refused(hostile, tmp_path):
    with pytest.raises(ValueError, match="docx"):
        write_reports(hostile, tmp_path, ["docx"])


def test_a_huge_table_is_summed_over_segments_without_losing_money(hostile, monkeypatch):
    targets = hostile.tables["targets"]
    monkeypatch.setattr(workbook, "MOST_ROWS", 100)
    by = workbook.over_segments(targets)
    assert len(by) == targets.groupby(["market_id", "period"]).ngroups
    assert by["revenue"].sum() == pytest.approx(targets["revenue"].sum())
    assert by["p_attain"].between(targets["p_attain"].min(), targets["p_attain"].max()).mean() > 0.9


def test_peer_groups_have_names_that_people_understand():
    rng = np.random.default_rng(4)
    names = ["share_under_35", "establishments_per_1000", "km_to_city", "density_per_sqmi"]
    centres = rng.normal(0, 1.5, (9, 4))
    features = centres.repeat(20, axis=0) + rng.normal(0, 0.1, (180, 4))
    groups = set(group_markets(pd.DataFrame(features, columns=names)).names())
    assert len(groups) > 2
    assert all(g.count(",") - g.count("1,000") <= 1 and len(g) < 70 for g in groups)
    said = " ".join(groups).lower()
    assert not re.search(r"share under(?! 35)|per_|_", said)
    clash = group_names(np.array([[1.0, 0.9], [1.01, 0.91], [1.02, 0.92], [1.03, 0.93]]), ["income", "age"])
    assert len(set(clash)) == 4


def test_a_probability_is_never_told_as_certain():
    assert [formats.odds(p) for p in (0, 0.004, 0.5, 0.999, 1.0, None)] == ["<1%", "<1%", "50%", ">99%", ">99%", "–"]


def test_cautions_are_few_ordered_and_said_once(hostile):
    extra = [("response", f"Response caution {i}.") for i in range(9)] + [("data", "The plan rests on little data.")]
    gap = hostile.number("targets", "gap")["text"]
    crowded = dataclasses.replace(hostile, warnings=(*hostile.warnings, *extra, ("targets", gap)))
    main, rest = cautions.cautions(crowded)
    touches = [t for t, _ in main]
    assert len(main) == cautions.MOST
    assert touches == sorted(touches, key=touches.index)  # what belongs together stands together
    assert set(touches) == {"What the money does", "How much room there is", "The data"}
    said = [text for _, text in main + rest]
    assert sorted(said) == sorted(text for _, text in crowded.warnings if text != gap)


def test_an_unsupported_order_by_potential_is_shown_nowhere_as_fact(tmp_path):
    plan = plan_of(tmp_path, n=24, stages=("value", "potential"), potential_signal="none")
    desk = Desk(plan)
    told = json.dumps(document(desk))
    assert '"Opportunity"' not in told
    assert "Quadrant" not in told
    assert "Hunt" not in told
    assert not {"concentration.svg", "room.svg", "plays.svg", "astray.svg"} & set(desk.pictures)
    assert not {"opportunity", "headroom", "play"} & set(payload(render(plan))["columns"])
    grey = workbook.unsupported(plan)
    assert {"opportunity", "quadrant", "play"} <= grey
    assert not {"customers", "clv"} & grey


def test_pictures_are_small_and_come_from_the_latest_run(tmp_path):
    world.build(tmp_path / ".work" / "run-a-x1", n=24)
    plan_of_work = assemble(Workspace(tmp_path / ".work" / "run-a-x1"), world.settings(tmp_path))
    plan_of_work.write(Workspace(tmp_path / ".work" / "run-a-x1"))
    with pytest.raises(StageError, match="no finished run"):
        pictures.plan_of_run(tmp_path, tmp_path / "plan.yml")
    path = pictures.cover(plan_of_work, tmp_path / "cover.png")
    with Image.open(path) as picture:
        assert picture.size[0] == pictures.COVER_PIXELS
        assert picture.mode == "P"
    assert path.stat().st_size < 150_000


def test_a_stages_sentence_reads_like_one():
    assert formats.prose("Due 2026-08-25: 4,433 USD.", "USD") == "Due 25 August 2026: $4.43k."
    assert formats.prose("Item 2026-13-99 and 4,433 EUR stay.", "USD") == "Item 2026-13-99 and 4,433 EUR stay."
    assert formats.rate_unit([0.0004, 0.003, None])[1] == "per 1,000"


def customers_of(folder: Path, **how) -> Plan:
    ws = world.build(folder, n=24, segmentation=world.derived(), **how)
    world.add_customers(ws, list(ws.read("markets")["market_id"]), channel="=HYPERLINK(1) <b>")
    return assemble(ws, world.settings(folder))


def test_leaders_read_what_customers_cost_and_how_well_value_was_foreseen(tmp_path):
    plan = customers_of(tmp_path)
    before = len(document(Desk(plan_of(tmp_path / "plain", n=24)))["sections"])
    desk = Desk(plan)
    data = document(desk)
    assert len(data["sections"]) == before, "one page stands for customers with and without these data"
    page = next(s for s in data["sections"] if s["kicker"] == "Customers")
    assert page["title"].endswith("of margin; winning one costs $100")
    tables = [b for b in page["blocks"] if b["kind"] == "table"]
    told = json.dumps(tables, ensure_ascii=False)
    assert "Defined as prepaid <b>." in told.replace("\u200b", "")
    assert "Rarest" not in told
    winning = tables[1]
    assert winning["title"].startswith("Winning customers through =HYPERLINK(1) <b> costs more than they bring")
    rows = {row[0].replace("\u200b", ""): row for row in winning["rows"]}
    assert rows["All money over all new customers"][3] == "$100"
    assert rows["Channels that spend, and their customers"][3] == "$160"
    assert rows["=HYPERLINK(1) <b>"][6:] == ["−$150", "not repaid"]
    assert rows["Referral"][3] == "no spend"
    assert rows["Radio"][1:4] == ["$100k", "0", "–"]
    assert "Of a new one" not in told, "nobody is won into a station"
    sure = json.dumps(next(s for s in data["sections"] if s["kicker"] == "How sure we are"), ensure_ascii=False)
    assert "Of months hidden from it the model foresaw 25% too few purchases" in sure
    assert "750 purchases predicted, 1,000 came" in sure
    assert "simplest that none clearly beat was taken: BG/NBD (the others: Pareto/NBD)" in sure
    assert "corrected for what the hidden months showed: Prepaid +20%." in sure
    assert compile_pdf(data, desk.pictures, plan.as_of).startswith(b"%PDF")


def test_the_workbook_holds_segments_and_cost_and_greys_what_no_order_supports(tmp_path):
    plan = customers_of(tmp_path, value_signal="none")
    with pytest.warns(UserWarning, match="extension"):
        book = openpyxl.load_workbook(write_workbook(plan, tmp_path / "plan.xlsx"))
    assert book.sheetnames[-3:] == ["Segments", "Winning customers", "Winning by market"]
    costs = book["Winning customers"]
    names = [costs.cell(r, 3).value for r in range(2, costs.max_row + 1)]
    assert names[:2] == ["company", "company"]
    assert "=HYPERLINK(1) <b>" in names
    assert costs.cell(2 + names.index("tiny"), 5).value is None, "few people"
    market = book["Winning by market"]
    head = [c.value for c in market[1]]
    colour = {
        h: market.cell(2, head.index(h) + 1).font.color.rgb
        for h in head
        if market.cell(2, head.index(h) + 1).font.color
    }
    grey = {h for h, c in colour.items() if str(c).endswith("A0A8B0")}
    assert grey == {"Value of a new customer", "Value over cost", "Repaid after, months"}
    assert {c.value for c in book["Segments"][1]} == {"Segment", "Who is in it", "Customers", "Value per customer"}


def test_without_an_order_by_value_no_market_is_shown_above_another(tmp_path):
    desk = Desk(customers_of(tmp_path, value_signal="none"))
    told = json.dumps(document(desk))
    assert "values.svg" not in desk.pictures
    assert "Value each" not in told
    assert "worth least" not in told
    assert "clv" not in payload(render(desk.plan))["columns"]
    assert {"clv", "new_customer_clv", "customer_equity"} <= workbook.unsupported(desk.plan)
