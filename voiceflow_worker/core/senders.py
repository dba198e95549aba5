"""Who else sends calls of a queue, and how far it had come: what one worker knows of the others.

A store that was rolled back forgets what each sender has sent. The sender itself finds out by its journal file, if it
lives. So each worker also notes the others with their numbers, in its own file: a number that the store no longer has
shows the rollback, whatever became of its sender.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from voiceflow_worker.core.ports.store import Page, Put, Record, Wanted
from voiceflow_worker.core.writes import WRITERS

SENDERS = "sender"
"""Namespace of the writers that send calls of a queue: in its group, the members are their names."""
_KEPT = timedelta(days=8)
"""A sender writes one journal file for a week at most."""
_MOST = 500
"""The most senders of a queue that a worker notes."""
LEAST = 2
"""The first number of a writer that stands for a call: a worker stores one when it begins, and may withdraw it."""


def sender_put(queue: str, writer: str, *, at: datetime) -> Put:
    """What tells the other workers of a queue that this writer sends its calls."""
    return Put(SENDERS, queue, "", at + _KEPT, member=writer)


def host_of(writer: str) -> str:
    """The host in the name of a writer."""
    return writer.rsplit("-", 2)[0]


class Senders:
    """The newest numbers of the other senders of a queue that the store certainly had."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self.others: Collection[str] = ()
        """The names of the others that send now, or have sent in the last week."""
        self.noted: dict[str, int] = {}

    def wanted(self, name: str) -> Wanted:
        """What to read: the number of the writer with this name, and of the others, and who else there is."""
        names = {name, *self.others, *self.noted} - {""}
        return {WRITERS: sorted(names), SENDERS: Page(group=self._queue, limit=_MOST)}

    def take(self, found: Mapping[str, Collection[Record]], *, but: str) -> dict[str, int]:
        """Take what was read. Returns the numbers of others that are new, and higher than those that were noted."""
        self.others = [record.member for record in found[SENDERS] if record.member != but]
        numbers = {record.group: int(record.value) for record in found[WRITERS] if record.group != but}
        newer = {name: number for name, number in numbers.items() if number > self.noted.get(name, LEAST - 1)}
        self.noted |= newer
        return newer

    def lost_in(self, found: Mapping[str, Collection[Record]]) -> bool:
        """Whether the store no longer has what was noted."""
        numbers = {record.group: int(record.value) for record in found[WRITERS]}
        return any(numbers.get(name, 0) < number for name, number in self.noted.items())

    def note(self, numbers: Mapping[str, int]) -> None:
        """Note numbers that a journal file of this host has."""
        for name, number in numbers.items():
            self.noted[name] = max(number, self.noted.get(name, 0))
