"""Orders that a store has lost are given again once, each under its condition; an erasure erases them too."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.flows import number
from tests.support.workers import NO_WEBHOOKS, enqueued
from voiceflow_worker import CallQueue, Escalation, Escalations, JobState, forget, open_store
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.backends.local_journal import JournalFile, JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.audit import GIVEN_AGAIN, Interface, entries_on
from voiceflow_worker.core.base.reading import gates_at, limits_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.edits import BatchEdit
from voiceflow_worker.core.gates import order_gate, standing_gate
from voiceflow_worker.core.orders import GIVEN_FOR, READ_BY, OrderedStore, hosts_not_read, journal_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS
from voiceflow_worker.core.ports.store import BulkWrite, History, Key, Page, WriteResult
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writes import ERASED_CALLS
from voiceflow_worker.errors import TooLateError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.service.escalation_store import EscalationStore
from voiceflow_worker.service.forget import erase_again
from voiceflow_worker.settings import Settings, load_settings

pytestmark = pytest.mark.anyio


class File:
    """A store in a file, which is set back to what it was, and machines with journals of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "calls.db"
        self.older = b""

    def settings(self, machine: str = "one") -> Settings:
        return load_settings(store=f"sqlite:///{self.path}", state_dir=str(self.folder / machine))

    @asynccontextmanager
    async def on(self, machine: str = "one") -> AsyncGenerator[Store]:
        async with open_store(f"sqlite:///{self.path}", settings=self.settings(machine)) as store:
            yield store

    async def begins(self, calls: int = 1, batch_id: str | None = None) -> list[str]:
        async with self.on() as store:
            queue = await enqueued(store, calls, batch_id=batch_id)
            ids = [job.id for job in await queue.find(limit=None)]
        self.older = self.path.read_bytes()
        return ids

    async def loses(self, order: Callable[[Store], Awaitable[object]], machine: str = "one") -> None:
        """An order is given, and the store is set back to before it."""
        async with self.on(machine) as store:
            await order(store)
        self.set_back()

    def set_back(self) -> None:
        self.path.write_bytes(self.older)

    def journals(self, machine: str = "one") -> list[Path]:
        return sorted((self.folder / machine).rglob("_orders/*.journal"))


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


async def test_who_looks_for_lost_orders_writes_nothing_and_reads_the_end_of_each_file(tmp_path: Path) -> None:
    """So a command that reads does not wait for a process that has the store locked."""
    store = MemoryStore()
    for begin in range(0, 3000, 100):  # an order of many lines
        first = ordered(store, tmp_path)
        await SuppressionList(cast("Store", first)).add(*(number(begin + place) for place in range(100)))
        first.close()
    watched = WatchedStore(store)
    await ordered(cast("Store", watched), tmp_path).give_again()
    assert watched.written == 0
    assert 0 < watched.asked < 15, "the end of a file has no more orders"


async def test_old_orders_go_though_others_are_given_each_day(tmp_path: Path) -> None:
    first = datetime(2026, 3, 1, 12, tzinfo=UTC)
    files = JournalFiles(tmp_path)
    clock = ManualClock(first)
    store = ordered(MemoryStore(clock=clock), tmp_path)
    for day in range(30):
        await CallQueue(cast("Store", store)).hold(batch_id=f"{day}")
        clock.advance(timedelta(days=1))
    assert len(await files.files(ORDERS, since=first + timedelta(days=25))) == 2, "nobody reads those before it"
    await files.prune(ORDERS, before=first + timedelta(days=20))
    kept = [each for file in await files.files(ORDERS) for _, each in await files.orders(file.name)]
    assert [each.at for each in kept] == [first + timedelta(days=day) for day in range(15, 30)], "whole weeks are gone"


@pytest.mark.parametrize("damage", [b'{"order":"x","cut', b'{"order":"x","action":1}\n{"order": 3}\nnot JSON\n'])
async def test_lines_that_cannot_be_read_hide_no_others(file: File, damage: bytes) -> None:
    await file.begins()
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    (journal,) = file.journals()
    journal.write_bytes(journal.read_bytes() + damage)
    async with file.on() as store:
        assert await SuppressionList(store).find(number(1))
        await SuppressionList(store).add(number(2))
    file.set_back()
    async with file.on() as store:
        assert len(await SuppressionList(store).find(number(1), number(2))) == 2


