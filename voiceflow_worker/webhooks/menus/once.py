"""Idempotent answers: one stored answer for each event, shared by all receivers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta

from voiceflow_worker.core.ports import Clock, Records
from voiceflow_worker.errors import StoreUnavailableError

ANSWERS = "ivr-answer"
CLAIMS = "ivr-claim"

KEPT = timedelta(hours=4)
"""How long an answer is given again: a repeated event comes within seconds, and a call lasts an hour at most."""

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.2


class AnswersOnce:
    """Answers as records: the first that is stored is the one that everybody gives.

    A receiver claims the event before it runs code. A claim lasts `claim_for`, longer than the code may take: when its
    owner died, somebody else takes over then. So the code runs once, and at least once after a crash.
    """

    def __init__(self, records: Records, clock: Clock, *, claim_for: timedelta) -> None:
        self._records = records
        self._clock = clock
        self._claim_for = claim_for

    async def known(self, key: str) -> bytes | None:
        """The answer that was given to this event."""
        found = await self._records.get(ANSWERS, [key], now=self._clock.now())
        return found[key].encode() if key in found else None

    async def turn(self, key: str) -> bytes | None:
        """Wait for one's turn at this event: None, and it is the caller's to answer; or the answer somebody gave.

        Raises StoreUnavailableError when others have been at it for twice as long as a claim lasts.
        """
        mine = secrets.token_hex(8)
        gives_up = self._clock.monotonic() + 2 * self._claim_for.total_seconds()
        wait = _FIRST_LOOK
        while True:
            now = self._clock.now()
            standing = await self._records.put_if_absent(CLAIMS, {key: mine}, expires_at=now + self._claim_for, now=now)
            # Also with the claim in hand: its last owner may have answered between our look and its end.
            answer = await self.known(key)
            if answer is not None or standing[key] == mine:
                return answer
            if self._clock.monotonic() >= gives_up:
                raise StoreUnavailableError("others are answering this event, and have not come to an end")
            await self._clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    async def keep(self, answers: Mapping[str, bytes]) -> dict[str, bytes]:
        """Keep the answers to these events; gives those that stand, which somebody else may have given first."""
        now = self._clock.now()
        texts = {key: answer.decode() for key, answer in answers.items()}
        standing = await self._records.put_if_absent(ANSWERS, texts, expires_at=now + KEPT, now=now)
        return {key: text.encode() for key, text in standing.items()}
