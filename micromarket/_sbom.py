"""What the locked environment is made of: ``python -m micromarket._sbom`` writes it, with ``--audit`` it is examined.

The list is CycloneDX 1.6 in JSON and says the same wherever it is made: no day, no serial number, all sorted.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import micromarket

LOCKS = ("requirements.lock", "requirements-spark.lock", "requirements-docs.lock")
#: Those whose packages are listed; the documentation's are used by nobody but its makers.
LISTED = LOCKS[:2]
#: SPDX. Copyleft only where it ends at the package's own files (MPL) or at its borders (LGPL), as nothing is copied in.
ALLOWED = frozenset(
    (
        *("0BSD", "BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MIT-CMU", "Zlib"),
        *("Apache-2.0", "CC0-1.0", "LGPL-3.0-only", "MPL-2.0", "NIST-PD", "PSF-2.0", "Unlicense"),
    )
)
#: Packages of other machines than this one, and those whose metadata don't say.
STATED = {
    "aiohappyeyeballs": "PSF-2.0",
    "aiohttp": "Apache-2.0 AND MIT",
    "aiosignal": "Apache-2.0",
    "appnope": "BSD-2-Clause",
    "axe-playwright-python": "MIT",
    "colorama": "BSD-3-Clause",
    "frozenlist": "Apache-2.0",
    "multidict": "Apache-2.0",
    "overrides": "Apache-2.0",
    "pexpect": "ISC",
    "propcache": "Apache-2.0",
    "ptyprocess": "ISC",
    "py4j": "BSD-3-Clause",
    "pyspark": "Apache-2.0",
    "pywinpty": "MIT",
    "yarl": "Apache-2.0",
}
_AS_SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}


@dataclass(frozen=True)
class Package:
    """One line of a lock; ``needed_by``: names of packages. ``license``: SPDX, or what its metadata say, or empty."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]
    license: str

    @property
    def ref(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def locked(lock: Path) -> list[Package]:
    """The packages of a lock (pip's format with hashes), sorted."""
    found = []
    for block in re.split(r"^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"), flags=re.M)[1:]:
        head = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", block)
        if head is None:
            raise ValueError(f"{lock.name}: no pinned package: {block.splitlines()[0][:80]!r}")
        name = re.sub(r"[-_.]+", "-", head[1]).lower()
        hashes = tuple(sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block)))
        needed_by = tuple(sorted(set(re.findall(r"^\s+#(?: via)?[ ]+([a-z0-9][\w.-]*)(?: \(.*\))?$", block, re.M))))
        found.append(Package(name, head[2], (head[3] or "").strip(), hashes, needed_by, license_of(name)))
    return sorted(found, key=lambda p: (p.name, p.version))


def license_of(name: str) -> str:
    """As stated above, else as the installed package says; empty where neither is there."""
    if name in STATED:
        return STATED[name]
    try:
        said = importlib.metadata.metadata(name).json
    except importlib.metadata.PackageNotFoundError:
        return ""
    if said.get("license_expression"):
        return str(said["license_expression"])
    lines = str(said.get("license") or "").splitlines()
    text = lines[0].strip() if len(lines) == 1 else ""  # more than a line is the whole text
    kinds = [c.rsplit(" :: ", 1)[-1] for c in said.get("classifier") or [] if c.startswith("License ::")]
    if text and text != "UNKNOWN" and (allowed(_spdx(text)) or not kinds):
        return _spdx(text)
    return " AND ".join(sorted({_spdx(kind) for kind in kinds}))


def _spdx(text: str) -> str:
    return _AS_SPDX.get(text.lower(), text)


def allowed(license: str) -> bool:
    """Whether a licence (SPDX without brackets) may be used: all of ``AND``, one of ``OR``."""
    return any(all(part in ALLOWED for part in choice.split(" AND ")) for choice in license.split(" OR "))


def bill(packages: list[Package]) -> dict[str, Any]:
    """CycloneDX 1.6 of ``packages``; a hash is of one of the files that a package is installed from."""
    product = {"type": "application", "name": "micromarket", "version": micromarket.__version__}
    root = f"pkg:pypi/micromarket@{micromarket.__version__}"
    refs: dict[str, list[str]] = {}
    for p in packages:
        refs.setdefault(p.name, []).append(p.ref)
    needs: dict[str, set[str]] = {root: set(), **{p.ref: set() for p in packages}}
    for p in packages:
        for user in set(p.needed_by) & set(refs):
            for ref in refs[user]:
                needs[ref].add(p.ref)
        if "micromarket" in p.needed_by or not set(p.needed_by) & set(refs):
            needs[root].add(p.ref)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"bom-ref": root, **product, "purl": root}},
        "components": [_component(p) for p in packages],
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)],
    }


def _component(package: Package) -> dict[str, Any]:
    spoken = "BSD" not in re.split(r" AND | OR ", package.license)  # BSD alone is no SPDX: metadata don't say which
    license: dict[str, Any] = {"expression": package.license}
    if not spoken or not allowed(package.license):
        license = {"license": {"name": package.license or "unknown"}}
    component = {
        "bom-ref": package.ref, "type": "library", "name": package.name, "version": package.version,
        "purl": package.ref, "hashes": [{"alg": "SHA-256", "content": h} for h in package.hashes],
        "licenses": [license],
    }  # fmt: skip
    if package.marker:
        component["properties"] = [{"name": "micromarket:installed-where", "value": package.marker}]
    return component


def _every(root: Path) -> list[Package]:
    """Packages of the listed locks, once each."""
    found = {p.ref: p for lock in reversed(LISTED) for p in locked(root / lock)}
    return sorted(found.values(), key=lambda p: (p.name, p.version))


def faults(root: Path) -> list[str]:
    """What is wrong with the locks and licences in the folder ``root``, a sentence each."""
    found = []
    for lock in LOCKS:
        found += [f"{lock}: {p.name} {p.version} has no hash." for p in locked(root / lock) if not p.hashes]
    for p in _every(root):
        if not p.license:
            found.append(f"{p.name} {p.version}: its licence is unknown; look it up and state it in _sbom.py.")
        elif not allowed(p.license):
            found.append(f"{p.name} {p.version}: the licence {p.license} is not among the allowed ones.")
    return found


def vulnerabilities(root: Path) -> tuple[list[str], str]:
    """Known ones by pip-audit, a sentence each; and why they could not be asked for (empty: they were)."""
    if importlib.util.find_spec("pip_audit") is None:
        return [], "known vulnerabilities: not asked for, as pip-audit is not installed"
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json", "--disable-pip"]
    for lock in LISTED:
        command += ["--requirement", str(root / lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        answer = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return [], "known vulnerabilities: pip-audit found no answer, perhaps for want of a network"
    return [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none yet'}."
        for one in answer
        for flaw in one.get("vulns", [])
    ], ""


def audit(root: Path) -> int:
    """Prints what is wrong with the packages; 1 where something is."""
    found = faults(root)
    checked = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "check", "--python", sys.executable], capture_output=True, text=True
    )
    if checked.returncode:
        found.append(f"uv pip check: {checked.stderr.strip() or checked.stdout.strip()}")
    flaws, why_not = vulnerabilities(root)
    found += flaws
    if why_not:
        print(why_not)
    print(
        "\n".join(found) if found else f"{len(_every(root))} packages: hashes, licences and requirements are in order"
    )
    return 1 if found else 0


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    if arguments == ["--audit"]:
        return audit(root)
    sys.stdout.write(json.dumps(bill(_every(root)), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