async def test_an_order_is_given_again_once_by_whoever_finds_it_first(file: File) -> None:
    (call,) = await file.begins()
    await file.loses(lambda store: CallQueue(store, by="Ann").cancel(call, reason="wrong number"))
    for _ in range(3):
        async with file.on() as store, file.on() as other:
            (entry,) = await entries_on(other, call=call)
            assert (entry.action, entry.name, entry.note, entry.result) == (
                "cancel",
                "Ann",
                "wrong number",
                GIVEN_AGAIN,
            )
            assert (await CallQueue(store).get(call)).state is JobState.CANCELLED


class WatchedStore:
    """A store, with how many records were asked for, and how many writes were made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked = self.written = 0

    async def records(self, wanted: Mapping[str, Sequence[str | Key] | Page], *, now: datetime) -> Any:
        self.asked += sum(len(each) for each in wanted.values() if not isinstance(each, Page))
        return await self._store.records(wanted, now=now)

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        self.written += len(bulk.writes)
        return await self._store.write(bulk, now=now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def ordered(store: Store, folder: Path) -> OrderedStore:
    return OrderedStore(store, lambda: JournalFiles(folder))


async def test_who_gives_an_order_again_too_late_changes_nothing_of_what_was_ordered_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    await SuppressionList(cast("Store", ordered(store, tmp_path))).add(number(1))
    store.memory = older
    slow, write = ordered(store, tmp_path), store.write

    async def late(bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        monkeypatch.setattr(store, "write", write)
        await ordered(store, tmp_path).give_again()
        assert await SuppressionList(store).remove(number(1))
        return await write(bulk, now=now)

    monkeypatch.setattr(store, "write", late)
    await slow.give_again()
    assert not await SuppressionList(store).find(number(1))


@pytest.mark.parametrize("hosts", ["ab", "ba"])
@pytest.mark.parametrize("days", [None, 30])
async def test_the_last_opt_out_counts_whichever_host_comes_back_first(
    tmp_path: Path, hosts: str, days: int | None
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    first, second = (SuppressionList(cast("Store", ordered(store, tmp_path / host / "id" / "url"))) for host in "ab")
    await first.add(number(1))
    await first.remove(number(1))
    await second.add(number(1), until=None if days is None else store.clock.now() + timedelta(days=days))
    store.memory = older
    for host in hosts:
        await ordered(store, tmp_path / host / "id" / "url").give_again()
    assert await SuppressionList(store).find(number(1))


@pytest.mark.parametrize("is_opened_since", [False, True])
async def test_lost_orders_are_found_however_many_are_given_before_anybody_looks(
    tmp_path: Path, *, is_opened_since: bool
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    older.server = "the standby"
    lost, later = ([number(place) for place in some] for some in (range(5), range(5, 10)))
    first = ordered(store, tmp_path)
    await SuppressionList(cast("Store", first)).add(*lost)
    if is_opened_since:
        first.close()
    store.memory = older
    second = ordered(store, tmp_path) if is_opened_since else first
    await SuppressionList(cast("Store", second)).add(*later)
    assert set(await SuppressionList(store).find(*lost, *later)) == {*lost, *later}


async def test_orders_are_given_again_in_their_order(file: File) -> None:
    await file.begins(batch_id="march")

    async def orders(store: Store) -> None:
        queue = CallQueue(store)
        for _ in range(2):
            await queue.hold(batch_id="march", reason="first")
            await queue.resume(batch_id="march")
        await SuppressionList(store).add(number(1))
        await SuppressionList(store).remove(number(1))
        await SuppressionList(store).add(number(1), reason="again")
        await queue.hold(batch_id="april", reason="last")

    await file.loses(orders)
    async with file.on() as store:
        gates = await gates_at(store, "default", ["march", "april"])
        assert {batch: gate.state for batch, gate in gates.items()} == {"april": GateState.HELD}
        assert (await SuppressionList(store).find(number(1)))[number(1)].reason == "again"


async def test_a_cancel_follows_a_call_however_it_had_come_to_it(file: File) -> None:
    (call,) = await file.begins()

    async def orders(store: Store) -> None:
        leased = await store.lease("default", worker_id="w", limit=1, until=store.clock.now(), now=store.clock.now())
        assert len(leased) == 1
        await CallQueue(store).cancel(call)

    await file.loses(orders)
    async with file.on() as store:
        assert (await CallQueue(store).get(call)).state is JobState.CANCELLED


@pytest.mark.parametrize("by", ["Ann", None])
async def test_an_acknowledgement_by_name_or_key_ends_an_escalation_however_far_it_had_come(
    file: File, by: str | None
) -> None:
    async with file.on() as store:
        alarm = Escalation(numbers=[number(0)], say="Full.", source="+6531234567", voice_profile="en-IE-EmilyNeural")
        started = (await Escalations(CallQueue(store)).start(alarm, key="incident")).status
    file.older = file.path.read_bytes()

    async def orders(store: Store) -> None:
        records = EscalationStore(CallQueue(store))
        found = await records.get(started.id)
        assert await records.write(found, replace(found.record, not_before=store.clock.now()))
        call = next(iter(found.jobs.values()))
        await Escalations(CallQueue(store)).acknowledge(started.id, by=by, call=None if by else call)

    await file.loses(orders)
    async with file.on() as store:
        ended = await Escalations(CallQueue(store)).get(started.id)
        assert not ended.is_open
        assert ended.acknowledged is not None
        assert ended.acknowledged.by == by


async def test_the_queue_is_held_for_an_order_of_which_nobody_knows_whether_it_holds(file: File) -> None:
    await file.begins(batch_id="march")
    edit = BatchEdit(names=frozenset({"priority"}), priority=3)
    await file.loses(lambda store: CallQueue(store, by="Ann").edit_batch("march", edit))
    async with file.on("two") as store:
        await CallQueue(store).edit_batch("march", BatchEdit(names=frozenset({"priority"}), priority=5))
    for is_held in (True, False):
        async with file.on() as store:
            gate = await standing_gate(store, "default", None)
            assert gate is not None
            assert gate.reason.startswith("the store was rolled back, and edit of march by Ann") is is_held
            await CallQueue(store).resume()


async def test_orders_of_long_ago_are_left_alone(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    await file.begins()
    monkeypatch.setattr("voiceflow_worker.core.orders.GIVEN_FOR", -GIVEN_FOR)
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    async with file.on() as store:
        assert not await SuppressionList(store).find(number(1))


async def test_an_erasure_leaves_nothing_of_a_person_in_the_journals_of_any_machine(file: File) -> None:
    calls = await file.begins(3)
    async with file.on("two") as receiver:
        everybody = [number(place) for place in range(3)]
        await Suppress(operator=Operator(receiver, CallPolicy()), numbers=tuple(everybody)).do()
        async with file.on() as store:
            with suppress(TooLateError):  # it has ended with the opt-out
                await CallQueue(store).cancel(calls[0], reason="wrong")
            await CallQueue(store).hold(reason=f"{number(0)} asked")
            await forget(store, number(0), settings=file.settings())
        retention = Retention(receiver, NO_WEBHOOKS, local_journal=journal_of(receiver))
        await retention.run()
        for machine in ("one", "two"):
            texts = [path.read_text() for path in file.journals(machine)]
            assert not any(number(0) in text for text in texts)
        assert number(1) in "".join(path.read_text() for path in file.journals("two"))
    file.set_back()
    async with file.on("two"), file.on() as store:
        assert set(await SuppressionList(store).find(*everybody)) == set(everybody)


async def test_an_order_stands_though_its_machine_can_keep_no_journal(
    file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    await file.begins()
    (file.folder / "broken").write_text("a file")
    async with file.on("broken") as store:
        assert await SuppressionList(store).add(number(1))
        assert await SuppressionList(store).find(number(1))
    assert "an order is stored and in force, but it is not in the local journal" in capsys.readouterr().out


async def test_who_resumes_a_queue_sees_which_machines_have_not_looked_into_their_journals(file: File) -> None:
    await file.begins()
    async with file.on() as store:
        kinds = frozenset({GateKind.MAY_LACK})
        held = Gate.of("default", None, GateState.HELD, since=store.clock.now(), reason="lost", kinds=kinds)
        await order_gate(store, held)
        resume = Resume(operator=Operator(store, CallPolicy(), on=Interface.PAGES), queue="default")
        assert (await resume.question()).facts == ()
        await text_records(store, READ_BY).put({"far": "a history before"})
        (fact,) = (await resume.question()).facts
        assert fact.startswith("Orders that were given on far just before may be missing, opt-outs among them")
        assert fact in (await resume.do()).notes


async def test_each_folder_of_a_machine_is_read_by_those_who_use_it(tmp_path: Path) -> None:
    """A service and the people of its machine have state directories of their own."""
    store = MemoryStore()
    store.memory.history = History("before", "before")
    for user in ("service", "ann"):
        await SuppressionList(cast("Store", ordered(store, tmp_path / user / "id" / "url"))).add(number(1))
    store.memory.history, store.memory.server = History("after", "before"), "the standby"
    await ordered(store, tmp_path / "service" / "id" / "url").give_again()
    (left,) = await hosts_not_read(store)
    assert left.endswith(f" ({tmp_path / 'ann'})")


async def _alarm(store: Store) -> str:
    alarm = Escalation(numbers=[number(0)], say="Full.", source="+6531234567", voice_profile="en-IE-EmilyNeural")
    return (await Escalations(CallQueue(store)).start(alarm, key="incident")).status.id


async def test_each_machine_that_has_said_yes_has_the_order(file: File) -> None:
    """The second one finds it in force; the first one is lost together with the server."""
    calls = await file.begins(3, batch_id="march")
    async with file.on() as store:
        alarm = await _alarm(store)
        await enqueued(store, 1, first=7)
    file.older = file.path.read_bytes()

    async def orders(store: Store) -> None:
        queue = CallQueue(store, by="Ann")
        await queue.hold(reason="a fire")
        await queue.hold(batch_id="march", reason="wrong text")
        await queue.hold(batch_id="june", reason="rain", until=datetime(2090, 1, 1, tzinfo=UTC))
        with suppress(TooLateError):  # the second one is told that it has ended
            await queue.cancel(calls[0])
        await queue.cancel_many(calls[1:2])
        await queue.cancel_batch("april")
        await queue.edit_batch("march", BatchEdit(names=frozenset({"priority"}), priority=3))
        await queue.set_rate(3)
        await SuppressionList(store).add(number(5))
        await Escalations(queue).acknowledge(alarm, by="Ann")
        await forget(store, number(7), settings=file.settings("two"))

    async with file.on("one") as store:
        await orders(store)
    await file.loses(orders, "two")
    async with file.on("two") as store:
        await erase_again(store, CallPolicy())
        queue = CallQueue(store)
        gates = {batch: await standing_gate(store, "default", batch) for batch in (None, "march", "april", "june")}
        held, cancelled = GateState.HELD, GateState.CANCELLED
        assert [gate and gate.state for gate in gates.values()] == [held, held, cancelled, held]
        whole, june = gates[None], gates["june"]
        assert whole is not None
        assert june is not None
        assert (june.until, june.reason) == (datetime(2090, 1, 1, tzinfo=UTC), "rain")
        assert whole.reason.startswith("a fire; then: the store was rolled back, and edit of march by Ann"), "or it is"
        limits = await limits_of(store, "default")
        assert limits is not None
        assert limits.rate == 3
        assert await SuppressionList(store).find(number(5))
        assert not (await Escalations(queue).get(alarm)).is_open
        assert not await queue.find(destination=number(7))


async def test_an_alarm_that_has_begun_again_since_is_not_ended_by_an_older_acknowledgement(file: File) -> None:
    await file.begins()
    async with file.on() as store:
        alarm = await _alarm(store)
    file.older = file.path.read_bytes()
    async with file.on("one") as store:
        await Escalations(CallQueue(store)).acknowledge(alarm, by="Ann")
    await file.loses(lambda store: Escalations(CallQueue(store)).acknowledge(alarm, by="Ann"), "two")
    async with file.on("one") as store:
        records = EscalationStore(CallQueue(store))
        found = await records.get(alarm)
        assert not found.record.is_open
        again = found.record.restarted(1, 1, at=store.clock.now())
        assert await records.write(found, again)
    async with file.on("two") as store:
        assert (await Escalations(CallQueue(store)).get(alarm)).is_open


@pytest.mark.parametrize("last", ["hold", "resume"])
@pytest.mark.parametrize("step", [-90, 90])
async def test_orders_count_in_their_order_though_the_clock_was_set_between_them(
    tmp_path: Path, last: str, step: int
) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    store = MemoryStore(clock=clock)
    older = copy.deepcopy(store.memory)
    queue = CallQueue(cast("Store", ordered(store, tmp_path)))
    orders = {"hold": partial(queue.hold, batch_id="march"), "resume": partial(queue.resume, batch_id="march")}
    for action in sorted(orders, key=lambda each: each == last):
        await orders[action]()
        clock.jump(timedelta(seconds=step))
    store.memory = older
    await ordered(store, tmp_path).give_again()
    assert ("march" in await gates_at(store, "default", ["march"])) is (last == "hold")


async def test_a_lost_order_on_a_person_who_was_erased_since_is_found_once(
    file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    await file.begins()
    async with file.on("one") as store:
        await SuppressionList(store).add(number(9))
    file.older = file.path.read_bytes()
    async with file.on("one") as store:
        await Unsuppress(operator=Operator(store, CallPolicy()), numbers=(number(9),)).do()
    async with file.on("two") as store:
        await forget(store, number(9), settings=file.settings("two"))
    file.set_back()
    async with file.on("two"), file.on("one") as store:
        assert await standing_gate(store, "default", None) is None
    capsys.readouterr()
    async with file.on("one"):
        assert "had lost orders" not in capsys.readouterr().out


@pytest.mark.parametrize("again", [False, True])
async def test_an_opt_out_of_before_an_erasure_brings_no_number_back(file: File, *, again: bool) -> None:
    await file.begins()
    async with file.on("one") as store:
        await SuppressionList(store).add(number(9), number(8))
    async with file.on("two") as store:
        await forget(store, number(9), settings=file.settings("two"))
    if again:  # a wish of after the erasure
        async with file.on("one") as store:
            await SuppressionList(store).add(number(9))
    file.set_back()
    async with file.on("two") as store:
        await erase_again(store, CallPolicy())
    async with file.on("one") as store:
        await erase_again(store, CallPolicy())
        listed = [entry.number for entry in await SuppressionList(store).scan()]
        assert (number(9) in listed, number(8) in listed) == (again, True)
        assert len(await SuppressionList(store).find(number(8), number(9))) == 2, "nobody of them is called"


@pytest.mark.parametrize("damaged", ["no", "no time", "no-time nobody", "9" * 400 + " nobody"])
async def test_an_erasure_that_cannot_be_read_keeps_no_order_from_being_given_again(file: File, damaged: str) -> None:
    await file.begins()
    async with file.on() as store:
        await text_records(store, ERASED_CALLS).put({damaged: "x"})
    file.older = file.path.read_bytes()
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    async with file.on() as store:
        assert await SuppressionList(store).add(number(2))
        assert len(await SuppressionList(store).find(number(1), number(2))) == 2
        for _ in range(2):
            await Retention(store, NO_WEBHOOKS, local_journal=journal_of(store)).run()
    assert number(1) in file.journals()[0].read_text(), "it names nobody whose lines would be erased"


class Slow:
    """A store whose first order waits, or with `kills` is never stored, because its process is killed."""

    def __init__(self, store: Store, *, kills: bool = False) -> None:
        self._store = store
        self._kills = kills
        self._is_first = True
        self.came, self.released = anyio.Event(), anyio.Event()

    async def write(self, bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        is_first, self._is_first = self._is_first and bulk.guard is not None, self._is_first and bulk.guard is None
        if is_first and self._kills:
            raise Killed
        if is_first:
            self.came.set()
            await self.released.wait()
        return await self._store.write(bulk, now=now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Killed(BaseException):
    """The process was killed."""


async def test_orders_of_one_process_on_their_way_at_once_are_stored_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    """Else the store would have the number of the second one without the first one, and nobody would miss that."""
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    slow = Slow(store)
    both = cast("Store", ordered(cast("Store", slow), tmp_path))
    async with anyio.create_task_group() as group:
        group.start_soon(CallQueue(both).hold)
        await slow.came.wait()
        group.start_soon(SuppressionList(both).add, number(1))
        await anyio.wait_all_tasks_blocked()
        assert not await SuppressionList(store).find(number(1))
        slow.released.set()
    store.memory = older
    await ordered(store, tmp_path).give_again()
    assert await SuppressionList(store).find(number(1))
    assert None in await gates_at(store, "default", [None])


UNKNOWN: Mapping[str, tuple[Callable[[Store, str], Awaitable[object]], str | None]] = {
    "hold": (lambda store, _: CallQueue(store).hold(reason="a fire"), "a fire"),
    "opt-out": (lambda store, _: SuppressionList(store).add(number(0)), None),
    "resume": (
        lambda store, _: CallQueue(store, by="Ann").resume(batch_id="march"),
        "a process ended while it ordered, and resume of march by Ann",
    ),
    "redial": (
        lambda store, call: CallQueue(store, by="Ann").redial(call, force=True),
        "a process ended while it ordered, and redial of {call} by Ann",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_an_order_that_a_crash_has_cut_is_carried_out_if_it_stops_calls_else_the_queue_is_held(
    file: File, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, reason = UNKNOWN[name]
    (call,) = await file.begins(batch_id="march")
    async with file.on() as store:
        await CallQueue(store).cancel(call)
        await CallQueue(store).hold(batch_id="march")
    async with file.on() as store:
        inner = cast("OrderedStore", store)
        inner.inner = cast("Store", Slow(inner.inner, kills=True))
        with monkeypatch.context() as patched, suppress(Killed):
            patched.setattr(JournalFile, "record_committed", lambda *_: None)
            await order(store, call)
    async with file.on() as store:
        gate = (await gates_at(store, "default", [None])).get(None)
        assert (gate.reason if gate else "").startswith((reason or "").format(call=call))
        assert (gate is None) is (reason is None)
        assert (await CallQueue(store).get(call)).state is JobState.CANCELLED
        assert "march" in await gates_at(store, "default", ["march"])
        assert bool(await SuppressionList(store).find(number(0))) is (name == "opt-out")


async def test_lost_orders_in_a_file_of_the_version_before_are_named_in_a_hold(file: File) -> None:
    await file.begins()
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    (journal,) = file.journals()
    header, *lines = map(json.loads, journal.read_text().splitlines())
    assert header["voiceflow_journal"] == 5
    old = [each["ordered"] | {"n": each["n"], "order": ""} if "ordered" in each else each for each in lines]
    journal.write_text("".join(f"{json.dumps(each)}\n" for each in [header | {"voiceflow_journal": 4}, *old]))
    async with file.on() as store:
        gate = await standing_gate(store, "default", None)
        assert gate is not None
        assert gate.reason.startswith("the store was rolled back, and an order of numbers, ordered at ")
        await CallQueue(store).hold(batch_id="march")
    assert len(file.journals()) == 2, "the next ones go to a file of this version"
    async with file.on() as store:
        await CallQueue(store).resume()
    async with file.on() as store:
        assert await gates_at(store, "default", [None]) == {}, "it is named once"


async def test_a_redial_takes_back_the_cancel_of_its_call_among_many(file: File) -> None:
    calls = await file.begins(3, batch_id="march")

    async def orders(store: Store) -> None:
        queue = CallQueue(store, by="Ann")
        await queue.cancel_many(calls)
        for call in calls[:2]:
            await queue.redial(call, force=True)

    await file.loses(orders)
    async with file.on() as store:
        states = [(await CallQueue(store).get(call)).state for call in calls]
        assert states == [JobState.QUEUED, JobState.QUEUED, JobState.CANCELLED]
        gate = await standing_gate(store, "default", None)
        assert gate is not None
        assert [gate.reason.count(f"redial of {call} by Ann") for call in calls] == [1, 1, 0]
