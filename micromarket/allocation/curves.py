"""Families of response curves over money, as the solver needs them: value, marginal value and its inverse.

Every family holds one curve a cell, all monotone and 0 at no money. Where a curve is concave ``inflection`` is 0; an
S-shaped one (Hill with slope above 1) has a rising marginal value up to ``inflection`` and a falling one after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
TINY = 1e-300


class Curves(Protocol):
    """What the solver asks of curves. All arrays have one entry a cell."""

    def __len__(self) -> int: ...

    def value(self, x: Array) -> Array:
        """What ``x`` money brings."""

    def marginal(self, x: Array) -> Array:
        """What the next unit of money brings at ``x``."""

    def bend(self, x: Array) -> Array:
        """Fall of the marginal value per unit of money: minus the second derivative."""

    def demand(self, price: Array) -> Array:
        """Largest money at which the marginal value is at least ``price``.

        0 or negative where even the first unit brings less; infinite where ``price`` is 0 or negative.
        """

    def take(self, index: Index) -> Curves:
        """The cells at ``index``."""

    def scaled(self, unit: float, worth: float) -> Curves:
        """The same curves with money counted in ``unit`` and value in ``worth``."""

    @property
    def inflection(self) -> Array:
        """Money up to which the marginal value rises: 0 where the curve is concave."""

    @property
    def reach(self) -> Array:
        """Money up to which the curve is known."""


@dataclass(frozen=True)
class Family:
    """``amplitude``: most that money can bring (value; for growth without limit its factor), at least 0."""

    amplitude: Array

    def __len__(self) -> int:
        return len(self.amplitude)

    @property
    def inflection(self) -> Array:
        return np.zeros(len(self))

    @property
    def reach(self) -> Array:
        return np.full(len(self), np.inf)


@dataclass(frozen=True)
class Hyperbolic(Family):
    """``amplitude x / (x + half)``: Michaelis-Menten; ``half``: money with half of the amplitude."""

    half: Array

    @cached_property
    def _root(self) -> Array:
        return np.sqrt(self.amplitude * self.half)

    def value(self, x: Array) -> Array:
        return self.amplitude * x / (x + self.half)

    def marginal(self, x: Array) -> Array:
        ratio = self._root / (x + self.half)
        return ratio * ratio

    def bend(self, x: Array) -> Array:
        reached = x + self.half
        ratio = self._root / reached
        return 2 * ratio * ratio / reached

    def demand(self, price: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = self._root / np.sqrt(price) - self.half
        return np.where(price > 0, wanted, np.inf)

    def take(self, index: Index) -> Hyperbolic:
        return Hyperbolic(self.amplitude[index], self.half[index])

    def scaled(self, unit: float, worth: float) -> Hyperbolic:
        return Hyperbolic(self.amplitude / worth, self.half / unit)


@dataclass(frozen=True)
class Exponential(Family):
    """``amplitude (1 - exp(-x / scale))``; ``scale``: money with 63% of the amplitude."""

    scale: Array

    def value(self, x: Array) -> Array:
        return -self.amplitude * np.expm1(-x / self.scale)

    def marginal(self, x: Array) -> Array:
        return self.amplitude / self.scale * np.exp(-x / self.scale)

    def bend(self, x: Array) -> Array:
        return self.marginal(x) / self.scale

    def demand(self, price: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = self.scale * np.log(self.amplitude / self.scale / price)
        return np.where(price > 0, np.maximum(wanted, -1.0), np.inf)

    def take(self, index: Index) -> Exponential:
        return Exponential(self.amplitude[index], self.scale[index])

    def scaled(self, unit: float, worth: float) -> Exponential:
        return Exponential(self.amplitude / worth, self.scale / unit)


@dataclass(frozen=True)
class Logarithmic(Family):
    """``amplitude log(1 + x / scale)``: growth without limit."""

    scale: Array

    def value(self, x: Array) -> Array:
        return self.amplitude * np.log1p(x / self.scale)

    def marginal(self, x: Array) -> Array:
        return self.amplitude / (x + self.scale)

    def bend(self, x: Array) -> Array:
        return self.amplitude / (x + self.scale) ** 2

    def demand(self, price: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = self.amplitude / price - self.scale
        return np.where(price > 0, wanted, np.inf)

    def take(self, index: Index) -> Logarithmic:
        return Logarithmic(self.amplitude[index], self.scale[index])

    def scaled(self, unit: float, worth: float) -> Logarithmic:
        return Logarithmic(self.amplitude / worth, self.scale / unit)


@dataclass(frozen=True)
class Power(Family):
    """``amplitude (x / scale)^exponent``, exponent between 0 and 1: constant elasticity."""

    scale: Array
    exponent: Array

    def value(self, x: Array) -> Array:
        return self.amplitude * (x / self.scale) ** self.exponent

    def marginal(self, x: Array) -> Array:
        share = np.maximum(x / self.scale, 1e-100)
        return self.amplitude * self.exponent / self.scale * share ** (self.exponent - 1)

    def bend(self, x: Array) -> Array:
        return self.marginal(x) * (1 - self.exponent) / np.maximum(x, 1e-100 * self.scale)

    def demand(self, price: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            first = np.maximum(self.amplitude * self.exponent / self.scale, TINY)
            wanted = self.scale * (first / price) ** (1 / (1 - self.exponent))
        return np.where(price > 0, wanted, np.inf)

    def take(self, index: Index) -> Power:
        return Power(self.amplitude[index], self.scale[index], self.exponent[index])

    def scaled(self, unit: float, worth: float) -> Power:
        return Power(self.amplitude / worth, self.scale / unit, self.exponent)


@dataclass(frozen=True)
class Tanh(Family):
    """``amplitude tanh(x / scale)``; PyMC-Marketing's logistic saturation with rate lam is ``scale = 2 / lam``."""

    scale: Array

    def value(self, x: Array) -> Array:
        return self.amplitude * np.tanh(x / self.scale)

    def marginal(self, x: Array) -> Array:
        e = np.exp(-2 * x / self.scale)
        return self.amplitude / self.scale * 4 * e / (1 + e) ** 2

    def bend(self, x: Array) -> Array:
        return self.marginal(x) * 2 * np.tanh(x / self.scale) / self.scale

    def demand(self, price: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(self.amplitude / self.scale / price, 1.0)
            wanted = self.scale * np.arccosh(np.sqrt(ratio))
        return np.where(price > 0, wanted, np.inf)

    def take(self, index: Index) -> Tanh:
        return Tanh(self.amplitude[index], self.scale[index])

    def scaled(self, unit: float, worth: float) -> Tanh:
        return Tanh(self.amplitude / worth, self.scale / unit)


@dataclass(frozen=True)
class Hill(Family):
    """``amplitude x^slope / (x^slope + half^slope)``, as Meridian has it; S-shaped where ``slope`` is above 1."""

    half: Array
    slope: Array

    def _power(self, x: Array) -> tuple[Array, Array]:
        safe = np.maximum(x, 1e-12 * self.half)
        return safe, (safe / self.half) ** self.slope

    def value(self, x: Array) -> Array:
        power = (np.maximum(x, 0.0) / self.half) ** self.slope
        return self.amplitude * power / (1 + power)

    def marginal(self, x: Array) -> Array:
        safe, power = self._power(x)
        return self.amplitude * self.slope * power / (safe * (1 + power) ** 2)

    def bend(self, x: Array) -> Array:
        safe, power = self._power(x)
        return self.marginal(x) / safe * (1 - self.slope + 2 * self.slope * power / (1 + power))

    def demand(self, price: Array) -> Array:
        # log of the marginal value is concave in v = log(x / half) and falls beyond the inflection: Newton's method
        # from the right never crosses the root
        s = self.slope
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            height = np.log(np.maximum(self.amplitude * s / self.half, TINY)) - np.log(np.maximum(price, TINY))
            v = np.where(height > 0, height / (s + 1), np.where(s < 1, height / np.maximum(1 - s, 1e-12), 0.0))
            turn = np.where(s > 1, np.log(np.maximum((s - 1) / (s + 1), TINY)) / s, -700.0)
            v = np.maximum(v, np.maximum(turn, -700.0))
            for _ in range(40):
                above = np.logaddexp(0.0, s * v)
                level = height + (s - 1) * v - 2 * above
                fall = (s - 1) - 2 * s * np.exp(s * v - above)
                after = np.maximum(v + np.where(fall < 0, np.minimum(-level / fall, 0.0), 0.0), np.maximum(turn, -700))
                done = np.abs(after - v) <= 4e-15 * (1 + np.abs(v))
                v = after
                if done.all():
                    break
            level = height + (s - 1) * v - 2 * np.logaddexp(0.0, s * v)
            wanted = np.where(level < -1e-9, 0.0, self.half * np.exp(v))
        return np.where(price > 0, wanted, np.inf)

    @property
    def inflection(self) -> Array:
        s = np.maximum(self.slope, 1.0)
        return self.half * ((s - 1) / (s + 1)) ** (1 / s)

    def take(self, index: Index) -> Hill:
        return Hill(self.amplitude[index], self.half[index], self.slope[index])

    def scaled(self, unit: float, worth: float) -> Hill:
        return replace(self, amplitude=self.amplitude / worth, half=self.half / unit)
