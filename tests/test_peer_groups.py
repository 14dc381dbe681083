"""Peer groups: what markets are, in plain words, the same from month to month."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.potential.peer_groups import ONE_GROUP, PeerGroups, group_markets
from micromarket.potential.peer_scales import structure
from micromarket.potential.previous_run import previous_files, read_previous


def again(raw, last):
    return group_markets(raw, 1, last.groups, last.names(), last.leaning_names())


def test_peer_groups_find_what_markets_are_and_say_it_in_words():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 60)
    centres = np.array([[2.0, 1.0], [-1.0, 1.5], [-1.0, -2.0]])
    features = centres[kind] + rng.normal(0, 0.2, (180, 2))
    raw = pd.DataFrame(features, columns=["population_density", "median_income"])
    raw["size"] = np.array([9e5, 1e4, 1e4])[kind] * rng.lognormal(0, 0.1, 180)
    groups = np.array(group_markets(raw).names())
    assert all(len(set(groups[kind == k])) == 1 for k in range(3))
    assert len(set(groups)) == 3
    assert groups[0].startswith(("Very dense", "Very large"))
    assert "low median income" in groups[-1]
    shuffled = rng.permutation(180)
    mixed = group_markets(raw.iloc[shuffled].reset_index(drop=True)).names()
    assert (np.array(mixed) == groups[shuffled]).all()


@pytest.mark.parametrize("raw", [np.zeros((5, 1)), np.empty((50, 0)), np.zeros((50, 1)), np.full((50, 1), np.nan)])
def test_too_few_or_equal_markets_are_one_group(raw):
    last = group_markets(pd.DataFrame(raw, columns=["f"][: raw.shape[1]]))
    assert set(last.names()) == {ONE_GROUP}
    table = last.groups.table(pd.DataFrame(raw, columns=["f"][: raw.shape[1]]), last.member)
    assert again(pd.DataFrame(raw, columns=["f"][: raw.shape[1]]), last).names() == last.names()
    assert PeerGroups.from_table(table).scales == ()


def markets(rng, n=800, columns=6):
    """No clusters at all: the hardest case, as every market is near some border."""
    z = rng.normal(size=(n, columns))
    size = rng.lognormal(9, 1, n)

    def month(jitter=0.0, drift=1.0):
        frame = pd.DataFrame({f"f{i}": drift * (z[:, i] + 3 + rng.normal(0, jitter, n)) for i in range(columns)})
        return frame.assign(size=drift * size * np.exp(rng.normal(0, jitter, n)))

    return month


@pytest.mark.parametrize("jitter", [0.05, 0.1])
def test_groups_are_stable_over_twelve_months_of_features_measured_anew(jitter):
    month = markets(np.random.default_rng(3))
    last = group_markets(month(jitter))
    first, moves = np.array(last.names()), 0
    for m in range(12):
        last = again(month(jitter, drift=1.01**m), last)  # and money loses one per cent of its value a month
        assert last.kept
        moves += last.moved
    assert moves < 0.02 * len(first)
    assert (np.array(last.names()) != first).mean() < 0.02
    unaided = [np.array(group_markets(month(jitter)).names()) for _ in range(3)]
    assert np.mean([(u != first).mean() for u in unaided]) > 0.1  # without memory they would not be


def test_a_market_that_truly_changes_moves_at_once_a_slight_change_only_if_it_stays():
    raw = markets(np.random.default_rng(4))()
    first = group_markets(raw)
    assert again(raw, first).moved == 0
    centre = {g: raw[first.member == g].median() for g in range(len(first.groups.names))}
    changed = raw.copy()
    one = int(np.flatnonzero(first.member == 0)[0])
    changed.loc[one] = centre[1]
    second = again(changed, first)
    assert (second.moved, second.member[one]) == (1, 1)
    # half a standard deviation beyond the border: it leans, and moves when it still does a month later
    slight = raw.copy()
    for part in np.linspace(0, 1, 200):
        slight.loc[one] = (1 - part) * centre[0] + part * centre[1]
        found = again(slight, first)
        if found.leaning[one] == 1:
            break
    assert (found.moved, found.member[one], found.leaning_names()[one]) == (0, 0, first.groups.names[1])
    assert again(slight, found).member[one] == 1
    assert again(raw, found).member[one] == 0
    assert again(raw, again(raw, found)).leaning[one] == -1


def test_groups_are_formed_anew_only_where_they_fit_clearly_worse():
    rng = np.random.default_rng(5)
    kind = rng.integers(3, size=300)
    raw = pd.DataFrame(rng.normal(0, 0.3, (300, 2)) + np.array([[0, 0], [4, 0], [0, 4]])[kind], columns=["a", "b"])
    first = group_markets(raw)
    assert again(raw + rng.normal(0, 0.1, raw.shape), first).kept
    other = pd.DataFrame(rng.normal(0, 0.3, (300, 2)) + np.array([[0, 0], [4, 4], [8, 0]])[rng.integers(3, size=300)],
                         columns=["a", "b"])  # fmt: skip
    anew = again(other, first)
    assert not anew.kept
    assert "worse" in anew.why
    gone = again(raw.drop(columns="a"), first)
    assert not gone.kept
    assert "a can't be seen" in gone.why


def test_new_markets_join_the_nearest_group():
    raw = markets(np.random.default_rng(6))()
    first = group_markets(raw)
    wider = pd.concat([raw, raw.head(40)], ignore_index=True)
    known = [*first.names(), *[None] * 40]
    found = group_markets(wider, 1, first.groups, known, [None] * len(wider))
    assert found.kept
    assert found.moved == 0
    assert found.names()[-40:] == first.names()[:40]


def test_what_defines_the_groups_survives_its_file(tmp_path):
    raw = markets(np.random.default_rng(7))()
    first = group_markets(raw)
    path = tmp_path / "groups.parquet"
    first.groups.table(raw, first.member).to_parquet(path)
    read = PeerGroups.from_table(pd.read_parquet(path))
    assert group_markets(raw, 1, read, first.names()).names() == first.names()
    np.testing.assert_array_equal(read.centres, first.groups.centres)
    with pytest.raises(ValueError, match="no definition"):
        PeerGroups.from_table(pd.DataFrame({"peer_group": ["a"]}))


def test_structure_knows_nothing_of_results():
    frame = pd.DataFrame({"market_id": list("abc"), "income": [1.0, 2, 3], "addressable_customers": [10.0, 20, np.nan],
                          "market_customers": np.nan, "area_km2": [1.0, 2, 3], "customers": [5.0, 6, 7]})  # fmt: skip
    found = structure(frame, ["income"])
    assert list(found) == ["income", "size", "density"]
    changed = structure(frame.assign(customers=99.0), ["income"])
    pd.testing.assert_frame_equal(found, changed)


def settings_in(folder, previous):
    return Settings(
        path=folder / "plan.yml", company=Company("A"), as_of=pd.Timestamp("2026-06-30").date(), data={},
        plan=PlanPeriod(pd.Timestamp("2026-07-01").date(), pd.Timestamp("2027-06-30").date()),
        economics=Economics("contractual", 0.3), previous_run=previous,
    )  # fmt: skip


def test_the_run_before_is_the_newest_of_an_earlier_day(tmp_path):
    raw = markets(np.random.default_rng(8), n=100)()
    last = group_markets(raw)
    for name, company, day in (("a", "A", "2026-04-30"), ("b", "A", "2026-05-31"), ("c", "A", "2026-06-30"),
                               ("d", "B", "2026-05-31"), ("e", "A", "2026-05-01")):  # fmt: skip
        run = tmp_path / "runs" / name
        (run / "tables").mkdir(parents=True)
        last.groups.table(raw, last.member).to_parquet(run / "tables/peer_groups.parquet")
        scores = pd.DataFrame({"market_id": [f"m{i}" for i in range(100)], "peer_group": last.names()})
        scores.to_parquet(run / "tables/scores.parquet")
        said = {"settings": {"as_of": day, "company": {"name": company}}, "ended": day}
        (run / "manifest.json").write_text(json.dumps(said))
    found, why = read_previous(settings_in(tmp_path, tmp_path / "runs"))
    assert found is not None
    assert (found.name, why) == ("b", "")
    assert found.member["m3"] == last.names()[3]
    assert found.leaning.isna().all()
    assert set(previous_files(settings_in(tmp_path, tmp_path / "runs" / "d"))) == {"peer_groups", "scores"}
    assert read_previous(settings_in(tmp_path, None)) == (None, "")
    found, why = read_previous(settings_in(tmp_path, tmp_path))
    assert found is None
    assert "no earlier run" in why
