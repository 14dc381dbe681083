"""Quadrants and the library of plays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micromarket.errors import InputError
from micromarket.potential.causes import CAUSES
from micromarket.potential.objective import OBJECTIVES
from micromarket.potential.plays import choose_plays, play_library, unknown_groups
from micromarket.potential.quadrants import QUADRANTS, border, quadrants, standing
from micromarket.starter import starter_files


def play_of(library, quadrant="grow", cause="unexplained", peer_group="Large", objective="acquire", blocked=False):
    market = {"quadrant": [quadrant], "cause": [cause], "peer_group": [peer_group], "objective": [objective]}
    return choose_plays(market, library, [blocked])[0]


def test_our_library_has_a_play_for_everything():
    library = play_library()
    every = [(q, c, o, b) for q in QUADRANTS for c in CAUSES for o in OBJECTIVES for b in (False, True)]
    by = {(q, c, o, b): play_of(library, q, c, objective=o, blocked=b) for q, c, o, b in every}
    assert by["grow", "low rep coverage", "acquire", False] == "Hunt: add sales coverage"
    assert by["defend", "low spend", "acquire", False] == "Farm and defend"
    assert by["grow", "low spend", "retain", False] == "Keep: save customers at risk"
    assert by["grow", "low spend", "acquire", True].startswith("Wait")
    assert set(by.values()) == set(library)
    assert all(p.what.endswith(".") and p.who and p.measure for p in library.values())


def written(tmp_path, *rows: str):
    file = tmp_path / "plays.yml"
    file.write_text("plays:\n" + "".join(f"  - {{what: do it, who: me, measure: it, {r}}}\n" for r in rows))
    return file


def test_the_most_decisive_key_wins_then_the_order_of_the_file(tmp_path):
    library = play_library(written(
        tmp_path, "title: any", "title: later", "title: q, quadrant: grow", "title: c, cause: low spend",
        "title: o, objective: deepen", "title: g, peer_group: Large", "title: gq, peer_group: Large, quadrant: fix",
    ))  # fmt: skip
    small = {"peer_group": "Small"}
    assert play_of(library, "defend", **small) == "any"
    assert play_of(library, "grow", **small) == "q"
    assert play_of(library, "grow", "low spend", **small) == "c"
    assert play_of(library, "grow", "low spend", objective="deepen", **small) == "o"
    assert play_of(library, "grow", "low spend", objective="deepen") == "g"
    assert play_of(library, "fix") == "gq"
    assert play_of(library, "grow", "low spend", blocked=True, **small) == "q"  # no play for that cause is started
    assert unknown_groups(library, ["Small"]) == ["Large"]


def test_users_edit_the_library_and_hear_of_every_mistake(tmp_path):
    file = tmp_path / "plays.yml"
    file.write_text(
        "plays:\n  - {title: A, quadrant: growth, wat: x, who: me, measure: it}\n  - 3\n"
        "  - {title: B, what: x, who: y, measure: z, objective: retention, cause: 7, peer_group: []}\nplay: []\n"
    )
    with pytest.raises(InputError) as error:
        play_library(file)
    said = str(error.value)
    for words in ("did you mean grow?", "wat", "row 2", "did you mean retain?", "column cause", "column peer_group",
                  "column what", "did you mean plays?"):  # fmt: skip
        assert words in said, words
    with pytest.raises(InputError, match=r"maintain.*without cause"):
        play_library(written(tmp_path, *(f"title: {q}, quadrant: {q}" for q in ("grow", "defend", "fix"))))
    with pytest.raises(InputError, match="title of its own"):
        play_library(written(tmp_path, "title: A", "title: A"))


def test_the_starter_holds_the_library_with_comments(tmp_path):
    text = starter_files()["plays.yml"]
    (tmp_path / "plays.yml").write_text(text, encoding="utf-8")
    assert play_library(tmp_path / "plays.yml") == play_library()
    assert all(f"#   {key} " in text for key in ("peer_group", "objective", "cause", "quadrant"))


def sides(potential, served, sd=0.1, **how):
    n = len(potential)
    return quadrants(np.array(potential, float), np.array(served, float), np.full(n, sd), np.full(n, sd), **how)


def test_quadrants_say_how_sure_they_are():
    names, odds = sides([10, 10, 1, 1], [0.1, 0.9, 0.1, 0.9])
    assert names == ["grow", "defend", "fix", "maintain"]
    assert (odds > 0.99).all()
    names, odds = sides([10, 5.1, 4.9, 1], [1, 1.1, 1, 1.1], sd=0.3)
    assert names == ["grow", "defend", "fix", "maintain"]
    assert (odds < 0.7).all()
    assert odds[1] < odds[0]
    rng = np.random.default_rng(0)  # the odds are right: truths drawn around what is seen
    seen = rng.normal(0, 1, (2, 4000))
    names, odds = sides(np.exp(seen[0]), np.exp(seen[1]), sd=0.5)
    true = seen + rng.normal(0, 0.5, seen.shape)
    middle = np.log([border(np.exp(s)) for s in seen])
    kept = np.array(names) == np.array([["fix", "maintain"], ["grow", "defend"]])[
        (true[0] > middle[0]).astype(int), (true[1] > middle[1]).astype(int)]  # fmt: skip
    assert kept.mean() == pytest.approx(odds.mean(), abs=0.02)


def test_ties_stand_together_and_markets_all_alike_are_not_torn_apart():
    # half of the markets hold nobody: they are the low half, none of them "high" for being equal to the median
    names, _ = sides([5, 5, 5, 5, 5, 5, 9, 9], [0, 0, 0, 0, 0.2, 0.3, 0.1, 0.3])
    assert names == ["fix", "fix", "fix", "fix", "maintain", "maintain", "defend", "defend"]
    assert set(sides([3, 3, 3], [0.2, 0.2, 0.2])[0]) == {"grow"}
    assert set(sides([3, 3, 3], [0.9, 0.9, 0.9], well=True)[0]) == {"defend"}
    np.testing.assert_allclose(sides([3, 3, 3], [0.2, 0.2, 0.2])[1], 1)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_no_cut_between_ties_halves_better(values):
    v = np.array(values, float)
    cut = border(v)
    assert not (v == cut).any()
    off = abs(2 * (v > cut).sum() - len(v))
    assert off <= min(abs(2 * (v > c).sum() - len(v)) for c in np.unique(v)[:-1])


def test_unknown_shares_are_compared_by_what_is_reached():
    served = standing(np.array([0.1, 0.2, 0.3, np.nan, np.nan]), np.array([0.9, 0.9, 0.9, 0.4, 0.8]))
    np.testing.assert_allclose(served, [0.5, 1, 1.5, 2 / 3, 4 / 3])
