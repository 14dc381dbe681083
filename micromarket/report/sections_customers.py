"""Who the customers are, what they are worth, what winning one costs, and how well that was foreseen."""

from __future__ import annotations

from typing import Any

import pandas as pd

from micromarket.formats import NOTHING, count, decimal, finite, listed, percent, plural
from micromarket.plan.assembly import Plan
from micromarket.report import figures, views
from micromarket.report.blocks import Block, Column, Desk, Section, cards, points, table
from micromarket.report.sections_money import channel_name
from micromarket.report.style import label

MOST_MARKETS = 6  # at either end of the order by value
MOST_ROWS = 12  # of segments or channels; the workbook has all
CORRECTED = 0.03  # a correction that is told
_SEGMENTS_SAY = "customers' own purchases"  # source of what the data stage says of segments


def customers(desk: Desk) -> Section | None:
    """One page; ``None`` where nothing is known of customers' value."""
    n = desk.number
    worth, new = finite(n("value", "clv")), finite(n("value", "new_customer_clv"))
    blocks = [*by_segment(desk), *winning(desk), *by_market(desk)]
    if worth is None or not blocks:
        return None
    cost, repaid = (
        finite(n("value", "acquisition", "blended_cost")),
        finite(n("value", "acquisition", "payback_months")),
    )
    title = f"A customer is worth {desk.money(worth)}"
    if cost is not None and new is not None:
        title = f"A new customer brings {desk.money(new)} of margin; winning one costs {desk.money(cost)}"
    items = [("Value of a customer", desk.money(worth), "on the books today, over the horizon")]
    if new is not None:
        items.append(("Value of a new one", desk.money(new), "won tomorrow, over the horizon"))
    if cost is not None:
        paid = finite(n("value", "acquisition", "paid_cost"))
        where = "" if paid is None else f"; {desk.money(paid)} where money was spent"
        items.append(("Cost of winning one", desk.money(cost), f"all money over all new ones{where}"))
        when = plural(round(repaid), "month") if repaid is not None else "Not repaid"
        items.append(("Repaid after", when, "by its margin, on average"))
    return Section("Customers", title, (cards(items), *blocks))


def by_market(desk: Desk) -> list[Block]:
    """The markets where a new customer is worth most and least (observed value: a customer so far), with ranges."""
    frame, values = desk.frame, desk.plan.new_customers
    if not desk.value_ranked or values is None or "customers" not in frame:
        return []
    large = frame.loc[frame["customers"].notna(), ["name"]]
    known = large.join(values.set_index("market_id"), how="inner").dropna(subset="value").sort_index()
    known = known.sort_values("value", ascending=False, kind="stable")
    if len(known) < 4:
        return []
    ends = known if len(known) <= 2 * MOST_MARKETS else pd.concat([known.head(MOST_MARKETS), known.tail(MOST_MARKETS)])
    shown = ends[["value", "low", "high"]].set_axis(views.without_shared_word(pd.Index(ends["name"])), axis=0)
    first, last = known.iloc[0], known.iloc[-1]
    observed = bool(desk.number("value", "observed"))
    who, does = ("A customer", "has brought") if observed else ("A new customer", "is worth")
    finding = (
        f"{who} {does} {desk.money(first['value'])} in {label(first['name'], 40)},"
        f" {desk.money(last['value'])} in {label(last['name'], 40)}"
    )
    unit = "What a customer has brought" if observed else "Value of a new customer"
    if len(ends) < len(known):
        unit += f", the {MOST_MARKETS} highest and lowest of {plural(len(known), 'market')}"
    unit += " (dot; bar: 90%)"
    svg = figures.dots_on_bars(shown, unit, desk.money, height_mm=13 + 4.6 * len(shown))
    return [desk.figure("values", finding, f"{unit}. {finding}.", svg)]


def by_segment(desk: Desk) -> list[Block]:
    """Segments with what defines them, their worth, and what winning their customers costs where that is known."""
    segments = desk.plan.segments
    if segments is None or len(segments) < 2:
        return []
    by = segments.sort_values(["clv", "segment"], ascending=[False, True]).head(MOST_ROWS)
    costs = _costs(desk, "segment")
    defined, new = bool(by["definition"].notna().any()), bool(by["new_customer_clv"].notna().any())
    columns = [Column("Segment", width="2.2fr")]
    if defined:
        columns.append(Column("Who is in it", width="4.6fr"))
    columns += [Column("Customers", True), Column("Value of a customer", True)]
    if new:
        columns.append(Column("Of a new one", True))
    if len(costs):
        columns += [Column("Cost of winning one", True), Column("Left", True, signed=True), Column("Repaid in", True)]
    rows = []
    for r in by.itertuples():
        row = [label(r.segment, 60)]
        if defined:
            row.append(label(r.definition or "", 240))
        row += [count(r.customers), desk.money(r.clv)]
        if new:
            row.append(desk.money(r.new_customer_clv))
        if len(costs):
            row += _paid_back(desk, costs[str(r.segment)]) if r.segment in costs else [NOTHING] * 3
        rows.append(row)
    note = _segment_note(desk)
    if any(r["basis"] == "paid" for r in costs.values()):
        note += " Cost: of customers won through channels that spend."
    return [table(_segment_finding(desk, by), columns, rows, note=note, dense=defined)]


