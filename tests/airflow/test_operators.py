"""One table: each operator, and what happens to its tries, judged by the ledger of the sandbox."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout
from airflow.sdk.execution_time.timeout import timeout

from airflow_provider.calls import waiting
from tests.airflow import scene
from tests.airflow.scene import STORED, context, in_queue, jobs_to, refused, rings
from tests.support.stage import Stage
from voiceflow_worker import CallQueue

HELD = {"send": "worker", "deferrable": True}
_plays = iter(range(10_000))


class Play:
    """Tries of one task, as moves with words in between: "store; stop; try".

    `try` goes to its end and sends itself, `store` leaves its calls and is killed, `defer` goes to its deferral (a
    worker sends), `here` too (the task sends), and `resume` on from there. `wait` is a try that has a second, `look` is
    a second of the newest trigger, and `expire` the end of its time. `stop` is that of the newest try, `stop 1` of the
    first. `hold` and `open` are a person's orders for the batch, `pause` a person's hold until a time. A worker is
    asked to `send`. `late` makes the run old, `run` is the next run, `map` another instance, and `says` a change of the
    text. `fails WORDS` is how the next try fails, `again WORDS` how it fails if it may be tried again.
    """

    def __init__(self, on: Stage, kind: str, **script: Any) -> None:
        self.on, self.kind, self.task_id = on, kind, f"play{next(_plays)}"
        self.number = scene.number(on, **script)
        self.tries: list[Any] = []
        self.results: list[Any] = []
        self.run, self.index, self.text, self.age = 1, -1, "Hello.", 0.0
        self.options: dict[str, Any] = {}
        self._fails: Any = None

    def play(self, moves: str) -> Play:
        for move in filter(None, moves.split("; ")):
            verb, _, rest = move.partition(" ")
            match verb:
                case "late":
                    self.age = 25
                case "run":
                    self.run += 1
                    self.tries.clear()
                case "map":
                    self.index = int(rest)
                case "says":
                    self.text = rest
                case "send":
                    scene.drain(self.on)
                case "stop":
                    scene.stop(self.tries[int(rest or 0) - 1])
                case "look":
                    with pytest.raises(TimeoutError):
                        scene.event_of(self.tries[-1], within=1)
                case "hold" | "open" | "pause" | "cancel":
                    self._order(verb)
                case "fails" | "again":
                    self._fails = refused(rest, is_final=verb == "fails")
                case _:
                    self._try(verb)
        return self

    def _order(self, verb: str) -> None:
        job = jobs_to(self.on, self.number)[-1]
        until = datetime.now(UTC) + timedelta(hours=1) if verb == "pause" else None

        async def order(queue: CallQueue) -> object:
            if verb == "cancel":
                return await queue.cancel(job.id)
            if verb == "open":
                return await queue.resume(batch_id=job.batch_id)
            return await queue.hold(batch_id=job.batch_id, reason="a person's", until=until)

        in_queue(self.on, order)

    def _try(self, verb: str) -> None:
        options = {"store": STORED, "defer": HELD, "here": {"deferrable": True}}.get(verb, {})
        options = {"task_id": self.task_id, **options, **self.options}
        if verb in {"resume", "expire"}:
            options |= {"deferrable": True, "send": "here" if self.tries[-1].sends else "worker"}
        if self.kind == "call":
            task: Any = scene.call(self.number, **{**({} if "ask" in options else {"say": self.text}), **options})
        else:
            task = scene.campaign([scene.row(self.number)], **{"say": self.text, **options})
        tried = len(self.tries) + (verb not in {"resume", "expire"})
        here = context(self.task_id, run=f"r{self.run}", map_index=self.index, tried=tried, age=self.age)
        fails, self._fails = self._fails or nullcontext(), None
        with fails:
            match verb:
                case "defer" | "here":
                    self.tries.append(scene.deferred(task, here))
                case "resume":
                    self.results.append(task.execute_complete(here, scene.event_of(self.tries[-1])))
                case "expire":
                    with pytest.raises(TaskDeferralTimeout):
                        task.resume_execution("__fail__", {"error": "Trigger timeout"}, here)
                case "wait":
                    self.tries.append(task)
                    with pytest.raises(AirflowTaskTimeout), timeout(1):
                        task.execute(here)
                    task.on_kill()
                case _:
                    self.tries.append(task)
                    self.results.append(task.execute(here))

    @property
    def rings(self) -> int:
        return rings(self.on, self.number)[0]


TABLE = {
    "first run": ("try", 1),
    "a worker sends": ("defer; send; resume", 1),
    "retry": ("try; try", 1),
    "retry with another text": ("try; says Goodbye.; try", 1),
    "retry of a try that was killed": ("store; store; try", 1),
    "clear": ("try; try; try", 1),
    "another run": ("try; run; try", 2),
    "an instance of a mapped task": ("map 3; defer; stop; send; try; try", 1),
    "stop": ("defer; stop; send", 0),
    "stop, then retry": ("defer; stop; try", 1),
    "stop of a try that sends": ("store; stop; send", 0),
    "stop, deferred, then retry": ("defer; stop; defer; send; resume", 1),
    "late stop of an earlier try": ("defer; defer; stop 1; send; try", 1),
    "two stops, then retry": ("defer; defer; stop 1; stop 2; send; try", 1),
    "stop, which its own try does not open": ("defer; stop; look; send", 0),
    "time limit of a deferred task": ("defer; expire; send", 0),
    "time limit, then retry": ("defer; expire; send; try", 1),
    "held by a person": ("store; hold; wait; send", 0),
    "held, stopped and tried again": ("defer; hold; stop; wait; send", 0),
    "stopped, held and tried again": ("defer; stop; hold; wait; send", 0),
    "held until a time, stopped and tried again": ("defer; pause; stop; wait; send", 0),
    "held, opened": ("defer; hold; stop; open; try", 1),
    "cancelled by a person": ("store; cancel; try; send", 0),
    "late": ("late; fails max_lateness; try", 0),
    "late, with a call that has ended": ("try; late; try", 1),
    "late, with a held call": ("defer; stop; late; fails max_lateness; try; send", 0),
    "late, with a waiting call": ("store; late; fails max_lateness; try; send", 1),
    "deferred, and sent by the task": ("store; hold; here; open; resume", 1),
}


@pytest.mark.parametrize("kind", ["call", "campaign"])
@pytest.mark.parametrize("case", TABLE)
def test_who_rings(on: Stage, hasty: None, kind: str, case: str) -> None:
    moves, expected = TABLE[case]
    play = Play(on, kind).play(moves)
    assert play.rings == expected
    assert len(jobs_to(on, play.number)) <= play.run


DOUBTS = {"before": (1, "again is in doubt; try; again is in doubt; try; send", 0), "after": (60, "try; try", 1)}


@pytest.mark.parametrize("kind", ["call", "campaign"])
@pytest.mark.parametrize("place", DOUBTS)
def test_a_doubt_is_waited_for_and_never_sent_again(
    on: Stage, kind: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, moves, expected = DOUBTS[place]
    monkeypatch.setattr(waiting, "DOUBT_TIMEOUT", timedelta(seconds=seconds))
    play = Play(on, kind)
    on.order("faults", {"destination": play.number, "fault": "close", "place": place})
    play.play(moves)
    assert on.rang().count(play.number) == expected


def test_a_persons_key_names_a_batch_that_no_task_holds_and_is_called_once_in_all_runs(on: Stage) -> None:
    for kind in ("call", "campaign"):
        play = Play(on, kind)
        key = f"reminder-{kind}"
        play.options = {"key": key}
        play.play("defer; stop; send; try; run; try")
        assert play.rings == 1
        assert [job.batch_id for job in jobs_to(on, play.number)] == [key]


def test_instances_of_a_mapped_task_share_a_call_unless_they_have_keys(on: Stage) -> None:
    number = scene.number(on)
    for place, more in ((0, {}), (1, {}), (2, {"unique_key": "visit-2"})):
        scene.call(number, say=f"Hello {place}.", **more).execute(context("shared", map_index=place))
    assert rings(on, number) == [2]
    rows = [scene.row(number, unique_key="visit-1"), scene.row(number, "Bo", unique_key="visit-2")]
    assert scene.campaign(rows).execute(context("rows"))["total"] == 2
    with refused("unique_key"):
        scene.campaign([scene.row(number), scene.row(number, "Bo")]).execute(context("rows", run="2"))
    assert rings(on, number) == [4]


@pytest.mark.parametrize(("key", "answer"), [("1", "approved"), ("2", "rejected")])
def test_the_answer_to_a_question_is_in_the_result_and_may_fail_the_task(on: Stage, key: str, answer: str) -> None:
    question = {"ask": "42 invoices. Send them?", "keys": {"1": "approved", "2": "rejected"}}
    play = Play(on, "call", keys=[key])
    play.options = dict(question)
    assert play.play("try; try").results[-1]["answer"] == answer
    assert play.rings == 1
    (entry,) = [each for each in on.ledger() if each["destination"] == play.number]
    assert "42 invoices. Send them? Press 1 for approved, 2 for rejected." in " ".join(entry["heard"])
    play.options["fail_on"] = ("rejected",)
    play.play("try" if key == "1" else "fails answer rejected; try")


def test_what_airflow_stores_has_no_number_and_no_secret(on: Stage, hasty: None) -> None:
    number = scene.number(on)
    for task, make in (
        ("kept", scene.call(number, **HELD)),
        ("kept-list", scene.campaign([scene.row(number)], **HELD)),
    ):
        kept = str(scene.deferred(make, context(task)).serialize())
        assert not [secret for secret in (number, number[1:], scene.API_KEY) if secret in kept]
    scene.drain(on)
    assert number not in str(scene.campaign([scene.row(number)]).execute(context("kept-list")))


def test_a_batch_is_named_by_the_key_shortened_with_a_digest(on: Stage) -> None:
    names = set()
    for parts in (("a.b", "c"), ("a", "b.c"), ("a", "x" * 200), ("a/b", "c d")):
        here = context(parts[1], run="r")
        here["ti"].dag_id = parts[0]
        task = scene.call(scene.number(on), **STORED)
        names.add(task.execute(here)["batch_id"])
    assert len(names) == 4
    assert not [name for name in names if not re.fullmatch(r"[\w.+:@-]{17,50}", name)]


def test_wrong_arguments_are_refused(on: Stage) -> None:
    number = scene.number(on)
    for given in ({"send": "there"}, {"wait_for": "ever"}, {"fail_on": ("NO_ANSWER",)}, {"ask": "Send?", "keys": None}):
        with pytest.raises(ValueError, match=r"there|ever|NO_ANSWER|go together"):
            scene.call(number, **given)
    wrong: tuple[dict[str, Any], ...] = ({"rows": None}, {"sql": "SELECT 1"}, {"sql": "SELECT 1", "conn_id": "x"})
    for people in wrong:
        with refused("one of rows="):
            scene.campaign(**{"rows": [scene.row(number)], **people}).execute(context("people"))
    with refused("1:destination"):
        scene.campaign([scene.row("no number")]).execute(context("bad"))
