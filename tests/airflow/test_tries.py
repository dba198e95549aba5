"""Tasks that are killed, stopped, cleared and tried again, with lists that change; and several runs of one DAG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.airflow.scene import STORED, Play, call, context, in_queue, jobs_to, refused
from tests.support.stage import Stage
from voiceflow_worker import Job, JobState
from voiceflow_worker.campaigns.imports import Import
from voiceflow_worker.core.admission import Admitter
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs import lifecycle

# Beside the moves: who has heard what at the end, and whose calls wait.
TRIES: dict[str, Sequence[str]] = {
    "what a first try has stored stands": ("left B:Bo A:Anm; try A C", "A:Anm B:Bo C"),
    "what was stopped is made as the next try says": ("left B:Bo A:Anm; stop; try A C", "A C"),
    "a row whose words were changed counts for the limit": ("try A B C limit=2; try A:x B C limit=2", "A B"),
    "when every row has changed, the new ones are called": ("try A; left B; try C", "A B C"),
    "a row is identified by its own key": ("left A#7; stop; try B#7; try B:Bo#7", "B"),
    "the text may speak the key": ("try A#7 say=Hello~{{unique_key}}.", "A:7"),
    "a constant batch belongs to all runs": (
        "run a; left A batch=b; stop; run b; left B batch=b; try B C batch=b; run a; try A batch=b",
        "A B C",
    ),
    "a stop cancels the calls of its own run": (
        "run a; left A batch=b; run b; left B batch=b; run a; stop; send",
        "B",
    ),
    "a stop in the triggerer cancels the calls of its own run": (
        "run a; defer A batch=b; run b; left B batch=b; run a; stop; send",
        "B",
    ),
    "a batch with a new name in each try calls nobody again, and cancels nothing": (
        "try A batch=x; left A B C batch=y; try A B batch=z",
        "A B",
        "C",
    ),
    "a hold of a named batch is for all tasks that share it": (
        "left A batch=b; hold A; run b; left B batch=b; stop; left B batch=b; run run; clear; left A batch=b; send",
        "",
        "A B",
    ),
    "a call for later is not made sooner by a stop": ("left A@later; stop; left A@later; send", "", "A"),
    "what a person has cancelled is not made by a retry": ("left A; cancel A; try A:x", ""),
    "what a person has cancelled is made once if the task says so": (
        "left A; cancel A; try A:x again=cancelled; try A:x again=cancelled",
        "A:x",
    ),
    "chunks of a mapped campaign share a call, and other words need a key": (
        ("map 0; left A B; map 1; left A; map 2; says row 1: another instance .* give each row a unique_key; left A:x; "
        "left A:x#second; clear; map 0; try A; send"),
        "A A:x B",
    ),
    "cancelled calls do not dilute the ratio of failures": (
        "left A:Anm; left A:Annn; says 1 of 1 calls ended as completed; try A fail_on=completed fail_ratio=0.9",
        "A:Anm",
    ),
    "what a late stop cancels is made by the try that waits": ("left A; defer A; stop 1; resume A", "A"),
    "what a late stop of the triggerer cancels is made by the try that waits": (
        "defer A; defer A; stop 1; resume A",
        "A",
    ),
    "of several, a late stop has cancelled all": ("left A B; stop; left A B; defer A B; stop 2; resume A B", "A B"),
    "what a person cancels while it waits fails it, and stays cancelled": (
        "left A B C; stop; defer A B C; cancel A B C; says 3 of 3 calls .* cancelled while; resume A B C",
        "",
    ),
    "one of three that a person cancels is below the ratio": (
        "left A B C; stop; defer A B C; cancel A; send; resume A B C",
        "B C",
    ),
    **{
        f"rows of one number differ by their words, changed ones by their place: {then}": (
            f"left P:A P:B@later; send; stop; try {again}; try {again}",
            " ".join(f"P:{name}" for name in heard),
        )
        for then, heard in {
            "AB": "AB", "BA": "AB", "B": "AB", "A": "A", "CB": "AB", "AC": "AC", "CAB": "ABC", "C": "A", "BAB": "AB",
        }.items()
        for again in (" ".join(f"P:{name}" for name in then),)
    },
    **{
        f"chunks of a mapped campaign are identified by their numbers: {way} {words}": (
            (f"map 0; {way} A B; map 1; {way} C; "
            f"clear; map 0; {way} X{words}; map 1; {way} A{words} B{words}; map 2; {way} C{words}; "
            f"clear; map 0; {way} C X{words}; map 1; {way} B{words}; map 2; {way} A{words}; send"),
            f"A{moved} B{moved} C X{words}",
        )
        for way, words, moved in (("left", "", ""), ("left", ":x", ":x"), ("try", "", ""), ("try", ":x", ""))
    },
}  # fmt: skip


@pytest.mark.parametrize("case", TRIES)
def test_tries_of_a_campaign(on: Stage, case: str) -> None:
    moves, heard, *waiting = TRIES[case]
    play = Play(on).play(moves)
    assert (play.heard, play.waiting) == (heard, "".join(waiting))


def expanded(moves: str) -> str:
    """The moves of a mapped task, of which "AB/10" are the instances of A and B, the second first."""
    found: list[str] = []
    for move in moves.split():
        letters, _, order = move.partition("/")
        of_each = [f"map {index}; left {letters[int(index)]}" for index in order or "0123"[: len(letters)]]
        found += of_each if letters.isupper() else ["map 0; stop; map 1; stop"] if move == "stop" else [move]
    return "; ".join(found)


@pytest.mark.parametrize(
    ("moves", "heard"),
    [
        # A number that moved to another index is not called again.
        *((f"AB {sent} clear XAB/{order} XAB", "A B X") for sent in ("send", "") for order in ("012", "210", "120")),
        # Instances that call one number with one text share a call.
        *((f"AA/{order} clear AA/{order} send clear BAA/210", "A B") for order in ("01", "10")),
        ("A send clear BAA", "A B"),
        ("A clear BAA", "A B"),
        # What was stopped is called if it is listed again.
        *((f"AB stop clear BC/{order}", "B C") for order in ("01", "10")),
        *((f"AB stop clear BC/{order} send clear BA/{order}", "A B C") for order in ("01", "10")),
        ("AA stop AA", "A"),
    ],
)
def test_instances_of_a_mapped_task_are_identified_by_their_numbers_when_a_clear_changes_their_indexes(
    on: Stage, moves: str, heard: str
) -> None:
    assert Play(on, "mapped").play(expanded(f"{moves} send")).heard == heard


def test_instances_with_different_texts_for_one_number_need_a_key_which_identifies_their_calls(on: Stage) -> None:
    needs_a_key = "map 2; says give each call a unique_key; left "
    play = Play(on, "mapped").play("map 0; left A:seven#7; map 1; left A:eight#8; send")
    play.play("clear; map 0; left A:eight#8; map 1; left A:seven#7; left B:nine#9; map 0; left D:seven")
    play.play(f"{needs_a_key}C:nine#9; {needs_a_key}D:eight; send")
    assert play.heard == "A:eight A:seven B:nine D:seven"


HELD = (
    "stop; left {}",
    "stop; says has been held since; try {}",
    "clear; left {}",
    "stop; clear; left {} again=cancelled",
    "cancel A; clear; left {} again=cancelled",
    "defer {}; stop; defer {}",
    "defer {}; stop 1; says has been held since; resume {}",
)


@pytest.mark.parametrize("kind", ["call", "mapped", "campaign", "keyed"])
def test_a_hold_that_a_person_gave_stands_through_stops_retries_and_clears_until_a_person_ends_it(
    on: Stage, kind: str
) -> None:
    for way, row in product(HELD, ("A", "A batch=b")):
        play = Play(on, kind).play(f"left {row}; hold A; {way.replace('{}', row)}; send")
        assert (play.heard, play.waiting) == ("", "A"), (way, row)
        assert play.play("open A; send").heard == "A", (way, row)


RUNS: dict[str, Sequence[str]] = {
    "a second run that says the same is refused, and a clear finds its own call": (
        ("run a; try A; run b; says No new call was made.*again=True.*other words.*once_per='dag'; try A; "
        "run a; clear; try A"),
        "A",
    ),
    "other words and again=True need no telling": (
        "run a; try A; run b; try A:Fri; run c; try A again=True",
        "A A A:Fri",
    ),
    "a stop cancels what was not sent": ("left A; stop; defer A; stop; send", ""),
    "a stop cancels nothing if the task says so": (
        "left A cancel_on_kill=False; stop; defer A cancel_on_kill=False; stop; send",
        "A",
    ),
    "one call for all runs": (
        "run a; try A once_per=dag; clear; try A:x once_per=dag; run b; try A once_per=dag; try A:x once_per=dag",
        "A",
    ),
    "a late run calls nobody, and a later clear shows what was made in time": (
        ("says valid_until has passed, at .* Nobody is called; try A valid_until=past; "
        "try A valid_until=ahead; try A valid_until=past"),
        "A",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["call", "mapped", "campaign", "keyed"])
@pytest.mark.parametrize("case", RUNS)
def test_several_runs_of_one_dag(on: Stage, kind: str, case: str) -> None:
    moves, heard = RUNS[case]
    assert Play(on, kind).play(moves).heard == heard


@pytest.mark.parametrize("kind", ["call", "campaign"])
def test_keys_of_all_runs_are_calls_of_their_own_and_do_not_call_a_run_again(on: Stage, kind: str) -> None:
    keys = (("a", 1), ("b", 2), ("c", 1), ("d", 2))
    moves = "; ".join(f"run {run}; try A:say{key}#{key} once_per=dag" for run, key in keys)
    assert Play(on, kind).play(moves).heard == "A:say1 A:say2"
    # A campaign finds the call in its batch.
    says = "says again=True; " if kind == "call" else ""
    for before, after in (("run", "dag"), ("dag", "run")):
        assert Play(on, kind).play(f"try A once_per={before}; {says}try A once_per={after}").heard == "A"


def test_the_end_of_validity_is_a_template_in_a_zone_and_shortens_a_longer_one(on: Stage) -> None:
    until = datetime(2036, 1, 31, 12, tzinfo=UTC)
    for operator in (VoiceCallOperator, VoiceCampaignOperator):
        assert "valid_until" in operator.template_fields
    for given in ({}, {"valid_for": timedelta(days=9000)}):
        made = call("+6587664001", valid_until=until, **STORED, **given, again=True).execute(context(f"{len(given)}"))
        assert made["valid_until"] == "2036-01-31T12:00:00.000Z"
    with refused("valid_until has passed, at 2026-01-01 01:00:00 UTC"):
        call("+6587664002", valid_until="2026-01-01 09:00", time_zone="Asia/Singapore").execute(context("zone"))
    with pytest.raises(ValueError, match="once_per='week'"):
        call("+6587664000", once_per="week")


async def _killed(*_: object, **__: object) -> Any:
    raise StoreUnavailableError("killed")


@pytest.mark.parametrize("listed", ["", "B", "A B"])
@pytest.mark.parametrize("stored", [1, 2], ids=["some rows", "all rows"])
def test_a_try_that_was_killed_while_it_stored_its_calls_is_completed_by_the_next(
    on: Stage, monkeypatch: pytest.MonkeyPatch, stored: int, listed: str
) -> None:
    play, writes, admit = Play(on), iter(range(9)), Admitter.admit

    async def dies(self: Admitter, *given: Any, **more: Any) -> Any:
        return await (_killed() if next(writes) == stored else admit(self, *given, **more))

    with monkeypatch.context() as patched:
        patched.setattr("voiceflow_worker.campaigns.enqueue.CHUNK", 1)
        patched.setattr(Admitter, "admit", dies)
        patched.setattr(Import, "end", _killed)
        with refused("killed", is_final=False):
            play.play("left A B")
    assert play.play("send").heard == ""
    for _ in range(2):
        assert play.play(f"try {listed}").heard == listed, "a row that is listed no more rings nobody"


@pytest.mark.parametrize("first", ["defer", "left"])
def test_a_stop_that_is_cut_after_its_first_write_has_stopped_all_calls_of_its_task(
    on: Stage, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    play = Play(on).play(f"run a; {first} A B batch=b; run b; left C batch=b")

    def back(job: Job) -> Job:
        return lifecycle.release(lifecycle.lease(job, worker_id="w", until=job.due_at), at=job.due_at, reason=None)

    (came_back,) = jobs_to(on, play.numbers["B"])
    in_queue(on, lambda queue: Changes(queue.store, queue.policy).change(came_back.id, back))
    with monkeypatch.context() as patched:
        patched.setattr("voiceflow_worker.core.imports.discard_imports", _killed)
        play.play("run a; stop")
    # It does not wait for the batch, which does not end while calls of the other task are staged.
    assert play.play("run b; left C batch=b; send").heard == "C"
    assert play.waiting == "A B"
    assert play.play("run a; try A:Anna B batch=b").heard == "A:Anna B C", "it says what it says now"
    assert [job.state for job in jobs_to(on, play.numbers["A"])].count(JobState.COMPLETED) == 1
