"""Call flow templates, with `{{column}}` in their texts: compiled once, filled in for each row.

The JSON is parsed first, and each string in it is a Jinja template. Therefore quotes in a cell cannot change the JSON.
The templates run in the sandbox of Jinja.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from voiceflow_worker.campaigns.calls.body import FIRST_CALL, complete
from voiceflow_worker.campaigns.lists.input_file import LARGEST_DOCUMENT, InputFile, read_text
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.template_text import (
    LEFT_OUT,
    TemplateSyntaxError,
    TemplateText,
    TemplateValueError,
    is_template,
    require_filled_in,
)
from voiceflow_worker.model.flows.actions import Action, Param, ParamKind, read_actions
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.models import PARAMS
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.text.json_text import read_json

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu

PLACEHOLDER = "+6587654321"
"""A number in place of the real one, while the other parts of a body are checked."""

MOST_TEXTS = 200
"""The most texts with names in a template: each takes about a millisecond to compile."""


@dataclass(frozen=True, slots=True)
class _Varying:
    """A part of a template with texts in it. All other parts are the same in every row, and are not copied."""

    node: Mapping[str, object] | Sequence[object]


class _Open(NamedTuple):
    """The place of a text with names among all of them."""

    place: int


class FlowTemplate:
    """A compiled call flow template. `load`, `parse` and `speaking` make one."""

    def __init__(self, body: Mapping[str, object], *, name: str) -> None:
        self.name = name
        self.languages: Mapping[str, FlowTemplate] = {}
        """The same template in each language that it has; empty if it has one, or nothing says which."""
        self.findings: tuple[Finding, ...] = ()
        """Warnings about the constant parts of the template, reported once for the file."""
        self._texts: list[TemplateText] = []
        self.asks: bool = any(action is Action.SAY_AND_CAPTURE for action, _ in read_actions(body))
        """Whether it asks a question, whose keys a menu takes."""
        self._tree: Mapping[str, Any] = {key: self._compiled(item, f"$.{key}", None, {}) for key, item in body.items()}
        self.variables: frozenset[str] = frozenset(name for text in self._texts for name in text.variables)
        """The names of all variables that the template uses."""
        self.is_computed: bool = any(text.computed for text in self._texts)
        """Whether filters or comparisons read values in its texts."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the template in a file; comments and trailing commas are accepted.

        Raises CampaignFileError if the file cannot be read, a text cannot be compiled, or a constant part breaks the
        rules of the 8x8 contract. The findings of the error name every place.
        """
        text = read_text(
            InputFile(path),
            most_bytes=LARGEST_DOCUMENT,
            what="a template",
            remedy="give the file of the call flow, not the file of the rows",
        )
        try:
            body = read_json(text)
        except ValueError as error:
            raise CampaignFileError(f"{path} {error}") from None
        return cls.parse(body, name=str(path))

    @classmethod
    def speaking(cls, text: str) -> Self:
        """Return the template that speaks a text and hangs up. Raises CampaignFileError for a wrong text."""
        flow: list[dict[str, object]] = [
            {"action": Action.MAKE_CALL.value},
            {"action": Action.SAY.value, "params": {"text": text}},
            {"action": Action.HANGUP.value},
        ]
        return cls.parse({"callflow": flow}, name="the text to say")

    @classmethod
    def parse(cls, body: object, *, name: str) -> Self:
        """Return the template in a JSON value; its `name` is for findings. Raises CampaignFileError as `load` does."""
        if not is_object(body):
            raise CampaignFileError(f"{name} holds {describe(body)}, not a call flow; write an object with a callflow")
        try:
            template = cls(body, name=name)
        except TemplateSyntaxError as error:
            found = Finding(message=str(error), path=error.path, file=name)
            raise CampaignFileError(f"{name}: {error.path} {error}", [found]) from None
        fixed = template.constant_problems(body)
        errors = [found for found in fixed if found.is_error]
        if errors:
            lines = "; ".join(f"{found.path} {found.message}" for found in errors)
            raise CampaignFileError(f"{name} is not a call flow that 8x8 accepts: {lines}", errors)
        template.findings = tuple(fixed)
        return template

    def spoken_in(self, language: str) -> FlowTemplate:
        """Return the template in this language. Raises InvalidInputError if it has other languages alone."""
        from voiceflow_worker.ivr.caller import in_language

        return in_language(self.languages, language) if self.languages else self

    @property
    def texts(self) -> Collection[TemplateText]:
        """Texts with variables, in the order of the body."""
        return self._texts

    @property
    def plain(self) -> frozenset[str]:
        """Names of the variables that a text speaks as they are."""
        return frozenset(name for text in self._texts if text.is_spoken for name in text.plain)

    def column_of(self, path: str | None) -> str | None:
        """Return the only variable at a path of the body; None if there is none, or more than one."""
        # Two texts may have the same path, because a key may contain a dot.
        names = {name for text in self._texts if text.path == path for name in text.variables}
        return names.pop() if len(names) == 1 else None

    def fill(self, values: Mapping[str, object]) -> tuple[Sequence[object], Sequence[TemplateValueError]]:
        """Return what the texts become with a row's values, in their order, and what is wrong with them.

        Empty texts and null count as missing. An optional parameter is left out if its text is a single variable that
        is missing or empty. Texts for numbers and booleans are converted.
        """
        problems: list[TemplateValueError] = []
        found: list[object] = []
        for text in self._texts:
            try:
                found.append(text.filled(values))
            except TemplateValueError as error:
                problems.append(error)
                found.append(text.text)
        return found, problems

    def body_of(self, values: Sequence[object]) -> dict[str, Any]:
        """Return the call flow whose texts have become these values."""
        body: dict[str, Any] = _filled(_Varying(self._tree), values)
        return body

    def constant_problems(self, body: Mapping[str, object]) -> list[Finding]:
        """Return the problems of the template's constant parts."""
        # Rows and options fill in the number, the source and the voice.
        specimen = dict(body)
        complete(specimen, destination=PLACEHOLDER, source=PLACEHOLDER, voice_profile="any")
        filled_in = {*(text.path for text in self._texts), f"{FIRST_CALL}.source", f"{FIRST_CALL}.destination"}
        return [replace(found, file=self.name) for found in find_problems(specimen) if found.path not in filled_in]

    def _compiled(
        self, value: object, path: str, param: Param | None, params: Mapping[str, Param], voice: object = None
    ) -> Any:
        """Return the value with its texts compiled.

        `param` describes the value, `params` the values under its keys. `voice` is the voiceProfile beside the value.
        """
        if isinstance(value, str) and param is not None and param.kind is ParamKind.SPEECH:
            require_filled_in(value, path=path)
        if isinstance(value, str) and is_template(value):
            if len(self._texts) == MOST_TEXTS:
                raise TemplateSyntaxError(
                    f"is one text with names too many: a call flow may have {MOST_TEXTS}; join some of them", path=path
                )
            text = TemplateText(value, path=path, param=param, voice=voice if isinstance(voice, str) else None)
            self._texts.append(text)
            return _Open(len(self._texts) - 1)
        before = len(self._texts)
        if is_list(value):
            items = [self._compiled(item, f"{path}[{index}]", None, {}) for index, item in enumerate(value)]
            return items if len(self._texts) == before else _Varying(items)
        if not is_object(value):
            return value
        inner = _params_of(value)
        made = {
            key: self._compiled(
                item, f"{path}.{key}", params.get(key), inner if key == "params" else {}, value.get("voiceProfile")
            )
            for key, item in value.items()
        }
        return made if len(self._texts) == before else _Varying(made)


