"""The five actions of a call flow as models, discriminated by `action` (8x8 callflow actions guide)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import MAX_DIGITS, MAX_TEXT_CHARACTERS, Action, Param, ParamKind
from voiceflow_worker.model.flows.values import describe, is_list, is_object, unspeakable
from voiceflow_worker.model.numbers import phone
from voiceflow_worker.model.text.web_address import split_web_address

_MOST_INT = 2**64 - 1
MISSING = "is missing but it is required; add {}"


def _refused(code: int, message: str) -> PydanticCustomError:
    """Return the error for a value that breaks a rule of 8x8 with this code."""
    return PydanticCustomError(cast("Any", str(code)), "{message}", {"message": message})


def _name(text: str) -> str:
    if not text.strip():
        raise _refused(-1009, "is empty, but a text is required; write the text")
    if problem := unspeakable(text):
        raise _refused(-1016, f"some special characters are invalid; remove {problem}")
    return text


def _speech(text: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise _refused(-1009, f"has {len(text)} characters, but at most {MAX_TEXT_CHARACTERS} are allowed; shorten it")
    return _name(text)


def _url(text: str) -> str:
    if text.strip() and split_web_address(text) is None:
        raise _refused(-1009, "should be an http or https address without spaces")
    return _name(text)


def _whole(number: float | None) -> float | None:
    if number is not None and number != int(number):
        raise _refused(-1009, "should be an integer")
    return number


def _phone(*, is_destination: bool) -> Callable[[object], str]:
    """Return the check of a telephone number in E.164 form, with or without the leading +."""

    def check(value: object) -> str:
        if is_list(value):
            code = phone.MANY_NUMBERS if is_destination else -1009
            found = "multiple destination phone numbers found" if is_destination else "should be a string, not an array"
            raise _refused(code, f"{found}; give one number for each call, as a string")
        if not isinstance(value, str):
            raise _refused(
                -1009, f"should be a string, not {describe(value)}; write it in quotes, with its country code"
            )
        if not value.strip():
            raise PydanticCustomError("missing", "")
        if not phone.is_e164(value):
            code, reason = phone.form_problem(value)
            raise _refused(*_no_number(code, reason, is_destination=is_destination))
        return value

    return check


def _no_number(code: int, reason: str, *, is_destination: bool) -> tuple[int, str]:
    # A malformed source has no code of its own: -1014 means that the account may not use it.
    if not is_destination:
        return -1009, f"should be a phone number in E.164 form: {reason}"
    if code == phone.MANY_NUMBERS:
        return code, f"multiple destination phone numbers found: {reason}"
    return code, f"invalid MSISDN format in destination: {reason}"


def uncertain_number(path: str, error: PhoneNumberError, *, is_destination: bool) -> Finding:
    """Return the finding about a number at this path that could not be read for certain."""
    code, message = _no_number(error.code, str(error), is_destination=is_destination)
    return Finding(path=path, code=code, message=message)


def _present(params: object) -> object:
    """Return the parameters that are not null."""
    if is_object(params):
        return {name: value for name, value in params.items() if value is not None}
    if params is None:
        return {}
    raise _refused(-1009, f"should be an object, not {describe(params)}")


_Name = Annotated[str, ParamKind.NAME, AfterValidator(_name)]
_Speech = Annotated[str, ParamKind.SPEECH, AfterValidator(_speech)]
_Message = Annotated[str | None, ParamKind.SPEECH, AfterValidator(lambda text: text if text is None else _speech(text))]
_Url = Annotated[str, ParamKind.URL, AfterValidator(_url)]
_Source = Annotated[str, ParamKind.PHONE, BeforeValidator(_phone(is_destination=False))]
_Destination = Annotated[str, ParamKind.PHONE, BeforeValidator(_phone(is_destination=True))]
_Flag = Annotated[bool | None, ParamKind.BOOLEAN]
_Number = Annotated[float | None, ParamKind.NUMBER]
_Whole = Annotated[float | None, ParamKind.INTEGER, AfterValidator(_whole)]


class _Params(BaseModel):
    """The parameters of an action. A description completes the remedies "add …" and "give …"."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel, allow_inf_nan=False)


