"""Scripts: what shall become of calls, by destination, and how their summaries shall arrive."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from voiceflow_worker.model.reports.status import SessionStatus, fold_session_status
from voiceflow_worker.sandbox.orders.caller import Keys, Reached, checked_keys
from voiceflow_worker.sandbox.orders.orders import same_number


class Script(BaseModel):
    """What happens to calls to `destination`, or to all where it is absent or "*"; what is left out goes by the seed.

    For `times` calls, or for all; several scripts for one destination are used up in their order, so a BUSY once and
    then a COMPLETED are two. Seconds are the person's and the service's, and divided by the sandbox's speed:
    `dial_seconds` from acceptance to dialling, `ring_seconds`, `talk_seconds`, and `delay_seconds` from the end of the
    call to its summary.

    `duplicates` is how many more times the summary is sent, `drop` keeps it from being sent at all,
    `no_client_request_id` sends it without one, `retries` is how often a delivery that was not answered with 2xx is
    tried again.

    `keys` is what the person does at the menu's questions, one entry each; without it they press what the seed says.
    In a call with questions or a second party, `action_seconds` is how long each text or file takes, `bridge_outcome`
    what becomes of a second party and `bridge_seconds` how long the two talk; `talk_seconds` counts where
    `bridge_seconds` is absent, and else such a call takes as long as its menu does. `steps` is whether the service asks
    what to do next after each action, not after questions alone. `statuses` is whether call status
    events (VCS) are sent: if absent, only to a webhook that was registered for them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: str | None = None
    times: int | None = Field(default=None, ge=1)
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
    keys: Keys | None = None
    action_seconds: float | None = Field(default=None, ge=0)
    bridge_outcome: Reached | None = None
    bridge_seconds: float | None = Field(default=None, ge=0)
    statuses: bool | None = None
    steps: bool = False

    @field_validator("outcome", mode="before")
    @classmethod
    def _any_spelling(cls, value: Any) -> Any:
        return fold_session_status(value) or value

    @field_validator("keys")
    @classmethod
    def _on_a_phone(cls, value: Keys | None) -> Keys | None:
        return checked_keys(value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.error_message is not None and self.error_code is None:
            raise ValueError("error_message needs an error_code")
        return self

    @property
    def for_destination(self) -> str | None:
        """The destination it is for; None for every one."""
        return None if self.destination in {None, "*"} else same_number(str(self.destination))

    @property
    def count(self) -> int | None:
        """For how many calls it stands; None for all."""
        return self.times
