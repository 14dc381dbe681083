"""Hostile input: nothing from data is run, rendered as markup, or steers a file's name; no secret is written down."""

from __future__ import annotations

import html
import os
import re
import stat
import time
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import CUSTOMERS, SPEND, write_tiny

from micromarket import cli
from micromarket.config import read_settings
from micromarket.errors import InputError, did_you_mean, printable
from micromarket.exports import plain_text, write_table
from micromarket.formats import prose
from micromarket.load import open_dataset
from micromarket.notebook import show_notes
from micromarket.notes import Notes
from micromarket.runner.store import slug

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "+1+1",
    "-2+3",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u200b=1+1",
    "\ufeff=1+1",
    '=HYPERLINK("http://x","y")',
    '=IMPORTXML("http://x","//a")',
    "＝1+1",
    "＠SUM(1)",
    "\x00=1+1",
    "\u202e=1+1",
)
MARKUP = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "{{7*7}}",
    "{% x %}",
    '#read("/etc/passwd")',
    '#import "x"',
    "#eval(1)",
    "$\\frac{1}{0}$",
    "`raw`",
    "\\u{41}",
    "]]>",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "'; drop table markets; --",
    'a"; drop table markets; --',
)
PATHS = (
    "../../etc/passwd",
    "..\\..\\x",
    "/etc/passwd",
    "CON",
    "NUL",
    "a/b",
    "x\0y",
    "...",
    ".",
    "",
    " ",
    "a" * 300,
    "é" * 300,
    "\u202egpj.exe",
    "name.",
    "-rf",
    "~root",
    "$HOME",
    "`id`",
    "a\nb",
    "C:\\x",
    "//server/share",
    "🛒",
    "北京",
)
SECRET = "s3cret-hunter2-Zx9"


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_reads_texts_as_texts(text: str, tmp_path: Path) -> None:
    assert plain_text(text).startswith("'")
    table = pd.DataFrame({"Market": [text], "Value": [1.0]})
    first = write_table(table, tmp_path / "out.csv").read_bytes().decode("utf-8-sig").splitlines()[1]
    assert first.lstrip('"').startswith("'")
    sheet = openpyxl.load_workbook(write_table(table, tmp_path / "out.xlsx")).active
    assert sheet["A2"].data_type in ("s", "n", "inlineStr")
    assert "<f>" not in zipfile.ZipFile(tmp_path / "out.xlsx").read("xl/worksheets/sheet1.xml").decode()


@pytest.mark.parametrize("text", PATHS)
def test_no_name_steers_a_path(text: str) -> None:
    name = slug(text)
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", name)
    assert len(name) <= 40


def test_notes_in_a_notebook_are_escaped() -> None:
    shown = show_notes("data", Notes(warnings=MARKUP))._repr_html_()
    for text in MARKUP:
        assert html.escape(text) in shown
        assert html.escape(text) == text or text not in shown


