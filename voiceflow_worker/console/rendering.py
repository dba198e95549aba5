"""The renderer of the page templates. It escapes every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache, partial
from typing import Any, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from voiceflow_worker.console import formats
from voiceflow_worker.console.page import Page, PageRequest, sentence
from voiceflow_worker.console.tones import pieces_of, tone_of
from voiceflow_worker.model.jobs.call_json import CallResult, result_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import shown_in_page
from voiceflow_worker.reporting.story import ending


def draw(page: Page, asked: PageRequest, *, live_only: bool = False, **more: object) -> bytes:
    """Render a page, or only its live part, as UTF-8. Half a surrogate pair, as in some JSON, becomes `?`.

    Templates call the macros in `parts.html` as `ui.badge(…)`.
    """
    frame = "live.html" if live_only else "layout.html"
    template = templates().get_template(page.template)
    text = template.render(**page.shown, **more, frame=frame, page=page, asked=asked, home=asked.home)
    return text.encode("utf-8", errors="replace")


def _segment(value: object) -> Markup:
    return escape(quote(str(value), safe="", errors="replace"))


def _query(values: Mapping[str, object]) -> Markup:
    return escape(urlencode(values, errors="replace", doseq=True))


def _number(*given: Any) -> Markup:
    return escape(formats.number(*given))


@cache
def templates() -> Environment:
    """All templates. They are compiled once in a process, for all its receivers, because this takes 0.2 s."""
    made: Any = Environment(
        loader=PackageLoader("voiceflow_worker.console"),
        autoescape=True,
        finalize=shown_in_page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "own": escape,  # a token of ours, which is no name of anything
        "segment": _segment,  # also one value of a query
        "query": _query,
        "moment": datetime.fromisoformat,
        "written": formats.moment,
        "with_labels": formats.with_labels,
        "ended": _ended,
        "result": _result,
        "answer": formats.answer_in_words,
        "sentence": sentence,
        "tone": tone_of,
        "grouped": _number,
        "pieces": pieces_of,
        "span": formats.span,
        "clock": _clock,
        "pairs": _pairs,
    }
    made.globals |= {
        "zone": formats.ZONE.get,
        "said_moment": partial(formats.moment, form="said"),
    }
    made.globals["ui"] = made.get_template("parts.html").module
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)  # read now, because later no file descriptor may be left
    return cast("Environment", made)


def _ended(job: Job) -> str:
    """How a call ended, in a few words: `no answer`, `busy (486)`, `completed, 35 s`."""
    status = job.outcome_status
    if status is None:
        return ending(job)
    return ending(job).replace(status.value, tone_of(status.value).label, 1)


def _result(job: Job) -> str:
    """The result of a call: `no answer`, or the name of an answer; empty while it is open."""
    result = result_of(job)
    if not isinstance(result, CallResult):
        return result
    return "" if result is CallResult.OPEN else result.replace("_", " ")


def _clock(seconds: float) -> str:
    """A number of seconds as hours, minutes and seconds: `12:03:45`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """The options of a choice: for each name, a pair of value and label, which are both the name."""
    return [(name, name) for name in names]