def _segment_finding(desk: Desk, by: pd.DataFrame) -> str:
    worth = desk.number("data", "segmentation", "worth") or {}
    if worth.get("by_construction"):
        return "Customers by what they have spent"
    if desk.plan.segments_tell is False:
        return "The segments tell next to nothing about what a customer is worth"
    best, worst = by.iloc[0], by.iloc[-1]
    return (
        f"“{label(best['segment'], 30)}” customers are worth most ({desk.money(best['clv'])}),"
        f" “{label(worst['segment'], 30)}” ones least ({desk.money(worst['clv'])})"
    )


def _segment_note(desk: Desk) -> str:
    said = []
    segmentation = desk.number("data", "segmentation") or {}
    decided = (segmentation.get("rules") or {}).get("decided_on")
    if segmentation.get("source") == "derived":
        when = f", from the data before {decided}" if decided else ""
        said.append(f"Your customers table has no segments: these were made from what customers buy{when}.")
    if desk.number("value", "observed"):
        said.append("Value as observed so far, not modelled: the purchases carry no dates.")
    worth = segmentation.get("worth") or {}
    if worth.get("text"):
        said.append(str(worth["text"]))
    return desk.prose(" ".join(said))


def already_told(stage: str, source: str) -> bool:
    """Whether the note under the segments says it: then it need not stand among the assumptions."""
    return stage == "data" and source == _SEGMENTS_SAY


Cost = dict[Any, Any]  # a row of the artefact value_acquisition


def _costs(desk: Desk, level: str) -> dict[str, Cost]:
    """Rows of one level with a cost, by name: of the channels that spend where these are known, else over all money."""
    found = desk.plan.acquisition
    if found is None:
        return {}
    found = found[(found["level"] == level) & found["cac"].notna()]
    paid = found[found["basis"] == "paid"]
    return {str(r["name"]): r for r in (paid if len(paid) else found).to_dict("records")}


def _paid_back(desk: Desk, r: Cost) -> list[str]:
    """Cost, what a new customer's value leaves over it, and months until that is repaid."""
    left = desk.signed(r["new_customer_clv"] - r["cac"])
    repaid = finite(r["payback_months"])
    when = "not repaid" if left.startswith("−") else NOTHING
    if repaid is not None:
        when = plural(max(round(repaid), 1), "month")
    return [desk.money(r["cac"]), left, when]


def winning(desk: Desk) -> list[Block]:
    """What winning a customer costs and when that is repaid: over everybody, and channel by channel."""
    costs = desk.plan.acquisition
    if costs is None:
        return []
    company = {str(r["basis"]): r for r in costs[costs["level"] == "company"].to_dict("records")}
    channels = costs[costs["level"] == "channel"]
    columns = [
        Column("Won through", width="3fr"),
        Column("Spend, a year", True),
        Column("New customers", True),
        Column("Cost of one", True),
        Column("90% range", True),
        Column("Brings", True),
        Column("Left", True, signed=True),
        Column("Repaid in", True),
    ]
    names = {"blended": "All money over all new customers", "paid": "Channels that spend, and their customers"}
    several = bool((channels["basis"] != "paid").any())  # else the two lines say the same
    rows = [_row(desk, names[b], company[b]) for b in names if b in company and (b == "blended" or several)]
    bold = list(range(len(rows)))
    shown = channels[channels["cac"].notna() | (channels["spend"] > 0) | (channels["new_customers"] > 0)]
    rows += [_row(desk, channel_name(r["name"]), r) for r in shown.head(MOST_ROWS).to_dict("records")]
    if not rows:
        return []
    note = "Left: value of a new customer less the cost of winning it."
    if (shown["basis"] == "unclaimed").any():
        note += " No customer is booked under some channels: their money is in the first line only."
    if (shown["basis"] == "unpaid").any():
        note += " Customers of channels without spend cost nothing here, and lower the first line."
    return [table(_winning_finding(company.get("blended", {}), shown), columns, rows, note=note, bold=bold)]


