"""Notebooks one after the other through papermill, into one run folder published by one rename."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from micromarket.runner.execution import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    # kernels and notebooks use modules of this package too; they needn't wait for what runs notebooks
    if name == "run":
        from micromarket.runner.execution import run

        return run
    raise AttributeError(f"module 'micromarket.runner' has no attribute {name!r}")
