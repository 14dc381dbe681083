"""Who is treated in a test, and who might have been: blocks of like markets, or sets of few."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from micromarket.proof.estimators.ancova import Ints, shuffled
from micromarket.proof.estimators.simplex import Array

LOTS = 999  # other assignments that the drawn one is held against
MOST_SETS = 400


@dataclass(frozen=True)
class Layout:
    """One cell of a test against its control.

    Attributes
    ----------
    rows : int array of shape (markets,)
        Rows of the history that take part; for sets: every market that may serve as control too.
    treated : bool array of shape (1 + lots, markets)
        The drawn assignment first, then others that the lot might have drawn.
    blocks : int array of shape (markets,) or None
        Block of each market (0, 1, …); None: a few markets treated, the rest are controls.
    banned : bool array like ``treated``, or None
        For sets: markets that may not serve as control of that assignment.
    by_lot : bool
        The assignment was drawn by lot among those listed; else the others are stand-ins.
    """

    rows: Ints
    treated: NDArray[np.bool_]
    blocks: Ints | None
    banned: NDArray[np.bool_] | None = None
    by_lot: bool = True

    @property
    def count(self) -> int:
        """Markets treated."""
        return int(self.treated[0].sum())


def make_blocks(features: Array, groups: NDArray[np.str_], size: int, first: NDArray[np.bool_] | None = None) -> Ints:
    """Blocks of ``size`` like markets within a group; -1: left over.

    Parameters
    ----------
    features : array of shape (markets, features)
        The first decides who is looked at first (largest first); distances are Euclidean, so scale them before.
    groups : array of shape (markets,)
        Peer group of each market.
    first : bool array of shape (markets,), optional
        Markets that must not be left over.
    """
    early = np.zeros(len(features), dtype=bool) if first is None else first
    blocks, number = np.full(len(features), -1), 0
    for group in np.unique(groups):
        free = [int(i) for i in np.flatnonzero(groups == group)]
        free.sort(key=lambda i: (not early[i], -features[i, 0], i))
        while len(free) >= size:
            one = free.pop(0)
            near = free[: 4 * size]
            distance = ((features[near] - features[one]) ** 2).sum(axis=1)
            chosen = [near[k] for k in np.argsort(distance, kind="stable")[: size - 1]]
            for i in (one, *chosen):
                blocks[i] = number
            free = [i for i in free if i not in chosen]
            number += 1
    return blocks.astype(np.int64)


def draw_arms(blocks: Ints, cells: int, controls: int, seed: int) -> Ints:
    """Arms by lot within blocks: 0 control, 1 … cells; -1 outside every block."""
    rng = np.random.default_rng([seed, 7])
    arms = np.full(len(blocks), -1)
    pattern = np.r_[np.arange(1, cells + 1), np.zeros(controls, dtype=int)]
    for block in range(int(blocks.max(initial=-1)) + 1):
        arms[blocks == block] = rng.permutation(pattern)
    return arms.astype(np.int64)


def cell_layout(rows: Ints, arms: Ints, blocks: Ints, cell: int, seed: int, lots: int = LOTS) -> Layout:
    """The cell's markets and the shared control, with other lots of these two arms within the same blocks."""
    inside = (arms == cell) | (arms == 0)
    kept = np.unique(blocks[inside], return_inverse=True)[1].astype(np.int64)
    mine = (arms[inside] == cell).astype(np.int64)
    exact = _all_within(mine, kept, lots)
    others = shuffled(mine, kept, lots, seed) if exact is None else exact
    return Layout(rows[inside], np.vstack([mine, others]) == 1, kept)


def _all_within(arms: Ints, blocks: Ints, most: int) -> Ints | None:
    """Every other assignment where there are at most ``most``."""
    counts = [comb(int((blocks == b).sum()), int(arms[blocks == b].sum())) for b in range(blocks.max(initial=-1) + 1)]
    if np.prod([float(c) for c in counts]) > most + 1:
        return None
    every = np.zeros((1, len(arms)), dtype=np.int64)
    for b in range(len(counts)):
        home = np.flatnonzero(blocks == b)
        ways = []
        for chosen in combinations(home, int(arms[home].sum())):
            row = np.zeros(len(arms), dtype=np.int64)
            row[list(chosen)] = 1
            ways.append(row)
        every = (every[:, None] + np.array(ways)[None]).reshape(-1, len(arms))
    return every[(every != arms).any(axis=1)]


def draw_sets(
    candidates: Ints, size: int, volume: Array, most_volume: float, apart: NDArray[np.bool_], forced: Ints, seed: int
) -> NDArray[np.bool_]:
    """Sets of ``size`` markets that a lot may draw from, the drawn one first; empty where fewer than 20 are legal.

    Parameters
    ----------
    candidates : int array
        Markets that may be treated (rows).
    volume : array of shape (markets,)
        Share of all volume.
    most_volume : float
        Largest share of volume that a set may hold.
    apart : bool array of shape (markets, markets)
        Neighbours; never both in a set.
    forced : int array
        Markets that every set holds.
    """
    rng = np.random.default_rng([seed, 11])
    free, need = np.setdiff1d(candidates, forced), size - len(forced)
    if need < 1 or len(free) < need:
        return np.zeros((0, len(volume)), dtype=bool)
    if comb(len(free), need) <= 20 * MOST_SETS:
        tried = np.array(list(combinations(free, need)), dtype=np.int64)
        tried = tried[rng.permutation(len(tried))]
    else:
        tried = np.unique(
            np.sort([rng.choice(free, need, replace=False) for _ in range(10 * MOST_SETS)], axis=1), axis=0
        )
        tried = tried[rng.permutation(len(tried))]
    found = []
    for chosen in tried:
        every = np.r_[forced, chosen]
        if volume[every].sum() <= most_volume and not apart[np.ix_(every, every)].any():
            found.append(every)
        if len(found) == MOST_SETS:
            break
    if len(found) < 20:
        return np.zeros((0, len(volume)), dtype=bool)
    sets = np.zeros((len(found), len(volume)), dtype=bool)
    for row, chosen in zip(sets, found, strict=True):
        row[chosen] = True
    return sets
