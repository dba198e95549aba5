"""A task without Airflow's database: its surroundings, and its tries as moves (`Play`)."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider.hooks.voice import VoiceFlowHook
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.support.engine import Engine
from tests.support.stage import Stage, stage
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, CallQueue, Job, JobState, SessionStatus, Worker, open_store
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.model.copying import replace

T = TypeVar("T")

API_KEY = "the-api-key-of-the-tests"
STORED: dict[str, Any] = {"send": "worker", "wait_for": None}
"""The options of a task that makes its calls and ends: a worker sends them."""


class TaskState:
    """Airflow's task state store (3.3), in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, *, retention: object = None) -> None:  # noqa: ARG002 (Airflow's)
        self.kept[key] = value


def context(
    task_id: str = "t", *, run: str = "run", map_index: int = -1, max_tries: int = 0, **more: object
) -> dict[str, Any]:
    """The context of one try of one task instance."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="dag",
        run_id=run,
        task_id=task_id,
        map_index=map_index,
        max_tries=max_tries,
        try_number=1,
        pushed=pushed,
        xcom_push=lambda *, key, value: pushed.__setitem__(key, value),
    )
    return {"ti": ti, **more}


@contextmanager
def surroundings(folder: Path, *, speed: float = 100) -> Iterator[Stage]:
    """A stage whose store, sandbox and receiver the connection `voiceflow_default` names."""
    with stage(folder, speed=speed) as on, pytest.MonkeyPatch.context() as patched:
        connect(patched, on)
        yield on


def in_queue(on: Stage, act: Callable[[CallQueue], Awaitable[T]], *, name: str = "default") -> T:
    """Do something with a queue of the stage, at once: a command takes a second to start."""

    async def done() -> T:
        async with open_store(on.store) as store:
            return await act(CallQueue(store, name))

    return asyncio.run(done())


def jobs_to(on: Stage, number: str) -> Sequence[Job]:
    """The calls to a number, oldest first."""
    return in_queue(on, lambda queue: queue.find(destination=number, limit=None))


def change(on: Stage, number: str, **fields: Any) -> None:
    """Change the call to a number, as if time had passed."""
    (job,) = jobs_to(on, number)
    in_queue(on, lambda queue: Changes(queue.store, CallPolicy()).change(job.id, lambda job: replace(job, **fields)))


def drain(on: Stage) -> None:
    """Send what is due, as `voiceflow worker --drain` does."""

    async def drained(queue: CallQueue) -> None:
        async with VoiceFlowHook().get_client() as voice:
            await Worker(queue.store, voice, queue=queue.name, rate=None).drain()

    in_queue(on, drained)


LASTING: dict[str, Any] = {"outcome": "COMPLETED", "drop": True}
"""The script of a call that has not ended for the store until a test calls `end_call`, however slow the test is."""


def end_call(on: Stage, number: str, status: SessionStatus = SessionStatus.COMPLETED) -> None:
    """Report the end of a `LASTING` call."""
    (job,) = jobs_to(on, number)
    in_queue(on, lambda queue: Engine(queue.store, ScriptedVoice()).summarise(job, status))


def connection(sandbox: str, *, password: str = API_KEY, **extra: object) -> str:
    """A connection, as Airflow's environment has it."""
    usual = {
        "sub_account": "tests",
        "source": "+6531234567",
        "voice_profile": "en-IE-EmilyNeural",
        "rate": "unlimited",
        "lease": "3s",
    }
    given = {"conn_type": "voiceflow", "host": sandbox, "password": password, "extra": {**usual, **extra}}
    return json.dumps(given)


def connect(patched: pytest.MonkeyPatch, on: Stage, **extra: Any) -> None:
    """Set the connection `voiceflow_default` to this stage."""
    patched.setenv("AIRFLOW_CONN_VOICEFLOW_DEFAULT", connection(on.sandbox, **{"store": on.store, **extra}))


# --- tasks ------------------------------------------------------------------------------------------------------------

USUAL: dict[str, Any] = {"task_id": "t", "deferrable": False, "poll_interval": 0.2}


def call(to: Any, **options: Any) -> VoiceCallOperator:
    """A task of one call."""
    return VoiceCallOperator(**{**USUAL, "destination": to, "say": "Hello.", **options})


def campaign(rows: Any, **options: Any) -> VoiceCampaignOperator:
    """A task of many calls."""
    return VoiceCampaignOperator(**{**USUAL, "rows": rows, "say": "Hello {{ name }}.", **options})


def row(number: str, name: str = "Ann", **more: object) -> dict[str, Any]:
    return {"destination": number, "name": name, **more}


def rings(on: Stage, *numbers: str) -> list[int]:
    """How many POSTs came for each of the numbers."""
    called = [entry["destination"] for entry in on.ledger()]
    return [called.count(number) for number in numbers]


def refused(said: str = "", *, is_final: bool = True) -> Any:
    """The block ends with a failure that says this: a final one, or one that Airflow tries again."""

    def is_so(error: BaseException) -> bool:
        return isinstance(error, AirflowFailException) is is_final

    return pytest.RaisesExc(AirflowException, match=f"(?s){said}", check=is_so)


def deferred(task: Any, here: dict[str, Any]) -> Any:
    """The trigger of a task that waits."""
    with pytest.raises(TaskDeferred) as raised:
        task.execute(here)
    return raised.value.trigger


async def event_of(trigger: Any) -> Any:
    """What the trigger says when it fires."""
    return (await asyncio.wait_for(anext(trigger.run()), 60)).payload


