"""What a plan has brought so far: actuals against targets and forecast, by market, segment, territory and region."""

from __future__ import annotations

from micromarket.readout.attainment import Readout, attained, readout

__all__ = ["Readout", "attained", "readout"]
