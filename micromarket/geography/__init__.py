"""Markets on the map: clean geometry, areas, positions, neighbours, and the market a point lies in.

Everything here copes with markets that have no geometry: it reports them and leaves their cells empty.
"""

from __future__ import annotations

from micromarket.geography.adjacency import neighbours
from micromarket.geography.hot_spots import getis_ord, hot_spots
from micromarket.geography.points import assign_points
from micromarket.geography.shapes import prepare_markets, validate_geometry
from micromarket.geography.spillover import spillover, weights

__all__ = [
    "assign_points",
    "getis_ord",
    "hot_spots",
    "neighbours",
    "prepare_markets",
    "spillover",
    "validate_geometry",
    "weights",
]
