"""Odds to buy: a logistic regression whose groups shrink to the company, calibrated on leads it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from micromarket.leads.regression import fit_grouped_logit

_FOLDS = 4
_ISOTONIC = 500  # wins from which on the calibration curve is free, not logistic
_GROUP_SD = {"channel": 0.7, "segment": 0.7, "channel x stage": 0.4, "wait": 0.7}  # prior SD of log-odds
_MARKET_SD = (0.0, 0.15, 0.4)  # the one that predicts left-out leads best is kept
_MOST_LEVELS = 30
_SHIFT_SD = 0.5  # of log-odds: how far the latest days may differ from all
_CUTS = np.linspace(0, 1, 11)[1:]  # of the time in a stage
_EPS = 1e-6


class LeadModel:
    """Probability that an open lead is won within the horizon.

    Log-odds: stage, a curve of the days in it, age; and effects of channel, segment, channel x stage and market, each
    with a normal prior around 0 (a ridge with its own strength a group: Gelman and Hill 2007, *Data Analysis Using
    Regression*, section 12), so that a group with few leads stays near the company. Calibrated on out-of-fold
    predictions: isotonic (Zadrozny and Elkan 2002) from 500 wins on, else logistic (Platt 1999).

    Parameters
    ----------
    seed : int
        For the folds.

    Attributes
    ----------
    market_sd_ : float
        Prior SD of the markets' log-odds; 0: markets don't differ.
    shift_ : float
        Log-odds of the latest days over those of all days, where ``rows`` are dated.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, rows: pd.DataFrame, won: np.ndarray) -> LeadModel:
        """``rows``: the columns of ``snapshots.FEATURES``, and ``lead``: rows of one lead share a fold."""
        won = np.asarray(won, dtype=int)
        self.base_ = float(np.clip(won.mean(), _EPS, 1 - _EPS))
        if won.min() == won.max() or len(rows) < 20:
            self.levels_: dict[str, list[Any]] | None = None
            return self
        self.levels_ = {
            "channel": _frequent(rows["channel"]),
            "segment": _frequent(rows["segment"]),
            "market_id": sorted(rows["market_id"].unique()),
            "stage": sorted(rows["stage"].unique()),
        }
        fold = _folds(rows["lead"].to_numpy(), self.seed)
        # the days in a stage are also cut at the quantiles of those who were won: offers lapse, quarters end
        wait, stage = rows["days_in_stage"].to_numpy(float), rows["stage"].to_numpy(int)
        self.edges_: dict[Any, Any] = {
            s: np.unique(np.quantile(of, _CUTS)) if len(of := wait[(stage == s) & (won == 1)]) > 5 * len(_CUTS) else []
            for s in self.levels_["stage"]
        }
        columns, prior, market = self._columns(rows)
        count = len(self.levels_["market_id"])
        best: tuple[float, float, np.ndarray] | None = None
        for sd in _MARKET_SD if len(self.levels_["market_id"]) > 1 else _MARKET_SD[:1]:
            out = np.full(len(won), self.base_)
            for k in range(_FOLDS):
                train = fold != k
                if 0 < won[train].sum() < train.sum() and (~train).any():
                    model = fit_grouped_logit(columns[train], market[train], count, sd, won[train], prior)
                    out[~train] = model.predict(columns[~train], market[~train])
            loss = log_loss(won, out)
            if best is None or loss < best[0] * (1 - 1e-4):
                best = (loss, sd, out)
        assert best is not None
        self.market_sd_ = best[1]
        self.model_ = fit_grouped_logit(columns, market, count, self.market_sd_, won, prior)
        self._calibrate(best[2], won)
        self.shift_ = self._latest(rows, best[2], won)
        return self

    def _latest(self, rows: pd.DataFrame, out: np.ndarray, won: np.ndarray) -> float:
        """Shift of the log-odds to the level of the latest quarter of the days, as far as its wins can tell it."""
        if "on" not in rows or rows["on"].nunique() < 4:
            return 0.0
        days = np.sort(rows["on"].unique())
        late = (rows["on"] >= days[-max(len(days) // 4, 1)]).to_numpy()
        odds, wins = logit(self._calibrated(out[late])), float(won[late].sum())
        shift = 0.0
        for _ in range(30):  # Newton for the intercept; the prior says: no shift, 0.5 either way
            p = expit(odds + shift)
            step = (wins - p.sum() - shift / _SHIFT_SD**2) / (float((p * (1 - p)).sum()) + 1 / _SHIFT_SD**2)
            shift += step
            if abs(step) < 1e-10:
                break
        return float(shift)

    def _calibrate(self, out: np.ndarray, won: np.ndarray) -> None:
        if won.sum() >= _ISOTONIC:
            self.curve_: Any = IsotonicRegression(y_min=_EPS, y_max=1 - _EPS, out_of_bounds="clip").fit(out, won)
        else:
            x = logit(np.clip(out, _EPS, 1 - _EPS))[:, None]
            self.curve_ = LogisticRegression(C=1e3).fit(x, won)

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Calibrated probabilities of shape (n,)."""
        if self.levels_ is None:
            return np.full(len(rows), self.base_)
        columns, _, market = self._columns(rows)
        raw = self.model_.predict(columns, market)
        return expit(logit(self._calibrated(raw)) + self.shift_)

    def _calibrated(self, raw: np.ndarray) -> np.ndarray:
        if isinstance(self.curve_, IsotonicRegression):
            # steps tie leads that the regression tells apart: keep a trace of its order
            return np.clip(0.98 * self.curve_.predict(raw) + 0.02 * raw, _EPS, 1 - _EPS)
        odds = self.curve_.predict_proba(logit(np.clip(raw, _EPS, 1 - _EPS))[:, None])[:, 1]
        return np.clip(odds, _EPS, 1 - _EPS)

    def _columns(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns, prior precision of their coefficients, and each row's market (-1: not learnt from)."""
        assert self.levels_ is not None
        stage = rows["stage"].to_numpy(int)
        wait, age = np.log1p(np.maximum(rows[["days_in_stage", "days"]].to_numpy(float), 0)).T
        parts, precision = [np.ones(len(rows))], [0.0]
        for s in self.levels_["stage"]:
            here = (stage == s).astype(float)
            parts += [here, here * wait, here * wait**2, here * age]
            precision += [1 / 9, 1.0, 16.0, 1.0]
            bins = np.searchsorted(self.edges_[s], rows["days_in_stage"].to_numpy(float), side="right")
            flags = [here * (bins == b) for b in range(len(self.edges_[s]) + 1)]
            parts += flags
            precision += [1 / _GROUP_SD["wait"] ** 2] * len(flags)
        channel, segment = ([rows[c].to_numpy(object) == v for v in self.levels_[c]] for c in ("channel", "segment"))
        for name, flags in (("channel", channel), ("segment", segment)):
            if len(flags) > 1:
                parts += [f.astype(float) for f in flags]
                precision += [1 / _GROUP_SD[name] ** 2] * len(flags)
        if len(channel) > 1 and len(self.levels_["stage"]) > 1:
            crossed = [f & (stage == s) for f in channel for s in self.levels_["stage"]]
            parts += [f.astype(float) for f in crossed]
            precision += [1 / _GROUP_SD["channel x stage"] ** 2] * len(crossed)
        known = pd.Index(self.levels_["market_id"], dtype=object)
        market = known.get_indexer(pd.Index(rows["market_id"], dtype=object))
        return np.column_stack(parts), np.array(precision), market


def _frequent(values: pd.Series) -> list[str]:
    """The most frequent levels; the others stay at the company's average."""
    counts = values.value_counts()
    return sorted(counts.sort_index().sort_values(ascending=False, kind="stable").index[:_MOST_LEVELS])


def _folds(lead: np.ndarray, seed: int) -> np.ndarray:
    """A fold by lead, the same in every run."""
    mixed = (lead.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(40)) % np.uint64(_FOLDS)).astype(int)


def log_loss(won: np.ndarray, odds: np.ndarray) -> float:
    """Mean negative log-likelihood."""
    p = np.clip(odds, _EPS, 1 - _EPS)
    return float(-np.mean(won * np.log(p) + (1 - won) * np.log(1 - p)))
