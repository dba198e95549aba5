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
"""How long an answer is repeated: a repeated event comes within seconds, and a call lasts an hour at most."""

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.2


class AnswersOnce:
    """The stored answers to events: every receiver gives the one that was stored first.

    A receiver claims an event before it runs code. A claim lasts `claim_for`, longer than the code may take: after the
    death of its owner another receiver takes over. So the code runs once, or, after a crash, at least once.
    """

    def __init__(self, store: Store, *, claim_for: timedelta) -> None:
        self._clock = store.clock
        self._claim_for = claim_for
        self._answers = text_records(store, ANSWERS, keep_for=KEPT)
        self._claims = text_records(store, CLAIMS, keep_for=claim_for)

    async def known(self, key: str) -> bytes | None:
        """The answer that was given to this event."""
        found = (await self._answers.get([key])).get(key)
        return None if found is None else found.encode()

    async def turn(self, key: str) -> bytes | None:
        """Claim this event. None if this receiver has to answer it; otherwise wait for another receiver's answer.

        Raises StoreUnavailableError after waiting for twice as long as a claim lasts.
        """
        mine = secrets.token_hex(8)
        gives_up = self._clock.monotonic() + 2 * self._claim_for.total_seconds()
        wait = _FIRST_LOOK
        while True:
            standing = await self._claims.add({key: mine})
            # Also with the claim: its last owner may have answered just before it ended.
            answer = await self.known(key)
            if answer is not None or standing[key] == mine:
                return answer
            if self._clock.monotonic() >= gives_up:
                raise StoreUnavailableError("others are answering this event, and have not come to an end")
            await self._clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    async def keep(self, answers: Mapping[str, bytes]) -> dict[str, bytes]:
        """Store the answers to these events; returns the stored ones, which another receiver may have stored first."""
        standing = await self._answers.add({key: answer.decode() for key, answer in answers.items()})
        return {key: text.encode() for key, text in standing.items() if text is not None}
