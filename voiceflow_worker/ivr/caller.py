"""The caller, the argument of handlers: its place in the menus, its bridges, and the texts that it hears."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Self, TypeAlias, TypeVar

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.speech_filters import ZONE, SpecimenText
from voiceflow_worker.ivr.template_text import (
    TemplateSyntaxProblemError,
    TemplateText,
    UnfitValueError,
    is_template,
    require_filled_in,
)
from voiceflow_worker.model.flows.actions import PARAMS, Action
from voiceflow_worker.model.jobs.job import Job, KeyPress
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.events import CallAction
from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status
from voiceflow_worker.model.text.names_of_the_world import language_called
from voiceflow_worker.model.times import PersonZone
from voiceflow_worker.model.zones import require_zone

# SIP responses of RFC 3261 §21.
_BUSY = frozenset({486, 600})
_NO_ANSWER = frozenset({408, 480, 487})


class BridgeResult(StrEnum):
    """The result of calling the other party."""

    DONE = "done"
    """The party was reached. This is also the result if the event reports no failure."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    """The party could not be called."""


def bridge_result(event: CallAction) -> BridgeResult:
    """The result that an event after a bridge reports, by its status, else by its SIP code."""
    match fold_session_status(event.status_text):
        case SessionStatus.BUSY:
            return BridgeResult.BUSY
        case SessionStatus.NO_ANSWER | SessionStatus.CANCELED:
            return BridgeResult.NO_ANSWER
        case SessionStatus.FAILED | SessionStatus.ERROR:
            return BridgeResult.FAILED
        case _:
            pass
    code = event.sip_code
    if code is None or code < 400:
        return BridgeResult.DONE
    if code in _BUSY:
        return BridgeResult.BUSY
    return BridgeResult.NO_ANSWER if code in _NO_ANSWER else BridgeResult.FAILED


LONGEST = 200
"""The most characters of a written position. 8x8 documents no limit; its other ids have 50."""

_VERSION = "vf1"
_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
NAME = re.compile(_NAME)
_WRITTEN = re.compile(
    rf"{_VERSION}\.((?:{_NAME})(?:/{_NAME})*)\.(\d{{1,3}})\.(\d{{1,3}})\.([qsbe])\.([0-9a-f]{{8}})", re.ASCII
)


class CallPhase(Enum):
    """The state of a call after the last answer."""

    ASKED = "q"
    STEPPING = "s"
    """A text or recording comes before the question, so an event without keys may only mean that it is over."""
    BRIDGED = "b"
    """Another party was called."""
    ENDED = "e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of a caller. `path` has the names of the menus from the first one to the menu that asked.

    `tries` counts the invalid answers to the last question, `asked` the questions of the whole call.
    """

    path: tuple[str, ...]
    tries: int = 0
    asked: int = 0
    phase: CallPhase = CallPhase.ASKED

    def write(self) -> str:
        """The position as a text: version, path, counts, phase, a checksum. It contains nothing about the person."""
        path = _within(self.path)
        content = f"{_VERSION}.{'/'.join(path)}.{min(self.tries, 999)}.{min(self.asked, 999)}.{self.phase.value}"
        return f"{content}.{_checksum(content)}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The position in a text; None for a foreign or changed text, and for one of another version."""
        match = _WRITTEN.fullmatch(text) if len(text) <= 2 * LONGEST else None
        if match is None or _checksum(text[: match.start(5) - 1]) != match[5]:
            return None
        return cls(path=tuple(match[1].split("/")), tries=int(match[2]), asked=int(match[3]), phase=CallPhase(match[4]))


def _within(path: Sequence[str]) -> Sequence[str]:
    """The path, cut so that the text fits: the first menu and the last ones. Settings of the others are lost."""
    room = LONGEST - len(f"{_VERSION}..999.999.q.{'0' * 8}")
    first, *rest = path
    while rest and len("/".join((first, *rest))) > room:
        rest.pop(0)
    return (first, *rest)


def _checksum(content: str) -> str:
    # Protects against accidents and foreign ids only. Events are authenticated before, by their header.
    return hashlib.blake2s(content.encode(), digest_size=4, person=b"vf-ivr").hexdigest()


