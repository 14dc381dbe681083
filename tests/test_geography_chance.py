"""Spillovers and hot spots: means over neighbours by hand, and chance kept in its place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micromarket.geography import getis_ord, hot_spots, spillover
from micromarket.geography.hot_spots import benjamini_hochberg

SIDE = 40


def rook_and_bishop(side: int) -> tuple[pd.Index, pd.DataFrame]:
    """A square board: ids and its pairs of neighbours, eight round each inner field."""
    ids = pd.Index([f"{i:02d}{j:02d}" for i in range(side) for j in range(side)])
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    rows = [(f"{i:02d}{j:02d}", f"{i + a:02d}{j + b:02d}") for i in range(side) for j in range(side) for a, b in steps
            if 0 <= i + a < side and 0 <= j + b < side]  # fmt: skip
    return ids, pd.DataFrame(rows, columns=["market_id", "neighbour_id"])


def test_spillover_is_the_mean_of_the_neighbours_that_have_a_value():
    pairs = pd.DataFrame({"market_id": list("abbccd"), "neighbour_id": list("bacbdc")})
    values = pd.DataFrame({"spend": [1.0, 5.0, 3.0, np.nan, 7.0], "reps": [1, 2, 3, 4, 5]}, index=list("abcde"))
    out = spillover(values, pairs)
    assert out["spend"].tolist()[:4] == [5, 2, 5, 3], "d is unknown and doesn't count for c"
    assert out["reps"].tolist()[:4] == [2, 2, 3, 3]
    assert out.loc["e"].isna().all(), "e has no neighbour"
    assert spillover(values["reps"], None).isna().all()
    with pytest.raises(ValueError, match="once"):
        spillover(pd.Series([1.0, 2.0], index=["a", "a"]), pairs)


def test_pure_noise_has_no_hot_spots_even_where_its_tails_are_heavy():
    ids, pairs = rook_and_bishop(SIDE)
    rng = np.random.default_rng(3)
    noise = [rng.standard_t(3, len(ids)) if s % 2 else rng.normal(size=len(ids)) for s in range(20)]
    named = [np.count_nonzero(hot_spots(pd.Series(v, index=ids), pairs, seed=s)) for s, v in enumerate(noise)]
    assert sum(n > 0 for n in named) <= 3
    assert sum(named) <= 5, "of 32,000 markets"
    raw = getis_ord(pd.Series(noise[0], index=ids), pairs, seed=0)["p"]
    assert (raw < 0.05).mean() == pytest.approx(0.05, abs=0.02), "without control a twentieth looks like something"


def test_planted_clusters_are_found_and_little_else():
    ids, pairs = rook_and_bishop(SIDE)
    row, column = np.divmod(np.arange(len(ids)), SIDE)
    hot = (abs(row - 10) <= 2) & (abs(column - 30) <= 2)
    cold = (abs(row - 30) <= 2) & (abs(column - 8) <= 2)
    found, false = [], []
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        values = pd.Series(rng.standard_t(4, len(ids)) + 3.0 * hot - 3.0 * cold, index=ids)
        said = hot_spots(values, pairs, seed)
        found.append((np.mean(said[hot] == "hot") + np.mean(said[cold] == "cold")) / 2)
        false.append(np.count_nonzero(said[~(hot | cold)]))
        assert not (said[hot] == "cold").any()
    assert np.mean(found) > 0.6
    assert np.mean(false) < 5
    assert (hot_spots(values.iloc[::-1], pairs, seed)[::-1] == said).mean() > 0.99, "the order of rows is no matter"
    assert (hot_spots(values, pairs, seed) == said).all()


def test_exact_odds_on_a_ring_of_five():
    """Value and neighbours: three of five. Of the ten triples one holds the three largest."""
    ids = list("abcde")
    pairs = pd.DataFrame([(a, b) for i, a in enumerate(ids) for b in (ids[i - 1], ids[(i + 1) % 5])],
                         columns=["market_id", "neighbour_id"])  # fmt: skip
    p = getis_ord(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0], index=ids), pairs, seed=1)["p"]
    assert p["d"] == pytest.approx(0.2, abs=0.01), "twice one tenth"


@pytest.mark.parametrize("values", [[1.0] * 6, [np.nan] * 6, [1.0, 2.0, np.nan, np.nan, np.nan, np.nan]])
def test_nothing_to_tell_is_no_hot_spot(values):
    ids = [f"m{i}" for i in range(6)]
    pairs = pd.DataFrame([(a, b) for a in ids for b in ids if a != b], columns=["market_id", "neighbour_id"])
    assert (hot_spots(pd.Series(values, index=ids), pairs, 1) == "").all()
    assert (hot_spots(pd.Series(values, index=ids), None, 1) == "").all()
    assert len(hot_spots(pd.Series(dtype=float), None, 1)) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_benjamini_hochberg_rejects_what_the_step_up_rule_rejects(p):
    p = np.array(p)
    order = np.sort(p)
    passing = np.flatnonzero(order <= 0.05 * np.arange(1, len(p) + 1) / len(p))
    limit = order[passing[-1]] if len(passing) else -1.0
    q = benjamini_hochberg(p)
    sure = abs(q - 0.05) > 1e-12
    assert ((q <= 0.05) == (p <= limit))[sure].all()
    assert (q >= p - 1e-12).all()
