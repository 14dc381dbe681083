"""Would the scores have worked? Learnt from days whose outcome was known by then, held against the days after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from micromarket.leads.model import LeadModel, log_loss
from micromarket.leads.snapshots import Snapshots

FEWEST_WINS = 10
ENOUGH = 0.8  # of the value that open leads bring
_EPS = 1e-6


@dataclass(frozen=True)
class LeadTest:
    """How the scores did on later days. Probabilities and shares from 0 to 1.

    Attributes
    ----------
    since, until : Timestamp
        First and last day whose open leads were scored; the model knew nothing after ``since``.
    leads, wins : int
        Scored (a lead counts on every day it was open), and won within the horizon.
    auc : float
        Probability that a lead that is won stands above one that isn't.
    auc_stage, auc_channel : float
        The same where leads are ranked by their stage, or by their channel, alone.
    skill : float
        1 less the mean log-loss over that of one rate for all; 0: no better than that, below: worse.
    expected : float
        Wins expected over wins that came: 1 is right.
    slope : float
        Of the outcome's log-odds on the predicted ones: 1 is right, below it the odds are too extreme.
    deciles : DataFrame
        leads, predicted, won: mean odds and share won by tenth of the scores, lowest first.
    lift : float
        Share won in the best fifth over the share won in all.
    enough_share : float
        Share of the leads, best first by odds x value, that held 80% of the value won.
    top_half_value : float
        Share of the value won that the better half held.
    """

    since: pd.Timestamp
    until: pd.Timestamp
    leads: int
    wins: int
    auc: float
    auc_stage: float
    auc_channel: float
    skill: float
    expected: float
    slope: float
    deciles: pd.DataFrame
    lift: float
    enough_share: float
    top_half_value: float


def look_back(snapshots: Snapshots, value: np.ndarray | None = None, seed: int = 0) -> LeadTest | None:
    """Splits by time: the latest days are scored by a model of the days whose horizon was over by then.

    Parameters
    ----------
    snapshots : Snapshots
    value : array of shape (rows,), optional
        Value of each lead (money); default: all alike.
    seed : int

    Returns
    -------
    LeadTest or None
        ``None`` where no split leaves 10 wins on both sides.
    """
    rows, days = snapshots.rows, snapshots.days
    worth = np.ones(len(rows)) if value is None else np.asarray(value, float)
    on = rows["on"].to_numpy()
    won = rows["won"].to_numpy(int)
    for part in (0.25, 0.4, 0.5, 0.2, 0.1):
        first = days[min(int(np.ceil(len(days) * (1 - part))), len(days) - 1)]
        later = on >= np.datetime64(first)
        known = on <= np.datetime64(first - pd.Timedelta(days=snapshots.horizon))
        if min(won[later].sum(), won[known].sum()) >= FEWEST_WINS and won[later].min() == 0 and won[known].min() == 0:
            break
    else:
        return None
    model = LeadModel(seed).fit(rows[known].reset_index(drop=True), won[known])
    test, y = rows[later].reset_index(drop=True), won[later]
    odds = model.predict(test)
    rates = {c: _rates(rows.loc[known, c], won[known]) for c in ("stage", "channel")}
    by = {c: test[c].map(rates[c]).fillna(won[known].mean()).to_numpy(float) for c in rates}
    slope = LogisticRegression(C=1e6).fit(logit(np.clip(odds, _EPS, 1 - _EPS))[:, None], y).coef_[0, 0]
    base = np.full(len(y), won[known].mean())
    order = np.argsort(-odds, kind="stable")
    fifth = max(len(y) // 5, 1)
    lift = y[order[:fifth]].mean() / y.mean()
    brought = y * worth[later]
    ranked = np.cumsum(brought[np.argsort(-odds * worth[later], kind="stable")]) / max(brought.sum(), 1e-12)
    enough = (int(np.searchsorted(ranked, ENOUGH - 1e-12)) + 1) / len(y)
    return LeadTest(
        first, days[-1], len(y), int(y.sum()), float(roc_auc_score(y, odds)), float(roc_auc_score(y, by["stage"])),
        float(roc_auc_score(y, by["channel"])), 1 - log_loss(y, odds) / log_loss(y, base),
        float(odds.sum() / y.sum()), float(slope), _deciles(odds, y), float(lift), enough,
        float(ranked[max(len(y) // 2 - 1, 0)]),
    )  # fmt: skip


def _rates(level: pd.Series, won: np.ndarray) -> pd.Series:
    by = pd.Series(won, index=level.index).groupby(level)
    return (by.sum() + 10 * won.mean()) / (by.count() + 10)


def _deciles(odds: np.ndarray, won: np.ndarray) -> pd.DataFrame:
    order = np.argsort(odds, kind="stable")
    parts = [p for p in np.array_split(order, 10) if len(p)]
    return pd.DataFrame({"leads": [len(p) for p in parts], "predicted": [float(odds[p].mean()) for p in parts],
                         "won": [float(won[p].mean()) for p in parts]})  # fmt: skip
