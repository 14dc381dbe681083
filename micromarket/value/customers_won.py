"""Customers won and the money that won them, over the same days: the two sides of acquisition cost.

Counts come from the engine; of the spend only sums by market and channel are kept.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import ibis
import numpy as np
import pandas as pd

from micromarket import calendar as cal
from micromarket.market_data import MarketData
from micromarket.value import summaries as s
from micromarket.value.model import Cells

BLOCK_DAYS = 28
_NOBODY = np.array([], dtype=object)


@dataclass(frozen=True)
class Purchased:
    """Money and customers of the same days. Channels x cells; the channel ``""`` holds who is booked under none.

    Attributes
    ----------
    source : {"spend", "customers"}
    market_spend, market_customers : arrays (markets,)
        All money, and all customers won.
    channel_names : array (channels,) of str
    basis : array (channels,) of str
        paid (money and customers), unpaid (customers without money), unclaimed (money that no customer is booked
        under), unknown (money, and nothing says who won whom).
    channel_spend : array (channels, markets)
    by_cell : array (channels, cells)
        Customers won.
    market_periods, market_spend_periods, channel_periods, channel_spend_periods : arrays (groups, periods)
        Customers and money by period, for how far counts vary.
    cost, cost_squares, paid_by_cell : arrays (channels, cells) or None
        Costs on record: sums, sums of squares, and customers who cost anything.
    """

    source: str
    first_day: dt.date | None
    last_day: dt.date
    market_spend: np.ndarray
    market_customers: np.ndarray
    channel_names: np.ndarray
    basis: np.ndarray
    channel_spend: np.ndarray
    by_cell: np.ndarray
    by_segment_known: bool
    market_periods: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    market_spend_periods: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    channel_periods: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    channel_spend_periods: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    cost: np.ndarray | None = None
    cost_squares: np.ndarray | None = None
    paid_by_cell: np.ndarray | None = None
    lag: str = ""
    warnings: tuple[str, ...] = ()


def channel_key(names: pd.Series) -> pd.Series:
    """What makes two spellings of a channel the same: spaces and capitals don't count; empty where there is no name."""
    return names.astype("object").map(lambda v: _tidy(v).casefold() if isinstance(v, str) else "")


def _tidy(name: object) -> str:
    return " ".join(str(name).split())


def customers_acquired(dataset: s.Tables) -> ibis.Table:
    """customer_id, market_id, segment, channel, acquisition_cost (money) and acquired_on of every customer.

    ``acquired_on`` is the first contract or the first day with a positive purchase where the company doesn't say; a
    customer with refunds only was never won and has none.
    """
    t = dataset.table("customers")
    acquired = t.acquired_on if "acquired_on" in t.columns else ibis.null("date")
    channel = t.channel if "channel" in t.columns else ibis.null("string")
    cost = t.acquisition_cost if "acquisition_cost" in t.columns else ibis.null("float64")
    own = t.select("customer_id", channel=channel, acquisition_cost=cost, said=acquired)
    t = s.customers_of(dataset).inner_join(own, "customer_id")
    if dataset.has("subscriptions"):
        contracts = dataset.table("subscriptions")
        first = contracts.group_by("customer_id").aggregate(first_on=contracts.started_on.min())
    elif dataset.has("transactions"):
        log = dataset.table("transactions")
        first = log.group_by("customer_id").aggregate(first_on=log.date.min(where=log.amount > 0))
    else:
        return t.mutate(acquired_on=t.said).drop("said")
    t = t.left_join(first, "customer_id")
    return t.mutate(acquired_on=t.said.fill_null(t.first_on)).drop("said", "first_on")


