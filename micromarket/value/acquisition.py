"""What it costs to win a customer, by market, segment and channel, and when a new customer's margin has paid it back.

Money spent over customers won in the same year, pooled by empirical Bayes so that a market that won three customers is
not called cheap or dear on luck. Blended cost (all money, all customers) and paid cost (money of the channels that
customers are booked under, and those customers) are kept apart; money of channels that nobody is booked under is
stated, never spread. Counts are overdispersed Poisson (McCullagh & Nelder 1989, ch. 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.disclosure import hidden_groups
from micromarket.formats import listed, percent
from micromarket.market_data import MarketData
from micromarket.notes import Assumption
from micromarket.value import summaries as s
from micromarket.value.acquisition_cost import margin_paths
from micromarket.value.acquisition_levels import Level, Values, levels_from_costs, levels_from_spend
from micromarket.value.channel_segments import channel_segments
from micromarket.value.customers_won import Purchased, costs_on_record, spend_and_customers
from micromarket.value.model import CellModel
from micromarket.value.money import Weights
from micromarket.workspace import Workspace

COLUMNS = ARTEFACTS["value_acquisition"].columns
_SHOWN_TO_PEOPLE = COLUMNS[5:]  # from new_customers on: empty where the group is small


@dataclass(frozen=True)
class AcquisitionResult:
    """``table``: the artefact value_acquisition, small groups emptied; ``market_cost`` (money per customer won, all
    spend over all customers) and ``market_payback`` (months) by market in the order of the cells' markets, none
    emptied: for the stages after, not for people; ``segments``: artefact channel_segments, where channels and segments
    of new customers are known. ``numbers``: see :func:`acquisition_economics`."""

    table: pd.DataFrame
    market_cost: np.ndarray
    market_payback: np.ndarray
    numbers: dict[str, Any] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[str, ...] = ()
    segments: pd.DataFrame | None = None

    def write(self, workspace: Workspace) -> None:
        workspace.write("value_acquisition", self.table)
        if self.segments is not None:
            workspace.write("channel_segments", self.segments)


def acquisition_economics(
    dataset: s.Tables,
    data: MarketData,
    settings: Settings,
    model: CellModel,
    weights: Weights,
    by_cell: pd.DataFrame,
    by_market: pd.DataFrame,
    servicing_cost: float,
) -> AcquisitionResult:
    """Cost of a new customer, its value and the payback, by company, market, segment and channel.

    Money comes from the spend table (channels from ``customers.channel``, else from leads won), else from
    ``customers.acquisition_cost``; without either the cost is unknown and said to be.

    Parameters
    ----------
    by_cell, by_market : DataFrame
        From :func:`micromarket.value.money.settle`, in the order of ``model.cells`` and its markets.
    servicing_cost : float
        Money per customer and month.

    Returns
    -------
    AcquisitionResult
        ``numbers``: source (spend/customers/none), first_day, last_day, spend (money), new_customers, blended_cost,
        paid_cost (money per customer, null: unknown), spend_unclaimed (money of channels nobody is booked under),
        unclaimed_channels, customers_unpaid (won without a channel that spends), ltv_to_cac and payback_months
        (blended; null: not within the horizon or unknown).
    """
    cells = model.cells
    worth = by_cell["new_customer_clv"].to_numpy(float)
    observed = all(m["model"] == "observed" for m in model.models)
    value = Values(
        cells,
        worth,
        None if observed else margin_paths(model, servicing_cost, worth),
        weights.of_new,
        by_market["new_customer_clv"].to_numpy(float),
    )
    bought = spend_and_customers(dataset, data, cells, weights.of_new)
    if bought is None:
        bought = costs_on_record(dataset, settings.as_of, cells, weights.of_new)
    if bought is None:
        return _nothing_known(value, data)
    levels = levels_from_spend(bought, value) if bought.source == "spend" else levels_from_costs(bought, value)
    names = data.markets.set_index("market_id").get("name")
    table = _table(levels, names, settings.report.min_cell)
    market = next(level for level in levels if level.kind == "market" and level.basis == "blended")
    numbers, warnings, assumptions = _words(bought, levels, settings)
    if observed:
        warnings.append("When a new customer's margin pays for winning it isn't known: value here is the past's.")
    return AcquisitionResult(
        table, market.cost.mean, market.payback, numbers, tuple(assumptions), tuple(warnings),
        channel_segments(bought, cells, weights.of_new, worth),
    )  # fmt: skip


def _table(levels: list[Level], names: pd.Series | None, min_cell: int) -> pd.DataFrame:
    frames = []
    for level in levels:
        ratio = np.where(level.cost.mean > 0, level.worth / np.where(level.cost.mean > 0, level.cost.mean, 1.0), np.nan)
        frame = pd.DataFrame(
            {
                "level": level.kind,
                "basis": level.basis,
                "key": level.keys,
                "name": level.keys,
                "spend": level.spend,
                "new_customers": level.customers,
                "cac": level.cost.mean,
                "cac_low": level.cost.low,
                "cac_high": level.cost.high,
                "new_customer_clv": level.worth,
                "ltv_to_cac": ratio,
                "payback_months": level.payback,
            }
        )
        if level.kind == "market" and names is not None:
            frame["name"] = frame["key"].map(names).fillna(frame["key"])
        # their sum is known: one small group alone would be what the others leave over
        small = hidden_groups(frame["new_customers"], min_cell, zeros=False)
        frame.loc[small | (frame["new_customers"] <= 0), list(_SHOWN_TO_PEOPLE[1:])] = np.nan
        frame.loc[small, "new_customers"] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).astype(dict.fromkeys(COLUMNS[:4], "str"))[list(COLUMNS)]


def _nothing_known(value: Values, data: MarketData) -> AcquisitionResult:
    cells = value.cells
    size = len(cells.market_ids)
    text = (
        "What it costs to win a customer is unknown: there is no spend table and no acquisition_cost of customers, so"
        " payback can't be told."
    )
    if data.spend is not None and len(data.spend):
        text = (
            "What it costs to win a customer is unknown: there is spend, but nothing says when customers were won, so"
            " payback can't be told."
        )
    empty = pd.DataFrame({c: pd.Series(dtype="str" if c in COLUMNS[:4] else "float64") for c in COLUMNS})
    unknown = np.full(size, np.nan)
    return AcquisitionResult(empty, unknown, unknown.copy(), {"source": "none"}, (), (text,))


def _words(
    bought: Purchased, levels: list[Level], settings: Settings
) -> tuple[dict[str, Any], list[str], list[Assumption]]:
    found = {(level.kind, level.basis): level for level in levels}
    blended, paid = found[("company", "blended")], found.get(("company", "paid"))
    unclaimed, unpaid = found.get(("channel", "unclaimed")), found.get(("channel", "unpaid"))
    spend, lost = float(blended.spend[0]), float(unclaimed.spend.sum()) if unclaimed else 0.0
    n = float(blended.customers[0])
    channels = [str(k) for k in unclaimed.keys] if unclaimed else []
    ratio = float(blended.worth[0] / blended.cost.mean[0]) if blended.cost.mean[0] > 0 else None
    numbers = {
        "source": bought.source,
        "first_day": bought.first_day,
        "last_day": bought.last_day,
        "spend": spend,
        "new_customers": n,
        "blended_cost": float(blended.cost.mean[0]),
        "paid_cost": float(paid.cost.mean[0]) if paid else None,
        "spend_unclaimed": lost,
        "unclaimed_channels": channels,
        "customers_unpaid": n - float(paid.customers[0])
        if paid
        else (float(unpaid.customers.sum()) if unpaid else 0.0),
        "ltv_to_cac": ratio,
        "payback_months": float(blended.payback[0]),
    }
    warnings = list(bought.warnings)
    if lost > 0:
        shown = listed(channels[:4]) + (" and others" if len(channels) > 4 else "")
        warnings.append(
            f"{percent(lost / spend)} of the money went to channels that no customer is booked under ({shown}): it is"
            " in the blended cost of a new customer, and in no channel's own."
        )
    months = settings.economics.horizon_months
    if ratio is not None and ratio < 1:
        warnings.append(
            f"A new customer costs more to win than the margin it brings within {months} months (value over cost:"
            f" {ratio:.2g})."
        )
    for kind in ("segment", "channel"):
        level = found.get((kind, "paid")) or found.get((kind, "blended"))
        if level is not None:
            enough = level.customers >= settings.report.min_cell
            dear = [str(level.keys[i]) for i in np.flatnonzero(enough & (level.worth < level.cost.low))]
            if dear and len(level.keys) > 1:
                shown = listed(dear[:4]) + (" and others" if len(dear) > 4 else "")
                warnings.append(
                    f"By {kind}, a new customer brings less margin within {months} months than winning it costs:"
                    f" {shown}."
                )
    assumptions = [
        Assumption(
            "What is spent in a year wins the customers of that year. Where a sale takes weeks, rising spend makes"
            f" winning look a little dearer than it is.{bought.lag}",
            "ours",
        )
    ]
    if paid is not None and bought.source == "spend":
        assumptions.append(
            Assumption(
                "A channel's cost counts the customers booked under it; some of them would have come anyway, others it"
                " brought are booked elsewhere. What the next unit of money brings is the response stage's question.",
                "ours",
            )
        )
    by_segment = ("segment", "paid") in found or ("segment", "blended") in found
    if by_segment and bought.source == "spend":
        text = "Spend isn't recorded by segment: a customer won by a channel in a market costs the same in each."
        assumptions.append(Assumption(text, "ours"))
    return numbers, warnings, assumptions
