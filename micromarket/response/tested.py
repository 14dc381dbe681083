"""What tests changed in the response estimates: the same history with and without their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from micromarket.response.posterior import ChannelPosterior, Evidence, draw_channels
from micromarket.response.transform import Array


def what_tests_changed(
    channels: Sequence[str],
    elasticity: Array,
    with_tests: ChannelPosterior,
    without_tests: ChannelPosterior,
    evidence: Sequence[Evidence],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Elasticity by channel with and without the results of tests, and the odds of no response.

    Both come from draws that share their luck, so that where the tests change nothing the two are equal.

    Parameters
    ----------
    elasticity : array (channels,)
        Elasticity of all new customers to the channel's spend per unit of beta, at today's spend.
    with_tests, without_tests : ChannelPosterior
        Of one panel; the second updated by no evidence.
    evidence : sequence of Evidence
        What tests said; a channel without any may still change, as channels learn from one another.

    Returns
    -------
    dict
        ``before``, ``after``: rows of ``channel, elasticity, elasticity_low, elasticity_high`` (90% range); ``tested``:
        channels with evidence of their own; ``p_no_response_before``, ``p_no_response_after``.
    """
    sides = {}
    for name, posterior in (("before", without_tests), ("after", with_tests)):
        drawn = draw_channels(posterior, len(channels), draws, np.random.default_rng(seed)).beta * elasticity
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        sides[name] = [
            {"channel": c, "elasticity": float(m), "elasticity_low": float(a), "elasticity_high": float(b)}
            for c, m, a, b in zip(channels, drawn.mean(axis=0), low, high, strict=True)
        ]
    return {
        **sides,
        "tested": sorted({channels[e.channel] for e in evidence}),
        "p_no_response_before": without_tests.p_no_response,
        "p_no_response_after": with_tests.p_no_response,
    }
