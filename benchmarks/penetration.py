"""Potential on public data: penetration in states that were held out (Brazil), and next year's growth (Iowa).

    python benchmarks/penetration.py FOLDER [--csv FILE]     # FOLDER holds olist, brazil_geo, iowa_liquor, us_counties

1. ``olist``: 5,570 municipalities; the share of inhabitants who bought, predicted for every state from the others,
   beside GDP per head alone, human development alone and gradient boosting on the same features.
2. ``iowa_liquor``: potential of 99 counties from sales of 2018; do under-served counties grow faster in 2019?
   Headroom holds what is left after the features, so it points the same way as mere return to the mean: the question
   is whether it says more than low sales per adult. Nothing here was chosen by looking at growth.

A part whose data isn't there is skipped with its reason.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from micromarket.config import Company, Economics, PlanPeriod, Settings, read_settings
from micromarket.geography import prepare_markets
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.potential import estimate_potential
from micromarket.potential.design import Design, build_design
from micromarket.potential.levels import predict_levels
from micromarket.summarise import summarise

REPO = Path(__file__).resolve().parent.parent
SEED = 1
LARGER = 20_000  # inhabitants
DISTANCE = "km_to_sellers"
RESAMPLES, PERMUTATIONS = 500, 10_000

# Iowa. A customer: an adult's yearly spend of this much (USD, wholesale), so that sales become counts among adults; set
# so that the heaviest county (366 a head) stays below one
DOLLARS_A_CUSTOMER = 500.0
YEAR, NEXT = 2018, 2019
FEATURES = {
    "POP060210": "density",
    "INC110213": "median_income",
    "AGE775214": "over_65",
    "AGE295214": "under_18",
    "EDU685213": "degree",
    "PVY020213": "poverty",
    "HSG445213": "home_owners",
    "LFE305213": "commute_minutes",
    "RHI725214": "hispanic",
}
PER_HEAD = {"RTN130207": "retail_sales_per_head", "AFN120207": "food_sales_per_head", "BZA010213": "firms_per_head"}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def given(a: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Ranks of ``a`` less what ranks of ``by`` explain of them (for partial rank correlation)."""
    x, y = rankdata(by) - (len(by) + 1) / 2, rankdata(a) - (len(a) + 1) / 2
    return y - x * (x @ y) / (x @ x)


# --- Brazil ----------------------------------------------------------------------------------------------------------


def brazil() -> MarketData:
    """What the data stage makes of ``examples/olist``."""
    with open_dataset(read_settings(REPO / "examples" / "olist" / "plan.yml")) as dataset:
        data = summarise(dataset)
    markets = pd.DataFrame(data.markets).sort_values("market_id", kind="stable").reset_index(drop=True)
    return replace(data, markets=markets)


def boosting(design: Design) -> np.ndarray:
    """scikit-learn's boosting as it comes (Poisson), on rates weighted by inhabitants; every state from the others."""
    out = np.empty(len(design.n))
    for fold in np.unique(design.folds):
        here = design.folds == fold
        model = HistGradientBoostingRegressor(loss="poisson", random_state=SEED)
        model.fit(design.features[~here], (design.n / design.size)[~here], sample_weight=design.size[~here])
        out[here] = model.predict(design.features[here])
    return out


def _without(design: Design, feature: str) -> Design:
    keep = np.array([name != feature for name in design.feature_names])
    names = tuple(name for name in design.feature_names if name != feature)
    return replace(design, features=design.features[:, keep], feature_names=names)


