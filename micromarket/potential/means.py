"""Average level of customers given features and levers: penalised splines and monotone boosting."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import SplineTransformer

from micromarket.potential.families import Family, FloatArray

_PENALTIES = (1.0, 10.0, 100.0, 1000.0)
_FEW = 60
_BINS = 64


class MeanModel(Protocol):
    """Predicts the linear predictor from features (standardised) and levers (per buyer), more of which never hurts."""

    def fit(self, x: FloatArray, levers: FloatArray, n: FloatArray, size: FloatArray) -> MeanModel: ...
    def predict(self, x: FloatArray, levers: FloatArray) -> FloatArray: ...


def weights(family: Family, n: FloatArray, size: FloatArray, spread: float = 0.5) -> FloatArray:
    """What a unit of a market's information is worth when markets also differ by ``spread`` beyond count noise.

    A market's count informs on its own level with variance 1 / information, but on the *average* level only with
    ``spread**2 + 1 / information``: without this the largest few markets would be the whole fit.
    """
    information = size * family.slope(n.sum() / size.sum())
    return 1 / (1 + information * spread**2)


class ConstantMean:
    """The same level everywhere: where no feature is usable, or there are too few markets to learn from."""

    def __init__(self, family: Family):
        self.family = family

    def fit(self, x: FloatArray, levers: FloatArray, n: FloatArray, size: FloatArray) -> ConstantMean:
        w = weights(self.family, n, size)
        self.level_ = float(self.family.link(((w * n).sum() + 0.5) / ((w * size).sum() + 1.0)))
        return self

    def predict(self, x: FloatArray, levers: FloatArray) -> FloatArray:
        return np.full(len(x), self.level_)


class SplineMean:
    """Generalised additive model: cubic P-splines of features, saturating levers with effects of at least 0.

    Penalised iteratively reweighted least squares (Wood 2017, section 6.1); every feature has a lightly penalised
    straight line and penalised deviations from it; levers enter as ``l / (l + h)`` and linearly, and one with a
    negative coefficient is taken out (active set).

    Parameters
    ----------
    penalty : float or None
        Ridge on the deviations; ``None``: the one with the least generalised cross-validation score.
    """

    def __init__(self, family: Family, penalty: float | None = None):
        self.family = family
        self.penalty = penalty

    def fit(self, x: FloatArray, levers: FloatArray, n: FloatArray, size: FloatArray) -> SplineMean:
        self._prepare(x, levers)
        basis = self._basis(x, levers)
        w = weights(self.family, n, size)
        if self.penalty is None:
            tried = [(self._solve(basis, n, size, w, p), p) for p in _PENALTIES]
            (self.coef_, _), self.penalty_ = min(tried, key=lambda t: t[0][1])
        else:
            self.penalty_ = self.penalty
            self.coef_, _ = self._solve(basis, n, size, w, self.penalty)
        return self

    def predict(self, x: FloatArray, levers: FloatArray) -> FloatArray:
        return self._basis(x, levers) @ self.coef_

    def _prepare(self, x: FloatArray, levers: FloatArray) -> None:
        self._splines: list[tuple[SplineTransformer, FloatArray] | None] = []
        for column in x.T:
            knots = np.unique(np.quantile(column, np.linspace(0, 1, 6)))
            if len(x) < _FEW or len(knots) < 4:
                self._splines.append(None)
                continue
            spline = SplineTransformer(degree=3, knots=knots[:, None], extrapolation="linear", include_bias=False)
            raw = spline.fit_transform(column[:, None])
            line = np.column_stack([np.ones(len(x)), column])
            self._splines.append((spline, np.linalg.lstsq(line, raw, rcond=None)[0]))
        positive = [column[column > 0] for column in levers.T]
        self._half = np.array([np.median(p) if len(p) else 1.0 for p in positive])
        self._top = np.array([max(np.quantile(c, 0.95), 1e-12) for c in levers.T])

    def _basis(self, x: FloatArray, levers: FloatArray) -> FloatArray:
        lines, bends = [np.ones((len(x), 1)), x], []
        for column, spline in zip(x.T, self._splines, strict=True):
            if spline is not None:
                line = np.column_stack([np.ones(len(x)), column])
                bends.append(spline[0].transform(column[:, None]) - line @ spline[1])
        pull = [levers / (levers + self._half), np.minimum(levers / self._top, 1.0)] if levers.shape[1] else []
        self._lines, self._bends = 1 + x.shape[1], sum(b.shape[1] for b in bends)
        return np.column_stack([*lines, *bends, *pull])

    def _solve(
        self, basis: FloatArray, n: FloatArray, size: FloatArray, w: FloatArray, penalty: float
    ) -> tuple[FloatArray, float]:
        """Coefficients and generalised cross-validation score at ``penalty``."""
        lever_columns = np.arange(self._lines + self._bends, basis.shape[1])
        ridge = np.full(basis.shape[1], 0.1)
        ridge[0] = 1e-8
        ridge[1 : self._lines] = 0.3
        # deviations are small numbers (B-splines are at most 1): their penalty is per unit of the curve
        ridge[self._lines : self._lines + self._bends] = 0.1 * penalty
        active = np.ones(basis.shape[1], dtype=bool)
        start = float(self.family.link((n.sum() + 0.5) / (size.sum() + 1.0)))
        coef = np.zeros(basis.shape[1])
        coef[0] = start
        score = np.inf
        for _ in range(4):
            coef, score = self._iterate(basis, n, size, w, ridge, active, coef)
            negative = lever_columns[(coef[lever_columns] < 0) & active[lever_columns]]
            if not len(negative):
                break
            active[negative[np.argmin(coef[negative])]] = False
            coef[~active] = 0.0
        coef[lever_columns] = np.maximum(coef[lever_columns], 0.0)
        return coef, score

    def _iterate(
        self, basis: FloatArray, n: FloatArray, size: FloatArray, w: FloatArray, ridge: FloatArray,
        active: FloatArray, coef: FloatArray,
    ) -> tuple[FloatArray, float]:  # fmt: skip
        b, pen, out = basis[:, active], np.diag(ridge[active]), coef.copy()
        eta = np.clip(basis @ coef, *self._range(n, size))
        score = np.inf
        for _ in range(12):
            rate = self.family.rate(eta)
            slope = np.maximum(self.family.slope(rate), 1e-9)
            work = w * size * slope
            target = eta + np.clip((n / size - rate) / slope, -4, 4)
            gram = (b * work[:, None]).T @ b
            solved = np.linalg.solve(gram + pen, (b * work[:, None]).T @ target)
            new = np.clip(b @ solved, *self._range(n, size))
            moved = np.abs(new - eta).max()
            out[active], eta = solved, new
            if moved < 1e-3:
                break
        freedom = float(np.trace(np.linalg.solve(gram + pen, gram)))
        left = max(len(n) - 1.4 * freedom, 1.0)  # 1.4: Kim & Gu's guard against undersmoothing
        score = len(n) * float((w * self.family.deviance(n, size, eta)).sum()) / left**2
        return out, score

    def _range(self, n: FloatArray, size: FloatArray) -> tuple[float, float]:
        middle = float(self.family.link((n.sum() + 0.5) / (size.sum() + 1.0)))
        return middle - 8.0, middle + 8.0


class BoostedMean:
    """Gradient-boosted trees (scikit-learn), never decreasing in a lever: interactions that splines miss."""

    def __init__(self, family: Family, seed: int = 1, trees: int = 120):
        self.family = family
        self.seed = seed
        self.trees = trees

    def fit(self, x: FloatArray, levers: FloatArray, n: FloatArray, size: FloatArray) -> BoostedMean:
        raw = np.column_stack([x, levers])
        # coded here: scikit-learn's own binning of weighted data took four fifths of the whole stage's time
        self.edges_ = [np.unique(np.quantile(c, np.linspace(0, 1, _BINS + 1)[1:-1])) for c in raw.T]
        z = self._coded(raw)
        w = weights(self.family, n, size)
        # the trees' shrinkage and stopping rules count in units of curvature: one unit a market
        w = w / (w * size * self.family.slope(n.sum() / size.sum())).mean()
        leaf = int(np.clip(len(n) // 50, 4, 20))
        if self.family.bounded:
            leaf *= 2  # every market is there twice: its customers and the others
        options: dict[str, Any] = {
            "max_iter": self.trees, "learning_rate": 0.06, "max_leaf_nodes": 12, "l2_regularization": 1.0,
            "min_samples_leaf": leaf, "early_stopping": False,
            "monotonic_cst": [0] * x.shape[1] + [1] * levers.shape[1], "random_state": self.seed,
        }  # fmt: skip
        if self.family.bounded:
            classifier = HistGradientBoostingClassifier(**options)
            label = np.repeat([1, 0], len(n))
            weight = np.concatenate([w * n, w * (size - n)])
            self.model_ = classifier.fit(np.vstack([z, z]), label, sample_weight=weight + 1e-12)
        else:
            regressor = HistGradientBoostingRegressor(loss="poisson", **options)
            self.model_ = regressor.fit(z, n / size, sample_weight=w * size)
        return self

    def predict(self, x: FloatArray, levers: FloatArray) -> FloatArray:
        z = self._coded(np.column_stack([x, levers]))
        if self.family.bounded:
            return np.asarray(self.model_.decision_function(z), float)
        return np.log(np.maximum(self.model_.predict(z), 1e-9))

    def _coded(self, raw: FloatArray) -> FloatArray:
        return np.column_stack([np.searchsorted(e, c, side="right") for e, c in zip(self.edges_, raw.T, strict=True)])
