"""Call flows: built step by step or parsed from a request body, and converted to that body."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MethodType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, cast

import orjson

from voiceflow_worker.errors import CallFlowError, PhoneNumberError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.actions import Action, read_action
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED, destinations, read_valid_until, write_valid_until
from voiceflow_worker.model.flows.rules import find_problems
from voiceflow_worker.model.flows.values import describe, is_list, is_object
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.numbers.phone import canonical_number
from voiceflow_worker.model.numbers.reading import read_number, read_sources
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json

__all__ = ["CallFlow", "find_problems"]


_P = ParamSpec("_P")


class _OfClassToo(Generic[_P]):
    """A method of a flow that, as a method of the class, follows an empty answer.

    As a class method, `flow.bridge(…)` would silently lose the actions of the flow.
    """

    def __init__(self, method: Callable[Concatenate[Any, _P], CallFlow]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, flow: CallFlow | None, owner: type[CallFlow]) -> Callable[_P, CallFlow]:
        return MethodType(self._method, owner.reply() if flow is None else flow)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CallFlow:
    """The actions of one call, as the callflows API of 8x8 accepts them. Immutable: each method returns a new flow.

    Begin with `CallFlow.call` (a call), `CallFlow.reply` or `CallFlow.bridge` (an answer to a call action event), or
    `CallFlow.parse` (a body). Only values that were set are sent. A flow under construction may break rules: `problems`
    lists every finding, and `validated` raises errors.
    """

    _body: Mapping[str, object]
    _reply: bool = False
    _refused: tuple[Finding, ...] = ()
    """Numbers that were given to a method and are not certain. They are in the body as they were given."""

    # -- beginning ---------------------------------------------------------------------------------------------------

    @classmethod
    def call(cls, destination: str, *, source: str, country: str | None = None) -> Self:
        """Begin with a call to `destination` that shows `source`, a number of the account.

        Numbers are read as in files (`read_number`): `+65 8765 4321`, or `8765 4321` with the `country` SG. One that is
        not certain is an error of the flow. The source may be by country: `SG=+6531234567,*=+12025550123`.
        """
        return cls({"callflow": []}).then_call(destination, source=source, country=country)

    @classmethod
    def reply(cls, client_action_id: str | None = None) -> Self:
        """Begin an answer to a call action event (VCA); 8x8 returns `client_action_id` with the next event."""
        return cls(_without_none({"clientActionId": client_action_id, "callflow": []}), _reply=True)

    @classmethod
    def parse(cls, body: Mapping[str, object] | str | bytes, *, reply: bool = False) -> Self:
        """Read a request body, or with `reply` an answer to a call action event: a mapping, or strict JSON.

        Raises CallFlowError with every finding, errors first, if any is an error. A past `validUntil` is a warning.
        """
        if isinstance(body, str | bytes):
            try:
                body = cast("Mapping[str, object]", read_strict_json(body))
            except (orjson.JSONDecodeError, RepeatedNameError) as error:
                raise CallFlowError([Finding(path="$", code=-1001, message=_json_sentence(error))]) from error
        findings = find_problems(body, reply=reply)
        _raise_errors(findings)
        return cls(copy_of(body), reply)

    # -- actions -----------------------------------------------------------------------------------------------------

    def say(self, text: str, *, voice_profile: str, repetition: int | None = None, speed: float | None = None) -> Self:
        """Speak a text of up to 3000 characters, 1 to 3 times, at a speed of 0.5 to 2.0."""
        return self._then(_entry(Action.SAY, text=text, voiceProfile=voice_profile, repetition=repetition, speed=speed))

    def play(self, file_url: str, *, repetition: int | None = None) -> Self:
        """Play a wav or mp3 file under 5 MB from an http or https address, 1 to 3 times. 8x8 caches it for an hour."""
        return self._then(_entry(Action.PLAY_FILE, fileUrl=file_url, repetition=repetition))

    def capture(
        self,
        prompt: str,
        *,
        voice_profile: str,
        success_message: str | None = None,
        failure_message: str | None = None,
        speed: float | None = None,
        complete_on_hash: bool | None = None,
        min_digits: int | None = None,
        max_digits: int | None = None,
        digit_timeout: timedelta | None = None,
        overall_timeout: timedelta | None = None,
        tries: int | None = None,
        repetition: int | None = None,
    ) -> Self:
        """Speak a prompt and take key presses, which arrive as a call action event.

        `min_digits` needs `max_digits`, and `digit_timeout` (per key) a longer `overall_timeout`.
        """
        return self._then(
            _entry(
                Action.SAY_AND_CAPTURE,
                promptMessage=prompt,
                voiceProfile=voice_profile,
                successMessage=success_message,
                failureMessage=failure_message,
                speed=speed,
                completeOnHash=complete_on_hash,
                minDigits=min_digits,
                maxDigits=max_digits,
                digitTimeout=_milliseconds(digit_timeout),
                overallTimeout=_milliseconds(overall_timeout),
                noOfTries=tries,
                repetition=repetition,
            )
        )

    def then_call(
        self, destination: str, *, source: str, country: str | None = None, recording: bool | None = None
    ) -> Self:
        """Call a second party, and connect the two when it answers. `recording` is only for answers to events."""
        numbers: dict[str, object] = {"source": source, "destination": destination}
        refused: list[Finding] = []
        for name, text in {"destination": destination, "source": source}.items():
            try:
                numbers[name] = _certain(text, country, numbers["destination"] if name == "source" else None)
            except PhoneNumberError as error:
                from voiceflow_worker.model.flows.models import uncertain_number  # slow to load

                path = f"$.callflow[{len(self._flow)}].params.{name}"
                refused.append(uncertain_number(path, error, is_destination=name == "destination"))
        return self._then(_entry(Action.MAKE_CALL, **numbers, callRecording=recording), *refused)

    @_OfClassToo
    def bridge(
        self,
        *,
        source: str,
        destination: str,
        country: str | None = None,
        recording: bool | None = None,
        client_action_id: str | None = None,
    ) -> CallFlow:
        """Connect another party, in an answer to a call action event. Numbers are read as by `CallFlow.call`.

        `CallFlow.bridge(…)` begins an answer, and `flow.bridge(…)` follows other actions.
        """
        named = self if client_action_id is None else self.replace(client_action_id=client_action_id)
        return named.then_call(destination, source=source, country=country, recording=recording)

    def hangup(self) -> Self:
        """End the session and both of its calls; nothing can follow."""
        return self._then({"action": Action.HANGUP.value})

    def replace(
        self,
        *,
        valid_until: datetime | None = None,
        client_request_id: str | None = None,
        client_batch_id: str | None = None,
        client_action_id: str | None = None,
    ) -> Self:
        """Return the flow with these values set; None leaves a value as it is. Raises ValueError without a time zone.

        After `valid_until` 8x8 does not place the call. The ids, of at most 50 characters, come back in the session
        summary; `client_action_id` is for answers to events, and comes back with the next one.
        """
        keys = {
            "clientActionId": client_action_id,
            "validUntil": None if valid_until is None else write_valid_until(valid_until),
            "clientRequestId": client_request_id,
            "clientBatchId": client_batch_id,
        }
        return type(self)({**self._body, **_without_none(keys)}, self._reply, self._refused)

    def _then(self, entry: Mapping[str, object], *refused: Finding) -> Self:
        longer = {**self._body, "callflow": [*self._flow, entry]}
        return type(self)(longer, self._reply, (*self._refused, *refused))

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def is_reply(self) -> bool:
        """True if the flow answers a call action event; otherwise it asks for a call."""
        return self._reply

    @property
    def fields(self) -> Mapping[str, object]:
        """Body itself, which must not be changed; `to_body` returns a copy."""
        return self._body

    @property
    def actions(self) -> tuple[Mapping[str, object], ...]:
        """Copy of the actions, in 8x8's format."""
        return tuple(copy_of(entry) for entry in self._flow if is_object(entry))

    @property
    def source(self) -> str | None:
        """Source of the first call, with its leading +; None if it is missing or malformed."""
        return self._number("source")

    @property
    def destination(self) -> str | None:
        """Destination of the first call, with its leading +; None if it is missing or malformed."""
        return self._number("destination")

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every number that the flow calls, in order and in E.164 form; malformed numbers are left out."""
        return destinations(self._body) if not self._refused else ()

    @property
    def valid_until(self) -> datetime | None:
        """Time in UTC after which 8x8 does not place the call; None if it is not set, or not a time."""
        return read_valid_until(self._body.get("validUntil"))

    @property
    def client_request_id(self) -> str | None:
        """`clientRequestId` of the body; None if it is missing or empty."""
        return self._text("clientRequestId")

    @property
    def client_batch_id(self) -> str | None:
        """`clientBatchId` of the body; None if it is not set or empty."""
        return self._text("clientBatchId")

    @property
    def client_action_id(self) -> str | None:
        """`clientActionId` of an answer: the caller's position in a menu; None if it is not set or empty."""
        return self._text("clientActionId")

    def problems(self, *, now: datetime | None = None) -> tuple[Finding, ...]:
        """Return every finding, in the order of the body. With `now`, a past `validUntil` is a warning (-1015)."""
        found = find_problems(self._body, now=now, reply=self._reply)
        if not self._refused:
            return found
        refused = {each.path: each for each in self._refused}
        others = [refused.pop(each.path, each) for each in found if each.path not in refused or each.is_error]
        return (*others, *refused.values())

    def validated(self, *, now: datetime | None = None) -> Self:
        """Return this flow. Raises CallFlowError with every finding, errors first, if any is an error.

        With `now`, a `validUntil` that has passed is an error too.
        """
        findings = self.problems(now=now)
        _raise_errors(
            tuple(
                replace(each, severity=Severity.ERROR) if each.code == VALIDITY_EXPIRED else each for each in findings
            )
        )
        return self

    def to_body(self) -> dict[str, Any]:
        """Return a copy of the body, as 8x8 accepts it. Raises CallFlowError for a number that is not certain."""
        _raise_errors(self._refused)
        body: dict[str, Any] = copy_of(self._body)
        return body

    def to_json(self) -> bytes:
        """Return the body as compact UTF-8 JSON. Raises CallFlowError if it cannot be written."""
        _raise_errors(self._refused)
        try:
            return orjson.dumps(self._body)
        except orjson.JSONEncodeError as error:
            finding = Finding(path="$", code=-1001, message=f"invalid JSON request body; {error}")
            raise CallFlowError(self.problems() or [finding]) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallFlow):
            return NotImplemented
        return self._reply == other._reply and self._body == other._body

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        begun = "reply" if self._reply else "call"
        steps = ", ".join(str(entry.get("action")) for entry in self._flow if is_object(entry))
        to = f" to {self.destination}" if self.destination else ""
        return f"<CallFlow {begun}{to}: {steps or 'nothing yet'}>"

    # -- within ------------------------------------------------------------------------------------------------------

    @property
    def _flow(self) -> tuple[object, ...]:
        flow = self._body.get("callflow")
        return tuple(flow) if is_list(flow) else ()

    def _number(self, key: str) -> str | None:
        refused = {found.path for found in self._refused}
        for place, (action, params) in enumerate(map(read_action, self._flow)):
            if action is Action.MAKE_CALL:
                if f"$.callflow[{place}].params.{key}" in refused:
                    return None
                value = params.get(key)
                return phone.normalise(value) if isinstance(value, str) and phone.is_e164(value) else None
        return None

    def _text(self, key: str) -> str | None:
        value = self._body.get(key)
        return value if isinstance(value, str) and value else None


