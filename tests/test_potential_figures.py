"""Pictures of potential: titles state the finding, nothing is drawn empty, and they cope with any company."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import geopandas as gpd
import nbformat
import numpy as np
import pandas as pd
import pytest
from report_world import HOSTILE, islands
from shapely.geometry import box
from test_notebooks import company, value_stage

from micromarket.report import potential_figures as charts
from micromarket.report import potential_map_figures as atlas_of
from micromarket.report import potential_trust_figures as trust
from micromarket.report import potential_views as views
from micromarket.report import style
from micromarket.report.atlas import Ground, biggest, ground
from micromarket.report.style import Picture
from micromarket.workspace import Workspace


def money(value: float) -> str:
    return f"${value:,.0f}"


def plain(value: float) -> str:
    return f"{value:.2f}"


def world(n: int, *, geometry: bool = True, hostile: bool = False) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Markets, scores and causes of ``n`` markets; the first holds most."""
    rng = np.random.default_rng(7)
    ids = [f"M{i:05d}" for i in range(n)]
    names = [f"Market {i}" for i in range(n)]
    if hostile:
        names[: len(HOSTILE)] = list(HOSTILE)[:n]
    markets = pd.DataFrame({"market_id": ids, "name": names, "region": [f"Region {i % 3}" for i in range(n)]})
    markets["addressable_customers"] = np.round(np.exp(rng.normal(9, 0.5, n)))
    if geometry:
        wide = int(np.ceil(np.sqrt(n)))
        shapes = (
            islands(n, rng) if n < 100 else [box(i % wide, i // wide, i % wide + 1, i // wide + 1) for i in range(n)]
        )
        scaled = gpd.GeoSeries(shapes).scale(0.2, 0.2, origin=(100, 0)) if n >= 100 else shapes
        markets = gpd.GeoDataFrame(markets, geometry=list(scaled), crs=4326)
    potential = markets["addressable_customers"].to_numpy() * 0.2
    headroom = potential * rng.uniform(0.1, 0.6, n)
    headroom[0] = headroom.sum()
    potential[0] = headroom[0] * 1.5
    scores = pd.DataFrame({"market_id": ids, "customers": np.round(potential - headroom), "headroom": headroom})
    scores["potential_customers"], scores["opportunity"] = potential, headroom * 100.0
    scores["headroom_low"], scores["headroom_high"] = headroom * 0.5, headroom * 1.6
    rank = scores["headroom"].rank(ascending=False)
    scores["top_fifth"] = 1 / (1 + np.exp((rank - n / 5) / (0.05 * n)))
    scores["play"], scores["quadrant"] = "Hunt", "Grow: high potential, low share"
    scores["cause"] = "low spend"
    causes = pd.concat(
        [
            pd.DataFrame({"market_id": ids, "cause": cause, "kind": kind, "customers": part * headroom})
            for cause, kind, part in (
                ("low spend", "fixable", 0.5), ("low rep coverage", "fixable", 0.2),
                ("strong rivals", "structural", 0.2), ("unexplained", "structural", 0.1),
            )
        ]
    )  # fmt: skip
    return markets, scores, causes.assign(value=causes["customers"] * 100.0)


def pictures(markets: pd.DataFrame, scores: pd.DataFrame, causes: pd.DataFrame) -> dict[str, Picture | None]:
    place, by = ground(markets), scores.set_index("market_id")
    share, standing = views.share_of(scores, markets), views.standing_of(scores, markets)
    odd = pd.Series(np.arange(len(by)) % 7 == 0, index=by.index)
    foreseen = pd.DataFrame(
        {"region": place.regions.to_numpy(), "actual": by["customers"].to_numpy(),
         "predicted": by["customers"].to_numpy() * 1.1 + 1, "size": markets["addressable_customers"].to_numpy()}
    )  # fmt: skip
    return {
        "money": atlas_of.money_over_share(place, by["opportunity"], share.values, share.unit, money, share.show),
        "bivariate": atlas_of.potential_and_share(
            place, by["potential_customers"], standing.values, by["headroom"], standing.unit
        ),
        "misplaced": atlas_of.misplaced_spend(place, by["customers"] * 3.0, by["opportunity"], money),
        "cause": atlas_of.largest_cause(place, views.largest_fixable(causes), by["opportunity"], money),
        "mask": atlas_of.reliability(place, share.values, share.unit, share.show, by["customers"] < 10, odd),
        "gap": charts.gap_by_cause(causes, float(by["customers"].sum()), money),
        "regions": charts.causes_by_region(causes, place.regions, money),
        "foreseen": trust.predicted_by_region(foreseen, 0.8, least=10),
        "ranks": trust.ranks(scores, place.names, money),
    }


NEUTRAL = {"#ffffff", "none", *(c.lower() for c in (style.INK, style.GREY, style.FAINT, style.LINE, style.LAND))}


def drawn(picture: Picture) -> int:
    """Shapes in a colour that stands for data, and pictures of maps: an empty frame has none."""
    found = 0
    for element in ET.fromstring(picture.svg).iter():
        kind = element.tag.rsplit("}", 1)[-1]
        colours = re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", element.get("style", ""))
        found += kind == "image" or (kind in ("path", "use") and bool(set(colours) - NEUTRAL))
    return found


@pytest.mark.parametrize(
    ("n", "geometry", "hostile"), [(20, True, True), (20, False, True), (2_100, True, False), (5_000, False, False)]
)
def test_every_picture_says_what_it_found_for_any_company(n: int, geometry: bool, hostile: bool) -> None:
    made = pictures(*world(n, geometry=geometry, hostile=hostile))
    for name, picture in made.items():
        assert picture is not None, name
        assert drawn(picture), f"{name} is empty"
        assert b"<script" not in picture.svg, name
        assert b"<b>" not in picture.svg, name
        assert len(picture.title) > 25, name
        assert picture.alt, name
        assert not re.search(r"\bnan\b|\binf\b", f"{picture.title} {picture.alt}".lower()), name
        assert len(picture.svg) < 900_000, f"{name}: a notebook of nine must stay small"


def test_equal_data_give_equal_bytes() -> None:
    first, again = (
        (
            atlas_of.misplaced_spend(
                ground(m), s.set_index("market_id")["customers"], s.set_index("market_id")["headroom"], money
            ),
            trust.ranks(s, m.set_index("market_id")["name"], money),
        )
        for m, s, _ in (world(20), world(20))
    )
    assert first == again


def test_an_empty_frame_would_be_seen() -> None:
    with style.canvas(30) as figure:
        figure.add_subplot().set_title("Nothing here")
        assert not drawn(Picture("x", "", "", style.to_svg(figure)))


def test_titles_hold_the_figures_that_were_put_in() -> None:
    markets, scores, causes = world(20, geometry=False)
    made = pictures(markets, scores, causes)
    titles = {name: picture.title for name, picture in made.items() if picture is not None}
    top = scores["opportunity"].nlargest(4).sum() / scores["opportunity"].sum()
    assert (
        f"{money(scores['opportunity'].sum())} still to be won, {top:.0%} of it in 4 of 20 markets" in titles["money"]
    )
    assert "Market 0" in titles["money"], "the largest is named"
    assert titles["cause"].startswith("Low spend is the largest fixable cause in 20 of 20 markets")
    assert titles["gap"].startswith("70% of the gap to potential can be mended")
    assert titles["gap"].endswith("above all low spend")
    assert "rank correlation 0.80" in titles["foreseen"]
    odd = scores["market_id"].str[-1:].astype(int) % 7 == 0
    assert titles["mask"].startswith("Read ")
    assert odd.any()
    sure = int((scores.nlargest(4, "headroom")["top_fifth"] >= 0.8).sum())
    assert f"{sure} of the 4 markets with most headroom" in titles["ranks"]


def test_misplaced_spend_is_the_share_that_would_have_to_move() -> None:
    place = Ground(pd.Series({"a": "Alpha", "b": "Beta", "c": "Gamma"}), pd.Series(dtype=object))
    spend = pd.Series({"a": 60.0, "b": 20.0, "c": 20.0})
    room = pd.Series({"a": 20.0, "b": 60.0, "c": 20.0})
    picture = atlas_of.misplaced_spend(place, spend, room, money)
    assert picture is not None
    assert picture.title.startswith("40% of the spend ($40) is where the opportunity isn't")
    assert "most too much in Alpha, most too little in Beta" in picture.title
    even = atlas_of.misplaced_spend(place, room, room, money)
    assert even is not None
    assert even.title.startswith("Spend follows the opportunity")
    assert atlas_of.misplaced_spend(place, spend * 0, room, money) is None, "nothing spent"
    assert atlas_of.misplaced_spend(place, spend, -room, money) is None, "nothing to be won"


def test_what_nobody_knows_is_not_drawn() -> None:
    markets, scores, causes = world(20)
    place, by = ground(markets), scores.set_index("market_id")
    unknown = causes[causes["cause"] == "unexplained"]
    none = views.largest_fixable(unknown)
    assert none.isna().all()
    assert atlas_of.largest_cause(place, none, by["opportunity"], money) is None
    gap = charts.gap_by_cause(unknown, 100.0, money)
    assert gap is not None
    assert "no cause is known that the company can mend" in gap.title
    assert charts.gap_by_cause(causes.assign(customers=0.0), 100.0, money) is None
    assert charts.causes_by_region(causes, place.regions.map(lambda _: "One"), money) is None
    assert trust.ranks(scores.drop(columns="top_fifth"), place.names, money) is None
    assert trust.predicted_by_region(pd.DataFrame({"predicted": [1.0], "actual": [1.0]})) is None
    unsupported = trust.ranks(scores, place.names, money, supported=False)
    assert unsupported is not None
    assert "support no order" in unsupported.title


def test_a_note_of_the_field_stands_by_itself_in_the_gap() -> None:
    _, _, causes = world(20)
    blocked = causes["market_id"].isin(["M00001", "M00002"])
    causes["kind"] = causes["kind"].where(~blocked, "structural")
    picture = charts.gap_by_cause(causes, 100.0, money)
    assert picture is not None
    assert b"Blocked by the field" in picture.svg
    assert picture.svg.count(b"Low spend") == 1


def test_places_are_needed_of_half_the_markets_and_names_stand_apart() -> None:
    markets, scores, _ = world(20)
    place = ground(markets)
    assert place.shapes is not None
    assert place.outlines is not None
    assert len(place.outlines) == 3
    values = scores.set_index("market_id")["headroom"]
    named = biggest(place, values, 4)
    assert named[0] == "M00000"
    assert len(named) == len(set(named)) <= 4
    markets.loc[markets.index[:12], "geometry"] = None
    assert ground(markets).shapes is None, "a map of a third of the markets would mislead"


def test_share_is_read_from_what_is_expected_of_the_best_size_known() -> None:
    scores = pd.DataFrame({"market_id": ["a", "b"], "potential_customers": [100.0, 50.0], "headroom": [40.0, 50.0]})
    markets = pd.DataFrame(
        {"market_id": ["b", "a"], "addressable_customers": [500, 600], "market_customers": [100, 120]}
    )
    known = views.share_of(scores, markets)
    assert known.values.to_dict() == {"a": 0.5, "b": 0.0}
    assert known.unit == "Our share of those who buy"
    assert views.standing_of(scores, markets).values.to_dict() == known.values.to_dict()
    people = markets.drop(columns="market_customers")
    assert views.share_of(scores, people).values["a"] == pytest.approx(0.1)
    assert views.standing_of(scores, people).values["a"] == pytest.approx(0.6), (
        "of the potential: penetration follows it"
    )
    assert views.share_of(scores, people[["market_id"]]).values.to_dict() == {"a": 0.6, "b": 0.0}


def test_tables_hide_few_customers_and_name_the_largest_first() -> None:
    markets, scores, _ = world(20)
    scores.loc[scores["market_id"] == "M00000", "customers"] = 4
    table = views.largest_opportunities(scores, markets, money, 10)
    assert table.index[0] == "Market 0"
    assert table["customers"].iloc[0] == "–"
    assert len(table) == 10
    plays = views.plays_table(scores.assign(play=["A"] + ["B"] * 19), money, 10)
    assert plays.index.tolist() == ["A", "B"], "most money first"
    assert plays.loc["A", "customers"] == "–"


def test_the_notebook_tells_its_story_where_hardly_a_table_is_there(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = company("summary", tmp_path / "company")
    value_stage(plan, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in nbformat.read(repo / "notebooks" / "03_potential.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "03_potential", "exec"), names)  # noqa: S102
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"plan": "company/plan.yml", "run_dir": "run"}
    assert Workspace(tmp_path / "run").read("scores")["potential_customers"].notna().all()
