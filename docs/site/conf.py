"""The documentation as a site: `make docs`. Warnings are errors."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the package is imported from here

project = "temporal-dedupe"
author = "temporal-dedupe maintainers"
copyright = author  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.intersphinx"]
root_doc = "site/index"
exclude_patterns = ["site/_build", "README.md", "decisions/README.md"]
html_theme = "furo"
html_title = "temporal-dedupe"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# Links to files of the repository are files there, and no pages here.
myst_url_schemes = ["http", "https"]
suppress_warnings = ["myst.xref_missing", "myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_rtype = False
# No network while building.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}