def olist(folder: Path) -> pd.DataFrame | None:
    if reason := _absent(
        folder,
        "olist/olist_customer_rfm.parquet",
        "brazil_geo/br_municipality_stats.parquet",
        "brazil_geo/br_municipalities_simplified.geojson",
        "brazil_geo/olist_city_to_ibge.csv.gz",
    ):
        print(f"olist: skipped, {reason}")
        return None
    os.environ["MICROMARKET_DATA"] = str(folder.resolve())
    data = brazil()
    markets = data.markets
    state = pd.factorize(markets["region"], sort=True)[0]
    design = replace(build_design(data, SEED), blocks=state, folds=state)
    levels = predict_levels(design, SEED)
    nearer = predict_levels(_without(design, DISTANCE), SEED)
    actual = design.n / design.size
    people = markets["addressable_customers"].to_numpy(float)
    alone = {
        name: markets[column].fillna(markets[column].median()).to_numpy(float)
        for name, column in (
            ("GDP per head alone", "gdp_per_head_brl"),
            ("human development alone", "human_development"),
        )
    }
    methods = {"ours": levels.now, "gradient boosting": boosting(design), "ours without distance": nearer.now, **alone}
    # what a perfect prediction would reach: counts are luck, most municipalities have a handful of buyers
    drawn = np.random.default_rng(SEED).poisson(design.size * design.family.rate(levels.now)) / design.size
    everyone, larger = np.ones(len(people), bool), people >= LARGER
    rows = []
    for name, predicted in methods.items():
        row: dict[str, object] = {"method": name}
        for words, use in (("all", everyone), (f"over {LARGER:,} people", larger)):
            row[words] = rank_correlation(actual[use], predicted[use])
            if name != "ours":
                row[f"ours less this, {words}"] = _difference(actual, levels.now, predicted, use, state)
        inside = [(state == s) & larger for s in np.unique(state)]
        row["within states"] = float(
            np.mean([rank_correlation(actual[k], predicted[k]) for k in inside if k.sum() >= 10])
        )
        if name.startswith("ours"):
            row["totals of states off by"] = _off_by(design, predicted, state)
        rows.append(row)
    rows.append(
        {
            "method": "if ours were the truth (luck of counts alone)",
            "all": rank_correlation(drawn, levels.now),
            f"over {LARGER:,} people": rank_correlation(drawn[larger], levels.now[larger]),
        }
    )
    table = pd.DataFrame(rows).set_index("method")
    order = ["all", f"over {LARGER:,} people", "within states"]
    table = table[[*order, *(c for c in table if c not in order)]]
    print(
        f"\nolist: {len(people):,} municipalities, {int(larger.sum()):,} over {LARGER:,} people; each of"
        f" {len(np.unique(state))} states left out in turn"
    )
    print(f"{levels.method}; features: {', '.join(design.feature_names)}")
    print(table.to_string(float_format="{:.3f}".format, na_rep="–"))
    return table.assign(part="olist")


def _off_by(design: Design, predicted: np.ndarray, state: np.ndarray) -> float:
    """Sum of what states' totals are off by, over all customers; the level is set to the country's total."""
    expected = np.bincount(state, design.size * design.family.rate(predicted))
    found = np.bincount(state, design.n)
    return float(np.abs(found - expected * found.sum() / expected.sum()).sum() / found.sum())


def _difference(actual: np.ndarray, ours: np.ndarray, other: np.ndarray, use: np.ndarray, state: np.ndarray) -> str:
    """90% range of our lead in rank correlation, over resampled states."""
    rng, leads = np.random.default_rng(SEED), []
    members = [np.flatnonzero((state == s) & use) for s in np.unique(state)]
    for _ in range(RESAMPLES):
        pick = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        leads.append(rank_correlation(actual[pick], ours[pick]) - rank_correlation(actual[pick], other[pick]))
    low, high = np.quantile(leads, [0.05, 0.95])
    return f"{low:+.3f} to {high:+.3f}"


# --- Iowa ------------------------------------------------------------------------------------------------------------


