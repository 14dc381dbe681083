"""Every known customer's lifetime value, for the company's own use (a CRM): a table in the engine, or a file.

Models are fitted on counts of equal histories; what a history is worth is computed once for each, and joined to the
customers in the engine. No row about a customer comes to Python. Nothing of it belongs in a plan or its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from threadpoolctl import threadpool_limits

from micromarket.config import Settings
from micromarket.errors import InputError, Problem
from micromarket.market_data import MarketData
from micromarket.value import summaries as s
from micromarket.value.contract_values import contract_values
from micromarket.value.estimate import ValueResult, known_customers
from micromarket.value.model import EVERYBODY
from micromarket.value.models.gamma_gamma import GammaGamma
from micromarket.value.outlook import outlook
from micromarket.value.purchases import FAMILIES, FEWEST_CUSTOMERS, FEWEST_REPEATERS, SIMPLEST

COLUMNS = ("customer_id", "market_id", "segment", "p_alive", "expected_purchases", "expected_spend", "clv")
#: Purchases that are summed at once; a longer log is taken in parts.
PART = 30_000_000
_HISTORY = ["model", "x", "t_x", "T"]


class EngineTables(s.Tables, Protocol):
    """What this module needs of a :class:`micromarket.load.Dataset`."""

    def keep(self, name: str, table: ibis.Table, parts: tuple[str, int] | None = None) -> ibis.Table: ...

    def put(self, name: str, frame: pd.DataFrame | pa.Table) -> ibis.Table: ...

    def save(self, table: ibis.Table, path: Path) -> None: ...


@dataclass(frozen=True)
class CustomerValues:
    """Lifetime value of every customer who has bought (or has a contract that runs) and lives in a market.

    Attributes
    ----------
    table : ibis Table
        customer_id, market_id, segment, p_alive (probability that the customer has not left), expected_purchases
        (count: repeat purchases, or paid months, within the horizon), expected_spend (money per purchase or month),
        clv (money: discounted margin over the horizon less servicing cost). Lazy, in the engine.
    models : dict
        The fitted models by segment ("All": one for all, as segments were made from behaviour, or there are none).
    """

    table: ibis.Table
    models: dict[str, Any]


def customer_values(
    dataset: EngineTables, settings: Settings, data: MarketData | None = None, value: ValueResult | None = None
) -> CustomerValues:
    """Values every customer by its own history under its segment's model.

    Parameters
    ----------
    dataset, settings
        As for :func:`~micromarket.value.estimate.estimate_value`. Without a table of customers all of them are of the
        market and segment "All".
    data : MarketData, optional
        What the data stage found: its segments are then the customers'.
    value : ValueResult, optional
        What the value stage found from ``data``. With it the models are the stage's, and the margins of the customers
        of a market and segment are scaled so that their values add up to its customer equity: what the plan publishes,
        with what the stage knows of markets, is then what the CRM holds. (Of a cell without an active customer the
        published equity is 0; its customers are scaled as their segment is.)

    Raises
    ------
    InputError
        Where there is no log of purchases and no contract, or no margin to value revenue with.
    ValueError
        With ``value`` but without ``data``.
    """
    if value is not None and data is None:
        raise ValueError("customer_values needs the data that value was found from")
    money = settings.economics
    customers, together = None, not dataset.has("customers")
    if not together:
        customers, together = (s.customers_of(dataset), False) if data is None else known_customers(dataset, data)
    families = {} if value is None else {m["segment"]: m["model"] for m in value.notes.numbers["models"]}
    with threadpool_limits(limits=1, user_api="blas"):
        if dataset.has("subscriptions") and money.relationship == "contractual":
            assert customers is not None
            rows, models = contract_values(dataset, settings, customers, families, together)
        elif dataset.has("transactions"):
            rows, models = _of_buyers(dataset, settings, customers, families, together)
        else:
            expected = "transactions, or subscriptions with economics.relationship: contractual"
            raise InputError([Problem(settings.path.name, expected, column="data")])
    servicing = money.servicing_cost
    if value is None:
        return CustomerValues(rows.select(*COLUMNS[:-1], clv=rows.margin - servicing * rows.months), models)
    factors = dataset.put("customer_value_factors", _factors(rows, value, servicing))
    t = rows.inner_join(factors, ["market_id", "segment"])
    return CustomerValues(t.select(*COLUMNS[:-1], clv=t.factor * t.margin + t.add - servicing * t.months), models)


def write_customer_values(
    dataset: EngineTables,
    settings: Settings,
    path: str | Path,
    data: MarketData | None = None,
    value: ValueResult | None = None,
) -> CustomerValues:
    """:func:`customer_values` as Parquet at ``path`` (Spark: a folder of Parquet files).

    Parameters
    ----------
    dataset : Dataset
    settings : Settings
    path : str or Path
        Outside every run folder.
    data : MarketData, optional
    value : ValueResult, optional
        Of this dataset; default: both are made again.

    Returns
    -------
    CustomerValues

    Raises
    ------
    InputError
        As :func:`customer_values`; and where ``path`` lies in a plan's folder, which is handed round.
    """
    path = Path(path).absolute()
    if any((folder / name).exists() for folder in path.parents for name in ("manifest.json", "plan.json")):
        expected = "a place outside the folder of a plan: rows about single customers don't belong there"
        raise InputError([Problem(str(path), expected)])
    values = customer_values(dataset, settings, data, value)
    dataset.save(values.table, path)
    return values


def _of_buyers(
    dataset: EngineTables, settings: Settings, customers: ibis.Table | None, families: dict[str, str], together: bool
) -> tuple[ibis.Table, dict[str, Any]]:
    money = settings.economics
    days = s.purchase_days(dataset, money.margin_rate, settings.as_of)
    buyers = s.purchase_customers(days, settings.as_of)
    if customers is not None:
        buyers = buyers.inner_join(customers, "customer_id")
    parts = 1 + int(dataset.table("transactions").count().execute()) // PART
    t = dataset.keep("customer_value_buyers", buyers, ("customer_id", parts))
    if customers is None:  # a log alone
        t = t.mutate(market_id=ibis.literal(s.NO_SEGMENT), segment=ibis.literal(s.NO_SEGMENT))
    # segments made from behaviour select on what is modelled: there all share a model
    t = t.mutate(model=ibis.literal(EVERYBODY) if together else t.segment)
    sums = _arrays(
        t.group_by("model").aggregate(
            customers=t.count(), purchases=(t.x + 1).sum(), amount=t.amount.sum(), margin=t.margin.sum(),
            unknown=t.margin.isnull().sum(),
        )
    )  # fmt: skip
    if not len(sums["model"]):
        file = settings.data["transactions"].shown_as if "transactions" in settings.data else "transactions"
        raise InputError([Problem(file, "at least one purchase of a customer who lives in a market")])
    if sums["unknown"].any():
        expected = "this key, as not every purchase carries a margin of its own"
        raise InputError([Problem(settings.path.name, expected, column="economics.margin_rate")])
    counts = t.group_by(_HISTORY).aggregate(customers=t.count()).to_pyarrow()
    spent = t.filter(t.amount > s.NOTHING)
    spent = spent.mutate(n=spent.x + 1, mean=spent.amount / (spent.x + 1))
    step = (spent["mean"].ln() * 100).floor().cast("int32")
    spend = _arrays(
        spent.group_by("model", "n", step=step).aggregate(customers=spent.count(), mean=spent["mean"].mean())
    )
    families = {name: family.split(" with ")[0] for name, family in families.items()}
    found, models = _histories(counts, spend, sums, families, money.horizon_months, money.discount_rate)
    worth = dataset.put("customer_value_histories", found)
    t = t.inner_join(worth, _HISTORY)
    each = ibis.greatest(t.base + t.own * t.amount / (t.x + 1), 0.0)
    rows = t.select(
        "customer_id", "market_id", "segment", "p_alive", "expected_purchases", "months",
        expected_spend=each, margin=each * t.margin_per_spend,
    )  # fmt: skip
    return rows, models


def _histories(
    counts: pa.Table,
    spend: dict[str, np.ndarray],
    sums: dict[str, np.ndarray],
    families: dict[str, str],
    horizon: int,
    discount_rate: float,
) -> tuple[pa.Table, dict[str, Any]]:
    """What each distinct history is worth: one row each, with the customers' keys of it.

    ``base`` + ``own`` x the customer's mean spend is the expected spend; times ``margin_per_spend`` it is the
    discounted margin; ``months`` are discounted months alive.
    """
    x, t_x, T, n = (counts[c].to_numpy().astype(float) for c in ("x", "t_x", "T", "customers"))
    named = counts["model"].combine_chunks().dictionary_encode()
    code, names = named.indices.to_numpy(), named.dictionary.to_pylist()
    out = {c: np.zeros(len(x)) for c in ("p_alive", "expected_purchases", "months", "base", "own", "margin_per_spend")}
    shared: dict[Any, Any] = {}
    models = {}
    company = sums["margin"].sum() / sums["amount"].sum() if sums["amount"].sum() > 0 else 0.0
    for i in np.argsort(sums["model"]):
        name = str(sums["model"][i])
        rows = np.flatnonzero(code == names.index(name))
        family = families.get(name, SIMPLEST)
        thin = n[rows].sum() < FEWEST_CUSTOMERS or n[rows][x[rows] > 0].sum() < FEWEST_REPEATERS
        if thin and family not in shared:
            shared[family] = FAMILIES[family]().fit(x, t_x, T, n)
        model: Any = shared[family] if thin else FAMILIES[family]().fit(x[rows], t_x[rows], T[rows], n[rows])
        baskets = _baskets(spend, name, shared)
        models[name] = {"purchases": model, "spend": baskets}
        alive = model.p_alive(x[rows], t_x[rows], T[rows])
        expected, present, months = outlook(model, x[rows], T[rows], horizon, discount_rate)
        lean = np.ones(len(rows)) if baskets is None else baskets.population_weight(x[rows] + 1)
        level = max(sums["amount"][i] / sums["purchases"][i], 0.0)
        rate = sums["margin"][i] / sums["amount"][i] if sums["amount"][i] > 0 else company
        out["p_alive"][rows], out["expected_purchases"][rows] = alive, alive * expected
        out["months"][rows], out["margin_per_spend"][rows] = alive * months, alive * present * rate
        out["base"][rows], out["own"][rows] = lean * level, 1 - lean
    return pa.table({c: counts[c] for c in _HISTORY} | out), models


def _baskets(spend: dict[str, np.ndarray], name: str, shared: dict[Any, Any]) -> GammaGamma | None:
    """Gamma-Gamma of a segment; of everyone where it is thin, ``None`` where nobody's purchases add up to money."""

    def fitted(rows: np.ndarray) -> GammaGamma:
        return GammaGamma(prior_sd=2.0).fit(*(spend[c][rows].astype(float) for c in ("n", "mean", "customers")))

    own = np.flatnonzero(spend["model"] == name)
    if spend["customers"][own].sum() >= FEWEST_CUSTOMERS:
        return fitted(own)
    if "spend" not in shared:
        shared["spend"] = fitted(np.arange(len(spend["n"]))) if len(spend["n"]) else None
    return shared["spend"]