def spend_and_customers(
    dataset: s.Tables, data: MarketData, cells: Cells, of_new: np.ndarray
) -> Purchased | None:  # fmt: skip
    """From the spend table's last year; ``None`` without spend, or where nothing dates the customers.

    ``of_new`` (cells,): share of each cell in its market's new customers, for those whose segment isn't known.
    """
    if data.spend is None or data.spend.empty:
        return None
    frequency = data.frequency or cal.frequency_of(data.spend["period"].drop_duplicates())[0]
    spend = data.spend[data.spend["amount"] > 0].assign(end=cal.period_end(data.spend["period"], frequency))
    if spend.empty:
        return None
    last = spend["end"].max()
    first = max(last - pd.Timedelta(days=364 if frequency == "week" else 366), spend["period"].min())
    spend = spend[spend["period"] >= first].astype({"market_id": object})
    first = spend["period"].min()
    market = pd.Index(cells.market_ids)
    spend = spend[spend["market_id"].isin(market)].assign(key=channel_key(spend["channel"]))
    acquired = customers_acquired(dataset)
    begin, end = first.date(), last.date()
    inside = acquired.filter((acquired.acquired_on >= ibis.literal(begin, "date"))
                             & (acquired.acquired_on <= ibis.literal(end, "date")))  # fmt: skip
    block = _block(inside.acquired_on, begin, frequency)
    inside = dataset.keep("customers_won", inside.mutate(block=block))
    won = _counted(inside, ["market_id", "segment", "channel"])
    warnings: list[str] = []
    known_dates = bool(len(won))
    if known_dates:
        periods = _counted(inside, ["market_id", "block"])
        channel_periods = _counted(inside, ["channel", "block"])
    else:
        won, periods = _from_outcomes(data, first, last, frequency)
        channel_periods = pd.DataFrame({"channel": _NOBODY, "block": [], "n": []})
        if won.empty:
            return None
    everyone = won.copy()
    if not (won["channel"].notna() & (won["channel"] != "")).any():
        leads = _leads_won(dataset, begin, end, frequency)
        if leads is not None and len(leads):
            won = _with_leads(everyone, leads)
            channel_periods = leads.groupby(["channel", "block"], as_index=False)[["n"]].sum()
            warnings.append(
                "Which channel won a customer is read from the leads won, as customers have no channel of their own."
            )
    segments = known_dates and len(cells.labels) > 1 and bool(_in_a_segment(won, cells).any())
    return _assemble(
        won, everyone, spend, periods, channel_periods, cells, of_new, (begin, end), frequency,
        segments=segments, lag=_lag(data), warnings=tuple(warnings),
    )  # fmt: skip


def _block(day: ibis.Value, first: dt.date, frequency: str) -> ibis.Value:
    """Four weeks, or a month, counted from the first day."""
    if frequency == "month":
        return ((day.year() - first.year) * 12 + day.month() - first.month).cast("int64")
    return (day.delta(ibis.literal(first, "date"), unit="day") / BLOCK_DAYS).floor().cast("int64")


def _counted(table: ibis.Table, by: list[str]) -> pd.DataFrame:
    counted = table.group_by(by).aggregate(n=table.customer_id.count().cast("float64")).to_pandas()
    return counted.sort_values(by, kind="stable", na_position="first").reset_index(drop=True)


