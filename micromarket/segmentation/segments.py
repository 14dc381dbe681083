"""One segmentation for sales and marketing: the company's own, or one derived from what customers buy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ibis
import pandas as pd

from micromarket.load import Dataset
from micromarket.notes import Assumption
from micromarket.segmentation import histories as h
from micromarket.segmentation.choose import Bins, Review, count_bins, review_all, reviews, window_before
from micromarket.segmentation.rules import Rules, Segment, segment_expression
from micromarket.segmentation.worth import SegmentWorth, worth_of

NO_SEGMENT, UNKNOWN_SEGMENT = "All", "Unknown"
_YEAR = 365


@dataclass(frozen=True)
class Segmentation:
    """What the segments are and what they are worth.

    Attributes
    ----------
    source : {"company", "derived", "none"}
    definitions : tuple of Segment
        In the order in which the rules are tested; the company's own by name, without a definition.
    rules : Rules or None
        What derived them; ``rules.plain()`` pins them when put under ``segments`` in plan.yml.
    at_start : bool
        A customer's segment is known when it is acquired (or given by the company), and never changes by how long it
        stays. Where it is False, segments select on the outcome: a lifetime model must not be fitted inside them.
    customers : DataFrame
        segment, customers (count), share (of all customers); every segment that anybody is in.
    worth : SegmentWorth or None
        ``None``: there are no segments.
    entry : DataFrame
        Customers acquired 12 or more months ago, by the segment they are in now: segment, customers, first_year_margin,
        first_year_margin_squared (sum, sum of squares over customers of the margin in their first 365 days, money),
        margin (sum of all of it, money). Empty where nothing is dated.
    reason : str
        Why there are no segments, in words.
    """

    source: str
    definitions: tuple[Segment, ...] = ()
    rules: Rules | None = None
    at_start: bool = True
    customers: pd.DataFrame = field(default_factory=pd.DataFrame)
    worth: SegmentWorth | None = None
    entry: pd.DataFrame = field(default_factory=pd.DataFrame)
    reason: str = ""

    @property
    def derived(self) -> bool:
        return self.source == "derived"

    def numbers(self) -> dict[str, Any]:
        """As plain JSON values for the notes."""
        size = {} if self.customers.empty else self.customers.set_index("segment").to_dict("index")
        named = [
            {"name": d.name, "definition": d.definition, **size[d.name]} for d in self.definitions if d.name in size
        ]
        return {
            "source": self.source,
            "derived": self.derived,
            "at_start": self.at_start,
            "segments": named,
            "reason": self.reason,
            "rules": None if self.rules is None else self.rules.plain(),
            "worth": None if self.worth is None else self.worth.numbers(),
            "entry": self.entry.to_dict("records"),
        }


def basis_of(dataset: Dataset) -> str | None:
    """What customers are known by: contracts, purchases, orders (a summary), or nothing."""
    if dataset.settings.economics.relationship == "contractual" and dataset.has("subscriptions"):
        return "contracts"
    if dataset.has("transactions"):
        return "purchases"
    return "orders" if dataset.has("customer_summary") else None


def segment_rules(dataset: Dataset) -> Rules | None:
    """The rules that make the segments: pinned in plan.yml (``segments``), else chosen from the data.

    ``None`` where the company has segments of its own, wants none (``segments: none``), or where no segmentation
    tells anything. The same data give the same rules; new data change them on review days only (:mod:`.choose`).
    """
    wanted = getattr(dataset.settings, "segments", "auto")
    if wanted == "none" or _own(dataset):
        return None
    basis = basis_of(dataset)
    if isinstance(wanted, Rules):
        return wanted if wanted.basis == basis else None
    if basis is None:
        return None
    people = _people(dataset)
    if basis == "orders":
        states = h.order_states(dataset, people)
        day = dataset.settings.as_of + dt.timedelta(days=1)
        review = Review(day, dataset.settings.as_of, dataset.settings.as_of)
        known = dataset.table("customer_summary").columns
        recency = {"age_days", "recency_days"} <= set(known)
        measured = _measured(states, states.mutate(margin=states.cents / 100.0))
        return review_all([review], lambda _: count_bins(basis, states, measured), basis, recency=recency)
    first = _first_day(dataset, basis)
    if first is None:
        return None
    days = _kept_days(dataset) if basis == "purchases" else None

    def bins(review: Review) -> Bins:
        now = dataset.keep("segment_now", _states(dataset, people, days, basis, review.until))
        before = dataset.keep("segment_before", _value_after(dataset, people, days, basis, review))
        return count_bins(basis, now.filter(now.start <= ibis.literal(review.until, "date")), before)

    return review_all(reviews(first, dataset.settings.as_of), bins, basis, recency=basis == "purchases")


def segmented_customers(dataset: Dataset, rules: Rules | None = None) -> ibis.Table:
    """Everybody with market and segment: customer_id, market_id, segment, acquired_on.

    The one place that says which segment a customer is in. The company's own column wins (``Unknown`` where it is
    empty); else ``rules`` (default: :func:`segment_rules`) place every customer, also who never bought; else all are
    in one segment, ``All``. Computed once in the engine; no customer row leaves it.
    """
    people = _people(dataset)
    own = _own(dataset)
    if rules is None and not own:
        rules = segment_rules(dataset)
    if own:
        labels = dataset.table("customers")
        labels = labels.select("customer_id", segment=labels.segment.fill_null(UNKNOWN_SEGMENT))
        found = people.inner_join(labels, "customer_id")
    elif rules is None:
        found = people.mutate(segment=ibis.literal(NO_SEGMENT))
    else:
        days = _kept_days(dataset) if rules.basis == "purchases" else None
        t = _states(dataset, people, days, rules.basis, dataset.settings.as_of)
        labels = t.select("customer_id", segment=segment_expression(rules, t, dataset.settings.company.currency))
        found = people.inner_join(labels, "customer_id")
    return dataset.keep("segmented_customers", found.select("customer_id", "market_id", "segment", "acquired_on"))


def segments_at_purchase(dataset: Dataset, rules: Rules) -> ibis.Table:
    """customer_id, date, segment: where each buyer was *when it bought* (before the purchase; the first one: after it).

    A history split by the segment that customers are in today shows trends that aren't there: who has gone quiet seems
    to vanish, who buys often seems to grow. Split by the segment of the day, segments have a past to plan on.
    """
    days = _kept_days(dataset)
    products = h.main_products(dataset, "transactions", dataset.settings.as_of) if rules.products else None
    t = h.states_at_purchase(_people(dataset), days, products)
    name = segment_expression(rules, t, dataset.settings.company.currency)
    return t.select("customer_id", "date", segment=name)


def describe_segments(dataset: Dataset, customers: ibis.Table, rules: Rules | None) -> Segmentation:
    """Sizes, worth and entry of the segments that ``customers`` (:func:`segmented_customers`) are in."""
    source = "company" if _own(dataset) else "derived" if rules is not None else "none"
    sizes = customers.group_by("segment").aggregate(customers=customers.count().cast("float64")).to_pandas()
    sizes = sizes.sort_values("segment", kind="stable").reset_index(drop=True)
    sizes["share"] = sizes["customers"] / max(sizes["customers"].sum(), 1.0)
    if source == "none":
        return Segmentation(source, customers=sizes, reason=_why_none(dataset))
    currency = dataset.settings.company.currency
    if rules is not None:
        definitions = rules.segments(currency)
    else:
        definitions = tuple(Segment(name, "As in your customers table.") for name in sizes["segment"])
    return Segmentation(
        source=source,
        definitions=definitions,
        rules=rules,
        at_start=rules is None or rules.basis == "contracts",
        customers=sizes,
        worth=_worth(dataset, customers, rules),
        entry=_entry(dataset, customers),
    )


def _why_none(dataset: Dataset) -> str:
    wanted = getattr(dataset.settings, "segments", "auto")
    if wanted == "none":
        return "The plan is not split by segment, as plan.yml says."
    if isinstance(wanted, Rules):
        lacking = f"The segments of plan.yml need {wanted.basis}, which the data don't have"
        return f"{lacking}: the plan is not split by segment."
    return (
        "Your customers table has no segments, and no split by how much, how often, how lately or what customers buy"
        " tells what they bring later (or the history is too short to see it): the plan is not split by segment."
    )


def said(segmentation: Segmentation) -> list[Assumption]:
    """What leaders should know of the segments."""
    if segmentation.source == "none":
        return [Assumption(segmentation.reason, "plan.yml or customers' own purchases")]
    found = []
    if segmentation.derived and segmentation.rules is not None:
        names = "; ".join(f"{d.name}: {d.definition.rstrip('.')}" for d in segmentation.definitions)
        since = segmentation.rules.decided_on
        decided = "" if since is None else f" The rules were chosen from the data before {since}."
        text = f"Your customers table has no segments, so the planner made them from what customers buy. {names}."
        found.append(Assumption(text + decided, "customers' own purchases"))
    if segmentation.worth is not None:
        found.append(Assumption(segmentation.worth.text, "customers' own purchases"))
    return found


def _own(dataset: Dataset) -> bool:
    return "segment" in dataset.table("customers").columns


def _once(dataset: Dataset, name: str, build: Callable[[], ibis.Table]) -> ibis.Table:
    """Kept in the engine from the first time on that it is asked for."""
    try:
        return dataset.kept(name)
    except KeyError:
        return dataset.keep(name, build())


def _people(dataset: Dataset) -> ibis.Table:
    return _once(dataset, "segment_people", lambda: h.members(dataset))


def _kept_days(dataset: Dataset) -> ibis.Table:
    rate = dataset.settings.economics.margin_rate
    return _once(dataset, "segment_days", lambda: h.purchase_days(dataset, rate))


def _first_day(dataset: Dataset, basis: str) -> dt.date | None:
    t = dataset.table("transactions" if basis == "purchases" else "subscriptions")
    day = t.date if basis == "purchases" else t.started_on
    found = h.single(t.aggregate(first=day.min()))["first"]
    return found.date() if isinstance(found, dt.datetime) else found


def _states(dataset: Dataset, people: ibis.Table, days: ibis.Table | None, basis: str, until: dt.date) -> ibis.Table:
    if basis == "contracts":
        return h.contract_states(dataset, people, until)
    if basis == "orders":
        return h.order_states(dataset, people)
    assert days is not None
    return h.purchase_states(people, days, h.main_products(dataset, "transactions", until), until)


def _value_after(
    dataset: Dataset, people: ibis.Table, days: ibis.Table | None, basis: str, review: Review
) -> ibis.Table:
    """States on the cut with ``value``: the log of the margin after it, of everybody who was a customer then."""
    states = _states(dataset, people, days, basis, review.cut)
    if basis == "contracts":
        rate = dataset.settings.economics.margin_rate or 1.0
        later = h.contract_margin_after(dataset, rate, review.cut, review.until)
        return _measured(states, states.inner_join(later, "customer_id"))
    assert days is not None
    states = states.filter(states.start <= ibis.literal(review.cut, "date"))
    later = states.left_join(h.margin_after(days, review.cut, review.until), "customer_id").drop("customer_id_right")
    return _measured(states, later.mutate(margin=later.margin.fill_null(0.0)))


def _measured(states: ibis.Table, with_margin: ibis.Table) -> ibis.Table:
    """Adds ``value`` = ln(1 + margin / typical margin): money is skewed, and many bring none."""
    t = with_margin
    found = h.single(t.aggregate(mean=t.margin.mean(where=t.margin > 0)))["mean"]
    typical = float(f"{found:.1e}") if found and found > 0 else 1.0  # two digits: no dust of a sum's order
    return t.mutate(value=(ibis.greatest(t.margin, 0.0) / typical + 1.0).ln())


def _worth(dataset: Dataset, customers: ibis.Table, rules: Rules | None) -> SegmentWorth | None:
    basis = basis_of(dataset)
    if basis is None:
        return None
    people = _people(dataset)
    built = False
    first = None if basis == "orders" else _first_day(dataset, basis)
    day = dataset.settings.as_of + dt.timedelta(days=1)
    if basis != "orders" and first is not None and (day - first).days >= 120:
        review = window_before(day, first)
        days = _kept_days(dataset) if basis == "purchases" else None
        t = _value_after(dataset, people, days, basis, review)
        span = (review.until - review.cut).days
        who = "with a contract" if basis == "contracts" else "known"
        measure = f"margin in the {span} days after {review.cut} of the customers {who} then, on a log scale"
    else:
        states = _states(dataset, people, _kept_days(dataset) if basis == "purchases" else None, basis,
                         dataset.settings.as_of)  # fmt: skip
        t = _measured(states, states.mutate(margin=states.cents / 100.0))
        measure = "revenue a month at the start" if basis == "contracts" else "revenue so far"
        measure, built = f"{measure}, on a log scale", rules is not None
    if rules is not None:
        t = t.mutate(segment=segment_expression(rules, t, dataset.settings.company.currency))
    else:
        t = t.inner_join(customers.select("customer_id", "segment"), "customer_id")
    cells = t.group_by("market_id", "segment").aggregate(
        n=t.customer_id.count().cast("float64"), total=t.value.sum(), square=(t.value * t.value).sum()
    )
    frame = cells.to_pandas().sort_values(["market_id", "segment"], kind="stable")
    return worth_of(frame, measure, by_construction=built, company=rules is None)


def _entry(dataset: Dataset, customers: ibis.Table) -> pd.DataFrame:
    basis = basis_of(dataset)
    columns = ["segment", "customers", "first_year_margin", "first_year_margin_squared", "margin"]
    if basis in (None, "orders"):
        return pd.DataFrame(columns=columns)
    people = _people(dataset)
    as_of = dataset.settings.as_of
    known = people.filter(people.start <= ibis.literal(as_of - dt.timedelta(days=_YEAR), "date"))
    if basis == "purchases":
        money = _kept_days(dataset)
        money = money.inner_join(known.select("customer_id", "start"), "customer_id")
        first = ibis.ifelse(money.date.delta(money.start, unit="day") < _YEAR, money.margin, 0.0)
        money = money.select("customer_id", "margin", first=first)
    else:
        money = _billed(dataset, known)
    per = money.group_by("customer_id").aggregate(first=money["first"].sum(), margin=money.margin.sum())
    t = known.select("customer_id").left_join(per, "customer_id").drop("customer_id_right")
    t = t.select("customer_id", first=t["first"].fill_null(0.0), margin=t.margin.fill_null(0.0))
    t = t.inner_join(customers.select("customer_id", "segment"), "customer_id")
    sums = t.group_by("segment").aggregate(
        customers=t.customer_id.count().cast("float64"),
        first_year_margin=t["first"].sum(),
        first_year_margin_squared=(t["first"] * t["first"]).sum(),
        margin=t.margin.sum(),
    )
    return sums.to_pandas().sort_values("segment", kind="stable").reset_index(drop=True)[columns]


def _billed(dataset: Dataset, people: ibis.Table) -> ibis.Table:
    """customer_id, first, margin: of every contract, billed by the day in the first 365 days and up to ``as_of``."""
    s = dataset.table("subscriptions")
    as_of = ibis.literal(dataset.settings.as_of, "date")
    ended = s.ended_on if "ended_on" in s.columns else ibis.null("date")
    s = s.select("customer_id", "started_on", "monthly_value", ended=ended.fill_null(as_of))
    s = s.inner_join(people.select("customer_id", "start"), "customer_id")
    began = s.started_on.delta(s.start, unit="day")
    stopped = ibis.least(s.ended, as_of).delta(s.start, unit="day") + 1
    each = s.monthly_value * ((dataset.settings.economics.margin_rate or 1.0) / h.DAYS_PER_MONTH)
    first = ibis.greatest(ibis.least(stopped, _YEAR) - began, 0)
    return s.select("customer_id", first=each * first, margin=each * ibis.greatest(stopped - began, 0))
