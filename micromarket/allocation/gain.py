"""What a budget brings, with its uncertainty: joint draws of response and of the value of a new customer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.response.curves import by_market, joint_amplitude

Array = NDArray[np.float64]
# The value of a new customer is off in all markets alike by about this much (relative), beside each market's own error.
VALUE_COMMON = 0.05
CHUNK = 20_000


@dataclass(frozen=True)
class Draws:
    """Joint draws.

    The amplitudes come from a posterior that is already shrunk (cells to their channel, channels to one another and,
    where response is in doubt, to 0): what a plan that was optimised on its mean brings on average over its draws is
    then free of the optimiser's curse, as far as the posterior is right (Smith & Winkler 2006, Management Science 52).

    Attributes
    ----------
    amplitude : array (cells, draws)
        Customers at most.
    half_spend : array (cells, draws) or (cells, 1)
        Money with half of them.
    value : array (markets, draws)
        Money per new customer.
    market : array (cells,)
        Code of the market.
    current : array (cells,)
        Money now.
    width : float
        Part of a gain's spread that is believed (see :func:`.promise.interval`).
    relative : array (cells,) or float
        Value of a cell's new customer over that of its market's usual one.
    """

    amplitude: Array
    half_spend: Array
    value: Array
    market: NDArray[np.int64]
    current: Array
    width: float = 1.0
    relative: Array | float = 1.0

    def __len__(self) -> int:
        return self.amplitude.shape[1]

    def worth(self, part: NDArray[np.int64]) -> Array:
        """Money per new customer of some cells, (cells, draws)."""
        relative = np.broadcast_to(np.asarray(self.relative, dtype=float), self.current.shape)[part]
        return self.value[self.market[part]] * relative[:, None]

    def _moved(self, spend: Array, against: Array) -> Iterator[tuple[NDArray[np.int64], Array]]:
        """Cells whose money differs, and customers that the difference brings there, (cells, draws), part by part."""
        where = np.flatnonzero(spend != against)
        for part in np.array_split(where, max(-(-len(where) // CHUNK), 1)):
            half = self.half_spend[part]
            x, y = spend[part, None], against[part, None]
            yield part, self.amplitude[part] * (x / (x + half) - y / (y + half))

    def gains(self, spend: Array, against: Array | None = None) -> Array:
        """Money by draw that ``spend`` brings more than ``against`` (default: today's money), arrays (cells,)."""
        out = np.zeros(len(self))
        for part, customers in self._moved(spend, self.current if against is None else against):
            out += (customers * self.worth(part)).sum(axis=0)
        return out

    def customers(self, spend: Array) -> Array:
        """New customers by draw that ``spend`` brings more than today's money."""
        out = np.zeros(len(self))
        for _, customers in self._moved(spend, self.current):
            out += customers.sum(axis=0)
        return out

    def cells(self, spend: Array) -> dict[str, Array]:
        """What ``spend`` brings more than today's money, by cell (arrays (cells,)).

        ``customers``, ``value``: means; ``low``, ``high``: 5% and 95% quantile of the value; ``sure``: probability that
        the money brings more here than spread over all cells as today's money is (where money is taken away: less).
        """
        out = {name: np.zeros(len(spend)) for name in ("customers", "value", "low", "high")}
        out["sure"] = np.full(len(spend), 0.5)
        usual = self._usual_return()
        for part, customers in self._moved(spend, self.current):
            money = customers * self.worth(part)
            out["customers"][part], out["value"][part] = customers.mean(axis=1), money.mean(axis=1)
            out["low"][part], out["high"][part] = np.quantile(money, [0.05, 0.95], axis=1)
            out["sure"][part] = (money > (spend - self.current)[part, None] * usual).mean(axis=1)
        return out

    def amplitude_at(self, half_spend: Array) -> Array:
        """Mean amplitude of curves with ``half_spend`` (cells,) that gain as much from half to twice today's money."""
        if self.half_spend.shape[1] == 1:
            return self.amplitude.mean(axis=1)
        out = np.empty(len(self.current))
        for part in np.array_split(np.arange(len(out)), max(-(-len(out) // CHUNK), 1)):
            x = np.where(self.current[part] > 0, self.current[part], half_spend[part])[:, None]
            own = chord(x, self.half_spend[part]) / chord(x, half_spend[part, None])
            out[part] = (self.amplitude[part] * own).mean(axis=1)
        return out

    def _usual_return(self) -> Array:
        """Value of one more unit of money by draw, spread over all cells as today's money is."""
        total = np.zeros(len(self))
        for part in np.array_split(np.arange(len(self.current)), max(-(-len(self.current) // CHUNK), 1)):
            x, half = self.current[part, None], self.half_spend[part]
            total += (self.amplitude[part] * self.worth(part) * x * half / (x + half) ** 2).sum(axis=0)
        return total / max(float(self.current.sum()), 1e-300)


def chord(x: Array, half: Array) -> Array:
    """What saturation gains from half to twice ``x``."""
    return 2 * x / (2 * x + half) - 0.5 * x / (0.5 * x + half)


def joint_draws(
    cells: Cells,
    curve_draws: pd.DataFrame,
    value_markets: pd.DataFrame,
    seed: int,
    half_draws: pd.DataFrame | None = None,
) -> Draws:
    """Amplitudes (and saturation, where given by channel in ``half_draws``) as drawn by the response stage.

    Values are drawn beside them: normal around their mean, independent by market but for a common error, at least 0.
    """
    ordered = curve_draws.sort_values(["market_id", "channel"], kind="stable")
    amplitude = ordered.drop(columns=["market_id", "channel"]).to_numpy(float)
    half = cells.half_spend[:, None]
    if half_draws is not None and not half_draws.empty:
        factor = half_draws.set_index("channel").reindex(list(cells.channels)).fillna(1.0).to_numpy(float)
        if factor.shape[1] == amplitude.shape[1]:
            amplitude, half = joint_amplitude(amplitude, cells.half_spend, factor[cells.channel], cells.current)
    count = amplitude.shape[1]
    mean, spread = new_customer_value(value_markets, cells.markets)
    rng = np.random.default_rng([seed, 71])
    noise = rng.standard_normal((len(mean), count))
    noise -= noise.mean(axis=1, keepdims=True)  # the mean over draws is the stated value
    common = rng.standard_normal(count)
    value = np.maximum(mean[:, None] + spread[:, None] * noise, 0.0)
    if (spread > 0).any():
        value = value * np.maximum(1 + VALUE_COMMON * (common - common.mean()), 0.0)
    return Draws(amplitude, half, value, cells.market, cells.current)


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


def risk_adjusted(cells: Cells, draws: Draws, aversion: float, spend: Array, gains: Array | None = None) -> Array:
    """Value of each cell's amplitude for who takes ``mean - aversion x sd`` of the gain, linearised at ``spend``.

    The gradient of the standard deviation is the covariance of a cell's value with the gain, over the gain's deviation.
    ``gains``: of ``spend``, (draws,), where they are known already.
    """
    gains = draws.gains(spend) if gains is None else gains
    sd = float(gains.std())
    if sd <= 0 or aversion <= 0:
        return cells.value * cells.amplitude
    centred = (gains - gains.mean()) / sd / len(gains)
    covariance = np.empty(len(cells.current))
    for part in np.array_split(np.arange(len(covariance)), max(len(covariance) // CHUNK, 1)):
        covariance[part] = (draws.amplitude[part] * draws.worth(part)) @ centred
    return np.maximum(cells.value * cells.amplitude - aversion * covariance, 0.0)
