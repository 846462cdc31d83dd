"""The documentation site: ``make docs`` builds it, and any warning or dead reference fails the build."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import catalogue_pages  # noqa: E402  (it lies beside this file, which no path names before)

project = "Poison-and-Defend"
author = "The Poison-and-Defend authors"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "records"]
# Headings are link targets, so that pages of the site can be linked as they are on GitHub.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
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
# No inventory of another project is fetched while the site is built, so that links into these cannot be resolved.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|torchvision|lightning|pytorch_lightning|torchmetrics|numpy|np|diffusers|PIL|L|v2|nn)(\..*)?"),
    # Names of the same projects and of Python as our sources import them.
    (r"py:.*", r"(collections\.abc|typing|pathlib|fractions|datetime|os)\..*"),
]
suppress_warnings: list[str] = []


def setup(app: object) -> None:
    """Fill the pages that are made of the kept help."""
    app.connect("source-read", catalogue_pages.fill)  # type: ignore[attr-defined]
