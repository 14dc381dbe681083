"""A chosen proposal as its frozen record."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.proof.backtest import ALPHA
from micromarket.proof.proposals import Ground, Proposal
from micromarket.proof.record import CellRecord, TestRecord

_KEPT = {"week": 104, "month": 36}  # periods of history that go into the record


def first_period(settings: Settings, frequency: str, last: pd.Timestamp) -> pd.Timestamp:
    """First day of the plan's first whole period, in step with the history, whose last period begins at ``last``."""
    step = pd.DateOffset(weeks=1) if frequency == "week" else pd.DateOffset(months=1)
    day = last + step
    while day < pd.Timestamp(settings.plan.start):
        day += step
    return day


def freeze(proposal: Proposal, ground: Ground, settings: Settings, scores: pd.DataFrame | None) -> TestRecord:
    """Everything about the test that must not change once it runs."""
    history = ground.history
    frequency = history.frequency
    inside = np.flatnonzero(proposal.arms >= 0)
    start = first_period(settings, frequency, history.periods[-1])
    step = pd.DateOffset(weeks=1) if frequency == "week" else pd.DateOffset(months=1)
    day = pd.Timedelta(days=1)
    end, until = (start + step * n - day for n in (proposal.after, proposal.after + proposal.cool))
    kept = min(_KEPT[frequency], history.counts.shape[1])
    share = proposal.after / ground.plan_periods
    cells = []
    for i, trial in enumerate(proposal.trials):
        treated = proposal.arms == i + 1
        customers = np.where(treated, trial.extra.mean(axis=1) * share, 0.0)
        brought = float(customers.sum())
        worth = float(trial.worth[treated, 0].sum()) * share
        plain = float(ground.stage.draws.value[treated].mean())
        tested = proposal.backtests[i]
        lift = proposal.expected(i)
        cells.append(CellRecord(
            name=trial.name, text=trial.text, factor=trial.factor,
            money={c: round(float(trial.money[treated, k].sum()) * share, 2)
                   for k, c in enumerate(ground.stage.curves.channels) if np.abs(trial.money[treated, k]).sum() > 0},
            expected=(round(lift[0], 6), round(lift[1], 6), round(lift[2], 6)),
            customers=tuple(round(float(v), 4) for v in customers[inside]),
            value=round(worth / brought if abs(brought) > 1e-9 else plain, 4),
            estimator=tested.method.name, before=tested.method.before, error=round(tested.error, 6),
            detectable=round(tested.detectable, 6) if np.isfinite(tested.detectable) else None,
            power=round(tested.at(lift[0]), 4), false_positives=round(tested.false_positives, 4),
            curve=tuple(zip(tested.lifts.round(4).tolist(), tested.power.round(4).tolist(), strict=True)),
        ))  # fmt: skip
    few = proposal.layouts[0]
    sets: tuple[tuple[int, ...], ...] = ()
    banned: tuple[tuple[int, ...], ...] = ()
    if proposal.few:  # its rows are ``inside``, in the same order
        sets = tuple(tuple(int(v) for v in np.flatnonzero(row)) for row in few.treated)
        if few.banned is not None:
            banned = tuple(tuple(int(v) for v in np.flatnonzero(row)) for row in few.banned)
    groups = np.full(len(history.markets), "", dtype=object)
    if scores is not None and "peer_group" in scores:
        peer = scores.set_index("market_id")["peer_group"].reindex(list(history.markets))
        groups = peer.astype(object).where(peer.notna(), "").astype(str).to_numpy(dtype=object)
    return TestRecord(
        name=f"test-{start:%Y-%m}", seed=settings.seed, frequency=frequency, start=f"{start:%Y-%m-%d}",
        end=f"{end:%Y-%m-%d}", measured_until=f"{until:%Y-%m-%d}", after=proposal.after, cool_down=proposal.cool,
        alpha=ALPHA, markets=tuple(history.markets[i] for i in inside), groups=tuple(str(groups[i]) for i in inside),
        arms=tuple(int(proposal.arms[i]) for i in inside), blocks=tuple(int(proposal.blocks[i]) for i in inside),
        cells=tuple(cells), sets=sets, banned=banned,
        history=tuple(tuple(round(float(v), 3) for v in row) for row in history.counts[inside][:, -kept:]),
        first_period=f"{history.periods[-kept]:%Y-%m-%d}",
        facts={"worth": proposal.worth, "cost": proposal.cost, "money": proposal.money,
               "buffer": bool(ground.rules.buffer), "price": ground.price},
    )  # fmt: skip
