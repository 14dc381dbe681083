"""Peer groups, quadrants, causes and the library of plays."""

from __future__ import annotations

import numpy as np
import pytest

from micromarket.errors import InputError
from micromarket.potential.plays import (
    CAUSES,
    ONE_GROUP,
    QUADRANTS,
    causes,
    choose_plays,
    peer_groups,
    play_library,
    quadrants,
)


def test_our_library_has_a_play_for_everything():
    library = play_library()
    every = [(q, c) for q in QUADRANTS for c in CAUSES]
    chosen = choose_plays([q for q, _ in every], [c for _, c in every], library)
    by = dict(zip(every, chosen, strict=True))
    assert by["grow", "low rep coverage"] == "Hunt: add sales coverage"
    assert by["defend", "low spend"] == by["defend", "unexplained"] == "Farm and defend"
    assert set(chosen) == set(library)
    assert all(p.what.endswith(".") and p.who and p.measure for p in library.values())


def test_users_edit_the_library_and_hear_of_every_mistake(tmp_path):
    file = tmp_path / "plays.yml"
    entry = "{title: T%s, quadrant: %s, what: do it, who: me, measure: it}"
    rows = [entry % (i, q) for i, q in enumerate(QUADRANTS)]
    file.write_text("plays:\n" + "".join(f"  - {r}\n" for r in rows))
    assert choose_plays(["fix"], ["low spend"], play_library(file)) == ["T2"]
    file.write_text("plays:\n  - {title: A, quadrant: growth, wat: x, who: me, measure: it}\n  - 3\n")
    with pytest.raises(InputError) as error:
        play_library(file)
    said = str(error.value)
    assert "did you mean grow?" in said
    assert "wat" in said
    assert "row 2" in said
    file.write_text("plays:\n" + "".join(f"  - {r}\n" for r in rows[:3]))
    with pytest.raises(InputError, match="maintain"):
        play_library(file)


def test_quadrants_and_causes():
    potential, share = np.array([10.0, 10, 1, 1]), np.array([0.1, 0.9, 0.1, 0.9])
    assert quadrants(potential, share) == ["grow", "defend", "fix", "maintain"]
    assert quadrants(potential, np.full(4, np.nan)) == ["grow", "grow", "fix", "fix"]
    parts = np.array([[0.6, 0.2, 0.2], [0.1, 0.7, 0.2], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    rivals = np.array([True, False, True, False])
    wanted = ["low rep coverage", "low spend", "strong rivals", "unexplained"]
    assert causes(parts, ("reps", "spend"), rivals) == wanted


def test_peer_groups_find_what_markets_are_and_say_it_in_words():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 60)
    centres = np.array([[2.0, 1.0], [-1.0, 1.5], [-1.0, -2.0]])
    features = centres[kind] + rng.normal(0, 0.2, (180, 2))
    size = np.array([9e5, 1e4, 1e4])[kind] * rng.lognormal(0, 0.1, 180)
    groups = np.array(peer_groups(features, ["population_density", "median_income"], size))
    assert all(len(set(groups[kind == k])) == 1 for k in range(3))
    assert len(set(groups)) == 3
    assert groups[0].startswith(("Very dense", "Very large"))
    assert "low median income" in groups[-1]
    shuffled = rng.permutation(180)
    again = peer_groups(features[shuffled], ["population_density", "median_income"], size[shuffled])
    assert (np.array(again) == groups[shuffled]).all()


def test_too_few_or_equal_markets_are_one_group():
    assert peer_groups(np.zeros((5, 1)), ["f"], np.ones(5)) == [ONE_GROUP] * 5
    assert peer_groups(np.empty((50, 0)), [], np.ones(50)) == [ONE_GROUP] * 50
    assert peer_groups(np.zeros((50, 1)), ["f"], np.ones(50)) == [ONE_GROUP] * 50
