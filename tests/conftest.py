"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public data beside the repo (``MICROMARKET_SHARED_DATA``, else ``../shared/data``); skips where it isn't."""
    folder = Path(os.environ.get("MICROMARKET_SHARED_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the public data is not here ({folder.name} folder beside the repo)")
    return folder
