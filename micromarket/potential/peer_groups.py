"""Peer groups of similar markets: from what a market *is*, never from how we do there, and stable from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from micromarket.potential.families import FloatArray
from micromarket.potential.peer_names import group_names
from micromarket.potential.peer_scales import Scale, standardised

ONE_GROUP = "All markets"
_FEWEST_PER_GROUP, _MOST_GROUPS, _SAMPLE = 8, 8, 1_500
#: How far beyond the border between two groups, in standard deviations of a feature, a market has to lie before it
#: changes group: at once, or in two runs one after the other. Features measured anew every month differ by less.
AT_ONCE, TWICE = 0.75, 0.25
#: Groups are formed anew where they fit this much worse than when they were formed, and new ones as much better.
WORSE, BETTER = 1.15, 0.85
_COLUMNS = ["peer_group", "feature", "centre", "typical", "markets", "misfit"]
_SCALE = ["form", "unit", "low", "high", "middle", "spread"]


@dataclass(frozen=True)
class PeerGroups:
    """The definition of the groups: ``centres`` (groups, columns) in standard units of ``scales``.

    ``misfit``: mean squared distance of a market to its centre, per column, when the groups were formed.
    """

    names: tuple[str, ...]
    scales: tuple[Scale, ...]
    centres: FloatArray
    misfit: float

    def table(self, raw: pd.DataFrame, member: FloatArray) -> pd.DataFrame:
        """The artefact ``peer_groups``: a row a group and feature; ``typical``: median of its markets in own units."""
        rows = []
        for g, name in enumerate(self.names):
            for j, scale in enumerate(self.scales):
                values = raw.loc[member == g, scale.name].dropna()
                typical = float(values.median()) if len(values) else float("nan")
                rows.append([name, scale.name, self.centres[g, j], typical, int((member == g).sum()), self.misfit,
                             *(getattr(scale, f) for f in _SCALE)])  # fmt: skip
        if not self.scales:
            rows = [[ONE_GROUP, "none", 0.0, np.nan, len(member), 0.0, "plain", 1.0, 0.0, 0.0, 0.0, 1.0]]
        return pd.DataFrame(rows, columns=[*_COLUMNS, *_SCALE])

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> PeerGroups:
        """What :meth:`table` wrote.

        Raises
        ------
        ValueError
            Where it is no such table.
        """
        if not {*_COLUMNS, *_SCALE} <= set(table.columns) or table.duplicated(["peer_group", "feature"]).any():
            raise ValueError("no definition of peer groups")
        table = table[table["feature"] != "none"]
        first = table.drop_duplicates("feature").sort_values("feature", kind="stable")
        scales = tuple(Scale(str(r["feature"]), *(r[f] for f in _SCALE)) for _, r in first.iterrows())
        names = tuple(str(n) for n in table["peer_group"].drop_duplicates())
        wide = table.pivot(index="peer_group", columns="feature", values="centre")
        centres = wide.reindex(index=names, columns=[s.name for s in scales]).to_numpy(float)
        if not np.isfinite(centres).all():
            raise ValueError("no definition of peer groups")
        return cls(names, scales, centres, float(table["misfit"].iloc[0]) if len(table) else 0.0)


@dataclass(frozen=True)
class Grouping:
    """Groups and who is in them. ``member``, ``leaning``: index of the group by market, -1 where it leans nowhere.

    ``kept``: the groups are those of the run before; ``moved``: markets of that run that are in another group now;
    ``why``: why the groups were formed anew, in words, empty where there was nothing to keep.
    """

    groups: PeerGroups
    member: FloatArray
    leaning: FloatArray
    kept: bool = False
    moved: int = 0
    known: int = 0
    why: str = ""

    def names(self) -> list[str]:
        return [self.groups.names[g] for g in self.member]

    def leaning_names(self) -> list[str | None]:
        return [self.groups.names[g] if g >= 0 else None for g in self.leaning]


def group_markets(
    raw: pd.DataFrame,
    seed: int = 1,
    before: PeerGroups | None = None,
    member: Sequence[str | None] | None = None,
    leaning: Sequence[str | None] | None = None,
) -> Grouping:
    """Groups of similar markets; those of the run before where they still fit.

    New groups: k-means on standardised columns (three to eight groups, the number with the best silhouette; fewer
    where there are few markets), from the largest markets down, named after what sets them apart.

    Groups that are kept: a market stays in its group until it lies clearly on another's side of the border between
    them (the hyperplane of equal distance): by :data:`AT_ONCE` standard deviations, or by :data:`TWICE` in this run and
    in the one before. What moves all markets alike (inflation, a new year of the statistics) moves none of them.

    Parameters
    ----------
    raw : DataFrame
        Structural columns as floats (see :func:`~.peer_scales.structure`), a row a market; missing values are average.
    before : PeerGroups, optional
        Definition of the run before; ``member``, ``leaning``: names of its groups by market, ``None`` where unknown.
    """
    if before is None or member is None:
        return _formed(raw, seed)
    known = np.array([m in before.names for m in member])
    missing = [s.name for s in before.scales if s.name not in raw or not raw[s.name].notna().any()]
    if missing:
        return replace(_formed(raw, seed), why=f"{', '.join(missing)} can't be seen any more")
    if known.sum() < max(0.5 * len(raw), 1) or not before.scales:
        return replace(_formed(raw, seed), why="most markets are new" if before.scales else "")
    kept = _kept(raw, before, member, leaning or [None] * len(raw), known)
    z = _standard(raw, kept.groups.scales)
    misfit = _misfit(z, kept.groups.centres, kept.member)
    if misfit <= WORSE * before.misfit + 1e-9:
        return kept
    fresh = _formed(raw, seed)
    if fresh.groups.scales and _on_scales(raw, fresh, kept.groups.scales) > BETTER * misfit:
        return kept
    return _with_old_names(fresh, kept)


def _kept(
    raw: pd.DataFrame,
    before: PeerGroups,
    member: Sequence[str | None],
    leaning: Sequence[str | None],
    known: np.ndarray,
) -> Grouping:
    # measured against the markets of the run before: their average and spread of today, so that a common shift is none
    scales = tuple(s.refitted(raw.loc[known, s.name]) for s in before.scales)
    groups = replace(before, scales=scales)
    z, count = _standard(raw, scales), len(raw)
    place = {name: g for g, name in enumerate(before.names)}
    squares = _squares(z, before.centres)
    nearest = squares.argmin(axis=1)
    now = np.array([place.get(str(m), -1) for m in member])
    then = np.array([place.get(str(m), -1) for m in leaning])
    now[~known] = nearest[~known]
    rows = np.arange(count)
    apart = np.sqrt(((before.centres[now] - before.centres[nearest]) ** 2).sum(axis=1))
    # distance from the plane between the two centres, positive on the other group's side
    beyond = (squares[rows, now] - squares[rows, nearest]) / np.maximum(2 * apart, 1e-12)
    beyond = np.where(now == nearest, 0.0, beyond)
    moves = (beyond >= AT_ONCE) | ((beyond >= TWICE) & (then == nearest))
    leans = np.where((beyond >= TWICE) & ~moves, nearest, -1)
    return Grouping(groups, np.where(moves, nearest, now), leans, True, int((moves & known).sum()), int(known.sum()))


def _formed(raw: pd.DataFrame, seed: int) -> Grouping:
    scales = tuple(s for name in sorted(raw.columns) if (s := Scale.fit(raw[name])) is not None)
    one = Grouping(PeerGroups((ONE_GROUP,), (), np.zeros((1, 0)), 0.0), np.zeros(len(raw), int), np.full(len(raw), -1))
    if not scales:
        return one
    z = _standard(raw, scales)
    most = min(_MOST_GROUPS, len(z) // _FEWEST_PER_GROUP, len(np.unique(z, axis=0)))
    if most < 2:
        return one
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(z), min(len(z), _SAMPLE), replace=False))
    best: tuple[float, FloatArray] | None = None
    for k in range(min(3, most), most + 1):
        fitted = KMeans(k, n_init=3, random_state=seed).fit(z[sample])
        score = silhouette_score(z[sample], fitted.labels_) if len(set(fitted.labels_)) > 1 else -1.0
        if best is None or score > best[0] + 0.01:  # a further group must earn its place
            best = (score, fitted.cluster_centers_)
    assert best is not None
    centres = best[1]
    label = _squares(z, centres).argmin(axis=1)
    size = raw["size"].fillna(raw["size"].median()).to_numpy(float) if "size" in raw else np.zeros(len(raw))
    typical = np.array([np.median(size[label == g]) if (label == g).any() else 0.0 for g in range(len(centres))])
    order = np.argsort(-typical, kind="stable")
    number = np.empty(len(order), dtype=int)
    number[order] = np.arange(len(order))
    names = tuple(group_names(centres[order], [s.name for s in scales]))
    member = number[label]
    groups = PeerGroups(names, scales, centres[order], _misfit(z, centres[order], member))
    return Grouping(groups, member, np.full(len(z), -1))


def _with_old_names(fresh: Grouping, kept: Grouping) -> Grouping:
    """A new group that is mostly an old one keeps its name."""
    names, taken = list(fresh.groups.names), set[str]()
    overlap = []
    for g in range(len(names)):
        for h, old in enumerate(kept.groups.names):
            both = ((fresh.member == g) & (kept.member == h)).sum()
            either = ((fresh.member == g) | (kept.member == h)).sum()
            overlap.append((both / max(either, 1), g, old))
    renamed: dict[int, str] = {}
    for share, g, old in sorted(overlap, key=lambda o: (-o[0], o[1], o[2])):
        if share >= 0.5 and g not in renamed and old not in taken:
            renamed[g] = old
            taken.add(old)
    for g, name in enumerate(names):
        names[g] = renamed.get(g, name)
    for g in range(len(names)):
        number = 2
        while names[g] in names[:g]:
            names[g] = f"{fresh.groups.names[g]} ({number})"
            number += 1
    old_name, new_name = np.array(kept.groups.names)[kept.member], np.array(names)[fresh.member]
    return replace(
        fresh, groups=replace(fresh.groups, names=tuple(names)), moved=int((old_name != new_name).sum()),
        known=kept.known, why="the old groups describe today's markets clearly worse",
    )  # fmt: skip


def _on_scales(raw: pd.DataFrame, fresh: Grouping, scales: Sequence[Scale]) -> float:
    """Misfit of another grouping's members around their own means, in the standard units of ``scales``."""
    z = _standard(raw, scales)
    used = np.unique(fresh.member)
    centres = np.array([z[fresh.member == g].mean(axis=0) for g in used])
    return _misfit(z, centres, np.searchsorted(used, fresh.member))


def _standard(raw: pd.DataFrame, scales: Sequence[Scale]) -> FloatArray:
    return np.column_stack([standardised(raw[s.name], s) for s in scales])


def _squares(z: FloatArray, centres: FloatArray) -> FloatArray:
    return np.column_stack([((z - c) ** 2).sum(axis=1) for c in centres])


def _misfit(z: FloatArray, centres: FloatArray, member: FloatArray) -> float:
    return float(((z - centres[member]) ** 2).mean())


def group_numbers(grouping: Grouping) -> Mapping[str, object]:
    """For the notes: groups and their markets, and what became of the groups of the run before."""
    names = pd.Series(grouping.names()).value_counts().sort_index()
    return {
        "groups": {str(k): int(v) for k, v in names.items()},
        "kept": grouping.kept,
        "moved": grouping.moved,
        "leaning": int((grouping.leaning >= 0).sum()),
        "formed_anew_because": grouping.why or None,
    }


__all__ = ["ONE_GROUP", "Grouping", "PeerGroups", "group_markets", "group_numbers"]
