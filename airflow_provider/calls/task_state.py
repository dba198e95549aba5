"""What the tries of a task leave for later ones: in the store, and in Airflow's task state (since 3.3).

The store prevents second calls. If it is lost, emptied, replaced, or restored from an older copy, Airflow's task state
still names a call of the task and its newest POSTs: it survives a crash, a retry and a clear. A POST is written there
when the store has it and before its first byte leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from airflow_provider.calls.identity import TaskIdentity
from voiceflow_worker import CallQueue, InvalidInputError, VoiceflowError
from voiceflow_worker.core.base.reading import get_jobs, owners_of
from voiceflow_worker.core.base.record_set import RecordSet, text_records
from voiceflow_worker.core.ports.store import Same

if TYPE_CHECKING:
    from voiceflow_worker import VoiceClient
    from voiceflow_worker.types import Verdict

BATCHES = "airflow-tasks"
TRIES = "airflow-tries"
BAD_ENDS = "airflow-bad-ends"
KEPT_FOR = timedelta(days=400)
"""The lifetime of a record, which is the same as the lifetime of a unique key."""
KEY = "voiceflow_calls"
MOST_KEPT = 100
"""The number of POSTs that are kept. It is more than one, because POSTs do not leave in the order of their commits."""


def batches_of(queue: CallQueue, identity: TaskIdentity) -> RecordSet[str]:
    """Return the record of the batches in which the tries of a campaign task have enqueued calls, and of their imports.

    A try adds its batch, and the token of its import, before it enqueues calls, so that later tries find them all.
    """
    return text_records(queue.store, BATCHES, keep_for=KEPT_FOR).within(f"{identity.scope()}/{identity.map_index}")


async def take_over(queue: CallQueue, identity: TaskIdentity, try_id: str) -> None:
    """Give the calls of a task instance to this try. From then on, no earlier try stops one of them."""
    tries = text_records(queue.store, TRIES, keep_for=KEPT_FOR).within(identity.scope())
    await tries.put({f"{identity.map_index}": try_id})


def taken_by(identity: TaskIdentity, try_id: str) -> Same:
    """Return the condition that no later try has taken over the calls of a task instance."""
    return Same(TRIES, identity.scope(), try_id, f"{identity.map_index}")


async def bad_ends(queue: CallQueue, identity: TaskIdentity, *, is_bad: bool, total: int) -> int:
    """Record whether the call of this instance of a mapped task ended badly, and count those of all its instances.

    Only instances below `total` count: a clear may have made their number smaller.
    """
    records = text_records(queue.store, BAD_ENDS, keep_for=KEPT_FOR).within(identity.scope())
    index = f"{identity.map_index}"
    # Recorded before the count, so that of several instances that end together, the last one counts all.
    await (records.put({index: ""}) if is_bad else records.remove([index]))
    return sum(int(each) < total for each, _ in await records.all())


class TaskStateAwayError(VoiceflowError):
    """Raised when Airflow's task state cannot be read or written. A retry can succeed."""


