"""What every estimator of this package says about its parameters: estimate, standard error, interval."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

_Z90 = 1.6448536269514722


class Parametric:
    """Mixin for estimators with positive parameters ``<name>_`` and ``covariance_`` of their logarithms.

    After a fit with covariates ``coef_`` (covariates x effects) holds their coefficients, and ``covariance_`` goes on
    with these, effect by effect.
    """

    _names: ClassVar[tuple[str, ...]]
    covariance_: np.ndarray
    log_likelihood_: float
    n_customers_: float

    def parameters(self) -> dict[str, float]:
        """Parameters by name (with covariates: of a customer whose covariates are all 0)."""
        check_is_fitted(self, f"{self._names[0]}_")
        return {name: float(getattr(self, f"{name}_")) for name in self._names}

    def _held(self) -> tuple[str, ...]:
        """Parameters held at a value, not estimated."""
        return ()

    def summary(self) -> pd.DataFrame:
        """Estimates with standard errors and 90% intervals.

        Standard errors of the parameters by the delta method from those of their logarithms, on whose scale the
        intervals are (so none holds 0); of coefficients as they are. A parameter that was held has error 0.

        Returns
        -------
        DataFrame
            Indexed by parameter; columns estimate, se, low, high. ``.attrs``: log_likelihood, customers, aic.
        """
        p = np.array(list(self.parameters().values()))
        sd = np.sqrt(np.maximum(np.diag(self.covariance_), 0.0))
        own, reach = sd[: len(p)], np.exp(np.minimum(_Z90 * sd[: len(p)], 700.0))
        rows = pd.DataFrame(
            {"estimate": p, "se": p * own, "low": p / reach, "high": p * reach},
            index=pd.Index(self._names, name="parameter"),
        )
        coefficients = getattr(self, "coef_", None)
        if coefficients is not None:
            value, spread = coefficients.to_numpy().T.ravel(), sd[len(p) :]
            names = [f"{effect}: {name}" for effect in coefficients.columns for name in coefficients.index]
            more = pd.DataFrame(
                {"estimate": value, "se": spread, "low": value - _Z90 * spread, "high": value + _Z90 * spread},
                index=pd.Index(names, name="parameter"),
            )
            rows = pd.concat([rows, more])
        free = len(rows) - len(self._held())
        rows.attrs = {
            "log_likelihood": self.log_likelihood_,
            "customers": self.n_customers_,
            "aic": 2 * free - 2 * self.log_likelihood_,
        }
        return rows
