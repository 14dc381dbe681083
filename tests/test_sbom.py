"""The list of packages: complete, the same every time, in the format's own terms; what may not be used is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from micromarket import _sbom


def test_the_list_is_complete_and_always_the_same(repo: Path) -> None:
    command = [sys.executable, "-m", "micromarket._sbom"]
    texts = [subprocess.run(command, capture_output=True, check=True, cwd=repo).stdout for _ in range(2)]
    assert texts[0] == texts[1]
    found = json.loads(texts[0])
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert "serialNumber" not in found
    assert "timestamp" not in found["metadata"]
    refs = [c["bom-ref"] for c in found["components"]]
    assert refs == sorted(set(refs), key=lambda r: r.replace("@", "\0"))
    for component in found["components"]:
        assert component["type"] == "library"
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        assert component["hashes"]
        assert all(re.fullmatch("[0-9a-f]{64}", h["content"]) for h in component["hashes"])
        (license,) = component["licenses"]
        assert license.keys() == {"expression"} or license["license"].keys() == {"name"}
    for lock in _sbom.LISTED:
        for pinned in re.findall(r"^([a-z0-9.-]+==[^\s;]+)", (repo / lock).read_text(), re.M):
            assert f"pkg:pypi/{pinned.replace('==', '@')}" in refs
    needs = {d["ref"]: d["dependsOn"] for d in found["dependencies"]}
    root = found["metadata"]["component"]["bom-ref"]
    assert set(needs) == {root, *refs}
    direct = {r.split("/")[1].split("@")[0] for r in needs[root]}
    assert {"pandas", "duckdb", "ibis-framework", "matplotlib"} <= direct
    assert "six" not in direct
    reached, ahead = set(), [root]
    while ahead:
        ref = ahead.pop()
        if ref not in reached:
            reached.add(ref)
            ahead += needs[ref]
    assert reached == set(needs), "every package is there for a reason"


def test_this_repository_passes(repo: Path) -> None:
    assert _sbom.faults(repo) == []


def test_what_may_not_be_used_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for lock in _sbom.LOCKS:
        (tmp_path / lock).write_text("")
    (tmp_path / _sbom.LOCKS[0]).write_text(
        f"numpy==2.4.6 \\\n    --hash=sha256:{'0' * 64}\nopen==1.0\n    # via numpy\nghost==2\ntrap==3\n"
    )
    monkeypatch.setattr(_sbom, "STATED", {"open": "MIT", "trap": "MIT AND AGPL-3.0-only"})
    said = _sbom.faults(tmp_path)
    assert len(said) == 5
    assert "requirements.lock: open 1.0 has no hash." in said
    assert any("ghost 2: its licence is unknown" in text for text in said)
    assert any("trap 3: the licence MIT AND AGPL-3.0-only" in text for text in said)
    (tmp_path / _sbom.LOCKS[0]).write_text("numpy>=2\n")
    with pytest.raises(ValueError, match="no pinned package"):
        _sbom.faults(tmp_path)


@pytest.mark.parametrize(
    ("license", "may"),
    [("MIT", True), ("GPL-3.0-only OR MIT", True), ("GPL-3.0-only", False), ("MIT AND GPL-2.0-only", False),
     ("", False), ("Proprietary", False)],
)  # fmt: skip
def test_licences(license: str, may: bool) -> None:
    assert _sbom.allowed(license) is may
