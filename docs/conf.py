"""The documentation site: ``make docs`` builds it, and any warning or dead reference fails the build."""

import sys
from pathlib import Path

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

# It lies beside this file, where Python does not look by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import catalogue_pages

project = "Poison-and-Defend"
author = "The Poison-and-Defend authors"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "records"]
# Headings are link targets, so that pages of the site can be linked as they are on GitHub.
myst_heading_anchors = 4
# Our own writing: `name` in a docstring is code.
default_role = "literal"

html_theme = "furo"
html_title = project
# The sources are Markdown that anybody can read in the repository.
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpicky = True
# No inventory of another project is fetched while the site is built, so that names of these cannot be resolved.
nitpick_ignore_regex = [
    # A signature with a default that is no Python, such as a dataclass's <factory>, is cut at its commas.
    (r"py:class", r"dict\[str"),
    (r"py:.*", r"(torch|torchvision|lightning|pytorch_lightning|torchmetrics|numpy|np|diffusers|PIL|L|v2|nn)(\..*)?"),
    (r"py:.*", r"(abc|collections\.abc|contextlib|typing|pathlib|fractions|datetime|os)\..*"),
]


def resolve_short(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """A name as its module imports it, such as ``Attack.perturb``: the one documented object whose name ends so.

    Sphinx itself looks below the module alone in which a docstring stands.
    """
    if node.get("refdomain") != "py":
        return None
    domain, target = env.domains.python_domain, node["reftarget"]
    found = [name for name, one in domain.objects.items() if name.endswith(f".{target}") and not one.aliased]
    if len(found) != 1:
        return None
    entry = domain.objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])


def setup(app: Sphinx) -> None:
    """Fill the pages that are made of the kept help, and resolve names as sources write them."""
    app.connect("source-read", catalogue_pages.fill)
    app.connect("missing-reference", resolve_short)
