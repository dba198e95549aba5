"""Complete the request body of a call with its number, source and voice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.flows.values import is_list, is_object

FIRST_CALL = "$.callflow[0].params"

_CALLING = frozenset({Action.MAKE_CALL.value})
_SPEAKING = frozenset({Action.SAY.value, Action.SAY_AND_CAPTURE.value})


def complete(
    body: dict[str, Any],
    *,
    destination: str | None,
    source: str | None,
    voice_profile: str | None,
    source_wins: bool = False,
) -> None:
    """Fill in a body in place. An argument of None changes nothing. Malformed parts of the body stay as they are.

    The first call always goes to `destination`: if it went to a number in the template, every row would call that
    number. `source` is used if that call has none; with `source_wins`, it also replaces the call's own source.
    `voice_profile` is used for each text without a voice.
    """
    entries = _own_entries(body)
    if entries and (call := _params(entries[0], _CALLING)) is not None:
        made = dict(call)
        if destination is not None:
            made["destination"] = destination
        if source is not None and (source_wins or _is_empty(made.get("source"))):
            made["source"] = source
        entries[0] = {**entries[0], "params": made}
    if voice_profile is not None:
        for index, spoken in _without_voice(entries):
            entries[index] = {**entries[index], "params": {**spoken, "voiceProfile": voice_profile}}


def _own_entries(body: dict[str, Any]) -> list[Any]:
    """Return the entries of a body's flow, in a new list that replaces the flow; empty for a malformed flow."""
    flow = body.get("callflow")
    if not is_list(flow):
        return []
    entries: list[Any] = list(flow)
    body["callflow"] = entries
    return entries


def missing_from(body: Mapping[str, object]) -> set[str]:
    """Return the names of the values that a body needs but lacks: `source`, `voice_profile`, both or none."""
    flow = body.get("callflow")
    if not is_list(flow) or not flow:
        return set()
    call = _params(flow[0], _CALLING)
    missing = {"source"} if call is not None and _is_empty(call.get("source")) else set[str]()
    return missing | {"voice_profile" for _ in _without_voice(list(flow))}


def _without_voice(entries: list[Any]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, entry in enumerate(entries):
        spoken = _params(entry, _SPEAKING)
        if spoken is not None and _is_empty(spoken.get("voiceProfile")):
            yield index, spoken


def _params(entry: object, actions: frozenset[str]) -> Mapping[str, object] | None:
    """Return the params of an entry whose action is in `actions`; None for other entries and malformed params."""
    if not is_object(entry) or entry.get("action") not in actions:
        return None
    params = entry.get("params")
    if params is None:
        return {}
    return params if is_object(params) else None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
