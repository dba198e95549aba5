"""What an escalation is: whom to call one after the other, what to say, how many rounds, and when to leave in peace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, TypeAlias

from anyio import to_thread

from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.finding import Finding, message_of
from voiceflow_worker.ivr.approval import approval_call, approval_data
from voiceflow_worker.model.country_windows import CountryWindows, certain_zone
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.jobs.admission import priority_problem, text_findings
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.json_text import read_toml
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.speakable import shortened, speakable
from voiceflow_worker.model.text.wording import quoted, write_duration
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.settings import Settings, read_small
from voiceflow_worker.watched_file import WatchedFile

MOST_NUMBERS = 50
Policies: TypeAlias = Mapping[str, Mapping[str, object]]
"""The fields of each policy, as `Escalation.of` reads them, by its name."""
_ANY_TEXT: Final = "An alert."
_NEEDED: Final = {
    "numbers": "it is missing; give a list of numbers, in the order of the calls, or a policy",
    "say": "it is missing; give a text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Whom to call one after the other, and what to say, until somebody presses `key`.

    `say` is spoken, as `speakable` makes it and cut after 500 characters, and then `how`, by default "Press 1 to
    acknowledge." The next of the `numbers` is called when a call has ended without `key`, or may have rung and nobody
    knows, or 90 seconds after `answer_within`. A number that cannot be called is passed over: it is no number, is on
    the suppression list, or is outside of its `window`. If its phone is busy with another call for `answer_within`,
    it is called after the others. While nothing can call, because no worker runs or the queue is held, the escalation
    waits. A number may stand several times in the list. National numbers need `country`. Numbers in a list within the
    list are called at once, each in a call of its own; the next are called when this is so of all of them.

    All numbers are called in `rounds` rounds; None means until somebody acknowledges, or until it is ended. A round
    begins `answer_within` after the one before it, or later. `rest` is for alerts: an alert that fires anew within this
    time after it was acknowledged calls nobody until then. Its rounds end `forget_after` after the last notification
    that named it: of one that is silenced, nobody says that it is over. `policy` is the name of the policy that this
    is from. Raises InvalidInputError.
    """

    numbers: Sequence[str | Sequence[str]]
    say: str
    source: str
    voice_profile: str
    key: str = "1"
    answer_within: timedelta = timedelta(minutes=2)
    rounds: int | None = 1
    rest: timedelta = timedelta(minutes=5)
    forget_after: timedelta = timedelta(days=3)
    how: str | None = None
    country: str | None = None
    window: CallWindow | CountryWindows | None = None
    batch_id: str | None = None
    """The batch of the calls; by default one of their own, which has the name of the escalation."""
    priority: int = 1_000
    policy: str | None = None

    def __post_init__(self) -> None:
        # Here and below: a worker without open escalations needs nothing of campaigns.
        from voiceflow_worker.campaigns.reading import refused

        steps = tuple(each if isinstance(each, str) else self._distinct(each) for each in self.numbers)
        object.__setattr__(self, "numbers", steps)
        object.__setattr__(self, "say", shortened(speakable(self.say)))
        if (problem := next(self._problems(), None)) is not None:
            raise refused([problem])
        texts = {str(name): value for name, value in self.as_json().items() if isinstance(value, str)}
        if findings := text_findings(texts):
            raise CallFlowError(findings)
        try:
            self.data()
        except InvalidInputError:
            raise refused([("say", "it is too long to be spoken, with the sentence after it; shorten it")]) from None

    def _problems(self) -> Iterator[tuple[str, str]]:
        """The fields that are wrong, each with the reason."""
        from voiceflow_worker.campaigns.reading import MOST_ROUNDS, ROUNDS

        if () in self.numbers or not 1 <= len(self.every_number) <= MOST_NUMBERS:
            yield "numbers", f"give a list of 1 to {MOST_NUMBERS} numbers, in the order of the calls"
        for name in ("say", "source", "voice_profile"):
            if not getattr(self, name).strip():
                yield name, "it is empty; give a text"
        if len(self.key) != 1 or self.key not in "0123456789":
            yield "key", f"{self.key[:60]!r} is not a key that can acknowledge; give one digit"
        for name in ("answer_within", "forget_after"):
            if getattr(self, name) <= timedelta():
                yield name, "it is not above 0; give a duration, such as 30s"
        if self.rest < timedelta():
            yield "rest", "it is below 0; give a duration, such as 5m"
        if self.rounds is not None and not 1 <= self.rounds <= MOST_ROUNDS:
            yield "rounds", ROUNDS
        if self.batch_id is not None and not 1 <= len(self.batch_id) <= MAX_ID_CHARACTERS:
            yield "batch", f"{self.batch_id[:60]!r} must have 1 to {MAX_ID_CHARACTERS} characters"
        if problem := priority_problem(self.priority):
            yield "priority", problem

    @classmethod
    def of(
        cls,
        given: Mapping[str, object],
        *,
        settings: Settings | None = None,
        any_number: bool = False,
        policies: Policies | None = None,
    ) -> Self:
        """The escalation with these fields, as texts, or as what such texts mean; `numbers` is a list, or has commas.

        The fields that a campaign has too have its names and forms (`Campaign.of`). `policy` names one of `policies`,
        by default those of the file in the settings; its fields count where they are not given here. What is given
        nowhere comes from the `settings`. With `any_number`, one number that can be called is enough: the others are
        passed over. Raises InvalidInputError, with a finding for each unknown and wrong field.
        """
        from voiceflow_worker.campaigns.reading import refused

        if policies is None and given.get("policy") is not None and settings is not None and settings.escalations:
            policies = read_policies(settings.escalations, settings=settings)
        read = cls.stored(_with_policy(given, policies), settings=settings)
        misfits = list(read.misfits())
        if misfits and not (any_number and len(misfits) < len(read.every_number)):
            raise refused(("numbers", f"number {place}: {why}") for place, why in misfits)
        return read

    @classmethod
    def stored(cls, given: Mapping[str, object], *, settings: Settings | None = None) -> Self:
        """The escalation with all of these fields, as `as_json` has them, also if no number can be called.

        Raises InvalidInputError.
        """
        from voiceflow_worker.campaigns.campaign import read_fields, window_of
        from voiceflow_worker.campaigns.fields import HOURS
        from voiceflow_worker.campaigns.reading import Of

        reading = read_fields(Of.ESCALATION, given, settings=settings, foreign=True)
        for name, why in _NEEDED.items():
            is_empty = not reading.has(name) or (name == "numbers" and reading.value(name) is None)
            if is_empty and reading.shown(name) not in dict(reading.problems):
                reading.problem(name, why)
        values = {each.sets or name: reading.value(name) for name, each in reading.fields.items() if reading.has(name)}
        for name in ("source", "voice_profile"):
            if not reading.has(name):
                values[name] = reading.default(name)
                if not values[name]:
                    reading.problem(name, f"it is missing; give it, or set VOICEFLOW_{name.upper()}")
        window = window_of(reading)
        reading.refuse()
        for name in (*HOURS, "time_zone"):
            values.pop(name, None)
        return cls(**values, window=window)

    @property
    def every_number(self) -> tuple[str, ...]:
        """The numbers in the order of their calls, those that are called at once too."""
        return tuple(number for step in self.numbers for number in ((step,) if isinstance(step, str) else step))

    def _distinct(self, numbers: Sequence[str]) -> str | tuple[str, ...]:
        """The numbers that are called at once, each once, however it is spelled; one alone is no list."""
        found: dict[str | int, str] = {}
        for place, number in enumerate(numbers):
            found.setdefault(self._known(number) or place, number)
        return next(iter(found.values())) if len(found) == 1 else tuple(found.values())

    def _known(self, number: str) -> str | None:
        """A number in its one form; None if it cannot be read."""
        try:
            return read_number(number, self.country)
        except InvalidInputError:
            return None

    def misfits(self) -> Iterator[tuple[int, str]]:
        """The numbers that cannot be called, by their place from 1, and why: the number, or what is said to it."""
        for place, number in enumerate(self.every_number, 1):
            try:
                known = read_number(number, self.country)
                self.call(known).validated()
                if self.window is not None:
                    window = CountryWindows.of(self.window).to([known])
                    _ = window is None or window.time_zone or certain_zone([known])
            except InvalidInputError as error:
                yield place, "; ".join(found.message for found in error.findings) or str(error)

    def target(self) -> str:
        """For whom this is: the name of its policy, or its numbers, whatever their order and spelling."""
        if self.policy is not None:
            return f"policy {self.policy}"
        return f"numbers {' '.join(sorted({self._known(number) or number for number in self.every_number}))}"

    def call(self, number: str) -> CallFlow:
        """The call to this number, in E.164 form. Raises InvalidInputError."""
        return approval_call(
            number,
            source=self.source,
            question=self.say,
            voice_profile=self.voice_profile,
            choices=self.choices,
            how=self.spoken_how,
        )

    def data(self) -> dict[str, object]:
        """The data of each call, for its menu. Raises InvalidInputError."""
        return approval_data(self.say, voice_profile=self.voice_profile, choices=self.choices, how=self.spoken_how)

    @property
    def choices(self) -> Mapping[str, str]:
        """The one choice of the menu, by its key."""
        return {self.key: "acknowledged"}

    @property
    def spoken_how(self) -> str:
        """The sentence that names the key."""
        return f"Press {self.key} to acknowledge." if self.how is None else self.how

    def as_json(self) -> dict[str, object]:
        """The escalation as JSON, with the names that `of` reads; the hours, days and holidays of `window` are one."""
        from voiceflow_worker.campaigns.fields import HOURS, fields_of
        from voiceflow_worker.campaigns.reading import UNTIL_ACKNOWLEDGED, Of

        own: dict[str, object] = {
            "numbers": [each if isinstance(each, str) else list(each) for each in self.numbers],
            "rounds": UNTIL_ACKNOWLEDGED if self.rounds is None else self.rounds,
            "batch": self.batch_id,
            **dict.fromkeys(HOURS, None),
            **({} if self.window is None else CountryWindows.of(self.window).fields()),
        }
        names = [name for name in fields_of(Of.ESCALATION) if name != "time_zone"]
        said = {name: own[name] if name in own else getattr(self, name) for name in names}
        return {name: write_duration(each) if isinstance(each, timedelta) else each for name, each in said.items()}


