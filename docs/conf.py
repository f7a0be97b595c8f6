"""How `make docs` draws the pages: Markdown of this folder, the API from docstrings, the gallery from examples/."""

import re

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst
from tqdm.std import tqdm

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


def begin_silently(bar, *args, begin=tqdm.__init__, **options):
    """Progress bars are no part of a page."""
    begin(bar, *args, **(options | {"disable": True}))


tqdm.__init__ = begin_silently


def figures_of(block, block_vars, gallery_conf):
    """The figure that is the last expression of a cell: ours are made without pyplot, where nobody else finds them."""
    shown = block_vars["example_globals"].get("___")
    figure = shown.figure if isinstance(shown, Axes) else shown
    if not isinstance(figure, Figure) or shown is figures_of.latest:
        return ""
    figures_of.latest = shown
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=150, facecolor="white")
    return figure_rst([path], gallery_conf["src_dir"])


figures_of.latest = None

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[/\\]plot_",
    "ignore_pattern": r"(small_model|draw_\w+)\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (figures_of,),
    "ignore_repr_types": r"matplotlib",
    "abort_on_example_error": True,
    "show_memory": False,
    "min_reported_time": 1,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "topographic"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_context = {"default_mode": "light"}  # the pictures are on white
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": [],
    "header_links_before_dropdown": 6,
}
html_show_sourcelink = False
suppress_warnings = [
    "myst.xref_missing",  # files of the repository that are no pages
    "config.cache",
]


def link_names(app, docname, content):
    """On the page of questions a name such as `maps.morans_i` leads to its page of the API."""
    if docname == "which":
        content[0] = re.sub(r"`(\w+\.\w+)`", r"{py:obj}`\1 <topographic.\1>`", content[0])


def setup(app):
    """Connect what has no setting."""
    app.connect("source-read", link_names)
