"""What other totals would bring: value and price of money along the total budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.curves import Curves
from micromarket.allocation.problem import FAMILIES, Allocation
from micromarket.allocation.solver import optimise
from micromarket.errors import InfeasibleError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frontier:
    """The best allocation at every total that the limits allow, in order of totals.

    Attributes
    ----------
    totals, value, price : arrays (totals,)
        Money allowed; value of the best allocation; value of one more unit of money there.
    allocations : tuple of Allocation
    left_out : tuple of float
        Totals that the limits don't allow.
    """

    totals: Array
    value: Array
    price: Array
    allocations: tuple[Allocation, ...]
    left_out: tuple[float, ...] = ()


def frontier(
    curves: Curves, current: Array, totals: Sequence[float], *, scale_limits: bool = False, **limits: Any
) -> Frontier:
    """The best allocation at each of ``totals``, each solved from its neighbour's prices.

    Parameters
    ----------
    curves, current
        As in :func:`micromarket.allocation.solver.optimise`.
    totals : sequence of float
        Money.
    scale_limits : bool
        Whether limits in money, and what counts as a move, grow with the total in proportion to the sum of
        ``current``: what another total would bring under the same freedom. Otherwise they stay, and totals beyond
        their reach are left out.
    **limits
        Every further argument of ``optimise``.

    Returns
    -------
    Frontier
        Concave in the total wherever the curves are and limits stay as they are.
    """
    now = np.asarray(current, float)
    wanted = np.unique(np.asarray(totals, float))
    base = max(float(now.sum()), 1e-300)
    found: dict[int, Allocation] = {}
    first = int(np.argmin(np.abs(wanted - base))) if len(wanted) else 0
    for side in (range(first, len(wanted)), range(first - 1, -1, -1)):
        near = found.get(first)
        for i in side:
            scale = float(wanted[i]) / base if scale_limits else 1.0
            try:
                near = optimise(
                    curves, now * scale, total=float(wanted[i]), start=near, **_scaled(limits, scale)
                )  # fmt: skip
            except InfeasibleError:
                if found:  # totals that fit lie side by side
                    break
                continue
            found[i] = near
    kept = sorted(found)
    return Frontier(
        wanted[kept],
        np.array([found[i].objective for i in kept]),
        np.array([found[i].price for i in kept]),
        tuple(found[i] for i in kept),
        tuple(float(t) for i, t in enumerate(wanted) if i not in found),
    )


def _scaled(limits: dict[str, Any], scale: float) -> dict[str, Any]:
    if scale == 1.0:
        return limits
    out = dict(limits)
    for name in ("low", "high", "max_shift"):
        if out.get(name) is not None:
            out[name] = out[name] * scale
    for name in FAMILIES:
        if out.get(name) is not None:
            group = out[name]
            out[name] = replace(group, low=group.low * scale, high=group.high * scale)
    return out
