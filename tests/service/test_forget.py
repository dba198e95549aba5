"""Erasing a person: nothing that the product writes has them afterwards, and nobody is called because of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.suite import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import Dies
from tests.support.flows import SOURCE, flow
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone, wait_for
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CallRequest,
    Campaign,
    JobState,
    Store,
    SuppressionList,
    open_store,
)
from voiceflow_worker.actions import ActionRefusedError, Operator
from voiceflow_worker.actions.calls import Redial
from voiceflow_worker.actions.suppression import Suppress, Unsuppress
from voiceflow_worker.backends.sqlite.backups import back_up
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.outcomes.batch_ends import BatchEnds
from voiceflow_worker.core.outcomes.outbox import Consumer
from voiceflow_worker.core.ports.outside import journal_of
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Write
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.rollback import FILES_KEPT
from voiceflow_worker.core.settling.changes import Sessions
from voiceflow_worker.errors import StoreError, SuppressedNumberError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import CallAction, CallStatus, Direction
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.service.forget import Forget, Trail
from voiceflow_worker.settings import load_settings
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio
POLICY = CallPolicy()
PERSON = "+6591239876"
NAME = "Quetzal Oyelaran"
SECRET = "gout-appointment"
WORDS = ("91239876", "9123 9876", "Quetzal", "Oyelaran", SECRET)
HOUR = timedelta(hours=1)
EVERYDAY = 12
"""The other people of a campaign; slow tests have a thousand."""


def campaign(others: int) -> Campaign:
    rows = [{"destination": f"+6580{place:06}", "name": f"Person {place}"} for place in range(others)]
    rows.insert(others // 2, {"destination": "9123 9876", "name": NAME, "about": SECRET})
    said = {"say": "Hello {{name}}, {{about | default('')}}", "voice_profile": "en-IE-EmilyNeural", "country": "SG"}
    redial = {"redial_on": "busy", "redial_max": 1, "redial_after": "30m", "leave_out": "name=9123 9876"}
    return Campaign.of({**said, **redial, "window": "any", "source": SOURCE, "batch": "march", "rows": rows})


@dataclass
class Life:
    """A store, and the journal files of its host, in which a person has left all that a person leaves."""

    store: Store
    clock: ManualClock
    voice: ScriptedVoice

    def engine(self, queue: str) -> Engine:
        return Engine(self.store, self.voice, queue=queue, policy=POLICY, local_journal=journal_of(self.store))

    async def lived(self, others: int) -> None:
        default, offers = self.engine("default"), self.engine("offers")
        await campaign(others).start(CallQueue(self.store, policy=POLICY), by="Li")
        async with default.at_work(), offers.at_work():
            while await default.send(limit=100):
                pass
            (job,) = await default.queue.find(destination=PERSON)
            # A redial after a busy line, and a completed call.
            await default.summarise(job, SessionStatus.BUSY)
            self.clock.advance(HOUR)
            await default.send()
            await self._presses((await default.queue.get(job.id)).posts[-1].session_id or "")
            await default.summarise(job, SessionStatus.COMPLETED)
            for other in (await default.queue.find(limit=None))[: others // 2]:
                if other.id != job.id:
                    await default.summarise(other, SessionStatus.COMPLETED)
            # A doubt that was resolved.
            self.voice.answers = [unknown(f"{NAME} was on the line")]
            doubt = await offers.enqueue(PERSON, data={"name": NAME}, unique_key=f"offer-{PERSON}")
            await offers.send()
            await offers.queue.resolve(doubt.id, placed=True, note=f"{NAME} told us")
            # A call that waits.
            await offers.enqueue(
                PERSON, not_before=self.clock.now() + 9 * HOUR, unique_key="later", data={"name": NAME}
            )
        await self._beside()
        who = Operator(self.store, POLICY, name="Li")
        await Redial(operator=who, call=job.id, note=f"{NAME} asked", force=True).do()
        await default.queue.cancel(job.id, reason=f"{NAME} asked")
        await Suppress(operator=who, numbers=["9123 9876"], country="SG", note=f"{NAME} of +65 9123 9876 asked").do()

    async def _presses(self, session: str) -> None:
        """Keys in the menu of a call, and in that of a call that the person made."""
        menus, at = MenuCalls(self.store, POLICY), self.clock.now()
        called = await menus.find(CallAction(session_id=session, direction=Direction.OUTBOUND, destination=PERSON))
        assert called.job is not None
        for place, (call, its_session) in enumerate(((called, session), (MenuCall(None, None, ()), "in-1"))):
            press = KeyPress(at=at, menu="main", digits=PERSON[3:], answer="confirmed", event_id=f"press-{place}")
            await menus.pressed(call, press, session_id=its_session)

    async def _beside(self) -> None:
        progress = CallProgress(self.store)
        await progress.status(
            CallStatus(session_id="in-1", direction=Direction.INBOUND, source=PERSON, call_status="X")
        )
        leg = CallLeg(destination=PERSON, status="COMPLETED")
        early = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", legs=(leg,))
        await Sessions(self.store).early.add({"early-1": early})

    async def _ids(self) -> set[str]:
        return {job.id for job in await Trail(self.store, PERSON, policy=POLICY).calls()}


@pytest.fixture(params=["sqlite"])
async def life(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Any:
    (tmp_path / "store").mkdir()
    async with opened(f"sqlite:///{tmp_path}/store/calls.db", tmp_path, clock) as store:
        yield Life(store, clock, ScriptedVoice())


def opened(url: str, folder: Path, clock: ManualClock) -> AbstractAsyncContextManager[Store]:
    """Open a store whose journal files are in `journals` in a folder."""
    return open_store(url, clock=clock, settings=load_settings(state_dir=str(folder / "journals")))


def order(life: Life, store: Store | None = None) -> Forget:
    who = Operator(store or life.store, POLICY, name="Li")
    return Forget(operator=who, number="9123 9876", country="SG", note="asked by mail")


def vacuumed(path: Path) -> None:
    import apsw

    connection = apsw.Connection(str(path))
    connection.execute("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def found_in(*folders: Path) -> list[str]:
    """The files that have a word of the person, with the word."""
    found: list[str] = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        data = path.read_bytes()
        found += [f"{path.name}: {word}" for word in WORDS if word.encode() in data]
    return found


async def test_a_name_of_a_batch_with_the_number_stays_and_the_receipt_counts_it(life: Life) -> None:
    queue = CallQueue(life.store)
    for batch in ("reminder +6591239876", "order-6591239876-b", "march"):
        await queue.enqueue(flow(PERSON), batch=batch, unique_key=batch)
    done = await order(life).do()
    receipt: Any = done.documents[0]
    assert receipt["kept"]["batch_names"] == 2
    assert "2 batch names with the number kept" in done.message


async def journals_end(life: Life) -> None:
    """Delete the journal files that are eight days old."""
    life.clock.advance(timedelta(days=15))
    files = journal_of(life.store)
    assert files is not None
    assert isinstance(life.store, OrderedStore)
    life.store.close()
    for name in ("_orders", *await QueueNames(life.store).known()):
        await files.prune(name, before=life.clock.now() - FILES_KEPT)


async def test_no_file_has_a_person_who_was_erased_and_all_others_are_as_they_were(life: Life, tmp_path: Path) -> None:
    await life.lived(EVERYDAY)
    store = life.store
    assert {line.partition(": ")[2] for line in found_in(tmp_path)} >= {"91239876", "Quetzal", SECRET}
    others = [job for job in await CallQueue(store).find(limit=None) if PERSON not in job.numbers]
    life.clock.advance(HOUR)
    done = await order(life).do()
    receipt: Any = done.documents[0]
    assert receipt["erased"] == {"calls": 3, "records": receipt["erased"]["records"], "audit_entries": 4}
    kept = {"opt_out": True, "unique_keys": 3, "batch_names": 0}
    assert (receipt["cancelled"], receipt["kept"]) == (0, kept), "the opt-out ended it"
    vacuumed(tmp_path / "store" / "calls.db")
    await journals_end(life)
    assert found_in(tmp_path) == []
    assert list(await CallQueue(store).find(limit=None)) == others
    status = await CallQueue(store, "offers").status()
    assert (status.total, (await CallQueue(store).status()).total) == (0, len(others))
    newest, *_ = await entries_on(store)
    assert (newest.action, newest.name, newest.numbers, newest.note) == ("forget", "Li", (), "asked by mail")
    assert (newest.result or "").startswith("a person was erased: 3 calls")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
async def test_no_file_has_a_person_after_a_campaign_of_a_thousand(
    kind: str, tmp_path: Path, clock: ManualClock
) -> None:
    with served(kind, tmp_path) as (url, folder, tidied):
        async with opened(url, tmp_path, clock) as store:
            life = Life(store, clock, ScriptedVoice())
            await life.lived(1000)
            assert found_in(folder, tmp_path / "journals") != []
            backups = tmp_path / "backups"
            backups.mkdir()
            if kind == "sqlite":
                back_up(folder / "calls.db", backups / "before.db", now=clock.now())
                assert {line.partition(": ")[0] for line in found_in(backups)} == {"before.db"}
            done = await order(life).do()
            assert "backups of the store" in str(done.documents[0]["not_ours"]), "they keep the person"
            assert await Trail(store, PERSON, policy=POLICY).calls() == []
            tidied()
            if kind == "sqlite":
                back_up(folder / "calls.db", backups / "after.db", now=clock.now())
                assert {line.partition(": ")[0] for line in found_in(backups)} == {"before.db"}
            await journals_end(life)
            assert found_in(folder, tmp_path / "journals") == []
            assert (await CallQueue(store).status()).total == 1000


@contextmanager
def served(kind: str, folder: Path) -> Iterator[tuple[str, Path, Callable[[], None]]]:
    """A store alone on its server: its URL, the folder of its files, and what the page says to do after an erasure."""
    if kind == "sqlite":
        (folder / "store").mkdir()
        yield f"sqlite:///{folder}/store/calls.db", folder / "store", lambda: vacuumed(folder / "store" / "calls.db")
    elif kind == "redis":
        redis = standalone(folder / "redis").start()

        def rewritten() -> None:
            redis.ask("BGREWRITEAOF")
            for text in ("aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"):
                wait_for(partial(_has, redis, text), text)

        try:
            yield redis.url, folder / "redis", rewritten
        finally:
            redis.kill()
    else:
        server = PostgresServer().start()

        def emptied() -> None:
            server.ask("VACUUM FULL")
            server.ask("CHECKPOINT")

        try:
            yield server.url(schema="calls"), server.data / "base", emptied
        finally:
            server.close()


def _has(redis: RedisServer, text: str) -> bool:
    return text in str(redis.ask("INFO", "persistence"))


async def test_nobody_who_was_erased_is_called_for_it_again(life: Life) -> None:
    await life.lived(EVERYDAY)
    before = len(life.voice.placed)
    await order(life).do()
    queue = CallQueue(life.store, policy=POLICY)
    report = await campaign(EVERYDAY).start(queue)
    assert (report.enqueued, report.rejected) == (0, 0)
    with pytest.raises(SuppressedNumberError):
        await life.engine("offers").enqueue(PERSON)
    with pytest.raises(SuppressedNumberError):
        await life.engine("offers").enqueue(PERSON, unique_key=f"offer-{PERSON}")
    who = Operator(life.store, POLICY)
    assert not (await Unsuppress(operator=who, numbers=[PERSON]).do()).not_done
    assert await SuppressionList(life.store).scan() == []
    # The list is over, and the unique keys still stand.
    assert (await campaign(EVERYDAY).start(queue)).enqueued == 0
    async with life.engine("default").at_work() as engine:
        await engine.send()
    assert len(life.voice.placed) == before
    # A new order is a new call.
    assert (await life.engine("offers").enqueue(PERSON)).state is JobState.QUEUED


async def test_keys_of_erased_calls_are_taken_for_calls_that_are_stored_together(life: Life) -> None:
    engine = life.engine("default")
    job = await engine.enqueue(PERSON, unique_key="mine")
    await engine.queue.cancel(job.id)
    await order(life).do()
    numbers = {"mine": PERSON, "other": "+6580000001"}
    requests = [CallRequest(flow=flow(number), unique_key=key) for key, number in numbers.items()]
    mine, other = await engine.queue.enqueue_many(requests)
    assert [mine.created, other.created, mine.job.id] == [False, True, job.id]


async def test_it_is_refused_while_a_call_is_open_or_in_doubt(life: Life) -> None:
    engine = life.engine("default")
    async with engine.at_work():
        life.voice.answers = [unknown()]
        job = await engine.enqueue(PERSON)
        await engine.journal()
        for state in ("sending", "in_doubt"):
            assert await engine.state(job) == state
            with pytest.raises(ActionRefusedError, match=f"{job.id} is {state}"):
                await order(life).question()
            with pytest.raises(ActionRefusedError, match=f"{job.id} is {state}"):
                await order(life).do()
            life.clock.advance(2 * HOUR)
            await engine.sweeper.sweep()
        await engine.queue.resolve(job.id, placed=True, note="asked")
    assert [entry.action for entry in await entries_on(life.store)] == ["resolve"]
    await order(life).do()
    assert await Trail(life.store, PERSON, policy=POLICY).calls() == []


async def test_an_erasure_that_dies_at_any_step_is_ended_by_the_next_one(tmp_path: Path, clock: ManualClock) -> None:
    steps = 0
    for step in range(1, 60):
        folder = tmp_path / f"{step}"
        (folder / "store").mkdir(parents=True)
        async with opened(f"sqlite:///{folder}/store/calls.db", folder, clock) as store:
            life = Life(store, clock, ScriptedVoice())
            await life.lived(3)
            dies = Dies(step)
            try:
                await order(life, dies.over(store)).do()
            except StoreError:
                await order(life).do()
                steps += 1
            vacuumed(folder / "store" / "calls.db")
            assert found_in(folder / "store") == [], step
            if not dies.is_dead:
                break
    assert steps >= 6


async def test_nobody_else_is_erased_for_a_date_or_a_longer_number(memory: Store) -> None:
    """A Danish number whose digits are those of a date, beside others who were called and who called on that day."""
    dane, texts = "+4520261127", [
        "moved from 2026-11-27", "since 2026-11-27T20:26:11.270000+00:00", "file 20261127.csv", "27/11/2026 at 20:26",
        "+1 452 026 1127 asked", "+49 20 26 11 27 asked", "045 20261127 asked", "id 9920261127", "call a20261127b",
        "x452026112799",
    ]  # fmt: skip
    mine = ["+4520261127 asked", "call +4520261127.", "4520261127"]
    who = Operator(memory, POLICY, name="Li")
    for place, note in enumerate([*texts, *mine]):
        await Suppress(operator=who, numbers=[f"+65912345{place:02}"], note=note).do()
    calls = CallProgress(memory)
    for source in ("+6520261127", "+452026112", "+14520261127", dane):
        await calls.status(CallStatus(session_id=source, direction=Direction.INBOUND, source=source))
    receipt: Any = (await Forget(operator=who, number=dane).do()).documents[0]
    assert (receipt["erased"]["calls"], receipt["erased"]["audit_entries"]) == (0, len(mine))
    left = [entry for entry in await entries_on(memory, limit=100) if entry.action == "suppress"]
    assert sorted(entry.note or "" for entry in left) == sorted([*texts, *["erased"] * len(mine)])
    assert all(len(entry.numbers) == 1 for entry in left), "those of others stay"


async def test_records_that_another_version_wrote_stop_no_erasure(memory: Store) -> None:
    told, now = json.dumps({"told": "+6591239876 asked"}), memory.clock.now()
    names = ("audit", "incoming-call", "early-summary", "ivr-answer")
    for place, name in enumerate(names):
        texts = (told, '["+6591239876"]', "+6591239876", "7")
        puts = tuple(Put(name, f"g{place}", text, now + HOUR, member=f"m{at}") for at, text in enumerate(texts))
        await memory.write(BulkWrite(writes=(Write(puts=puts),)), now=now)
    await Forget(operator=Operator(memory, POLICY), number=PERSON).do()
    found = await memory.records({name: Page(limit=9) for name in names}, now=now)
    assert [each.value for records in found.values() for each in records if "91239876" in each.value] == []


async def test_its_own_entry_in_the_audit_log_does_not_have_the_number(life: Life, tmp_path: Path) -> None:
    await life.lived(3)
    life.clock.advance(HOUR)
    await replace(order(life), note="+6591239876 asked on 2026-11-27").do()
    newest, *_ = await entries_on(life.store)
    assert (newest.action, newest.note) == ("forget", "erased asked on 2026-11-27")
    vacuumed(tmp_path / "store" / "calls.db")
    await journals_end(life)
    assert found_in(tmp_path) == []


@pytest.mark.parametrize("state", ["waiting", "cancelled"])
async def test_a_batch_ends_for_its_readers_although_a_call_of_it_was_erased(memory: Store, state: str) -> None:
    queue = CallQueue(memory)
    mine, other = [await queue.enqueue(flow(number), batch="b") for number in (PERSON, "+6580000001")]
    if state == "cancelled":
        await queue.cancel(mine.id)
    await queue.cancel(other.id)
    await Forget(operator=Operator(memory, POLICY), number=PERSON).do()
    *_, last = await memory.events("default")
    assert last.job_id == (other.id if state == "cancelled" else mine.id)
    consumer = Consumer(memory, "default", name=None, since=last.at)
    consumer.position = last.sequence - 1
    ends = BatchEnds(memory, "default", consumer)
    assert [(each.job_id, each.post) for each in [*await ends.page(), *await ends.page()]] == [("b", 1)]
