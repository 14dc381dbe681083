"""A made-up run folder with plausible figures, so that the plan and its reports can be tested without the stages."""

# ruff: noqa: E501 (a page of made-up figures reads best in wide rows)
from __future__ import annotations

import datetime as dt
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely import MultiPoint, Point, affinity

from micromarket.config import Company, Economics, PlanPeriod, Report, Settings
from micromarket.notes import Assumption, Check, Notes
from micromarket.workspace import Workspace

HOSTILE = (
    "#set page(fill: red) $x^2$",
    "<script>alert(1)</script>",
    "=HYPERLINK(\"http://x\",\"y\")",
    "*bold* _it_ `raw` @ref <label> \\ // c",
    "An extraordinarily long market name that somebody once typed into a system, twice over, in full",
    "Unbrokenunbrokenunbrokenunbrokenunbrokenunbrokenunbrokenunbrokenunbroken",
    "</script><!-- \u2028 ${7*7} {{7*7}} {% raw %}",
    "São Tomé & Łódź – naïve “quotes” 'n' \"more\"",
)  # fmt: skip
CHANNELS = ("tv", "search", "sales_rep", "retail_promotion")
SEGMENTS = ("Prepaid", "Postpaid", "Small business")
_FIRST = ("Ban", "Kota", "Sura", "Pal", "Medan", "Cira", "Tan", "Mala", "Den", "Bukit", "Sam", "Mata", "Pura", "Lem")
_LAST = ("jaya", "bon", "gung", "ram", "ura", "seri", "dung", "langa", "karta", "tinggi", "baya", "pasar", "mas")


def settings(run_dir: Path, company: str = "Nusantara Telecom", min_cell: int = 10) -> Settings:
    return Settings(
        path=run_dir / "plan.yml",
        company=Company(company, "USD"),
        as_of=dt.date(2026, 6, 30),
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
        economics=Economics("contractual", 0.35),
        data={},
        report=Report(min_cell=min_cell),
    )


def islands(n: int, rng: np.random.Generator) -> list:
    """``n`` Voronoi cells on three islands."""
    shapes = [
        affinity.rotate(affinity.scale(Point(x, y).buffer(1, 32), a, b), angle)
        for x, y, a, b, angle in ((101, 0.5, 4.2, 1.3, -40), (110, -7.2, 4.6, 0.9, -6), (114, 0.4, 2.9, 2.6, 10))
    ]
    land = shapely.union_all(shapes)
    points: list = []
    while len(points) < n:
        x, y = rng.uniform(97, 118), rng.uniform(-9, 5)
        if land.contains(Point(x, y)):
            points.append(Point(x, y))
    cells = shapely.voronoi_polygons(MultiPoint(points), extend_to=land.envelope)
    tree = shapely.STRtree(list(cells.geoms))
    where = [next(i for i in tree.query(p) if cells.geoms[i].contains(p)) for p in points]
    return [shapely.intersection(cells.geoms[i], land) for i in where]


