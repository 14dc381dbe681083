"""Posteriors as xarray data, InferenceData, netCDF files or plain arrays, seen alike."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.errors import InputError, Problem

Array = NDArray[np.float64]
MOST_DRAWS = 200


def wrong(expected: str, found: str | None = None) -> InputError:
    return InputError([Problem("posterior", expected, value=found)])


def groups(source: Any) -> dict[str, Any]:
    """``posterior``, ``constant_data`` (where there is one) and ``attrs`` of whatever was given."""
    if isinstance(source, (str, Path)):
        try:
            import xarray
        except ImportError as error:
            raise wrong("xarray and h5netcdf installed to read netCDF, or the posterior as arrays") from error
        out: dict[str, Any] = {"attrs": {}}
        for group in ("posterior", "constant_data"):
            try:
                out[group] = xarray.open_dataset(source, group=group, engine="h5netcdf").load()
            except (OSError, KeyError):
                continue
        with contextlib.suppress(OSError):
            out["attrs"] = dict(xarray.open_dataset(source, engine="h5netcdf").attrs)
        if "posterior" not in out:
            raise wrong("a netCDF file with a group posterior", str(source))
        return out
    if isinstance(source, Mapping) and "posterior" not in source:
        return {"posterior": source, "attrs": {}}
    attrs = dict(getattr(source, "attrs", {}))  # InferenceData is a mapping that has some
    if isinstance(source, Mapping):
        return {"attrs": attrs} | {str(name): source[name] for name in source}
    found = {name: getattr(source, name, None) for name in ("posterior", "constant_data")}
    if found["posterior"] is None:
        return {"posterior": source, "attrs": attrs}
    return {name: group for name, group in found.items() if group is not None} | {"attrs": attrs}


@dataclass(frozen=True)
class _Plain:
    """An array with named dimensions, where xarray is not there to make one."""

    values: Array
    dims: tuple[str, ...]

    def transpose(self, *dims: str) -> _Plain:
        return _Plain(np.transpose(self.values, [self.dims.index(d) for d in dims]), dims)


def variable(group: Any, name: str) -> Any:
    if name not in group:
        raise wrong(f"the variable {name}")
    found = group[name]
    if isinstance(found, tuple):  # dims, values
        return _Plain(np.asarray(found[1], float), tuple(found[0]))
    return found


def draws(group: Any, name: str, dims: tuple[str, str] | tuple[str]) -> Array:
    """(draws, *dims), with dimensions that the variable lacks filled up; a bare array is chain, draw, then ``dims``."""
    found = variable(group, name)
    if not hasattr(found, "dims"):
        bare = np.asarray(found, float)
        kept = tuple(dims)[-(bare.ndim - 2) :] if bare.ndim > 2 else ()
        found = _Plain(bare, ("chain", "draw", *kept))
    lead = tuple(d for d in ("chain", "draw", "sample") if d in found.dims)
    own = tuple(d for d in dims if d in found.dims)
    if set(found.dims) != set(lead + own):
        raise wrong(f"{name} over draws and {', '.join(d for d in dims if d)}", str(found.dims))
    values = np.asarray(found.transpose(*lead, *own).values, float)
    values = values.reshape(-1, *values.shape[len(lead) :])
    return values[(slice(None), *(slice(None) if d in own else None for d in dims))]


def cells(group: Any, name: str, dims: tuple[str, str]) -> Array:
    found = variable(group, name)
    if not hasattr(found, "dims"):
        return np.asarray(found, float)
    own = tuple(d for d in dims if d in found.dims)
    values = np.asarray(found.transpose(*own).values if own else found.values, float)
    return values[tuple(slice(None) if d in own else None for d in dims)]


def thinned(draws: dict[str, Array]) -> dict[str, Array]:
    count = len(next(iter(draws.values())))
    keep = np.unique(np.linspace(0, count - 1, min(count, MOST_DRAWS)).round().astype(int))
    return {name: values[keep] for name, values in draws.items()}


def names(group: Any, dim: str, given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if given is not None:
        return tuple(str(n) for n in given)
    coords = getattr(group, "coords", {})
    if dim in coords:
        return tuple(str(n) for n in np.asarray(coords[dim].values))
    return tuple(f"{dim} {i}" for i in range(count))


def setting(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in attrs:
        raise wrong(f"the attribute {name}, as PyMC-Marketing writes it")
    found = attrs[name]
    return dict(json.loads(found) if isinstance(found, str) else found)
