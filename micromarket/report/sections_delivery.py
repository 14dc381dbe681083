"""What is to be delivered: funnel, plays."""

from __future__ import annotations

import pandas as pd

from micromarket.formats import count, finite, listed, percent, plural, rate, rate_unit
from micromarket.report import figures, views
from micromarket.report.blocks import Block, Column, Desk, Section, lead, table
from micromarket.report.style import label

MOST_PLAYS = 8


def period_names(periods: pd.Series) -> list[str]:
    """First days of periods as people name them: months by name with the year where it changes.

    >>> import datetime as dt
    >>> period_names(pd.Series([dt.date(2026, 12, 1), dt.date(2027, 1, 1)]))
    ['Dec 2026', 'Jan 2027']
    """
    days = pd.to_datetime(periods)
    names, year = [], None
    quarters = len(days) > 1 and bool((days.sort_values().diff().dropna().dt.days >= 85).all())
    for value in days:
        name = f"{value:%b}" if value.day == 1 else f"{value.day} {value:%b}"
        if quarters and value.day == 1:
            name = f"{value:%b}–{value + pd.DateOffset(months=2):%b}"
        names.append(name if value.year == year else f"{name} {value.year}")
        year = value.year
    return names


STEPS = {
    "leads": "Leads",
    "mql": "Marketing-qualified",
    "sal": "Sales-accepted",
    "sql": "Sales-qualified",
    "won": "Won",
}


def funnel(desk: Desk) -> Section | None:
    if "funnel" not in desk.plan.tables:
        return None
    frame = desk.plan.tables["funnel"]
    sums = frame[list(STEPS)].sum()
    rates = [percent(sums.iloc[i + 1] / sums.iloc[i]) if sums.iloc[i] > 0 else "–" for i in range(4)]
    title = f"Marketing owes sales {count(sums['mql'])} qualified leads, sales owes {count(sums['won'])} customers"
    lag = finite(desk.number("funnel", "lag_days"))
    source = desk.number("funnel", "source")
    words = (
        "Worked back from the targets with our own conversion rates."
        if source != "assumed"
        else "Worked back from the targets with assumed conversion rates."
    )
    if lag is not None:
        words += f" From lead to customer takes {plural(round(lag), 'day')}, so leads are due that much earlier."
    steps = pd.Series(sums.to_numpy(), index=list(STEPS.values()))
    alt = listed([f"{n} {count(v)}" for n, v in steps.items()])
    blocks: list[Block] = [
        lead(words),
        desk.figure(
            "funnel",
            f"{percent(sums['won'] / sums['leads'], 1) if sums['leads'] else '–'} of leads become customers",
            f"From leads to customers: {alt}.",
            figures.funnel(steps, rates, 62),
        ),
    ]
    by = frame.groupby("period")[list(STEPS)].sum().sort_index()
    names = period_names(pd.Series(by.index))
    limit = 12
    rows = [[n, *(count(v) for v in by.iloc[i])] for i, n in enumerate(names[:limit])]
    note = ""
    if len(by) > limit:
        rows.append(["Later", *(count(v) for v in by.iloc[limit:].sum())])
        note = "Every period is in plan.xlsx."
    rows.append(["Total", *(count(v) for v in sums)])
    columns = [Column("Period", width="1.6fr"), *(Column(n, True, "1.4fr") for n in STEPS.values())]
    blocks.append(table("When it is due", columns, rows, note=note, bold=[len(rows) - 1]))
    column = views.group_column(desk.plan)
    if column:
        named = frame.merge(desk.plan.markets[["market_id", column]], on="market_id", how="left")
        groups = views.grouped(named, column, list(STEPS), 12)
        first = groups.index[0]
        finding = f"{label(first, 40)} owes most: {percent(groups['won'].iloc[0] / max(sums['won'], 1e-9))} of the wins"
        rows = [[label(n, 60), *(count(v) for v in r)] for n, r in zip(groups.index, groups.to_numpy(), strict=True)]
        columns = [Column(column.capitalize(), width="1.6fr"), *(Column(n, True, "1.4fr") for n in STEPS.values())]
        blocks.append(table(finding, columns, rows))
    return Section("The funnel", title, tuple(blocks))