def _factors(rows: ibis.Table, value: ValueResult, servicing: float) -> pd.DataFrame:
    """By market and segment: ``factor`` on the margins, ``add`` (money a customer, where no margin is to scale)."""
    by = ["market_id", "segment"]
    found = rows.group_by(by).aggregate(n=rows.count(), margin=rows.margin.sum(), months=rows.months.sum()).to_pandas()
    cells = value.cells[[*by, "customers", "customer_equity"]].astype(dict.fromkeys(by, object))
    t = found.astype(dict.fromkeys(by, object)).merge(cells, on=by, how="left").sort_values(by)
    published = t["customers"].gt(0) & t["customer_equity"].notna()
    wanted = (t["customer_equity"] + servicing * t["months"]).where(published, 0.0)
    of_segment = pd.DataFrame({"wanted": wanted, "margin": t["margin"].where(published, 0.0)}).groupby(t["segment"])
    level = (of_segment["wanted"].transform("sum") / of_segment["margin"].transform("sum")).replace(
        [np.inf, -np.inf], np.nan
    )
    some = published & t["margin"].ne(0)
    factor = (wanted / t["margin"].where(some)).where(some, level.fillna(1.0))
    add = (wanted / t["n"]).where(published & ~some, 0.0)
    return t[by].astype("str").assign(factor=factor.astype(float), add=add.astype(float))


def _arrays(table: ibis.Table) -> dict[str, np.ndarray]:
    """A small aggregate's columns."""
    found = table.to_pyarrow()
    return {name: found[name].to_numpy() for name in found.column_names}
