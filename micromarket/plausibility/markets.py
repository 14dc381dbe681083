"""What is odd in the table of markets: features that say nothing, codes for "not known", sizes out of proportion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from micromarket.errors import shown
from micromarket.formats import listed, plural
from micromarket.plausibility.one_table import same_to_the_eye

CODES = (-9.0, -99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0)
_SIZES = ("addressable_customers", "market_customers")
_PEOPLE = 8.5e9
_TIMES = 100.0
_FEWEST = 8


def odd_markets(markets: pd.DataFrame, features: Sequence[str], file: str, placed: frozenset[str]) -> list[str]:
    """Sentences that name file, column and market.

    Parameters
    ----------
    markets : DataFrame
        As :attr:`micromarket.load.Dataset.markets`.
    features : sequence of str
        Columns of ``markets`` that may explain potential.
    file : str
        The name of the markets' file.
    placed : frozenset of str
        Columns that the file itself has.
    """
    found = _holes(markets, [c for c in _SIZES if c in placed], file, "their size is not known")
    found += _holes(markets, [c for c in features if c in placed], file, "what is usual in the others stands in")
    for column in (*_SIZES, *features):
        if column in placed:
            values = markets[column].astype(float)
            found += _codes(values, file, column)
            found += _one_of_another_unit(values, markets["market_id"], file, column)
    for column in features:
        values = markets[column].dropna()
        if len(values) > 1 and values.nunique() == 1:
            found.append(f"{file}, column {column}: the same value in every market; it explains nothing.")
    for column in _SIZES:
        if markets[column].sum() > _PEOPLE:
            found.append(f"{file}, column {column}: adds up to more than all people on earth.")
    both = markets[list(_SIZES)].dropna()
    both = both[(both > 0).all(axis=1)]
    if len(both) and (both["market_customers"] < 1e-3 * both["addressable_customers"]).all():
        found.append(
            f"{file}, column market_customers: below a thousandth of addressable_customers in every market; are the"
            " two in the same unit?"
        )
    for column in ("name", "region"):
        if column in placed:
            found += _holes_in_text(markets, file, column)
            names = sorted(markets[column].astype(str).unique())
            found += same_to_the_eye(names, file, column)
    found += same_to_the_eye(sorted(markets["market_id"].astype(str)), file, "market_id")
    return found


def _holes(markets: pd.DataFrame, columns: Sequence[str], file: str, what: str) -> list[str]:
    """One sentence on all columns that are empty in some markets."""
    empty = {c: int(markets[c].isna().sum()) for c in columns}
    some = [c for c, n in empty.items() if 0 < n < len(markets)]
    if not some:
        return []
    n = max(empty[c] for c in some)
    named = listed([shown(c).strip("'") for c in some])
    most = "up to " if len(some) > 1 else ""
    return [
        f"{file}, column{'s' if len(some) > 1 else ''} {named}: {most}{n:,} of {plural(len(markets), 'market')} without"
        f" a value; {what}."
    ]


def _holes_in_text(markets: pd.DataFrame, file: str, column: str) -> list[str]:
    missing = markets[column].astype(str) == (markets["market_id"].astype(str) if column == "name" else "All")
    n = int(missing.sum())
    if column == "name" or not 0 < n < len(markets):
        return []
    return [f"{file}, column {column}: {plural(n, 'market')} without a {column}; taken together as “All”."]


def _codes(values: pd.Series, file: str, column: str) -> list[str]:
    """A number that many files write for "not known", far from all others."""
    known = values.dropna()
    for code in CODES:
        hit = known == code
        rest = known[~hit]
        if not hit.any() or len(rest) < 2:
            continue
        odd = code < 0 <= rest.min() if code < 0 else hit.sum() > 1 and rest.max() < code / 3
        if odd:
            return [
                f"{file}, column {column}: {plural(int(hit.sum()), 'market')} with {code:g}, which many files write for"
                " “not known”; the plan counts it as it is: leave the value empty if it is none."
            ]
    return []


def _one_of_another_unit(values: pd.Series, ids: pd.Series, file: str, column: str) -> list[str]:
    """A single value so many times larger (or smaller) than every other that it must be in another unit."""
    known = values[values > 0]
    if len(known) < _FEWEST:
        return []
    ordered = known.sort_values(kind="stable")
    for at, ratio in ((ordered.index[-1], ordered.iloc[-1] / ordered.iloc[-2]),
                      (ordered.index[0], ordered.iloc[1] / ordered.iloc[0])):  # fmt: skip
        # compared with its neighbour in size: a skewed column has many steps, a slip has one
        if ratio >= _TIMES and np.isfinite(ratio):
            way = "larger" if at == ordered.index[-1] else "smaller"
            return [
                f"{file}, column {column}: market {shown(str(ids.loc[at]))} has {known.loc[at]:,.6g}, more than"
                f" {_TIMES:g} times {way} than any other; is it in the same unit?"
            ]
    return []
