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

TABLES = ("response", "curves", "curve_draws", "half_draws")


@dataclass(frozen=True)
class ResponseResult:
    """Tables ``response``, ``curves`` and ``curve_draws`` (see :data:`micromarket.artefacts.ARTEFACTS`) and notes.

    All three are ``None`` where nothing can be said about response (``notes.numbers["source"] == "none"``).

    ``half_draws`` (channel, d000, d001, …): factor of every cell's ``half_spend`` in the same joint draws, for who
    wants to move saturation with the amplitude (see :func:`micromarket.response.curves.joint_amplitude`).
    """

    response: pd.DataFrame | None
    curves: pd.DataFrame | None
    curve_draws: pd.DataFrame | None
    notes: Notes
    half_draws: pd.DataFrame | None = None

    def write(self, workspace: Workspace) -> None:
        """Its tables and notes, into ``workspace``."""
        for name in TABLES:
            table = getattr(self, name)
            if table is not None:
                workspace.write(name, table)
        workspace.write_notes("response", self.notes)

    @classmethod
    def read(cls, workspace: Workspace) -> ResponseResult:
        """What :meth:`write` left; tables that aren't there are ``None``."""
        return cls(**{name: workspace.read_if_there(name) for name in TABLES}, notes=workspace.notes("response"))


@dataclass(frozen=True)
class Curves:
    """Curves of all cells, arrays (markets, channels), over the plan period.

    New customers from spend x: ``amplitude * x / (x + half_spend)``. ``amplitude_draws`` (draws, markets, channels);
    ``effect``, ``low``, ``high``: new customers at today's spend and their 90% range; ``current``: money; ``pull``:
    (draws, channels) elasticity of all new customers to the channel's money; ``half_factor`` (draws, channels).
    """

    half_spend: Array
    amplitude_draws: NDArray[Any]
    effect: Array
    low: Array
    high: Array
    current: Array
    pull: Array
    half_factor: Array

    @property
    def amplitude(self) -> Array:
        return self.amplitude_draws.mean(axis=0, dtype=float)


def to_result(
    markets: tuple[str, ...], channels: tuple[str, ...], curves: Curves, value: Array, source: list[str], notes: Notes
) -> ResponseResult:
    """Tables from arrays; ``value``: money per new customer by market; ``source`` by channel."""
    keys = pd.DataFrame({"market_id": np.repeat(markets, len(channels)), "channel": np.tile(channels, len(markets))})
    flat = {"amplitude": curves.amplitude.ravel(), "half_spend": curves.half_spend.ravel()}
    x, h = curves.current, curves.half_spend
    response = keys.assign(
        current_spend=x.ravel(),
        effect=curves.effect.ravel(),
        effect_low=curves.low.ravel(),
        effect_high=curves.high.ravel(),
        marginal_return=(value[:, None] * curves.amplitude * h / (x + h) ** 2).ravel(),
        source=np.tile(source, len(markets)),
    )
    count = len(curves.amplitude_draws)
    names = [f"d{i:03d}" for i in range(count)]
    draws = pd.DataFrame(curves.amplitude_draws.reshape(count, -1).T, columns=names)
    draws.insert(0, "channel", keys["channel"])
    draws.insert(0, "market_id", keys["market_id"])
    half = pd.DataFrame(curves.half_factor.T, columns=names)
    half.insert(0, "channel", list(channels))
    return ResponseResult(response, keys.assign(**flat), draws, notes, half)