_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The person on the phone, at one moment of a call.

    `digits` are the keys just pressed, `menu` is the name of the menu that asked. `number` is the person's number and
    `our_number` the account's, in E.164 form with +, for calls in either direction. `data` is the data of the job,
    empty for calls that this store did not make. `presses` are the keys pressed earlier in this call; those of secret
    menus are `***`. `bridge` is the result of a bridge that has just ended. `store` is the receiver's store; in a
    rehearsal, it is the store of the rehearsal or None.
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
    bridge: BridgeResult | None = None
    store: Store | None = field(default=None, repr=False, compare=False)
    policy: CallPolicy | None = field(default=None, repr=False, compare=False)
    """The policy of the workers."""

    @property
    def job_id(self) -> str | None:
        """The id of the job that made this call, if the job is in this store."""
        return None if self.job is None else self.job.id

    @property
    def person(self) -> PersonZone:
        """The time zone in which the person hears times: that of the job, else of the number."""
        own = None if self.job is None else self.job.time_zone
        return PersonZone(own, () if self.number is None else (self.number,))

    def pressed(self, menu: str) -> str | None:
        """The last keys pressed at this menu, earlier in this call; None if there were none."""
        return next((press.digits for press in reversed(self.presses) if press.menu == menu), None)

    def local_time(self, zone: str) -> datetime:
        """The time now in a zone such as `Asia/Singapore`. Raises ZoneInfoNotFoundError for an unknown zone."""
        return self.now.astimezone(require_zone(zone))


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
        return tidy(text(caller))
    if isinstance(text, Mapping):
        text = in_language(text, caller.language)
    data = {**caller.data, ZONE: caller.person}
    return tidy(filled(text, data, None if voice is None else lambda: voice(caller)))


def literal(text: Text, caller: Caller, voice: Callable[[Caller], str] | None = None) -> str:  # noqa: ARG001
    """A text that a handler returned, unchanged: curly brackets in it are data, not placeholders."""
    if callable(text):
        text = text(caller)
    return tidy(in_language(text, caller.language) if isinstance(text, Mapping) else text)


def filled(template: str, data: Mapping[str, object], voice: Callable[[], str] | None = None) -> str:
    """A template with its values filled in; a plain `{{name}}` whose value is empty is left out.

    `data` may have a `ZONE`, in which times are spoken that have one of their own. Raises InvalidInputError for a
    missing value, a value that a filter cannot use, a malformed template, and a text that is too long to be spoken.
    """
    text = template_of(template)
    if isinstance(text, str):
        return text
    needs_voice = text.filtered or any(
        isinstance(each, float) or (isinstance(each, str) and each[:1] in {"-", "\u2212"}) for each in data.values()
    )
    given = {**data, "voice_profile": voice()} if voice is not None and needs_voice else data
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
        return TemplateText(text, path="", param=PARAMS[Action.SAY]["text"]) if is_template(text) else text
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
    """The text for a language, such as `en-GB`, else for `en`; or by its English name, such as Indonesian.

    Raises InvalidInputError if there is none.
    """
    known = {name.casefold(): text for name, text in texts.items()}
    wanted = (language or "").strip().casefold().replace("_", "-")
    found = known.get(wanted, known.get(wanted.partition("-")[0]))
    if found is None:
        found = known.get(_language_called(wanted, frozenset(known)) or "")
    if found is None:
        raise InvalidInputError(
            f"there is no text for the language {language!r}, only for {', '.join(texts) or 'none'}; add it, or set "
            "the menu's language"
        )
    return found


@lru_cache(maxsize=1000)
def _language_called(name: str, known: frozenset[str]) -> str | None:
    """That of the known languages, of which some may be names, which has this name or code."""
    is_code = len(name) < 3 and name.isascii()
    codes = (None if is_code else language_called(name), name, name.partition("-")[0])
    named = {code: each for each in known for code in (language_called(each), each) if code is not None}
    return next((named[code] for code in codes if code in named), None)


def tidy(text: str) -> str:
    """The text on one line, without the line breaks and indents of the source code."""
    return _BLANKS.sub(" ", text).strip()
