"""A store that has lost orders: the opt-outs come back, other orders are named in a hold, and nobody rings before."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.set_back import SetBack
from tests.support.voices import ScriptedVoice
from tests.support.workers import NO_WEBHOOKS
from voiceflow_worker import CallQueue, SessionStatus, forget
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Hold
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.audit import Actor, AuditEntry
from voiceflow_worker.core.base.reading import gates_at
from voiceflow_worker.core.orders import READ_FOR, OrderedStore
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Result, Same, Write, WriteResult
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.policy import CallPolicy

pytestmark = pytest.mark.anyio

PEOPLE = 4
EVERYBODY = frozenset(range(PEOPLE))
Order = Callable[[Store, Sequence[str]], Awaitable[object]]


def by_ann(store: Store) -> Operator:
    return Operator(store, CallPolicy(), name="Ann")


async def opt_out_in_a_call(store: Store, ids: Sequence[str]) -> None:
    engine = Engine(store, ScriptedVoice())
    await engine.send(limit=1)
    await engine.summarise(await CallQueue(store).get(ids[0]), SessionStatus.UNSUBSCRIBED_CONTACT)


async def suppressed_and_removed(store: Store, ids: Sequence[str]) -> None:
    await Suppress(operator=by_ann(store), numbers=(number(0), number(1))).do()
    await Unsuppress(operator=by_ann(store), numbers=(number(0),)).do()


async def erased(store: Store, ids: Sequence[str]) -> None:
    await CallQueue(store).cancel(ids[0])
    await SuppressionList(store).add(number(0))
    await forget(store, number(0))


LOST: Mapping[str, tuple[Order, frozenset[int], str]] = {
    "hold": (lambda store, _: Hold(operator=by_ann(store), queue="default").do(), frozenset(), "hold by Ann"),
    "cancel": (lambda store, ids: CallQueue(store, by="Ann").cancel(ids[0]), frozenset(), "cancel by Ann"),
    "cancel a batch": (lambda store, _: CallQueue(store, by="Ann").cancel_batch("march"), frozenset(), "cancel by Ann"),
    "rate": (lambda store, _: CallQueue(store, by="Ann").set_rate(3), frozenset(), "rate by Ann"),
    "opt-out": (
        lambda store, _: Suppress(operator=by_ann(store), numbers=(number(0), number(1))).do(),
        frozenset({0, 1}),
        "2 opt-outs put back",
    ),
    "opt-out of a program": (lambda store, _: SuppressionList(store).add(number(2)), frozenset({2}), "1 opt-out put"),
    "opt-out in a call": (opt_out_in_a_call, frozenset({0}), "1 opt-out put back"),
    "taken off again": (suppressed_and_removed, frozenset({1}), "1 opt-out put back"),
    "erased": (erased, frozenset({0}), "1 opt-out put back"),
}
"""Each order, who does not ring afterwards, and what the hold says."""


@pytest.fixture
def world(request: pytest.FixtureRequest, fresh_url: Callable[[str], str], tmp_path: Path) -> Generator[SetBack]:
    made = SetBack(request, request.param, fresh_url(request.param), tmp_path)
    yield made
    made.forget()


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> SetBack:
    return SetBack(request, "sqlite", f"sqlite:///{tmp_path}/calls.db", tmp_path)


def ordered(store: Store, folder: Path) -> OrderedStore:
    return OrderedStore(store, lambda: JournalFiles(folder))


async def rung(store: Store) -> set[int]:
    """Who rings when a worker sends all that may be sent."""
    voice = ScriptedVoice()
    await Engine(store, voice, policy=NO_WEBHOOKS).send(limit=100)
    return {place for place in EVERYBODY if number(place) in voice.rang}


async def reason_of(store: Store) -> str:
    """Why the queue is held; empty if it is not."""
    gate = (await gates_at(store, "default", [None])).get(None)
    return "" if gate is None else gate.reason


@pytest.mark.parametrize(
    "world",
    ["sqlite", *(pytest.param(each, marks=pytest.mark.slow) for each in ("memory", "redis", "postgres"))],
    indirect=True,
)
@pytest.mark.parametrize("name", LOST)
async def test_opt_outs_come_back_and_other_orders_are_named_before_anybody_rings(world: SetBack, name: str) -> None:
    order, opted_out, told = LOST[name]
    ids = await world.begins(PEOPLE, "march")
    async with world.on() as store:
        await order(store, ids)
    for _ in range(2):
        world.set_back()
        async with world.on() as store:
            assert told in await reason_of(store)
            assert not await rung(store)
            found = await SuppressionList(store).find(*map(number, EVERYBODY))
            assert set(found) == set(map(number, opted_out))
            await CallQueue(store).resume()
        async with world.on() as store:
            assert not await reason_of(store), "it is held once"
    async with world.on() as store:
        assert await rung(store) == EVERYBODY - opted_out


@pytest.mark.parametrize("hosts", ["ab", "ba"])
async def test_an_opt_out_of_another_host_counts_whichever_comes_back_first(tmp_path: Path, hosts: str) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    first, second = (SuppressionList(cast("Store", ordered(store, tmp_path / host / "id" / "url"))) for host in "ab")
    await first.add(number(1))
    await first.remove(number(1))
    await second.add(number(1), until=store.clock.now() + timedelta(days=30))
    store.memory = older
    for host in hosts:
        await ordered(store, tmp_path / host / "id" / "url").put_opt_outs_back()
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


async def test_who_finds_a_rollback_too_late_holds_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    await CallQueue(cast("Store", ordered(store, tmp_path)), by="Ann").set_rate(3)
    store.memory = older
    await CallQueue(store).enqueue(flow())
    slow, write = ordered(store, tmp_path), store.write

    async def late(bulk: BulkWrite, *, now: datetime) -> Sequence[WriteResult]:
        monkeypatch.setattr(store, "write", write)
        await ordered(store, tmp_path).put_opt_outs_back()
        assert "rate by Ann" in await reason_of(store)
        await CallQueue(store).resume()
        return await write(bulk, now=now)

    monkeypatch.setattr(store, "write", late)
    await slow.put_opt_outs_back()
    assert not await reason_of(store)


class Killed(BaseException):
    """The process was killed."""


@pytest.mark.parametrize("at", [0, 1])
async def test_a_process_that_is_killed_while_it_puts_opt_outs_back_leaves_the_rest_to_the_next(
    tmp_path: Path, at: int
) -> None:
    store = MemoryStore()
    older = copy.deepcopy(store.memory)
    await SuppressionList(cast("Store", ordered(store, tmp_path))).add(number(1))
    store.memory = older
    await CallQueue(store).enqueue(flow(number(1)))
    left = [None] * at

    async def killed(call: StoreCall) -> None:
        if call.name == "write":
            if not left:
                raise Killed
            left.pop()

    with pytest.raises(Killed):
        await ordered(FaultyStore(store, before=killed), tmp_path).put_opt_outs_back()
    await ordered(store, tmp_path).put_opt_outs_back()
    assert await SuppressionList(store).find(number(1))
    assert "1 opt-out put back" in await reason_of(store)


FAULTS = (Killed(), StoreUnavailableError("locked"), InvalidInputError("no"))
CUT: Mapping[str, Callable[[Store], Awaitable[object]]] = {
    "hold": lambda store: CallQueue(store).hold(reason="a fire"),
    "opt-out": lambda store: SuppressionList(store).add(number(0)),
    "cancel": lambda store: CallQueue(store, by="Ann").cancel_batch("march"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CUT)
async def test_an_order_that_was_cut_or_refused_holds_nothing(file: SetBack, name: str, fault: BaseException) -> None:
    await file.begins(batch_id="march")

    async def fails(call: StoreCall) -> None:
        if call.name == "write" and call.arguments[0].guard is not None:
            raise fault

    async with file.on() as store:
        both = cast("OrderedStore", store)
        both.inner = FaultyStore(both.inner, before=fails)
        with suppress(Killed, StoreUnavailableError, InvalidInputError):
            await CUT[name](store)
    async with file.on() as store:
        assert not await gates_at(store, "default", [None, "march"])
        assert not await SuppressionList(store).find(number(0))


async def test_an_order_stands_though_its_machine_can_keep_no_journal(
    file: SetBack, capsys: pytest.CaptureFixture[str]
) -> None:
    await file.begins()
    (file.folder / "broken").write_text("a file")
    async with file.on("broken") as store:
        assert await SuppressionList(store).add(number(1))
        assert await SuppressionList(store).find(number(1))
    assert "an order is stored and in force, but it is not in the local journal" in "".join(capsys.readouterr())


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
        group.start_soon(partial(CallQueue(both, by="Ann").set_rate, 3))
        await came.wait()
        group.start_soon(SuppressionList(both).add, number(1))
        await anyio.wait_all_tasks_blocked()
        assert not await SuppressionList(store).find(number(1))
        released.set()
    store.memory = older
    await CallQueue(store).enqueue(flow())
    await ordered(store, tmp_path).put_opt_outs_back()
    assert await SuppressionList(store).find(number(1))
    assert "rate by Ann" in await reason_of(store)


async def test_an_order_that_stood_before_has_no_line_and_holds_nothing(tmp_path: Path) -> None:
    """Its write counts as written before, and stores no number: a line of it would be taken for lost."""
    store = MemoryStore()
    await CallQueue(store).enqueue(flow())
    given = ordered(store, tmp_path)
    entry = AuditEntry.of(Actor.of("Ann"), "start", at=store.clock.now())
    put = Put("import", "default", "ended", None)
    write = Write(conditions=(Same("import", "default", None),), puts=(put, *entry.puts()))
    for _ in range(2):
        (answer,) = await given.write(BulkWrite(writes=(write,)), now=store.clock.now())
        assert answer.result is Result.DONE
    await ordered(store, tmp_path).put_opt_outs_back()
    assert not await reason_of(store)


async def test_who_compares_a_whole_journal_writes_nothing_and_reads_the_end_of_each_file(tmp_path: Path) -> None:
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

    await ordered(FaultyStore(store, before=note), tmp_path).put_opt_outs_back()
    assert 0 < len(asked) < 15


async def test_old_files_are_not_read_and_go(tmp_path: Path) -> None:
    clock = ManualClock()
    first, files = clock.now(), JournalFiles(tmp_path)
    store = ordered(MemoryStore(clock=clock), tmp_path)
    for _ in range(30):
        await SuppressionList(cast("Store", store)).add(number(1))
        clock.advance(timedelta(days=1))
    assert len(await files.files(ORDERS, since=clock.now() - READ_FOR)) <= 2
    await files.prune(ORDERS, before=first + timedelta(days=20))
    kept = [each.at for file in await files.files(ORDERS) for _, each in (await files.entries(file.name)).orders]
    assert kept
    assert min(kept) >= first + timedelta(days=12), "whole weeks are gone"
