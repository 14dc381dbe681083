"""A notebook's cells as they lie in its file: enough for hashes and imports, without waiting for nbformat."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from micromarket.errors import StageError


@dataclass(frozen=True)
class Cell:
    """One cell: ``kind`` is code, markdown or raw."""

    kind: str
    source: str
    tags: tuple[str, ...] = ()


def read_cells(notebook: Path) -> tuple[Cell, ...]:
    """Cells of a notebook (format 4).

    Raises
    ------
    StageError
        Where the file is no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return tuple(
            Cell(c["cell_type"], "".join(c["source"]), tuple(c.get("metadata", {}).get("tags", ()))) for c in cells
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{notebook} can't be read as a notebook: {error}") from error


def source_hash(notebook: Path) -> str:
    """sha256 of what a notebook does: kinds, sources and tags of its cells, not its outputs or metadata."""
    digest = hashlib.sha256()
    for cell in read_cells(notebook):
        digest.update(repr((cell.kind, cell.source, list(cell.tags))).encode())
    return digest.hexdigest()


def imports_of(*notebooks: Path) -> tuple[str, ...]:
    """Modules that the notebooks' cells import, sorted."""
    found: set[str] = set()
    for cell in _code(notebooks):
        with contextlib.suppress(SyntaxError):  # magics: running the cell will tell
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Import):
                    found.update(name.name for name in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return tuple(sorted(found))


def _code(notebooks: Iterable[Path]) -> Iterable[Cell]:
    return (cell for notebook in notebooks for cell in read_cells(notebook) if cell.kind == "code")
