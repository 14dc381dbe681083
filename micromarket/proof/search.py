"""The best test within the rules: what to try, for how long, in how many markets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from micromarket.proof.cells import WHOLE, Trial
from micromarket.proof.proposals import MIN_BLOCKS, Ground, Proposal, in_blocks, with_few

WINDOWS = {"week": (6, 8, 10, 13), "month": (2, 3)}
PARTS = (0.25, 0.5, 1.0)
_LASTS = 0.10  # carry-over below this share of a week's money counts as gone
_MOST_SETS_OF = 4


@dataclass(frozen=True)
class Found:
    """``best``: the test worth most after its cost, ``None`` where none is possible; ``unlimited``: with no reserve."""

    best: Proposal | None
    unlimited: Proposal | None


def cool_downs(trials: list[Trial], decays: dict[str, float], longest: int) -> dict[str, int]:
    """Periods until a tenth of the carry-over is left, by trial; ``decays``: share kept a period, by channel."""
    out = {}
    for trial in trials:
        mine = [decays[c] for c in decays if trial.name in (c, WHOLE)]
        periods = [np.log(_LASTS) / np.log(min(max(d, 1e-6), 0.99)) for d in mine if d > 0] or [1.0]
        out[trial.name] = int(min(np.ceil(max(periods)), longest))
    return out


def find(trials: list[Trial], ground: Ground, decays: dict[str, float]) -> Found:
    """Singles first, then a further cell beside a shared control as long as it adds to the net worth."""
    best = _search(trials, ground, decays)
    if best is not None and (best.net > 0 or ground.rules.run == "always"):
        return Found(best, best)
    return Found(best, _search(trials, replace(ground, reserve=np.inf), decays, parts=(1.0,)))


def _search(
    trials: list[Trial], ground: Ground, decays: dict[str, float], parts: tuple[float, ...] = PARTS
) -> Proposal | None:
    frequency = ground.history.frequency
    tried: list[tuple[Proposal, float]] = []
    few = ground.rules.most_markets is not None and ground.rules.most_markets < MIN_BLOCKS
    for after in WINDOWS[frequency]:
        cools = cool_downs(trials, decays, max(after // 2, 1))
        if after + max(cools.values(), default=0) > 0.6 * ground.plan_periods:
            continue
        for trial in trials:
            for part in () if few else parts:
                found = in_blocks((trial,), ground, after, cools[trial.name], part)
                if found is not None:
                    tried.append((found, part))
    tried = [(p, part) for p, part in tried if _small_enough(p, ground)]
    if not tried:
        return _few(trials, ground, decays)
    best, part = max(tried, key=lambda t: (t[0].score(ground.rules), -t[0].after))
    while len(best.trials) < ground.rules.cells and WHOLE not in {t.name for t in best.trials}:
        used = {t.name for t in best.trials}
        cools = cool_downs(trials, decays, max(best.after // 2, 1))
        more = [
            found
            for trial in trials
            if trial.name not in used and trial.name != WHOLE
            for found in [in_blocks((*best.trials, trial), ground, best.after, max(best.cool, cools[trial.name]), 1.0)]
            if found is not None and _small_enough(found, ground)
        ]
        better = max(more, key=lambda p: p.score(ground.rules), default=None)
        if better is None or better.score(ground.rules) <= best.score(ground.rules) * 1.02 + 1e-9:
            break
        best, part = better, 1.0
    return in_blocks(best.trials, ground, best.after, best.cool, part, final=True)


def _small_enough(proposal: Proposal, ground: Ground) -> bool:
    most = ground.rules.most_markets
    return most is None or int((proposal.arms > 0).sum()) <= most


def _few(trials: list[Trial], ground: Ground, decays: dict[str, float]) -> Proposal | None:
    best: tuple[Proposal, int] | None = None
    after = WINDOWS[ground.history.frequency][-1]
    cools = cool_downs(trials, decays, max(after // 2, 1))
    largest = min(ground.rules.most_markets or _MOST_SETS_OF, _MOST_SETS_OF)
    for trial in trials:
        found = with_few(trial, ground, after, cools[trial.name], largest)
        if found is not None and (best is None or found.score(ground.rules) > best[0].score(ground.rules)):
            best = (found, largest)
    if best is None:
        return None
    return with_few(best[0].trials[0], ground, after, best[0].cool, best[1], final=True)
