"""Whom a channel wins, and what that changes in the budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from micromarket.allocation.segments import by_segment, relative_value
from micromarket.value.channel_segments import channel_segments
from micromarket.value.customers_won import Purchased
from micromarket.value.model import Cells


def bought(rng: np.random.Generator, cells: Cells, usual: np.ndarray, lean: np.ndarray) -> Purchased:
    """Two paid channels and customers booked under none; the second leans to the second segment by ``lean``."""
    mix = np.stack([usual, usual, usual * lean])
    mix = mix / mix.sum(axis=2, keepdims=True)
    won = rng.poisson(120 * mix).reshape(3, -1).astype(float)
    zeros = np.zeros((3, len(usual)))
    return Purchased(
        "spend", None, None, zeros[0], zeros[0], np.array(["", "radio", "web"], dtype=object),  # type: ignore[arg-type]
        np.array(["unpaid", "paid", "paid"], dtype=object), zeros, won, True,
    )  # fmt: skip


def test_a_channel_that_leans_to_a_segment_is_found_and_priced():
    rng = np.random.default_rng(0)
    ids = [f"m{i:02d}" for i in range(40)]
    pairs = pd.DataFrame([(m, s) for m in ids for s in ("firms", "homes")], columns=["market_id", "segment"])
    cells = Cells.of(pairs, ids)
    first = rng.uniform(0.1, 0.5, 40)
    usual = np.column_stack([first, 1 - first])
    worth = np.tile([900.0, 300.0], 40)
    table = channel_segments(bought(rng, cells, usual, np.array([3.0, 1.0])), cells, usual.ravel(), worth)
    assert table is not None
    assert set(table["channel"]) == {"radio", "web"}
    np.testing.assert_allclose(table.groupby(["market_id", "channel"])["share"].sum(), 1.0)
    got = table[table["segment"] == "firms"].pivot(index="market_id", columns="channel", values="share")
    np.testing.assert_allclose(got["radio"], first, atol=0.03)
    np.testing.assert_allclose(got["web"], 3 * first / (3 * first + 1 - first), atol=0.04)

    value = usual @ [900.0, 300.0]
    relative = relative_value(table, np.array(ids), np.array(["web"] * 40), value)
    true = (got["web"] * 900 + (1 - got["web"]) * 300).to_numpy() / value
    np.testing.assert_allclose(relative, true)
    assert (relative > 1).all()
    np.testing.assert_array_equal(relative_value(table, np.array(["x"]), np.array(["web"]), np.ones(1)), 1.0)

    budget = pd.DataFrame({
        "market_id": np.repeat(ids, 3), "channel": ["radio", "web", "new"] * 40,
        "incremental_customers": rng.normal(size=120), "incremental_value": rng.normal(size=120),
    })  # fmt: skip
    split = by_segment(table, budget)
    assert split is not None
    for column in ("incremental_customers", "incremental_value"):
        sums = split.groupby("market_id")[column].sum()
        assert sums.to_numpy() == pytest.approx(budget.groupby("market_id")[column].sum().to_numpy())


def test_nothing_is_said_of_one_segment_or_unknown_ones():
    rng = np.random.default_rng(1)
    pairs = pd.DataFrame({"market_id": ["a", "b"], "segment": "all"})
    cells = Cells.of(pairs, ["a", "b"])
    usual = np.ones((2, 1))
    assert channel_segments(bought(rng, cells, usual, np.ones(1)), cells, usual.ravel(), np.ones(2)) is None
    assert by_segment(None, pd.DataFrame()) is None
    np.testing.assert_array_equal(relative_value(None, np.array(["a"]), np.array(["web"]), np.ones(1)), 1.0)