_PERSON = re.compile(r"([A-Z])(?::(\w+))?(?:#(\w+))?(@later)?")
TIMES = {"past": timedelta(seconds=-1), "ahead": timedelta(hours=3)}
_numbers = iter(f"+65876{place}" for place in range(10_000, 60_000))
_plays = iter(range(10_000))


class Play:
    """Tries of one task, as moves: "left A:Bo B; stop; try A B#key limit=2". A letter is a person, `A:Bo` told a name.

    `left` stores its rows and is killed, `try` goes to its end, `defer` to its deferral, and `resume` on from there.
    `stop` is that of the newest try of the instance, `stop 1` of the first. `cancel A` is a person's, and so are `hold
    A` and `open A` of the batch of A's call. A worker is asked to `send`. `run NAME`, `map 2` and `clear` are of what
    follows; `says WORDS` is how the next try fails.
    """

    def __init__(self, on: Stage, kind: str = "campaign") -> None:
        self.on, self.kind, self.task_id = on, kind, f"play{next(_plays)}"
        self.numbers: dict[str, str] = defaultdict(self._person)
        self.tries: dict[tuple[str, int], list[Any]] = defaultdict(list)
        self.run, self.index, self.clears = "run", 0 if kind == "mapped" else -1, 0
        self._state, self._said = TaskState(), ""

    def _person(self) -> str:
        number = next(_numbers)
        self.on.order("script", {"destination": number, "outcome": "COMPLETED"})
        return number

    def play(self, moves: str) -> Play:
        for move in moves.split("; "):
            verb, _, rest = move.partition(" ")
            words = rest.split()
            match verb:
                case "run":
                    self.run = rest
                case "map":
                    self.index = int(rest)
                case "clear":
                    self.clears += 1
                case "says":
                    self._said = rest
                case "send":
                    drain(self.on)
                case "stop":
                    self.stop(int(rest or 0) - 1)
                case "cancel":
                    ids = [job.id for each in words for job in jobs_to(self.on, self.numbers[each])]
                    in_queue(self.on, lambda queue, ids=ids: queue.cancel_many(ids))  # type: ignore[misc]
                case "hold" | "open":
                    batch = jobs_to(self.on, self.numbers[rest])[-1].batch_id
                    order = CallQueue.hold if verb == "hold" else CallQueue.resume
                    in_queue(self.on, lambda queue, batch=batch, order=order: order(queue, batch_id=batch))  # type: ignore[misc]
                case _:
                    self._try(verb, words)
        return self

    def stop(self, place: int = -1) -> None:
        """Stop a try, in its process or in the triggerer."""
        stopped = self.tries[self.run, self.index][place]
        if inspect.iscoroutinefunction(stopped.on_kill):
            asyncio.run(stopped.on_kill())
        else:
            stopped.on_kill()

    def _try(self, verb: str, words: Sequence[str]) -> None:
        tries = self.tries[self.run, self.index]
        here = context(
            self.task_id, run=self.run, map_index=self.index, max_tries=2 * self.clears, task_state_store=self._state,
            dag_run=SimpleNamespace(clear_number=self.clears),
        )  # fmt: skip
        here["ti"].try_number = len(tries) + (verb != "resume")
        found = (_PERSON.fullmatch(word) for word in words if "=" not in word)
        people = [
            {
                **row(self.numbers[person[1]], person[2] or "Ann"),
                **({"unique_key": person[3]} if person[3] else {"unique_key": "k"} if self.kind == "keyed" else {}),
                **({"not_before": str(datetime.now(UTC) + TIMES["ahead"])} if person[4] else {}),
            }
            for person in found
            if person is not None
        ]
        task = self._task(people, dict(word.split("=", 1) for word in words if "=" in word), verb)
        expected = refused(self._said) if self._said else nullcontext()
        self._said = ""
        with expected:
            if verb == "resume":
                waited = tries[-1]
                event = {"status": "over", "batch_id": waited.batch_id, "job_ids": waited.job_ids}
                task.execute_complete(here, {**event, "began": waited.began, "imports": waited.imports})
            elif verb == "defer":
                tries.append(deferred(task, here))
            else:
                tries.append(task)
                task.execute(here)

    def _task(self, people: list[dict[str, Any]], given: dict[str, str], verb: str) -> Any:
        options: dict[str, Any] = {"left": STORED, "defer": {"send": "worker", "deferrable": True}}.get(verb, {})
        options = {**options, **{name: _read(text) for name, text in given.items()}}
        if "batch" in options:
            options["batch"] += f".{self.task_id}"
        if self.kind in {"call", "mapped"}:
            (person,) = people
            more = {name: person[name] for name in ("unique_key", "not_before") if name in person}
            return call(person["destination"], say=f"Hello {person['name']}.", **more, **options)
        return campaign(people, **options)

    @property
    def heard(self) -> str:
        """Who has heard what, such as "A A:Bo": each call; a name that is not there is Ann."""
        letters = {number: letter for letter, number in self.numbers.items()}
        found = [
            f"{letters[entry['destination']]}:{text.removeprefix('Hello ').removesuffix('.')}"
            for entry in self.on.ledger()
            if entry["destination"] in letters
            for text in entry["heard"]
        ]
        return " ".join(sorted(each.removesuffix(":Ann") for each in found))

    @property
    def waiting(self) -> str:
        """Whose calls wait."""
        found = [
            letter
            for letter, number in self.numbers.items()
            for job in jobs_to(self.on, number)
            if job.state is JobState.QUEUED
        ]
        return " ".join(sorted(found))


def _read(text: str) -> Any:
    if text in TIMES:
        return datetime.now(UTC) + TIMES[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.replace("~", " ")
