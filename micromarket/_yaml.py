"""YAML as ``plan.yml`` has it: no implicit dates, no key twice."""

from __future__ import annotations

from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """YAML without implicit dates: a mistyped day is then our message, not a parser's crash."""


def _mapping_without_repeats(loader: Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    """Plain YAML lets the last of two equal keys win; one of them would be silently ignored."""
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # what it brings may be written over, as YAML has it
            continue
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if isinstance(key, str):
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key!r} only once", problem_mark=key_node.start_mark)
            seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


Loader.construct_mapping = _mapping_without_repeats  # type: ignore[assignment]
Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Any:
    """``text`` as plain values.

    Raises
    ------
    yaml.YAMLError
        Where it is no YAML, nests too deeply, or holds a number that is too long to be one.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="with brackets or indents less deep in one another") from None
    except ValueError as error:
        if isinstance(error, yaml.YAMLError):
            raise
        raise yaml.MarkedYAMLError(problem="without numbers of thousands of digits") from None
