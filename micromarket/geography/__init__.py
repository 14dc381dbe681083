"""Markets on the map: clean geometry, positions, neighbours, points and census figures in markets, thin ones merged,
means over neighbours, hot spots. What ``plan.yml`` asks of it: ``keys.py``, ``company.py``; hexagons: ``hexagons.py``.

Everything here copes with markets that have no geometry: it reports them and leaves their cells empty.
"""

from __future__ import annotations

from micromarket.geography.adjacency import neighbours
from micromarket.geography.hot_spots import getis_ord, hot_spots
from micromarket.geography.interpolation import Interpolated, interpolate
from micromarket.geography.merging import merge_thin
from micromarket.geography.points import assign_points, locate_points
from micromarket.geography.shapes import prepare_markets, validate_geometry
from micromarket.geography.spillover import spillover, weights

__all__ = [
    "Interpolated",
    "assign_points",
    "getis_ord",
    "hot_spots",
    "interpolate",
    "locate_points",
    "merge_thin",
    "neighbours",
    "prepare_markets",
    "spillover",
    "validate_geometry",
    "weights",
]
