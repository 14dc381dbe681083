"""Numbers as people read them: money, counts, shares and ranges, with a real minus sign and no false precision."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from typing import Any

SYMBOLS = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "INR": "₹", "KRW": "₩", "PHP": "₱", "VND": "₫",
    "THB": "฿", "BRL": "R$", "AUD": "A$", "CAD": "C$", "NZD": "NZ$", "SGD": "S$", "HKD": "HK$", "MXN": "MX$",
    "NGN": "₦", "UAH": "₴", "ILS": "₪",
}  # fmt: skip
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
NOTHING = "–"


def finite(value: Any) -> float | None:
    """``value`` as a finite float, or ``None`` where it is no such number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def symbol(currency: str) -> str:
    """What stands before an amount: ``$``, or the code and a no-break space where it has no common sign."""
    return SYMBOLS.get(currency, f"{currency}\u00a0")


def compact(value: Any, digits: int = 3) -> str:
    """``value`` in ``digits`` significant digits with k, M, B, T.

    >>> compact(1_234_567), compact(-340_400), compact(999_950), compact(0.42), compact(None)
    ('1.23M', '−340k', '1M', '0.42', '–')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    sign = "−" if number < 0 else ""
    size = abs(number)
    rounded = float(f"{size:.{digits}g}")
    for scale, suffix in _SCALES:
        if rounded >= scale:
            return sign + _plain(rounded / scale, digits) + suffix
    text = _plain(rounded, digits)
    return text if text == "0" else sign + text


def _plain(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(size)), 0)
    text = f"{size:.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Any, currency: str, digits: int = 3, sign: bool = False) -> str:
    """An amount, short; ``sign``: with a plus where it is above zero.

    >>> money(1_240_000, "USD"), money(-5_300, "EUR", sign=True), money(980, "XAF", sign=True)
    ('$1.24M', '−€5.3k', '+XAF\\xa0980')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    text = compact(abs(number), digits)
    before = "" if text == "0" else "−" if number < 0 else "+" if sign else ""
    return f"{before}{symbol(currency)}{text}"


def money_range(low: Any, high: Any, currency: str, digits: int = 2) -> str:
    """
    >>> money_range(1_900_000, 5_020_000, "USD"), money_range(-200, 1_000_000, "USD")
    ('$1.9M to $5M', '−$200 to $1M')
    """
    return f"{money(low, currency, digits)} to {money(high, currency, digits)}"


def count(value: Any) -> str:
    """
    >>> count(12345.4), count(-3), count(float("nan")), count(0.3)
    ('12,345', '−3', '–', '0.3')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    if 0 < abs(number) < 0.95:
        return compact(number, 1)
    text = f"{abs(number):,.0f}"
    return text if text == "0" or number > 0 else "−" + text


def percent(value: Any, digits: int = 0, sign: bool = False) -> str:
    """A fraction as a percentage; never 0% or 100% for what is not exactly so.

    >>> percent(0.204), percent(0.0004), percent(0.9996), percent(0.1, sign=True), percent(1.0), percent(-0.25)
    ('20%', '<1%', '>99%', '+10%', '100%', '−25%')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    size = abs(number) * 100
    text = f"{size:,.{digits}f}"
    if float(text.replace(",", "")) == 0 and size > 0:
        return f"<{10**-digits:.{digits}f}%" if number > 0 else f"−<{10**-digits:.{digits}f}%"
    if text == f"{100:.{digits}f}" and 0 < number < 1:
        return f">{100 - 10**-digits:.{digits}f}%"
    before = "−" if number < 0 else "+" if sign and number > 0 else ""
    return f"{before}{text}%"


def plural(number: Any, one: str, many: str | None = None) -> str:
    """
    >>> plural(1, "market"), plural(1240, "market"), plural(2, "play")
    ('1 market', '1,240 markets', '2 plays')
    """
    return f"{count(number)} {one if finite(number) == 1 else many or one + 's'}"


def day(value: dt.date) -> str:
    """
    >>> day(dt.date(2026, 7, 1))
    '1 July 2026'
    """
    return f"{value.day} {value:%B} {value.year}"


def span(start: dt.date, end: dt.date) -> str:
    """
    >>> span(dt.date(2026, 7, 1), dt.date(2027, 6, 30))
    'July 2026 to June 2027'
    >>> span(dt.date(2026, 7, 6), dt.date(2026, 8, 2))
    '6 July 2026 to 2 August 2026'
    """
    whole = start.day == 1 and (end + dt.timedelta(days=1)).day == 1
    if whole and (start.year, start.month) == (end.year, end.month):
        return f"{start:%B} {start.year}"
    if whole:
        return f"{start:%B} {start.year} to {end:%B} {end.year}"
    return f"{day(start)} to {day(end)}"


def listed(words: list[str]) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"


def odds(value: Any) -> str:
    """A probability: never certain, whatever a simulation counted.

    >>> odds(1.0), odds(0.46), odds(0.0)
    ('>99%', '46%', '<1%')
    """
    number = finite(value)
    return NOTHING if number is None else percent(min(max(number, 1e-9), 1 - 1e-9))


def rate_unit(values: Iterable[Any]) -> tuple[float, str]:
    """The unit in which most of these fractions show a figure of 1 or more: (factor, words).

    >>> rate_unit([0.02, 0.11]), rate_unit([2e-4, 4e-3]), rate_unit([])
    ((100.0, '%'), (1000.0, 'per 1,000'), (100.0, '%'))
    """
    known = sorted(v for v in (finite(v) for v in values) if v is not None and v > 0)
    middle = known[len(known) // 2] if known else 1.0
    for factor, words in ((1e2, "%"), (1e3, "per 1,000"), (1e5, "per 100,000")):
        if middle * factor >= 1:
            return factor, words
    return 1e6, "per million"


def rate(value: Any, factor: float) -> str:
    """A fraction in a unit of :func:`rate_unit`, without the unit's words but with its percent sign.

    >>> rate(0.0123, 100), rate(0.00234, 1000), rate(0.0000012, 1e5), rate(None, 100)
    ('1.2%', '2.3', '0.12', '–')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    return percent(number, 1) if factor == 100 else compact(number * factor, 2)


def chance(value: Any) -> str:
    """Odds inside a sentence.

    >>> chance(0.003), chance(0.46), chance(1)
    ('below 1%', '46%', 'above 99%')
    """
    return odds(value).replace("<", "below ").replace(">", "above ")


def prose(text: str, currency: str) -> str:
    """A stage's sentence as people read it: ISO dates in words, whole amounts of ``currency`` short.

    >>> prose("Until 2026-08-25 it holds back 4,433 USD of spend (item 2026-08-251).", "USD")
    'Until 25 August 2026 it holds back $4.43k of spend (item 2026-08-251).'
    """

    def dated(match: re.Match[str]) -> str:
        try:
            return day(dt.date.fromisoformat(match[0]))
        except ValueError:
            return match[0]

    text = re.sub(r"(?<![\w-])\d{4}-\d\d-\d\d(?![\w-])", dated, text)
    return re.sub(
        rf"(?<![\w.,])(\d[\d,]*(?:\.\d+)?) {re.escape(currency)}\b",
        lambda m: money(m[1].replace(",", ""), currency),
        text,
    )
