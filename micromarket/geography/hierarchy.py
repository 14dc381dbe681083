"""Country, region, territory, market: does each lie in one of the next?"""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from micromarket.errors import shown

LEVELS = ("territory", "region", "country")


def nesting_problems(markets: pd.DataFrame) -> list[str]:
    """Where the levels don't nest, in plain words (an empty list: they do, or there is only one).

    Parameters
    ----------
    markets : DataFrame
        One row a market, with those of ``territory``, ``region`` and ``country`` that the company has. A missing or
        empty label belongs to nobody and contradicts nothing.
    """
    said = []
    levels = [level for level in LEVELS if level in markets.columns and markets[level].notna().any()]
    for inner, outer in pairwise(levels):
        pairs = markets[[inner, outer]].dropna().astype(str)
        pairs = pairs[(pairs[inner].str.strip() != "") & (pairs[outer].str.strip() != "")].drop_duplicates()
        several = pairs.groupby(inner, sort=True)[outer].agg(sorted)
        several = several[several.map(len) > 1]
        if not len(several):
            continue
        name, places = several.index[0], several.iloc[0]
        example = f"{shown(name)} in {', '.join(map(shown, places[:3]))}{' and more' if len(places) > 3 else ''}"
        few = "1 lies" if len(several) == 1 else f"{len(several):,} lie"
        follows = (
            "their numbers are added up under one name, so rename them if they are different places"
            if inner == "region"
            else "limits and totals by region cut through them"
        )
        said.append(f"A {inner} should lie in one {outer}, but {few} in several ({example}): {follows}.")
    return said
