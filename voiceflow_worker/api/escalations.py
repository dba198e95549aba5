"""Escalations: start one, look at it, wait for its end; and the alerts of Alertmanager and Grafana."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from voiceflow_worker.api.answers import Answer
from voiceflow_worker.api.exchange import LONGEST_WAIT, Asked, Route
from voiceflow_worker.api.openapi import KEY, OBJECT, OBJECT_OR_NULL, WINDOW, in_path, in_query, one_of, operation, ref
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.numbers.phone import warnings_for
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.service.alerts import Alerts
from voiceflow_worker.service.escalation import Escalations, StartedLadder
from voiceflow_worker.service.ladder import FIELDS, LadderState


async def ask(asked: Asked) -> Answer:
    """`POST /v1/escalations`."""
    asked.known_query()
    key, desk = asked.key, asked.desk
    given = await asked.json()
    with asked.alone(key):
        return _told(await Escalations(desk.queue).order(given, key=key, settings=desk.settings))


async def show(asked: Asked) -> Answer:
    """`GET /v1/escalations/{id}`, which may wait for the end."""
    asked.known_query("wait")
    within = asked.number("wait", most=LONGEST_WAIT, default=0)
    ladders, ladder_id = Escalations(asked.desk.queue), asked.parts["id"]
    ladder = await ladders.get(ladder_id)
    if ladder.is_open and within:
        wait = partial(ladders.wait, ladder_id, timeout=timedelta(seconds=within))
        ladder = await asked.until(wait, within=within) or await ladders.get(ladder_id)
    return Answer(ladder.as_json())


async def alerts(asked: Asked) -> Answer:
    """`POST /v1/hooks/alertmanager`."""
    given: dict[str, object] = dict(asked.known_query(*FIELDS))
    country = given.get("country")
    given["numbers"] = ",".join(_with_plus(each, country) for each in str(given.get("numbers", "")).split(","))
    desk = asked.desk
    told = Alerts.of(await asked.json())
    started = await told.ring(Escalations(desk.queue), given, settings=desk.settings)
    return Answer({"message": "the alerts are resolved; nobody is called"}) if started is None else _told(started)


def _with_plus(number: str, country: object) -> str:
    """A number of a query, in which + stands for a space: with the + that it can only have had, if it began with one.

    With a country, it may be a national number behind a space. Raises InvalidInputError if it may be both.
    """
    if not re.match(r" \d", number):
        return number
    as_foreign, as_national = f"+{number[1:]}", number[1:]
    national = _read(as_national, country) if isinstance(country, str) else None
    foreign = _read(as_foreign, None)
    if national is None or foreign == national:
        return as_foreign
    if foreign is None or warnings_for(foreign):  # no number of its numbering plan
        return as_national
    why = f"{as_foreign} may also be {as_national} in {country}; write %2B for +"
    raise InvalidInputError(f"numbers: {why}").found(Finding(column="numbers", message=why))


def _read(text: str, country: str | None) -> str | None:
    try:
        return read_number(text, country).e164
    except InvalidInputError:
        return None


def _told(started: StartedLadder) -> Answer:
    ladder = started.ladder
    location = {"Location": f"/v1/escalations/{ladder.id}"}
    return Answer(ladder.as_json(), 201 if started.created else 200, location)


_TEXT = {"type": "string"}
_NULL_TEXT = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_NULL_TIME = {"type": ["string", "null"], "format": "date-time"}
_LADDER = ref("Escalation")

ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/escalations",
        handle=ask,
        doc=operation(
            "Call numbers one after the other, until somebody presses a key.",
            parameters=[KEY],
            body=ref("EscalationRequest"),
            answers={
                200: ("The escalation that was asked for with this key before, as it stands now.", _LADDER),
                201: ("The new escalation.", _LADDER),
            },
            problems=[409],
        ),
    ),
    Route(
        method="GET",
        path="/v1/escalations/{id}",
        handle=show,
        doc=operation(
            "One escalation: what happened at each place, and who has acknowledged.",
            parameters=[
                in_path("id", "The escalation's id."),
                in_query(
                    "wait",
                    "The most seconds to wait for its end. It may not have ended then: look at its state.",
                    {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
                ),
            ],
            answers={200: ("The escalation.", _LADDER)},
            problems=[404],
        ),
    ),
    Route(
        method="POST",
        path="/v1/hooks/alertmanager",
        handle=alerts,
        told_as_503=frozenset({408, 429}),  # Alertmanager gives an alert up after any 4xx
        doc=operation(
            "The webhook of Alertmanager, and of Grafana: an escalation for each alert that begins to fire.",
            parameters=[
                in_query(name, f"As the field `{name}` of an escalation.{more}")
                for name, more in (
                    (name, " By default the alert's summary." if name == "say" else "") for name in FIELDS
                )
            ],
            body=ref("Alerts"),
            answers={
                200: (
                    "Nothing new: the escalation of these alerts, or a message that they are resolved.",
                    OBJECT,
                ),
                201: ("The new escalation.", _LADDER),
            },
        ),
    ),
)

SCHEMAS: Final[Mapping[str, object]] = {
    "EscalationRequest": {
        "type": "object",
        "description": "What is left out comes from the settings of the server.",
        "required": ["numbers", "say"],
        "additionalProperties": False,
        "properties": {
            "numbers": {
                "type": ["array", "string"],
                "items": _TEXT,
                "description": "In the order of the calls. Each place rings at most once; a number may have several.",
            },
            "say": {**_TEXT, "description": "The text to speak."},
            "how": {**_NULL_TEXT, "description": "What is spoken after it: by default, Press 1 to acknowledge."},
            "key": {**_NULL_TEXT, "description": "The key that acknowledges, by default 1."},
            "answer_within": {
                **_NULL_TEXT,
                "description": "A duration, by default 120s. A person is called within it or not at all.",
            },
            "source": {**OBJECT, "type": ["string", "object", "null"], "description": "The number to call from."},
            "voice_profile": _NULL_TEXT,
            "country": {**_NULL_TEXT, "description": "The country of national numbers, such as SG."},
            **WINDOW,
            "batch": _NULL_TEXT,
            "priority": {"type": ["integer", "string", "null"]},
        },
    },
    "Escalation": {
        "type": "object",
        "description": "An escalation. Further fields may be added.",
        "required": ["id", "queue", "state", "unique_key", "batch_id", "message", "acknowledged", "places"],
        "properties": {
            "id": _TEXT,
            "queue": _TEXT,
            "state": one_of(state.value for state in LadderState),
            "unique_key": _TEXT,
            "batch_id": _TEXT,
            "created_at": _TIME,
            "ended_at": _NULL_TIME,
            "reason": _NULL_TEXT,
            "message": {**_TEXT, "description": "How it stands, in a sentence."},
            "acknowledged": {
                "type": ["object", "null"],
                "required": ["place", "number", "call_id", "at"],
                "properties": {"place": {"type": "integer"}, "number": _TEXT, "call_id": _TEXT, "at": _TIME},
            },
            "places": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["place", "number", "result", "message", "call_id", "at"],
                    "properties": {
                        "place": {"type": "integer"},
                        "number": _TEXT,
                        "result": {**_TEXT, "description": "What came of it in one word."},
                        "message": _TEXT,
                        "call_id": _NULL_TEXT,
                        "at": _NULL_TIME,
                    },
                },
            },
        },
    },
    "Alerts": {
        "type": "object",
        "description": "The body of a webhook of Alertmanager (version 4) or of Grafana.",
        "required": ["alerts"],
        "properties": {
            "groupKey": _NULL_TEXT,
            "status": one_of(["firing", "resolved"]),
            "alerts": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["startsAt"],
                    "properties": {
                        "status": one_of(["firing", "resolved"]),
                        "fingerprint": _NULL_TEXT,
                        "startsAt": _TEXT,
                        "labels": OBJECT_OR_NULL,
                        "annotations": OBJECT_OR_NULL,
                    },
                },
            },
        },
    },
}