def test_hostile_column_and_market_names_are_only_names(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    names = [m.replace(",", " ") for m in MARKUP]
    head = ",".join('"' + n.replace('"', '""') + '"' for n in names)
    rows = "".join(f'0{i},"{MARKUP[i].replace(chr(34), chr(34) * 2)}",{1000 * i},{",".join([str(i)] * len(names))}\n'
                   for i in range(1, 5))  # fmt: skip
    (tmp_path / "markets.csv").write_text(f"market_id,name,addressable_customers,{head}\n{rows}", encoding="utf-8")
    plan.write_text(plan.read_text().replace("markets.geojson", "markets.csv"))
    with open_dataset(read_settings(plan)) as dataset:
        assert set(names) == set(dataset.features)
        assert dataset.markets["name"].tolist() == list(MARKUP[1:5])
        assert dataset.rows["markets"] == 4


def test_hostile_ids_stay_ids(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    for text in ("'; drop table customers; --", 'a"b {} %s'):
        quoted = '"' + text.replace('"', '""') + '"'
        (tmp_path / "customers.csv").write_text(CUSTOMERS.replace("008,01", f"{quoted},01"), encoding="utf-8")
        with pytest.raises(InputError, match=r"subscriptions.csv, column customer_id, row 2: found '008'"):
            open_dataset(read_settings(plan))


def test_a_terminal_shows_characters_and_obeys_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = write_tiny(tmp_path)
    (tmp_path / "spend.csv").write_text(
        SPEND.replace("channel,amount", "cha\x1b[2Jnnel,am\u202eount"), encoding="utf-8"
    )
    assert cli.main(["check", str(plan)]) == 2
    (tmp_path / "spend.csv").write_text(SPEND.replace("12.5", "\x1b]0;owned\x07\u202e12"), encoding="utf-8")
    assert cli.main(["check", str(plan)]) == 2
    said = capsys.readouterr().err
    assert all(c.isprintable() or c == "\n" for c in said)
    assert printable("\x1b[31m\u202e\u200b") == "�[31m��"
    many = did_you_mean("x", [f"column {i}\x1b" * 50 for i in range(10_000)])
    assert len(many) < 10_000
    assert "\x1b" not in many


def test_names_lose_what_turns_or_hides_them(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    text = (tmp_path / "markets.geojson").read_text().replace("Town 1", "To\\u202ewn\\u200b\\n 1")
    (tmp_path / "markets.geojson").write_text(text)
    with open_dataset(read_settings(plan)) as dataset:
        assert dataset.markets["name"].iloc[0] == "Town 1"


def test_long_strings_take_no_time() -> None:
    began = time.monotonic()
    for text in ("1," * 50_000, "9" * 100_000, "1." * 50_000, "2026-01-0" * 20_000, "(" * 100_000, " " * 100_000):
        prose(text, "USD")
        slug(text)
        plain_text(text)
    assert time.monotonic() - began < 5


def refused(plan: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(read_settings(plan))
    return str(caught.value)


def test_bombs_are_refused(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE l [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ) + "]><kml>&i;</kml>"  # fmt: skip
    plan = write_tiny(tmp_path)
    for suffix in (".kml", ".svg"):
        (tmp_path / f"m{suffix}").write_text(laughs)
        plan.write_text(plan.read_text().replace("markets.geojson", f"m{suffix}"))
        assert "expected one of" in refused(plan)
        plan.write_text(plan.read_text().replace(f"m{suffix}", "markets.geojson"))
    (tmp_path / "markets.geojson").write_text(laughs)  # by another name
    assert "markets.geojson" in refused(plan)
    (tmp_path / "markets.geojson").write_text("[" * 200_000)
    assert "markets.geojson" in refused(plan)


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = write_tiny(tmp_path)
    pd.read_csv(tmp_path / "spend.csv", dtype=str).to_excel(tmp_path / "spend.xlsx", index=False)
    plan.write_text(plan.read_text().replace("spend.csv", "spend.xlsx"))
    monkeypatch.setattr("micromarket.spreadsheets._MOST_UNPACKED", 1 << 20)
    assert len(_spend(plan)) == 3
    with zipfile.ZipFile(tmp_path / "spend.xlsx", "a", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/filler.xml", bytes(2 << 20))
    said = refused(plan)
    assert "spend.xlsx" in said
    assert "unpacks" in said


def test_metadata_of_parquet_is_not_believed(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    expected = _spend(plan)
    table = pa.Table.from_pandas(pd.read_csv(tmp_path / "spend.csv", dtype=str), preserve_index=False)
    for kind, metadata in enumerate(({b"pandas": b"{not json"}, {b"pandas": b'{"index_columns": ["amount"]}'},
                                     {b"x": b"\xff" * 100_000})):  # fmt: skip
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "spend.parquet")
        plan.write_text(plan.read_text().replace("spend.csv", "spend.parquet"))
        pd.testing.assert_frame_equal(_spend(plan), expected, obj=str(kind))
    for metadata in ({b"geo": b"__import__('os')"}, {b"ARROW:schema": b"AAAA"}):
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "spend.parquet")
        assert "spend.parquet" in refused(plan)


def _spend(plan: Path) -> pd.DataFrame:
    with open_dataset(read_settings(plan)) as dataset:
        return dataset.table("spend").to_pandas()


def test_yaml_runs_nothing(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    owned = tmp_path / "owned"
    for tag in (
        f"!!python/object/apply:os.system ['touch {owned}']",
        f"!!python/object/new:os.system ['touch {owned}']",
        f"!!python/object/apply:subprocess.Popen [[touch, {owned}]]",
        "!!python/module:antigravity",
    ):
        text = plan.read_text()
        plan.write_text(f"seed: {tag}\n{text}")
        with pytest.raises(InputError, match=r"plan.yml, row 1"):
            read_settings(plan)
        plan.write_text(text)
    assert not owned.exists()


@pytest.mark.parametrize("url", ["postgres://someone:{}@localhost:1/none", "sqlite:////nowhere/{}/x.db", "{}://x",
                                 "mysql://a:{}@127.0.0.1:1/b", "duckdb:///nowhere/{}.db"])  # fmt: skip
def test_no_secret_of_a_connection_is_said(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write_tiny(tmp_path)
    monkeypatch.setenv("DB_URL", url.format(SECRET))
    source = "{connection: '${DB_URL}', sql: 'select market_id, period, channel, amount from spend'}"
    plan.write_text(plan.read_text().replace("spend.csv", source))
    assert cli.main(["--debug", "check", str(plan)]) == 2
    said = capsys.readouterr()
    assert "Traceback" in said.err, "with all that a traceback tells"
    assert SECRET not in said.out + said.err
    assert not any(SECRET in p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.mutations  # takes kernels
def test_a_working_connection_leaves_no_trace_of_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    plan = write_tiny(tmp_path / "company")
    (tmp_path / SECRET).mkdir()
    with sqlite3.connect(tmp_path / SECRET / "c.db") as db:
        pd.read_csv(plan.parent / "spend.csv", dtype={"market_id": str}).to_sql("spend", db, index=False)
    monkeypatch.setenv("DB_URL", f"sqlite:///{tmp_path / SECRET / 'c.db'}")
    source = "{connection: '${DB_URL}', sql: 'select * from spend'}"
    plan.write_text(plan.read_text().replace("spend.csv", source))
    old = os.umask(0o027)
    try:
        assert cli.main(["run", str(plan), "--out", str(tmp_path / "out"), "--until", "data"]) == 0
    finally:
        os.umask(old)
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(written) >= 2
    assert not [p.name for p in written if SECRET.encode() in p.read_bytes()]
    run = Path(said.out.strip().splitlines()[-1])
    assert stat.S_IMODE(run.stat().st_mode) & 0o007 == 0, "the umask counts"
    assert stat.S_IMODE((tmp_path / "out" / ".work").stat().st_mode) & 0o007 == 0
    folders = [path for path in (tmp_path / "out" / ".work").iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "what stages leave beside the plan is the owner's"


def test_swapped_coordinates_are_named(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    text = (tmp_path / "markets.geojson").read_text()
    (tmp_path / "markets.geojson").write_text(re.sub(r"\[10([012]), ", r"[3\1, ", text))  # in range both ways
    places = {"01": ("30.5", "10.5"), "02": ("31.5", "10.5"), "03": ("30.5", "11.5"), "04": ("31.5", "11.5")}
    customers = pd.read_csv(tmp_path / "customers.csv", dtype=str)
    at = customers["market_id"].map(places)
    customers["latitude"], customers["longitude"] = at.str[0], at.str[1]
    customers.drop(columns="market_id").to_csv(tmp_path / "customers.csv", index=False)
    assert "the other way round" in refused(plan)
