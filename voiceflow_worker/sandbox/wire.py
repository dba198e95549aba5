"""What 8x8 takes and says, as types: of them the sandbox makes its answers and events, and its document is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from voiceflow_worker.model.reports.events import ActionStatus, Direction
from voiceflow_worker.model.reports.status import API_CODES, SESSION_ERROR_CODES, SessionStatus

Id: TypeAlias = Annotated[str, Field(min_length=1)]
Timestamp: TypeAlias = Annotated[
    str,
    Field(
        description="A time in the format of RFC 3339.",
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$",
    ),
]
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
Country: TypeAlias = Annotated[str | None, Field(description="ISO 3166; null if the number belongs to no country.")]
Seconds: TypeAlias = Annotated[int, Field(ge=0, description="Seconds.")]
WebAddress: TypeAlias = Annotated[str, Field(pattern="^https?://")]


def _more(**schema: Any) -> Any:
    """What a type cannot say of a field, in the words of JSON Schema."""
    return Field(json_schema_extra=schema)


def _one_of(values: Sequence[object]) -> Any:
    return _more(enum=values)


class HookType(StrEnum):
    """VSS: session summaries. VCA: call actions. VCS: call statuses. VRU: recordings. VNU: numbers."""

    VSS = "VSS"
    VCA = "VCA"
    VCS = "VCS"
    VRU = "VRU"
    VNU = "VNU"


# -- requests ---------------------------------------------------------------------------------------------------------

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


_MAKE_CALL = {"type": "object", "properties": {"action": {"const": Action.MAKE_CALL}}, "required": ["action"]}


class CallflowRequest(TypedDict):
    """A call."""

    callflow: Annotated[
        list[FlowAction],
        Field(
            min_length=1,
            description="The first action is makeCall (else -1013), and at most two are makeCall (else -1010).",
        ),
        _more(allOf=[{"prefixItems": [_MAKE_CALL]}], contains=_MAKE_CALL, maxContains=MAX_CALLS),
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


# -- answers ----------------------------------------------------------------------------------------------------------


class CallflowCreated(TypedDict):
    """The call was accepted. The person has not answered yet."""

    sessionId: Id
    sessionStatus: Literal["CREATED"]
    callFlowRequestId: Id
    statusCode: Literal[1]
    statusMessage: Literal["Created"]
    validUntil: NotRequired[ValidUntil]


class CallflowRefused(TypedDict):
    """Nobody was called."""

    sessionStatus: Literal["NOT_CREATED"]
    callFlowRequestId: Id
    statusCode: Annotated[
        int,
        Field(description="A status code of the API, or the HTTP status."),
        _more(anyOf=[{"enum": sorted(code for code in API_CODES if code < 0)}, {"minimum": 200, "maximum": 599}]),
    ]
    statusMessage: str


class ApiError(TypedDict):
    """A refusal."""

    statusCode: int
    statusMessage: str
    timestamp: NotRequired[Timestamp]


class InvalidRequest(TypedDict):
    """A request with a wrong field."""

    errorId: Id
    statusCode: Literal["1001"]
    statusMessage: str
    timestamp: Timestamp


class PlatformError(TypedDict):
    """An error of the platform in front of the API. The request had no effect."""

    code: int
    message: str
    errorId: Id
    timestamp: Timestamp


class Ok(TypedDict):
    """What every answer of the account ends with."""

    statusCode: Literal[0]
    statusMessage: Literal["ok"]


class SpeechProfile(TypedDict):
    """A voice."""

    speechProfileCode: Id
    localeCode: NotRequired[str]
    localeDescription: NotRequired[str]
    gender: NotRequired[str]


class SpeechProfiles(TypedDict):
    """The voices of the account."""

    speechProfiles: list[SpeechProfile]


class NumberHealth(TypedDict):
    """Whether a number can be called."""

    isHealthy: bool
    status: str
    lastCheckedTime: Timestamp


class ShortNumber(TypedDict):
    """A number of the account, in short."""

    referenceId: str
    msisdn: PhoneNumber
    countryCode: str | None


class Number(ShortNumber):
    """A number of the account."""

    dateCreated: Timestamp
    dateUpdated: Timestamp
    operationalStatus: Annotated[str, Field(description="Active, Expiring, Inactive, or one that 8x8 adds later.")]
    rentalPrice: float
    incomingRate: float
    billingUnit: str
    billingCurrency: str
    numberType: str
    uri: str
    numberHealthCheckEnabled: bool
    numberHealth: NumberHealth


class Numbers(Ok):
    """The numbers of the account."""

    totalNumbers: Annotated[int, Field(ge=0)]
    lastUpdatedAt: Timestamp
    numbers: list[Number]


class NumberFound(Ok):
    """The account has the number."""

    timestamp: Timestamp
    payload: ShortNumber


class Webhook(TypedDict):
    """A webhook."""

    type: HookType
    url: str
    enabled: bool
    httpAuthHeaderAvailable: bool


class Webhooks(Ok):
    """All registered webhooks."""

    subAccountId: str
    count: Annotated[int, Field(ge=0)]
    webhooks: Annotated[list[Webhook], Field(max_length=len(HookType))]


class WebhookRemoved(Webhook):
    """The webhook that was removed."""

    statusCode: Literal[0]
    statusMessage: Literal["deleted"]


class ExportStarted(TypedDict):
    """The export has begun."""

    jobId: Id


class ExportState(TypedDict):
    """The state of an export. One that has succeeded has `data` and `expires`."""

    status: Literal["running", "succeeded", "failed", "cancelled", "empty", "error"]
    data: NotRequired[
        Annotated[list[WebAddress], Field(description="CSV files, at signed addresses: do not send the key there.")]
    ]
    expires: NotRequired[Timestamp]


# -- events -----------------------------------------------------------------------------------------------------------


class LegFields(TypedDict):
    """What summaries and other events tell about a leg."""

    callId: Id
    callDirection: Direction
    callType: str
    sourceFormat: str
    destinationFormat: str
    sourceCountryCode: Country
    destinationCountryCode: Country
    sourceRefId: str | None
    source: PhoneNumber
    destination: PhoneNumber
    callDuration: Seconds


class CallQuality(TypedDict):
    """How well a leg was heard; `jitter` in milliseconds."""

    mos: Annotated[float, Field(ge=1, le=5)]
    packetLossRate: Annotated[float, Field(ge=0)]
    jitter: Annotated[float, Field(ge=0)]


class Leg(LegFields):
    """A leg of a session that has ended."""

    initiatedTimestamp: Timestamp
    connectedTimestamp: NotRequired[Timestamp]
    disconnectedTimestamp: Timestamp
    callStatus: SessionStatus
    callQuality: NotRequired[CallQuality]


class SessionError(TypedDict):
    """Why a session has failed."""

    errorMsg: str
    errorCode: Annotated[int, _one_of(sorted(SESSION_ERROR_CODES))]


class Legs(TypedDict, total=False):
    """The first two legs of a session."""

    callA: Leg
    callB: Leg


class SessionSummary(TypedDict):
    """How a session has ended."""

    sessionId: Id
    subAccountId: Id
    sessionStatus: SessionStatus
    startTime: Timestamp
    endTime: Timestamp
    lastAction: Annotated[str, _one_of([each.name for each in Action])]
    callCount: Annotated[int, Field(ge=0, description="The number of calls. The details describe the first two.")]
    clientRequestId: NotRequired[OwnId]
    clientBatchId: NotRequired[OwnId]
    errorDetails: NotRequired[SessionError]
    details: Legs


class LegEvent(LegFields):
    """What an event during a call tells of a leg."""

    eventId: Id
    sessionId: Id
    subAccountId: Id
    destinationRefId: str | None
    sipCode: Annotated[int, Field(ge=100, le=699)]
    timestamp: Timestamp


class Pressed(TypedDict):
    """The pressed keys; null if no key was pressed."""

    dtmf: Annotated[str | None, Field(pattern="^[0-9*#A-D]*$")]


class CallAction(LegEvent):
    """A call, and what its person has pressed."""

    callStatus: ActionStatus
    eventData: Pressed
    clientActionId: NotRequired[Annotated[str, Field(description="That of the last reply that had one.")]]


class Envelope(TypedDict):
    """What every event has."""

    namespace: Literal["VOICE"]
    version: int


class Told(Envelope):
    """What every event has, with what it is about."""

    description: str


class SummaryEvent(Told):
    """A session has ended."""

    eventType: Literal["SESSION_SUMMARY"]
    payload: SessionSummary


class ActionEvent(Told):
    """A call asks for its next actions."""

    eventType: Literal["CALL_ACTION"]
    payload: CallAction


EVENTS: Mapping[HookType, Any] = {
    HookType.VSS: SummaryEvent,
    HookType.VCA: ActionEvent,
}
"""The events that the sandbox sends, by the type of their webhook."""
