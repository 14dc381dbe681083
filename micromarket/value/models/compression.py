"""Many customers, few distinct histories: exact counts, found with integer keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

_TABLE = 1 << 21  # values of an integer column that may be looked up directly
_KEYS = 1 << 62


@dataclass(frozen=True)
class Column:
    """A column as ``values[code]``."""

    values: np.ndarray
    code: np.ndarray

    @classmethod
    def of(cls, v: np.ndarray) -> Column:
        """Whole numbers code themselves; anything else by its rank among the distinct values."""
        if len(v):
            low, high = v.min(), v.max()
            if high - low < _TABLE:
                code = (v - low).astype(np.int64)
                if (code + low == v).all():
                    return cls(np.arange(int(high - low) + 1) + low, code)
        values = np.unique(v)
        return cls(values, np.searchsorted(values, v))

    def __getitem__(self, rows: np.ndarray | slice) -> Column:
        return Column(self.values, self.code[rows])

    def __len__(self) -> int:
        return len(self.code)

    @property
    def array(self) -> np.ndarray:
        return self.values[self.code]


@dataclass(frozen=True)
class Counts:
    """Distinct (group, x, t_x, T), sorted by group, and how many customers share each."""

    x: Column
    t_x: Column
    T: Column
    group: np.ndarray
    customers: np.ndarray
    groups: int

    def __len__(self) -> int:
        return len(self.customers)

    def histories(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, t_x, T."""
        return self.x.array, self.t_x.array, self.T.array

    def rows(self, rows: np.ndarray | slice) -> Counts:
        parts = (self.x[rows], self.t_x[rows], self.T[rows], self.group[rows], self.customers[rows])
        return Counts(*parts, self.groups)

    def thin(self, step: int) -> Counts:
        """Every ``step``-th row of repeat buyers, weighted up, with everyone who bought once: for a start."""
        many = self.x.values[self.x.code] > 0
        keep = ~many
        at = np.flatnonzero(many)
        keep[at[::step]] = True
        weights = np.where(many, self.customers * (self.customers[at].sum() / self.customers[at[::step]].sum()), 0.0)
        return replace(self, customers=np.where(many, weights, self.customers)).rows(np.flatnonzero(keep))

    def levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct (group, x) and how many customers have them: all that gamma functions of x need."""
        some, index = distinct(Column(np.arange(self.groups), self.group), self.x)
        return self.group[some], self.x[some].array, np.bincount(index, weights=self.customers, minlength=len(some))

    def bounds(self) -> np.ndarray:
        """Where each group begins, and the end: (groups + 1,)."""
        return np.searchsorted(self.group, np.arange(self.groups + 1))


def compress(
    x: np.ndarray, t_x: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None, group: np.ndarray | None = None
) -> Counts:
    """Exact counts of customers by history; rows without customers are dropped."""
    columns = [Column.of(np.asarray(v, float)) for v in (x, t_x, T)]
    n = None if weights is None else np.asarray(weights, float)
    if n is not None and not (n > 0).all():
        some = np.flatnonzero(n > 0)
        columns, n = [c[some] for c in columns], n[some]
        group = None if group is None else group[some]
    groups = 1 if group is None else int(group.max(initial=0)) + 1
    sizes = [max(len(c.values), 1) for c in columns]
    if groups * float(np.prod([float(s) for s in sizes])) < _KEYS:
        key = columns[2].code * sizes[1] + columns[1].code
        key = key * sizes[0] + columns[0].code
        if group is not None:
            key = key + group * (sizes[0] * sizes[1] * sizes[2])
        if n is None:
            key = np.sort(key)
            first = _firsts(key)
            n = np.diff(np.append(first, len(key))).astype(float)
        else:
            order = np.argsort(key)
            key = key[order]
            first = _firsts(key)
            n = np.add.reduceat(n[order], first) if len(first) else n[:0]
        key = key[first]
        key, code_x = np.divmod(key, sizes[0])
        key, code_t = np.divmod(key, sizes[1])
        g, code_T = np.divmod(key, sizes[2])
    else:  # too many distinct values for one integer
        g = np.zeros(len(columns[0]), np.int64) if group is None else group
        order = np.lexsort((columns[0].code, columns[1].code, columns[2].code, g))
        sorted_ = [v[order] for v in (columns[0].code, columns[1].code, columns[2].code, g)]
        first = np.flatnonzero(np.concatenate([[True], np.any([np.diff(v) != 0 for v in sorted_], axis=0)]))
        n = np.add.reduceat(np.ones(len(order)) if n is None else n[order], first)
        code_x, code_t, code_T, g = (v[first] for v in sorted_)
    x_, t_, T_ = (Column(c.values, code) for c, code in zip(columns, (code_x, code_t, code_T), strict=True))
    return Counts(x_, t_, T_, g, n, groups)


def _firsts(key: np.ndarray) -> np.ndarray:
    if not len(key):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))


def distinct(*columns: Column) -> tuple[np.ndarray, np.ndarray]:
    """A row of each distinct combination of the columns' values, and where each row is among these combinations."""
    key, size = columns[0].code, max(len(columns[0].values), 1)
    for c in columns[1:]:
        if size * len(c.values) >= _KEYS:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key, size = key * len(c.values) + c.code, size * max(len(c.values), 1)
    rows = np.arange(len(key))
    if size <= max(8 * len(key), _TABLE):  # a table of all combinations beats a sort
        place = np.full(size, -1)
        place[key] = rows
        found = np.flatnonzero(place >= 0)
        some = place[found]
        place[found] = np.arange(len(found))
        return some, place[key]
    _, some, index = np.unique(key, return_index=True, return_inverse=True)
    return some, index
