"""The menu `approval`, served by every receiver: it asks for a decision by key, and confirms the choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import orjson

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import Caller, joined
from voiceflow_worker.ivr.menu import Again, Choice, End, Menu
from voiceflow_worker.model.flows.actions import read_action
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.jobs.call_json import checked_data
from voiceflow_worker.model.text.json_text import read_strict_json

Data: TypeAlias = Mapping[str, object]

CHOICES: Mapping[str, str] = {"1": "approved", "2": "rejected"}
"""The default meanings of the keys."""
BUILT_IN = frozenset({"approval"})
"""The names of the menus that every receiver serves."""
CONFIRMATION = "Thank you. Your answer: {choice}."
HOW = "Press 1 to approve, 2 to reject."


def approval_data(
    question: str,
    *,
    voice_profile: str,
    choices: Mapping[str, str] = CHOICES,
    approve: Collection[str] | None = None,
    how: str | None = None,
    confirmation: str = CONFIRMATION,
    goodbye: str | None = None,
) -> dict[str, object]:
    """The data of a job whose call begins in the menu `approval`.

    `choices` maps keys (one digit each) to their meanings. The person's answer is `yes` after a key in `approve`, by
    default the first key of `choices`, and `no` after another of these keys. `how` is spoken after the question and
    names the keys; give an empty text if the question names them. `confirmation` is spoken after a choice, with
    `{choice}` filled in. `goodbye` is spoken when all tries have passed without a choice. The default texts are
    English. Raises InvalidInputError.
    """
    for key, meaning in choices.items():
        if len(key) != 1 or key not in "0123456789" or not meaning.strip():
            raise InvalidInputError(f"{key!r}: {meaning!r} is not a valid choice: give one digit, and its meaning")
    if not choices:
        raise InvalidInputError("an approval needs choices, such as {'1': 'approved', '2': 'rejected'}")
    if unknown := [key for key in approve or () if key not in choices]:
        raise InvalidInputError(f"approve has {unknown}, but the keys of the choices are {list(choices)}")
    data: dict[str, object] = {"question": question, "voice_profile": voice_profile}
    if choices != CHOICES:
        data["choices"] = orjson.dumps(dict(choices)).decode()
    if approve is not None:
        data["approve"] = "".join(approve)
    if confirmation != CONFIRMATION:
        data["confirmation"] = confirmation
    if how is not None:
        data["how"] = how
    if goodbye is not None:
        data["goodbye"] = goodbye
    checked_data(data)
    return data


def approval_call(
    destination: str,
    *,
    source: str,
    question: str,
    voice_profile: str,
    choices: Mapping[str, str] = CHOICES,
    how: str | None = None,
    confirmation: str = CONFIRMATION,
    goodbye: str | None = None,
) -> CallFlow:
    """A call that asks for an approval: `queue.enqueue(approval_call(…), menu="approval", data=approval_data(…))`.

    `data` is needed for choices and texts other than the defaults. The job's `answer` is `yes` or `no`. Of other
    choices, `choice_of` returns the meaning of the last of the job's `digits`. The other parameters are those of
    `approval_data`.
    """
    data = approval_data(
        question, voice_profile=voice_profile, choices=choices, how=how, confirmation=confirmation, goodbye=goodbye
    )
    return approval.call(destination, source=source, data=data)


def choice_of(digits: str | None, data: Data | None = None) -> str | None:
    """The choice in a job's `digits`, such as `approved`; None if the person made no choice."""
    last = (digits or "").rpartition(",")[2]
    return _choices(data or {}).get(last)


def _question(caller: Caller) -> str:
    own = caller.data.get("question")
    question = _said(caller, "question", in_call=("promptMessage", "text"))
    how = caller.data.get("how")
    if question != own and not isinstance(how, str):
        return question  # the question of the call flow, which names the keys itself
    return joined(question, how if isinstance(how, str) else _how(_choices(caller.data)))


def _how(choices: Mapping[str, str]) -> str:
    if choices == CHOICES:
        return HOW
    return f"Press {', '.join(f'{key} for {choice}' for key, choice in choices.items())}."


def _voice(caller: Caller) -> str:
    return _said(caller, "voice_profile", in_call=("voiceProfile",))


def _said(caller: Caller, name: str, *, in_call: Sequence[str]) -> str:
    """The text `name` in the job's data; if it is missing, the first parameter named in `in_call` that the flow has."""
    value = caller.data.get(name)
    if isinstance(value, str) and value.strip():
        return value
    if caller.job is not None:
        for _, params in map(read_action, CallFlow.parse(caller.job.body).actions):
            found = next((params[key] for key in in_call if key in params), None)
            if isinstance(found, str):
                return found
    raise InvalidInputError(f"an approval needs {name!r} in the data of its call")


def _choices(data: Data) -> Mapping[str, str]:
    """The choices in the job's data, else the defaults. In the data they are one JSON text: `{"1": "approved"}`."""
    text = data.get("choices")
    if not isinstance(text, str):
        return CHOICES
    try:
        read = read_strict_json(text)
    except ValueError as error:
        raise InvalidInputError(f"the choices of an approval must be the JSON text of an object: {error}") from error
    if not is_object(read) or not read:
        raise InvalidInputError("the choices of an approval must be the JSON text of an object with at least one key")
    return {str(key): str(choice) for key, choice in read.items()}


def _goodbye(caller: Caller) -> End:
    text = caller.data.get("goodbye")
    return End(text if isinstance(text, str) and text.strip() else None)


class ApprovalMenu(Menu):
    """A menu whose question and choices are in the data of the call (`approval_data`)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, prompt=_question, voice_profile=_voice, fallback=_goodbye)

    def answer_of(self, choice: Choice, caller: Caller) -> str | None:  # noqa: ARG002 - there is only one choice
        """`yes` or `no`; None for a key that is not among the call's choices."""
        try:
            choices = _choices(caller.data)
        except InvalidInputError:
            return None
        yes = caller.data.get("approve")
        if caller.digits not in choices:
            return None
        return "yes" if caller.digits in (yes if isinstance(yes, str) else next(iter(choices))) else "no"


approval: Menu = ApprovalMenu("approval")


@approval.capture(max_digits=1, complete_on_hash=False)
async def decide(caller: Caller) -> End | Again:
    """Confirm a choice, or ask again."""
    return confirmed(caller) or Again()


def confirmed(caller: Caller) -> End | None:
    """The end of a call after a choice, with its confirmation; None if the keys are no choice."""
    choice = _choices(caller.data).get(caller.digits)
    if choice is None:
        return None
    confirmation = caller.data.get("confirmation")
    text = confirmation if isinstance(confirmation, str) else CONFIRMATION
    return End(text.replace("{choice}", choice))
