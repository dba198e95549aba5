"""The rules of the 8x8 callflow contract that can be checked before sending (8x8 callflows guide, status code table).

All findings come at once, in the order of the body. Each has a JSON path and a remedy, and usually a code of 8x8. No
function raises, whatever the body is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.actions import (
    MAX_CALLS,
    MAX_DIGITS,
    MAX_ID_CHARACTERS,
    Action,
    ParamKind,
)
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED, read_valid_until
from voiceflow_worker.model.flows.values import (
    describe,
    is_list,
    is_object,
    json_problem,
    unspeakable,
)
from voiceflow_worker.model.numbers import phone

# 8x8 documents three decimals and UTC. Here, 0 to 9 decimals are accepted, but no other zone than Z.
_ACTION_NAMES = ",".join(Action)
_BODY_KEYS = frozenset({"callflow", "validUntil", "clientRequestId", "clientBatchId"})
_REPLY_KEYS = frozenset({"callflow", "clientActionId"})
_ENTRY_KEYS = frozenset({"action", "params"})
_SCENARIO = "executeScenario"


def find_problems(body: object, *, now: datetime | None = None, reply: bool = False) -> tuple[Finding, ...]:
    """Return all errors and warnings about a request body, or with `reply` about an answer to an event. Never raises.

    A `validUntil` that has passed at `now` is a warning (-1015); without `now`, the time is not checked.
    """
    if not is_object(body):
        return (_error("$", -1001, f"invalid JSON request body; it should be an object, not {describe(body)}"),)
    return tuple(_body(body, now=now, reply=reply))


def _body(body: Mapping[str, object], *, now: datetime | None, reply: bool) -> Iterator[Finding]:
    flow = body.get("callflow")
    if is_list(flow) and flow:
        yield from _flow(flow, reply=reply)
    elif flow is not None and not is_list(flow):
        yield _error("$.callflow", -1009, f"should be an array of actions, not {describe(flow)}")
    elif not reply:
        yield _error("$.callflow", -1013, "first action should be makeCall; add the actions of the call")
    elif flow is None:
        yield _error("$.callflow", -1009, "is missing but it is required; add the next actions of the call")
    else:
        yield _warning("$.callflow", "is empty: the answer has no actions; add the next actions of the call")
    if reply:
        yield from _identifier(body, "clientActionId", limit=None)
        yield from _unknown(body, _REPLY_KEYS, "$", "an answer to a call action event")
        return
    yield from _valid_until(body.get("validUntil"), now)
    yield from _identifier(body, "clientRequestId", limit=MAX_ID_CHARACTERS)
    yield from _identifier(body, "clientBatchId", limit=MAX_ID_CHARACTERS)
    yield from _unknown(body, _BODY_KEYS, "$", "a callflow request")


def _flow(flow: Sequence[object], *, reply: bool) -> Iterator[Finding]:
    calls = 0
    last = len(flow) - 1
    from voiceflow_worker.model.flows import models  # slow to load, and not needed to read a store

    found = models.findings_of(flow)
    for index, entry in enumerate(flow):
        path = f"$.callflow[{index}]"
        if not is_object(entry):
            yield _error(path, -1009, f"should be an object with an action, not {describe(entry)}")
            continue
        name = entry.get("action")
        action = models.action_of(entry)  # the wrong case of a name is an error, but its parameters are checked too
        if index == 0 and not reply and action is not Action.MAKE_CALL and name != _SCENARIO:
            yield _error(
                f"{path}.action", -1013, "first action should be makeCall; put a makeCall action before all others"
            )
        if action is None or action != name:
            yield from _unknown_action(entry, path, alone=last == 0)
        if action is None:
            continue
        if action is Action.MAKE_CALL:
            calls += 1
            yield from _call_count(calls, path, reply=reply)
        if action is Action.HANGUP and index < last:
            yield _error(path, -1012, "incorrect use of action hangup; it ends the session, so make it the last action")
        yield from found.get(index, ())
        if is_object(params := entry.get("params")):
            yield from _odd_params(action, params, f"{path}.params", reply=reply)
        yield from _unknown(entry, _ENTRY_KEYS, path, "an action")


def _call_count(calls: int, path: str, *, reply: bool) -> Iterator[Finding]:
    if calls > MAX_CALLS:
        yield _error(
            f"{path}.action",
            -1010,
            "some actions are provided beyond the allowed count; keep at most two makeCall actions",
        )
    elif calls == MAX_CALLS and reply:
        yield _warning(
            f"{path}.action",
            "is the second makeCall of an answer, but one party is already in the call, and 8x8 connects at most two "
            "parties",
            code=-1010,
        )


def _unknown_action(entry: Mapping[str, object], path: str, *, alone: bool) -> Iterator[Finding]:
    name = entry.get("action")
    if name is None:
        yield _error(f"{path}.action", -1009, f"is missing but it is required; use one of: {_ACTION_NAMES}")
    elif name == _SCENARIO:
        yield from _scenario(entry, path, alone=alone)
    else:
        said = describe(name) if not isinstance(name, str) else repr(name)
        yield _error(f"{path}.action", -1007, f"should be one of: {_ACTION_NAMES}; {said} is none of these")


def _scenario(entry: Mapping[str, object], path: str, *, alone: bool) -> Iterator[Finding]:
    """Return findings about executeScenario, which runs a flow stored at 8x8. It is always an error here."""
    params = entry.get("params")
    scenario = params.get("scenarioName") if is_object(params) else None
    if not alone:
        yield _error(
            f"{path}.action",
            -1018,
            "executeScenario cannot be processed together with other actions; write out the actions of the scenario",
        )
    if not isinstance(scenario, str) or not scenario.strip():
        yield _error(f"{path}.params.scenarioName", -1019, "is empty; executeScenario needs the name of a scenario")
    elif alone:
        yield _error(
            f"{path}.params.scenarioName",
            -1020,
            "executeScenario is not supported here, because the scenario cannot be checked; "
            f"write out its actions with {_ACTION_NAMES}",
        )


def _odd_params(action: Action, given: Mapping[str, object], path: str, *, reply: bool) -> Iterator[Finding]:
    """Yield warnings about parameters that 8x8 may take."""
    from voiceflow_worker.model.flows import models  # slow to load, and not needed to read a store

    known = models.PARAMS[action]
    for name, param in known.items():
        value = given.get(name)
        if not isinstance(value, str):
            continue
        if param.kind is ParamKind.PHONE and phone.is_e164(value) and not phone.is_valid(phone.canonical_number(value)):
            plan = phone.country_of(value) or "any country"
            message = f"{value} is in a range that the numbering plan of {plan} does not have. Check it."
            yield _warning(f"{path}.{name}", message, kind="unknown_range")
        if param.kind is ParamKind.SPEECH and "{{" in value:
            yield _warning(
                f"{path}.{name}",
                "holds {{…}}, which would be read aloud: fill in the template, or remove the brackets from the value",
            )
    most, digit = given.get("maxDigits"), given.get("digitTimeout")
    takes_keys = action is Action.SAY_AND_CAPTURE
    if takes_keys and isinstance(most, int) and most > MAX_DIGITS and given.get("completeOnHash") is not False:
        yield _warning(f"{path}.maxDigits", f"is over {MAX_DIGITS}, the most that 8x8 documents; give a smaller number")
    if takes_keys and isinstance(digit, int | float) and digit == given.get("overallTimeout"):
        yield _warning(
            f"{path}.overallTimeout",
            "should be greater than digitTimeout, but equals it; this is only a warning, because examples of 8x8 do so",
            code=-1006,
        )
    if action is Action.MAKE_CALL and not reply and given.get("callRecording") is not None:
        yield _warning(
            f"{path}.callRecording", "is documented only for answers to call action events; 8x8 may ignore it here"
        )
    if action is not Action.HANGUP:
        yield from _unknown(given, known, path, action.value)


def _valid_until(value: object, now: datetime | None) -> Iterator[Finding]:
    if value is None:
        return
    moment = read_valid_until(value)
    if moment is None:
        said = repr(value[:40]) if isinstance(value, str) else describe(value)
        yield _error(
            "$.validUntil",
            -1009,
            f"should be a UTC time such as '2030-01-31T09:00:00.000Z', not {said}; correct or remove it",
        )
    elif now is not None and moment <= now:
        yield _warning(
            "$.validUntil",
            f"the validity period has expired (at {value}); give a later time or remove it",
            code=VALIDITY_EXPIRED,
        )


def _identifier(body: Mapping[str, object], key: str, *, limit: int | None) -> Iterator[Finding]:
    value = body.get(key)
    if value is None:
        return
    path = f"$.{key}"
    if not isinstance(value, str):
        yield _error(path, -1009, f"should be a string, not {describe(value)}; write it in quotes")
    elif limit is not None and len(value) > limit:
        yield _error(path, -1009, f"has {len(value)} characters, but at most {limit} are allowed; shorten it")
    elif problem := unspeakable(value):
        yield _error(path, -1016, f"some special characters are invalid; remove {problem}")
    elif not value.strip():
        yield _warning(path, "is empty; remove it, or give an id that helps to find the call")


def _unknown(given: Mapping[str, object], known: Collection[str], path: str, owner: str) -> Iterator[Finding]:
    """Yield a finding for each unknown key: an error if its value is not JSON, else a warning."""
    for key, value in given.items():
        if key in known:
            continue
        where = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
        if problem := json_problem({key: value}):
            yield _error(where, -1001, f"invalid JSON request body: {problem}; remove it")
        else:
            yield _warning(where, f"is not a known key of {owner}; 8x8 may ignore or refuse it")


def _error(path: str, code: int, message: str) -> Finding:
    return Finding(path=path, code=code, message=message)


def _warning(path: str, message: str, *, code: int | None = None, kind: str | None = None) -> Finding:
    return Finding(path=path, code=code, message=message, severity=Severity.WARNING, kind=kind)
