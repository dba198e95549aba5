"""Scripts of calls: the person on the phone, the end of the call, the arrival of its summary."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status
from voiceflow_worker.sandbox.orders.caller import Keys, Reached
from voiceflow_worker.sandbox.orders.orders import DestinationOrder, StrictModel


class Conduct(StrictModel):
    """The person on the phone, in a call with questions or a second party.

    `keys` are the answers to the questions of the menu, one entry each; without it the seed chooses them.
    `action_seconds` is the length of each text or file, `bridge_outcome` the result of calling the second party, and
    `bridge_seconds` how long the two talk. With `steps` the service asks for the next step after each action, not only
    after questions. `statuses` is whether call status events (VCS) are sent: if absent, only to a webhook that was
    registered for them.
    """

    keys: Keys | None = None
    action_seconds: float | None = Field(default=None, ge=0)
    bridge_outcome: Reached | None = None
    bridge_seconds: float | None = Field(default=None, ge=0)
    statuses: bool | None = None
    steps: bool = False


class Script(DestinationOrder, Conduct):
    """The course of calls to `destination`, or of all calls. The seed decides what is left out.

    Several scripts for one destination are used in their order: BUSY once and then COMPLETED are two scripts. All
    seconds are divided by the sandbox's speed: `dial_seconds` from acceptance to dialling, `ring_seconds`,
    `talk_seconds`, and `delay_seconds` from the end of the call to its summary.

    `duplicates` is how many more times the summary is sent. `drop` sends no summary. `no_client_request_id` sends it
    without one. `retries` is how often a delivery that was not answered with 2xx is repeated.

    In a call with questions or a second party, two people talk for `talk_seconds` unless `bridge_seconds` is given;
    otherwise such a call takes as long as its menu.
    """

    outcome: SessionStatus | None = None
    error_code: int | None = None
    error_message: str | None = None
    dial_seconds: float | None = Field(default=None, ge=0)
    ring_seconds: float | None = Field(default=None, ge=0)
    talk_seconds: float | None = Field(default=None, ge=0)
    delay_seconds: float | None = Field(default=None, ge=0)
    duplicates: int = Field(default=0, ge=0, le=100)
    drop: bool = False
    no_client_request_id: bool = False
    retries: int | None = Field(default=None, ge=0, le=100)

    @field_validator("outcome", mode="before")
    @classmethod
    def _any_spelling(cls, value: Any) -> Any:
        return fold_session_status(value) or value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.error_message is not None and self.error_code is None:
            raise ValueError("error_message needs an error_code")
        return self