def read_policies(path: Path, *, settings: Settings | None) -> Policies:
    """The policies in a TOML file: each table is one, and has the fields of an escalation. `say` may be left out.

    Raises InvalidInputError, with a finding for each fault of a policy.
    """
    findings: list[Finding] = []
    found: dict[str, Mapping[str, object]] = {}
    for name, fields in read_toml(read_small(path, str(path), str), place=str(path)).items():
        if not is_object(fields) or storing_problem(name) is not None or not name.strip():
            why = "it is no table; write the fields of a policy below its name in brackets, such as [db]"
            findings.append(Finding(file=str(path), column=name[:60], message=why))
            continue
        if "policy" in fields:
            findings.append(Finding(file=str(path), column=f"{name}.policy", message="a policy cannot name another"))
            continue
        try:
            Escalation.of({"say": _ANY_TEXT, **fields}, settings=settings)
        except InvalidInputError as error:
            wrong = error.findings or [Finding(message=message_of(error))]
            findings += [
                Finding(file=str(path), column=".".join(filter(None, (name, each.column))), message=each.message)
                for each in wrong
            ]
        found[name] = MappingProxyType(dict(fields))
    if findings:
        said = "; ".join(f"{each.column}: {each.message}" if each.column else each.message for each in findings)
        raise InvalidInputError(f"{path}: {said}").found(*findings)
    return MappingProxyType(found)


