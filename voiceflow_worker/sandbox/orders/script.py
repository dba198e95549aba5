"""Scripts of calls: the person on the phone, the end of the call, and the arrival of its summary."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status
from voiceflow_worker.sandbox.orders.caller import Keys, Reached
from voiceflow_worker.sandbox.orders.orders import DestinationOrder, StrictModel


class Conduct(StrictModel):
    """The conduct of the person on the phone, in a call with questions or a second party.

    `keys` has one entry for each question of the menu; without `keys`, the seed chooses the keys. `action_seconds` is
    the length of each text or file. `bridge_outcome` is the result of calling the second party, and `bridge_seconds` is
    how long the two people talk. With `steps`, the service asks for the next step after each action, not only after
    questions. `statuses` decides if call status events (VCS) are sent; by default, only webhooks that were registered
    for VCS get them.
    """

    keys: Keys | None = None
    action_seconds: float | None = Field(default=None, ge=0)
    bridge_outcome: Reached | None = None
    bridge_seconds: float | None = Field(default=None, ge=0)
    statuses: bool | None = None
    steps: bool = False


class Script(DestinationOrder, Conduct):
    """The course of calls to `destination`, or of all calls. The seed decides everything that the script does not set.

    Scripts for one destination are used in their order: for BUSY once and then COMPLETED, add two scripts. All
    durations are divided by the sandbox's speed: `dial_seconds` from acceptance to dialling, `ring_seconds`,
    `talk_seconds`, and `delay_seconds` from the end of the call to its summary.

    `duplicates` is the number of further summaries. With `drop`, no summary is sent. `no_client_request_id` leaves the
    clientRequestId out of the summary. If the answer is not 2xx, the summary is sent again up to `retries` times.

    An answered call with questions or a second party takes as long as its actions. If there is a second party, the two
    people talk for `bridge_seconds`, or for `talk_seconds` if that is not set.
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
            raise ValueError("error_message needs an error_code: give one, or omit error_message")
        return self
