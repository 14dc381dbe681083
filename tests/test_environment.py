"""Files that are made from others are what their sources say."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml

from micromarket._environment import environment


def test_environment_yml_is_what_pyproject_says(repo: Path) -> None:
    pytest.importorskip("pyproject2conda")
    assert (repo / "environment.yml").read_text() == environment(repo / "pyproject.toml"), "run `make lock`"


def test_conda_gets_every_dependency(repo: Path) -> None:
    listed = yaml.safe_load((repo / "environment.yml").read_text())["dependencies"]
    flat = [d for d in listed if isinstance(d, str)] + [p for d in listed if isinstance(d, dict) for p in d["pip"]]
    text = (repo / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M)
    assert wanted is not None
    for name in re.findall(r'"([A-Za-z0-9-]+)', wanted[1]):
        assert any(d.startswith(name) for d in flat), name


def test_ci_script_can_be_run(repo: Path) -> None:
    script = repo / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "make test" in text
    assert "make spark" in text


def test_every_lock_holds_hashes_and_no_host(repo: Path) -> None:
    for lock in ("requirements.lock", "requirements-spark.lock"):
        text = (repo / lock).read_text()
        blocks = re.split(r"^(?=[a-z0-9.-]+==)", text, flags=re.M)[1:]
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks)
        assert "://" not in text
        assert "--index" not in text


def test_the_spark_lock_adds_pyspark_to_the_other_one(repo: Path) -> None:
    spark = re.findall(r"^([a-z0-9-]+)==", (repo / "requirements-spark.lock").read_text(), re.M)
    base = re.findall(r"^([a-z0-9-]+)==", (repo / "requirements.lock").read_text(), re.M)
    assert "pyspark" in spark
    assert not set(spark) & set(base)
    assert "setuptools" in base  # builds it