def _row(desk: Desk, name: str, r: Cost) -> list[str]:
    known = finite(r["cac"]) is not None
    cost, left, when = _paid_back(desk, r) if known else (NOTHING, NOTHING, NOTHING)
    if r["basis"] == "unpaid" and not known:
        cost = "no spend"
    spread = desk.money_range(r["cac_low"], r["cac_high"]) if known else NOTHING
    spend = desk.money(r["spend"]) if r["spend"] > 0 else NOTHING
    return [name, spend, count(r["new_customers"]), cost, spread, desk.money(r["new_customer_clv"]), left, when]


def _winning_finding(company: Cost, channels: pd.DataFrame) -> str:
    known = channels[channels["ltv_to_cac"].notna()]
    dear = known[known["new_customer_clv"] < known["cac_low"]]
    if len(dear):
        names = listed([channel_name(v) for v in dear["name"].head(3)])
        return f"Winning customers through {names} costs more than they bring"
    if len(known) > 1:
        best, worst = known.iloc[0], known.iloc[-1]
        return (
            f"A new customer brings {decimal(best['ltv_to_cac'], 1)} times its cost through"
            f" {channel_name(best['name'])}, {decimal(worst['ltv_to_cac'], 1)} times through"
            f" {channel_name(worst['name'])}"
        )
    ratio = finite(company.get("ltv_to_cac"))
    return (
        "What winning a customer costs"
        if ratio is None
        else f"A new customer brings {decimal(ratio, 1)} times its cost"
    )


def foreseen(desk: Desk) -> list[Block]:
    """How the model of value was chosen, how it did on hidden months, and what was corrected."""
    title, said = foresight_in_words(desk.plan)
    return [points([desk.prose(text) for text in said], title)] if said else []


def foresight_in_words(plan: Plan) -> tuple[str, list[str]]:
    """A title and a few sentences; none where value is observed, not modelled."""
    found = plan.foresight
    if found is None:
        if plan.number("value", "models") and not plan.number("value", "observed"):
            text = "The history is too short, or records too little, to hide a part of it and try to foresee it."
            return "How well values foresee could not be tried", [text]
        return "", []
    windows, what = found["windows"], label(found["what"] or "purchases", 40)
    predicted, actual = (sum(finite(w[k]) or 0.0 for w in windows) for k in ("predicted", "actual"))
    off = predicted / actual - 1 if actual > 0 else None
    title = "Hidden months, foreseen"
    if off is not None:
        title = f"Months hidden from the model were foreseen to within {percent(max(abs(off), 0.01))}"
    if off is not None and abs(off) >= 0.1:
        way = "many" if off > 0 else "few"
        title = f"Of months hidden from it the model foresaw {percent(abs(off))} too {way} {what}"
    parts = "one span" if len(windows) == 1 else f"{len(windows)} spans"
    first, last = windows[-1]["cut"], windows[0]["until"]
    inside = finite(found.get("markets_in_range"))
    said = [
        f"Hidden and predicted from the data before, in {parts} from {first} to {last}: {count(predicted)} {what}"
        f" predicted, {count(actual)} came."
        + ("" if inside is None else f" In {percent(inside)} of markets the last of them lay in its 90% range.")
    ]
    tried = [label(t, 40) for t in found["tried"]]
    if len(tried) > 1:
        chosen, others = label(found["model"], 40), listed([t for t in tried if t != found["model"]])
        said.append(
            f"Of {len(tried)} models tried this way the simplest that none clearly beat was taken: {chosen} (the"
            f" others: {others})."
        )
    said.append(_corrections(found["corrections"], what))
    return title, said


def _corrections(found: list[dict], what: str) -> str:
    off = [(str(c["segment"]), float(c["factor"]) - 1) for c in found]
    off = sorted(((s, c) for s, c in off if abs(c) >= CORRECTED), key=lambda x: (-abs(x[1]), x[0]))
    if not off:
        return f"No correction beyond {percent(CORRECTED)} was called for."
    to_come = "How fast customers leave" if what == "departures" else "What customers will still buy"
    if len(found) == 1:
        return f"{to_come} was corrected by {percent(off[0][1], sign=True)} for what the hidden months showed."
    shown = listed([f"{label(s, 40)} {percent(c, sign=True)}" for s, c in off[:4]])
    more = f" and {len(off) - 4} more" if len(off) > 4 else ""
    return f"{to_come} was corrected for what the hidden months showed: {shown}{more}."