def _filled(value: object, values: Sequence[object]) -> Any:
    if isinstance(value, _Open):
        return values[value.place]
    if not isinstance(value, _Varying):
        return value
    if not isinstance(value.node, Mapping):
        return [_filled(item, values) for item in value.node]
    pairs = [(key, _filled(item, values)) for key, item in value.node.items()]
    return {key: item for key, item in pairs if item is not LEFT_OUT}


def _params_of(entry: Mapping[str, object]) -> Mapping[str, Param]:
    name = entry.get("action")
    return PARAMS[Action(name)] if isinstance(name, str) and name in set(Action) else {}


def opening_template(menu: Menu, *, say: str = "") -> FlowTemplate:
    """Return the template of a call that begins with this menu, in its language and in the others that its texts have.

    The text `say` is spoken before the menu's question. Raises InvalidInputError if the menu has no voice, and
    CampaignFileError if a text cannot be compiled.
    """
    from voiceflow_worker.ivr.check import check_menus

    template = _opening(menu, menu.language, say)
    texts = [text for text in (menu.prompt, menu.voice_profile) if isinstance(text, Mapping)]
    names = frozenset(language for text in texts for language in text)
    there = [name for name in names if all(_is_there(text, name) for text in texts)]
    template.languages = {name: _opening(menu, name, say) for name in there}
    if menu.definition:  # menus in code are checked where they are written
        warnings = [found for found in check_menus([menu]) if not found.is_error]
        template.findings = (*template.findings, *(replace(found, file=f"menu {menu.title}") for found in warnings))
    return template


def _is_there(text: Mapping[str, str], language: str) -> bool:
    return not {language, language.partition("-")[0]}.isdisjoint(text)


def _opening(menu: Menu, language: str | None, say: str) -> FlowTemplate:
    from voiceflow_worker.ivr.caller import in_language, one_line
    from voiceflow_worker.ivr.menu import settings_of

    settings = settings_of(menu, menu)
    if settings.voice_profile is None:
        raise InvalidInputError(f"menu {menu.name} has no voice: set voice_profile in this menu")
    prompt, voice = (
        one_line(text if isinstance(text, str) else in_language(text, language))
        for text in (menu.prompt, settings.voice_profile)
    )
    call = CallFlow.call(PLACEHOLDER, source=PLACEHOLDER)
    body = menu.question(call, prompt, settings, voice_profile=voice, before=one_line(say)).to_body()
    # Each row has its own destination; the source comes from the row or the options.
    body["callflow"][0] = {"action": Action.MAKE_CALL.value}
    return FlowTemplate.parse(body, name=f"menu {menu.name}")
