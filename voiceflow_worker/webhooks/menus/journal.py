"""What an answer leaves behind before it is given: itself, and the key that was pressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.events.callers import Callers, MenuCall
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.errors import StoreError, VoiceflowError
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.webhooks.menus.once import AnswersOnce

TURNS = 4
"""Turns of the event loop until key presses are on their way to the store: answers that wait for them go in the same
commit, and the callers wait for the disk once instead of twice. Where the two miss each other, only time is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEntry:
    """One answer, under the key of its event, with what was pressed in the call at `line`, if anything was."""

    key: str
    body: bytes
    line: MenuCall
    session_id: str | None
    press: KeyPress | None


class MenuJournal:
    """Stores answers and key presses, those of all callers that come together in one trip."""

    def __init__(self, callers: Callers, once: AnswersOnce) -> None:
        self._callers = callers
        self._once = once
        self._batcher: Batcher[AnswerEntry, bytes] = Batcher(self._flush)

    async def write(self, entry: AnswerEntry) -> bytes:
        """Store an answer and its key press; gives the answer that stands, which somebody else may have given first.

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
            except VoiceflowError as error:  # the others' are not lost with it
                failed[entry.key] = error

        async def keep() -> None:
            for _ in range(TURNS):
                await checkpoint()
            try:
                standing.update(await self._once.keep({entry.key: entry.body for entry in entries}))
            except StoreError as error:
                failed.update((entry.key, error) for entry in entries)

        async with anyio.create_task_group() as group:
            for entry in entries:
                if entry.press is not None:
                    group.start_soon(partial(press, entry, entry.press))
            group.start_soon(keep)
        return [failed.get(entry.key) or standing[entry.key] for entry in entries]
