"""The website of these pages (`./dev docs`). It loads nothing from elsewhere, and its search works from a folder."""

from __future__ import annotations

import re
from hashlib import sha256
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
# tests/docs checks all links, also those to files that are no pages. What is no page of code is shown as it stands.
suppress_warnings = [
    "myst.xref_missing",
    "misc.highlighting_failure",
    "ref.python",  # `type` of an annotation, beside fields of that name
]

CHAPTERS = {
    "Start": ["start", "examples"],
    "Tasks": [
        "in-your-service", "campaign-files", "list-again", "every-day", "when-to-call", "ivr", "escalation", "console",
        "webhooks", "outcomes", "sandbox",
    ],
    "Operation": ["deploy/README", "operations", "runbooks", "metrics", "stores", "scale", "security"],
    "Interfaces": ["cli", "fields", "http", "python", "reference", "airflow"],
    "Background": ["calls", "architecture", "decisions/README"],
}  # fmt: skip
"""The pages in the side navigation, by chapter. `cli` is made for the website alone."""


def setup(app: Sphinx) -> None:
    """Add what the pages do not need where Markdown is shown, as on GitHub: a side navigation, diagrams as pictures."""
    app.connect("source-read", _completed)


def _completed(_app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = re.sub(r"^```mermaid\n(.*?)^```\n", _picture, source[0], flags=re.DOTALL | re.MULTILINE)
    if name == "index":
        for caption, pages in CHAPTERS.items():
            names = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def _picture(diagram: re.Match[str]) -> str:
    """The picture that images/make_diagrams.py has made of a diagram."""
    return f"![diagram](/images/diagrams/{sha256(diagram[1].encode()).hexdigest()[:12]}.png)\n"