def _certain(text: object, country: str | None, called: object) -> object:
    """Return the number that a text certainly is, for a call to `called`. Raises PhoneNumberError.

    What is no text, or empty, is returned as it is.
    """
    if not isinstance(text, str) or not text.strip():
        return text
    if "=" not in text or not isinstance(called, str):
        return read_number(text, country)
    return read_sources(text, country).to(called)


def _entry(action: Action, **params: object) -> dict[str, object]:
    return {"action": action.value, "params": _without_none(params)}


def _without_none(given: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in given.items() if value is not None}


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))


def _raise_errors(findings: tuple[Finding, ...]) -> None:
    if any(found.is_error for found in findings):
        raise CallFlowError(sorted(findings, key=lambda found: not found.is_error))


def _json_sentence(error: orjson.JSONDecodeError | RepeatedNameError) -> str:
    if isinstance(error, RepeatedNameError):
        return f"the request body {error}"
    return (
        f"invalid JSON request body at line {error.lineno}, column {error.colno}: {error.msg}; "
        "strict JSON has no comments, no trailing commas, and double quotes around strings"
    )


def copy_of(value: object) -> Any:
    """Return a deep copy of a JSON value, as plain dicts and lists; 10 times faster than copy.deepcopy."""
    if is_object(value):
        return {key: copy_of(item) for key, item in value.items()}
    if is_list(value):
        return [copy_of(item) for item in value]
    return value


