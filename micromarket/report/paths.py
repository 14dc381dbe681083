"""Shapes as SVG paths, short enough for a phone."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely


def svg_path(shape: Any, left: float, top: float, scale: float, digits: int) -> Any:
    """A path with relative steps on a coarse grid, or the place of a point; ``None``: nowhere."""
    if shape is None or shape.is_empty:
        return None
    if shapely.get_dimensions(shape) < 2:
        at = shape.centroid
        return [round((at.x - left) * scale, 1), round((top - at.y) * scale, 1)]
    parts = []
    for polygon in shapely.get_parts(shape):
        if polygon.geom_type != "Polygon":
            continue
        for ring in (polygon.exterior, *polygon.interiors):
            xy = np.asarray(ring.coords)[:-1, :2]
            grid = np.round(np.column_stack([(xy[:, 0] - left), (top - xy[:, 1])]) * scale * 10**digits).astype(int)
            keep = np.ones(len(grid), dtype=bool)
            keep[1:] = (np.diff(grid, axis=0) != 0).any(axis=1)
            grid = grid[keep]
            if len(grid) < 3:
                continue
            steps = np.diff(grid, axis=0)
            unit = 10**digits
            start = f"M{grid[0][0] / unit:g} {grid[0][1] / unit:g}l"
            parts.append(start + " ".join(f"{x / unit:g} {y / unit:g}" for x, y in steps) + "z")
    if parts:
        return "".join(parts)
    at = shape.representative_point()
    return [round((at.x - left) * scale, 1), round((top - at.y) * scale, 1)]
