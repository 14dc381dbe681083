"""The response that the plan is made on: the response stage's posterior, stacked with simpler accounts of it.

Between markets: own effects are mixed with effects in proportion to headroom and to size, by held-out evidence
(:mod:`.evidence`). Between channels: returns on money are shrunk towards one another, as far as they are not told
apart. A plan made on the mixture is at least as good as the best of the simple rules but for noise, and usually better
than all of them: the gain is concave in the money, and the accounts' errors differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.evidence import ACCOUNTS, Weights
from micromarket.allocation.gain import CHUNK, Draws, chord
from micromarket.allocation.limits import Cells

Array = NDArray[np.float64]
# Beyond its posterior, a channel's return on money is off by about this much (log): seasons, flights that all markets
# of a region share and a shape that is not the model's do not average out over markets. Less where an experiment or a
# randomised pulse tells. And how far channels' returns differ in truth, worth WORTH channels of evidence.
# Set on simulated companies of seeds 1-5; what they do on others is in benchmarks/.
CHANNEL_ERROR, TESTED_ERROR = 0.22, 0.12
CHANNEL_SPREAD, WORTH = 0.35, 4.0
# Part of the spread of a plan's gain over draws that is believed: most of it is the common level of all effects, which
# posteriors hold for less certain than it proves to be (all 26 gains of seeds 1 to 3 lay inside ranges of full width).
WIDTH = 0.8
FLOOR = 0.1  # of the effect that size alone gives a cell: least that the mixture gives it


@dataclass(frozen=True)
class Stacked:
    """``cells`` and ``draws`` of the mixture, and what is said of it in the notes (``numbers``)."""

    cells: Cells
    draws: Draws
    numbers: dict[str, Any]


def stack(
    cells: Cells, draws: Draws, weights: Weights, room: Array, heads: Array, tested: NDArray[np.bool_], seed: int
) -> Stacked:
    """Mixes the accounts draw by draw; every account has the draw's own channel totals.

    Parameters
    ----------
    room, heads : arrays (markets,)
        Relative headroom per head (positive), heads (count).
    tested : array (channels,)
        Channels that an experiment or a randomised pulse informs.
    """
    rng = np.random.default_rng([seed, 72])
    share = weights.draw(len(draws), rng)
    amplitude = _mixed(cells, draws, share, room, heads)
    factor, shrunk = _channels(cells, replace(draws, amplitude=amplitude), tested, rng)
    for part in np.array_split(np.arange(len(amplitude)), max(len(amplitude) // CHUNK, 1)):
        amplitude[part] *= factor[cells.channel[part]]
    mixed = replace(draws, amplitude=amplitude, width=WIDTH)
    numbers: dict[str, Any] = {f"weight {n}": float(w) for n, w in zip(ACCOUNTS, weights.mean, strict=True)}
    numbers["held_out"] = weights.heldout
    numbers["channels"] = [{"channel": c, "shrunk": float(s)} for c, s in zip(cells.channels, shrunk, strict=True)]
    return Stacked(replace(cells, amplitude=mixed.amplitude_at(cells.half_spend)), mixed, numbers)


def _mixed(cells: Cells, draws: Draws, share: Array, room: Array, heads: Array) -> Array:
    """Amplitudes (cells, draws). Totals are held at what the money of today would gain from half to twice of it."""
    x = np.where(cells.current > 0, cells.current, 0.0)
    span = chord(x, np.maximum(cells.half_spend, 1e-300))
    by_size = heads[cells.market]
    by_room = by_size * room[cells.market]
    channels = len(cells.channels)

    def total(a: Array) -> Array:
        return np.asarray(np.bincount(cells.channel, a * span, channels), dtype=float)

    whole = np.stack([total(column) for column in draws.amplitude.T], axis=1)  # (channels, draws)
    simple = [(shape, np.maximum(total(shape), 1e-300)) for shape in (by_room, by_size)]
    live = total(np.ones(len(x))) > 0
    out = np.empty_like(draws.amplitude)
    for part in np.array_split(np.arange(len(out)), max(len(out) // CHUNK, 1)):
        c = cells.channel[part]
        out[part] = draws.amplitude[part] * share[:, 0]
        for k, (shape, mass) in enumerate(simple, start=1):
            simply = shape[part, None] * (whole[c] / mass[c, None])
            out[part] += simply * share[:, k]
        out[part] = np.maximum(out[part], FLOOR * simply)  # where size counts against, no cell falls to nothing
        out[part] = np.where(live[c, None], out[part], draws.amplitude[part])
    return out


def _channels(cells: Cells, draws: Draws, tested: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Array, Array]:
    """Factor of every channel's amplitudes by draw, (channels, draws), and how far each channel was shrunk, 0 to 1.

    Empirical Bayes on the log of channels' value per further unit of money, relative to the common one (Efron & Morris
    1975).
    """
    channels, count = len(cells.channels), len(draws)
    money = np.bincount(cells.channel, cells.current, channels)
    returns = np.zeros((channels, count))
    for part in np.array_split(np.arange(len(cells.current)), max(len(cells.current) // CHUNK, 1)):
        x, half = cells.current[part, None], draws.half_spend[part]
        gained = draws.amplitude[part] * cells.value[part, None] * x * half / (x + half) ** 2
        np.add.at(returns, cells.channel[part], gained)
    mean = returns.mean(axis=1)
    live = (money > 0) & (mean > 0)
    if live.sum() < 2:
        return np.ones((channels, count)), np.zeros(channels)
    returns, share = returns[live] / money[live, None], money[live] / money[live].sum()
    some = returns.sum(axis=0) > 0
    common = share @ returns
    relative = returns[:, some] / common[some]
    middle = np.clip(relative.mean(axis=1), 0.05, 20.0)
    apart = np.log(middle)
    apart -= share @ apart
    seen = np.minimum((relative.std(axis=1) / middle) ** 2, 1.0)
    error = np.where(tested[live], TESTED_ERROR, CHANNEL_ERROR) ** 2
    beyond = np.maximum(apart**2 - seen - error, 0.0).sum()
    spread = (WORTH * CHANNEL_SPREAD**2 + beyond) / (WORTH + live.sum() - 1)
    shrink = error / (error + spread)
    left = shrink * spread  # variance that the error leaves, beside what the draws hold
    noise = rng.standard_normal((len(share), count)) * np.sqrt(left)[:, None]
    factor = np.exp(-shrink * apart)[:, None] * np.exp(noise - 0.5 * left[:, None])
    # the common level stays what was drawn
    factor *= np.where(some, common / np.maximum(share @ (returns * factor), 1e-300), 1.0)
    out, how_far = np.ones((channels, count)), np.zeros(channels)
    out[live], how_far[live] = factor, shrink
    return out, how_far
