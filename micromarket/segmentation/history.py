"""One company's customers as they were on the days that matter: computed once in the engine, then read many times."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import cached_property

import ibis

from micromarket.load import Dataset
from micromarket.segmentation import histories as h
from micromarket.segmentation.choose import COMMON_PRODUCT, MOST_PRODUCTS, Review, reviews, window_before

_FEWEST_DAYS = 120


class History:
    """States of all customers on review days, on the last one, and what they brought after.

    Parameters
    ----------
    basis : {"purchases", "contracts", "orders"}
    """

    def __init__(self, dataset: Dataset, basis: str):
        self.dataset = dataset
        self.basis = basis
        self._states: dict[dt.date, tuple[int, ibis.Table]] = {}  # of two days: (where kept, states)

    @cached_property
    def first(self) -> dt.date | None:
        """First day of the records."""
        if self.basis == "orders":
            return None
        t = self.dataset.table("transactions" if self.basis == "purchases" else "subscriptions")
        day = t.date if self.basis == "purchases" else t.started_on
        found = h.single(t.aggregate(first=day.min()))["first"]
        return found.date() if isinstance(found, dt.datetime) else found

    @cached_property
    def reviews(self) -> list[Review]:
        return [] if self.first is None else reviews(self.first, self.dataset.settings.as_of)

    @cached_property
    def last(self) -> Review | None:
        """The latest year whose margin can be compared with what was known before it."""
        day = self.dataset.settings.as_of + dt.timedelta(days=1)
        if self.first is None or (day - self.first).days < _FEWEST_DAYS:
            return None
        return window_before(day, self.first)

    @cached_property
    def _boundaries(self) -> list[dt.date]:
        days = {self.dataset.settings.as_of}
        for review in [*self.reviews, *([self.last] if self.last is not None else [])]:
            days |= {review.cut, review.until}
        return sorted(days)

    @property
    def _pieces(self) -> ibis.Table:
        return _once(
            self.dataset, "segment_pieces", lambda: h.purchase_pieces(kept_days(self.dataset), self._boundaries)
        )

    @cached_property
    def _products(self) -> ibis.Table | None:
        if not h.common_products(self.dataset, COMMON_PRODUCT, MOST_PRODUCTS):
            return None
        pieces = h.product_pieces(self.dataset, self._boundaries)
        return None if pieces is None else _once(self.dataset, "segment_products", lambda: pieces)

    def states(self, until: dt.date) -> ibis.Table:
        """Everybody's state at the end of ``until``: a review's cut or last day, or ``as_of``.

        Two of them stay at a time: use what is returned before asking for a third day.
        """
        people = kept_people(self.dataset)
        if self.basis == "contracts":
            return _once(self.dataset, "segment_starts", lambda: h.contract_states(self.dataset, people))
        if self.basis == "orders":
            return _once(self.dataset, "segment_orders", lambda: h.order_states(self.dataset, people))
        if until not in self._states:
            t = h.purchase_states(people, self._pieces, self._products, self._boundaries.index(until), until)
            # the end of one review is the cut of the next: two places to keep states in are enough
            place = len(self._states) if len(self._states) < 2 else self._states.pop(min(self._states))[0]
            self._states[until] = (place, self.dataset.keep(f"segment_states_{place}", t))
        return self._states[until][1]

    def known(self, until: dt.date) -> ibis.Table:
        """States of who was a customer by then."""
        t = self.states(until)
        return t.filter(t.start <= ibis.literal(until, "date"))

    def value_after(self, review: Review) -> ibis.Table:
        """States on the cut with ``value``: the log of the margin after it, of everybody who was a customer then."""
        if self.basis == "contracts":
            rate = self.dataset.settings.economics.margin_rate or 1.0
            later = h.contract_margin_after(self.dataset, rate, review.cut, review.until)
            t = self.states(review.cut).inner_join(later, "customer_id")
        else:
            at = [self._boundaries.index(day) for day in (review.cut, review.until)]
            known = self.known(review.cut)
            t = known.left_join(h.margin_between(self._pieces, *at), "customer_id").drop("customer_id_right")
            t = t.mutate(margin=t.margin.fill_null(0.0))
        return _measured(self.dataset.keep("segment_before", t))


def so_far(states: ibis.Table) -> ibis.Table:
    """``states`` with ``value`` from the money that they hold themselves."""
    return _measured(states.mutate(margin=states.cents / 100.0))


def kept_people(dataset: Dataset) -> ibis.Table:
    return _once(dataset, "segment_people", lambda: h.members(dataset))


def kept_days(dataset: Dataset) -> ibis.Table:
    rate = dataset.settings.economics.margin_rate
    return _once(dataset, "segment_days", lambda: h.purchase_days(dataset, rate))


def _once(dataset: Dataset, name: str, build: Callable[[], ibis.Table]) -> ibis.Table:
    """Kept in the engine from the first time on that it is asked for."""
    try:
        return dataset.kept(name)
    except KeyError:
        return dataset.keep(name, build())


def _measured(t: ibis.Table) -> ibis.Table:
    """Adds ``value`` = ln(1 + margin / typical margin): money is skewed, and many bring none."""
    found = h.single(t.aggregate(mean=t.margin.mean(where=t.margin > 0)))["mean"]
    typical = float(f"{found:.1e}") if found and found > 0 else 1.0  # two digits: no dust of a sum's order
    return t.mutate(value=(ibis.greatest(t.margin, 0.0) / typical + 1.0).ln())
