"""What the potential stage says of causes, objectives, peer groups and plays."""

from __future__ import annotations

from collections.abc import Iterator

from micromarket.notes import Assumption
from micromarket.potential.causes import PRICE, PRODUCT_PRICES, RIVALS, Decomposition
from micromarket.potential.objective import Opportunities
from micromarket.potential.peer_groups import Grouping

_SHOWN = 5
_DEFINITION = "definition"
_NOUN = {"acquire": "new customers", "deepen": "deeper accounts", "retain": "customers kept"}


def cause_assumptions(causes: Decomposition) -> Iterator[Assumption]:
    """What price and rivals were read from, and that they are associations."""
    price, rivals = causes.evidence.get(PRICE), causes.evidence.get(RIVALS)
    if rivals and rivals["used"] and rivals["source"] == "market_customers":
        yield Assumption(
            "Buyers of others beyond what is usual in markets of the same kind count as headroom that rivals hold.",
            _DEFINITION,
        )
    elif rivals and rivals["used"]:
        yield Assumption(_goes_with("strong rivals", rivals["source"]), "association in your data")
    if price and price["used"]:
        yield Assumption(_goes_with("a high price", price["source"]), "association in your data")
    for name, found in (("Rivals", rivals), ("Prices", price)):
        if found and not found["used"] and found["source"] != PRODUCT_PRICES:
            text = f"{name} ({found['source']}) are no cause of their own: {found['reason']}."
            yield Assumption(text, "test on your data")


def _goes_with(cause: str, source: str) -> str:
    return (
        f"Part of what neither coverage nor spend explains goes with {cause} ({source}); that it is the cause is"
        " assumed, not shown."
    )


def objective_assumptions(money: Opportunities) -> Iterator[Assumption]:
    """What another objective than new customers changes in the plan, and what it doesn't."""
    if set(money.weights) == {"acquire"} and money.weights["acquire"] == 1 and not money.left_out:
        return
    parts = " + ".join(f"{weight:g} x {_NOUN[name]}" for name, weight in money.weights.items())
    yield Assumption(
        f"Opportunity counts {parts}, in money; quadrants stay as they are, and each market's play follows what weighs"
        " most there. Potential, headroom, the budget and targets stay about new customers: spend is measured by the"
        " customers it wins.",
        "targets.objective in plan.yml",
    )
    if "retain" in money.weights:
        yield Assumption(
            "Retention counts the whole value of customers who are expected to leave before the plan ends, at the rate"
            " at which customers left so far. No plan keeps all of them.",
            _DEFINITION,
        )
    if "deepen" in money.weights:
        by = money.numbers.get("deepen", {}).get("by")
        what = "as often hold each product" if by == "product" else "spend as much a year"
        yield Assumption(
            f"Customers can {what} as in the best fifth of markets of the same kind, and are then worth more in"
            " proportion to what they spend.",
            "default of ours",
        )


def group_assumptions(grouping: Grouping) -> Iterator[Assumption]:
    """That groups are those of the run before."""
    if grouping.kept:
        yield Assumption(
            "Peer groups are those of the run before. A market changes group only once it has clearly become like"
            f" another: {grouping.moved:,} of {grouping.known:,} did.",
            "previous_run in plan.yml",
        )


def play_warnings(
    misnamed: tuple[str, ...], strangers: tuple[str, ...], grouping: Grouping, unread: str, money: Opportunities
) -> Iterator[str]:
    """What was asked for and could not be done."""
    if unread:
        yield f"Peer groups were formed anew: {unread}. Markets may be in other groups than in the last plan."
    elif grouping.why:
        yield (
            f"Peer groups were formed anew, as {grouping.why}: {grouping.moved:,} markets that the run before knew are"
            " in a group of another name."
        )
    if strangers:
        yield (
            f"plays.yml has plays for peer groups that no market is in: {', '.join(strangers)}. The groups are"
            f" {'; '.join(sorted(set(grouping.names())))}."
        )
    if misnamed:
        more = f"; and {len(misnamed) - _SHOWN:,} more" if len(misnamed) > _SHOWN else ""
        yield f"Field notes name plays that plays.yml doesn't have: {'; '.join(misnamed[:_SHOWN])}{more}."
    if money.left_out:
        wanted = " and ".join(_NOUN[name] for name in money.left_out)
        instead = " + ".join(_NOUN[name] for name in money.weights)
        yield (
            f"The data can't say what {wanted} would bring: that takes dated purchases or contracts of at least a year."
            f" Opportunity counts {instead} only."
        )


__all__ = ["cause_assumptions", "group_assumptions", "objective_assumptions", "play_warnings"]
