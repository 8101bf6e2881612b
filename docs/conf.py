"""Builds the documentation site: ``make docs``. Reference pages are generated from the code, so they cannot lag it."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Defaults that are taken from the machine would make each build another page.
for _name in [name for name in os.environ if name.startswith("HAULAGE_")]:
    del os.environ[_name]

project = "Haulage"
author = "The Haulage authors"
project_copyright = "The Haulage authors, MIT licence"
release = version = installed_version("haulage")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "haulage_reference"]
exclude_patterns = ["_ext/**"]
source_suffix = {".md": "markdown"}
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# README files of the folders are written for the repository's own pages: their links do not lead through the site.
suppress_warnings = ["myst.xref_missing"]

smartquotes = False  # it would turn --option into a dash

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False

highlight_language = "text"

html_theme = "furo"
html_title = "Haulage"
html_static_path = ["_static"]
html_css_files = ["haulage.css"]
html_copy_source = False
html_show_sphinx = False
templates_path: list[str] = []
