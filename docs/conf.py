"""How Sphinx builds these pages: `sphinx-build -W docs build/docs`, offline."""

from importlib.metadata import version as installed

project = "fpsim"
author = "The fpsim authors"
release = version = installed("fpsim")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["training/runs", "training/unfinished", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"fpsim {release}"
html_extra_path = []

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Notebooks are stored without output and run at every build; a cell that fails, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are listed once
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say them, with shapes and units
autodoc_preserve_defaults = True
