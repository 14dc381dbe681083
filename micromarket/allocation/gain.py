"""What a budget brings, with its uncertainty: joint draws of response and of the value of a new customer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.response.curves import by_market

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Joint draws. ``amplitude``: (cells, draws) customers; ``value``: (markets, draws) money per new customer.

    The amplitudes come from a posterior that is already shrunk (cells to their channel, channels to one another and,
    where response is in doubt, to 0): what a plan that was optimised on its mean brings on average over its draws is
    then free of the optimiser's curse, as far as the posterior is right (Smith & Winkler 2006, Management Science 52).
    """

    amplitude: Array
    value: Array
    market: NDArray[np.int64]

    def gains(self, reached: Array) -> Array:
        """Money by draw of reaching ``reached`` more of each cell's amplitude."""
        weighted = self.amplitude * reached[:, None]
        by = np.zeros_like(self.value)
        np.add.at(by, self.market, weighted)
        return (by * self.value).sum(axis=0)

    def customers(self, reached: Array) -> Array:
        return reached @ self.amplitude

    def interval(self, reached: Array) -> tuple[Array, Array]:
        """5% and 95% quantile by cell of the money that ``reached`` brings."""
        low, high = np.zeros(len(reached)), np.zeros(len(reached))
        for part in np.array_split(np.arange(len(reached)), max(len(reached) // 20_000, 1)):
            money = self.amplitude[part] * self.value[self.market[part]] * reached[part, None]
            low[part], high[part] = np.quantile(money, [0.05, 0.95], axis=1)
        return low, high


def joint_draws(cells: Cells, curve_draws: pd.DataFrame, value_markets: pd.DataFrame, seed: int) -> Draws:
    """Amplitudes as drawn by the response stage; values independently, normal around their mean, at least 0."""
    ordered = curve_draws.sort_values(["market_id", "channel"], kind="stable")
    amplitude = ordered.drop(columns=["market_id", "channel"]).to_numpy(float)
    count = amplitude.shape[1]
    mean, spread = new_customer_value(value_markets, cells.markets)
    rng = np.random.default_rng([seed, 71])
    noise = rng.standard_normal((len(mean), count))
    noise -= noise.mean(axis=1, keepdims=True)  # the mean over draws is the stated value
    return Draws(amplitude, np.maximum(mean[:, None] + spread[:, None] * noise, 0.0), cells.market)


def new_customer_value(value_markets: pd.DataFrame, markets: tuple[str, ...]) -> tuple[Array, Array]:
    """Money per new customer by market, at least 0, and its standard deviation from its 90% interval.

    Falls back to the value of a current customer, then to 1 (the plan then counts customers).
    """
    name = next((c for c in ("new_customer_clv", "clv") if c in value_markets and value_markets[c].notna().any()), None)
    if name is None:
        return np.ones(len(markets)), np.zeros(len(markets))
    mean = by_market(value_markets, name, markets)
    if {f"{name}_low", f"{name}_high"} <= set(value_markets.columns):
        width = pd.to_numeric(value_markets[f"{name}_high"]) - pd.to_numeric(value_markets[f"{name}_low"])
        spread = width.clip(lower=0.0) / (2 * 1.6449)
        frame = pd.DataFrame({"market_id": value_markets["market_id"], "sd": spread.fillna(0.0)})
        return np.maximum(mean, 0.0), by_market(frame, "sd", markets)
    return np.maximum(mean, 0.0), np.zeros(len(mean))


def risk_adjusted(cells: Cells, draws: Draws, aversion: float, reached: Array) -> Array:
    """Value of each cell's amplitude for who takes ``mean - aversion x sd`` of the gain, linearised at ``reached``.

    The gradient of the standard deviation is the covariance of a cell's value with the gain, over the gain's deviation.
    """
    gains = draws.gains(reached)
    sd = float(gains.std())
    if sd <= 0 or aversion <= 0:
        return cells.value * cells.amplitude
    centred = (gains - gains.mean()) / sd / len(gains)
    covariance = np.empty(len(cells.current))
    for part in np.array_split(np.arange(len(covariance)), max(len(covariance) // 20_000, 1)):
        covariance[part] = (draws.amplitude[part] * draws.value[cells.market[part]]) @ centred
    return np.maximum(cells.value * cells.amplitude - aversion * covariance, 0.0)
