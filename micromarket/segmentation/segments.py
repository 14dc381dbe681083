"""One segmentation for sales and marketing: the company's own, or one derived from what customers buy."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import ibis
import pandas as pd

from micromarket.load import Dataset
from micromarket.notes import Assumption
from micromarket.segmentation import histories as h
from micromarket.segmentation.choose import Bins, Review, count_bins, review_all
from micromarket.segmentation.history import History, kept_days, kept_people, so_far
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
    history = History(dataset, basis)
    if basis == "orders":
        states = history.states(dataset.settings.as_of)
        day = dataset.settings.as_of + dt.timedelta(days=1)
        known = dataset.table("customer_summary").columns
        bins = count_bins(basis, states, so_far(states))
        recency = {"age_days", "recency_days"} <= set(known)
        return review_all([Review(day, day, day)], lambda *_: bins, basis, recency=recency)

    def bins_of(review: Review, last: Rules | None) -> Bins:
        before = history.value_after(review)
        return count_bins(basis, history.known(review.until), before, last)

    return review_all(history.reviews, bins_of, basis, recency=basis == "purchases")


def segmented_customers(dataset: Dataset, rules: Rules | None = None) -> ibis.Table:
    """Everybody with market and segment: customer_id, market_id, segment, acquired_on.

    The one place that says which segment a customer is in. The company's own column wins (``Unknown`` where it is
    empty); else ``rules`` (default: :func:`segment_rules`) place every customer, also who never bought; else all are
    in one segment, ``All``. Computed once in the engine; no customer row leaves it.
    """
    people, own = kept_people(dataset), _own(dataset)
    if rules is None and not own:
        rules = segment_rules(dataset)
    if own:
        labels = dataset.table("customers")
        labels = labels.select("customer_id", segment=labels.segment.fill_null(UNKNOWN_SEGMENT))
        found = people.inner_join(labels, "customer_id")
    elif rules is None:
        found = people.mutate(segment=ibis.literal(NO_SEGMENT))
    else:
        t = History(dataset, rules.basis).states(dataset.settings.as_of)
        labels = t.select("customer_id", segment=segment_expression(rules, t, dataset.settings.company.currency))
        found = people.inner_join(labels, "customer_id")
    return dataset.keep("segmented_customers", found.select("customer_id", "market_id", "segment", "acquired_on"))


def segments_at_purchase(dataset: Dataset, rules: Rules) -> ibis.Table:
    """customer_id, date, segment: where each buyer was *when it bought* (before the purchase; the first one: after it).

    A history split by the segment that customers are in today shows trends that aren't there: who has gone quiet seems
    to vanish, who buys often seems to grow. Split by the segment of the day, segments have a past to plan on.
    """
    history = History(dataset, rules.basis)
    products = history.states(dataset.settings.as_of).select("customer_id", "product") if rules.products else None
    t = h.states_at_purchase(kept_people(dataset), kept_days(dataset), products)
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


def _worth(dataset: Dataset, customers: ibis.Table, rules: Rules | None) -> SegmentWorth | None:
    basis = basis_of(dataset)
    if basis is None:
        return None
    built, history = False, History(dataset, basis)
    if history.last is not None:
        span = (history.last.until - history.last.cut).days
        who = "with a contract" if basis == "contracts" else "known"
        measure = f"margin in the {span} days after {history.last.cut} of the customers {who} then, on a log scale"
        t = history.value_after(history.last)
    else:
        t = so_far(history.states(dataset.settings.as_of))
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
    people, as_of = kept_people(dataset), dataset.settings.as_of
    known = people.filter(people.start <= ibis.literal(as_of - dt.timedelta(days=_YEAR), "date"))
    if basis == "purchases":
        money = kept_days(dataset)
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
