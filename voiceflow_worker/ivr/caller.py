"""The caller: the argument of handlers and of prompts that are functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from voiceflow_worker.core.ports import Store
from voiceflow_worker.ivr.bridging import BridgeResult
from voiceflow_worker.model.jobs.job import Job, KeyPress

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The person on the phone, at one moment of a call.

    `digits` are the keys just pressed, `menu` is the name of the menu that asked. `number` is the person's number and
    `our_number` the account's, in E.164 form with +, for calls in either direction. `data` is the data of the job,
    empty for calls that this store did not make. `presses` are the keys pressed earlier in this call; those of secret
    menus are `***`. `bridge` is the result of a bridge that has just ended. `store` is the receiver's store; in a
    rehearsal, it is the store of the rehearsal or None.
    """

    now: datetime
    digits: str = ""
    menu: str = ""
    number: str | None = None
    our_number: str | None = None
    is_inbound: bool = False
    data: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    presses: tuple[KeyPress, ...] = ()
    language: str | None = None
    session_id: str | None = None
    event_id: str | None = None
    job: Job | None = None
    bridge: BridgeResult | None = None
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def job_id(self) -> str | None:
        """The id of the job that made this call, if the job is in this store."""
        return None if self.job is None else self.job.id

    def pressed(self, menu: str) -> str | None:
        """The last keys pressed at this menu, earlier in this call; None if there were none."""
        return next((press.digits for press in reversed(self.presses) if press.menu == menu), None)

    def local_time(self, zone: str) -> datetime:
        """The time now in a zone such as `Asia/Singapore`. Raises ZoneInfoNotFoundError for an unknown zone."""
        return self.now.astimezone(ZoneInfo(zone))
