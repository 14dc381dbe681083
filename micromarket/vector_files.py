"""Files with borders or points: their geometries, and the coordinate system that they must declare."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyproj import CRS
from pyproj.exceptions import CRSError

from micromarket.config import Source
from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.remote import PARQUET

_DEGREES = 360.0  # no company's markets lie within so few metres of where a projection begins


def is_geoparquet(path: Path) -> bool:
    """Whether a Parquet file says that it holds geometries."""
    return path.is_file() and path.suffix.lower() in PARQUET and b"geo" in (pq.read_schema(path).metadata or {})


def read_vector(source: Source, path: Path, dissolve: bool) -> tuple[pa.Table, Any]:
    """A table with borders or points, these as WKB, and their coordinate system.

    Raises
    ------
    InputError
        No or an unknown coordinate system, no geometry at all, degrees that are none.
    """
    declared = _declared_crs(path)
    if declared is not None and not _is_known_crs(declared):
        expected = "a known coordinate reference system such as EPSG:4326"
        raise InputError([Problem(source.shown_as, expected, column="geometry", value=shown(declared))])
    frame = _vector_frame(source, path)
    if not isinstance(frame, gpd.GeoDataFrame):
        frame = gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries([None] * len(frame)))
    problems = _geometry_problems(source, frame)
    if problems:
        raise InputError(problems)
    if source.dissolve is not None and dissolve:
        frame = _dissolved(source, frame, source.dissolve)
    flat = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    flat["geometry"] = frame.geometry.to_wkb()
    return pa.Table.from_pandas(flat, preserve_index=False), frame.crs


def _declared_crs(path: Path) -> str | None:
    """The coordinate system that a GeoJSON file names (GDAL takes an unknown one for WGS 84 without a word)."""
    if path.suffix.lower() not in {".geojson", ".json"}:
        return None
    with path.open("rb") as stream:
        start = stream.read(65_536).decode("utf-8", "replace")
    found = re.search(r'"crs"\s*:\s*\{[^{}]*"properties"\s*:\s*\{\s*"name"\s*:\s*"([^"]+)"', start)
    return found[1] if found else None


def _is_known_crs(name: str) -> bool:
    try:
        CRS.from_user_input(name)
    except CRSError:
        return False
    return True


def _vector_frame(source: Source, path: Path) -> gpd.GeoDataFrame:
    if path.suffix.lower() in {".parquet", ".pq"}:
        return gpd.read_parquet(path)
    return gpd.read_file(path, layer=source.layer) if source.layer else gpd.read_file(path)


def _geometry_problems(source: Source, frame: gpd.GeoDataFrame) -> list[Problem]:
    if frame.crs is None:
        return [Problem(source.shown_as, "a file that declares its coordinate reference system", column="geometry")]
    geometry = frame.geometry
    present = ~(geometry.isna() | geometry.is_empty)
    if not present.any():
        return [Problem(source.shown_as, "at least one geometry", column="geometry")]
    if frame.crs.is_geographic:
        bounds = geometry[present].bounds
        outside = (bounds.minx < -180.001) | (bounds.maxx > 360.001) | (bounds.miny < -90.001) | (bounds.maxy > 90.001)
        if outside.any():
            first = outside.idxmax()
            at = f"{bounds.loc[first, 'minx']:.6g}, {bounds.loc[first, 'miny']:.6g}"
            expected = f"degrees, as the file declares {frame.crs.to_string()}"
            row, more = int(first) + 1, int(outside.sum()) - 1
            return [Problem(source.shown_as, expected, column="geometry", row=row, value=at, more=more)]
    elif float(np.nanmax(np.abs(geometry[present].total_bounds))) <= _DEGREES:
        expected = (
            f"coordinates in the unit of {frame.crs.to_string()}, which the file declares; these look like degrees"
        )
        at = ", ".join(f"{v:.6g}" for v in geometry[present].total_bounds)
        return [Problem(source.shown_as, expected, column="geometry", value=at)]
    return []


def _dissolved(source: Source, frame: gpd.GeoDataFrame, column: str) -> gpd.GeoDataFrame:
    if column not in frame.columns:
        expected = did_you_mean(column, [c for c in frame.columns if c != frame.geometry.name])
        raise InputError(
            [Problem(source.shown_as, expected, column=f"data.{source.table}.dissolve", value=shown(column))]
        )
    frame = frame.set_geometry(frame.geometry.make_valid())
    return frame[[column, frame.geometry.name]].dissolve(by=column, as_index=False)
