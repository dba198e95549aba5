"""The person: after the store was rolled back, they do what is printed, and nothing else."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import anyio

from tests.crash.fault_injection import FaultInjection
from tests.support.processes import Process, voiceflow
from voiceflow_worker import CallQueue, JobState, open_store
from voiceflow_worker.errors import IllegalMoveError

NOTICED_WITHIN = 30.0
SETTLED_WITHIN = 60.0


class Person:
    """Has a terminal with the settings of the laboratory."""

    def __init__(self, lab: FaultInjection, tell: Callable[[str], None]) -> None:
        self._lab = lab
        self._tell = tell
        policy = lab.policy
        self._env = {
            "VOICEFLOW_STORE": lab.store,
            "VOICEFLOW_API_KEY": "laboratory-key",
            "VOICEFLOW_SUB_ACCOUNT": "laboratory",
            "VOICEFLOW_BASE_URL": lab.url,
            "VOICEFLOW_WEBHOOK_SECRET": "Bearer of-the-laboratory",
            "VOICEFLOW_SUBMIT_WINDOW": f"{policy.submit_window.total_seconds():g}s",
            "VOICEFLOW_CLOCK_SKEW": f"{policy.clock_skew.total_seconds():g}s",
            "VOICEFLOW_SUMMARY_DEADLINE": f"{policy.summary_deadline.total_seconds():g}s",
            "VOICEFLOW_STATE_DIR": str(lab.journals),
        }

    def does(self, *command: str) -> Process:
        """Run a command of voiceflow to its end."""
        process = voiceflow(*command, env=self._env)
        process.wait()
        return process

    def sees_a_hold(self) -> bool:
        """Whether the queue is held, and says why, within a while."""
        ends = time.monotonic() + NOTICED_WITHIN
        while time.monotonic() < ends:
            with contextlib.suppress(Exception):  # the store may be on its way back
                if self._lab.awaits_a_person():
                    return True
            time.sleep(0.1)  # between two looks at a store that may be away
        return False

    def settles(self) -> str:
        """The doctor, until it finds nothing forgotten; the log of 8x8; what stays in doubt; then `resume`.

        Gives what the doctor found to the last; empty if the store was put right.
        """
        left = self._asks_the_doctor()
        done = self.does("reconcile", "--json")
        self._tell(f"the person: reconcile says {''.join(done.stdout).strip() or done.printed[-300:]}")
        anyio.run(self._resolve)
        resumed = self.does("resume")
        if resumed.wait() != 0:
            raise AssertionError(f"`voiceflow resume` failed:\n{resumed.printed}")
        return left

    def _asks_the_doctor(self) -> str:
        ends = time.monotonic() + SETTLED_WITHIN
        while True:
            lines = [json.loads(line) for line in self.does("doctor", "--json").stdout if line.startswith("{")]
            left = [line["message"] for line in lines if (line["check"], line["level"]) == ("journal files", "failure")]
            if not left or time.monotonic() > ends:
                return "; ".join(left)

    async def _resolve(self) -> None:
        """Say of each call in doubt what the log of the calls says, as soon as it may be said."""
        rang = {row["client_request_id"] for row in self._lab.ledger() if row["rang"]}
        async with open_store(self._lab.store) as store:
            queue = CallQueue(store, policy=self._lab.policy)
            doubts = await queue.find(states=[JobState.IN_DOUBT], limit=None)
            self._tell(f"the person: resolves {len(doubts)} doubts")
            for job in doubts:
                post = job.open_post
                if post is None:
                    raise AssertionError(f"{job.id} is in doubt and has no open POST")
                placed = post.client_request_id in rang
                if not placed:
                    wait = post.valid_until + self._lab.policy.clock_skew - datetime.now(UTC)
                    await anyio.sleep(max(wait.total_seconds() + 0.01, 0))  # until the POST is too late for 8x8
                with contextlib.suppress(IllegalMoveError):  # its summary came meanwhile
                    await queue.resolve(job.id, placed=placed, note="by the ledger")
