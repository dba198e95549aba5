"""What 8x8 takes, as types: of them the requests in the document of the sandbox are made."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, Union

from pydantic import Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from voiceflow_worker.model.flows.actions import (
    MAX_CALLS,
    MAX_DIGITS,
    MAX_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    PARAMS,
    Action,
    Param,
    ParamKind,
)

PhoneNumber: TypeAlias = Annotated[
    str,
    Field(
        description="In E.164 form, with or without the plus sign: 7 to 15 digits, the first not 0.",
        pattern=r"^\+?[1-9][0-9]{6,14}$",
        examples=["+6531234567", "6531234567"],
    ),
]
ValidUntil: TypeAlias = Annotated[
    str,
    Field(
        description="The time after which the call is not placed, in UTC with milliseconds.",
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        examples=["2030-01-31T09:00:00.000Z"],
    ),
]
OwnId: TypeAlias = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]
WebAddress: TypeAlias = Annotated[str, Field(pattern="^https?://")]


class HookType(StrEnum):
    """VSS: session summaries. VCA: call actions. VCS: call statuses. VRU: recordings. VNU: numbers."""

    VSS = "VSS"
    VCA = "VCA"
    VCS = "VCS"
    VRU = "VRU"
    VNU = "VNU"


_TYPES: Mapping[ParamKind, Any] = {
    ParamKind.PHONE: PhoneNumber,
    ParamKind.SPEECH: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS, pattern=r"\S")],
    ParamKind.NAME: Annotated[str, Field(min_length=1, pattern=r"\S")],
    ParamKind.URL: Annotated[str, Field(pattern=r"^[hH][tT][tT][pP][sS]?://\S+$")],
    ParamKind.INTEGER: int,
    ParamKind.NUMBER: float,
    ParamKind.BOOLEAN: bool,
}
_SAID = {
    Action.MAKE_CALL: "Call a number. A second makeCall connects the person who has answered to its number.",
    Action.SAY: "Read a text aloud.",
    Action.PLAY_FILE: "Play a file, which the service keeps for an hour.",
    Action.SAY_AND_CAPTURE: "Ask a question and wait for key presses. A call action event reports the keys.",
    Action.HANGUP: "End the session with all its calls. It must be the last action (else -1012).",
}


def _field(name: str, param: Param) -> Any:
    most = MAX_DIGITS if name == "maxDigits" else param.maximum
    told: Any = Field(... if param.required else None, description=param.purpose, ge=param.minimum, le=most)
    return (_TYPES[param.kind] if param.required else _TYPES[param.kind] | None, told)


def _action(action: Action) -> Any:
    """The model of an action, by the table of its parameters."""
    name, fields = action[0].upper() + action[1:], {name: _field(name, each) for name, each in PARAMS[action].items()}
    given: Any = create_model(f"{name}Params", **fields)
    params: Any = (given | None, None) if action is Action.HANGUP else (given, ...)
    literal: Any = Literal[action.value]
    return create_model(name, __doc__=_SAID[action], action=(literal, ...), params=params)


_ACTIONS: Any = Annotated[Union[tuple(map(_action, Action))], Field(discriminator="action")]  # noqa: UP007


class FlowAction:
    """An action of a call."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(_ACTIONS)


_MAKE_CALL: dict[str, Any] = {
    "type": "object",
    "properties": {"action": {"const": Action.MAKE_CALL}},
    "required": ["action"],
}


class CallflowRequest(TypedDict):
    """A call."""

    callflow: Annotated[
        list[FlowAction],
        Field(
            min_length=1,
            description="The first action is makeCall (else -1013), and at most two are makeCall (else -1010).",
        ),
        Field(
            json_schema_extra={
                "allOf": [{"prefixItems": [_MAKE_CALL]}],
                "contains": _MAKE_CALL,
                "maxContains": MAX_CALLS,
            },
        ),
    ]
    validUntil: NotRequired[ValidUntil | None]
    clientRequestId: NotRequired[
        Annotated[
            OwnId | None,
            Field(
                description="The events of the session repeat it. A second request with the same places a second call."
            ),
        ]
    ]
    clientBatchId: NotRequired[Annotated[OwnId | None, Field(description="The session summary repeats it.")]]


class CallActionReply(TypedDict):
    """The next actions of the call."""

    clientActionId: NotRequired[Annotated[str | None, Field(description="The next call action event repeats it.")]]
    callflow: Annotated[list[FlowAction], Field(min_length=1)]


class WebhookRequest(TypedDict):
    """A webhook for events of a type."""

    type: HookType
    url: WebAddress
    httpAuthHeader: NotRequired[Annotated[str | None, Field(description="The Authorization header of each event.")]]
    enabled: NotRequired[Annotated[bool | None, Field(description="Whether events are sent; by default they are.")]]
    active: NotRequired[Annotated[bool | None, Field(description="`enabled`, as some guides call it.")]]


ExportRequest = TypedDict(
    "ExportRequest",
    {
        "from": NotRequired[Annotated[str | None, Field(description="A time or a day.")]],
        "to": NotRequired[Annotated[str | None, Field(description="A time or a day.")]],
        "limit": NotRequired[Annotated[int | None, Field(ge=0, description="The most rows; 0 for all.")]],
    },
)
