"""Checks of menus before they are served, and of their texts against the data of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from re import fullmatch

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.caller import Text, in_language, one_line, render_template, specimens, template_of
from voiceflow_worker.ivr.menu import (
    END,
    Choice,
    End,
    GoTo,
    Menu,
    Retry,
    Step,
    is_step,
    language_of,
    menu_of,
    settings_of,
)
from voiceflow_worker.ivr.template_text import TemplateText, TemplateValueError
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.models import speech_problem
from voiceflow_worker.model.flows.values import language_in
from voiceflow_worker.model.jobs.call_json import is_result
from voiceflow_worker.model.text.wording import name_among


def reachable(roots: Sequence[Menu]) -> list[Menu]:
    """Return the roots and every menu that they lead to, each once."""
    found: dict[int, Menu] = {}
    waiting = list(reversed(roots))
    while waiting:
        menu = waiting.pop()
        if id(menu) not in found:
            found[id(menu)] = menu
            waiting += reversed([each for _, step, _ in _steps_of(menu) if (each := menu_of(step)) is not None])
    return list(found.values())


def _steps_of(menu: Menu) -> Iterator[tuple[str, Step, bool]]:
    """Yield the steps that a menu is declared to lead to, each with its keys, and True if a handler returns it."""
    actions = [(_label(choice), choice.action, choice.leads_to) for choice in menu.choices]
    actions += [] if menu.opening is None else [("at first", menu.opening, menu.leads_to)]
    actions += [] if menu.fallback is None else [("otherwise", menu.fallback, menu.leads_to)]
    for keys, action, leads_to in actions:
        if is_step(action):
            yield keys, action, False
        else:
            yield from ((keys, step, True) for step in leads_to or ())


def _label(choice: Choice) -> str:
    if choice.captured is None:
        return ", ".join(choice.keys)
    fewest, most = choice.captured.min_digits, choice.captured.max_digits
    return f"{fewest} digit{'s' * (fewest > 1)}" if fewest == most else f"{fewest}-{most} digits"


def check_menus(roots: Sequence[Menu], *, data: Mapping[str, object] | None = None) -> list[Finding]:
    """Return the errors and warnings about `roots` and the menus that they lead to. No handler runs.

    `data` is a job's data for the texts; by default, each name in a text has itself as its value. If it names no
    language, errors are looked for in each one in which all texts are.
    """
    findings = [
        _finding(name, f"{count} menus have this name: callers could get the wrong one; give each a name of its own")
        for name, count in Counter(menu.name for menu in reachable(roots)).items()
        if count > 1
    ]
    own = language_in(data or {})
    for root in roots:
        findings += _of_texts(root, own, data)
        for language in () if own else _languages(root):
            others = _of_texts(root, language, data) if _is_whole(root, language) else ()
            findings += [
                _finding(f"{each.path} in {language}", each.message) for each in others if each not in findings
            ]
        for menu in reachable([root]):
            findings += _of_steps(menu)
            if settings_of(menu, root).fallback is END and menu.fallback is root.fallback is None:
                name = "goodbye" if root.definition else "fallback"
                what = f"has no {name}: after silence, or when a handler fails, the call is hung up without a word"
                findings.append(Finding(path=menu.title, message=what, severity=Severity.WARNING))
    return sorted(dict.fromkeys(findings), key=lambda found: not found.is_error)


def _finding(path: str, message: str) -> Finding:
    return Finding(path=path, message=message)


def _of_texts(root: Menu, language: str | None, data: Mapping[str, object] | None) -> Iterator[Finding]:
    """Yield the errors in the texts of a menu and of those that it leads to, for calls in this language."""
    for menu in reachable([root]):
        if settings_of(menu, root).voice_profile is None:
            yield _finding(f"{menu.title} prompt", "has no voice: set voice_profile in this menu, or in the first one")
        if menu.asks and not menu.prompt:
            yield _finding(f"{menu.title} prompt", "is empty: callers would not know which keys to press")
    for place, text, voice in _templates(root, language):
        try:
            if isinstance(text, InvalidInputError):
                raise text
            row = specimens([text]) if data is None else data
            spoken = one_line(render_template(text, row, _voice_in(voice, row)))
        except InvalidInputError as error:
            yield _finding(place, str(error))
        else:
            if spoken and (problem := speech_problem(spoken)):
                yield _finding(place, problem)


def _of_steps(menu: Menu) -> Iterator[Finding]:
    """Yield the errors in the keys of a menu, and in what follows them."""
    title, keys = menu.title, [key for choice in menu.choices for key in choice.keys]
    if menu.asks and not menu.choices:
        yield _finding(title, "no key leads to a next step: add choices with on() or capture()")
    for key, count in Counter(keys).items():
        if not fullmatch("[0-9*#]{1,25}", key):
            yield _finding(f"{title} {key}", "is not a key of a phone: use 0-9, * and #")
        elif count > 1:
            yield _finding(f"{title} {key}", f"is declared {count} times: only the first declaration would be used")
    for choice in menu.choices:
        if is_result(choice.result):
            yield _finding(
                f"{title} {_label(choice)}",
                f"answer {choice.result!r}: reports use this word for what became of a call; give the answer another "
                f"name, such as {choice.result} by phone",
            )
    for keys_, step, _ in _steps_of(menu):
        if isinstance(step, CallFlow):
            if not step.is_reply:
                yield _finding(f"{title} {keys_}", "is a CallFlow.call(…): use CallFlow.bridge(…) to connect somebody")
            yield from (_finding(f"{title} {keys_}", each.message) for each in step.problems() if each.is_error)


# -- the texts of a menu, for lists of calls ---------------------------------------------------------------------------


def _texts_of(menu: Menu, first: Menu) -> Iterator[tuple[str, Text]]:
    """Yield the declared texts of a menu with their names. A text from a handler is spoken unchanged."""
    settings = settings_of(menu, first)
    texts: list[tuple[str, Text | None]] = [
        ("voice_profile", settings.voice_profile), ("retry_text", settings.retry_text), ("prompt", menu.prompt),
    ]  # fmt: skip
    for keys, step, is_returned in _steps_of(menu):
        if isinstance(step, str | GoTo | End | Retry) and not is_returned:
            texts.append((keys, step if isinstance(step, str) else step.text))
    yield from ((name, text) for name, text in texts if text)


def _languages(root: Menu) -> list[str]:
    """Return the languages of the texts of a menu and of those that it leads to."""
    texts = [text for menu in reachable([root]) for _, text in _texts_of(menu, root)]
    named = {language for text in texts if isinstance(text, Mapping) for language in text}
    return sorted(named | {each for each in (root.language,) if each is not None})


def _is_whole(root: Menu, language: str) -> bool:
    """Return True if all texts are there in a language."""
    return all(isinstance(text, str) for _, text, _ in _templates(root, language))


def _templates(root: Menu, language: str | None) -> Iterator[tuple[str, str | InvalidInputError, str | None]]:
    """Yield the texts for calls in this language: the place, the template or why there is none, and the voice."""
    for menu in reachable([root]):
        spoken = language_of(menu, root, {"language": language})
        texts: dict[str, str | InvalidInputError] = {}
        for name, text in _texts_of(menu, root):
            try:
                texts[name] = text if isinstance(text, str) else in_language(text, spoken)
            except InvalidInputError as error:
                texts[name] = error
        voice = texts.get("voice_profile")
        yield from (
            (f"{menu.title} {name}", text, voice if isinstance(voice, str) else None) for name, text in texts.items()
        )


def _voice_in(voice: str | None, data: Mapping[str, object]) -> str:
    """Return the voice of a text; English in place of one that depends on the call."""
    with suppress(InvalidInputError):
        return "en" if voice is None else render_template(voice, data)
    return "en"


class MenuTexts:
    """All texts of a menu and of the menus that it leads to, to be checked against the data of calls.

    `names` are those of all values in the texts. Raises InvalidInputError if a text is malformed, or not there in the
    `language`.
    """

    def __init__(self, menu: Menu, language: str | None = None) -> None:
        self.name: str = menu.name
        self.definition: str = menu.definition
        self._in_language: dict[str, MenuTexts | InvalidInputError] = {}
        """The texts in each language, or why they are not all there in it."""
        for each in _languages(menu) if language is None else ():
            try:
                self._in_language[each] = MenuTexts(menu, each)
            except InvalidInputError as error:
                self._in_language[each] = error
        self._texts: dict[tuple[str, str | None], tuple[str, TemplateText | str, bool]] = {}
        """The place of each text with its voice, its template, and True if it comes after the first question."""
        for place, text, voice in _templates(menu, language):
            if isinstance(text, str):
                is_later = place != f"{menu.title} prompt" and not place.endswith((" voice_profile", " retry_text"))
                self._texts.setdefault((text, voice), (place, template_of(text), is_later))
            elif language is not None:
                raise InvalidInputError(f"{place}: {text}")
        templates = [value for _, value, _ in self._texts.values() if not isinstance(value, str)]
        self.names: frozenset[str] = frozenset(name for value in templates for name in value.variables)
        self.plain: frozenset[str] = frozenset(name for value in templates for name in value.plain)
        """The names of the values that texts speak as they are."""

    @property
    def languages(self) -> Sequence[str]:
        """Languages in which all texts are."""
        return [name for name, texts in self._in_language.items() if isinstance(texts, MenuTexts)]

    def spoken_in(self, language: str) -> MenuTexts:
        """Return the texts in this language, or all if no text names one. Raises InvalidInputError."""
        found = in_language(self._in_language, language) if self._in_language else self
        if isinstance(found, InvalidInputError):
            raise found
        return found

    def later(self, data: Mapping[str, object]) -> list[tuple[str, str]]:
        """Return the texts after the first question as they are spoken with this data, each with its menu and key."""
        return [
            (place, render_template(text, data, _voice_in(voice, data)))
            for (text, voice), (place, _, is_later) in self._texts.items()
            if is_later
        ]

    def problems(self, data: Mapping[str, object]) -> list[tuple[str | None, str, bool]]:
        """Return why texts cannot be spoken with this data: a value's name, a clause, and True if it is missing."""
        found: list[tuple[str | None, str, bool]] = []
        for (_, voice), (place, value, is_later) in self._texts.items():
            if isinstance(value, str):
                continue
            try:
                spoken = one_line(str(value.filled({**data, "voice_profile": _voice_in(voice, data)})))
            except TemplateValueError as error:
                name = name_among(data, error.column or "")
                why = error.message if not error.is_missing else f"is needed by a text of the menu ({place})"
                if error.is_missing and name in data:
                    or_else = f"fill it in, or write {{{{ {name} or 'something' }}}}"
                    why = f"is empty, but a text of the menu needs it ({place}); {or_else}"
                found.append((error.column, why, error.is_missing))
            else:
                if is_later and spoken and (unspoken := speech_problem(spoken)):
                    found.append((value.only_variable, f"{unspoken} ({place})", False))
        return found
