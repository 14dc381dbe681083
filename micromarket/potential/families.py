"""Counts of customers: binomial among a known number of buyers, or Poisson where nobody knows that number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

FloatArray = np.ndarray


@dataclass(frozen=True)
class Family:
    """Customers ``n`` given size ``size`` and linear predictor ``eta``: mean ``size * rate(eta)``.

    ``bounded``: binomial with logit link, so a market never holds more customers than buyers; else Poisson with log
    link and size 1.
    """

    bounded: bool

    def rate(self, eta: FloatArray) -> FloatArray:
        return expit(eta) if self.bounded else np.exp(np.clip(eta, -30, 30))

    def slope(self, rate: FloatArray) -> FloatArray:
        """Derivative of the rate by ``eta`` (also the variance of a count per unit of size)."""
        return rate * (1 - rate) if self.bounded else rate

    def link(self, rate: FloatArray) -> FloatArray:
        rate = np.clip(rate, 1e-9, 1 - 1e-9) if self.bounded else np.clip(rate, 1e-9, None)
        return logit(rate) if self.bounded else np.log(rate)

    def log_likelihood(self, n: FloatArray, size: FloatArray, eta: FloatArray) -> FloatArray:
        """Up to a term that does not depend on ``eta``."""
        if self.bounded:
            return n * eta - size * np.logaddexp(0, eta)
        return n * eta - size * np.exp(np.clip(eta, -30, 30))

    def deviance(self, n: FloatArray, size: FloatArray, eta: FloatArray) -> FloatArray:
        """Twice the log-likelihood lost against a perfect fit, by market."""
        rest = size - n if self.bounded else None
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.where(n > 0, n * np.log(n / size), 0.0)
            if rest is not None:
                best += np.where(rest > 0, rest * np.log(rest / size), 0.0)
            else:
                best -= n
        return 2 * (best - self.log_likelihood(n, size, eta))


BINOMIAL, POISSON = Family(bounded=True), Family(bounded=False)

__all__ = ["BINOMIAL", "POISSON", "Family", "FloatArray"]
