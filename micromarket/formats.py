"""Numbers as people read them: money, counts, shares and ranges, with a real minus sign and no false precision.

Inside :func:`in_locale` numbers, dates and currencies follow that locale (Unicode CLDR, by Babel); words stay English.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

SYMBOLS = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "INR": "₹", "KRW": "₩", "PHP": "₱", "VND": "₫",
    "THB": "฿", "BRL": "R$", "AUD": "A$", "CAD": "C$", "NZD": "NZ$", "SGD": "S$", "HKD": "HK$", "MXN": "MX$",
    "NGN": "₦", "UAH": "₴", "ILS": "₪",
}  # fmt: skip
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
NOTHING = "–"
_BIDI = re.compile("[\u200e\u200f\u061c]")  # marks for right-to-left lines; ours run from left to right
_LOCALE: ContextVar[Any] = ContextVar("locale", default=None)


@contextmanager
def in_locale(name: str | None) -> Iterator[None]:
    """Everything formatted inside follows the locale ``name`` (``de_DE``, ``en-IN``); ``None``: the house style.

    >>> with in_locale("de_DE"):
    ...     money(1_240_000, "EUR"), count(12345), percent(0.204), day(dt.date(2026, 7, 1))
    ('1,24\xa0Mio.\xa0€', '12.345', '20\xa0%', '1. Juli 2026')
    """
    token = _LOCALE.set(None if name is None else parse_locale(name))
    try:
        yield
    finally:
        _LOCALE.reset(token)


def parse_locale(name: str) -> Any:
    """The locale as Babel knows it.

    Raises
    ------
    ValueError
        Where there is no such locale.
    """
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError("a locale such as en_GB, de_DE or pt_BR") from error


def current_locale() -> str | None:
    """Language tag (``de-DE``) of the locale that is followed; ``None``: the house style."""
    locale = _LOCALE.get()
    return None if locale is None else str(locale).replace("_", "-")


def _signed(text: str, number: float, sign: bool) -> str:
    return ("−" if number < 0 else "+" if sign and number > 0 else "") + text


def _compact_by_locale(size: float, digits: int, currency: str | None) -> str:
    """``size`` (at least 0) in ``digits`` significant digits, in the locale's own words for thousands and millions."""
    from babel import numbers

    locale = _LOCALE.get()
    size = float(f"{size:.{digits}g}")
    short = partial(numbers.format_compact_currency, currency=currency) if currency else numbers.format_compact_decimal
    # written with more decimals than are wanted, to see how many digits stand before the decimal sign
    long = short(size, locale=locale, fraction_digits=6)
    before, _, after = long.partition(numbers.get_decimal_symbol(locale))
    ahead = "".join(c for c in before if c.isdigit()).lstrip("0")
    after = "".join(c for c in after if c.isdigit())[:6]
    if size < 1000 or ahead == str(int(size)):  # no word for it: 0.42, or 5.300 € in German
        places = _places(size, digits)
        if currency is None:
            return _plain_by_locale(size, places)
        pattern = locale.currency_formats["standard"].pattern.split(";")[0]
        pattern = pattern.replace(".00", "." + "0" * places if places else "")
        text = numbers.format_currency(size, currency, pattern, locale=locale, currency_digits=False)
    else:
        places = len(after[: max(digits - len(ahead), 0)].rstrip("0"))
        text = short(size, locale=locale, fraction_digits=places)
    return _BIDI.sub("", text)


def _places(size: float, digits: int) -> int:
    """Decimals that ``size`` needs to show ``digits`` significant digits, without closing zeros."""
    text = _plain(size, digits)
    return len(text.partition(".")[2])


def decimal(value: Any, digits: int) -> str:
    """A plain number with ``digits`` decimals.

    >>> decimal(0.74, 2), decimal(-1234.5, 1)
    ('0.74', '−1,234.5')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    text = f"{abs(number):,.{digits}f}"
    if _LOCALE.get() is not None:
        text = _plain_by_locale(abs(number), digits)
    return text if float(f"{number:.{digits}f}") == 0 else _signed(text, number, False)


def _plain_by_locale(size: float, digits: int) -> str:
    from babel.numbers import format_decimal

    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    locale = _LOCALE.get()
    own = locale.decimal_formats[None].pattern.partition(".")[0]  # its grouping: 12,34,567 in India
    return str(format_decimal(size, own + pattern[5:], locale=locale))


def finite(value: Any) -> float | None:
    """``value`` as a finite float, or ``None`` where it is no such number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def symbol(currency: str) -> str:
    """The sign of a currency: ``$``, or the code and a no-break space where it has no common sign."""
    if _LOCALE.get() is not None:
        from babel.numbers import get_currency_symbol

        return _BIDI.sub("", get_currency_symbol(currency, locale=_LOCALE.get()))
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
    if _LOCALE.get() is not None:
        return _signed(_compact_by_locale(size, digits, None), number if size else 0.0, False)
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
    if _LOCALE.get() is not None:
        return _signed(_compact_by_locale(abs(number), digits, currency), number, sign)
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
    text = f"{abs(number):,.0f}" if _LOCALE.get() is None else _plain_by_locale(float(f"{abs(number):.0f}"), 0)
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
    rounded, least = float(f"{size:.{digits}f}"), 10.0**-digits
    if rounded == 0 and size > 0:
        return f"{'' if number > 0 else '−'}<{_percent(least, digits)}"
    if rounded == 100 and 0 < number < 1:
        return f">{_percent(100 - least, digits)}"
    return _signed(_percent(size, digits), number, sign)


