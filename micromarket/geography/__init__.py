"""Markets on the map: clean geometry, areas, positions, neighbours, and the market a point lies in.

Everything here copes with markets that have no geometry: it reports them and leaves their cells empty.
"""

from __future__ import annotations

from micromarket.geography.adjacency import neighbours
from micromarket.geography.points import assign_points
from micromarket.geography.shapes import prepare_markets, validate_geometry

__all__ = ["assign_points", "neighbours", "prepare_markets", "validate_geometry"]
