"""Posteriors of Meridian and PyMC-Marketing, read so that their money can be allocated by our solver.

Both models carry spending over (adstock), saturate it and scale it by a coefficient; in flights, a plan that multiplies
a cell's spending pattern by m has the outcome ``sum over t of coefficient x saturation(m x adstock(pattern_t))``. That
is computed for every draw at levels of m and averaged; the mean curve (which belongs to no family, and may be S-shaped)
goes to the solver as :class:`~micromarket.allocation.sampled.Sampled`.

Neither package is needed: posteriors come as xarray data, as mappings
of arrays, or as netCDF files (which need xarray and h5netcdf).

References: Jin et al. 2017, Bayesian methods for media mix modeling with carryover and shape effects; Google Meridian,
model specification; PyMC-Marketing, mmm.components.
"""

from __future__ import annotations

from micromarket.allocation.adapters.imported import Imported
from micromarket.allocation.adapters.meridian import from_meridian
from micromarket.allocation.adapters.pymc_marketing import from_pymc_marketing

__all__ = ["Imported", "from_meridian", "from_pymc_marketing"]
