"""The list of a campaign: each row of its files once, with its cells as they were written, and what became of it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.campaigns.reading import OPTIONS, SAY, file_of
from tests.campaigns.workbooks import workbook
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, SuppressionList
from voiceflow_worker.actions import Operator
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.enqueue import enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.report_files import ReportFiles, write_report_files
from voiceflow_worker.campaigns.row_list import KeptFile, RowList
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import ByKey
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service.forget import Forget

pytestmark = pytest.mark.anyio

HEADER = ("Nachname", "Mobil", "Festnetz", "Bemerkung", "Row")
PEOPLE = (
    ("Müller", "0170 1111111", "", "@abends", "a"),
    ("Groß", "0170 2222222", "030 1234567", "", "b"),
    ("Özdemir", "keine", "", "ruft selbst an", "c"),
    ("Müller", "+49 170 1111111", "", "@abends", "a"),
    ("Weiß", "0170 3333333", "", "", "d"),
    ("Jäger", "0170 4444444", "", "", "e"),
    ("Koch", "0170 5555555", "", "", "f"),
)
CALLED = ("+491701111111", "+491702222222", "+491704444444", "+491705555555")
BY_MOBILE = replace(
    OPTIONS,
    template=SAY.speaking("Guten Tag, {{nachname}}."),
    country="DE",
    columns={"destination": ["Mobil", "Festnetz"]},
)


def table(rows: Iterable[Sequence[object]] = PEOPLE, header: Sequence[str] = HEADER) -> str:
    quoted = (",".join(f'"{cell}"' for cell in row) for row in (header, *rows))
    return "\n".join(quoted) + "\n"


async def listed(store: Store, batch: str = "visits", **more: Any) -> list[tuple[str, ...]]:
    """Row, result, answer and reason of each row."""
    rows = [row async for part in RowList(store, "default", batch).read(**more) for row in part]
    return [(row.row, row.result, row.answer, row.why) for row in rows]


async def results(store: Store, batch: str = "visits") -> list[tuple[str, str]]:
    """Row and result of each row."""
    return [(row, result) for row, result, *_ in await listed(store, batch)]


async def written(store: Store, folder: Path, batch: str = "visits") -> list[dict[str, str]]:
    path = folder / "list.csv"
    await write_report_files(ReportFiles(csv=path, rows=True), store, "default", batch)
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


async def given(store: Store, path: Path, options: CampaignOptions = BY_MOBILE, **how: Any) -> EnqueueReport:
    how.setdefault("skip_bad", True)
    return await enqueue_file(CallQueue(store), path, options, **how)


@EACH_STORE
async def test_each_row_of_the_file_is_in_the_list_with_what_became_of_it(
    store: Store, clock: StillClock, tmp_path: Path
) -> None:
    engine = Engine(store, ScriptedVoice())
    await SuppressionList(store).add("+491703333333", reason="asked by mail")
    people = [*PEOPLE, ("Lang", "0170 6666666", "", "verstorben", "g")]
    options = replace(BY_MOBILE, leave_out="Bemerkung=verstorben")
    path = workbook(tmp_path, [HEADER, *people])
    report = await enqueue_file(engine.queue, path, options, skip_bad=True, now=clock.now())
    assert (report.enqueued, report.duplicates, report.suppressed, report.rejected) == (4, 1, 1, 1)
    jobs = {job.destination: job for job in await engine.queue.find()}
    await engine.queue.cancel(jobs["+491705555555"].id)
    for job in await engine.send():
        status = SessionStatus.NO_ANSWER if job.destination == "+491704444444" else SessionStatus.COMPLETED
        await engine.summarise(job, status)
    rows = await written(store, tmp_path)
    assert list(rows[0]) == [
        *HEADER, "row (call)", "result", "answer", "why", "called at", "called number", "calls", "file"
    ]  # fmt: skip
    assert [tuple(row[name] for name in HEADER[:3]) for row in rows] == [person[:3] for person in people]
    assert [(row["row (call)"], row["result"], row["calls"]) for row in rows] == [
        ("2", "answered", "1"), ("3", "answered", "1"), ("4", "bad", "0"), ("5", "duplicate", "0"),
        ("6", "suppressed", "0"), ("7", "no answer", "1"), ("8", "cancelled", "0"),
        ("9", "left out", "0"),
    ]  # fmt: skip
    why = {row["result"]: row["why"] for row in rows}
    assert why["bad"].startswith("Mobil: 'keine' is not one phone number")
    assert why["duplicate"] == "the same call as row 2"
    assert why["left out"].startswith("Bemerkung: holds 'verstorben'")
    assert "asked by mail" in why["suppressed"]
    assert [row["called number"] for row in rows if row["calls"] == "1"] == list(CALLED[:3])
    assert not any("-10" in each for each in why.values())
    # Read in pages, it is the same list.
    whole = await listed(store)
    assert [each for first in range(0, 9, 2) for each in await listed(store, first=first, limit=2)] == whole
    assert len(whole) == len(people)


async def test_a_file_that_is_started_again_has_its_rows_in_the_list_once(store: Store, tmp_path: Path) -> None:
    await given(store, file_of(tmp_path, table()))
    before = await results(store)
    mended = [*PEOPLE[:2], ("Özdemir", "0170 6666666", "", "", "c"), *PEOPLE[3:], ("Neu", "0170 7777777", "", "", "g")]
    assert (await given(store, file_of(tmp_path, table(mended)), skip_bad=False)).enqueued == 2
    kinds = {4: "bad", 5: "duplicate"}
    assert before == [(str(row), kinds.get(row, "waiting")) for row in range(2, 9)]
    assert await results(store) == [(str(row), "duplicate" if row == 5 else "waiting") for row in range(2, 10)]


async def test_a_second_file_of_a_batch_comes_behind_the_first_and_has_each_person_once(
    store: Store, tmp_path: Path
) -> None:
    options = replace(BY_MOBILE, batch_id="visits")
    for name, people in (("one.csv", PEOPLE[:2]), ("two.csv", PEOPLE[1:2] + PEOPLE[5:])):
        await given(store, file_of(tmp_path, table(people), name), options)
    assert [(row["file"], row["row (call)"], row["result"]) for row in await written(store, tmp_path)] == [
        ("one.csv", "2", "waiting"), *(("two.csv", row, "waiting") for row in "234"),
    ]  # fmt: skip


async def test_other_people_in_a_file_of_the_same_name_come_behind_however_often_both_are_started(
    store: Store, clock: StillClock, tmp_path: Path
) -> None:
    first, second, third = PEOPLE[:1], PEOPLE[4:6], [*PEOPLE[4:5], PEOPLE[6], PEOPLE[2]]
    expected = {**dict.fromkeys(("Müller", "Weiß", "Jäger", "Koch"), "waiting"), "Özdemir": "bad"}
    for turn, people in enumerate((first, second, third, first, third, second)):
        await given(store, file_of(tmp_path, table(people)))
        clock.advance(timedelta(seconds=1))
        rows = await written(store, tmp_path)
        assert len(rows) == len({each["Nachname"] for each in rows}), "each person once"
        assert turn < 2 or {each["Nachname"]: each["result"] for each in rows} == expected
        assert turn < 2 or {each["file"] for each in rows} == {"visits.csv", "visits.csv (2)", "visits.csv (3)"}


@EACH_STORE
@pytest.mark.parametrize("name", ["visits.csv", "mended.csv", "rejects.csv"])
async def test_a_row_that_was_bad_and_is_repaired_is_in_the_list_once(
    store: Store, clock: StillClock, tmp_path: Path, name: str
) -> None:
    """Of 40 rows, 3 are bad and 2 left out; the 3 cells are repaired: 38 called, 2 not."""
    numbers = [f"0170 {place:07}" for place in range(1000000, 1000040)]
    notes = ["verstorben" if place in {20, 21} else f"note {place}" for place in range(40)]
    header = ("Nachname", "Mobil", "Bemerkung")
    whole = [(f"P{place}", mobile, notes[place]) for place, mobile in enumerate(numbers)]
    broken = [(row[0], "keine" if place in {3, 4, 9} else row[1], row[2]) for place, row in enumerate(whole)]
    columns = {"destination": ["Mobil"]}
    options = replace(BY_MOBILE, batch_id="visits", leave_out="Bemerkung=verstorben", columns=columns)
    report = await given(store, file_of(tmp_path, table(broken, header)), options, rejects=tmp_path / "r.csv")
    assert (report.enqueued, report.rejected, report.left_out) == (35, 3, 2)
    clock.advance(timedelta(minutes=5))
    mended = whole if name != "rejects.csv" else [row for row in whole if row not in broken]
    assert (await given(store, file_of(tmp_path, table(mended, header), name), options, skip_bad=False)).enqueued == 3
    rows = await written(store, tmp_path)
    assert Counter(row["result"] for row in rows) == {"waiting": 38, "left out": 2}
    assert len({row["Nachname"] for row in rows}) == 40


async def test_of_two_bad_rows_that_are_alike_each_stays_until_it_is_repaired(store: Store, tmp_path: Path) -> None:
    bad, options = ("Lang", "keine", "", "", "x"), replace(BY_MOBILE, batch_id="visits")
    await given(store, file_of(tmp_path, table([*PEOPLE[:1], bad, bad])), options)
    for place, left in ((6, 1), (7, 0)):
        repaired = ("Lang", f"0170 {place}{place}00000", "", "", "x")
        await given(store, file_of(tmp_path, table([repaired]), f"rejects-{place}.csv"), options)
        assert [result for _, result in await results(store)].count("bad") == left
    assert len(await results(store)) == 3


async def test_a_row_that_is_off_the_list_says_so_until_it_is_in_it_again(store: Store, tmp_path: Path) -> None:
    ana, ben = "+6587654321,Ana", "+6587654322,Ben"
    options, off = replace(OPTIONS, batch_id="visits"), ("2", "cancelled", "", "it is no longer in the list")
    for rows, removed in (([ana, ben], []), ([ben], [off]), ([ben, ana], [])):
        path = file_of(tmp_path, "\n".join(["destination,name", *rows]))
        await given(store, path, options, remove_missing=len(rows) < 2)
        found = await listed(store)
        assert [each for each in found if each[1] != "waiting"] == removed
        assert len(found) - len(removed) == len(rows)


async def test_files_of_one_name_end_each_at_its_own_time(store: Store, clock: StillClock, tmp_path: Path) -> None:
    queue = CallQueue(store, policy=CallPolicy(retention=timedelta(days=3)))
    for people in (PEOPLE[:1], PEOPLE[5:]):
        await enqueue_file(queue, file_of(tmp_path, table(people)), BY_MOBILE)
        clock.advance(timedelta(days=2))
    assert await results(store) == [("2", "waiting"), ("3", "waiting")]


async def test_a_row_whose_call_is_of_another_batch_is_a_duplicate_however_often_it_is_started(
    store: Store, tmp_path: Path
) -> None:
    path = file_of(tmp_path, "destination,name,unique_key\n+6587654321,Ana,ana-1\n")
    for batch in ("march", "april", "april"):
        await given(store, path, replace(OPTIONS, batch_id=batch))
        assert await results(store, batch) == [("2", "waiting" if batch == "march" else "duplicate")]


async def test_calls_that_are_of_no_file_stand_behind_the_rows(store: Store, tmp_path: Path) -> None:
    queue = CallQueue(store)
    await enqueue_file(queue, file_of(tmp_path, table(PEOPLE[:1])), BY_MOBILE)
    job = (await queue.find())[0]
    await queue.enqueue(flow(job.destination), batch="visits", unique_key="by a program", data={"name": "Ana"})
    first, last = await written(store, tmp_path)
    assert (first["Nachname"], first["destination"], first["row (call)"]) == ("Müller", "", "2")
    assert (last["name"], last["destination"], last["row (call)"], last["result"]) == (
        "Ana", "+491701111111", "", "waiting"
    )  # fmt: skip


async def test_rows_are_listed_with_the_batch_that_they_name(store: Store, tmp_path: Path) -> None:
    rows = [(*person, "nord" if place % 2 else "süd") for place, person in enumerate(PEOPLE)]
    await given(store, file_of(tmp_path, table(rows, (*HEADER, "batch_id"))))
    north = [("3", "waiting"), ("5", "waiting"), ("7", "waiting")]
    assert await results(store, "nord") == north, "the same person in another batch is another call"
    assert await results(store, "süd") == [("2", "waiting"), ("4", "bad"), ("6", "waiting"), ("8", "waiting")]
    assert await listed(store) == []


@pytest.mark.parametrize(
    ("more", "columns", "name"),
    [({"batch_id": "visits"}, {}, "Batch ID"), ({}, {"ignore": "Batch ID"}, "Batch ID"),
     ({"batch_id": "visits"}, {"batch_id": "Gruppe"}, "Gruppe")],
)  # fmt: skip
async def test_a_row_without_a_call_is_listed_with_the_batch_of_the_others(
    store: Store, tmp_path: Path, more: Mapping[str, Any], columns: Mapping[str, str], name: str
) -> None:
    rows = [(*person, "nord") for person in PEOPLE[1:3]]
    options = replace(BY_MOBILE, columns={**BY_MOBILE.columns, **columns}, **more)
    await given(store, file_of(tmp_path, table(rows, (*HEADER, name))), options)
    assert await results(store) == [("2", "waiting"), ("3", "bad")]
    assert await listed(store, "nord") == []


async def test_each_cell_is_listed_below_its_own_column(store: Store, tmp_path: Path) -> None:
    await given(store, file_of(tmp_path, "reason,destination,,,name,reason\nbusy,+6587654321,,,Ana,hers\n"), OPTIONS)
    (row,) = await written(store, tmp_path)
    assert (row["destination"], row["name"], row["reason"]) == ("+6587654321", "Ana", "hers")


async def test_rows_of_a_program_are_listed_once_however_often_they_are_given(store: Store) -> None:
    both: list[dict[str, object]] = [
        {"destination": "+6587654321", "name": "Ana"}, {"destination": "12", "name": "Ben", "n": 1},
    ]  # fmt: skip
    for rows in (both, both, [{"destination": "+6587654323", "name": "Cy"}]):
        await enqueue_rows(CallQueue(store), rows, replace(OPTIONS, batch_id="visits"), skip_bad=True)
    assert sorted(await results(store)) == [("1", "waiting"), ("1", "waiting"), ("2", "bad")]


@EACH_STORE
@pytest.mark.parametrize("written_before", range(4))
async def test_a_start_that_was_cut_and_goes_on_lists_every_row(
    store: Store, clock: StillClock, tmp_path: Path, written_before: int
) -> None:
    writes = 0

    async def die(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if writes > written_before:
            raise StoreUnavailableError("killed")

    path = file_of(tmp_path, table())
    with pytest.raises(StoreUnavailableError):
        await enqueue_file(CallQueue(FaultyStore(store, before=die)), path, BY_MOBILE, skip_bad=True)
    found = await listed(store)
    assert len(found) in {0, len(PEOPLE)}, "all or nothing"
    assert all("was not stored: enqueue" in why for _, result, _, why in found if result == "not called")
    clock.advance(timedelta(minutes=1))
    await given(store, path)
    assert Counter(dict(await results(store)).values()) == {"waiting": 5, "bad": 1, "duplicate": 1}


async def test_a_list_of_which_the_rows_were_replaced_while_it_was_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = file_of(tmp_path, table(PEOPLE[:2])), RowList(store, "default", "visits")
    await given(store, path)
    (file,) = await rows.files()
    await given(store, path)

    async def before() -> list[KeptFile]:
        return [file]

    monkeypatch.setattr(rows, "files", before)
    with pytest.raises(InvalidInputError, match=r"visits\.csv was just started again"):
        await anext(rows.read())


@EACH_STORE
async def test_nothing_of_an_erased_person_stays_in_the_list(store: Store, tmp_path: Path) -> None:
    await SuppressionList(store).add("+491703333333")
    await given(store, file_of(tmp_path, table()))
    for each in ("+491701111111", "+491703333333"):
        await Forget(operator=Operator(store, CallPolicy(), name="Mary"), number=each).do()
    assert [(row["Nachname"], row["result"]) for row in await written(store, tmp_path)] == [
        ("", "erased"), ("Groß", "waiting"), ("Özdemir", "bad"), ("", "erased"), ("", "erased"),
        ("Jäger", "waiting"), ("Koch", "waiting"),
    ]  # fmt: skip
    await given(store, file_of(tmp_path, table()))
    again = await listed(store)
    assert [result for _, result, *_ in again] == [
        "erased", "waiting", "bad", "duplicate", "suppressed", "waiting", "waiting",
    ], "nobody is called for them, however often the list is given"  # fmt: skip
    assert again[0][3] == "its call was erased with its person"


async def test_rows_are_deleted_when_their_calls_are(store: Store, clock: StillClock, tmp_path: Path) -> None:
    policy = CallPolicy(retention=timedelta(days=3))
    options = replace(BY_MOBILE, valid_for=timedelta(days=1))
    await enqueue_file(CallQueue(store, policy=policy), file_of(tmp_path, table()), options, skip_bad=True)
    clock.advance(timedelta(days=4, seconds=-1))
    assert len(await listed(store)) == len(PEOPLE)
    clock.advance(timedelta(seconds=1))
    assert await listed(store) == []


async def test_a_page_of_the_list_reads_its_own_rows_and_calls(memory: Store) -> None:
    rows = [{"destination": f"+65{80000000 + place}", "name": "Ana"} for place in range(1100)]
    await enqueue_rows(CallQueue(memory), rows, replace(OPTIONS, batch_id="visits"))
    asked: list[int] = []

    async def count(call: StoreCall) -> None:
        if call.name == "jobs":
            assert isinstance(call.arguments[0], ByKey)
        asked.append(len(call.arguments[0].keys) if call.name == "jobs" else 0)

    found = await listed(FaultyStore(memory, before=count), first=1010, limit=20)
    assert [row for row, *_ in found] == [str(row) for row in range(1011, 1031)]
    assert (len(asked), sum(asked)) == (6, 20), "its file, its pack, its calls, and what they wait for"
