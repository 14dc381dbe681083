"""How close values of markets come to the truth, and whether their 90% ranges hold it, beside the obvious extremes.

``all pooled``: every market gets the company's value. ``each alone``: the same models without shrinkage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from value_worlds import KINDS, World

from micromarket.value import estimate_value, pooling


@contextmanager
def no_pooling() -> Iterator[None]:
    """Market effects with a prior so wide that every market stands alone."""
    keep = pooling.MarketEffects._update

    def wide(self, info, curvature, mean, V, W, prior, several):  # type: ignore[no-untyped-def]
        return keep(self, info, curvature, mean, V, W, prior, several)[0], np.eye(len(V)) * 9.0, W

    pooling.MarketEffects._update = wide  # type: ignore[method-assign]
    try:
        yield
    finally:
        pooling.MarketEffects._update = keep  # type: ignore[method-assign]


def judge(world: World, markets: pd.DataFrame) -> dict[str, float]:
    """Errors are mean absolute log errors; ``small``: the fifth of the markets with the fewest customers ever won."""
    out: dict[str, float] = {}
    got = markets.set_index("market_id").loc[world.data.markets["market_id"]]
    won = world.data.cells["new_customers_last_year"].to_numpy()
    small = won <= np.quantile(won, 0.2)
    for name, truth in (("new_customer_clv", world.new_clv), ("clv", world.clv)):
        use = np.isfinite(truth) & (truth > 0) & (world.customers > 0)
        estimate, low, high = (got[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
        error = np.log(np.maximum(estimate, 1e-9) / np.maximum(truth, 1e-9))
        inside = (low <= truth) & (truth <= high)
        out[f"{name}: error"] = np.abs(error[use]).mean()
        out[f"{name}: error, small"] = np.abs(error[use & small]).mean()
        out[f"{name}: level"] = estimate[use].sum() / truth[use].sum()
        out[f"{name}: covered"] = inside[use].mean()
        out[f"{name}: covered, small"] = inside[use & small].mean()
        out[f"{name}: width"] = ((high - low) / np.maximum(estimate, 1e-9))[use].mean()
    return out


def run(kind: str, seed: int, markets: int, extremes: bool) -> dict[str, object]:
    world = KINDS[kind](seed, markets)
    began = time.perf_counter()
    result = estimate_value(world.tables, world.data, world.settings)  # type: ignore[arg-type]
    row: dict[str, object] = {"kind": kind, "seed": seed, "seconds": time.perf_counter() - began}
    row |= judge(world, result.markets)
    row["model"] = result.notes.numbers["models"][0]["model"]
    holdout = result.notes.numbers.get("holdout")
    row["holdout"] = holdout["error"] if holdout else None
    if extremes:
        level = np.average(result.markets["new_customer_clv"], weights=world.customers)
        row["new_customer_clv: error, all pooled"] = np.abs(np.log(level / world.new_clv)).mean()
        with no_pooling():
            alone = estimate_value(world.tables, world.data, world.settings).markets  # type: ignore[arg-type]
        row["new_customer_clv: error, each alone"] = judge(world, alone)["new_customer_clv: error"]
        row["new_customer_clv: error, small, each alone"] = judge(world, alone)["new_customer_clv: error, small"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--markets", type=int, default=500)
    parser.add_argument("--extremes", action="store_true", help="all pooled and each alone beside it")
    given = parser.parse_args()
    rows = [run(k, s, given.markets, given.extremes) for k in given.kinds for s in given.seeds]
    frame = pd.DataFrame(rows)
    numbers = frame.groupby("kind", sort=False).mean(numeric_only=True).drop(columns="seed")
    with pd.option_context("display.width", 160, "display.max_rows", 99):
        print(numbers.T.round(3).to_string())
        print(frame[["kind", "seed", "model", "holdout"]].to_string(index=False))


if __name__ == "__main__":
    main()
