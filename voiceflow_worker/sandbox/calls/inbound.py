"""Incoming calls to the numbers of the account: orders, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, field_validator

from voiceflow_worker.model.numbers import phone
from voiceflow_worker.sandbox.calls.ledger import Ring, moment
from voiceflow_worker.sandbox.orders.caller import Keys, Reached, checked_keys


class InboundOrder(BaseModel):
    """An order for a call from `source` to `destination`, a number of the account.

    `sub_account` is whose webhooks are asked what to do; the first one that has a webhook for call actions unless
    given. The other keys are those of a script.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    destination: str
    sub_account: str | None = None
    keys: Keys | None = None
    action_seconds: float | None = Field(default=None, ge=0)
    bridge_outcome: Reached | None = None
    bridge_seconds: float | None = Field(default=None, ge=0)
    statuses: bool | None = None
    steps: bool = False

    @field_validator("source", "destination")
    @classmethod
    def _is_a_number(cls, value: str) -> str:
        if not phone.is_e164(value):
            raise ValueError(f"a number in E.164 form is needed, such as +6587654321, not {value[:40]!r}")
        return phone.normalise(value)

    @field_validator("keys")
    @classmethod
    def _on_a_phone(cls, value: Keys | None) -> Keys | None:
        return checked_keys(value)


@dataclass(slots=True, kw_only=True)
class InboundEntry:
    """One incoming call; `at` is in epoch seconds.

    `heard`, `pressed`, `bridged_to` and `rings` as in the ledger.
    """

    at: float
    source: str
    destination: str
    sub_account: str
    session_id: str = ""
    rang: bool = True
    outcome: str | None = None
    heard: Sequence[str] = ()
    pressed: Sequence[str | None] = ()
    bridged_to: str | None = None
    rings: list[Ring] = field(default_factory=list[Ring])

    def as_json(self) -> dict[str, object]:
        """The entry as JSON."""
        return {
            "at": moment(self.at),
            "at_seconds": self.at,
            "source": self.source,
            "destination": self.destination,
            "sub_account": self.sub_account,
            "session_id": self.session_id,
            "outcome": self.outcome,
            "heard": list(self.heard),
            "pressed": list(self.pressed),
            "bridged_to": self.bridged_to,
            "rings": [ring.as_json() for ring in self.rings],
        }
