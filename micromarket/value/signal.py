"""Do markets differ beyond chance? One-way analysis of variance on what the segment's model leaves unexplained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution


@dataclass(frozen=True)
class Component:
    """``f``: variance between markets over variance within; ``icc``: share of customers' variance that lies between
    markets (intraclass correlation); ``reliability``: share of the differences of market means that is real."""

    name: str
    f: float
    p_value: float
    icc: float
    reliability: float
    markets: int


def analysis_of_variance(name: str, n: np.ndarray, total: np.ndarray, square: np.ndarray) -> Component:
    """From customers, sum and sum of squares of the residual, by market (Snedecor & Cochran, ch. 13).

    Markets without customers are left out; without two markets, or a spare customer, there is no evidence (p = 1).
    """
    use = n > 0
    n, total, square = n[use], total[use], square[use]
    k, N = len(n), n.sum()
    if k < 2 or k >= N:
        return Component(name, 1.0, 1.0, 0.0, 0.0, k)
    between = ((total**2) / n).sum() - total.sum() ** 2 / N
    within = square.sum() - ((total**2) / n).sum()
    mean_between, mean_within = between / (k - 1), within / (N - k)
    if mean_within <= 1e-12 * max(square.sum() / N, 1e-300):
        differ = mean_between > 1e-9 * max(square.sum() / N, 1e-300)
        return Component(name, np.inf if differ else 1.0, 0.0 if differ else 1.0, float(differ), float(differ), k)
    f = mean_between / mean_within
    size = (N - (n**2).sum() / N) / (k - 1)  # typical customers per market
    icc = (mean_between - mean_within) / (mean_between + (size - 1) * mean_within)
    p = float(f_distribution.sf(f, k - 1, N - k))
    return Component(name, float(f), p, float(np.clip(icc, 0, 1)), float(np.clip(1 - 1 / max(f, 1e-9), 0, 1)), k)


def verdict(components: list[Component]) -> dict[str, object]:
    """The ``signal`` of the notes: do markets differ in value? Holm's correction over the components.

    clear: p < .01 and at least half of the differences between market means are real; none: p >= .05, or less than a
    tenth of them is real (many tiny markets can differ significantly, and still be ranked by luck); else weak.
    """
    if not components or max(c.markets for c in components) < 2:
        text = "There are too few markets with customers to tell whether markets differ in value."
        return {"verdict": "none", "p_value": 1.0, "icc": 0.0, "text": text, "components": []}
    best = min(components, key=lambda c: c.p_value)
    p = min(1.0, best.p_value * len(components))
    found = [c for c in components if c.p_value * len(components) < 0.05]
    strongest = max((c.reliability for c in found), default=0.0)
    level = "none" if p >= 0.05 or strongest < 0.1 else "clear" if p < 0.01 and strongest >= 0.5 else "weak"
    names = " and ".join(c.name for c in found)
    if level == "none":
        text = (
            "Customers' value does not differ between markets beyond chance, so every market gets the value of its"
            " segments: don't rank markets by value."
        )
    elif level == "weak":
        text = (
            f"Markets differ in {names}, but most of the visible difference between single markets is chance: use the"
            " pooled values shown here, and read ranks with care."
        )
    else:
        text = f"Markets truly differ in {names}; the values are pooled, so small markets are not ranked on luck."
    parts = [
        {"name": c.name, "f": c.f, "p_value": c.p_value, "icc": c.icc, "reliability": c.reliability} for c in components
    ]
    return {"verdict": level, "p_value": p, "icc": best.icc, "text": text, "components": parts}
