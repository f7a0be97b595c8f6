"""How `make docs` draws the pages: Markdown of this folder, the API from docstrings, the gallery from examples/."""

import matplotlib as mpl

import topographic

mpl.use("agg")

project, author, release = "topographic", "the authors of topographic", topographic.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
templates_path = ["_templates"]

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False  # a room's door is its __all__
autodoc_typehints = "none"  # the shapes stand in the docstrings
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[/\\]plot_",
    "ignore_pattern": r"[/\\](small_model|draw_.*)\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "topographic"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
suppress_warnings = ["myst.xref_missing", "config.cache"]  # files of the repository that are no pages