def _with_policy(given: Mapping[str, object], policies: Policies | None) -> Mapping[str, object]:
    """The given fields, and those of their policy. Raises InvalidInputError."""
    from voiceflow_worker.campaigns.reading import refused

    if (name := given.get("policy")) is None:
        return given
    if not isinstance(name, str) or policies is None or name not in policies:
        known = ", ".join(sorted(policies)) if policies else ""
        none = "there are none: name their file by `serve --escalations`, or VOICEFLOW_ESCALATIONS"
        why = f"the policies are {known}" if known else none
        raise refused([("policy", f"{quoted(name, most=60)} is no policy; {why}")])
    if given.get("numbers") is not None:
        raise refused([("numbers", "give the numbers or a policy, not both")])
    return {**policies[name], **{each: value for each, value in given.items() if value is not None}, "policy": name}


class PolicyFile:
    """The policies of a file, as it last was right. Without a path, there are none.

    Raises InvalidInputError if the file is wrong at the start. Later, a wrong file is told, by the log and by
    `problem`, and the policies stay as they were.
    """

    def __init__(self, path: Path | None, *, settings: Settings | None) -> None:
        self._file: WatchedFile[Policies] | None = None
        if path is not None:
            read = partial(read_policies, path, settings=settings)
            self._file = WatchedFile(path, read, first=read())

    @property
    def problem(self) -> str | None:
        """What is wrong with the file as it is now."""
        return None if self._file is None else self._file.problem

    async def current(self) -> Policies:
        """The policies as they are now; the file is read again if it has changed."""
        return {} if self._file is None else await to_thread.run_sync(self._file)
