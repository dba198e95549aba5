"""Idempotent answers: one stored answer for each event, shared by all receivers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.errors import StoreUnavailableError

ANSWERS = "ivr-answer"
CLAIMS = "ivr-claim"

KEPT = timedelta(hours=4)
"""The time for which an answer is kept. It is ample: an event is repeated within seconds, and a call lasts at most an
hour."""

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.2


class AnswersOnce:
    """The stored answers to events. Every receiver gives the answer that was stored first.

    A receiver claims an event before it runs a handler. A claim lasts `claim_for`, which is longer than the time limit
    of a handler. If the receiver crashes or cannot store its answer, another receiver can claim the event when the
    claim has ended, and then runs the handler again. Otherwise the handler runs once.
    """

    def __init__(self, store: Store, *, claim_for: timedelta) -> None:
        self._clock = store.clock
        self._claim_for = claim_for
        self._answers = text_records(store, ANSWERS, keep_for=KEPT)
        self._claims = text_records(store, CLAIMS, keep_for=claim_for)

    async def known(self, key: str) -> bytes | None:
        """The stored answer to this event; None if there is none."""
        found = (await self._answers.get([key])).get(key)
        return None if found is None else found.encode()

    async def turn(self, key: str) -> bytes | None:
        """Claim this event, or wait for the answer of the receiver that has claimed it.

        Returns that answer, or None if the claim succeeded and this receiver must answer. Raises StoreUnavailableError
        after a wait of twice `claim_for`.
        """
        mine = secrets.token_hex(8)
        gives_up = self._clock.monotonic() + 2 * self._claim_for.total_seconds()
        wait = _FIRST_LOOK
        while True:
            standing = await self._claims.add({key: mine})
            # Read even after a claim, because the previous receiver may have answered just before its claim ended.
            answer = await self.known(key)
            if answer is not None or standing[key] == mine:
                return answer
            if self._clock.monotonic() >= gives_up:
                raise StoreUnavailableError("another receiver has claimed this event, and has not answered it in time")
            await self._clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    async def keep(self, answers: Mapping[str, bytes]) -> dict[str, bytes]:
        """Store answers to events that have none. Returns the stored answers, which may come from other receivers."""
        standing = await self._answers.add({key: answer.decode() for key, answer in answers.items()})
        return {key: text.encode() for key, text in standing.items() if text is not None}
