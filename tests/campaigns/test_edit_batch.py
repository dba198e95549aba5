"""The edit of a batch: what waits gets another window, validity, priority or source; what was sent stays."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.campaigns.conftest import EACH_STORE, StillClock
from tests.support.engine import LEASE, Engine
from tests.support.faulty_store import Dies, FaultyStore, Loss, StoreCall
from tests.support.voices import ScriptedVoice, created, not_sent, refused, turned_away, unknown
from voiceflow_worker import CallQueue, Campaign, read_edit
from voiceflow_worker.actions import ActionRefusedError, Operator
from voiceflow_worker.actions.edits import EditBatch
from voiceflow_worker.core import edits
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Edit
from voiceflow_worker.core.sending.journal import Journal
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import ChangedSinceError, InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState, NoteKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import rfc3339

pytestmark = pytest.mark.anyio

PEOPLE = [f"+6587654{place:03}" for place in range(5)]
HOURS = {"window": "10:00-18:00", "days": "mon-fri", "window_time_zone": "Asia/Singapore"}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "PAGE", 2)


def campaign(people: Sequence[str] = PEOPLE, **more: object) -> Campaign:
    fields = {"say": "Hello", "source": "+6531234567", "voice_profile": "en-US-JennyNeural", "batch": "march"}
    return Campaign.of({**fields, "rows": [{"destination": each} for each in people], **more})


async def all_of(store: Store) -> list[Job]:
    return sorted(await CallQueue(store).find(limit=None), key=lambda job: job.destination)


def act(store: Store, **changes: Any) -> EditBatch:
    operator = Operator(store, CallPolicy(), name="Li")
    return EditBatch(operator=operator, queue="default", batch="march", changes=changes)


@EACH_STORE
async def test_what_waits_is_changed_and_what_was_sent_is_not(store: Store) -> None:
    queue, now = CallQueue(store), store.clock.now()
    await campaign(priority="1", valid_for="2h", window="00:00-24:00").start(queue)
    (sent,) = await store.lease("default", worker_id="w", limit=1, until=now + timedelta(hours=1), now=now)
    policy = CallPolicy()

    def accept(job: Job) -> Job:
        return lifecycle.ended(job, JobState.ACCEPTED, at=now, reason=None, policy=policy)

    await Changes(store, policy).change_all([sent], accept)
    until = now + timedelta(days=9)
    changes = {**HOURS, "priority": "7", "valid_until": rfc3339(until), "source": "SG=+6539999999,*=+6531234567"}
    preview = await act(store, **changes).preview()
    assert (preview.calls.edited, preview.course.expired) == (4, 0)
    assert [job.priority for job in await all_of(store)] == [1] * 5, "the preview changes nothing"
    done = await act(store, **changes).do((await act(store, **changes).question()).version)
    assert (done.documents[0]["edited"], done.documents[0]["unchanged"]) == (4, 0)
    before, *after = sorted(await all_of(store), key=lambda job: job.id != sent.id)
    assert (before.priority, before.source, str(before.window)) == (1, "+6531234567", "00:00-24:00 mon-sun")
    for job in after:
        assert (job.priority, job.source) == (7, "+6539999999")
        assert str(job.window) == "10:00-18:00 mon-fri in Asia/Singapore"
        assert job.valid_until is not None
        assert abs(job.valid_until - until) < timedelta(seconds=1)
        assert json.loads(job.body)["callflow"][0]["params"]["source"] == "+6539999999"
        assert job.due_at == job.opens(at=max(now, job.created_at))
        (note,) = job.notes
        assert (note.kind, "priority 7" in note.text, "Li" in note.text) == (NoteKind.EDITED, True, True)
    again = await campaign(priority="1", valid_for="2h", window="00:00-24:00").start(queue)
    assert (again.enqueued, again.duplicates, again.rejected) == (0, 5, 0)
    with pytest.raises(ActionRefusedError, match="all have these values already"):
        await act(store, **changes).question()


@EACH_STORE
async def test_only_the_parts_of_a_window_that_are_named_change(store: Store) -> None:
    await campaign(window="09:00-17:00", days="mon-sat").start(CallQueue(store))
    await act(store, days="tue").do()
    assert {str(job.window) for job in await all_of(store)} == {"09:00-17:00 tue"}
    await act(store, window="08:00-12:00").do()
    assert {str(job.window) for job in await all_of(store)} == {"08:00-12:00 tue"}


@EACH_STORE
async def test_a_batch_without_a_window_gets_one_that_opens_at_each_number(store: Store) -> None:
    await campaign([PEOPLE[0], "+442071234567"]).start(CallQueue(store))
    preview = await act(store, window="09:00-18:00").preview()
    assert (preview.calls.edited, preview.course.expired) == (2, 0)
    await act(store, window="09:00-18:00").do()
    london, singapore = await all_of(store)
    for job, zone in ((singapore, "Asia/Singapore"), (london, "Europe/London")):
        assert job.time_zone == zone
        assert job.window is not None
        assert job.due_at == job.opens(at=job.created_at)
        assert job.window.is_open(job.due_at, ZoneInfo(zone))


@EACH_STORE
async def test_a_window_for_a_number_without_a_certain_zone_is_refused(store: Store) -> None:
    await campaign([PEOPLE[0], "+12025550123"]).start(CallQueue(store))
    await campaign(["+18005550199"], batch="march").start(CallQueue(store))
    with pytest.raises(InvalidInputError, match=r"nothing was changed: call .* to .18005550199"):
        await act(store, window="09:00-18:00").do()
    assert all(job.window is None for job in await all_of(store))
    assert (await act(store, window="09:00-18:00", window_time_zone="America/New_York").do()).documents[0][
        "edited"
    ] == 3


@EACH_STORE
async def test_a_call_that_moves_meanwhile_is_guarded_by_its_revision(store: Store) -> None:
    queue, moved = CallQueue(store), list[str]()
    await campaign().start(queue)

    async def cancel(call: StoreCall) -> None:
        if (
            call.name == "write"
            and isinstance(next(iter(call.arguments[0].writes[0].changes), None), Edit)
            and not moved
        ):
            moved.append(call.arguments[0].writes[0].changes[0].job.id)
            await queue.cancel(moved[0])

    done = await act(FaultyStore(store, before=cancel), priority="4").do()
    assert done.documents[0]["edited"] == 4
    assert {job.state: job.priority for job in await all_of(store)} == {JobState.CANCELLED: 0, JobState.QUEUED: 4}


@EACH_STORE
async def test_an_edit_that_dies_at_any_step_goes_on_with_the_same_edit(store: Store) -> None:
    await campaign().start(CallQueue(store))
    edit = read_edit({"priority": 3}, now=store.clock.now())
    for step in range(1, 20):
        dies = Dies(step)
        try:
            await CallQueue(dies.over(store)).edit_batch("march", edit)
        except StoreUnavailableError:
            assert {job.state for job in await all_of(store)} == {JobState.QUEUED}
        if not dies.is_dead:
            break
    assert [job.priority for job in await all_of(store)] == [3] * 5
    assert [len(job.notes) for job in await all_of(store)] == [1] * 5


async def _turned_away(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, turned_away(429))


async def _not_sent(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, not_sent())


async def _doubted_and_refused_late(engine: Engine, job: Job) -> None:
    await engine.verdict(await engine.verdict(job, 1, unknown()), 1, turned_away(401))


async def _resolved(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, unknown())
    await engine.queue.resolve(job.id, placed=False, note="not in the log", recorded_at=job.due_at + timedelta(days=1))


async def _redialled_by_policy(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, created())
    await engine.summarise(job, SessionStatus.BUSY)


async def _redialled_by_a_person(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, created())
    await engine.summarise(job, SessionStatus.COMPLETED)
    await engine.queue.redial(job.id, note="again", force=True)


async def _expired_at_8x8(engine: Engine, job: Job) -> None:
    await engine.verdict(job, 1, refused(-1015))


@pytest.mark.parametrize(
    "comes_back",
    [
        _turned_away,
        _not_sent,
        _doubted_and_refused_late,
        _resolved,
        _redialled_by_policy,
        _redialled_by_a_person,
        _expired_at_8x8,
    ],
)
@EACH_STORE
async def test_a_call_that_was_on_its_way_takes_the_edits_when_it_comes_back(
    store: Store, comes_back: Callable[[Engine, Job], Awaitable[None]]
) -> None:
    """Three edits of different fields, and a last one that replaces a part of the first."""
    voice = ScriptedVoice()
    engine = Engine(store, voice)
    await campaign(
        [PEOPLE[0]],
        priority="1",
        valid_for="2h",
        window="00:00-24:00",
        redial_on="busy",
        redial_max=1,
        redial_after="0s",
    ).start(engine.queue)
    (sending,) = await engine.journal()
    until = store.clock.now() + timedelta(days=3)
    for changes in (
        {"window": "00:00-24:00", "days": "mon-sun", "source": "+6538888888"},
        {"priority": "7"},
        {"valid_until": rfc3339(until), "days": "mon-sun", "window_time_zone": "Asia/Tokyo"},
        {"source": "+6539999999"},
    ):
        done = await act(store, **changes).do()
        assert (done.documents[0]["edited"], done.documents[0]["leaving"]) == (0, 1)
    assert (await engine.queue.get(sending.id)).priority == 1
    await comes_back(engine, sending)
    back = await engine.queue.get(sending.id)
    assert (back.state, back.priority, back.source) == (JobState.QUEUED, 7, "+6539999999")
    assert str(back.window) == "00:00-24:00 mon-sun in Asia/Tokyo"
    assert abs((back.valid_until or store.clock.now()) - until) < timedelta(seconds=1)
    assert [back.source_of(post) for post in back.posts] == ["+6531234567"]
    assert [note.kind for note in back.notes].count(NoteKind.EDITED) == 4
    now = back.due_at + timedelta(seconds=1)
    (leased,) = await store.lease("default", worker_id="w", limit=1, until=now + LEASE, now=now)
    (begun,), _ = await Journal(store, engine.policy, lease=LEASE).begin([leased])
    assert begun.job.posts[-1].number == 2, "it has taken all of them, so it leaves"
    assert json.loads(begun.job.body)["callflow"][0]["params"]["source"] == "+6539999999"


async def _ends_too_late_at_8x8(engine: Engine, job: Job, clock: StillClock) -> None:
    clock.advance(timedelta(hours=3))
    await engine.verdict(job, 1, refused(-1015))


async def _ends_busy_before_its_redial(engine: Engine, job: Job, _: StillClock) -> None:
    await engine.verdict(job, 1, created())
    await engine.summarise(job, SessionStatus.BUSY)


@pytest.mark.parametrize("ends", [_ends_too_late_at_8x8, _ends_busy_before_its_redial])
@pytest.mark.parametrize("is_longer", [True, False])
@EACH_STORE
async def test_a_call_on_its_way_that_would_end_goes_on_if_an_edit_lets_it(
    store: Store, clock: StillClock, ends: Callable[[Engine, Job, StillClock], Awaitable[None]], *, is_longer: bool
) -> None:
    """It was valid for two hours, until three days hence by an edit that was ordered and then cut."""
    engine = Engine(store, ScriptedVoice())
    redial = {"redial_on": "busy", "redial_max": 1, "redial_after": "3h"}
    await campaign([PEOPLE[0]], valid_for="2h", window="00:00-24:00", **redial).start(engine.queue)
    (sending,) = await engine.journal()
    dies, until = FaultyStore(store), store.clock.now() + timedelta(days=3)
    dies.lose(Loss.BEFORE, "totals", times=9)
    changes = {"valid_until": rfc3339(until)} if is_longer else {"priority": 3}
    with pytest.raises(StoreUnavailableError):
        await CallQueue(dies).edit_batch("march", read_edit(changes, now=store.clock.now()))
    await ends(engine, sending, clock)
    job = await engine.queue.get(sending.id)
    assert job.state is JobState.QUEUED or not is_longer, job.reason
    assert is_longer or job.state in {JobState.EXPIRED, JobState.UNREACHED}
    assert (job.valid_until == until, job.priority) == (is_longer, 0)


@EACH_STORE
async def test_the_sweep_ends_no_waiting_call_to_which_an_edit_that_was_cut_gave_time(
    store: Store, clock: StillClock
) -> None:
    engine, dies = Engine(store, ScriptedVoice()), FaultyStore(store)
    await campaign(PEOPLE[:2], valid_for="2h").start(engine.queue)
    dies.lose(Loss.BEFORE, "totals", times=9)
    with pytest.raises(StoreUnavailableError):
        await CallQueue(dies).edit_batch("march", read_edit({"valid_for": "3d"}, now=store.clock.now()))
    clock.advance(timedelta(hours=3))
    await engine.sweeper.sweep()
    assert {job.state for job in await all_of(store)} == {JobState.QUEUED}
    assert len(await engine.journal()) == 2


@EACH_STORE
async def test_a_call_that_cannot_take_an_edit_waits_with_the_reason_until_another_one(
    store: Store, clock: StillClock
) -> None:
    """A call without a certain time zone is added while the edit, which needs one, is on its way."""
    engine, far = Engine(store, ScriptedVoice()), "+18005550199"
    await campaign([PEOPLE[0]], valid_for="9d").start(engine.queue)

    async def add(call: StoreCall) -> None:
        if call.name == "write" and edits.EDITS in {put.namespace for put in call.arguments[0].writes[0].puts}:
            await campaign([far], valid_for="9d").start(engine.queue)

    ordered = replace(act(FaultyStore(store, before=add), window="00:00-24:00"), at=store.clock.now() + timedelta(1))
    await ordered.do()
    for leaving in ([PEOPLE[0]], [], []):
        assert [each.job.number for each in await engine.submitter.begin(await engine.prepare())] == leaving
        job = next(each for each in await all_of(store) if each.number == far)
        assert (job.state, job.window, job.edit) == (JobState.QUEUED, None, None)
        assert (job.reason or "").startswith("it cannot take an edit of its batch: ")
        assert (job.reason or "").endswith("Edit the batch again, or cancel the call")
        assert job.due_at >= clock.now() + timedelta(seconds=59)
        clock.advance(timedelta(seconds=61))
    await act(store, window="00:00-24:00", window_time_zone="UTC").do()
    assert far in {job.number for job in await engine.journal()}


@EACH_STORE
async def test_a_call_that_cannot_take_an_edit_ends_with_its_validity(store: Store, clock: StillClock) -> None:
    """Its due time moves on by a minute with each try, and passes the end of its validity."""
    engine, far = Engine(store, ScriptedVoice()), "+18005550199"

    async def add(call: StoreCall) -> None:
        if call.name == "write" and edits.EDITS in {put.namespace for put in call.arguments[0].writes[0].puts}:
            await campaign([far], valid_for="150s").start(engine.queue)

    await campaign([PEOPLE[0]], valid_for="9d").start(engine.queue)
    changes = {"window": "00:00-24:00", "valid_for": "8d"}
    ordered = replace(act(FaultyStore(store, before=add), **changes), at=store.clock.now() + timedelta(1))
    await ordered.do()
    for _ in range(3):
        assert far not in {job.number for job in await engine.journal()}
        clock.advance(timedelta(seconds=61))
    await engine.sweeper.sweep()
    assert {job.number: job.state for job in await all_of(store)}[far] is JobState.EXPIRED


@EACH_STORE
async def test_a_call_that_is_added_after_an_edit_gets_its_journal_entry_at_once(
    store: Store, clock: StillClock
) -> None:
    engine = Engine(store, ScriptedVoice())
    await campaign(PEOPLE[:1], priority="1").start(engine.queue)
    await act(store, priority="5").do()
    clock.advance(timedelta(seconds=1))
    await campaign(PEOPLE[1:3], priority="1").start(engine.queue)
    await engine.enqueue(PEOPLE[3], batch_id="march")
    assert {job.number: job.priority for job in await engine.journal()} == dict(zip(PEOPLE, (5, 1, 1, 0), strict=False))


@EACH_STORE
async def test_an_edit_that_was_taken_is_not_taken_again_with_a_later_one(store: Store) -> None:
    """Mondays alone and a priority, then every day: a third edit of the priority leaves the day as it is."""
    engine = Engine(store, ScriptedVoice())
    await campaign([PEOPLE[0]], valid_for="9d", window="00:00-24:00", window_time_zone="UTC").start(engine.queue)
    for changes in ({"days": "mon", "priority": "5"}, {"days": "mon-sun"}):
        await act(store, **changes).do()
    (before,) = await engine.queue.find()
    await act(store, priority="6").do()
    (after,) = await engine.queue.find()
    assert (after.priority, after.due_at, after.window) == (6, before.due_at, before.window)
    assert [note.kind for note in after.notes].count(NoteKind.EDITED) == 3


@EACH_STORE
async def test_no_call_that_a_worker_has_prepared_leaves_with_what_it_had_before(store: Store) -> None:
    """One worker has leased two calls; one of them was read by the edit before, and one is leased after that."""
    engine = Engine(store, ScriptedVoice())
    await campaign(PEOPLE[:2], valid_for="2h").start(engine.queue)
    prepared = await engine.prepare(limit=1)

    async def lease_another(call: StoreCall) -> None:
        if (
            call.name == "write"
            and isinstance(next(iter(call.arguments[0].writes[0].changes), None), Edit)
            and len(prepared) == 1
        ):
            prepared.extend(await engine.prepare(limit=1))

    done = await act(FaultyStore(store, before=lease_another), source="+6539999999", priority="5").do()
    assert done.documents[0]["edited"] == 2
    assert len(prepared) == 2
    assert await engine.submitter.begin(prepared) == []
    assert {(job.state, job.source, job.priority) for job in await all_of(store)} == {
        (JobState.QUEUED, "+6539999999", 5)
    }


@EACH_STORE
async def test_a_call_that_is_leased_while_the_edit_dies_takes_it_all_the_same(store: Store) -> None:
    engine = Engine(store, ScriptedVoice())
    await campaign([PEOPLE[0]]).start(engine.queue)
    faulty = FaultyStore(store)
    faulty.lose(Loss.BEFORE, "write", times=9, when=lambda call: bool(call.stores))
    with pytest.raises(StoreUnavailableError):
        await CallQueue(faulty).edit_batch("march", read_edit({"priority": 3}, now=store.clock.now()))
    (dispatch,) = await engine.prepare()
    assert dispatch.job.priority == 0
    assert await engine.submitter.begin([dispatch]) == [], "the order is stored"
    (job,) = await all_of(store)
    assert (job.state, job.priority, len(job.notes)) == (JobState.QUEUED, 3, 1)


@EACH_STORE
async def test_edits_beyond_number_are_kept_as_few(store: Store) -> None:
    engine = Engine(store, ScriptedVoice())
    await campaign([PEOPLE[0]], window="00:00-24:00").start(engine.queue)
    for place in range(12):
        changes = {"priority": place} if place % 3 else {"days": "mon-sun" if place % 2 else "mon-sat"}
        edit = read_edit(changes, now=store.clock.now())
        await engine.queue.edit_batch("march", edit)
    (record,) = (await store.records({edits.EDITS: ["default"]}, now=store.clock.now()))[edits.EDITS]
    assert [each["names"] for each in json.loads(record.value)] == [["days"], ["priority"]]


@EACH_STORE
async def test_the_preview_says_how_many_would_be_too_late(store: Store) -> None:
    await campaign().start(CallQueue(store))
    question = await act(store, valid_for="1s", window="00:00-24:00").question()
    assert question.title == "Edit 5 waiting calls of batch march of queue default?"
    await CallQueue(store).set_rate(0.001)
    late = await act(store, valid_for="20m").preview()
    assert (late.calls.edited, late.course.expired) == (5, 3)
    assert any(line.startswith("3 calls: their validity ends before") for line in (
        await act(store, valid_for="20m").question()
    ).will_not_be_called)  # fmt: skip


@EACH_STORE
async def test_calls_that_come_after_the_question_stay_as_they_are(store: Store) -> None:
    queue = CallQueue(store)
    await campaign(PEOPLE[:3]).start(queue)
    asked, at = (await act(store, priority="2").question()).version, store.clock.now()
    await store.clock.sleep(0.01)
    await campaign(PEOPLE[3:]).start(queue)
    with pytest.raises(ChangedSinceError, match="batch march of queue default has changed since it was shown"):
        await act(store, priority="2").do(asked)
    assert [job.priority for job in await all_of(store)] == [0] * 5
    done = await replace(act(store, priority="2"), at=at).do()
    assert (done.documents[0]["edited"], done.documents[0]["later"]) == (3, 2)
    assert [job.priority for job in await all_of(store)] == [2, 2, 2, 0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing would change: give one of window"),
        ({"time_zone": "Asia/Singapore"}, "nothing would change"),
        ({"say": "Good day"}, "say cannot be changed in waiting calls"),
        ({"batch": "x", "priority": 2}, "batch cannot be changed in waiting calls"),
        ({"window": "9 to 5"}, "window"), ({"priority": "high"}, "priority"), ({"source": "somebody"}, "source"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "has passed"),
        ({"valid_for": "2h", "valid_until": "2100-01-01T00:00:00Z"}, "exclude each other"),
        ({"source": "MY=+60312345678"}, "there is no number to call"),
    ],
)  # fmt: skip
@EACH_STORE
async def test_what_cannot_be_edited_is_refused_and_nothing_changes(
    store: Store, changes: dict[str, Any], said: str
) -> None:
    await campaign().start(CallQueue(store))
    for order in (act(store, **changes).question, act(store, **changes).do):
        with pytest.raises(InvalidInputError, match=said):
            await order()
    assert all(not job.notes for job in await all_of(store))


@EACH_STORE
async def test_an_edit_after_which_nobody_can_be_called_says_so_without_a_preview(store: Store) -> None:
    await campaign(valid_for="2h").start(CallQueue(store))
    opens = store.clock.now().astimezone(ZoneInfo("Asia/Singapore")) + timedelta(hours=4)
    hours = f"{opens:%H:%M}-{opens + timedelta(minutes=1):%H:%M}"
    done = await act(store, window=hours, days="mon-sun", window_time_zone="Asia/Singapore").carry_out(None)
    assert (done.documents[0]["edited"], done.documents[0]["too_late"]) == (5, 5)
    assert any("5 calls not called now: their validity ends" in note for note in done.notes)
