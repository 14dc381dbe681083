"""How leads move from stage to stage, day by day: life tables by channel, open and lost leads accounted for.

A lead leaves a stage by moving on or by being lost; both are discrete hazards of the time spent in the stage
(competing risks: Kalbfleisch and Prentice 2002, *The Statistical Analysis of Failure Time Data*, section 8.2). Leads
that are still there count for the time they have stayed, so young cohorts bias nothing. A channel's
hazards are the company's times a factor of its own and, around it, one in each sixteenth of the time, shrunk by gamma
priors (Clayton and Kaldor 1987, *Biometrics* 43: 671-681). The stages are chained as a semi-Markov process: the clock
starts anew with each stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

ORDER = ("leads", "mql", "sal", "sql")
_BINS = 240  # waits up to as many days are counted by the day, longer ones in wider steps
_PARTS = 16  # of the time in a stage, each with a like number of events, in which channels may differ
_SMOOTH = 0.5  # pseudo events of the pooled tail that a step's hazard leans on


@dataclass(frozen=True)
class LifeTables:
    """Hazards by steps of ``width`` days. Arrays are indexed by channel, stage and step of time in the stage.

    Attributes
    ----------
    stages : tuple of str
        Recorded stages before the win, in order.
    channels : tuple of str
        The last one, ``""``, is the company: for channels that are not known.
    moved, lost : arrays of shape (channels, stages, steps)
        Probability that a lead that is there when the step begins moves on, or is lost, in it.
    width : int
        Days of a step.
    """

    stages: tuple[str, ...]
    channels: tuple[str, ...]
    moved: np.ndarray
    lost: np.ndarray
    width: int

    @property
    def steps(self) -> int:
        return self.moved.shape[2]

    @property
    def reach(self) -> int:
        """Steps that the whole way can take."""
        return self.steps * len(self.stages)

    def position(self, channels: pd.Series) -> np.ndarray:
        """Row of each channel; unknown ones take the company's."""
        known = {c: i for i, c in enumerate(self.channels)}
        return channels.map(known).fillna(len(self.channels) - 1).to_numpy(dtype=int)

    def staying(self) -> np.ndarray:
        """Probability (channels, stages, steps) that a lead is still in its stage when each step begins."""
        kept = np.cumprod(1 - self.moved - self.lost, axis=2)
        return np.concatenate([np.ones((*kept.shape[:2], 1)), kept[..., :-1]], axis=2)

    def leaving(self) -> np.ndarray:
        """Probability (channels, stages, steps) that a lead new in a stage moves on in each step."""
        return self.staying() * self.moved

    def to_win(self) -> np.ndarray:
        """Probability (channels, stages, :attr:`reach`) that a lead new in a stage is won in each step from now."""
        step = self.leaving()
        out = np.zeros((*step.shape[:2], self.reach))
        out[:, -1, : self.steps] = step[:, -1]
        for k in range(len(self.stages) - 2, -1, -1):
            for c in range(len(self.channels)):
                out[c, k] = np.convolve(step[c, k], out[c, k + 1])[: self.reach]
        return out

    def reached(self) -> np.ndarray:
        """Probability (channels, stages + 1, :attr:`reach`) that a new lead has come to a stage (the last: won)."""
        step = self.leaving()
        out = np.ones((len(self.channels), len(self.stages) + 1, self.reach))
        for c in range(len(self.channels)):
            arrival = np.eye(1, self.reach)[0]
            for k in range(len(self.stages)):
                arrival = np.convolve(arrival, step[c, k])[: self.reach]
                out[c, k + 1] = np.cumsum(arrival)
        return out

    def days_to_win(self) -> np.ndarray:
        """Mean days (channels, stages) from the day a stage is reached to the win, of leads that are won."""
        density = self.to_win()
        total = density.sum(axis=2)
        # a step holds (width - 1) / 2 days more than it began with, in each stage that is still to be passed
        inside = (self.width - 1) / 2 * np.arange(len(self.stages), 0, -1)
        days = (density * self.width * np.arange(self.reach)).sum(axis=2)
        mean = np.where(total > 1e-12, days / np.maximum(total, 1e-300), 0.0)
        return np.where(total > 1e-12, mean, mean[-1]) + inside

    def wins_of_open(self, channel: np.ndarray, stage: np.ndarray, day: np.ndarray, ahead: int) -> np.ndarray:
        """Probability (n, ``ahead`` steps) that leads now open are won in each step to come.

        Parameters
        ----------
        channel, stage, day : int arrays of shape (n,)
            Positions of channel and stage, whole days in that stage.
        ahead : int
            Number of steps of ``width`` days.
        """
        after, staying = self.to_win(), self.staying()
        here = np.minimum(day // self.width, self.steps - 1)
        gone = (day % self.width + 1) / self.width  # part of this step that has passed
        beyond = day // self.width >= self.steps
        rate = self.moved[channel, stage, here] + self.lost[channel, stage, here]
        now = staying[channel, stage, here] * (1 - np.where(beyond, 1.0, gone) * rate)
        at = here[:, None] + np.arange(ahead)
        density = (staying * self.moved)[channel[:, None], stage[:, None], np.minimum(at, self.steps - 1)]
        density = np.where((at < self.steps) & ~beyond[:, None], density, 0.0)
        density[:, 0] *= 1 - gone
        leave = np.where(now[:, None] > 1e-12, density / np.maximum(now[:, None], 1e-12), 0.0)
        out = np.zeros_like(leave)
        reach = min(ahead, self.reach)
        for c, k in sorted(set(zip(channel.tolist(), stage.tolist(), strict=True))):
            rows = (channel == c) & (stage == k)
            if k + 1 == len(self.stages):
                out[rows] = leave[rows]
                continue
            shift = np.zeros((ahead, ahead))
            for gap in range(reach):
                shift[np.arange(ahead - gap), np.arange(gap, ahead)] = after[c, k + 1, gap]
            out[rows] = leave[rows] @ shift
        return out


def life_tables(steps: pd.DataFrame) -> LifeTables:
    """Life tables of the artefact ``lead_steps``, summed over regions.

    Parameters
    ----------
    steps : DataFrame
        channel, stage, day and the counts moved, lost, open.
    """
    stages = tuple(s for s in ORDER if (steps["stage"] == s).any())
    named = steps["channel"].astype(object).where(steps["channel"].notna(), "unknown")
    channels = tuple(sorted(named.unique()))
    day = steps["day"].to_numpy(int)
    left = (steps["moved"] + steps["lost"]).to_numpy(float) > 0
    longest = int(day[left].max()) + 1 if left.any() else 1  # beyond it nobody has ever left
    width = -(-longest // _BINS)
    count = -(-longest // width)
    step = np.minimum(day // width, count - 1)
    row = named.map({c: i for i, c in enumerate(channels)}).to_numpy(int)
    stage = steps["stage"].map({s: i for i, s in enumerate(stages)}).to_numpy(int)

    def summed(values: np.ndarray) -> np.ndarray:
        array = np.zeros((len(channels) + 1, len(stages), count))
        np.add.at(array, (row, stage, step), values)
        array[-1] = array[:-1].sum(axis=0)
        return array

    counts = {how: summed(steps[how].to_numpy(float)) for how in ("moved", "lost", "open")}
    # who is open has passed a part of its last step only
    short = np.where(day < count * width, 1 - (day % width + 1) / width, 0.0)
    missing = summed(steps["open"].to_numpy(float) * short)
    everyone = counts["moved"] + counts["lost"] + counts["open"]
    at_risk = everyone[..., ::-1].cumsum(axis=-1)[..., ::-1] - missing
    hazards = {}
    for how in ("moved", "lost"):
        company = _smoothed(counts[how][-1], at_risk[-1])
        hazards[how] = _of_channels(counts[how], at_risk * company) * company
    total = hazards["moved"] + hazards["lost"]
    cap = np.where(total > 1, 1 / np.maximum(total, 1e-300), 1.0)
    return LifeTables(stages, (*channels, ""), hazards["moved"] * cap, hazards["lost"] * cap, width)


def _smoothed(events: np.ndarray, at_risk: np.ndarray) -> np.ndarray:
    """Hazards (stages, steps); a step with few at risk leans on all steps from it on."""
    later_events = events[:, ::-1].cumsum(axis=1)[:, ::-1]
    later_risk = at_risk[:, ::-1].cumsum(axis=1)[:, ::-1]
    tail = np.where(later_risk > 0, later_events / np.maximum(later_risk, 1e-300), 0.0)
    lean = np.where(tail > 0, _SMOOTH / np.maximum(tail, 1e-300), 0.0)
    some = at_risk + lean > 0
    return np.where(some, np.minimum((events + lean * tail) / np.where(some, at_risk + lean, 1.0), 1.0), 0.0)


def _of_channels(events: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Factors (channels + company, stages, steps) on the company's hazards.

    A channel's own factor first, then, around it, one in each part of the time.
    """
    out = np.ones_like(events)
    for k in range(events.shape[1]):
        total = events[-1, k].cumsum()
        if total[-1] <= 0 or len(events) < 3:
            continue
        whole = _shrunk(events[:-1, k].sum(axis=1), expected[:-1, k].sum(axis=1))
        part = np.minimum((total - events[-1, k]) * _PARTS / total[-1], _PARTS - 1).astype(int)
        for p in np.unique(part):
            here = part == p
            around = _shrunk(events[:-1, k][:, here].sum(axis=1), whole * expected[:-1, k][:, here].sum(axis=1))
            out[:-1, k, here] = (whole * around)[:, None]
    return out


def _shrunk(events: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Ratios of events to expected, gamma-Poisson shrunk to 1 by how far they vary beyond chance."""
    if not expected.sum() > 0:
        return np.ones_like(events)
    between = float((((events - expected) ** 2) - expected).sum() / (expected**2).sum())
    if between <= 1e-9:
        return np.ones_like(events)
    return (events + 1 / between) / (expected + 1 / between)
