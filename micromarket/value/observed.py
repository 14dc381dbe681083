"""No dates, no model: what each customer has brought so far, pooled by market, and said to be just that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.pooling import MarketEffects, normal
from micromarket.value.prior_mean import Surroundings
from micromarket.value.signal import verdict
from micromarket.value.spend import money_effects, money_signal, segment_ratio

NO_MODEL = (
    "The customer table has no age_days, so there is nothing to predict from: a customer's value here is the margin"
    " already earned, not a forecast. Retention is unknown."
)


def model_observed(cells: Cells, counts: pd.DataFrame, about: Surroundings, margin_rate: float) -> CellModel:
    """From :func:`~micromarket.value.summaries.observed_value`."""
    components = [money_signal("revenue per customer", counts, cells)]
    at = cells.locate(counts)
    counts, at = counts[at >= 0], at[at >= 0]
    n, amount, amount2 = (
        cells.total(at, counts[c].to_numpy(float, na_value=0.0)) for c in ("customers", "amount", "amount2")
    )
    # who bought more than once: n, sum and sum of squares of a 0/1 variable
    repeat = counts.assign(n=counts["customers"], total=counts["repeaters"], square=counts["repeaters"])
    components.append(money_signal("share of repeat buyers", repeat, cells))
    fixed = verdict(components)["verdict"] == "none"
    # whether markets differ is asked of all customers; what was observed of a segment stands as it is, also where it
    # follows from behaviour: there is no model that could take the selection for a trait
    cells = replace(cells, segment=cells.label, segments=cells.labels)
    spread = np.maximum(segment_ratio(cells, amount2, n) - segment_ratio(cells, amount, n) ** 2, 0.0)
    money, level, _ = money_effects(cells, amount, n, n * spread[cells.segment], about, fixed)
    unit = level * np.exp(money.mean[:, 0] + money.covariance[:, 0, 0] / 2)
    none = np.zeros((len(cells), 1))
    still = MarketEffects(prior_sd=1e-6, rounds=1).fit(
        normal(np.zeros(len(cells)), np.full(len(cells), 1e12)), cells.market, cells.segment
    )
    one, nothing = LogQuadratic(np.zeros(len(cells)), none, none), LogQuadratic(np.full(len(cells), -700.0), none, none)
    flat = np.ones((len(cells), 2))
    customers = cells.by_segment(n)
    models: list[dict[str, Any]] = [
        {
            "segment": s,
            "model": "observed",
            "parameters": {},
            "customers": float(c),
            "converged": True,
            "holdout_error": None,
        }
        for s, c in zip(cells.segments, customers, strict=True)
    ]
    return CellModel(
        cells=cells,
        behaviour=still.posterior_,
        money=money,
        new_count=one,
        new_months=nothing,
        current_revenue=LogQuadratic(np.log(np.maximum(unit, 1e-300)), none, none),
        current_months=nothing,
        unit=unit,
        current_sd=np.zeros(len(cells)),
        money_slope=np.zeros(len(cells)),
        money_share=np.ones(len(cells)),
        margin_rate=np.full(len(cells), margin_rate),
        margin_sd=np.zeros(len(cells)),
        first_year_count=np.ones(len(cells)),
        retention=np.full(len(cells), np.nan),
        path_count=flat,
        path_months=0 * flat,
        shared_sd=np.zeros(len(cells)),
        current_shared_sd=np.zeros(len(cells)),
        market_sd=np.zeros(len(cells)),
        customers=n,
        models=models,
        components=components,
        warnings=[NO_MODEL],
    )
