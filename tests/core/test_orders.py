"""Orders that a store has lost are given again once, each under its condition; an erasure erases them too."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.set_back import SetBack
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS
from voiceflow_worker import CallQueue, Escalation, JobState, forget, start_escalation
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Resume
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.audit import GIVEN_AGAIN, Interface, entries_on
from voiceflow_worker.core.base.reading import gates_at, limits_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate, standing_gate
from voiceflow_worker.core.orders import GIVEN_FOR, READ_BY, OrderedStore, hosts_not_read
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS, journal_of
from voiceflow_worker.core.ports.store import BulkWrite, History, Page, WriteResult
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.writes import ACKNOWLEDGED, ERASED_CALLS
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError, TooLateError
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> SetBack:
    return SetBack(request, "sqlite", f"sqlite:///{tmp_path}/calls.db", tmp_path)


async def test_who_looks_for_lost_orders_writes_nothing_and_reads_the_end_of_each_file(tmp_path: Path) -> None:
    """So a command that reads does not wait for a process that has the store locked."""
    store = MemoryStore()
    for begin in range(0, 3000, 100):  # an order of many lines
        first = ordered(store, tmp_path)
        await SuppressionList(cast("Store", first)).add(*(number(begin + place) for place in range(100)))
        first.close()
    asked: list[object] = []

    async def note(call: StoreCall) -> None:
        assert call.name == "records"
        asked.extend(key for keys in call.arguments[0].values() if not isinstance(keys, Page) for key in keys)

    await ordered(FaultyStore(store, before=note), tmp_path).give_again()
    assert 0 < len(asked) < 15, "the end of a file has no more orders"


async def held(store: Store, batch: str, **how: Any) -> None:
    """Hold a batch that has a call."""
    queue = CallQueue(store, by="Ann")
    await queue.enqueue(flow(), batch=batch, unique_key=batch)
    await queue.hold(batch_id=batch, **how)


async def test_old_orders_go_though_others_are_given_each_day(tmp_path: Path) -> None:
    first = datetime(2026, 3, 1, 12, tzinfo=UTC)
    files = JournalFiles(tmp_path)
    clock = ManualClock(first)
    store = ordered(MemoryStore(clock=clock), tmp_path)
    for day in range(30):
        await held(cast("Store", store), f"{day}")
        clock.advance(timedelta(days=1))
    assert len(await files.files(ORDERS, since=first + timedelta(days=25))) == 2, "nobody reads those before it"
    await files.prune(ORDERS, before=first + timedelta(days=20))
    kept = [each for file in await files.files(ORDERS) for _, each in (await files.entries(file.name)).orders]
    assert [each.at for each in kept] == [first + timedelta(days=day) for day in range(15, 30)], "whole weeks are gone"


@pytest.mark.parametrize("damage", [b'{"order":"x","cut', b'{"order":"x","action":1}\n{"order": 3}\nnot JSON\n'])
async def test_lines_that_cannot_be_read_hide_no_others(file: SetBack, damage: bytes) -> None:
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


async def test_an_order_is_given_again_once_by_whoever_finds_it_first(file: SetBack) -> None:
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


@pytest.mark.parametrize("server", ["the standby", ""])
@pytest.mark.parametrize("is_opened_since", [False, True])
async def test_lost_orders_are_found_however_many_are_given_before_anybody_looks(
    tmp_path: Path, server: str, *, is_opened_since: bool
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    store.memory.server, older.server = "", server  # a file was put back where no server has a name
    lost, later = ([number(place) for place in some] for some in (range(5), range(5, 10)))
    first = ordered(store, tmp_path)
    await SuppressionList(cast("Store", first)).add(*lost)
    if is_opened_since:
        first.close()
    store.memory = older
    second = ordered(store, tmp_path) if is_opened_since else first
    await SuppressionList(cast("Store", second)).add(*later)
    assert set(await SuppressionList(store).find(*lost, *later)) == {*lost, *later}


async def test_orders_are_given_again_in_their_order(file: SetBack) -> None:
    await file.begins(batch_id="march")

    async def orders(store: Store) -> None:
        queue = CallQueue(store)
        for _ in range(2):
            await held(store, "march", reason="first")
            await queue.resume(batch_id="march")
        await SuppressionList(store).add(number(1))
        await SuppressionList(store).remove(number(1))
        await SuppressionList(store).add(number(1), reason="again")
        await held(store, "april", reason="last")

    await file.loses(orders)
    async with file.on() as store:
        gates = await gates_at(store, "default", ["march", "april"])
        assert {batch: gate.state for batch, gate in gates.items()} == {"april": GateState.HELD}
        assert (await SuppressionList(store).find(number(1)))[number(1)].reason == "again"


async def test_a_cancel_follows_a_call_however_it_had_come_to_it(file: SetBack) -> None:
    (call,) = await file.begins()

    async def orders(store: Store) -> None:
        leased = await store.lease("default", worker_id="w", limit=1, until=store.clock.now(), now=store.clock.now())
        assert len(leased) == 1
        await CallQueue(store).cancel(call)

    await file.loses(orders)
    async with file.on() as store:
        assert (await CallQueue(store).get(call)).state is JobState.CANCELLED


ALARM = "oncall-incident"


async def _start_alarm(store: Store) -> None:
    alarm = Escalation(numbers=[number(0)], say="Full.", source="+6531234567", voice_profile="en-IE-EmilyNeural")
    await start_escalation(CallQueue(store), alarm, name=ALARM)


async def _is_cancelled(store: Store) -> bool:
    gate = await standing_gate(store, "default", ALARM)
    return gate is not None and gate.state is GateState.CANCELLED


async def test_a_key_ends_an_escalation_though_the_store_has_lost_it(file: SetBack) -> None:
    async with file.on() as store:
        await _start_alarm(store)
        (job,) = await Engine(store, ScriptedVoice()).send()
    file.save()

    async def orders(store: Store) -> None:
        press = KeyPress(at=store.clock.now(), menu="escalation", digits="1", event_id="1", answer=ACKNOWLEDGED)
        call = MenuCall(await CallQueue(store).get(job.id), 1, ())
        await MenuCalls(store, CallPolicy()).pressed(call, press, session_id=None)

    await file.loses(orders)
    async with file.on() as store:
        assert await _is_cancelled(store)


async def test_orders_of_long_ago_are_left_alone(file: SetBack, monkeypatch: pytest.MonkeyPatch) -> None:
    await file.begins()
    monkeypatch.setattr("voiceflow_worker.core.orders.GIVEN_FOR", -GIVEN_FOR)
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    async with file.on() as store:
        assert not await SuppressionList(store).find(number(1))


async def test_an_erasure_leaves_nothing_of_a_person_in_the_journals_of_any_machine(file: SetBack) -> None:
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
    file: SetBack, capsys: pytest.CaptureFixture[str]
) -> None:
    await file.begins()
    (file.folder / "broken").write_text("a file")
    async with file.on("broken") as store:
        assert await SuppressionList(store).add(number(1))
        assert await SuppressionList(store).find(number(1))
    assert "an order is stored and in force, but it is not in the local journal" in "".join(capsys.readouterr())


async def test_who_resumes_a_queue_sees_which_machines_have_not_looked_into_their_journals(file: SetBack) -> None:
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


async def test_each_machine_that_has_said_yes_has_the_order(file: SetBack) -> None:
    """The second one finds it in force; the first one is lost together with the server."""
    until = datetime(2090, 1, 1, tzinfo=UTC)
    async with file.on() as store:
        await _start_alarm(store)
    file.save()

    async def orders(store: Store) -> None:
        queue = CallQueue(store, by="Ann")
        await held(store, "june", reason="rain", until=until)
        await queue.set_rate(3)
        await queue.cancel_batch(ALARM)

    async with file.on("one") as store:
        await orders(store)
    await file.loses(orders, "two")
    async with file.on("two") as store:
        june, limits = (await gates_at(store, "default", ["june"]))["june"], await limits_of(store, "default")
        assert (june.until, june.reason, limits and limits.rate) == (until, "rain", 3)
        assert await _is_cancelled(store)


@pytest.mark.parametrize("last", ["hold", "resume"])
@pytest.mark.parametrize("step", [-90, 90])
async def test_orders_count_in_their_order_though_the_clock_was_set_between_them(
    tmp_path: Path, last: str, step: int
) -> None:
    clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    store = MemoryStore(clock=clock)
    older = copy.deepcopy(store.memory)
    queue = CallQueue(cast("Store", ordered(store, tmp_path)))
    await queue.enqueue(flow(), batch="march")
    orders = {"hold": partial(queue.hold, batch_id="march"), "resume": partial(queue.resume, batch_id="march")}
    for action in sorted(orders, key=lambda each: each == last):
        await orders[action]()
        clock.jump(timedelta(seconds=step))
    store.memory = older
    await ordered(store, tmp_path).give_again()
    assert ("march" in await gates_at(store, "default", ["march"])) is (last == "hold")


async def test_a_lost_order_on_a_person_who_was_erased_since_is_found_once(
    file: SetBack, capsys: pytest.CaptureFixture[str]
) -> None:
    await file.begins()
    async with file.on("one") as store:
        await SuppressionList(store).add(number(9))
    file.save()
    async with file.on("one") as store:
        await Unsuppress(operator=Operator(store, CallPolicy()), numbers=(number(9),)).do()
    file.set_back()
    async with file.on("two") as store:
        await forget(store, number(9), settings=file.settings("two"))
    async with file.on("one") as store:
        assert await standing_gate(store, "default", None) is None
    capsys.readouterr()
    async with file.on("one"):
        assert "had lost orders" not in "".join(capsys.readouterr())


async def test_an_opt_out_that_an_erasure_has_left_outlives_a_rollback(file: SetBack) -> None:
    await file.begins()
    async with file.on() as store:
        await SuppressionList(store).add(number(9))
        await forget(store, number(9), settings=file.settings())
    file.set_back()
    async with file.on() as store:
        assert set(await SuppressionList(store).find(number(9))) == {number(9)}, "nobody calls them"
        assert number(9) not in [entry.number for entry in await SuppressionList(store).scan()]


@pytest.mark.parametrize("damaged", ["no", "no time", "no-time nobody", "9" * 400 + " nobody"])
async def test_an_erasure_that_cannot_be_read_keeps_no_order_from_being_given_again(
    file: SetBack, damaged: str
) -> None:
    await file.begins()
    async with file.on() as store:
        await text_records(store, ERASED_CALLS).put({damaged: "x"})
    file.save()
    await file.loses(lambda store: SuppressionList(store).add(number(1)))
    async with file.on() as store:
        assert await SuppressionList(store).add(number(2))
        assert len(await SuppressionList(store).find(number(1), number(2))) == 2
        for _ in range(2):
            await Retention(store, NO_WEBHOOKS, local_journal=journal_of(store)).run()
    assert number(1) in file.journals()[0].read_text(), "it names nobody whose lines would be erased"


class Killed(BaseException):
    """The process was killed."""


async def test_orders_of_one_process_on_their_way_at_once_are_stored_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    """Else the store would have the number of the second one without the first one, and nobody would miss that."""
    store, came, released = MemoryStore(), anyio.Event(), anyio.Event()
    older = copy.deepcopy(store.memory)

    async def slow(call: StoreCall) -> None:
        if call.name == "write" and call.arguments[0].guard is not None:
            came.set()
            await released.wait()

    both = cast("Store", ordered(FaultyStore(store, before=slow), tmp_path))
    async with anyio.create_task_group() as group:
        group.start_soon(CallQueue(both).hold)
        await came.wait()
        group.start_soon(SuppressionList(both).add, number(1))
        await anyio.wait_all_tasks_blocked()
        assert not await SuppressionList(store).find(number(1))
        released.set()
    store.memory = older
    await ordered(store, tmp_path).give_again()
    assert await SuppressionList(store).find(number(1))
    assert None in await gates_at(store, "default", [None])


CUT: Mapping[str, Callable[[Store, str], Awaitable[object]]] = {
    "hold": lambda store, _: CallQueue(store).hold(reason="a fire"),
    "opt-out": lambda store, _: SuppressionList(store).add(number(0)),
    "resume": lambda store, _: CallQueue(store, by="Ann").resume(batch_id="march"),
    "redial": lambda store, call: CallQueue(store, by="Ann").redial(call, force=True),
    "cancel": lambda store, _: CallQueue(store, by="Ann").cancel_batch("march"),
}


@pytest.mark.parametrize("fault", [Killed(), StoreUnavailableError("locked"), InvalidInputError("no")])
@pytest.mark.parametrize("name", CUT)
async def test_an_order_that_was_cut_or_refused_is_never_carried_out_and_holds_nothing(
    file: SetBack, name: str, fault: BaseException
) -> None:
    (call,) = await file.begins(batch_id="march")

    async def fails(call: StoreCall) -> None:
        if call.name == "write" and call.arguments[0].guard is not None:
            raise fault

    async with file.on() as store:
        await CallQueue(store).cancel(call)
        await CallQueue(store).hold(batch_id="march")
    async with file.on() as store:
        both = cast("OrderedStore", store)
        both.inner = FaultyStore(both.inner, before=fails)
        with suppress(Killed, StoreUnavailableError, InvalidInputError):
            await CUT[name](store, call)
    for machine in ("one", "two"):
        async with file.on(machine) as store:
            assert {
                batch: gate.state for batch, gate in (await gates_at(store, "default", [None, "march"])).items()
            } == {"march": GateState.HELD}
            assert (await CallQueue(store).get(call)).state is JobState.CANCELLED
            assert not await SuppressionList(store).find(number(0))


async def test_a_redial_takes_back_the_cancel_of_its_call_among_many(file: SetBack) -> None:
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
