"""Ten kinds of broken input through the command line: exit 2, the place is named, no folder is left under ``--out``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_tiny

from micromarket import cli


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def overwrite(file: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert (folder / file).exists()
        (folder / file).write_bytes(content)

    return change


def without_crs(folder: Path) -> None:
    """Metres in a file that says degrees."""
    collection = json.loads((folder / "markets.geojson").read_text())
    for feature in collection["features"]:
        ring = feature["geometry"]["coordinates"][0]
        feature["geometry"]["coordinates"] = [[[x * 5e3, y * 4e5] for x, y in ring]]
    (folder / "markets.geojson").write_text(json.dumps(collection))


def unknown_crs(folder: Path) -> None:
    collection = json.loads((folder / "markets.geojson").read_text())
    collection["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::999999"}}
    (folder / "markets.geojson").write_text(json.dumps(collection))


def binary_table(folder: Path) -> None:
    (folder / "spend.parquet").write_bytes(b"PAR1 this is not a table PAR1")
    replace("plan.yml", "spend.csv", "spend.parquet")(folder)


# kind: (what is done to the tiny company, words that the message must hold)
KINDS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "missing column": (
        replace("subscriptions.csv", "monthly_value", "monthly_valu"),
        ("subscriptions.csv, column monthly_value", "did you mean monthly_valu?"),
    ),
    "wrong type": (
        replace("subscriptions.csv", ",100", ",a hundred"),
        ("subscriptions.csv, column monthly_value, row 3", "'a hundred'", "expected a number"),
    ),
    "unknown market": (
        replace("spend.csv", "02,", "77,"),
        ("spend.csv, column market_id, row 3", "'77'", "of the table markets"),
    ),
    "duplicate id": (
        replace("customers.csv", "008,", "007,"),
        ("customers.csv, column customer_id, row 2", "'007'", "one row for each"),
    ),
    "negative population": (
        replace("markets.geojson", "2000,", "-2000,"),
        ("markets.geojson, column addressable_customers, row 2", "-2000", "at least 0"),
    ),
    "dates after as_of": (
        replace("customers.csv", "2026-06-10", "2026-07-10"),
        ("customers.csv, column acquired_on, row 4", "2026-07-10", "on or before as_of (2026-06-30)"),
    ),
    "empty file": (overwrite("spend.csv", b""), ("spend.csv", "an empty file", "at least one row")),
    "header only": (overwrite("spend.csv", b"market_id,period,channel,amount\n"), ("spend.csv", "at least one row")),
    "bad CRS: metres": (without_crs, ("markets.geojson, column geometry, row 1", "degrees", "EPSG:4326")),
    "bad CRS: unknown": (unknown_crs, ("markets.geojson", "coordinate reference system")),
    "unknown key": (replace("plan.yml", "margin_rate", "marginrate"), ("economics.marginrate", "margin_rate")),
    "unreadable file: binary": (binary_table, ("spend.parquet", "readable")),
    "unreadable file: not JSON": (overwrite("markets.geojson", b"\x00\x01 nothing"), ("markets.geojson", "readable")),
    "unreadable file: a folder": (
        replace("plan.yml", "spend.csv", "."),
        ("a folder without any", "a file, or a folder of Parquet files"),
    ),
    "unreadable file: encoding": (
        overwrite("spend.csv", "market_id,period,channel,amount\n01,2026-06-08,Außen,1\n".encode("latin-1")),
        ("spend.csv, row 1", "UTF-8"),
    ),
    "unreadable file: torn line": (
        replace("spend.csv", "02,2026-06-15,Outdoor,40", "02,2026-06-15"),
        ("spend.csv, row 3", "2 values", "4 values"),
    ),
    "a column twice": (replace("spend.csv", "channel,amount", "amount,amount"), ("column amount", "once")),
    "thousands separator": (replace("spend.csv", ",40", ',"1,040"'), ("column amount, row 3", "no thousands")),
    "decimal comma": (replace("spend.csv", ",40", ',"40,5"'), ("column amount, row 3", "a decimal point")),
    "no such file": (replace("plan.yml", "spend.csv", "spnd.csv"), ("spnd.csv", "nothing there", "existing file")),
    "no YAML": (overwrite("plan.yml", b"company: {name: [\n"), ("plan.yml, row",)),
    "YAML with tabs": (overwrite("plan.yml", b"company:\n\tname: X\n"), ("plan.yml, row 2",)),
    "YAML, a key twice": (replace("plan.yml", "as_of:", "as_of: 2026-06-29\nas_of:"), ("as_of", "once")),
    "YAML, only a text": (overwrite("plan.yml", b"hello\n"), ("plan.yml", "a mapping of keys")),
    "YAML, nothing": (overwrite("plan.yml", b""), ("plan.yml", "a mapping of keys")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_broken_input_exits_2_and_leaves_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_refused(*_: object) -> None:
        raise AssertionError("the input was taken")

    monkeypatch.setattr("micromarket.runner.execution.execute_notebook", not_refused)
    plan = write_tiny(tmp_path / "company")
    change, words = KINDS[kind]
    change(plan.parent)
    out = tmp_path / "out"
    status = cli.main(["run", str(plan), "--out", str(out)])
    said, err = capsys.readouterr()
    assert status == 2, err
    assert said == ""
    for word in words:
        assert word in err
    assert "Traceback" not in err
    assert "Error" not in err, "a parser's own words are no help"
    assert not out.exists()
    assert cli.main(["check", str(plan)]) == 2
    assert capsys.readouterr().err == err
