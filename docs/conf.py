"""The documentation as a site, made offline: ``make docs``. Pages: these files, the notebooks, docstrings."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from micromarket import __version__

HERE = Path(__file__).resolve().parent
COPIES = HERE / "_copies"  # pages that live elsewhere in the repository

project, author, release, version = "micromarket", "the micromarket maintainers", __version__, __version__
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build", "api-signatures.txt"]
html_theme = "furo"
html_title = f"micromarket {release}"
html_show_copyright = False
html_last_updated_fmt = None  # equal sources, equal pages
templates_path: list[str] = []

nb_execution_mode = "off"  # the tests run the notebooks
myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections say it in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# types of other packages have no pages here; whatever is ours must be there, see _known
nitpick_ignore_regex = [("py:class", r"(?!micromarket).*"), ("py:.*", r"(pandas|numpy|ibis|pd|np)\..*")]


def _copy_pages() -> None:
    shutil.rmtree(COPIES, ignore_errors=True)
    for pattern in ("CHANGELOG.md", "ARCHITECTURE.md", "notebooks/*.ipynb", "benchmarks/*.md"):
        for source in sorted(HERE.parent.glob(pattern)):
            target = COPIES / source.relative_to(HERE.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _links_to_copies(_app: Any, _page: str, source: list[str]) -> None:
    source[0] = source[0].replace("](../benchmarks/", "](_copies/benchmarks/")


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one (a field of a dataclass included)."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            if name in getattr(found, "__dataclass_fields__", {}):
                return name == parts[-1]
            found = getattr(found, name, None)
            if found is None:
                return False
        return True
    return False


def _known(_app: Any, _env: Any, node: Any, text: Any) -> Any:
    """A name of ours without a page stands as it is, if there is such a name; if not, it is a broken reference."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    places = [target, *(f"{node[key]}.{target}" for key in ("py:module", "py:class") if node.get(key))]
    return text if any(_exists(p) for p in places if p.startswith("micromarket")) else None


def setup(app: Any) -> None:
    _copy_pages()  # before Sphinx looks for pages
    app.connect("source-read", _links_to_copies)
    app.connect("missing-reference", _known)
