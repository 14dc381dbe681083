"""A market's page: its place, its figures beside those of its peers, money, targets, and the markets like it."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from micromarket.explore.market import FIGURES, Profile
from micromarket.explore.pictures import Atlas, Safe, beside, boxed, heading, table
from micromarket.formats import NOTHING, count, finite, percent
from micromarket.potential.peer_names import feature_words
from micromarket.report import style
from micromarket.report.sections_money import channel_name, why
from micromarket.report.style import label

Money = Callable[..., str]


def _records(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples(index=False))


def _shown(kind: str, value: Any, money: Money) -> str:
    return money(value) if kind == "money" else percent(value, 1) if kind == "percent" else count(value)


def profile_page(profile: Profile, atlas: Atlas, money: Money) -> str:
    """HTML. Texts from data are shown as texts."""
    place = " · ".join(f"{k}: {label(v, 80)}" for k, v in profile.place.items())
    said = "".join(f"<p>{html.escape(n)}</p>" for n in profile.notes)
    todo = ""
    if profile.play:
        about = f" {profile.about.what}" if profile.about else ""
        lags = f" It stays behind mostly for: {profile.cause}." if profile.cause else ""
        todo = f"<p><b>{html.escape(label(profile.play, 120))}.</b>{html.escape(about)}{html.escape(lags)}</p>"
    marks = pd.Series(dict.fromkeys(profile.peers.get("market_id", []), 0.55) | {profile.market_id: -1.0})
    words = f"{profile.name} (orange) and the {len(profile.peers)} markets most like it (teal)"
    drawn = atlas.drawn(marks, lambda v: "", words, 1.0, (profile.market_id,))
    known = f"{label(profile.market_id, 60)}{' · ' if place else ''}{place}"
    title = f"margin:0;font-size:20px;color:{style.ACCENT_DARK}"
    key = heading("Beside its peers: dot, its figure; bar, eight in ten of them; line, their middle")
    return boxed(
        f'<h3 dir="auto" style="{title}">{html.escape(label(profile.name, 120))}</h3>',
        f'<p style="margin:2px 0 8px;color:{style.GREY}">{html.escape(known)}</p>',
        todo,
        said,
        beside(key + _against(profile, money), heading(words) + drawn if drawn else "", least=360),
        _moves(profile, money),
        beside(_periods(profile, money), _causes(profile) + _traits(profile), least=380),
        _peers(profile, atlas, money),
    )


def _against(profile: Profile, money: Money) -> str:
    rows = []
    for r in _records(profile.figures):
        rank = f"{r.rank:,} of {r.of:,}" if r.rank else NOTHING
        rows.append((r.words, _shown(r.kind, r.value, money), _shown(r.kind, r.peers, money), Safe(_strip(r)), rank))
    return table(("", "Here", "Peers", "", "Rank"), rows) if rows else "<p>The run holds no figures yet.</p>"


def _strip(r: Any) -> str:
    """A figure among its peers, as a small picture."""
    points = [v for v in (r.value, r.low, r.high, r.peers) if finite(v) is not None]
    if finite(r.low) is None or finite(r.value) is None or max(points) <= min(points):
        return ""
    low, high = min(points), max(points)
    x = {k: 6 + 108 * (getattr(r, k) - low) / (high - low) for k in ("value", "low", "high", "peers")}
    bar = f'<rect x="{x["low"]:.1f}" y="4" height="6" width="{max(x["high"] - x["low"], 1):.1f}"'
    line = f'<rect x="{x["peers"]:.1f}" y="2" width="1.4" height="10" fill="{style.GREY}"/>'
    return (
        '<svg viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">'
        f'{bar} fill="{style.ACCENT_SOFT}"/>{line}'
        f'<circle cx="{x["value"]:.1f}" cy="7" r="4.5" fill="{style.ACCENT_DARK}"/></svg>'
    )


def _causes(profile: Profile) -> str:
    if profile.causes.empty or not (profile.causes["customers"] > 0).any():
        return ""
    rows = [
        (c.cause, c.kind, count(c.customers))
        for c in _records(profile.causes.sort_values(["customers", "cause"], ascending=[False, True], kind="stable"))
        if c.customers > 0
    ]
    return heading("Why it stays behind its potential") + table(("Cause", "Kind", "Customers"), rows, words=(0, 1))


def _moves(profile: Profile, money: Money) -> str:
    if profile.moves.empty:
        return ""
    order = profile.moves["change"].abs().sort_values(ascending=False, kind="stable").index
    rows = [
        (channel_name(m.channel), money(m.current), money(m.recommended), money(m.change, sign=True), why(m.reason))
        for m in _records(profile.moves.loc[order])
    ]
    return heading("Money, by channel") + table(("Channel", "Now", "Plan", "Change", "Why"), rows, words=(0, 4))


def _periods(profile: Profile, money: Money) -> str:
    if profile.periods.empty:
        return ""
    has_leads = "leads" in profile.periods
    rows = [
        (
            str(pd.Timestamp(p.period).date()),
            money(p.revenue),
            count(p.new_customers),
            *([count(p.leads)] if has_leads else []),
        )
        for p in _records(profile.periods)
    ]
    head = ("Period from", "Revenue", "New customers", *(["Leads owed"] if has_leads else []))
    return heading("Targets") + table(head, rows)


def _traits(profile: Profile) -> str:
    if profile.features.empty:
        return ""
    rows = []
    for f in _records(profile.features):
        at = "" if not np.isfinite(f.percentile) else f"higher than {percent(f.percentile)} of markets"
        rows.append((feature_words(f.feature).capitalize(), _plain(f.value), _plain(f.peers), at))
    return heading("What the place is like") + table(("", "Here", "Peers", ""), rows)


def _plain(value: Any) -> str:
    number = finite(value)
    return NOTHING if number is None else count(number) if abs(number) >= 100 else f"{number:.3g}"


def _peers(profile: Profile, atlas: Atlas, money: Money) -> str:
    if profile.peers.empty:
        return ""
    columns = [c for c in profile.peers.columns if c in FIGURES and profile.peers[c].notna().any()]
    with_play = "play" in profile.peers
    rows = []
    for r in profile.peers.to_dict("records"):
        cells = [_shown(FIGURES[c][1], r[c], money) for c in columns]
        rows.append([Safe(atlas.name(r["market_id"])), *([r["play"] or ""] if with_play else []), *cells])
    head = ["Market", *(["Play"] if with_play else []), *(FIGURES[c][0] for c in columns)]
    return heading("The markets most like it") + table(head, rows, words=(0, 1) if with_play else (0,))


__all__ = ["profile_page"]
