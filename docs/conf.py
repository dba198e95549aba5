"""The website of these pages (`./dev docs`). It loads nothing from elsewhere, and its search works from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "voiceflow-worker"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
# The reference: docstrings as they are written, with their Markdown code, in the order of the source.
autodoc_default_options = {"members": True, "undoc-members": True, "ignore-module-all": False}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
default_role = "code"
exclude_patterns = ["images/*.py"]
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4
# tests/docs checks all links, also those to files that are no pages. What is no page of code is shown as it is.
suppress_warnings = [
    "myst.xref_missing",
    "misc.highlighting_failure",
    "ref.python",  # `type` of an annotation, beside fields of that name
]

CHAPTERS = {
    "Learn": ["start", "start-python", "start-console", "start-airflow"],
    "Lists": [
        "go-live", "console", "prepare-a-list", "write-texts", "import-again", "calling-hours", "redials-and-limits",
        "do-not-call", "every-day", "ivr", "escalation",
    ],
    "Programs": ["in-your-service", "python", "http", "airflow", "outcomes", "sandbox", "examples"],
    "Operation": ["deploy/README", "operations", "webhooks", "runbooks", "metrics", "security"],
    "Reference": ["cli", "fields", "settings", "stores", "states", "reference", "glossary"],
    "Background": ["the-promise", "rolled-back-stores", "architecture", "decisions/README", "scale"],
}  # fmt: skip
"""The pages in the side navigation, by chapter. `cli` and `fields` are made for the website alone."""


def setup(app: Sphinx) -> None:
    """Add the side navigation, which GitHub does not need."""
    app.connect("source-read", _completed)


def _completed(_app: Sphinx, name: str, source: list[str]) -> None:
    if name == "index":
        for caption, pages in CHAPTERS.items():
            names = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"
