"""How Sphinx builds the documentation: `sphinx-build -W docs docs/_build/html`, offline."""

from __future__ import annotations

import logging

from imgwas import __version__

logging.getLogger("imgwas").setLevel(logging.WARNING)  # the gallery shows results, not logs

project = "imgwas"
author = "The imgwas authors"
copyright = "the imgwas authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "gallery/**/*.ipynb", "sg_execution_times.rst"]
suppress_warnings = [
    "config.cache",  # the gallery's settings hold a class
    "misc.highlighting_failure",  # JSON with "..." in it is shown as it is
]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
}

html_theme = "furo"
html_title = f"imgwas {release}"
