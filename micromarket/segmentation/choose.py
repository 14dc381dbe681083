"""Which rules: plain limits on round numbers that say most about the margin that customers bring *afterwards*.

The history is split on a day: what customers were like before it, what they brought in the year after. Rules are
reviewed once a year, on 1 January, from the data before that day, and change only where others are clearly better: so
from month to month customers change and rules don't.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import ibis
import numpy as np
import pandas as pd

from micromarket.calendar import year_before
from micromarket.segmentation.histories import single
from micromarket.segmentation.rules import Rules, is_frequent, is_worth
from micromarket.segmentation.worth import explained

NEW_DAYS = QUIET_DAYS = (91, 182, 365)
FREQUENCIES = {"purchases": (2, 3, 4, 6, 8, 12, 24, 52), "orders": (2, 3, 5, 10, 20), "contracts": ()}
#: Round amounts of money, a hundredth to a billion.
AMOUNTS = tuple(round(m * 10.0**k, 2) for k in range(-2, 9) for m in (1, 2, 3, 5, 7))
MOST_SEGMENTS = 6
SMALLEST_SHARE, FEWEST_CUSTOMERS = 0.05, 30
COMMON_PRODUCT, MOST_PRODUCTS = 0.08, 5  # of the customers
_MOST_REVIEWS = 12
_FAR_OFF = 30.0  # no limit further from the typical purchase
_FEWEST_EXPLAINED = 0.01  # of the differences between customers; less is not worth a plan of its own
_PER_SEGMENT = 0.02  # of what the best rules explain: what one more segment must add
_LOYALTY = 0.05  # of what the best rules explain: by how much others must beat last year's rules


@dataclass(frozen=True)
class Review:
    """Rules are chosen on ``day`` from states on ``cut`` and the margin after it up to ``until`` (the day before)."""

    day: dt.date
    cut: dt.date
    until: dt.date


def window_before(day: dt.date, first: dt.date) -> Review:
    """Margin of the year before ``day``, half of the history at most."""
    one = dt.timedelta(days=1)
    half = day - dt.timedelta(days=(day - first).days // 2)
    return Review(day, max(year_before(day), half) - one, day - one)


def reviews(first: dt.date, as_of: dt.date) -> list[Review]:
    """All reviews up to the end of ``as_of``, oldest first; none with less than four months of history.

    A year of history is needed for the yearly review; before that the rules are reviewed by quarter. Every review
    since the records begin is done again, so that what one of them decided holds in all plans after it.
    """
    after = as_of + dt.timedelta(days=1)
    years = range(max(first.year + 1, after.year - _MOST_REVIEWS + 1), after.year + 1)
    yearly = [day for year in years if ((day := dt.date(year, 1, 1)) - first).days >= 365]
    quarter = dt.date(after.year, 3 * ((after.month - 1) // 3) + 1, 1)
    if not yearly:
        yearly = [day for day in (quarter, after) if (day - first).days >= (180 if day < after else 120)][:1]
    return [window_before(day, first) for day in yearly]


@dataclass(frozen=True)
class Bins:
    """Customers counted by where they lie between all the limits that rules may use; arrays of equal length.

    ``tenure``, ``recency``, ``frequency``, ``value``: number of limits passed (:data:`NEW_DAYS`, :data:`QUIET_DAYS`,
    :data:`FREQUENCIES`, ``amounts``); ``product``: index into ``products`` or -1; ``size``: customers at the review;
    ``n``, ``total``, ``square``: customers, sum and sum of squares of value.
    """

    tenure: np.ndarray
    recency: np.ndarray
    frequency: np.ndarray
    value: np.ndarray
    product: np.ndarray
    size: np.ndarray
    n: np.ndarray
    total: np.ndarray
    square: np.ndarray
    products: tuple[str, ...]
    amounts: tuple[float, ...]


_KEYS = ["tenure_bin", "recency_bin", "frequency_bin", "value_bin", "product"]


def count_bins(basis: str, now: ibis.Table, before: ibis.Table, last: Rules | None = None) -> Bins:
    """``now``: states at the review (for sizes); ``before``: states at the cut with ``value`` (a log of money)."""
    sums = single(now.aggregate(cents=now.cents.sum().cast("float64"), n=now.n.sum().cast("float64")))
    typical = (sums["cents"] or 0) / max(sums["n"] or 0, 1) / 100
    near = {a for a in AMOUNTS if typical / _FAR_OFF <= a <= typical * _FAR_OFF}
    amounts = tuple(sorted(near | set(last.value if last is not None else ())))
    top = (
        now.group_by("product").aggregate(customers=now.customer_id.count()).order_by(ibis.desc("customers"), "product")
    )
    found = top.limit(MOST_PRODUCTS + 1).to_pandas()
    everyone = int(now.count().execute())
    common = found[found["product"].notna() & (found["customers"] >= max(COMMON_PRODUCT * everyone, 1))]
    products = tuple(common["product"].astype(object).tolist())[:MOST_PRODUCTS]
    sizes = _binned(basis, now, products, amounts)
    known = _binned(basis, before, products, amounts)
    left = sizes.group_by(_KEYS).aggregate(size=sizes.customer_id.count().cast("float64")).to_pandas()
    v = known.value
    right = known.group_by(_KEYS).aggregate(
        n=known.customer_id.count().cast("float64"), total=v.sum(), square=(v * v).sum()
    )
    both = pd.concat([left, right.to_pandas()]).fillna(dict.fromkeys(("size", "n", "total", "square"), 0.0))
    both["product"] = both["product"].astype(object).map({p: i for i, p in enumerate(products)}).fillna(-1).astype(int)
    both = both.groupby(_KEYS, sort=True).sum().reset_index()
    tenure, recency, frequency, value, product = (both[c].to_numpy() for c in _KEYS)
    size, n, total, square = (both[c].to_numpy(float) for c in ("size", "n", "total", "square"))
    return Bins(tenure, recency, frequency, value, product, size, n, total, square, products, amounts)


def _binned(basis: str, t: ibis.Table, products: tuple[str, ...], amounts: tuple[float, ...]) -> ibis.Table:
    def passed(tests: list[ibis.Value]) -> ibis.Value:
        count = ibis.literal(0)
        for test in tests:
            count = count + ibis.ifelse(test, 1, 0)
        return count.cast("int32")

    common = t["product"].isin(products) if products else ibis.literal(False)
    return t.mutate(
        tenure_bin=passed([(t.tenure > d).fill_null(True) for d in NEW_DAYS]),
        recency_bin=passed([(t.recency > d).fill_null(True) for d in QUIET_DAYS]),
        frequency_bin=passed([is_frequent(basis, t, f) for f in FREQUENCIES[basis]]),
        value_bin=passed([is_worth(t, a) for a in amounts]),
        product=ibis.ifelse(common, t["product"], ibis.null("string")),
    )


def choose(basis: str, bins: Bins, *, recency: bool, last: Rules | None = None) -> Rules | None:
    """The rules that explain most of the differences in value for their number of segments.

    ``None`` where none explains at least 1% of them, or no two groups are large enough. ``recency``: days since the
    last purchase are known. ``last``: the rules until now, kept unless others explain clearly more.
    """
    # of the customers on the books: who has not bought for a year must not decide how finely the others are split
    on_books = bins.size[bins.recency < len(QUIET_DAYS)].sum() if recency else bins.size.sum()
    fewest = max(SMALLEST_SHARE * float(on_books), FEWEST_CUSTOMERS)
    new = _new_days(bins, fewest) if basis == "purchases" else None
    lapsed = _lapsed_days(bins, fewest) if recency else None
    if last is not None and (new, lapsed) != (None, None):
        # a young company has nobody who lapsed: its rules learn of them, and stay as they are otherwise
        grown = replace(last, new_days=last.new_days or new, lapsed_days=last.lapsed_days or lapsed)
        last = last if grown == last else replace(grown, decided_on=None)
    best: tuple[float, Rules] | None = None
    tried: list[tuple[float, float, Rules]] = []
    for rules in _candidates(basis, bins, new, lapsed, fewest, recency):
        tried += _tried(rules, bins, fewest)
    kept = [] if last is None else _tried(last, bins, fewest)
    most = max((share for _, share, _ in tried + kept), default=0.0)
    if most < _FEWEST_EXPLAINED:
        return None
    for k, share, rules in kept + tried:
        gain = share - _PER_SEGMENT * most * k + (_LOYALTY * most if last is not None and rules is last else 0.0)
        # equally good: the first, which is the simpler one
        if best is None or gain > best[0] + 1e-7:
            best = (gain, rules)
    return None if best is None else best[1]


def _tried(rules: Rules, bins: Bins, fewest: float) -> list[tuple[float, float, Rules]]:
    """(segments, share explained, rules), or nothing where a segment is too small."""
    label, k = labels(rules, bins)
    if k < 2 or k > MOST_SEGMENTS or np.bincount(label, bins.size, minlength=k).min() < fewest:
        return []
    found = explained(*(np.bincount(label, v, minlength=k) for v in (bins.n, bins.total, bins.square)))
    return [(k, found.share if found.p_value < 0.01 else 0.0, rules)]


def _new_days(bins: Bins, fewest: float) -> int | None:
    """The shortest time that holds enough new customers."""
    for i, days in enumerate(NEW_DAYS):
        here = float(bins.size[bins.tenure <= i].sum())
        if fewest <= here <= bins.size.sum() - fewest:
            return days
    return None


def _lapsed_days(bins: Bins, fewest: float) -> int | None:
    """A year, where enough have not bought for one: they are off the books everywhere in the plan, never in one
    segment with those on it."""
    gone = float(bins.size[bins.recency >= len(QUIET_DAYS)].sum())
    return QUIET_DAYS[-1] if fewest <= gone <= bins.size.sum() - fewest else None


def _candidates(
    basis: str, bins: Bins, new: int | None, lapsed: int | None, fewest: float, recency: bool
) -> Iterator[Rules]:
    silent: list[tuple[int | None, int | None]] = [(None, None)]
    if recency:
        silent = [(days, lapsed) for days in (None, *QUIET_DAYS[:-1])]
    often: list[float | None] = [None, *(float(f) for f in FREQUENCIES[basis])]
    enough: list[float] = []
    for i, amount in enumerate(bins.amounts):
        above = float(bins.size[bins.value > i].sum())
        if fewest <= above <= bins.size.sum() - fewest:
            enough.append(amount)
    limits: list[tuple[float, ...]] = [(), *((a,) for a in enough)]
    if basis != "purchases":
        limits += list(itertools.combinations(enough, 2))
    chosen: list[tuple[tuple[str, ...], bool]] = [((), False)]
    chosen += [
        (bins.products[:k], rest) for k in range(1, len(bins.products) + 1) for rest in (False, True) if k > rest
    ]
    for (quiet, lapsed), f, value, (products, rest) in itertools.product(silent, often, limits, chosen):
        if products and value and basis == "purchases":
            continue
        rules = Rules(basis, new, quiet, lapsed, f, value, "all", products, rest)
        yield rules
        if f is not None and value:
            yield replace(rules, value_within="frequent")
            yield replace(rules, value_within="occasional")


def labels(rules: Rules, bins: Bins) -> tuple[np.ndarray, int]:
    """Number of the segment of every bin, and how many there are (as :func:`~.rules.segment_expression` has them)."""
    split = np.ones(len(bins.n), dtype=bool)
    label, k = np.zeros(len(bins.n), dtype=int), 1
    if rules.value:
        band = np.zeros(len(bins.n), dtype=int)
        for amount in rules.value:
            band += bins.value > _place(bins.amounts, amount)
        label, k = band, len(rules.value) + 1
    if rules.frequency is not None:
        frequent = bins.frequency > _place(FREQUENCIES[rules.basis], rules.frequency)
        if rules.value and rules.value_within != "all":
            split = frequent == (rules.value_within == "frequent")
            label, k = np.where(split, label, k), k + 1
        else:
            label, k = label + k * frequent, 2 * k
    if rules.products:
        own = len(rules.products) - rules.others_with_last
        at = [bins.products.index(p) if p in bins.products else len(bins.products) for p in rules.products[:own]]
        group = np.full(len(bins.n), own)
        for i, product in enumerate(at):
            group[bins.product == product] = i
        label, k = label * (own + 1) + group, k * (own + 1)
    for days in (rules.quiet_days, rules.lapsed_days):
        if days is not None:
            label, k = np.where(bins.recency > _place(QUIET_DAYS, days), k, label), k + 1
    if rules.new_days is not None:
        label, k = np.where(bins.tenure <= _place(NEW_DAYS, rules.new_days), k, label), k + 1
    return label, k


def _place(limits: tuple[float, ...], limit: float) -> int:
    return limits.index(limit)


def review_all(
    periods: list[Review], bins_of: Callable[[Review, Rules | None], Bins], basis: str, *, recency: bool
) -> Rules | None:
    """One review after the other, each loyal to the rules of the one before."""
    rules: Rules | None = None
    for review in periods:
        rules = choose(basis, bins_of(review, rules), recency=recency, last=rules)
        if rules is not None and rules.decided_on is None:
            rules = replace(rules, decided_on=review.day)
    return rules
