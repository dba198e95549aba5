"""Commands on calls: list, show, cancel, resolve, redial; and the name of who did it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program
from tests.cli.stored import completed, empty, enqueued, in_doubt, unreached, within
from tests.support.engine import Engine
from tests.support.flows import number
from voiceflow_worker.cli import opening
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.model.reports.events import CallStatus
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox


@pytest.fixture
def store(voiceflow: Program) -> tuple[str, str]:
    return ("--store", empty(voiceflow.folder))


Store = tuple[str, str]
Listed = Callable[..., list[str]]


@pytest.fixture
def ids(voiceflow: Program, store: Store) -> Listed:
    """The ids of the calls that are listed with these options."""

    def listed(*options: str) -> list[str]:
        return [line["id"] for line in voiceflow("calls", "list", "--json", *options, *store).lines]

    return listed


def test_each_option_restricts_a_list(voiceflow: Program, ids: Listed) -> None:
    folder = voiceflow.folder
    reached = completed(folder, batch_id="april")
    busy = [unreached(folder, SessionStatus.BUSY, batch_id="april") for _ in range(2)]
    missed = unreached(folder, SessionStatus.NO_ANSWER)
    later = (missed.touched_at + timedelta(microseconds=1)).isoformat()
    first, second = (job.id for job in enqueued(folder, 2, batch="march"))
    called = [reached.id, *(job.id for job in busy), missed.id]

    assert ids("--batch", "march") == ids("--since", later) == ids("--state", "queued") == [first, second]
    assert ids("--state", "completed", "--state", "queued") == [reached.id, first, second]
    assert ids("--number", number(1)) == ids("--number", number(1).removeprefix("+")) == [second]
    assert ids("--outcome", "busy", "--since", "2h", "--newest") == [job.id for job in reversed(busy)]
    assert ids("--outcome", "BUSY", "--outcome", "no-answer") == called[1:]
    assert ids("--outcome", "completed,no_answer") == [reached.id, missed.id]
    assert ids("--outcome", "unreached", "--batch", "april") == called[1:3]
    assert ids("--since", missed.touched_at.isoformat(), "--limit", "1") == [missed.id]
    assert ids("--unique-key", "march-1") == [second]
    assert ids("--unique-key", "march-1", "--batch", "april") == ids("--unique-key", "other") == []
    assert ids("--state", "in_doubt") == ids("--queue", "other") == []


def test_100_calls_are_listed_unless_asked_otherwise(
    voiceflow: Program, store: Store, ids: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job.id for job in enqueued(voiceflow.folder, 120)]
    assert ids() == jobs[:100]
    assert "--limit 0 lists all" in voiceflow("calls", "list", *store).err
    for page in (500, 3):
        monkeypatch.setattr("voiceflow_worker.cli.calls.PAGE", page)
        assert [ids("--limit", limit) for limit in ("0", "110", "5", "3")] == [jobs, jobs[:110], jobs[:5], jobs[:3]]


def test_a_call_that_is_not_there_is_reported(voiceflow: Program, store: Store) -> None:
    ended = voiceflow("calls", "show", "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T", "--json", *store)
    assert (ended.code, ended.out) == (1, "")
    assert "no call default.01JB3W8Z5Q7X9V2K4M6N8P0R2T in this store" in ended.err


MARY = ("--as", " Mary  Tan ", "--note", "why")


def test_calls_are_cancelled_each_for_itself_in_the_name_of_a_person(voiceflow: Program, store: Store) -> None:
    done = completed(voiceflow.folder)
    first, second = enqueued(voiceflow.folder, 2)
    ended = voiceflow("calls", "cancel", done.id, "default.nobody", second.id, *MARY, "--json", *store)
    assert ended.code == 1
    assert [(line["id"], line["state"], line["reason"]) for line in ended.lines] == [
        (second.id, "cancelled", "why (by Mary Tan)")
    ]
    assert "is completed: it cannot be cancelled" in ended.err
    assert "no call default.nobody" in ended.err
    assert voiceflow("calls", "show", first.id, "--json", *store).document["state"] == "queued"


def test_a_batch_is_cancelled_after_a_question(voiceflow: Program, store: Store) -> None:
    enqueued(voiceflow.folder, 3, batch="march")
    unsure = voiceflow("calls", "cancel", "--batch", "march", "--json", *store)
    assert (unsure.code, unsure.out) == (2, "")
    assert "will not be called: 3 waiting calls" in unsure.err
    assert voiceflow("status", "--json", *store).document["states"]["queued"] == 3
    ended = voiceflow("calls", "cancel", "--batch", "march", "--yes", "--json", *store)
    assert ended.document == {"batch_id": "march", "cancelled": 3}


def test_a_doubt_is_resolved_as_placed_and_names_the_post_that_it_is_about(voiceflow: Program, store: Store) -> None:
    job = in_doubt(voiceflow.folder)
    resolve = ("calls", "resolve", job.id, "--placed", *MARY, "--json", *store)
    assert voiceflow(*resolve, "--post", "2").code == 1
    found = voiceflow(*resolve, "--post", "1").document
    assert (found["state"], found["notes"][0]["text"]) == ("accepted", "why (by Mary Tan)")
    assert found["judged_post"] == {"number": 1, "began_at": found["attempts"][0]["began_at"]}


@pytest.mark.parametrize("is_there", [True, False])
def test_not_placed_is_judged_by_the_clock_of_8x8_and_without_an_answer_by_that_of_the_store(
    voiceflow: Program, store: Store, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    job = in_doubt(voiceflow.folder)
    resolve = ("calls", "resolve", job.id, "--not-placed", "--note", "nothing in the portal", *store)
    if is_there:
        with running(Sandbox(clock_offset=timedelta(minutes=3))) as eight:
            eight.settings(monkeypatch)
            ended = voiceflow(*resolve)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"{job.id} to +6587654321 is queued")
        return
    EightByEight(Sandbox(), "http://127.0.0.1:9").settings(monkeypatch)
    ended = voiceflow(*resolve)
    assert (ended.code, ended.out) == (1, "")
    assert "may still place this call until" in ended.err


def test_a_redial_of_several_calls_asks_before_phones_ring(voiceflow: Program, store: Store) -> None:
    several = [completed(voiceflow.folder).id, completed(voiceflow.folder).id]
    refused = voiceflow("calls", "redial", several[0], *store)
    assert (refused.code, "--force" in refused.err) == (1, True)
    redial = ("calls", "redial", *several, "--force", *MARY, *store)
    refused = voiceflow(*redial)
    assert (refused.code, "rings again" in refused.err) == (2, True)
    assert "Call the people of 2 calls again?" in refused.err
    assert {voiceflow("calls", "show", each, "--json", *store).document["state"] for each in several} == {"completed"}
    assert voiceflow("calls", "redial", several[0], several[0], "--force", "--json", *store).code == 0
    (again,) = voiceflow(*redial, "--yes", "--json").lines
    assert (again["state"], again["reason"]) == ("queued", "why (by Mary Tan)")


def test_the_json_of_a_call_has_its_progress(voiceflow: Program, store: Store) -> None:
    job = completed(voiceflow.folder)

    async def work(engine: Engine) -> None:
        progress, session = CallProgress(engine.store), job.session_id
        at = datetime(2026, 7, 1, 9, tzinfo=UTC)
        await progress.status(CallStatus(session_id=session, call_status="RINGING", timestamp=at, sip_code=180))

    found = voiceflow("calls", "show", job.id, "--json", *store).document
    assert found["progress"] == []
    within(voiceflow.folder, work)
    found = voiceflow("calls", "show", job.id, "--json", *store).document
    progress = found["progress"][0]
    assert (progress["at"], progress["status"], progress["sip_code"]) == ("2026-07-01T09:00:00.000Z", "RINGING", 180)
    assert (found["state"], found["attempt"], found["client_request_id"]) == ("completed", 1, f"{job.id}.1")


@pytest.fixture
def redial(voiceflow: Program) -> tuple[str, ...]:
    return ("calls", "redial", "--store", empty(voiceflow.folder))


Redial = tuple[str, ...]


def test_a_batch_is_redialled_after_a_question_that_counts_the_phones(
    voiceflow: Program, redial: Redial, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        unreached(voiceflow.folder, SessionStatus.NO_ANSWER, batch_id="march")
    command = (*redial, "--batch", "march", "--outcome", "no_answer")
    ended = voiceflow(*command)
    question = "Redial 2 calls of batch march?"
    assert (ended.code, ended.out) == (2, "")
    assert f"{question} Input is not a terminal, so nobody can confirm: give --yes" in ended.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("no\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin.readline", lambda answer=answer: answer, raising=False)
        ended = voiceflow(*command)
        assert (ended.code, question in ended.err) == (code, True)
    ended = voiceflow(*command, "--yes", "--json")
    assert (ended.code, ended.document) == (0, {"batch_id": "march", "redialled": 0, "left_out": {}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name the calls to redial: give either their ids, or --batch and --outcome"),
        (("--batch", "march"), "--batch needs --outcome"),
        (("default.1", "--outcome", "busy"), "--outcome and --times need --batch"),
        (("--batch", "march", "--outcome", "busy", "--force"), "--force is for the ids"),
        (("--batch", "march", "--outcome", "completed"), "'completed' is not an outcome that can be redialled"),
        (("--batch", "march", "--outcome", "busy", "--times", "0"), "times is 0, so nobody would be redialled"),
    ],
)
def test_orders_without_a_meaning_are_refused(
    voiceflow: Program, redial: Redial, options: tuple[str, ...], message: str
) -> None:
    unreached(voiceflow.folder, SessionStatus.NO_ANSWER, batch_id="march")
    ended = voiceflow(*redial, *options)
    assert (ended.code, message in ended.err) == (2, True)


def test_a_confirmation_at_the_terminal_is_bound_to_what_it_showed(
    voiceflow: Program, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = enqueued(voiceflow.folder, 2, batch="march")
    busy = [unreached(voiceflow.folder, SessionStatus.BUSY) for _ in range(2)]

    def changing(work: Callable[[Engine], Awaitable[object]]) -> None:
        def confirm(_: str, *, yes: bool) -> None:
            assert not yes
            thread = Thread(target=within, args=(voiceflow.folder, work))  # somebody else, before the answer
            thread.start()
            thread.join()

        monkeypatch.setattr(opening, "confirm", confirm)

    changing(lambda engine: engine.queue.hold(batch_id="march", reason="the text is wrong"))
    cancelled = voiceflow("calls", "cancel", "--batch", "march", *store)
    assert (cancelled.code, "has changed since it was shown" in cancelled.err) == (1, True)
    assert voiceflow("calls", "show", waiting[0].id, "--json", *store).document["state"] == "queued"
    assert "waits: batch march is held until" in voiceflow("calls", "show", waiting[0].id, *store).out

    async def redial_and_cancel(engine: Engine) -> None:
        await engine.queue.redial(busy[0].id)
        await engine.queue.cancel(busy[0].id)

    changing(redial_and_cancel)
    redialled = voiceflow("calls", "redial", *(job.id for job in busy), *store)
    assert (redialled.code, "has changed since it was shown" in redialled.err) == (1, True)
    states = [voiceflow("calls", "show", job.id, "--json", *store).document["state"] for job in busy]
    assert states in (["unreached", "queued"], ["cancelled", "queued"])