class _MakeCall(_Params):
    source: _Source = Field(description="the number to call from, which belongs to the account, such as +6531234567")
    destination: _Destination = Field(description="the number to call, such as +6587654321")
    call_recording: _Flag = Field(None, description="true to record the bridged call, or false")


_Voice = Annotated[_Name, Field(description="the name of a speech profile, such as en-IE-EmilyNeural")]
_Speed = Annotated[_Number, Field(ge=0.5, le=2.0, description="the speed of the voice, 0.5 to 2.0")]
_Repetition = Annotated[_Whole, Field(ge=1, le=3, description="the number of times to play it, 1 to 3")]


class _Say(_Params):
    text: _Speech = Field(description="the text to speak")
    voice_profile: _Voice
    repetition: _Repetition = None
    speed: _Speed = None


class _PlayFile(_Params):
    file_url: _Url = Field(description="the http or https address of a wav or mp3 file under 5 MB")
    repetition: _Repetition = None


class _SayAndCapture(_Params):
    prompt_message: _Speech = Field(description="the text that asks for the key presses")
    voice_profile: _Voice
    success_message: _Message = Field(None, description="the text spoken after valid input")
    failure_message: _Message = Field(None, description="the text spoken after invalid input")
    speed: _Speed = None
    repetition: _Repetition = None
    complete_on_hash: _Flag = Field(None, description="true if the # key ends the input, or false")
    min_digits: _Whole = Field(None, ge=0, le=_MOST_INT, description="the fewest key presses to accept")
    max_digits: _Whole = Field(
        None, ge=0, le=_MOST_INT, validate_default=True, description="the most key presses to accept, up to 25"
    )
    digit_timeout: _Whole = Field(
        None, ge=0, le=_MOST_INT, description="the time to wait for each key press, in milliseconds"
    )
    overall_timeout: _Whole = Field(
        None,
        ge=0,
        le=_MOST_INT,
        validate_default=True,
        description="the time to wait for the whole input, in milliseconds",
    )
    no_of_tries: _Whole = Field(None, ge=1, le=_MOST_INT, description="the number of times to ask, 1 or more")

    @field_validator("max_digits")
    @classmethod
    def _allows_what_is_needed(cls, most: float | None, info: ValidationInfo) -> float | None:
        fewest = info.data.get("min_digits")
        if fewest is not None and (most is None or most < max(fewest, 1)):
            needed = (
                f"give maxDigits: {max(int(fewest), 1)} to {MAX_DIGITS}"
                if fewest <= MAX_DIGITS
                else f"give at most {MAX_DIGITS} for both"
            )
            raise _refused(-1003, f"valid maxDigits required when minDigits is provided; {needed}")
        if info.data.get("complete_on_hash") is False and not (most is not None and 0 < most <= MAX_DIGITS):
            raise _refused(
                -1008,
                f"valid maxDigits is required when completeOnHash is false; give 1 to {MAX_DIGITS}, or let # end the "
                "input",
            )
        return most

    @field_validator("overall_timeout")
    @classmethod
    def _is_longer(cls, overall: float | None, info: ValidationInfo) -> float | None:
        digit = info.data.get("digit_timeout")
        if digit is not None and overall is None:
            raise _refused(
                -1005, f"valid overallTimeout is required when digitTimeout is provided; give more than {digit:.0f} ms"
            )
        if digit is not None and overall is not None and digit > overall:
            raise _refused(-1006, f"overallTimeout should be greater than digitTimeout; give more than {digit:.0f} ms")
        return overall


def _nothing(params: object) -> None:
    if params is not None and not is_object(params):
        raise _refused(-1009, f"should be an object, not {describe(params)}")
    if params:
        raise _refused(-1012, "incorrect use of action hangup; it takes no params; remove them")


P = TypeVar("P")


class _Step(BaseModel, Generic[P]):
    """An action with its parameters. Null and absent parameters are the same."""

    action: str
    params: Annotated[P, BeforeValidator(_present)] = Field(cast("Any", None), validate_default=True)


