"""What changed since the plan before, and why."""

from __future__ import annotations

import pandas as pd

from micromarket.formats import count, day, finite, listed, percent, plural
from micromarket.report.blocks import Block, Column, Desk, Section, lead, table
from micromarket.report.style import label

MOST = 8


def changes(desk: Desk) -> Section | None:
    """``None`` where there is no plan before."""
    found = desk.plan.changes
    if found is None:
        return None
    frame = found.table.copy()
    known = frame[frame["money_change"].notna()]
    moved = float(known["money_change"].abs().sum() / 2)
    total = float(known["money_now"].sum())
    blocks: list[Block] = []
    said = []
    if found.rules:
        said.append(f"People set otherwise: {listed(list(found.rules))}.")
    for number, words in ((found.markets_new, "new in this plan"), (found.markets_gone, "no longer in it")):
        if number:
            said.append(f"{plural(number, 'market')} {'is' if number == 1 else 'are'} {words}.")
    plays = frame[frame["play_before"].notna() & frame["play_now"].notna()]
    other = int((plays["play_before"] != plays["play_now"]).sum())
    if len(plays) and desk.potential_ranked:
        verb = "has" if other == 1 else "have"
        some = f"{count(other)} of {plural(len(plays), 'market')} {verb}" if other else "No market has"
        said.append(f"{some} another play than before.")
    if said:
        blocks.append(lead(" ".join(said)))
    blocks += _progress(desk)
    rows = []
    for words, kind, before, now in found.figures:
        rows.append([words, _shown(desk, kind, before), _shown(desk, kind, now), _difference(desk, kind, before, now)])
    if rows:
        columns = [
            Column("", width="3fr"),
            Column("Before", True),
            Column("Now", True),
            Column("Change", True, signed=True),
        ]
        blocks.append(table("The plan's figures, before and now", columns, rows))
    blocks += _markets(desk, known)
    title = f"Since {day(found.since)}: the plan's figures, before and now"
    if total > 0:
        title = f"Since {day(found.since)}, {percent(moved / total)} of the money has found another market"
        if moved <= 5e-4 * total:
            title = f"Since {day(found.since)}, no market's money has changed"
    return Section("What changed", title, tuple(blocks), newpage=False) if blocks else None


def _progress(desk: Desk) -> list[Block]:
    """What the plan before has brought, in total and by region."""
    if desk.plan.progress is None:
        return []
    got = desk.plan.progress.found
    if "revenue_target" not in got.total or not got.total["revenue_target"] > 0:
        return []
    share = percent(got.total["revenue_attainment"])
    track = {"below": ", less than chance explains", "above": ", more than chance explains"}
    title = f"{share} of the revenue due by {day(got.through)} has come{track.get(got.total.get('off_track', ''), '')}"
    columns = [
        Column("", width="3fr"),
        Column("Revenue due", True),
        Column("Done", True),
        Column("", True),
        Column("New customers due", True),
        Column("Done", True),
        Column("", True),
    ]
    levels = [*got.regions.sort_values("revenue_target", ascending=False, kind="stable").iterrows()][:MOST]
    if len(got.regions) > MOST:
        levels = []
    rows = []
    for name, r in [*levels, ("Company", got.total)]:
        due, done = r["new_customers_target"], r["new_customers_actual"]
        rows.append(
            [label(name, 60), desk.money(r["revenue_target"]), desk.money(r["revenue_actual"]),
             percent(r["revenue_attainment"]), count(due), count(done), percent(done / due) if due > 0 else "–"]
        )  # fmt: skip
    note = f"Targets of the plan of {day(desk.plan.progress.made_on)}, from {day(got.since)} on; done: our own data."
    return [table(title, columns, rows, bold=[len(rows) - 1], note=note, dense=True)]


def _markets(desk: Desk, known: pd.DataFrame) -> list[Block]:
    names = desk.frame["name"]
    least = 1e-3 * float(known["money_now"].mean()) if len(known) else 0.0
    ordered = known[known["money_change"].abs() > least].sort_values(["money_change", "market_id"], kind="stable")
    if ordered.empty:
        return []
    columns = [
        Column("Market", width="1.8fr"),
        Column("Before", True),
        Column("Now", True),
        Column("Change", True, signed=True),
        Column("Why", width="4.4fr"),
    ]
    out: list[Block] = []
    up = ordered[ordered["money_change"] > 0].iloc[::-1].head(MOST)
    down = ordered[ordered["money_change"] < 0].head(MOST)
    for part, word in ((up, "more"), (down, "less")):
        rows = [
            [label(names.get(r["market_id"], r["market_id"]), 60), desk.money(r["money_before"]),
             desk.money(r["money_now"]), desk.signed(r["money_change"]), r["reason"]]
            for r in part.to_dict("records")
        ]  # fmt: skip
        if rows:
            out.append(table(f"Markets that get most {word} than in the plan before", columns, rows, dense=True))
    return out


def _shown(desk: Desk, kind: str, value: float) -> str:
    return desk.money(value) if kind == "money" else percent(value) if kind == "percent" else count(value)


def _difference(desk: Desk, kind: str, before: float, now: float) -> str:
    """In money or counts; of odds in points; none where it can't be seen in the figures beside it."""
    if _shown(desk, kind, before) == _shown(desk, kind, now) or finite(now - before) is None:
        return "–"
    if kind == "money":
        return desk.signed(now - before)
    if kind == "percent":
        points = round(100 * (now - before))
        return f"{'+' if points > 0 else '−'}{abs(points)} points"
    return ("+" if now > before else "") + count(now - before)
