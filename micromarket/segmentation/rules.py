"""The rules that place a customer in a segment: a frozen definition, in words, as YAML and as an engine expression."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import ibis

from micromarket.errors import did_you_mean
from micromarket.formats import count, listed, money

BASES = ("purchases", "contracts", "orders")
WITHIN = ("all", "frequent", "occasional")
GONE_QUIET, LAPSED = "Gone quiet", "Lapsed"
_YEAR = 365
_SPAN = {91: "3 months", 182: "6 months", 365: "12 months"}
_LONGEST = 60  # letters of a product's name inside a segment's


@dataclass(frozen=True)
class Segment:
    """``name``: short, in plain words; ``definition``: one sentence with units."""

    name: str
    definition: str


@dataclass(frozen=True)
class Rules:
    """What defines the segments of a company that has none of its own. Tested in this order; the first that fits holds.

    Attributes
    ----------
    basis : {"purchases", "contracts", "orders"}
        What is known of a customer: a log of purchases, contracts, or only orders and revenue so far.
    new_days : int or None
        Days since the first purchase up to which a customer is new.
    quiet_days, lapsed_days : int or None
        Days since the last purchase after which a customer has gone quiet, and after which it has lapsed.
    frequency : float or None
        From this on a customer is frequent: purchase days a year since the first one, counted over at least a year
        (so that two purchases in the first month are not 24 a year); with basis "orders", orders so far.
    value : tuple of float
        Rising limits between bands of money: per purchase day, per order, or a month at the start of the contract.
    value_within : {"all", "frequent", "occasional"}
        Who is split by ``value``.
    products : tuple of str
        Main products with a segment of their own; everybody else forms one more.
    others_with_last : bool
        The few customers of any other product count with the last of ``products``.
    decided_on : date or None
        The day of the review that chose these rules (the data before it decided).
    """

    basis: str
    new_days: int | None = None
    quiet_days: int | None = None
    lapsed_days: int | None = None
    frequency: float | None = None
    value: tuple[float, ...] = ()
    value_within: str = "all"
    products: tuple[str, ...] = ()
    others_with_last: bool = False
    decided_on: dt.date | None = None

    def plain(self) -> dict[str, Any]:
        """As plain JSON and YAML values, ready for the key ``segments`` of plan.yml; what is not used is left out."""
        raw = {k: v for k, v in asdict(self).items() if v not in (None, (), False)}
        if self.value_within == "all":
            raw.pop("value_within")
        for key in ("value", "products"):
            if key in raw:
                raw[key] = list(raw[key])
        if self.decided_on is not None:
            raw["decided_on"] = self.decided_on.isoformat()
        return raw

    def segments(self, currency: str) -> tuple[Segment, ...]:
        """Every segment, in the order in which :func:`segment_expression` tests them."""
        return tuple(segment for _, segment in _branches(self, currency))


@dataclass(frozen=True)
class _Cell:
    """One established segment. ``None``: not split by this."""

    frequent: bool | None
    band: int | None
    product: int | None  # len(products): any other


def read_segments(raw: Any) -> str | Rules:
    """The key ``segments`` of plan.yml: ``"auto"`` (also where it is empty), ``"none"`` or pinned :class:`Rules`.

    Raises
    ------
    ValueError
        Saying what was expected.
    """
    if raw is None or raw == "auto":
        return "auto"
    if raw == "none":
        return "none"
    if not isinstance(raw, Mapping):
        raise ValueError("auto, none, or the rules that the data stage's notes hold under segmentation.rules")
    known = [f.name for f in fields(Rules)]
    for key in raw:
        if key not in known:
            raise ValueError(did_you_mean(str(key), known))
    if raw.get("basis") not in BASES:
        raise ValueError(f"basis to be one of {', '.join(BASES)}")
    values: dict[str, Any] = {"basis": raw["basis"]}
    for key in ("new_days", "quiet_days", "lapsed_days"):
        values[key] = _number(raw.get(key), key, whole=True)
    values["frequency"] = _number(raw.get("frequency"), "frequency")
    values["value"] = _rising(raw.get("value"))
    values["products"] = _texts(raw.get("products"))
    values["value_within"] = raw.get("value_within") or "all"
    if values["value_within"] not in WITHIN:
        raise ValueError(f"value_within to be one of {', '.join(WITHIN)}")
    if not isinstance(raw.get("others_with_last", False), bool):
        raise ValueError("others_with_last to be true or false")
    values["others_with_last"] = bool(raw.get("others_with_last", False)) and bool(values["products"])
    decided = raw.get("decided_on")
    if decided is not None:
        try:
            values["decided_on"] = decided if isinstance(decided, dt.date) else dt.date.fromisoformat(str(decided))
        except ValueError as error:
            raise ValueError("decided_on to be a date as YYYY-MM-DD") from error
    rules = Rules(**values)
    if rules.quiet_days is not None and rules.lapsed_days is not None and rules.quiet_days >= rules.lapsed_days:
        raise ValueError("quiet_days below lapsed_days")
    if rules.basis == "contracts" and (rules.new_days or _silent(rules) or rules.frequency):
        raise ValueError("contracts to be split by value and products only: what is known at the start")
    if rules.value_within != "all" and rules.frequency is None:
        raise ValueError("frequency beside value_within")
    if len(rules.segments("USD")) < 2:
        raise ValueError("rules that make at least two segments")
    return rules


def _number(value: Any, key: str, whole: bool = False) -> Any:
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0
    if wrong or (whole and value != int(value)):
        raise ValueError(f"{key} to be a {'whole ' if whole else ''}number above 0")
    return int(value) if whole else float(value)


def _rising(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    limits = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(_number(v, "value") for v in limits)
    if any(v is None for v in found) or any(a >= b for a, b in pairwise(found)):
        raise ValueError("value to be rising amounts of money")
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and v for v in value):
        raise ValueError("products to be a list of product names")
    if len(set(value)) < len(value):
        raise ValueError("products without repeats")
    return tuple(value)


def segment_expression(rules: Rules, states: ibis.Table, currency: str) -> ibis.Value:
    """The name of the segment of every row of ``states`` (columns as in :mod:`micromarket.segmentation.histories`)."""
    branches = _branches(rules, currency)
    tests = [(_test(rules, key, states), segment.name) for key, segment in branches[:-1]]
    last = ibis.literal(branches[-1][1].name)
    return ibis.cases(*tests, else_=last) if tests else last


def _branches(rules: Rules, currency: str) -> list[tuple[str | _Cell, Segment]]:
    found: list[tuple[str | _Cell, Segment]] = []
    if rules.new_days is not None:
        name = f"New in the last {_SPAN.get(rules.new_days, f'{rules.new_days} days')}"
        found.append(("new", Segment(name, f"First purchase in the last {rules.new_days} days.")))
    if rules.lapsed_days is not None:
        text = f"No purchase in the last {rules.lapsed_days} days, or none on record."
        found.append(("lapsed", Segment(LAPSED, text)))
    if rules.quiet_days is not None:
        text = f"No purchase in the last {rules.quiet_days} days, or none on record."
        if rules.lapsed_days is not None:
            text = f"Last purchase {rules.quiet_days + 1} to {rules.lapsed_days} days ago."
        found.append(("quiet", Segment(GONE_QUIET, text)))
    names: set[str] = set()
    for cell in _cells(rules):
        segment = _described(rules, cell, currency)
        name, k = segment.name, 2
        while name in names:  # two products whose names look the same
            name, k = f"{segment.name} ({k})", k + 1
        names.add(name)
        found.append((cell, Segment(name, segment.definition)))
    return found


def _cells(rules: Rules) -> list[_Cell]:
    """Best first; the last one is for whoever is left."""
    cells = []
    for frequent in (True, False) if rules.frequency is not None else (None,):
        split = frequent is None or rules.value_within in ("all", "frequent" if frequent else "occasional")
        bands: list[int | None] = list(range(len(rules.value), -1, -1)) if rules.value and split else [None]
        for band in bands:
            groups = len(rules.products) + (0 if rules.others_with_last else 1)
            products: list[int | None] = list(range(groups)) if rules.products else [None]
            cells += [_Cell(frequent, band, product) for product in products]
    return cells


def _test(rules: Rules, key: str | _Cell, t: ibis.Table) -> ibis.Value:
    if key == "new":
        return (t.tenure <= rules.new_days).fill_null(False)
    if key in ("quiet", "lapsed"):
        limit = rules.quiet_days if key == "quiet" else rules.lapsed_days
        return (t.recency > limit).fill_null(True)
    assert isinstance(key, _Cell)
    tests = []
    if key.frequent is not None:
        tests.append(is_frequent(rules.basis, t, rules.frequency or 0.0) == key.frequent)
    if key.band is not None:
        if key.band > 0:
            tests.append(is_worth(t, rules.value[key.band - 1]))
        if key.band < len(rules.value):
            tests.append(~is_worth(t, rules.value[key.band]))
    if key.product is not None:
        own = list(rules.products[: -1 if rules.others_with_last else None])
        if key.product < len(own):
            tests.append((t["product"] == own[key.product]).fill_null(False))
        elif own:
            tests.append(t["product"].notin(own).fill_null(True))
    both = ibis.literal(True)
    for test in tests:
        both = both & test
    return both


def is_frequent(basis: str, t: ibis.Table, limit: float) -> ibis.Value:
    """Whole numbers only: the same answer on every engine. ``limit``: purchase days a year, or orders."""
    if basis == "orders":
        return t.n >= math.ceil(limit)
    observed = ibis.greatest(t.tenure.fill_null(_YEAR), _YEAR)
    return t.n * (_YEAR * 100) >= observed * round(limit * 100)


def is_worth(t: ibis.Table, limit: float) -> ibis.Value:
    """Mean money per purchase (or a month) of at least ``limit``; whole cents."""
    return (t.n > 0) & (t.cents >= t.n * round(limit * 100))


def _described(rules: Rules, cell: _Cell, currency: str) -> Segment:
    names, says = [], []
    if rules.basis == "purchases":
        unit, per = "baskets", "a time"
    elif rules.basis == "orders":
        unit, per = "orders", "an order"
    else:
        unit, per = "contracts", "a month at the start"
    if cell.frequent is not None:
        limit = rules.frequency or 0.0
        if rules.basis == "orders":
            names.append(f"{count(limit)} orders or more" if cell.frequent else _fewer_orders(limit))
            says.append(f"{count(limit)} orders or more so far" if cell.frequent else f"{_fewer_orders(limit)} so far")
        else:
            names.append("Frequent" if cell.frequent else "Occasional")
            often = "at least" if cell.frequent else "less than"
            says.append(f"buy on {often} {_figure(limit)} days a year")
    if cell.band is not None:
        low = _money(rules.value[cell.band - 1], currency) if cell.band else None
        high = _money(rules.value[cell.band], currency) if cell.band < len(rules.value) else None
        span = f"{low} or more" if high is None else f"under {high}" if low is None else f"{low} to under {high}"
        if rules.basis == "purchases":
            sizes = (
                ("small", "large") if len(rules.value) == 1 else ("small", "medium", "large", "very large", "largest")
            )
            names.append(f"{sizes[min(cell.band, len(sizes) - 1)]} {unit}")
        else:
            names.append(f"{span} {'a month' if rules.basis == 'contracts' else per}")
        says.append(f"spend {span} {per} on average" if rules.basis == "purchases" else f"{span} {per}")
    if cell.product is not None:
        own = len(rules.products) - rules.others_with_last
        shown_names = [_clean(p) for p in rules.products]
        verb = "" if rules.basis == "contracts" else "mostly "
        if cell.product < own:
            product = shown_names[cell.product]
        elif rules.others_with_last:
            product = f"{shown_names[-1]} or other products"
        else:
            product = "other products"
        names.append(f"{verb}{product}")
        besides = "" if cell.product < own or rules.others_with_last else f" than {listed(shown_names)}"
        says.append(f"first contract: {product}" if rules.basis == "contracts" else f"buy mostly {product}")
        says[-1] += besides
    if not names:
        return Segment("Active", f"{_established(rules)}.")
    name = ", ".join(names)
    text = (" and " if rules.basis == "purchases" else ", ").join(says)
    if rules.basis == "purchases":
        text = f"{_established(rules)} who {text}"
    lowest = not cell.frequent and not cell.band and _silent(rules) is None
    if lowest and (cell.product is None or cell.product == _last_product(rules)):
        text += ", or nothing on record"
    return Segment(name[0].upper() + name[1:], f"{text[0].upper()}{text[1:]}.")


def _silent(rules: Rules) -> int | None:
    """Days since the last purchase after which a customer is in no established segment."""
    return rules.quiet_days if rules.quiet_days is not None else rules.lapsed_days


def _last_product(rules: Rules) -> int:
    return len(rules.products) - (1 if rules.others_with_last else 0)


def _established(rules: Rules) -> str:
    text = "Customers" if rules.new_days is None else f"Customers for more than {rules.new_days} days"
    return text if _silent(rules) is None else f"{text} with a purchase in the last {_silent(rules)} days"


def _fewer_orders(limit: float) -> str:
    most = math.ceil(limit) - 1
    return "One order" if most == 1 else f"Up to {most} orders"


def _figure(value: float) -> str:
    return f"{value:g}"


def _money(value: float, currency: str) -> str:
    """Exact, so that two limits never look the same."""
    return money(value, currency, digits=12).replace("\u00a0", " ")


def _clean(product: str) -> str:
    """A product's name on one line, bounded: it is text from data."""
    text = " ".join("".join(c if c.isprintable() else " " for c in product).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
