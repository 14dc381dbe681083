"""Purchase logs of any length under BG/NBD with Gamma-Gamma, written as Parquet at speed (fixed seed)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

#: Days. About 2.5 purchases a customer over two years; a quarter of the customers come back within a year.
TRUTH = {"r": 0.35, "alpha": 60.0, "a": 0.8, "b": 2.4}
SPEND = {"p": 4.0, "q": 3.5, "v": 20.0}
DAYS = 730
LAST_DAY = np.datetime64("2026-06-30")
_BLOCK = 1_000_000


def histories(customers: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customer (index), day (0 is the first) and amount of every purchase; one purchase a customer and day at most."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, DAYS, customers)
    rate = rng.gamma(TRUTH["r"], 1 / TRUTH["alpha"], customers)
    leaves = rng.beta(TRUTH["a"], TRUTH["b"], customers)
    level = SPEND["v"] / np.maximum(rng.gamma(SPEND["q"], 1.0, customers), 1e-9)
    who, at = np.arange(customers), first.astype(float)
    parts = [(who.astype(np.int32), first.astype(np.int32))]
    while len(who):
        at = at + rng.exponential(1.0, len(who)) / np.maximum(rate[who], 1e-12)
        there = at < DAYS
        who, at = who[there], at[there]
        parts.append((who.astype(np.int32), at.astype(np.int32)))
        stays = rng.random(len(who)) >= leaves[who]
        who, at = who[stays], at[stays]
    who, day = (np.concatenate(v) for v in zip(*parts, strict=True))
    key = np.unique(who.astype(np.int64) * DAYS + day)
    who, day = key // DAYS, key % DAYS
    amount = rng.gamma(SPEND["p"], 1.0, len(who)) * level[who]
    return who, day, np.round(np.maximum(amount, 0.01), 2)


def write_log(folder: Path, purchases: int, seed: int = 7) -> tuple[int, int]:
    """``customer_id``, ``date``, ``amount`` in Parquet files of a million customers; returns purchases, customers."""
    import pyarrow as pa  # the peers' environment needs no more than numpy
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    written = customers = part = 0
    each = 2.0
    while written < purchases:
        block = min(_BLOCK, int((purchases - written) / each * 1.02) + 100)
        who, day, amount = histories(block, seed + part)
        each = len(who) / block
        keep = min(len(who), purchases - written)
        numbers = pc.utf8_lpad(pc.cast(pa.array(np.arange(customers, customers + block)), pa.string()), 9, "0")
        ids = pc.binary_join_element_wise(pa.scalar("c"), numbers, pa.scalar(""))
        # in the order in which a till writes them: by day
        order = np.argsort(day[:keep], kind="stable")
        dates = pa.array((LAST_DAY - DAYS + 1 + day[:keep][order]).astype("datetime64[D]"))
        table = pa.table({"customer_id": ids.take(pa.array(who[:keep][order])), "date": dates,
                          "amount": amount[:keep][order]})  # fmt: skip
        pq.write_table(table, folder / f"part{part:03d}.parquet", row_group_size=250_000)
        written, customers, part = written + keep, customers + int(who[keep - 1]) + 1, part + 1
    return written, customers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--purchases", type=int, default=10_000_000)
    given = parser.parse_args()
    print("{:,} purchases of {:,} customers".format(*write_log(given.folder, given.purchases)))
