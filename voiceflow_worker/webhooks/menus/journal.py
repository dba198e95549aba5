"""Storage of menu answers and key presses, before the answer is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from voiceflow_worker.core.events.callers import Callers, MenuCall
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.errors import StoreError, VoiceflowError
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.webhooks.menus.once import AnswersOnce


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEntry:
    """The answer to one event, under its key, and the key that was pressed, if any."""

    key: str
    body: bytes
    line: MenuCall
    session_id: str | None
    press: KeyPress | None


class MenuJournal:
    """Stores answers and key presses of concurrent events in batches."""

    def __init__(self, callers: Callers, once: AnswersOnce) -> None:
        self._callers = callers
        self._once = once
        self._batcher: Batcher[AnswerEntry, bytes] = Batcher(self._flush)

    async def write(self, entry: AnswerEntry) -> bytes:
        """Store an answer and its key press; returns the stored answer, which another receiver may have stored first.

        When this returns, both are durable. Raises StoreError and StaleJobError: one of the two may then be stored, and
        the same event again stores the other.
        """
        return await self._batcher.submit(entry)

    async def _flush(self, entries: Sequence[AnswerEntry]) -> list[bytes | BaseException]:
        failed: dict[str, BaseException] = {}
        standing: dict[str, bytes] = {}

        async def press(entry: AnswerEntry, press: KeyPress) -> None:
            try:
                await self._callers.pressed(entry.line, press, session_id=entry.session_id)
            except VoiceflowError as error:  # the others are stored all the same
                failed[entry.key] = error

        async with anyio.create_task_group() as group:
            for entry in entries:
                if entry.press is not None:
                    group.start_soon(press, entry, entry.press)
            try:
                standing = await self._once.keep({entry.key: entry.body for entry in entries})
            except StoreError as error:
                failed.update((entry.key, error) for entry in entries)
        return [failed.get(entry.key) or standing[entry.key] for entry in entries]
