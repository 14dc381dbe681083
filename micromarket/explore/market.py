"""Everything a run says about one market, beside the markets like it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Settings
from micromarket.errors import StageError
from micromarket.plan import suppress_small_cells
from micromarket.potential.plays import Play, play_library
from micromarket.workspace import Workspace

# column -> (words, how it is shown)
FIGURES: dict[str, tuple[str, str]] = {
    "customers": ("Customers", "count"),
    "penetration": ("Penetration", "percent"),
    "share": ("Our share of buyers", "percent"),
    "development_index": ("Development index (average: 100)", "count"),
    "clv": ("Value of a customer", "money"),
    "new_customer_clv": ("Value of a new customer", "money"),
    "acquisition_cost": ("Cost of winning one", "money"),
    "headroom": ("Customers to win", "count"),
    "opportunity": ("Opportunity", "money"),
    "current": ("Money now", "money"),
    "recommended": ("Money, plan", "money"),
    "gain": ("Margin it should add", "money"),
    "target_revenue": ("Revenue target", "money"),
    "target_customers": ("New customers, target", "count"),
    "p_attain": ("Odds of the target", "percent"),
}
PEERS = 8  # nearest markets that are named


@dataclass(frozen=True)
class Profile:
    """One market.

    Attributes
    ----------
    market_id, name : str
    place : mapping
        region, territory, peer group, quadrant, arm of the test: what is known of them, in words.
    figures : DataFrame
        figure, words, kind, value, peers (median of its peer group), low, high (range over its peers: 10% to 90%), rank
        (1: highest) among ``of`` markets.
    features : DataFrame
        feature, value, peers (median), percentile among all markets (0 to 1).
    peers : DataFrame
        market_id, name, distance, and the figures: the most similar markets of its group, nearest first.
    play, cause : str
        What to do here and why it lags; empty where the run doesn't say. ``about``: what the play means.
    moves : DataFrame
        channel, current, recommended, change, reason.
    periods : DataFrame
        period, new_customers, revenue, leads: targets and what marketing owes, as far as known.
    causes : DataFrame
        cause, kind, customers: why it stays behind its potential.
    notes : tuple of str
        What to bear in mind.
    """

    market_id: str
    name: str
    place: Mapping[str, str]
    figures: pd.DataFrame
    features: pd.DataFrame
    peers: pd.DataFrame
    play: str = ""
    about: Play | None = None
    cause: str = ""
    moves: pd.DataFrame = field(default_factory=pd.DataFrame)
    periods: pd.DataFrame = field(default_factory=pd.DataFrame)
    causes: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()


class Markets:
    """A run's tables by market, read once; :meth:`profile` then answers at once.

    Parameters
    ----------
    workspace : Workspace
        A run's working folder; the data and value stages are enough.
    """

    def __init__(self, workspace: Workspace, settings: Settings):
        self.settings = settings
        self.geometry = workspace.read("markets")
        self.markets = (
            pd.DataFrame(self.geometry.drop(columns="geometry", errors="ignore")).set_index("market_id").sort_index()
        )
        self.tables = {
            n: workspace.read(n)
            for n in ("scores", "budget", "targets", "funnel", "tests", "causes")
            if n in ARTEFACTS and workspace.has(n)
        }
        names = self.markets.get("name", pd.Series(None, index=self.markets.index, dtype=object))
        self.names = names.where(names.notna(), names.index.to_series()).astype(str)
        self.by = self._figures(workspace)
        self.signal = {s: _verdict(workspace, s) for s in ("value", "potential")}
        self._scaled = _scaled(self.markets, self._features(workspace))
        own = settings.path.with_name("plays.yml")
        self.library = play_library(own if own.is_file() else None)

    def _features(self, workspace: Workspace) -> list[str]:
        wanted = workspace.notes("data").numbers.get("features") or []
        return [f for f in wanted if f in self.markets and pd.api.types.is_numeric_dtype(self.markets[f])]

    def _figures(self, workspace: Workspace) -> pd.DataFrame:
        by = pd.DataFrame(index=self.markets.index)
        few = self.settings.report.min_cell
        values = workspace.read("value_markets")
        if "scores" in self.tables:
            scores, _ = suppress_small_cells(self.tables["scores"], few)
            by = by.join(scores.set_index("market_id"))
            extra = ["market_id", "acquisition_cost"]
        else:
            small = ~(values["customers"] >= few)
            values = values.assign(**{c: values[c].mask(small) for c in ("customers", "customer_equity")})
            extra = ["market_id", "customers", "clv", "new_customer_clv", "acquisition_cost"]
        by = by.join(values[[c for c in extra if c in values]].set_index("market_id"))
        if "budget" in self.tables:
            sums = self.tables["budget"].groupby("market_id")[["current", "recommended", "incremental_value"]].sum()
            by = by.join(sums.rename(columns={"incremental_value": "gain"}))
        if "targets" in self.tables:
            t = self.tables["targets"]
            sums = t.groupby("market_id")[["revenue", "new_customers"]].sum()
            by["target_revenue"], by["target_customers"] = sums["revenue"], sums["new_customers"]
            weight = t["revenue"].where(t["p_attain"].notna(), 0.0)
            odds = (t["p_attain"].fillna(0.0) * weight).groupby(t["market_id"]).sum()
            mass = weight.groupby(t["market_id"]).sum()
            by["p_attain"] = odds / mass.where(mass > 0)
        return by

    def choices(self) -> list[tuple[str, str]]:
        """(words, market_id) by name; an id is added where names repeat."""
        twice = self.names.duplicated(keep=False)
        words = self.names.where(~twice, self.names + " (" + self.names.index.astype(str) + ")")
        return sorted(((w, str(i)) for i, w in words.items()), key=lambda p: (p[0].casefold(), p[1]))

    def first(self) -> str:
        """A market worth looking at: the largest change of money, else most opportunity, else most customers."""
        for column in ("recommended", "opportunity", "customers"):
            if column in self.by and self.by[column].notna().any():
                values = (
                    (self.by["recommended"] - self.by["current"]).abs() if column == "recommended" else self.by[column]
                )
                if float(values.max()) > 0:
                    return str(values.idxmax())
        return str(self.markets.index[0])

    def profile(self, market_id: str) -> Profile:
        """Everything about a market.

        Raises
        ------
        StageError
            For an id that the run doesn't know, with the nearest one.
        """
        if market_id not in self.markets.index:
            near = difflib.get_close_matches(market_id, [str(i) for i in self.markets.index], n=1)
            raise StageError(f"no market {market_id!r} in this run" + (f" (did you mean {near[0]}?)" if near else ""))
        row = pd.Series(self.by.loc[market_id])
        group = row.get("peer_group")
        like = self.by.index[self.by["peer_group"] == group] if isinstance(group, str) else self.by.index
        like = like[like != market_id]
        place = {
            w: str(v)
            for w, v in (
                ("Region", self.markets.loc[market_id].get("region")),
                ("Territory", self.markets.loc[market_id].get("territory")),
                ("Peer group", group),
                ("Quadrant", row.get("quadrant") if self.signal["potential"] != "none" else None),
                ("In the test", self._arm(market_id)),
            )
            if isinstance(v, str) and v
        }
        play = row.get("play") if self.signal["potential"] != "none" else None
        return Profile(
            market_id, str(self.names[market_id]), place, self._against(market_id, like), self._traits(market_id, like),
            self._nearest(market_id, like), play if isinstance(play, str) else "", self.library.get(str(play)),
            str(row["cause"]) if isinstance(row.get("cause"), str) else "", self._rows("budget", market_id),
            self._periods(market_id), self._rows("causes", market_id), self._bear_in_mind(row, len(like)),
        )  # fmt: skip

    def _arm(self, market_id: str) -> str | None:
        if "tests" not in self.tables:
            return None
        arm = self._rows("tests", market_id)["arm"]
        return (
            {"treat": "gets the new money first", "control": "waits, for comparison"}.get(str(arm.iloc[0]))
            if len(arm)
            else None
        )

    def _rows(self, table: str, market_id: str) -> pd.DataFrame:
        if table not in self.tables:
            return pd.DataFrame()
        frame = self.tables[table]
        return pd.DataFrame(frame[frame["market_id"] == market_id]).reset_index(drop=True)

    def _against(self, market_id: str, like: pd.Index) -> pd.DataFrame:
        rows = []
        for column, (words, kind) in FIGURES.items():
            if column not in self.by or not self.by[column].notna().any():
                continue
            unranked = (column == "clv" and self.signal["value"] == "none") or (
                column in ("headroom", "opportunity") and self.signal["potential"] == "none"
            )
            if unranked:
                continue
            values = self.by[column].astype(float)
            peers = values.reindex(like).dropna()
            value = float(values[market_id])
            rows.append(
                {"figure": column, "words": words, "kind": kind, "value": value,
                 "peers": float(peers.median()) if len(peers) else np.nan,
                 "low": float(peers.quantile(0.1)) if len(peers) else np.nan,
                 "high": float(peers.quantile(0.9)) if len(peers) else np.nan,
                 "rank": int((values > value).sum()) + 1 if np.isfinite(value) else 0, "of": int(values.notna().sum())}
            )  # fmt: skip
        return pd.DataFrame(rows, columns=["figure", "words", "kind", "value", "peers", "low", "high", "rank", "of"])

    def _traits(self, market_id: str, like: pd.Index) -> pd.DataFrame:
        rows = []
        for feature in self._scaled.columns:
            values = self.markets[feature].astype(float)
            value = float(values[market_id])
            part = (values < value).sum() + 0.5 * ((values == value).sum() - 1)
            among = float(values.reindex(like).median()) if len(like) else np.nan
            percentile = float(part / max(int(values.notna().sum()) - 1, 1)) if np.isfinite(value) else np.nan
            rows.append({"feature": feature, "value": value, "peers": among, "percentile": percentile})
        return pd.DataFrame(rows, columns=["feature", "value", "peers", "percentile"])

    def _nearest(self, market_id: str, like: pd.Index) -> pd.DataFrame:
        if not len(like) or not len(self._scaled.columns):
            return pd.DataFrame()
        gap = self._scaled.loc[like] - self._scaled.loc[market_id]
        distance = np.sqrt((gap**2).mean(axis=1)).rename("distance")
        near = distance.sort_index().sort_values(kind="stable").head(PEERS)
        columns = [
            c
            for c in ("customers", "penetration", "clv", "headroom", "opportunity", "recommended", "play")
            if c in self.by
        ]
        if self.signal["potential"] == "none":
            columns = [c for c in columns if c not in ("headroom", "opportunity", "play")]
        out = pd.DataFrame(
            {"market_id": near.index, "name": self.names[near.index].to_numpy(), "distance": near.to_numpy()}
        )
        return out.join(self.by[columns], on="market_id")

    def _periods(self, market_id: str) -> pd.DataFrame:
        targets = self._rows("targets", market_id)
        if targets.empty:
            return pd.DataFrame()
        by = targets.groupby("period")[["new_customers", "revenue"]].sum()
        funnel = self._rows("funnel", market_id)
        if len(funnel):
            by["leads"] = funnel.groupby("period")["leads"].sum()
        return by.reset_index()

    def _bear_in_mind(self, row: pd.Series, peers: int) -> tuple[str, ...]:
        said = []
        if "customers" in row and not np.isfinite(float(row["customers"])):
            said.append(
                f"Fewer than {self.settings.report.min_cell} customers: what would tell of single people is left out."
            )
        if row.get("outside") is True or row.get("outside") == True:  # noqa: E712
            said.append("No market like this one was learnt from, so its potential is a guess.")
        for stage, words in (("value", "what customers are worth"), ("potential", "potential")):
            if self.signal[stage] == "none":
                said.append(f"Markets can't be told apart by {words}: the figures that would rank them are left out.")
        if "peer_group" in row and peers < 3:
            said.append("There are hardly any markets like it, so comparisons say little.")
        return tuple(said)


def _verdict(workspace: Workspace, stage: str) -> str | None:
    try:
        signal = workspace.notes(stage).numbers.get("signal")
    except StageError:
        return None
    return signal.get("verdict") if isinstance(signal, Mapping) else None


def _scaled(markets: pd.DataFrame, features: list[str]) -> pd.DataFrame:
    """Ranks of the features, 0 to 1 (missing: the middle): distances that no outlier and no unit decides."""
    ranks = markets[features].rank(pct=True).fillna(0.5)
    return ranks[[f for f in features if markets[f].nunique() > 1]]


def profile_of(workspace: Workspace, settings: Settings, market_id: str) -> Profile:
    """:meth:`Markets.profile` for one market alone.

    Parameters
    ----------
    workspace : Workspace
    settings : Settings
    market_id : str

    Returns
    -------
    Profile

    Raises
    ------
    StageError
        For an id that the run doesn't know, with the nearest one.
    """
    return Markets(workspace, settings).profile(market_id)


__all__ = ["FIGURES", "Markets", "Profile", "profile_of"]