class TaskState:
    """Airflow's task state of one task instance: its call or batch, and its newest POSTs by their `clientRequestId`.

    Before Airflow 3.3, nothing is kept, and every store is accepted.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._identity = TaskIdentity.of(context)
        self._state: Any = context.get("task_state_store")
        self._saved: dict[str, Any] = {}

    async def require_known(self, queue: CallQueue, *, retention: timedelta) -> None:
        """Read what earlier tries saved. Raises InvalidInputError if the store lacks it, and TaskStateAwayError.

        The store may have deleted a call when `retention` has passed since its POST, but not its unique key.
        """
        if self._state is None:
            return
        self._saved = dict(await self._asked("read", partial(self._state.get, KEY)) or {})
        unknown: str | None = None
        key, batch_id = self._saved.get("unique_key"), self._saved.get("batch_id")
        if key is not None and not await owners_of(queue.store, queue.name, [key]):
            unknown = f"call {self._saved['job_id']}"
        if batch_id is not None and not await batches_of(queue, self._identity).get([batch_id]):
            unknown = f"batch {batch_id}"
        numbers: dict[str, int] = {}
        for request_id in self._saved.get("posts", ()):
            job_id, _, number = request_id.rpartition(".")
            numbers[job_id] = max(numbers.get(job_id, 0), int(number))
        jobs = await get_jobs(queue.store, numbers)
        is_recent = numbers and queue.store.clock.now() < datetime.fromisoformat(self._saved["at"]) + retention
        for job_id, number in numbers.items():
            job = jobs.get(job_id)
            if is_recent if job is None else job.post_count < number:
                unknown = f"call {job_id}"
        if unknown is not None:
            raise InvalidInputError(
                f"this task has enqueued {unknown} in the store {self._saved.get('store')}, but the store "
                f"{queue.store.url} does not know it, or a request of it. The store was emptied or restored from an "
                "older copy, or the connection now names another store. Nothing more was sent, because a person might "
                "be called a second time. Restore the newest copy of the store and clear this task. If your 8x8 "
                "account shows that nobody was called, start a new run of the DAG instead"
            )

    async def add(self, queue: CallQueue, enqueued: Mapping[str, str | None]) -> None:
        """Save what the task has enqueued: `{"job_id", "unique_key"}` or `{"batch_id"}`. Raises TaskStateAwayError."""
        saved = {**enqueued, "store": queue.store.url}
        if self._state is not None and not saved.items() <= self._saved.items():
            self._saved |= saved
            await self._write()

    def noted_by(self, voice: VoiceClient, queue: CallQueue, fail: Callable[[BaseException], None]) -> Any:
        """Return `voice` as a gateway that saves each POST before it leaves.

        If a POST cannot be saved, it does not leave, and `fail` gets the error.
        """
        return voice if self._state is None else _NotingVoice(self, voice, queue, fail)

    def add_post(self, request_id: str) -> None:
        """Add a POST that is about to leave. `save_posts` saves it."""
        self._saved["posts"] = [*self._saved.get("posts", ()), request_id][-MOST_KEPT:]

    async def save_posts(self, *, at: datetime) -> None:
        """Save the newest POSTs, which leave at the time `at` or later. Raises TaskStateAwayError."""
        self._saved["at"] = at.isoformat()
        await self._write()

    async def _write(self) -> None:
        await self._asked("written", partial(self._state.set, KEY, dict(self._saved), retention=KEPT_FOR))

    async def _asked(self, done: str, ask: Callable[[], Any]) -> Any:
        try:
            # On another thread: that of the event loop must not wait for Airflow, whose answer may need the loop.
            return await to_thread.run_sync(ask)
        except Exception as error:
            raise TaskStateAwayError(f"no calls are sent: Airflow's task state cannot be {done} ({error})") from error


class _NotingVoice:
    """A gateway that saves each POST before it leaves. POSTs that come while others are saved are saved together."""

    def __init__(
        self, state: TaskState, voice: VoiceClient, queue: CallQueue, fail: Callable[[BaseException], None]
    ) -> None:
        self._state = state
        self._voice = voice
        self._clock = queue.store.clock
        self._fail = fail
        self._writing = anyio.Lock()
        self._unwritten: set[str] = set()

    async def connect(self, *, waits: bool = True) -> Any:
        """Get ready for one POST."""
        return await self._voice.connect(waits=waits)

    async def place(self, placement: Any, *, progress: Any, now: datetime) -> Verdict:  # noqa: ARG002
        """Save the POST, then send it."""
        progress.may_have_been_sent = False
        request_id = placement.client_request_id
        self._state.add_post(request_id)
        self._unwritten.add(request_id)
        try:
            async with self._writing:
                if request_id in self._unwritten:
                    together = set(self._unwritten)
                    await self._state.save_posts(at=self._clock.now())
                    self._unwritten -= together
        except TaskStateAwayError as error:
            self._fail(error)
            raise
        return await self._voice.place(placement, progress=progress, now=self._clock.now())