_PER_POST = frozenset({"validUntil", "clientRequestId", "clientBatchId"})


class EncodedBody(NamedTuple):
    """A valid body as texts, with its two numbers. `destination` is in the usual form of its numbering plan.

    `stored` is sent: compact JSON, every value as the user spelled it. Calls are compared by `canonical`, in which
    numbers begin with a +. The `validUntil` and the ids of a POST are added when it is sent.
    """

    source: str
    destination: str
    stored: str
    canonical: str

    @classmethod
    def of(cls, flow: CallFlow) -> Self:
        """Encode a valid flow that calls a number."""
        body = {key: value for key, value in flow.fields.items() if key not in _PER_POST}
        canonical = dict(body)
        calls: list[Mapping[str, object]] = []
        if is_list(entries := body.get("callflow")):
            canonical["callflow"] = [_with_plain_numbers(entry, calls) for entry in entries]
        stored = _text(body)
        return cls(
            str(calls[0]["source"]),
            canonical_number(str(calls[0]["destination"])),
            stored,
            stored if canonical == body else _text(canonical),  # most bodies are encoded once
        )


def body_to(stored: str, number: str) -> str:
    """Return a stored body whose first call is to another number. Raises ValueError for a body without a call."""
    body, params = _with_first_call(stored)
    params["destination"] = number
    return _text(body)