class _Hangup(BaseModel):
    action: str
    params: Annotated[None, BeforeValidator(_nothing)] = None


_BY_FOLDED_NAME = {action.value.casefold(): action for action in Action}


def action_of(entry: object) -> Action | None:
    """Return the action that an entry names, in whatever case; None if it names none."""
    name = entry.get("action") if is_object(entry) else None
    return _BY_FOLDED_NAME.get(name.casefold()) if isinstance(name, str) else None


_Steps = Annotated[
    Annotated[_Step[_MakeCall], Tag(Action.MAKE_CALL)]
    | Annotated[_Step[_Say], Tag(Action.SAY)]
    | Annotated[_Step[_PlayFile], Tag(Action.PLAY_FILE)]
    | Annotated[_Step[_SayAndCapture], Tag(Action.SAY_AND_CAPTURE)]
    | Annotated[_Hangup, Tag(Action.HANGUP)],
    Discriminator(action_of),
]
_FLOW: TypeAdapter[list[Any]] = TypeAdapter(list[_Steps])
_SPEECH: TypeAdapter[str] = TypeAdapter(_Speech)
_MODELS: Mapping[Action, type[_Params]] = {
    Action.MAKE_CALL: _MakeCall,
    Action.SAY: _Say,
    Action.PLAY_FILE: _PlayFile,
    Action.SAY_AND_CAPTURE: _SayAndCapture,
    Action.HANGUP: _Params,
}
PARAMS: Mapping[Action, Mapping[str, Param]] = {
    action: {
        to_camel(name): Param(
            kind=next(each for each in field.metadata if isinstance(each, ParamKind)),
            purpose=field.description or "",
            required=field.is_required(),
        )
        for name, field in model.model_fields.items()
    }
    for action, model in _MODELS.items()
}
"""The parameters of each action, by the names that 8x8 gives them."""
_TYPES = {"string_type": "a string", "bool_type": "true or false", "float_type": "a number"}


def findings_of(flow: Sequence[object]) -> Mapping[int, Sequence[Finding]]:
    """Return what is wrong with the parameters of the actions of a flow, by the place of the action."""
    found: dict[int, list[Finding]] = {}
    try:
        _FLOW.validate_python(list(flow))
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["type"].startswith("union_tag"):
                continue  # no action, or an unknown one: rules.py has its finding
            index, action, *path = map(str, each["loc"])
            names = (to_camel(name) if "_" in name else name for name in path)  # a default has the field's own name
            place = f"$.callflow[{index}].{'.'.join(names)}"
            found.setdefault(int(index), []).append(_finding(place, Action(action), each))
    return found


def _finding(path: str, action: Action, error: ErrorDetails) -> Finding:
    kind, param = error["type"], PARAMS[action].get(path.rpartition(".")[2])
    purpose = "" if param is None else param.purpose
    if kind.removeprefix("-").isdecimal():
        message = error["msg"]
        needs = param is not None and message.startswith("should be an") and "; " not in message
        return Finding(path=path, code=int(kind), message=f"{message}; give {purpose}" if needs else message)
    if kind == "missing":
        return Finding(path=path, code=-1009, message=MISSING.format(purpose))
    bounds = error.get("ctx", {})
    if kind == "greater_than_equal":
        said = f"should be {bounds['ge']:g} or more"
    elif kind == "less_than_equal" and bounds["le"] < _MOST_INT:
        said = f"should be {bounds['le']:g} or less"
    elif kind in _TYPES:
        wanted = "an integer" if param is not None and param.kind is ParamKind.INTEGER else _TYPES[kind]
        said = f"should be {wanted}, not {describe(error['input'])}"
    else:
        said = "should be a finite number of at most 64 bits"
    return Finding(path=path, code=-1009, message=f"{said}; give {purpose}")


def speech_problem(text: str) -> str | None:
    """Return why 8x8 does not speak a text; None if it does."""
    try:
        _SPEECH.validate_python(text)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return None
