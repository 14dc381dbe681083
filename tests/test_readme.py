"""What the README tells users to do works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def test_the_library_example_runs(repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repo / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(repo)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert "clv" in capsys.readouterr().out


def test_files_and_targets_it_names_exist(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(r'src="([\w./-]+)"', text):
        assert (repo / link).exists(), link
    targets = set(re.findall(r"^([a-z]+):", (repo / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE)) <= targets