def _from_outcomes(
    data: MarketData, first: pd.Timestamp, last: pd.Timestamp, frequency: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Customers won by market from the panel, where customers carry no dates."""
    columns = ["market_id", "segment", "channel", "n"]
    if data.panel is None or data.panel.empty:
        return pd.DataFrame(dict.fromkeys(columns, _NOBODY)), pd.DataFrame()
    panel = data.panel[(data.panel["period"] >= first) & (data.panel["period"] <= last)].astype({"market_id": object})
    panel = panel.assign(block=_blocks(panel["period"], first, frequency))
    panel["n"] = panel["new_customers"]
    n = panel.groupby(["market_id", "block"], as_index=False)[["n"]].sum()
    total = n.groupby("market_id", as_index=False)[["n"]].sum()
    return total[total["n"] > 0].assign(segment=None, channel=None)[columns], n


def _blocks(periods: pd.Series, first: pd.Timestamp, frequency: str) -> pd.Series:
    if frequency == "month":
        return (periods.dt.year - first.year) * 12 + periods.dt.month - first.month
    return (periods - first).dt.days // BLOCK_DAYS


def _leads_won(dataset: s.Tables, begin: dt.date, end: dt.date, frequency: str) -> pd.DataFrame | None:
    if not dataset.has("leads"):
        return None
    t = dataset.table("leads")
    if "channel" not in t.columns or "won_on" not in t.columns:
        return None
    for column in ("market_id", "segment"):
        if column not in t.columns:
            t = t.mutate(**{column: ibis.null("string")})
    t = t.filter((t.won_on >= ibis.literal(begin, "date")) & (t.won_on <= ibis.literal(end, "date")))
    t = t.filter(t.channel.notnull()).mutate(block=_block(t.won_on, begin, frequency))
    by = ["market_id", "segment", "channel", "block"]
    counted = t.group_by(by).aggregate(n=t.lead_id.count().cast("float64")).to_pandas()
    return counted.sort_values(by, kind="stable", na_position="first").reset_index(drop=True)


def _with_leads(everyone: pd.DataFrame, leads: pd.DataFrame) -> pd.DataFrame:
    """Customers won by channel: leads won; those without a market or segment lie like the channel's others.

    Where more leads are won than customers are booked, the leads are scaled down to the customers.
    """
    by = ["market_id", "segment"]
    total = leads.groupby("channel")["n"].sum()
    total = total * min(1.0, everyone["n"].sum() / total.sum())
    if not leads["segment"].isin(everyone["segment"]).any():  # none, or others than the plan's
        share = everyone[[*by, "n"]].assign(share=everyone["n"] / everyone.groupby("market_id")["n"].transform("sum"))
        leads = leads.drop(columns="segment").merge(share[[*by, "share"]], on="market_id")
        leads["n"] *= leads["share"]
    known = leads[leads["market_id"].notna() & leads["segment"].notna()]
    placed = known.groupby([*by, "channel"], as_index=False)[["n"]].sum()
    parts = [everyone[[*by, "n"]].assign(channel=name) for name in sorted(set(total.index) - set(placed["channel"]))]
    placed = pd.concat([placed, *parts], ignore_index=True)
    own = placed.groupby("channel")["n"].transform("sum")
    placed["n"] *= placed["channel"].map(total).to_numpy(float) / own
    led = placed.groupby(by, as_index=False)[["n"]].sum()
    rest = everyone[[*by, "n"]].merge(led, on=by, how="left", suffixes=("", "_led"))
    rest["n"] = (rest["n"] - rest["n_led"].fillna(0.0)).clip(lower=0.0)
    return pd.concat([placed, rest[[*by, "n"]].assign(channel=None)], ignore_index=True)[[*by, "channel", "n"]]


def _assemble(
    won: pd.DataFrame, everyone: pd.DataFrame, spend: pd.DataFrame, periods: pd.DataFrame,
    channel_periods: pd.DataFrame, cells: Cells, of_new: np.ndarray, days: tuple[dt.date, dt.date], frequency: str, *,
    segments: bool, lag: str, warnings: tuple[str, ...],
) -> Purchased:  # fmt: skip
    markets = len(cells.market_ids)
    first = pd.Timestamp(days[0])
    won = won.assign(key=channel_key(won["channel"]))
    spent = spend.groupby("key")["amount"].sum()
    labels = {str(k): _tidy(v) for k, v in won[won["key"] != ""].groupby("key")["channel"].first().items()}
    labels |= {str(k): _tidy(v) for k, v in spend.groupby("key")["channel"].first().items()}
    booked = won.groupby("key")["n"].sum()
    keys = ["", *sorted(labels)]
    channel = pd.Index(keys)
    some_booked = bool((booked.index != "").any())
    basis = np.array(
        [
            "unpaid" if k == "" or spent.get(k, 0.0) <= 0
            else "paid" if booked.get(k, 0.0) > 0
            else "unclaimed" if some_booked else "unknown"
            for k in keys
        ],
        dtype=object,
    )  # fmt: skip
    by_cell = _by_channel_and_cell(won, channel, cells, of_new)
    at = pd.Index(cells.market_ids).get_indexer(pd.Index(spend["market_id"]))
    money = np.zeros((len(keys), markets))
    np.add.at(money, (channel.get_indexer(pd.Index(spend["key"])), at), spend["amount"].to_numpy(float))
    spend_blocks = _blocks(spend["period"], first, frequency).to_numpy(int)
    size = max(int(spend_blocks.max()) + 1, 1)
    market_spend_periods, market_periods = np.zeros((2, markets, size))
    np.add.at(market_spend_periods, (at, spend_blocks), spend["amount"].to_numpy(float))
    channel_money, channel_n = np.zeros((2, len(keys), size))
    np.add.at(
        channel_money, (channel.get_indexer(pd.Index(spend["key"])), spend_blocks), spend["amount"].to_numpy(float)
    )
    _add(market_periods, pd.Index(cells.market_ids).get_indexer(pd.Index(periods["market_id"])), periods)
    _add(channel_n, channel.get_indexer(pd.Index(channel_key(channel_periods["channel"]))), channel_periods)
    in_market = pd.Index(cells.market_ids).get_indexer(pd.Index(everyone["market_id"]))
    inside = in_market >= 0
    total = np.bincount(in_market[inside], weights=everyone["n"].to_numpy(float)[inside], minlength=markets)
    return Purchased(
        source="spend",
        first_day=days[0],
        last_day=days[1],
        market_spend=money.sum(0),
        market_customers=total,
        channel_names=np.array([labels.get(k, "") for k in keys], dtype=object),
        basis=basis,
        channel_spend=money,
        by_cell=by_cell,
        by_segment_known=segments,
        market_periods=market_periods,
        market_spend_periods=market_spend_periods,
        channel_periods=channel_n,
        channel_spend_periods=channel_money,
        lag=lag,
        warnings=warnings,
    )


def _add(into: np.ndarray, row: np.ndarray, counted: pd.DataFrame) -> None:
    block = counted["block"].to_numpy(int)
    use = (row >= 0) & (block >= 0) & (block < into.shape[1])
    np.add.at(into, (row[use], block[use]), counted["n"].to_numpy(float)[use])


def _by_channel_and_cell(
    won: pd.DataFrame, channel: pd.Index, cells: Cells, of_new: np.ndarray, column: str = "n"
) -> np.ndarray:
    """Sums of ``column`` over (channels, cells); rows without a segment of the plan by the mix ``of_new`` of their
    market."""
    key, values = channel.get_indexer(pd.Index(won["key"])), won[column].to_numpy(float)
    out = np.zeros((len(channel), len(cells)))
    at = cells.locate(won)
    use = at >= 0
    np.add.at(out, (key[use], at[use]), values[use])
    market = pd.Index(cells.market_ids).get_indexer(pd.Index(won["market_id"]))
    rest = ~use & (market >= 0) & ~_in_a_segment(won, cells).to_numpy()
    by_market = np.zeros((len(channel), len(cells.market_ids)))
    np.add.at(by_market, (key[rest], market[rest]), values[rest])
    return out + by_market[:, cells.market] * of_new


def _in_a_segment(won: pd.DataFrame, cells: Cells) -> pd.Series:
    """Whether a customer's segment when won is one of the plan's: it isn't where these follow from behaviour since."""
    return won["segment"].isin(cells.labels)


def _lag(data: MarketData) -> str:
    leads = data.leads
    if leads is None or not {"won", "lag_days"} <= set(leads.columns):
        return ""
    use = leads[(leads["won"] > 0) & leads["lag_days"].notna()]
    if use.empty:
        return ""
    mean = float((use["won"] * use["lag_days"]).sum() / use["won"].sum())
    return f" Here a lead takes {mean:.0f} days on average to become a customer."


def costs_on_record(dataset: s.Tables, as_of: dt.date, cells: Cells, of_new: np.ndarray) -> Purchased | None:
    """From ``customers.acquisition_cost``: of the last year's customers, where that is too few of all; ``None`` where
    no customer in a market has a cost."""
    acquired = customers_acquired(dataset)
    known = acquired.filter(acquired.acquisition_cost.notnull())
    year_ago = cal.year_before(as_of)
    recent = known.filter(known.acquired_on > ibis.literal(year_ago, "date"))
    warnings: tuple[str, ...] = ()
    first: dt.date | None = year_ago + dt.timedelta(days=1)
    counted = _costs(recent)
    if counted["n"].sum() < 30:
        counted, first = _costs(known), None
        warnings = ("Hardly any customer of the last year has an acquisition cost, so that of all customers is shown.",)
    if counted.empty:
        return None
    counted = counted.assign(key=channel_key(counted["channel"]))
    labels = {str(k): _tidy(v) for k, v in counted[counted["key"] != ""].groupby("key")["channel"].first().items()}
    keys = pd.Index(["", *sorted(labels)])
    n, paid, cost, squares = (
        _by_channel_and_cell(counted, keys, cells, of_new, c) for c in ("n", "paid", "cost", "squares")
    )
    if n.sum() <= 0:
        return None
    by_market = [np.bincount(cells.market, weights=v.sum(0), minlength=len(cells.market_ids)) for v in (cost, n)]
    return Purchased(
        source="customers",
        first_day=first,
        last_day=as_of,
        market_spend=by_market[0],
        market_customers=by_market[1],
        channel_names=np.array([labels.get(k, "") for k in keys], dtype=object),
        basis=np.full(len(keys), "paid", dtype=object),
        channel_spend=np.zeros((len(keys), len(cells.market_ids))),
        by_cell=n,
        by_segment_known=len(cells.labels) > 1 and bool(_in_a_segment(counted, cells).any()),
        cost=cost,
        cost_squares=squares,
        paid_by_cell=paid,
        warnings=warnings,
    )


def _costs(customers: ibis.Table) -> pd.DataFrame:
    by = ["market_id", "segment", "channel"]
    cost = customers.acquisition_cost
    summed = customers.group_by(by).aggregate(
        n=customers.customer_id.count().cast("float64"),
        paid=ibis.ifelse(cost > 0, 1.0, 0.0).sum(),
        cost=cost.sum(),
        squares=(cost * cost).sum(),
    )
    return summed.to_pandas().sort_values(by, kind="stable", na_position="first").reset_index(drop=True)
