"""Rendering of the page templates. Every value is escaped."""

from __future__ import annotations

from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from voiceflow_worker.core.overview.gate_story import gate_in_words
from voiceflow_worker.core.overview.story import ending
from voiceflow_worker.model.text.moment import in_words
from voiceflow_worker.model.text.printable import shown_in_page
from voiceflow_worker.webhooks.pages.routes.page import Page, PageRequest
from voiceflow_worker.webhooks.pages.tones import tone_of


class PageRenderer:
    """Draws pages. `static_version` becomes part of the addresses of the static files.

    Templates call the macros of `parts.html` as `ui.badge(…)`.
    """

    def __init__(self, *, static_version: str) -> None:
        self._templates = Environment(
            loader=PackageLoader("voiceflow_worker.webhooks.pages"),
            autoescape=True,
            finalize=shown_in_page,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "segment": _segment,
            "utc": in_words,
            "ending": ending,
            "gate": gate_in_words,
            "tone": tone_of,
            "grouped": _grouped,
        }
        self._templates.globals |= {"static_version": static_version}
        self._templates.globals["ui"] = self._templates.get_template("parts.html").module
        for name in self._templates.list_templates(extensions=["html"]):
            self._templates.get_template(name)  # read now: later there may be no descriptor left to read it by

    def draw(self, page: Page, asked: PageRequest, **more: object) -> bytes:
        """The page as UTF-8; half of a surrogate pair, which JSON may contain, becomes `?`."""
        return self._draw("layout.html", page, asked, **more)

    def draw_live_part(self, page: Page, asked: PageRequest, **more: object) -> bytes:
        """Its live part alone."""
        return self._draw("live.html", page, asked, **more)

    def _draw(self, frame: str, page: Page, asked: PageRequest, **more: object) -> bytes:
        text = self._templates.get_template(page.template).render(
            **page.shown, **more, frame=frame, page=page, asked=asked, home=asked.home
        )
        return text.encode("utf-8", errors="replace")


def _segment(text: str) -> str:
    """A text as one segment of a path, or one value of a query."""
    return quote(text, safe="", errors="replace")


def _grouped(number: int) -> str:
    """A number with its digits in groups of three: 50 014, with narrow spaces that do not break."""
    return f"{number:,}".replace(",", "\u202f")