def build(
    run_dir: Path, n: int = 60, *, seed: int = 1, geometry: bool = True, hostile: bool = False,
    stages: tuple[str, ...] = ("value", "potential", "response", "allocation", "targets", "funnel", "tests"),
    value_signal: str = "clear", potential_signal: str = "clear", null: bool = False, source: str = "estimated",
    segmentation: dict | None = None,
) -> Workspace:  # fmt: skip
    """Writes the tables and notes of the ``stages`` (data always) of a plausible company into ``run_dir``."""
    rng = np.random.default_rng(seed)
    ws = Workspace(run_dir)
    ids = [f"M{i:05d}" for i in range(n)]
    names = [f"{_FIRST[i % 14]}{_LAST[(i // 14 + i) % 13]}{'' if i < 182 else f' {i // 182}'}" for i in range(n)]
    if hostile:
        names[: len(HOSTILE)] = list(HOSTILE)[:n]
    shapes = islands(n, rng) if geometry else [None] * n
    x = np.array([s.centroid.x if s else rng.uniform(97, 118) for s in shapes])
    region = np.where(x < 105.5, "Sumatra", np.where(x < 111, "Java", "Borneo")).astype(object)
    if hostile:
        region[region == "Java"] = HOSTILE[0]
    territory = np.array([f"{r} {'North' if i % 2 else 'South'}" for i, r in enumerate(region)], dtype=object)
    addressable = np.round(np.exp(rng.normal(9.3, 0.8, n)))
    rich = rng.normal(0, 1, n)
    customers = np.round(addressable * np.clip(0.12 + 0.05 * rng.normal(0, 1, n), 0.004, 0.4))
    if hostile:
        customers[:3] = [0, 4, 9]
    markets = pd.DataFrame(
        {
            "market_id": ids, "name": names, "region": region, "territory": territory,
            "addressable_customers": addressable, "market_customers": np.round(addressable * 0.6),
            "customers": customers, "reps": 1.0, "capacity": 400.0, "last_target": 1e5, "last_actual": 9e4,
            "x_km": x * 111, "y_km": 0.0, "area_km2": 100.0, "median_income": rich,
        }
    )  # fmt: skip
    if geometry:
        markets = gpd.GeoDataFrame(markets, geometry=shapes, crs=4326)
    ws.write("markets", markets)
    last_revenue = float((customers * 240).sum())
    ws.write_notes(
        "data",
        Notes({"markets": n, "customers": int(customers.sum() * 1.3), "active_customers": int(customers.sum()),
               "revenue_last_year": last_revenue, "spend_last_year": None, "features": ["median_income"], "frequency": "week",
               **({} if segmentation is None else {"segmentation": segmentation})},
              warnings=("1.2% of customers lie outside every market and are left out.",)),
    )  # fmt: skip

    clv = 310 * np.exp(0.35 * rich)
    low_clv = np.argsort(clv)[: max(n // 10, 1)]
    spend = addressable * 9.0 * rng.uniform(0.6, 1.4, n)
    spend[low_clv] *= 0.25 * spend.sum() / spend[low_clv].sum()
    headroom = addressable * np.clip(rng.gamma(1.3, 0.06, n) * np.exp(0.5 * rich), 0, 0.7)
    opportunity = headroom * clv * 0.9
    if "potential" in stages:
        _potential(ws, rng, ids, addressable, customers, clv, headroom, opportunity, potential_signal)
    share = np.array([0.35, 0.25, 0.25, 0.15])
    current = np.outer(spend, share) * rng.uniform(0.8, 1.2, (n, 4))
    if "value" in stages:
        _value(ws, rng, ids, customers, clv, value_signal, float(current[low_clv].sum() / current.sum()))
    if "response" in stages:
        _response(ws, rng, ids, current, opportunity / opportunity.sum(), source)
    keys = pd.MultiIndex.from_product([ids, CHANNELS], names=["market_id", "channel"]).to_frame(index=False)
    ws.write("current", keys.assign(current=current.ravel()))
    if "allocation" in stages:
        _allocation(ws, rng, keys, current, opportunity, null)
    if "targets" in stages:
        _targets(ws, rng, ids, opportunity, customers, last_revenue)
        if "funnel" in stages:
            targets = ws.read("targets")
            won = targets["new_customers"]
            funnel = targets[["market_id", "segment", "period"]].assign(
                leads=won * 30.0, mql=won * 14.0, sal=won * 9.0, sql=won * 4.0, won=won
            )
            ws.write("funnel", funnel)
            total = {c: float(funnel[c].sum()) for c in ("leads", "mql", "sal", "sql", "won")}
            ws.write_notes("funnel", Notes({"total": total, "rates": {"mql": .467, "sal": .643, "sql": .444, "won": .25},
                                            "lag_days": 46, "source": "own"}))  # fmt: skip
    if "tests" in stages:
        _tests(ws, rng, ids)
    return ws


def _value(ws, rng, ids, customers, clv, signal, spend_share) -> None:
    mix = np.array([0.55, 0.35, 0.1])
    worth = np.array([0.6, 1.2, 2.5]) / 1.0
    rows = []
    for i, market in enumerate(ids):
        for s, segment in enumerate(SEGMENTS):
            value = clv[i] * worth[s]
            rows.append((market, segment, round(customers[i] * mix[s]), value, value * 0.8, value * 1.2, value * 0.9,
                         value * 0.7, value * 1.1, 240.0, 0.97, customers[i] * mix[s] * value))  # fmt: skip
    columns = ["market_id", "segment", "customers", "clv", "clv_low", "clv_high", "new_customer_clv",
               "new_customer_clv_low", "new_customer_clv_high", "first_year_revenue", "monthly_retention",
               "customer_equity"]  # fmt: skip
    ws.write("value_cells", pd.DataFrame(rows, columns=columns))
    markets = pd.DataFrame({"market_id": ids, "customers": customers, "clv": clv, "clv_low": clv * 0.85,
                            "clv_high": clv * 1.15, "new_customer_clv": clv * 0.9, "new_customer_clv_low": clv * 0.7,
                            "new_customer_clv_high": clv * 1.1, "first_year_revenue": 240.0,
                            "customer_equity": customers * clv, "acquisition_cost": 90.0, "payback_months": 11.0})  # fmt: skip
    ws.write("value_markets", markets)
    equity = float((customers * clv).sum())
    text = {"clear": "Markets differ in what a customer is worth.",
            "none": "Differences between markets are no larger than chance would make them (F = 0.99)."}  # fmt: skip
    notes = Notes(
        {"observed": False, "signal": {"verdict": signal, "p_value": 0.001, "icc": 0.2, "text": text.get(signal, "")},
         "models": [{"segment": s, "model": "sBG", "holdout_error": 0.06} for s in SEGMENTS],
         "clv": float(np.average(clv, weights=np.maximum(customers, 1))), "customer_equity": equity,
         "new_customer_clv": float(clv.mean() * 0.9), "spend_share_lowest_decile": spend_share},
        (Assumption("Margin is 35% of revenue.", "plan.yml"), Assumption("Value is discounted at 10% a year over 36 months.", "plan.yml")),
        (), (Check("holdout error below 10%", True, "6.0%"),),
    )  # fmt: skip
    ws.write_notes("value", notes)


def worth(share: float = 0.3, p: float = 1e-9, by_construction: bool = False) -> dict:
    """What a segmentation is said to be worth."""
    part = {"share": share, "eta_squared": share, "f": 9.0, "p_value": p, "groups": 3}
    return {
        "measure": "margin",
        "by_construction": by_construction,
        "customers": 5e3,
        "segment": part,
        "market": part,
        "beyond": part,
        "text": f"Segments explain {share:.0%} of the differences in value between customers.",
    }


def derived(**how) -> dict:
    """The segments of :data:`SEGMENTS` as if made from behaviour; a fourth holds 3 people, who must not show."""
    names = [*SEGMENTS, "Rarest"]
    segments = [
        {
            "name": n,
            "definition": f"Defined as {n.lower()} <b>.",
            "customers": 3 if n == "Rarest" else 900,
            "share": 0.3,
        }
        for n in names
    ]
    entry = [{"segment": n, "customers": 3.0, "first_year_margin": 77.7, "margin": 88.8} for n in names]
    return {
        "source": "derived",
        "derived": True,
        "at_start": False,
        "segments": segments,
        "reason": "",
        "rules": {"basis": "purchases", "decided_on": "2026-01-01"},
        "worth": worth(**how),
        "entry": entry,
    }


def add_customers(ws: Workspace, ids: list[str], correction: float = 1.2, channel: str = "tv") -> None:
    """A look back that was too low, and what winning customers cost: one channel does not repay, small ones hide."""
    rows = [
        ("company", "blended", "company", "company", 9e5, 9000.0, 100.0, 95.0, 105.0, 280.0, 2.8, 9.0),
        ("company", "paid", "company", "company", 8e5, 5000.0, 160.0, 150.0, 170.0, 280.0, 1.75, 14.0),
        ("channel", "paid", "search", "search", 3e5, 3000.0, 100.0, 90.0, 110.0, 300.0, 3.0, 8.0),
        ("channel", "paid", channel, channel, 5e5, 2000.0, 400.0, 350.0, 450.0, 250.0, 0.62, np.nan),
        ("channel", "paid", "tiny", "tiny", 1e3, *[np.nan] * 7),
        ("channel", "unpaid", "Referral", "Referral", 0.0, 4000.0, np.nan, np.nan, np.nan, 280.0, np.nan, np.nan),
        ("channel", "unclaimed", "radio", "radio", 1e5, 0.0, *[np.nan] * 6),
        *[
            ("segment", "paid", s, s, 1e5, 1000.0, 100.0, 90.0, 110.0, v, v / 100, m)
            for s, v, m in zip(SEGMENTS, (60.0, 120.0, 250.0), (np.nan, 10.0, 4.0), strict=True)
        ],
        *[("market", "blended", i, i, 1e4, 100.0, 100.0, 90.0, 110.0, 280.0, 2.8, 9.0) for i in ids],
    ]
    columns = [
        "level",
        "basis",
        "key",
        "name",
        "spend",
        "new_customers",
        "cac",
        "cac_low",
        "cac_high",
        "new_customer_clv",
        "ltv_to_cac",
        "payback_months",
    ]
    ws.write("value_acquisition", pd.DataFrame(rows, columns=columns))
    n = np.arange(len(ids), dtype=float)
    by_market = pd.DataFrame(
        {"market_id": ids, "predicted": 50.0, "actual": 60.0 + n, "low": 40.0, "high": 60.0 + 0.9 * len(ids)}
    )
    ws.write("value_holdout", by_market)
    notes = ws.notes("value")
    windows = [
        {"cut": "2025-06-30", "until": "2026-06-30", "predicted": 400.0, "actual": 500.0},
        {"cut": "2024-06-30", "until": "2025-06-30", "predicted": 350.0, "actual": 500.0},
    ]
    holdout = {
        "cut": "2025-06-30",
        "what": "purchases",
        "predicted": 400.0,
        "actual": 500.0,
        "error": -0.2,
        "family": "BG/NBD",
        "scores": {"BG/NBD": -9.0, "Pareto/NBD": -9.4},
        "windows": windows,
    }
    models = [
        {"segment": s, "model": "BG/NBD with Gamma-Gamma", "customers": c, "calibration": f}
        for s, c, f in zip(SEGMENTS, (900.0, 800.0, 4.0), (correction, 1.01, 1.0), strict=True)
    ]
    acquisition = {
        "source": "spend",
        "spend": 9e5,
        "new_customers": 9000.0,
        "blended_cost": 100.0,
        "paid_cost": 160.0,
        "spend_unclaimed": 1e5,
        "customers_unpaid": 4000.0,
        "ltv_to_cac": 2.8,
        "payback_months": 9.0,
    }
    numbers = {**notes.numbers, "holdout": holdout, "models": models, "acquisition": acquisition}
    ws.write_notes("value", Notes(numbers, notes.assumptions, notes.warnings, notes.checks))


def _potential(ws, rng, ids, addressable, customers, clv, headroom, opportunity, signal) -> None:
    potential = customers + headroom
    penetration = customers / addressable
    group = np.digitize(clv, np.quantile(clv, [0.25, 0.5, 0.75]))
    hot = opportunity > np.median(opportunity)
    high = penetration > np.median(penetration)
    quadrant = np.where(hot & ~high, "Grow: high potential, low share", np.where(hot, "Defend: high potential, high share",
                        np.where(high, "Maintain: low potential, high share", "Fix: low potential, low share")))  # fmt: skip
    play = np.where(
        hot & ~high,
        "Hunt: add sales coverage",
        np.where(hot, "Farm and defend", np.where(high, "Maintain", "Fix: find the reason")),
    )
    frame = pd.DataFrame(
        {"market_id": ids, "customers": customers.astype(int), "penetration": penetration,
         "share": customers / (addressable * 0.6), "clv": clv, "clv_low": clv * 0.85, "clv_high": clv * 1.15,
         "new_customer_clv": clv * 0.9, "customer_equity": customers * clv, "potential_customers": potential,
         "potential_low": potential * 0.8, "potential_high": potential * 1.3, "headroom": headroom,
         "opportunity": opportunity, "opportunity_share": opportunity / opportunity.sum(),
         "peer_group": [f"P{g + 1}" for g in group], "quadrant": quadrant, "play": play}
    )  # fmt: skip
    ws.write("scores", frame)
    k = max(len(ids) // 5, 1)
    top = float(np.sort(opportunity)[-k:].sum() / opportunity.sum())
    ws.write_notes(
        "potential",
        Notes(
            {"method": "frontier", "potential_customers": float(potential.sum()), "headroom": float(headroom.sum()),
             "opportunity": float(opportunity.sum()), "opportunity_share_top_fifth": top, "rank_skill": 0.74,
             "level_known": False, "signal": {"verdict": signal, "text": "Ranks hold out of fold (0.74)."}},
            (Assumption("Fixable causes are set to their 90th percentile.", "default"),),
            ("The order of markets is well supported; the level of the opportunity is not (it may be 45% too high).",),
            (Check("ranks hold out of fold", True, "0.74"),),
        ),
    )  # fmt: skip


def _response(ws, rng, ids, current, weight, source) -> None:
    frame = pd.MultiIndex.from_product([ids, CHANNELS], names=["market_id", "channel"]).to_frame(index=False)
    effect = current.ravel() / 400
    ws.write("response", frame.assign(
        current_spend=current.ravel(), effect=effect, effect_low=effect * 0.6, effect_high=effect * 1.4,
        marginal_return=np.repeat(weight * len(ids), 4) * rng.uniform(0.7, 1.3, current.size), source=source))  # fmt: skip
    channels = [
        {"channel": c, "source": source, "elasticity": e, "elasticity_low": e * 0.5, "elasticity_high": e * 1.5,
         "decay": 0.5, "spend": float(current[:, i].sum()), "customers": float(current[:, i].sum() / 400)}
        for i, (c, e) in enumerate(zip(CHANNELS, (0.06, 0.11, 0.19, 0.04), strict=True))
    ]  # fmt: skip
    ws.write_notes("response", Notes({"source": source, "channels": channels, "p_no_response": 0.02, "skill": 0.12},
                                     warnings=("No experiment pins the level of the response: treat it as likely too high where spend follows demand.",)))  # fmt: skip


def _allocation(ws, rng, keys, current, opportunity, null) -> None:
    total = current.sum()
    wanted = np.outer(opportunity / opportunity.sum(), current.sum(0)) * rng.uniform(0.8, 1.2, current.shape)
    wanted *= total / wanted.sum()
    step = 0.0 if null else 0.3
    recommended = np.clip(current + step * (wanted - current), 0, 2 * current)
    recommended *= total / recommended.sum()
    change = (recommended - current).ravel()
    value = np.where(change > 0, change * 3.1, change * 0.9)
    market = keys["market_id"].str[1:].astype(int).to_numpy()
    reason = np.where(change > 0, "Earns 2.4 of margin for the next 1 spent: much room, few reps",
                      "Earns 0.7 for the next 1 spent: nearly full and low in value")  # fmt: skip
    budget = keys.assign(
        current=current.ravel(), recommended=recommended.ravel(), change=change, incremental_customers=value / 280,
        incremental_value=value, value_low=value - abs(value) * 0.5, value_high=value + abs(value) * 0.5,
        marginal_return=np.where(change > 0, 2.4, 0.7), reason=reason)  # fmt: skip
    ws.write("budget", budget)
    up = pd.Series(change).groupby(market).sum() > 0
    gain = float(value.sum())
    moved = float(abs(change).sum() / 2)
    frontier = [{"total": float(total * k), "value": gain + 1.9 * total * (k - 1) - 0.9 * total * (k - 1) ** 2,
                 "low": gain * .4 + 1.2 * total * (k - 1) - .9 * total * (k - 1) ** 2,
                 "high": gain * 1.6 + 2.5 * total * (k - 1) - .9 * total * (k - 1) ** 2}
                for k in (0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)]  # fmt: skip
    ws.write_notes(
        "allocation",
        Notes(
            {"total": float(total), "current_total": float(total), "moved": moved, "moved_share": moved / total,
             "markets_up": int(up.sum()), "markets_down": int((~up).sum()),
             "gain": {"expected": gain, "low": gain * 0.55, "high": gain * 1.46, "p_positive": 0.97},
             "customers": {"expected": float(budget["incremental_customers"].sum()), "low": 1.0, "high": 2.0},
             "certificate": {"duality_gap": 1e-12, "max_violation": 0.0}, "price": 1.4, "frontier": frontier},
            (Assumption("At most 30% of the budget moves; no market falls below half or rises above twice its money.", "plan.yml"),),
            ("In 4 markets the plan spends more than was ever tried there.",),
            (Check("no better plan exists within the limits", True, "duality gap 1e-12"),),
        ),
    )  # fmt: skip


def _targets(ws, rng, ids, opportunity, customers, last_revenue) -> None:
    months = pd.date_range("2026-07-01", periods=12, freq="MS").date
    season = np.array([1, 0.9, 1, 1.05, 1.2, 1.5, 0.8, 0.8, 0.95, 1, 1, 0.8])
    season /= season.sum()
    frame = pd.MultiIndex.from_product([ids, SEGMENTS, months], names=["market_id", "segment", "period"]).to_frame(index=False)  # fmt: skip
    revenue = (customers * 240 * 1.1)[:, None, None] * np.array([0.5, 0.3, 0.2])[None, :, None] * season
    new = np.round(revenue / 1500)
    p = np.clip(np.repeat(rng.normal(0.6, 0.07, len(ids)), 36), 0.2, 0.9)
    frame = frame.assign(new_customers=new.ravel(), revenue=revenue.ravel(), margin=revenue.ravel() * 0.35,
                         p_attain=p, last_target=np.round(revenue.ravel() * 0.95))  # fmt: skip
    ws.write("targets", frame)
    total = {c: float(frame[c].sum()) for c in ("new_customers", "revenue", "margin")}
    ws.write_notes("targets", Notes(
        {"goal_revenue": total["revenue"], "base_revenue": last_revenue, "growth": 0.1, "total": total,
         "p_company": 0.62, "wanted": 0.6, "gap": {"revenue": 120_000.0, "text": "Revenue of 120,000 has no market that could carry it at fair odds: two more reps in Java would close it."}},
        (Assumption("A market's target lies between 90% and 130% of last year.", "default"),)))  # fmt: skip


def _tests(ws, rng, ids) -> None:
    n = len(ids)
    arms = np.array(["none"] * n, dtype=object)
    picked = rng.permutation(n)[: 2 * max(n // 5, 1)]
    arms[picked[::2]], arms[picked[1::2]] = "treat", "control"
    pair = pd.array([None] * n, dtype="Int64")
    for k, i in enumerate(picked):
        pair[int(i)] = k // 2 + 1
    ws.write("tests", pd.DataFrame({"market_id": ids, "arm": arms, "pair": pair, "test": np.where(arms == "none", None, "first moves")}))  # fmt: skip
    ws.write_notes("tests", Notes(
        {"test": "first moves", "treated": int((arms == "treat").sum()), "control": int((arms == "control").sum()),
         "start": "2026-07-01", "end": "2026-09-30", "weeks": 13, "measure": "new customers",
         "minimum_detectable_lift": 0.06, "power": 0.8, "cost": 84_000.0, "verdict": "run",
         "text": "Half of the markets in each pair get the new money on 1 July, the other half wait until October. A lift of 6% or more would be seen four times in five."}))  # fmt: skip