def _percent(hundredths: float, digits: int) -> str:
    if _LOCALE.get() is None:
        return f"{hundredths:,.{digits}f}%"
    from babel.numbers import format_percent

    sign = _LOCALE.get().percent_formats[None].pattern
    pattern = sign.replace("0", "0." + "0" * digits, 1) if digits and "0." not in sign else sign
    text = format_percent(float(f"{hundredths:.{digits}f}") / 100, pattern, locale=_LOCALE.get())
    return _BIDI.sub("", text)


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
    if _LOCALE.get() is not None:
        from babel.dates import format_date

        return str(format_date(value, "long", locale=_LOCALE.get()))
    return f"{value.day} {value:%B} {value.year}"


def excel_date() -> str:
    """A date's number format in a workbook. Figures need none: a spreadsheet writes them as its reader's own does.

    >>> with in_locale("de_DE"):
    ...     excel_date()
    'dd.mm.yyyy'
    """
    if _LOCALE.get() is None:
        return "yyyy-mm-dd"
    pattern = _BIDI.sub("", _LOCALE.get().date_formats["medium"].pattern)
    quoted = re.sub(
        r"[^dMy\s./,\-]+", "", pattern.replace("'", "")
    )  # no literal words: Excel would read them as fields
    return re.sub(r"y+", "yyyy", re.sub(r"M+", lambda m: "m" * len(m[0]), quoted)).strip(" ,./-") or "yyyy-mm-dd"


def span(start: dt.date, end: dt.date) -> str:
    """
    >>> span(dt.date(2026, 7, 1), dt.date(2027, 6, 30))
    'July 2026 to June 2027'
    >>> span(dt.date(2026, 7, 6), dt.date(2026, 8, 2))
    '6 July 2026 to 2 August 2026'
    """
    whole = start.day == 1 and (end + dt.timedelta(days=1)).day == 1
    if _LOCALE.get() is not None:
        from babel.dates import format_interval

        return str(format_interval(start, end, "yMMMM" if whole else "yMMMd", locale=_LOCALE.get()))
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


def rate(value: Any, factor: float, digits: int = 1) -> str:
    """A fraction in a unit of :func:`rate_unit`, without the unit's words but with its percent sign.

    >>> rate(0.0123, 100), rate(0.00234, 1000), rate(0.0000012, 1e5), rate(None, 100)
    ('1.2%', '2.3', '0.12', '–')
    """
    number = finite(value)
    if number is None:
        return NOTHING
    return percent(number, digits) if factor == 100 else compact(number * factor, 2)


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

    # one pass, so that nothing is read twice: dates, amounts of the currency, other numbers
    whole = r"\d{1,3}(?:,\d{3})+|\d+"
    found = re.compile(
        rf"(?P<date>(?<![\w-])\d{{4}}-\d\d-\d\d(?![\w-]))"
        rf"|(?<![\w.,])(?P<amount>\d[\d,]*(?:\.\d+)?) {re.escape(currency)}\b"
        rf"|(?<![\w.,-])(?P<number>(?:{whole})(?:\.\d+)?)(?P<percent>%)?(?=x\b|(?![\w-]|[.,]\d))"
    )

    def read(match: re.Match[str]) -> str:
        if match["date"]:
            return dated(match)
        if match["amount"]:
            return money(match["amount"].replace(",", ""), currency)
        return localised(match[0])

    return found.sub(read, text)


def numbers_in(text: str) -> str:
    """A stage's sentence that names no amount, its numbers in the current locale."""
    return text if _LOCALE.get() is None else prose(text, "\0")


def localised(number: str) -> str:
    """A number as our sentences write it ("1,234.5", "12%"), in the current locale; years and the like stay.

    >>> localised("1,234.5")
    '1,234.5'
    """
    if _LOCALE.get() is None:
        return number
    plain, _, places = number.removesuffix("%").replace(",", "").partition(".")
    value = float(f"{plain}.{places or 0}")
    if number.endswith("%"):
        return _percent(value, len(places))
    return _plain_by_locale(value, len(places)) if "," in number or places else number