def counties(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Iowa's counties with features known before 2015, and their sales (USD) by year."""
    sales = pd.read_parquet(folder / "iowa_liquor" / "iowa_liquor_county_month_category.parquet")
    sales = sales[sales["fips"].notna()].assign(year=lambda d: d["year_month"].dt.year)
    by = sales.pivot_table(index="fips", columns="year", values="state_revenue", aggfunc="sum").fillna(0.0)
    facts = pd.read_parquet(folder / "us_counties" / "us_county_facts_2014.parquet").set_index("fips").loc[by.index]
    people = facts["PST045214"].astype(float)
    out = pd.DataFrame({"market_id": by.index, "name": facts["area_name"].to_numpy()})
    out["addressable_customers"] = (people * (1 - facts["AGE295214"] / 100)).to_numpy()
    for code, name in FEATURES.items():
        out[name] = facts[code].to_numpy(float)
    for code, name in PER_HEAD.items():
        out[name] = (facts[code] / people).to_numpy(float)
    shapes = gpd.read_file(folder / "us_counties" / "us_counties.geojson")[["fips", "geometry"]]
    out = gpd.GeoDataFrame(
        out.merge(shapes.rename(columns={"fips": "market_id"}), on="market_id", how="left"), crs=4326
    )
    return prepare_markets(out), by


def scores_of(markets: pd.DataFrame, dollars: pd.Series) -> pd.DataFrame:
    """The potential stage's scores for sales of one year (USD by county)."""
    features = (*FEATURES.values(), *PER_HEAD.values())
    market_id = markets["market_id"]
    customers = (market_id.map(dollars) / DOLLARS_A_CUSTOMER).round()
    frame = markets.assign(customers=customers.to_numpy(), region=None)
    data = MarketData(markets=frame, cells=pd.DataFrame(), history=pd.DataFrame(), features=features)
    value = pd.DataFrame({"market_id": market_id, "customers": customers.to_numpy()}).assign(
        **dict.fromkeys(("clv", "clv_low", "clv_high", "new_customer_clv"), DOLLARS_A_CUSTOMER), customer_equity=0.0
    )
    settings = Settings(
        path=Path("plan.yml"),
        company=Company("Iowa", "USD"),
        as_of=dt.date(YEAR, 12, 31),
        plan=PlanPeriod(dt.date(NEXT, 1, 1), dt.date(NEXT, 12, 31)),
        economics=Economics("non-contractual", 0.33),
        data={},
    )
    return estimate_potential(data, value, settings).scores


def iowa(folder: Path) -> pd.DataFrame | None:
    if reason := _absent(
        folder,
        "iowa_liquor/iowa_liquor_county_month_category.parquet",
        "us_counties/us_county_facts_2014.parquet",
        "us_counties/us_counties.geojson",
    ):
        print(f"iowa_liquor: skipped, {reason}")
        return None
    markets, by = counties(folder)
    rows = []
    for year in (YEAR, 2017, 2016, 2015):  # the first is the question; the others say how far one year is luck
        rows.append(_judged(markets, by, year))
        if year == YEAR:
            _told(markets, by, rows[0])
    table = pd.DataFrame(rows).set_index("potential from")
    print(table.to_string(float_format="{:+.3f}".format, na_rep="–"))
    print(
        "p: share of random orders of the counties with a correlation at least as high (one-sided); given low sales:\n"
        "partial rank correlation, what headroom says beyond low sales per adult; placebo: the same headroom against\n"
        "growth of the year before, which it can't have caused (choosing low years makes it negative by itself)"
    )
    return table.assign(part="iowa")


def _judged(markets: pd.DataFrame, by: pd.DataFrame, year: int) -> dict[str, float]:
    ids = markets["market_id"]
    scores = scores_of(markets, by[year]).set_index("market_id").loc[ids]
    adults = markets["addressable_customers"].to_numpy(float)
    now = ids.map(by[year]).to_numpy(float)
    growth = np.log(ids.map(by[year + 1]).to_numpy(float) / now)
    headroom = scores["headroom"].to_numpy(float) / adults
    low = -now / adults
    under = headroom >= np.quantile(headroom, 0.8)
    out = {
        "potential from": year,
        "headroom": rank_correlation(headroom, growth),
        "p": _p_value(headroom, growth),
        "small revenue": rank_correlation(-now, growth),
        "low sales per adult": rank_correlation(low, growth),
        "headroom given low sales": float(np.corrcoef(given(headroom, low), given(growth, low))[0, 1]),
        "p given": _p_value(given(headroom, low), given(growth, low)),
        "growth, top fifth by headroom": float(np.expm1(np.median(growth[under]))),
        "growth, others": float(np.expm1(np.median(growth[~under]))),
        "potential and sales": rank_correlation(scores["potential_customers"].to_numpy(float) / adults, now / adults),
    }
    if year - 1 in by:
        past = np.log(now / ids.map(by[year - 1]).to_numpy(float))
        out["placebo: growth before"] = rank_correlation(headroom, past)
    return out


def _told(markets: pd.DataFrame, by: pd.DataFrame, row: dict[str, float]) -> None:
    kept = rank_correlation(by[YEAR].to_numpy(float), by[NEXT].to_numpy(float))
    print(f"\niowa_liquor: {len(markets)} counties, potential from {YEAR}, growth of {NEXT} over {YEAR}")
    print(
        f"{YEAR} and {NEXT} sales rank alike ({kept:.3f}); headroom per adult against growth: {row['headroom']:+.3f}"
        f" (p = {row['p']:.3f})"
    )


def _p_value(a: np.ndarray, b: np.ndarray) -> float:
    """One-sided, by random orders of ``b``."""
    rng = np.random.default_rng(SEED)
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    drawn = np.array([x @ rng.permutation(y) for _ in range(PERMUTATIONS)])
    return float((1 + (drawn >= x @ y - 1e-9).sum()) / (1 + PERMUTATIONS))


def _absent(folder: Path, *files: str) -> str:
    missing = [f for f in files if not (folder / f).is_file()]
    return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in {folder}" if missing else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds olist, brazil_geo, iowa_liquor, us_counties")
    parser.add_argument("--csv", type=Path, help="keeps the figures")
    asked = parser.parse_args()
    parts: tuple[Callable[[Path], pd.DataFrame | None], ...] = (olist, iowa)
    found = [table for part in parts if (table := part(asked.folder)) is not None]
    if asked.csv and found:
        pd.concat([t.reset_index() for t in found]).to_csv(asked.csv, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
