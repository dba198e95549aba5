"""Who is on the phone: what handlers and prompts are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job, KeyPress

if TYPE_CHECKING:
    from voiceflow_worker.ivr.bridging import BridgeResult

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The person on the phone, at one moment of a call.

    `digits` is what they have just pressed, `menu` the name of the menu that asked. `number` is theirs and `our_number`
    the account's, in E.164 form with +, whoever called whom. `data` is what the job was enqueued with, empty for calls
    that are no job of this store. `presses` is what they pressed before in this call; of secret menus it has `***`.
    `bridge` is what became of the other party, after a bridge. `store` is the receiver's store; a rehearsal has none
    unless it is given one.
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
        """The id of the job that made this call, if one of this store did."""
        return None if self.job is None else self.job.id

    def pressed(self, menu: str) -> str | None:
        """What they pressed last when the menu of this name asked, in this call before now; None for nothing."""
        return next((press.digits for press in reversed(self.presses) if press.menu == menu), None)

    def local_time(self, zone: str) -> datetime:
        """The time now in a zone such as `Asia/Singapore`. Raises ZoneInfoNotFoundError for one that there is not."""
        return self.now.astimezone(ZoneInfo(zone))
