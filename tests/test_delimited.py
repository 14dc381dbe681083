"""Files as spreadsheets and other tools really write them: read alike, or refused with the place and the remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from tiny import SPEND, write_tiny

from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.load import open_dataset

SAME = {
    "BOM and semicolons": b"\xef\xbb\xbf" + SPEND.replace(",", ";").encode(),
    "Windows line ends": SPEND.replace("\n", "\r\n").encode(),
    "old Mac line ends": SPEND.replace("\n", "\r").encode(),
    "mixed line ends": SPEND.replace("\n", "\r\n", 2).encode(),
    "tabs": SPEND.replace(",", "\t").encode(),
    "blank records": (SPEND + "\n,,,\n\n").encode(),
    "blanks round values": SPEND.replace(",", " , ").encode(),
    "quoted": SPEND.replace("Outdoor", '"Outdoor"').encode(),
    "no last line end": SPEND.rstrip("\n").encode(),
    "time zones": SPEND.replace("2026-06-08", "2026-06-08T00:00:00+00:00").encode(),
    "compressed": gzip.compress(SPEND.encode()),
}
REFUSED = {
    "latin-1": (SPEND.replace("Outdoor", "Außen").encode("latin-1"), r"spend.csv, row 3: .*UTF-8"),
    "UTF-16": (SPEND.encode("utf-16"), "spend.csv: found UTF-16; expected text in UTF-8"),
    "torn record": ((SPEND + "02,2026-06-22\n").encode(), "row 4: found 2 values; expected 4 values"),
    "further values": ((SPEND + "02,2026-06-22,a,3,5\n").encode(), "row 4: found 5 values; expected 4 values"),
    "open quote": (SPEND.replace("Outdoor", '"Outdoor').encode(), r"row 3: expected quotes"),
    "a column twice": (SPEND.replace("channel,", "amount,").encode(), "column amount: found it twice"),
    "nothing said": (SPEND.replace("12.5", "NA").encode(), "column amount, row 2: found 'NA'; .*not nothing"),
    "currency": (SPEND.replace("12.5", "$12.5").encode(), r"column amount, row 2: found '\$12.5'"),
    "American date": (SPEND.replace("2026-06-08", "06/08/2026").encode(), "column period, row 1: .*YYYY-MM-DD"),
}


def spend_of(plan: Path) -> pd.DataFrame:
    with open_dataset(read_settings(plan)) as dataset:
        return dataset.table("spend").to_pandas()


@pytest.mark.parametrize("kind", SAME)
def test_every_dialect_gives_the_same_table(kind: str, tmp_path: Path) -> None:
    plan = write_tiny(tmp_path / "a folder, ünïcode 北京")
    expected = spend_of(plan)
    name = "spend.csv.gz" if kind == "compressed" else "spend.csv"
    (plan.parent / name).write_bytes(SAME[kind])
    plan.write_text(plan.read_text(encoding="utf-8").replace("spend.csv", name), encoding="utf-8")
    pd.testing.assert_frame_equal(spend_of(plan), expected)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_named(kind: str, tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    content, words = REFUSED[kind]
    (tmp_path / "spend.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        spend_of(plan)


def test_the_day_of_a_timestamp_is_the_local_one(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    expected = spend_of(plan)
    frame = pd.read_csv(tmp_path / "spend.csv", dtype={"market_id": str})
    frame["period"] = pd.to_datetime(frame["period"]).dt.tz_localize("Asia/Bangkok")
    frame.to_parquet(tmp_path / "spend.parquet")
    plan.write_text(plan.read_text().replace("spend.csv", "spend.parquet"))
    pd.testing.assert_frame_equal(spend_of(plan), expected)


def test_words_for_nothing_do_not_cost_a_feature(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    rows = "".join(f"0{i},Town {i},{1000 * i},{'NA' if i == 2 else 20 + i},{i}\n" for i in range(1, 5))
    (tmp_path / "markets.csv").write_text("market_id,name,addressable_customers,income,code\n" + rows)
    plan.write_text(plan.read_text().replace("markets.geojson", "markets.csv"))
    with open_dataset(read_settings(plan)) as dataset:
        assert dataset.features == ("income", "code")
        assert dataset.markets["income"].isna().tolist() == [False, True, False, False]