def plays(desk: Desk) -> Section | None:
    frame = desk.frame
    if "play" not in frame or frame["play"].isna().all() or "opportunity" not in frame or not desk.potential_ranked:
        return None  # a play follows from high or low potential
    known = frame[frame["play"].notna()]
    by = known.groupby("play").agg(markets=("name", "size"), opportunity=("opportunity", "sum"))
    if "change" in known:
        by["change"] = known.groupby("play")["change"].sum()
    by = by.sort_index().sort_values("opportunity", ascending=False, kind="stable")
    total = max(float(by["opportunity"].sum()), 1e-9)
    first = by.index[0]
    title = (
        f"“{label(first, 40)}” is the play for {percent(by.loc[first, 'opportunity'] / total)}"
        f" of the opportunity, in {plural(by.loc[first, 'markets'], 'market')}"
    )
    columns = [
        Column("Play", width="2.2fr"),
        Column("What to do", width="5fr"),
        Column("Measured by", width="2.6fr"),
        Column("Markets", True),
        Column("Opportunity", True),
    ]
    if "change" in by:
        columns.append(Column("Money", True, signed=True))
    rows = []
    most = MOST_PLAYS if len(by) > MOST_PLAYS + 1 else len(by)
    for play, r in by.head(most).iterrows():
        known_play = desk.plan.plays.get(str(play))
        what, measure = (known_play.what, known_play.measure) if known_play else ("", "")
        row = [label(play, 60), what, measure, count(r["markets"]), desk.money(r["opportunity"])]
        rows.append([*row, desk.signed(r["change"])] if "change" in by else row)
    rest = by.iloc[most:]
    if len(rest):
        row = [f"{len(rest)} more plays", "In plan.xlsx", "", count(rest["markets"].sum())]
        row.append(desk.money(rest["opportunity"].sum()))
        rows.append([*row, desk.signed(rest["change"].sum())] if "change" in by else row)
    blocks: list[Block] = [table("One play for each kind of market", columns, rows, dense=True)]
    axis, unit = (
        ("share", "Our share of the market")
        if known["share"].notna().sum() > len(known) / 2
        else ("penetration", "Customers as a share of those who could buy")
    )
    if known[axis].notna().sum() >= 10 and (known["opportunity"] > 0).sum() >= 10:
        grow = known["quadrant"].fillna("").str.startswith("Grow")
        finding = "What we have against what is still to be won"
        if grow.any():
            part = percent(known.loc[grow, "opportunity"].sum() / total)
            finding = (
                f"{plural(grow.sum(), 'market')} with much potential and a low share hold {part} of the opportunity"
            )
        alt = f"{unit} against opportunity, marked by quadrant. {finding}."
        note = f"Without the markets of fewer than {desk.plan.min_cell} customers." if desk.plan.suppressed else ""
        blocks.append(desk.figure("plays", finding, alt, figures.plays(known, axis, unit, desk.money, 62), note))
    return Section("Plays", title, (*blocks, *peer_groups(desk)))


def peer_groups(desk: Desk) -> list[Block]:
    """Kinds of markets; what rests on the order by potential only where that is supported."""
    if "peer_group" not in desk.frame:
        return []
    known = desk.frame[desk.frame["peer_group"].notna()]
    if not 2 <= known["peer_group"].nunique() <= 14:
        return []
    ranked, play = desk.potential_ranked, desk.potential_ranked and known["play"].notna().any()
    typical = known.groupby("peer_group")[["clv", "penetration"]].median()
    factor, unit = rate_unit(typical["penetration"])
    penetrated, valued = bool(typical["penetration"].notna().any()), desk.value_ranked
    rows = []
    for name, part in known.groupby("peer_group"):
        row = [label(name, 60), count(len(part))]
        if valued:
            row.append(desk.money(part["clv"].median()))
        if penetrated:
            row.append(rate(part["penetration"].median(), factor))
        if ranked:
            row.append(desk.money(part["opportunity"].sum()))
        if play:
            common = part["play"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
            row.append(f"{label(common.index[0], 40)} ({count(common.iloc[0])})" if len(common) else "")
        rows.append(row)
    columns = [Column("Peer group", width="2.4fr"), Column("Markets", True)]
    if valued:
        columns.append(Column("Value of a customer, median", True))
    if penetrated:
        columns.append(Column("Penetration, median" + (f", {unit}" if factor != 100 else ""), True))
    if ranked:
        columns.append(Column("Opportunity", True))
    if play:
        columns.append(Column("Commonest play", width="2fr"))
    if valued and len(typical) > 1:
        values = typical["clv"].sort_values(kind="stable")
        best, worst = label(values.index[-1], 60), label(values.index[0], 60)
        finding = (
            f"A customer is worth most in “{best}” markets ({desk.money(values.iloc[-1])}),"
            f" least in “{worst}” ones ({desk.money(values.iloc[0])})"
        )
    else:
        finding = "A market is compared with its peers only"
    return [table(finding, columns, rows, dense=True)]
