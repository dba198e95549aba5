"""What became of the calls: report, and reconcile with the log of 8x8."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from openpyxl import load_workbook

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, url_of, within
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.waiting import wait_until
from voiceflow_worker import CallPolicy, Job, JobState, VoiceClient
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Fault, FaultKind, Script


def filled(voiceflow: Program) -> tuple[str, str]:
    enqueued(voiceflow.folder, 2, batch="march")
    completed(voiceflow.folder, batch_id="march")
    enqueued(voiceflow.folder, 1, batch="april")
    return ("--store", url_of(voiceflow.folder))


def test_files_are_written(voiceflow: Program) -> None:
    store = filled(voiceflow)
    files = ("--csv", "out.csv", "--xlsx", "out.xlsx")
    ended = voiceflow("report", "--batch", "march", *files, "--json", *store)
    assert ended.code == 0
    assert ended.document["total"] == 3
    assert "out.csv: 3 calls" in ended.err
    assert "out.xlsx: 3 calls" in ended.err
    book = load_workbook(voiceflow.folder / "out.xlsx", read_only=True)
    assert len(list(book["Calls"].iter_rows())) == 4
    book.close()
    with (voiceflow.folder / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        assert sorted(row["state"] for row in csv.DictReader(file)) == ["completed", "queued", "queued"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--csv", "out", "--time-zone", "Manila"), "give a name such as Asia/Singapore"),
    ],
)
def test_columns_and_zones_that_cannot_be_shown_write_no_file(
    voiceflow: Program, options: tuple[str, ...], told: str
) -> None:
    ended = voiceflow("report", "--batch", "march", *options, *filled(voiceflow))
    assert (ended.code, (voiceflow.folder / "out").exists()) == (2, False)
    assert told in ended.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("files", "code"),
    [(("--csv", "no/such/folder/out"), 1), (("--csv", "out", "--xlsx", "out"), 2)],
    ids=["no such folder", "one file for two forms"],
)
def test_a_file_that_cannot_be_written_is_reported(voiceflow: Program, files: tuple[str, ...], code: int) -> None:
    ended = voiceflow("report", "--batch", "march", *files, *filled(voiceflow))
    assert (ended.code, (voiceflow.folder / "out").exists()) == (code, False)


def test_without_a_batch_it_covers_the_queue(voiceflow: Program) -> None:
    store = filled(voiceflow)
    found = voiceflow("report", "--json", *store).document
    assert (found["batch_id"], found["total"], found["outcomes"]) == (None, 4, {"COMPLETED": 1})
    ended = voiceflow("report", "--csv", "all.csv", *store)
    assert ended.out.startswith("queue default: 4 calls\n")
    assert "all.csv: 4 calls" in ended.err


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    """8x8, where every call is answered and ends at once, and no answer to a call arrives."""
    sandbox = Sandbox(speed=1000)
    sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, ring_seconds=0, talk_seconds=5, delay_seconds=0))
    sandbox.faults.add(Fault(fault=FaultKind.CLOSE, times=None))
    with running(sandbox) as eight:
        eight.settings(monkeypatch)
        yield eight


def doubted(voiceflow: Program, eight: EightByEight, count: int = 1) -> list[Job]:
    """Calls that rang, and of which the worker does not know it."""

    async def work(engine: Engine) -> list[Job]:
        async with VoiceClient("key-1", "acme", base_url=eight.url) as voice:
            sender = Engine(engine.store, voice, policy=CallPolicy(first_check=timedelta(0)))
            jobs = [await sender.enqueue(number(place)) for place in range(count)]
            await sender.send()
            return [await sender.queue.get(job.id) for job in jobs]

    jobs = within(voiceflow.folder, work)
    assert {job.state for job in jobs} == {JobState.IN_DOUBT}
    wait_until_ended(eight, count)
    return jobs


def wait_until_ended(eight: EightByEight, count: int) -> None:
    ledger = eight.sandbox.ledger
    wait_until(lambda: sum(entry.outcome is not None for entry in ledger) >= count, "the end of the calls")


def state_of(voiceflow: Program, job: Job) -> Job:
    return within(voiceflow.folder, lambda engine: engine.queue.get(job.id))


def reconcile(voiceflow: Program, *options: str) -> tuple[str, ...]:
    """The words of the command, for this store."""
    return ("reconcile", *options, "--store", url_of(voiceflow.folder))


def test_what_was_placed_is_settled(voiceflow: Program, eight: EightByEight) -> None:
    jobs = doubted(voiceflow, eight, 3)
    ended = voiceflow(*reconcile(voiceflow, "--json"))
    assert ended.code == 0, ended.err
    assert ended.document == {"looked_at": 3, "placed": 3, "not_placed": 0, "open": 0}
    assert "asking 8x8 for its log" in ended.err
    assert [state_of(voiceflow, job).state for job in jobs] == [JobState.COMPLETED] * 3
    assert eight.rang == sorted(number(place) for place in range(3))


def test_what_has_no_row_stays_in_doubt_and_is_reported(voiceflow: Program, eight: EightByEight) -> None:
    job, other = doubted(voiceflow, eight, 2)
    sandbox: Any = eight.sandbox
    rows = sandbox.exports._rows
    rows[:] = [(call, row) for call, row in rows if row["DestinationEndpoint"] != job.destination.lstrip("+")]
    ended = voiceflow(*reconcile(voiceflow))
    assert ended.code == 1
    assert "looked for 2 calls: placed 1, not placed 0, still open 1" in ended.out
    assert "no row found in the log of 8x8; one may come late" in ended.out
    assert job.id in ended.out
    assert other.id not in ended.out
    assert "calls resolve" in ended.out
    assert voiceflow(*reconcile(voiceflow, "--json")).document == {
        "looked_at": 1,
        "placed": 0,
        "not_placed": 0,
        "open": 1,
    }


def test_nothing_to_look_for_is_said_and_asks_for_no_log(voiceflow: Program, eight: EightByEight) -> None:
    enqueued(voiceflow.folder)
    ended = voiceflow(*reconcile(voiceflow))
    assert (ended.code, ended.err) == (0, "")
    assert "nothing to look for" in ended.out
    assert not eight.sandbox.exports.begun
    assert voiceflow(*reconcile(voiceflow, "--json")).document == {
        "looked_at": 0,
        "placed": 0,
        "not_placed": 0,
        "open": 0,
    }
