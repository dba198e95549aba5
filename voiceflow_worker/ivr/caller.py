"""The caller, as handlers get it: its place in the menus, its data, and the texts that it hears."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Self, TypeAlias, TypeVar

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.speech_filters import ZONE, SpecimenText
from voiceflow_worker.ivr.template_text import (
    TemplateSyntaxError,
    TemplateText,
    TemplateValueError,
    is_template,
    require_filled_in,
)
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.models import PARAMS
from voiceflow_worker.model.jobs.job import Job, KeyPress
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.times import PersonZone

LONGEST = 200
"""The most characters of a written position. 8x8 documents no limit; its other ids have 50."""

_VERSION = "vf1"
_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
NAME = re.compile(_NAME)
_WRITTEN = re.compile(rf"{_VERSION}\.((?:{_NAME})(?:/{_NAME})*)\.(\d{{1,3}})\.(\d{{1,3}})\.([qse])", re.ASCII)


class CallPhase(Enum):
    """The state of a call after the last answer."""

    ASKED = "q"
    STEPPING = "s"
    """A text or recording comes before the question, so an event without keys may only mean that it is over."""
    ENDED = "e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of a caller. `path` has the menus from the first one to the menu that asked.

    `tries` counts the invalid answers to the last question, `asked` the questions of the whole call.
    """

    path: tuple[str, ...]
    tries: int = 0
    asked: int = 0
    phase: CallPhase = CallPhase.ASKED

    def write(self) -> str:
        """Return the position as a text: version, path, counts and phase. Nothing about the person is in it.

        Of a path that is too long, the first menu and the last ones are kept.
        """
        room = LONGEST - len(f"{_VERSION}..999.999.q")
        first, *rest = self.path
        while rest and len("/".join((first, *rest))) > room:
            rest.pop(0)
        path = "/".join((first, *rest))
        return f"{_VERSION}.{path}.{min(self.tries, 999)}.{min(self.asked, 999)}.{self.phase.value}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the position in a text; None for a text of others, or of another version."""
        match = _WRITTEN.fullmatch(text) if len(text) <= 2 * LONGEST else None
        if match is None:
            return None
        return cls(path=tuple(match[1].split("/")), tries=int(match[2]), asked=int(match[3]), phase=CallPhase(match[4]))


_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The person on the phone, at one moment of a call.

    `digits` are the keys just pressed at `menu`. `number` is the person's number and `our_number` the account's. `data`
    is that of the job. `presses` are the keys pressed earlier; those of secret menus are `***`. `store` is the
    receiver's, or the one given to a simulated call.
    """

    now: datetime
    digits: str = ""
    menu: str = ""
    number: str | None = None
    our_number: str | None = None
    is_inbound: bool = False
    data: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    presses: tuple[KeyPress, ...] = ()
    language: str | None = None
    session_id: str | None = None
    event_id: str | None = None
    job: Job | None = None
    store: Store | None = field(default=None, repr=False, compare=False)
    policy: CallPolicy | None = field(default=None, repr=False, compare=False)
    """The policy of the workers."""

    @property
    def job_id(self) -> str | None:
        """Id of the job that made this call, if the job is in this store."""
        return None if self.job is None else self.job.id

    @property
    def person(self) -> PersonZone:
        """Time zone in which the person hears times: that of the job, else of the number."""
        own = None if self.job is None else self.job.time_zone
        return PersonZone(own, () if self.number is None else (self.number,))

    def pressed(self, menu: str) -> str | None:
        """Return the last keys pressed at this menu, earlier in this call; None if there were none."""
        return next((press.digits for press in reversed(self.presses) if press.menu == menu), None)


T = TypeVar("T")
Text: TypeAlias = str | Mapping[str, str]
"""A template with `{{name}}` for a value of the job's data, or templates by the codes of languages."""

_BLANKS = re.compile(r"\s+")
_SENTENCE_ENDS = (".", "!", "?", ":", ",", ";", "…", "。", "！", "？", "।")  # noqa: RUF001 - of other scripts too


def render(text: Text, caller: Caller, voice: str | None = None) -> str:
    """Return a declared text for one caller, in the menu's language and filled in from the job's data.

    Raises InvalidInputError if a value or the language is missing.
    """
    if isinstance(text, Mapping):
        text = in_language(text, caller.language)
    return one_line(render_template(text, {**caller.data, ZONE: caller.person}, voice))


def as_returned(text: Text, caller: Caller, voice: str | None = None) -> str:  # noqa: ARG001 - used as `render` is
    """Return a text that a handler returned, unchanged: curly brackets in it are data."""
    return one_line(in_language(text, caller.language) if isinstance(text, Mapping) else text)


def render_template(template: str, data: Mapping[str, object], voice: str | None = None) -> str:
    """Return a template with its values filled in; a plain `{{name}}` whose value is empty is left out.

    `data` may have a `ZONE`, in which times are spoken that have one of their own. Raises InvalidInputError.
    """
    text = template_of(template)
    if isinstance(text, str):
        return text
    try:
        return str(text.filled({**data, "voice_profile": voice} if voice else data, leaves_out_empty=True))
    except TemplateValueError as error:
        if not error.is_missing:
            raise InvalidInputError(str(error)) from None
        names = ", ".join(str(name) for name in data if name != ZONE)
        has = f"the data of the call has only {names}" if names else "the call has no data"
        raise InvalidInputError(f"{{{{{error.column}}}}} has no value, because {has}") from None


@lru_cache(maxsize=1024)
def template_of(text: str) -> TemplateText | str:
    """Return the template in a text; the text itself if it has no names. Raises InvalidInputError."""
    try:
        require_filled_in(text)
        return TemplateText(text, path="", param=PARAMS[Action.SAY]["text"]) if is_template(text) else text
    except TemplateSyntaxError as error:
        raise InvalidInputError(f"{text[:60]!r} {error}") from None


def join_sentences(before: str, text: str) -> str:
    """Return two texts as one, the first as a sentence of its own."""
    if not before or not text:
        return before or text
    return f"{before} {text}" if before.endswith(_SENTENCE_ENDS) else f"{before}. {text}"


def specimens(texts: Sequence[Text]) -> dict[str, SpecimenText]:
    """Return a stand-in for each value that these texts need. Raises InvalidInputError for a malformed text."""
    templates = [one for text in texts for one in (text.values() if isinstance(text, Mapping) else (text,))]
    values = [found for found in map(template_of, templates) if not isinstance(found, str)]
    # A filter for numbers takes a number only.
    return {name: SpecimenText("1" if name in found.computed else name) for found in values for name in found.variables}


def in_language(texts: Mapping[str, T], language: str | None) -> T:
    """Return the text for the code of a language, such as `en-GB`, else for `en`. Raises InvalidInputError."""
    known = {name.casefold(): text for name, text in texts.items()}
    wanted = (language or "").strip().casefold().replace("_", "-")
    found = known.get(wanted, known.get(wanted.partition("-")[0]))
    if found is None:
        raise InvalidInputError(
            f"there is no text for the language {language!r}, only for {', '.join(texts) or 'none'}; add it, or set "
            "the menu's language"
        )
    return found


def one_line(text: str) -> str:
    """Return the text on one line, without the line breaks of the source code."""
    return _BLANKS.sub(" ", text).strip()
