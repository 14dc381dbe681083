"""What the response stage hands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.notes import Notes
from micromarket.response.transform import Array
from micromarket.workspace import Workspace


@dataclass(frozen=True)
class ResponseResult:
    """Tables ``response``, ``curves`` and ``curve_draws`` (see :data:`micromarket.artefacts.ARTEFACTS`) and notes.

    All three are ``None`` where nothing can be said about response (``notes.numbers["source"] == "none"``).
    """

    response: pd.DataFrame | None
    curves: pd.DataFrame | None
    curve_draws: pd.DataFrame | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        for name in ("response", "curves", "curve_draws"):
            table = getattr(self, name)
            if table is not None:
                workspace.write(name, table)
        workspace.write_notes("response", self.notes)


@dataclass(frozen=True)
class Curves:
    """Curves of all cells, arrays (markets, channels), over the plan period.

    New customers from spend x: ``amplitude * x / (x + half_spend)``. ``amplitude_draws``, ``effect_draws``: (draws,
    markets, channels), the second being new customers at today's spend; ``current``: money; ``pull``: (draws, channels)
    elasticity of all new customers to the channel's money.
    """

    half_spend: Array
    amplitude_draws: NDArray[Any]
    effect_draws: NDArray[Any]
    current: Array
    pull: Array

    @property
    def amplitude(self) -> Array:
        return self.amplitude_draws.mean(axis=0, dtype=float)


def to_result(
    markets: tuple[str, ...], channels: tuple[str, ...], curves: Curves, value: Array, source: list[str], notes: Notes
) -> ResponseResult:
    """Tables from arrays; ``value``: money per new customer by market; ``source`` by channel."""
    keys = pd.DataFrame({"market_id": np.repeat(markets, len(channels)), "channel": np.tile(channels, len(markets))})
    flat = {"amplitude": curves.amplitude.ravel(), "half_spend": curves.half_spend.ravel()}
    low, high = np.quantile(curves.effect_draws, [0.05, 0.95], axis=0)
    x, h = curves.current, curves.half_spend
    response = keys.assign(
        current_spend=x.ravel(),
        effect=curves.effect_draws.mean(axis=0, dtype=float).ravel(),
        effect_low=low.ravel().astype(float),
        effect_high=high.ravel().astype(float),
        marginal_return=(value[:, None] * curves.amplitude * h / (x + h) ** 2).ravel(),
        source=np.tile(source, len(markets)),
    )
    draws = curves.amplitude_draws.reshape(len(curves.amplitude_draws), -1).T
    names = [f"d{i:03d}" for i in range(draws.shape[1])]
    return ResponseResult(
        response, keys.assign(**flat), pd.concat([keys, pd.DataFrame(draws, columns=names)], axis=1), notes
    )
