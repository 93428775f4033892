"""Settings of the documentation: Sphinx with MyST and furo, built without a network by ``scripts/docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pages

import automl

project = "automl"
author = "the authors of automl"
version = release = automl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"automl {release}"
html_copy_source = False
html_show_copyright = False
highlight_language = "none"
html_theme_options = {"top_of_page_buttons": []}
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}


def setup(app):
    """Write the pages that are made of code before any is read."""
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
