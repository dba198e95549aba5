"""After the kills: what is left is finished, evidence is gathered, a person looks at the rest, and all is judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio

from tests.crash.fault_injection import AT_REST, FaultInjection
from tests.crash.judge import Judgement
from voiceflow_worker import CallQueue, JobState, VoiceClient, open_store
from voiceflow_worker.core.ports import EventKind
from voiceflow_worker.core.settling.reconcile import Reconciled, Reconciler

LONG = 600.0
SEVERAL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """`before` is the judgement when all evidence was in, `after` when a person had resolved the open doubts."""

    doubts: int
    """How many calls were in doubt at any time."""
    log: Reconciled
    before: Judgement
    after: Judgement


def aftermath(lab: FaultInjection, *, lease: timedelta, concurrency: int, tell: Callable[[str], None]) -> Verdicts:
    """Bring a run to its end."""

    def rest() -> Reconciled:
        told = Reconciled()
        for _ in range(SEVERAL):
            lab.finish(and_wait_for_summaries=False, seconds=LONG, lease=lease, concurrency=concurrency)
            lab.come_to_rest()
            overdue = [job.due_at for job in lab.jobs() if job.state is JobState.SUBMITTED]
            if overdue:
                left = max(overdue) - datetime.now(UTC)
                time.sleep(max(left.total_seconds() + 0.1, 0))  # the deadline of the summaries passes
            told += anyio.run(_look_at_the_log, lab)
            if lab.states().keys() <= AT_REST:
                break
        # What the log told of may have been granted a redial, which was then made, and looked for in its turn.
        return told

    tell("finishing what is left")
    log = rest()
    judgement = before = lab.judge()
    doubts = anyio.run(_doubts, lab.store)
    for _ in range(10):
        if not judgement.open_doubts or judgement.violations:
            break
        tell(f"a person resolves {len(judgement.open_doubts)} doubts")
        anyio.run(_say_not_placed, lab, judgement.open_doubts)
        rest()
        judgement = lab.judge()
    return Verdicts(doubts=doubts, log=log, before=before, after=judgement)


async def _look_at_the_log(lab: FaultInjection) -> Reconciled:
    """What `voiceflow reconcile` does."""
    client = VoiceClient("laboratory-key", "laboratory", base_url=lab.url)
    async with open_store(lab.store) as store, client as voice:
        return await Reconciler(store, voice, queue="default", policy=lab.policy).everything()


async def _doubts(url: str) -> int:
    async with open_store(url) as store:
        doubted: set[str] = set()
        after = 0
        while events := await store.events("default", after=after):
            after = events[-1].sequence
            doubted |= {event.job_id for event in events if event.kind is EventKind.DOUBTED}
    return len(doubted)


async def _say_not_placed(lab: FaultInjection, job_ids: tuple[str, ...]) -> None:
    """The person finds that nothing rang, waits until nothing can ring any more, and says so."""
    async with open_store(lab.store) as store:
        queue = CallQueue(store, policy=lab.policy)
        for job_id in job_ids:
            post = (await queue.get(job_id)).open_post
            if post is None:
                raise AssertionError(f"{job_id} is in doubt and has no open POST")
            wait = post.valid_until + lab.policy.clock_skew - datetime.now(UTC)
            await anyio.sleep(max(wait.total_seconds() + 0.01, 0))  # until the POST is too late for 8x8
            await queue.resolve(job_id, placed=False, note="not in the ledger")
