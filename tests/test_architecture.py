"""ARCHITECTURE.md is the map: it names every module, and imports go one way along its rows."""

from __future__ import annotations

import ast
import re
from pathlib import Path


def rows_of_the_map(repo: Path) -> dict[str, int]:
    """Module or package -> row of the first table."""
    text = (repo / "ARCHITECTURE.md").read_text(encoding="utf-8").split("\n## ")[0]
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ")][1:]
    return {
        name.removesuffix(".py").rstrip("/"): number
        for number, where in enumerate(rows)
        for name in re.findall(r"`([\w./]+)`", where)
        if name.endswith((".py", "/"))
    }


def modules(repo: Path) -> dict[str, list[Path]]:
    package = repo / "micromarket"
    tops = [p for p in sorted(package.iterdir()) if p.suffix == ".py" or (p / "__init__.py").exists()]
    return {p.stem: sorted(p.rglob("*.py")) if p.is_dir() else [p] for p in tops if p.stem != "__init__"}


def test_every_module_is_on_the_map(repo: Path) -> None:
    private_tools = {"_environment", "_sbom"}
    assert set(modules(repo)) - private_tools <= set(rows_of_the_map(repo))


def test_imports_go_one_way(repo: Path) -> None:
    row = rows_of_the_map(repo)
    backwards = []
    for name, files in modules(repo).items():
        for file in files:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in tree.body:  # imports inside functions are for later, and may look ahead
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("micromarket"):
                    parts = node.module.split(".")
                    targets = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
                    backwards += [f"{file.name} -> {t}" for t in targets if row.get(t, -1) > row.get(name, 99)]
    assert not backwards