def body_problem(stored: str) -> str | None:
    """Return why a stored text is not the body of a call: a JSON object with a call to a number; None if it is one."""
    try:
        _with_first_call(stored)
    except ValueError as error:
        return str(error)
    return None if stored.startswith("{") and stored.endswith("}") else "it has space around its JSON object"


def _with_first_call(stored: str) -> tuple[dict[str, object], dict[str, object]]:
    """Return a stored body, and the parameters of its first call in it."""
    body: Any = orjson.loads(stored)
    try:
        for step in body["callflow"]:
            if step.get("action") == "makeCall":
                if isinstance(step["params"]["destination"], str):
                    return body, step["params"]
                break
    except (AttributeError, LookupError, TypeError):
        pass
    raise ValueError("it is not a JSON object with a call to a number")


def body_digest(canonical: str) -> str:
    """Return the digest that distinguishes two bodies with the same unique key."""
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def actions_in(stored: str) -> list[object]:
    """Return the actions of a stored body, in their order."""
    return [entry.get("action") for entry in CallFlow.parse(stored).actions]


def digests_to(stored: str, numbers: Sequence[str]) -> list[str]:
    """Return the digest of what a stored body says to each of these numbers, as if the call were to it alone."""
    flows = (CallFlow(orjson.loads(body_to(stored, number))) for number in numbers)
    return [body_digest(EncodedBody.of(flow).canonical) for flow in flows]


def _plain_object(value: object) -> dict[str, object]:
    if is_object(value):
        return dict(value)
    raise TypeError(f"{describe(value)} is not JSON")


def _text(body: Mapping[str, object]) -> str:
    return orjson.dumps(body, default=_plain_object, option=orjson.OPT_SORT_KEYS).decode()


def _with_plain_numbers(entry: object, calls: list[Mapping[str, object]]) -> object:
    """Return the action as it is compared. The parameters of a call are also added to `calls`."""
    if not is_object(entry) or entry.get("action") != "makeCall" or not is_object(params := entry.get("params")):
        return entry
    plain = {key: _plain(value) if key in {"source", "destination"} else value for key, value in params.items()}
    calls.append(plain)
    return {**entry, "params": plain}


def _plain(number: object) -> object:
    return f"+{number}" if isinstance(number, str) and number.isdigit() else number
