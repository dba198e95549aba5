"""The check of the voices in calls against the voices of the account.

8x8 refuses a call with a voice that the account does not have (-1002). The worker warns of these voices before it sends
its first call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

import anyio
import structlog

from voiceflow_worker.model.jobs.job import Job

PATIENCE = 5.0
"""The longest time, in seconds, that the first calls wait while the list of voices is read. Without the list, no voice
is checked."""
_VOICE = re.compile(r'"voiceProfile":("(?:[^"\\]|\\.)*")')

_log = structlog.get_logger("voiceflow.worker")


class NamedVoice(Protocol):
    """One voice of the account."""

    @property
    def code(self) -> str:
        """The name of the voice in call flows."""
        ...


class VoiceList(Protocol):
    """A source of the account's voices, such as a `VoiceClient`."""

    async def speech_profiles(self) -> Sequence[NamedVoice]:
        """All voices. May raise any exception."""
        ...


def voices_of(job: Job) -> list[str]:
    """The voices that a call's flow names, each once."""
    return list(dict.fromkeys(json.loads(found) for found in _VOICE.findall(job.body)))


class VoiceCheck:
    """Warns of voices that the account does not have, once each; the list is read once."""

    def __init__(self, voices: VoiceList | None) -> None:
        self._voices = voices
        self._known: frozenset[str] | None = None
        self._seen: set[str] = set()

    async def look(self, jobs: Sequence[Job]) -> None:
        """Check calls that are about to be sent. Raises nothing if 8x8 fails."""
        if self._voices is None:
            return
        new = {voice for job in jobs for voice in voices_of(job)} - self._seen
        if not new:
            return
        self._seen |= new
        if self._known is None:
            self._known = await self._ask(self._voices)
        for voice in sorted(new - self._known) if self._known else ():
            near = get_close_matches(voice, self._known, n=3)
            _log.warning(
                "the account does not have this voice: 8x8 will refuse calls with it (-1002)", voice=voice, near=near
            )

    async def _ask(self, voices: VoiceList) -> frozenset[str]:
        with anyio.move_on_after(PATIENCE):
            try:
                return frozenset(each.code for each in await voices.speech_profiles())
            except Exception as error:  # noqa: BLE001 - without the list calls are sent unchecked
                _log.info("the voices of the account could not be read; voices are not checked", error=str(error))
        return frozenset()
