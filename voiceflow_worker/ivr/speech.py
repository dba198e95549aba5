"""Texts of menus, and their wording for one caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, TypeAlias

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller

Text: TypeAlias = str | Mapping[str, str] | Callable[[Caller], str]
"""One of three: a text, in which `{name}` stands for a value of the job's data; a mapping from languages to such texts;
or a function that takes the caller and returns the text to speak."""

_BLANKS = re.compile(r"\s+")
_SENTENCE_ENDS = (".", "!", "?", ":", ",", ";", "…", "。", "！", "？", "।")  # noqa: RUF001 - of other scripts too


class _Template(Formatter):
    """A formatter for `{name}` alone. It refuses attributes and items of values, which could reveal program state."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:  # noqa: ARG002
        if field_name not in kwargs:
            has = f"the data of the call has only {', '.join(map(str, kwargs))}" if kwargs else "the call has no data"
            raise InvalidInputError(f"{{{field_name}}} has no value, because {has}")
        value: object = kwargs[field_name]
        return ("" if value is None else value), field_name


_TEMPLATE = _Template()


def spoken(text: Text, caller: Caller) -> str:
    """A declared text for one caller: in the menu's language, with `{name}` filled in from the job's data.

    Raises InvalidInputError if a value or the language is missing. If the text is a function, its errors are passed on.
    """
    if callable(text):
        return _tidy(text(caller))
    if isinstance(text, Mapping):
        text = _in_language(text, caller.language)
    return _tidy(filled(text, caller.data))


def literal(text: Text, caller: Caller) -> str:
    """A text that a handler returned, unchanged: curly brackets in it are data, not placeholders."""
    if callable(text):
        text = text(caller)
    return _tidy(_in_language(text, caller.language) if isinstance(text, Mapping) else text)


def filled(template: str, data: Mapping[str, object]) -> str:
    """A template with its values filled in. Raises InvalidInputError for a missing value or a malformed template."""
    if "{" not in template and "}" not in template:
        return template
    try:
        return _TEMPLATE.vformat(template, (), data)
    except (ValueError, IndexError, KeyError) as error:
        raise InvalidInputError(
            f"{template[:60]!r} is not a valid template; write {{name}} for a value, {{{{ for {{, and }}}} for }}"
        ) from error


def joined(before: str, text: str) -> str:
    """Two texts as one, the first as a sentence of its own."""
    if not before or not text:
        return before or text
    return f"{before} {text}" if before.endswith(_SENTENCE_ENDS) else f"{before}. {text}"


def names_in(text: Text) -> frozenset[str]:
    """The names of the values that a text needs; none for a function, whose needs are unknown."""
    if callable(text):
        return frozenset()
    texts = text.values() if isinstance(text, Mapping) else (text,)
    return frozenset(name for each in texts for _, name, _, _ in _TEMPLATE.parse(each) if name is not None)


def _in_language(texts: Mapping[str, str], language: str | None) -> str:
    found = texts.get(language or "")
    if found is None and language is not None:
        found = texts.get(language.partition("-")[0])
    if found is None:
        raise InvalidInputError(
            f"there is no text for the language {language!r}, only for {', '.join(texts) or 'none'}; add it, or set "
            "the menu's language"
        )
    return found


def _tidy(text: str) -> str:
    """The text on one line, without the line breaks and indents of the source code."""
    return _BLANKS.sub(" ", text).strip()
