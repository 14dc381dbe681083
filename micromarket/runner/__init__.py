"""Notebooks one after the other through papermill, into one run folder published by one rename."""

from __future__ import annotations

from micromarket.runner.execution import run

__all__ = ["run"]
