"""What the README tells users to do works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from micromarket.config import read_settings


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
    scripts = re.findall(r"`(\w+\.py)`", text[text.index("`benchmarks/` reruns") :])
    assert len(scripts) > 3
    for script in scripts:
        assert (repo / "benchmarks" / script).exists(), script
    for notebook in re.findall(r"notebooks/\w+\.ipynb", text):
        assert (repo / notebook).exists(), notebook


def test_keys_that_it_shows_are_read(repo: Path, tmp_path: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    keys = ["segments: none", "engine: spark"]
    assert all(key in text for key in keys)
    plan = (repo / "data" / "sample" / "plan.yml").read_text(encoding="utf-8")
    path = tmp_path / "plan.yml"
    path.write_text("\n".join([plan, *keys]), encoding="utf-8")
    settings = read_settings(path)
    assert (settings.segments, settings.engine.kind) == ("none", "spark")
