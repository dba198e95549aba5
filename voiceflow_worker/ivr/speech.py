"""Texts of menus, and their wording for one caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias, TypeVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.speech_filters import ZONE, SpecimenText
from voiceflow_worker.ivr.template_text import (
    TemplateSyntaxProblemError,
    TemplateText,
    UnfitValueError,
    is_template,
    require_filled_in,
)
from voiceflow_worker.model.text.names_of_the_world import languages_called

T = TypeVar("T")
Text: TypeAlias = str | Mapping[str, str] | Callable[[Caller], str]
"""One of three: a template, in which `{{name}}` stands for a value of the job's data, as in campaigns; a mapping from
languages to such templates; or a function that takes the caller and returns the text to speak."""

_BLANKS = re.compile(r"\s+")
_SENTENCE_ENDS = (".", "!", "?", ":", ",", ";", "…", "。", "！", "？", "।")  # noqa: RUF001 - of other scripts too


def spoken(text: Text, caller: Caller, voice: Callable[[Caller], str] | None = None) -> str:
    """A declared text for one caller: in the menu's language, with `{{name}}` filled in from the job's data.

    Filters write values in the language of the voice that `voice` returns. Raises InvalidInputError if a value or the
    language is missing. If the text is a function, its errors are passed on.
    """
    if callable(text):
        return _tidy(text(caller))
    if isinstance(text, Mapping):
        text = in_language(text, caller.language)
    data = {**caller.data, ZONE: caller.person}
    return _tidy(filled(text, data, None if voice is None else lambda: voice(caller)))


def literal(text: Text, caller: Caller, voice: Callable[[Caller], str] | None = None) -> str:  # noqa: ARG001
    """A text that a handler returned, unchanged: curly brackets in it are data, not placeholders."""
    if callable(text):
        text = text(caller)
    return _tidy(in_language(text, caller.language) if isinstance(text, Mapping) else text)


def filled(template: str, data: Mapping[str, object], voice: Callable[[], str] | None = None) -> str:
    """A template with its values filled in; a plain `{{name}}` whose value is empty is left out.

    `data` may have a `ZONE`, in which times are spoken that have one of their own. Raises InvalidInputError for a
    missing value, a value that a filter cannot use, a malformed template, and a text that is too long to be spoken.
    """
    text = template_of(template)
    if isinstance(text, str):
        return text
    given = {**data, "voice_profile": voice()} if voice is not None and text.filtered else data
    try:
        return str(text.filled(given, leaves_out_empty=True))
    except UnfitValueError as error:
        missing = [f"{{{{{problem.column}}}}}" for problem in error.problems if problem.is_missing]
        if not missing:
            raise InvalidInputError(str(error)) from None
        names = ", ".join(str(name) for name in data if name != ZONE)
        has = f"the data of the call has only {names}" if names else "the call has no data"
        raise InvalidInputError(f"{', '.join(missing)} has no value, because {has}") from None


@lru_cache(maxsize=1024)
def template_of(text: str) -> TemplateText | str:
    """The template in a text; the text itself if it has no names. Raises InvalidInputError for a malformed template."""
    try:
        require_filled_in(text)
        return TemplateText(text, path="", param=None) if is_template(text) else text
    except TemplateSyntaxProblemError as error:
        raise InvalidInputError(f"{text[:60]!r} {error}") from None


def joined(before: str, text: str) -> str:
    """Two texts as one, the first as a sentence of its own."""
    if not before or not text:
        return before or text
    return f"{before} {text}" if before.endswith(_SENTENCE_ENDS) else f"{before}. {text}"


def specimens(text: Text) -> dict[str, SpecimenText]:
    """A stand-in for each value that a text needs; none for a function, whose needs are unknown."""
    if callable(text):
        return {}
    texts = map(template_of, text.values() if isinstance(text, Mapping) else (text,))
    values = [each for each in texts if not isinstance(each, str)]
    # A filter for numbers takes a number only.
    return {name: SpecimenText("1" if name in each.filtered else name) for each in values for name in each.variables}


def in_language(texts: Mapping[str, T], language: str | None) -> T:
    """The text for a language, such as `en-GB`, else for `en`; or by its name in any language, such as Indonesian.

    Raises InvalidInputError if there is none.
    """
    known = {name.casefold(): text for name, text in texts.items()}
    wanted = (language or "").strip().casefold().replace("_", "-")
    found = known.get(wanted, known.get(wanted.partition("-")[0]))
    if found is None and not (len(wanted) < 3 and wanted.isascii()):
        found = known.get(_language_called(wanted, frozenset(known)) or "")
    if found is None:
        raise InvalidInputError(
            f"there is no text for the language {language!r}, only for {', '.join(texts) or 'none'}; add it, or set "
            "the menu's language"
        )
    return found


@lru_cache(maxsize=1000)
def _language_called(name: str, known: frozenset[str]) -> str | None:
    """That of the known languages which has this name."""
    return next((code for code in languages_called(name) if code in known), None)


def _tidy(text: str) -> str:
    """The text on one line, without the line breaks and indents of the source code."""
    return _BLANKS.sub(" ", text).strip()
