"""Runs that nobody watches: their log, hooks, retention, history and state. Nothing here changes a plan."""

from __future__ import annotations

from micromarket.operation.unattended import run_unattended

__all__ = ["run_unattended"]
