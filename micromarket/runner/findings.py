"""What a stage found, in one line: for the terminal, and as the first line under a notebook's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from micromarket.formats import compact, count, finite, money, percent, plural


def finding(stage: str, numbers: Mapping[str, Any], currency: str = "") -> str:
    """One line of plain English from a stage's numbers (see ARCHITECTURE.md); empty where they say too little.

    >>> finding("tests", {"treated": 12, "control": 12, "weeks": 8, "power": 0.81})
    '24 markets in the holdout over 8 weeks, 81% power'
    >>> finding("value", {"clv": 385.2}, "USD")
    'a customer is worth $385'
    """
    speak = _FINDINGS.get(stage)
    if speak is None:
        return ""
    parts = [part for part in speak({**numbers, "currency": currency}) if part]
    return ", ".join(parts).replace("\n", " ")[:160]


def _number(value: Any, unit: str = "") -> str:
    """Short, with its unit; empty where there is no number."""
    number = finite(value)
    if number is None:
        return ""
    short = count(number) if abs(number) < 1e5 and (abs(number) >= 10 or number == int(number)) else compact(number)
    return f"{short} {unit}".strip()


def _amount(value: Any, numbers: Mapping[str, Any]) -> str:
    """Money, with its currency where that is known."""
    currency = numbers.get("currency")
    if not currency:
        return _number(value)
    return "" if finite(value) is None else money(value, str(currency))


def _share(value: Any) -> str:
    return "" if finite(value) is None else percent(value)


def _deep(numbers: Mapping[str, Any], *keys: str) -> Any:
    value: Any = numbers
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _size(value: Any) -> Any:
    return len(value) if isinstance(value, (list, tuple)) else value


def _several(value: Any, one: str) -> str:
    return "" if finite(value) is None else plural(value, one)


def _data(n: Mapping[str, Any]) -> list[str]:
    history = n.get("history_months")
    return [
        _several(_size(n.get("markets")), "market"),
        _number(n.get("active_customers"), "active customers") or _number(n.get("customers"), "customers"),
        f"{history:.0f} months of history" if isinstance(history, (int, float)) else "",
    ]


def _value(n: Mapping[str, Any]) -> list[str]:
    clv, signal = _amount(n.get("clv"), n), _deep(n, "signal", "verdict")
    return [
        f"a customer is worth {clv}" if clv else "",
        "observed, not modelled" if n.get("observed") else "",
        f"differences between markets: {signal}" if signal else "",
    ]


def _potential(n: Mapping[str, Any]) -> list[str]:
    top, opportunity = _share(n.get("opportunity_share_top_fifth")), _amount(n.get("opportunity"), n)
    if (n.get("signal") or {}).get("verdict") == "none":
        top = ""  # which markets are the top fifth is chance
    return [
        _number(n.get("headroom"), "customers of headroom"),
        f"an opportunity of {opportunity}" if opportunity else "",
        f"{top} of it in the top fifth of markets" if top else "",
    ]


def _response(n: Mapping[str, Any]) -> list[str]:
    source, channels = n.get("source"), n.get("channels")
    if source in (None, "none"):
        return ["no spend to learn from"]
    return [
        _several(len(channels), "channel") if isinstance(channels, (list, tuple)) else "",
        f"response {source}",
        f"{_share(n.get('p_no_response'))} odds of no response" if _share(n.get("p_no_response")) else "",
    ]


def _allocation(n: Mapping[str, Any]) -> list[str]:
    moved = _amount(n.get("moved"), n) if finite(n.get("moved")) else ""
    if not moved:
        return ["no money to move"]
    gain, low, high = (_amount(_deep(n, "gain", k), n) for k in ("expected", "low", "high"))
    return [
        f"{moved} changes place ({_share(n.get('moved_share'))})",
        f"gain {gain} ({low} to {high})" if gain and low and high else "",
    ]


def _targets(n: Mapping[str, Any]) -> list[str]:
    goal, odds = _amount(n.get("goal_revenue"), n), _share(n.get("p_company"))
    return [
        f"revenue goal {goal} ({percent(n.get('growth'), sign=True)})" if goal else "",
        f"{odds} odds that the company gets there" if odds else "",
    ]


def _funnel(n: Mapping[str, Any]) -> list[str]:
    leads = _number(_deep(n, "total", "leads"), "leads")
    return (
        [leads and f"{leads} for {_number(_deep(n, 'total', 'won'), 'wins')}"] if leads else ["no leads to learn from"]
    )


def _tests(n: Mapping[str, Any]) -> list[str]:
    treated, control = _size(n.get("treated")), _size(n.get("control"))
    if not isinstance(treated, int) or not isinstance(control, int) or treated + control == 0:
        return [str(n.get("verdict") or "no test")]
    power = _share(n.get("power"))
    weeks = f" over {n['weeks']:.0f} weeks" if isinstance(n.get("weeks"), (int, float)) else ""
    return [f"{treated + control:,} markets in the holdout{weeks}", f"{power} power" if power else ""]


def _plan(n: Mapping[str, Any]) -> list[str]:
    return [str(n.get("headline") or "")]


_FINDINGS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "data": _data, "value": _value, "potential": _potential, "response": _response, "allocation": _allocation,
    "targets": _targets, "funnel": _funnel, "tests": _tests, "plan": _plan,
}  # fmt: skip
