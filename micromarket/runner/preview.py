"""Reads and validates all of a company's input, and tells from it what the plan will be able to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from micromarket.config import Settings
from micromarket.errors import InputError, Problem, printable
from micromarket.formats import plural
from micromarket.load import Dataset, open_dataset
from micromarket.runner.inputs import BESIDE
from micromarket.write_back import refuse_unreachable


@dataclass(frozen=True)
class Preview:
    """A sound input.

    Attributes
    ----------
    rows : dict
        Rows of each table.
    features : tuple of str
        Market columns that may explain potential.
    says : tuple of (part of the plan, sentence)
        What the plan will say, on what ground, and what it can't. What only the stages can find out (whether there are
        enough sales to learn from, say) is not foreseen.
    warnings : tuple of str
        What is odd but not wrong.
    """

    rows: dict[str, int]
    features: tuple[str, ...]
    says: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def to_text(self) -> str:
        """A short summary for the terminal."""
        lines = ["Tables"]
        lines += [f"  {table:<18}{count:>14,} {'row' if count == 1 else 'rows'}" for table, count in self.rows.items()]
        lines += ["", f"Features: {', '.join(self.features) or 'none'}", "", "The plan will say"]
        lines += [f"  {part:<11}{sentence}" for part, sentence in self.says]
        if self.warnings:
            lines += ["", "Mind this", *(f"  - {printable(text)}" for text in self.warnings)]
        return "\n".join(lines)


def check(settings: Settings) -> Preview:
    """Validates everything and writes nothing.

    Raises
    ------
    InputError
        With every problem of every table, and of a ``plays.yml`` beside ``plan.yml``.
    """
    problems = _problems_of_plays(settings)
    try:
        refuse_unreachable(settings)
        with open_dataset(settings) as dataset:
            if problems:
                raise InputError(problems)
            rows = dict(sorted(dataset.rows.items()))
            return Preview(rows, dataset.features, tuple(_says(dataset)), tuple(dataset.warnings))
    except InputError as error:
        seen = [p for p in problems if p not in error.problems]
        raise InputError([*error.problems, *seen]) from None


def _problems_of_plays(settings: Settings) -> tuple[Problem, ...]:
    own = settings.path.with_name(BESIDE["plays"])
    if not own.is_file():
        return ()
    from micromarket.potential.plays import play_library  # waits for scikit-learn; few companies have their own plays

    try:
        play_library(own)
    except InputError as error:
        return error.problems
    return ()


def _says(dataset: Dataset) -> Iterator[tuple[str, str]]:
    dated = dataset.has("subscriptions") or dataset.has("transactions") or _has_dates(dataset)
    spend = dataset.rows.get("spend", 0) > 0
    yield "value", _value(dataset)
    yield "potential", _potential(dataset)
    if not spend:
        yield "response", "nothing: there is no spend"
        yield "budget", "nothing: there is no spend to move"
    else:
        channels = int(dataset.table("spend").channel.nunique().execute())
        ground = "estimated from spend and new customers" if dated else "assumed, as new customers have no dates"
        tests = dataset.rows.get("experiments", 0)
        yield (
            "response",
            f"{plural(channels, 'channel')}, {ground}" + (f"; {plural(tests, 'experiment')}" * bool(tests)),
        )
        yield "budget", "how much goes where, within the limits of plan.yml"
    growth = dataset.settings.targets.growth
    revenue = dataset.has("subscriptions") or dataset.has("transactions")
    yield "targets", f"revenue {growth:+.0%}, by market and period" if revenue else "nothing: no revenue has a date"
    leads = dataset.rows.get("leads", 0)
    if not revenue:
        yield "funnel", "nothing: there are no targets to work back from"
    else:
        yield "funnel", f"your own rates, from {plural(leads, 'lead')}" if leads else "nothing: there are no leads"
    yield "tests", "a randomised holdout, if the money moves far enough" if spend and dated else "nothing to test"
    yield "map", _map(dataset)


def _value(dataset: Dataset) -> str:
    if dataset.settings.economics.relationship == "contractual":
        return "lifetime value from contracts and how long they last"
    if dataset.has("transactions"):
        return "lifetime value from purchases and who still buys"
    if "age_days" in dataset.table("customer_summary").columns:
        return "lifetime value from each customer's number of orders and age"
    return "margin so far, not lifetime value: customer_summary has no age_days"


def _potential(dataset: Dataset) -> str:
    known = [c for c in ("addressable_customers", "market_customers") if dataset.markets[c].notna().any()]
    by = f"explained by {plural(len(dataset.features), 'feature')}" if dataset.features else "without features"
    if "market_customers" in known:
        return f"headroom and share of each market, {by}"
    if known:
        return f"headroom of each market, {by}; no share without market_customers"
    return f"headroom against our own best markets only, {by}: no market's size is known"


def _has_dates(dataset: Dataset) -> bool:
    if dataset.rows.get("outcomes", 0):
        return True
    customers = dataset.table("customers")
    return "acquired_on" in customers.columns and bool(customers.acquired_on.count().execute())


def _map(dataset: Dataset) -> str:
    markets = dataset.markets
    shapes = "geometry" in markets.columns and bool(markets["geometry"].notna().any())
    return "yes" if shapes else "none: the markets have no geometry"
