"""The calls that the laboratory asked for: each with its key, and the jobs it became."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from voiceflow_worker import CallRequest, RedialPolicy
from voiceflow_worker.core.admission import Enqueued


class Kind(StrEnum):
    """A kind of call in the mix."""

    PLAIN = "plain"
    BRIDGE = "bridge"
    """Two parties; the second is one of a few, who are called again and again."""
    AGENT = "agent"
    """One of the few second parties, called alone."""
    MENU = "menu"
    REDIAL = "redial"
    NUMBERS = "numbers"
    """A person with several numbers: each rings once at most, after the one before was busy or did not answer."""
    BRIEF = "brief"
    """Valid for a few seconds only: some of these must expire."""
    SUPPRESSED = "suppressed"
    """One of its parties is put on the suppression list before it is due: nobody may be rung."""
    ROW = "row"
    """Handed in again and again by a task, held and resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call that somebody asked for: one key, and rings as often as its redial policy grants and not more."""

    kind: Kind
    request: CallRequest
    destination: str
    second: str | None = None

    @property
    def key(self) -> str:
        key = self.request.options.get("unique_key")
        assert key is not None
        return key

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the person, in the order in which they are called."""
        return self.destination, *self.request.options.get("further_numbers", ())

    @property
    def redial(self) -> RedialPolicy | None:
        return self.request.options.get("redial")

    @property
    def valid_until(self) -> datetime | None:
        until = self.request.options.get("valid_until")
        assert not isinstance(until, str)
        return until


class Register:
    """All that was asked for. Threads write into it side by side."""

    def __init__(self, suppressed: Collection[str] = ()) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, Asked] = {}
        self._keys: dict[str, str] = {}
        self._confirmed: set[str] = set()
        self._standing: set[str] = set()
        """Those of them that the store has named since it was last rolled back."""
        self._dropped: set[str] = set()
        self._suppressed = dict.fromkeys(suppressed, datetime.min.replace(tzinfo=UTC))
        self.forgotten: list[tuple[datetime, datetime]] = []
        """Between which times the store has forgotten what happened."""
        self.other_jobs: list[tuple[str, str, str]] = []
        """Keys that were answered with another job than before, though no store was rolled back: key, before, now."""

    def __len__(self) -> int:
        return len(self._calls)

    def ask(self, calls: Iterable[Asked]) -> None:
        """These are about to be handed in."""
        with self._lock:
            self._calls.update({each.key: each for each in calls})

    def rolled_back(self, *, copied: datetime, struck: datetime) -> None:
        """The store was: it forgot what happened between the two, and may answer each key with another job, once."""
        with self._lock:
            self._standing.clear()
            self.forgotten.append((copied, struck))

    def confirm(self, pairs: Iterable[tuple[str, str]]) -> None:
        """The store answered: these keys are these jobs. It must not forget that, unless it is rolled back."""
        with self._lock:
            known = {key: job_id for job_id, key in self._keys.items()}
            for key, job_id in pairs:
                if key in self._standing and self._keys.get(job_id) != key:
                    self.other_jobs.append((key, known.get(key, ""), job_id))
                self._keys[job_id] = key
                self._confirmed.add(key)
                self._standing.add(key)

    def drop(self, keys: Iterable[str]) -> None:
        """These could not be handed in again to a store that was rolled back: they are too late, or on the list."""
        with self._lock:
            self._dropped |= set(keys)

    def suppress(self, numbers: Iterable[str]) -> None:
        """From now on these numbers are on the suppression list."""
        now = datetime.now(UTC)
        with self._lock:
            self._suppressed = {**dict.fromkeys(numbers, now), **self._suppressed}

    @property
    def calls(self) -> Sequence[Asked]:
        """Everything that was asked for."""
        with self._lock:
            return list(self._calls.values())

    @property
    def suppressed(self) -> Mapping[str, datetime]:
        """The numbers on the suppression list, and since when the store has had each."""
        with self._lock:
            return dict(self._suppressed)

    @property
    def confirmed(self) -> set[str]:
        """The keys that the store must know: it said that it took them, and had no reason to refuse them later."""
        with self._lock:
            return self._confirmed - self._dropped

    @property
    def settled(self) -> set[str]:
        """The keys that the store has answered for since it was last rolled back, or will not take any more."""
        with self._lock:
            return self._standing | self._dropped

    def key_of(self, job_id: str) -> str | None:
        """What was asked for with this job, as far as anybody was told."""
        return self._keys.get(job_id)


def pairs_of(calls: Sequence[Asked], enqueued: Sequence[Enqueued]) -> list[tuple[str, str]]:
    """Keys with the jobs that the store named for them."""
    return [(call.key, each.job.id) for call, each in zip(calls, enqueued, strict=True)]
