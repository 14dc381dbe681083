"""Every running contract's lifetime value: age to expected remaining lifetime, times the customer's own revenue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.errors import InputError, Problem
from micromarket.value import summaries as s
from micromarket.value.model import EVERYBODY, Cells
from micromarket.value.summaries import DAYS_PER_MONTH
from micromarket.value.tenures import SIMPLEST, Tenures, fit_segments

if TYPE_CHECKING:
    from micromarket.value.customer_values import EngineTables


def contract_values(
    dataset: EngineTables, settings: Settings, customers: ibis.Table, families: dict[str, str], together: bool
) -> tuple[ibis.Table, dict[str, Any]]:
    """Customers whose contract runs: customer_id, market_id, segment, p_alive (1: a contract says so),
    expected_purchases (paid months within the horizon), expected_spend (money a month), margin (money, discounted),
    months (discounted); and the models by segment.

    Raises
    ------
    InputError
        Without ``economics.margin_rate``, or where no contract runs.
    """
    money, as_of = settings.economics, settings.as_of
    if money.margin_rate is None:
        raise InputError([Problem(settings.path.name, "this key", column="economics.margin_rate")])
    contracts = dataset.keep("customer_value_contracts", s.contract_customers(dataset, as_of))
    counts = s.count_contracts(customers, contracts, as_of)
    running = counts[counts["gone"] == 0]
    if not len(running):
        file = settings.data["subscriptions"].shown_as if "subscriptions" in settings.data else "subscriptions"
        raise InputError([Problem(file, "at least one contract that runs, of a customer who lives in a market")])
    pairs = counts[["market_id", "segment"]].astype(object)
    cells = Cells.of(pairs, sorted(counts["market_id"].unique()), together)
    tenures, _ = Tenures.of(counts, cells)
    chosen = [families.get(segment, SIMPLEST) for segment in cells.segments]
    fitted = {family: fit_segments(tenures, len(cells.segments), family) for family in sorted(set(chosen))}
    fits: dict[str, Any] = {}
    rows = []
    for i, name in enumerate(cells.segments):
        model = fits[name] = fitted[chosen[i]][i]
        ages_seen = running if together else running[running["segment"] == name]
        for age in np.unique(ages_seen["age"].to_numpy(int)):
            months = model.discounted_lifetime(money.horizon_months, money.discount_rate, int(age))
            paid = model.discounted_lifetime(money.horizon_months, 0.0, int(age))
            rows.append((name, int(age), paid, months))
    frame = pd.DataFrame(rows, columns=["model", "age", "expected_purchases", "months"])
    frame = frame.astype({"model": "str", "age": "int32"}).assign(p_alive=1.0)
    ages = dataset.put("customer_value_ages", frame)
    t = customers.inner_join(contracts.filter(contracts.gone == 0), "customer_id")
    days = ibis.greatest(t.end.delta(t.start, unit="day"), 0)
    model_of = ibis.literal(EVERYBODY) if together else t.segment
    t = t.mutate(model=model_of, age=(days.cast("float64") / DAYS_PER_MONTH).floor().cast("int32"))
    t = t.inner_join(ages, ["model", "age"])
    found = t.select(
        "customer_id", "market_id", "segment", "p_alive", "expected_purchases", "months",
        expected_spend=t.value, margin=t.value * money.margin_rate * t.months,
    )  # fmt: skip
    return found, fits
