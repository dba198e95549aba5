"""Rendering of the page templates. Every value is escaped."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.core.overview.story import ending
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.printable import shown_in_page

_PACKAGE = "voiceflow_worker.webhooks.pages"


class PageRenderer:
    """Draws pages. `style_source` allows their one style sheet in a Content-Security-Policy."""

    def __init__(self) -> None:
        style = resources.files(_PACKAGE).joinpath("style.css").read_text(encoding="utf-8")
        self._style = Markup(style)  # noqa: S704 (our own file)
        self.style_source = f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
        self._templates = Environment(
            loader=PackageLoader(_PACKAGE, "."),
            autoescape=True,
            finalize=shown_in_page,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {"segment": _segment, "utc": in_words, "ending": ending, "gate": gate_in_words}

        for name in self._templates.list_templates(extensions=["html"]):
            self._templates.get_template(name)  # read now: later there may be no descriptor left to read it by

    def draw(self, template: str, **shown: object) -> bytes:
        """The page as UTF-8; half of a surrogate pair, which JSON may contain, becomes `?`."""
        return (
            self._templates.get_template(template).render(style=self._style, **shown).encode("utf-8", errors="replace")
        )


def _segment(text: str) -> str:
    """A text as one segment of a path, or one value of a query."""
    return quote(text, safe="", errors="replace")
