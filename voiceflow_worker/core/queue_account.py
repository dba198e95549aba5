"""What a store has at 8x8, whichever process asks: the account of each queue, and the addresses of its receivers."""

from __future__ import annotations

from voiceflow_worker.core.base.identity import accounts_of
from voiceflow_worker.core.base.record_set import RecordSet, text_records
from voiceflow_worker.core.heartbeats import FRESH, Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import SettingsError

TAKE_OVER = "`voiceflow doctor --make` writes down yours, once no worker of the queue has run for half a minute"


def registered_addresses(store: Store) -> RecordSet[str]:
    """Return the addresses that receivers of a store have registered at 8x8, by the type of their events."""
    return text_records(store, "receiver-address")


class QueueAccount:
    """The account of one queue, such as `demo at voice.8x8.com`. The first worker of the queue writes it down."""

    def __init__(self, store: Store, queue: str) -> None:
        self._queue = queue
        self._accounts = accounts_of(store)
        self._heartbeats = Heartbeats(store)

    async def problem(self, own: str) -> str | None:
        """Return why a process with this account may not send the queue's calls; None if it may. Raises StoreError."""
        found = await self._noted()
        if found in {None, own}:
            return None
        return f"queue {self._queue} belongs to the sub-account {found}, and this process has {own}"

    async def require(self, own: str) -> None:
        """Write down the account of a queue that has none. Raises SettingsError if it has another, and StoreError."""
        if await self._noted() is None:
            await self._accounts.add({self._queue: own})
        if (problem := await self.problem(own)) is not None:
            raise SettingsError(
                f"{problem}: set VOICEFLOW_SUB_ACCOUNT and VOICEFLOW_BASE_URL to those, or use another queue or store; "
                + TAKE_OVER
            )

    async def _noted(self) -> str | None:
        return (await self._accounts.get([self._queue])).get(self._queue)

    async def replace(self, own: str) -> None:
        """Write down this account in place of another. Raises SettingsError while a worker runs, and StoreError."""
        if (problem := await self.problem(own)) is None:
            return
        if beats := await self._heartbeats.workers(self._queue, within=FRESH):
            names = ", ".join(beat.worker_id for beat in beats)
            raise SettingsError(f"{problem}: stop its workers first ({names}), and wait for half a minute")
        await self._accounts.put({self._queue: own})
