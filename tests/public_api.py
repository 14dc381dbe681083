"""The public API in one text: signatures of functions, fields and methods of classes. ``make api`` writes it.

It is written only if ``CHANGELOG.md`` changed with it: what users rely on doesn't change without a word.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from micromarket._public import PUBLIC

REPO = Path(__file__).resolve().parent.parent
SNAPSHOT, CHANGELOG = REPO / "docs" / "api-signatures.txt", REPO / "CHANGELOG.md"


def public_objects() -> dict[str, Any]:
    """Dotted name → function or class."""
    objects = {}
    for names in PUBLIC.values():
        for dotted in names:
            module, _, name = dotted.rpartition(".")
            objects[dotted] = getattr(import_module(f"micromarket.{module}"), name)
    return objects


def public_methods(cls: type) -> Iterator[tuple[str, Any]]:
    for name, found in vars(cls).items():
        if not name.startswith("_"):
            function = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
            function = function.fget if isinstance(function, property) else function
            if inspect.isfunction(function):
                yield name, function


def signature_of(function: Any) -> str:
    """Parameters with their types; that there is a default counts, not which."""
    signature = inspect.signature(function)
    given = [
        p if p.default is p.empty else p.replace(default=inspect.Parameter.empty, annotation=f"{p.annotation} = …")
        for p in signature.parameters.values()
    ]
    text = ", ".join(map(_shown, given))
    star = next((i for i, p in enumerate(given) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None:
        text = ", ".join([*map(_shown, given[:star]), "*", *map(_shown, given[star:])])
    return f"({text}) -> {signature.return_annotation}"


def _shown(parameter: inspect.Parameter) -> str:
    return parameter.name if parameter.annotation is parameter.empty else f"{parameter.name}: {parameter.annotation}"


def lines_of(dotted: str, found: Any) -> Iterator[str]:
    if inspect.isfunction(found):
        yield f"{dotted}{signature_of(found)}"
        return
    bases = ", ".join(base.__name__ for base in found.__bases__ if base is not object)
    yield f"class {dotted}({bases})"
    if dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            if not field.name.startswith("_"):
                optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
                yield f"    {field.name}: {field.type}{' = …' if optional else ''}"
    elif "__init__" in vars(found):
        yield f"    __init__{signature_of(found.__init__)}"
    for name, function in public_methods(found):
        yield f"    {name}{signature_of(function)}"


def signatures() -> str:
    return "".join(
        f"{line}\n" for dotted, found in sorted(public_objects().items()) for line in lines_of(dotted, found)
    )


def changelog_digest() -> str:
    """Of what CHANGELOG.md says of the version to come and of the latest one."""
    parts = re.split(r"^(?=## \[)", CHANGELOG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return hashlib.sha256("".join(parts[1:3]).encode()).hexdigest()[:16]


def main() -> int:
    now, head = signatures(), f"# CHANGELOG.md {changelog_digest()}\n"
    before = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    if before.partition("\n")[2] == now:
        return 0
    if before.startswith(head):
        print("the public API changed: first say in CHANGELOG.md, under Unreleased, what did", file=sys.stderr)
        return 2
    SNAPSHOT.write_text(head + now, encoding="utf-8")
    print(SNAPSHOT.relative_to(REPO))
    return 0


if __name__ == "__main__":
    sys.exit(main())
