"""The renderer of the page templates. It escapes every value."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache, partial
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from voiceflow_worker.console import language
from voiceflow_worker.console.routes.charts import bar_of_states, bars, columns_of_time, tone_of
from voiceflow_worker.console.routes.page import Page, PageRequest, sentence
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import shown_in_page
from voiceflow_worker.reporting.story import ending


class PageRenderer:
    """The renderer of pages. `static_version` is in the addresses of the static files.

    Templates call the macros in `parts.html` as `ui.badge(…)`.
    """

    def __init__(self, *, static_version: str) -> None:
        self._templates = _compiled(static_version)

    def draw(self, page: Page, asked: PageRequest, *, live_only: bool = False, **more: object) -> bytes:
        """Render a page, or only its live part, as UTF-8. Half a surrogate pair, as in some JSON, becomes `?`."""
        frame = "live.html" if live_only else "layout.html"
        text = self._templates.get_template(page.template).render(
            **page.shown, **more, frame=frame, page=page, asked=asked, home=asked.home
        )
        return text.encode("utf-8", errors="replace")


@cache
def _compiled(static_version: str) -> Environment:
    """All templates. They are compiled once in a process, for all its receivers, because this takes 0.2 s."""
    templates: Any = Environment(
        loader=PackageLoader("voiceflow_worker.console"),
        autoescape=True,
        finalize=shown_in_page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        optimized=False,  # or else the language of the start is kept
        extensions=["jinja2.ext.i18n"],
    )
    templates.policies["ext.i18n.trimmed"] = True
    templates.install_gettext_callables(language.translated, language.translated_count, newstyle=True)
    templates.filters |= {
        "segment": partial(quote, safe="", errors="replace"),  # also one value of a query
        "query": partial(urlencode, errors="replace", doseq=True),
        "translated": language.translated,
        "utc": language.moment,
        "moment": datetime.fromisoformat,
        "ended": _ended,
        "result": _result,
        "sentence": sentence,
        "tone": tone_of,
        "grouped": language.number,
        "pieces": bar_of_states,
        "bars": bars,
        "columns": columns_of_time,
        "span": language.span,
        "clock": _clock,
        "pairs": _pairs,
    }
    templates.globals |= {
        "static_version": static_version,
        "locale": language.LOCALE.get,
        "languages": language.choices,
    }
    templates.globals["ui"] = templates.get_template("parts.html").module
    made: Environment = templates
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)  # read now, because later no file descriptor may be left
    return made


def _ended(job: Job) -> str:
    """How a call ended, in a few words: `no answer`, `busy (486)`, `completed, 35 s`."""
    status = job.outcome_status
    if status is None:
        return ending(job)
    return ending(job).replace(status.value, language.translated(tone_of(status.value).label), 1)


def _result(job: Job) -> str:
    """The result of a call: `no answer`, or the name of an answer; empty while it is open."""
    result = result_of(job)
    if not isinstance(result, CallResult):
        return result
    return "" if result is CallResult.OPEN else language.translated(result.replace("_", " "))


def _clock(seconds: float) -> str:
    """A number of seconds as hours, minutes and seconds: `12:03:45`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """The options of a choice: for each name, a pair of value and label, which are both the name."""
    return [(name, name) for name in names]
