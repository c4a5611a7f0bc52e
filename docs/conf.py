"""How the documentation is built: `sphinx-build -W docs site`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from actorfsm import __version__, integrations

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]  # the examples; our own directives

# autodoc imports what it does not find imported with `TYPE_CHECKING` set, so that the names of annotations exist. The
# cycles that these names stand for exist then too, and web frameworks evaluate annotations: so these are imported here.
for module in iter_modules(integrations.__path__, f"{integrations.__name__}."):
    import_module(module.name)

project = "actorfsm"
author = "the actorfsm authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_llm.txt",
    "anchors",
    "mermaid_as_text",
    "pictures",
]
exclude_patterns = ["changelog.d"]
nitpicky = False  # docstrings name types of the standard library in short
default_role = "code"  # docstrings are written with single backticks

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"actorfsm {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("tables.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False

# The mark between arguments that may and that must be named has a tooltip, which Markdown has not.
llms_txt_suppress_unknown_node_warnings = ["abbreviation"]
llms_txt_description = (
    "A Python runtime in which every state machine is an actor: an id, a mailbox of typed pydantic events, durable "
    "state, one event at a time, supervised, with typed replies."
)
