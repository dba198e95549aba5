"""The contract of records, of events, and of what several stores share."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from voiceflow_worker.core.ports.controls import GATES, OPEN_STAYS
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import (
    AtMost,
    Delete,
    Drop,
    EventKind,
    Page,
    Put,
    Record,
    Result,
    Store,
    Write,
    tally_change,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState

from .samples import NOW, QUEUE, Ground, Opener, sample_job, sample_jobs
from .writing import (
    DAY,
    DONE,
    EXISTS,
    MICROSECOND,
    MINUTE,
    gated,
    held,
    new,
    next_of,
    put,
    results_of,
    states,
    stored,
    to,
    told,
)


class ShareContract(Ground):
    """One storage with many users."""

    async def test_the_clock_is_in_utc_and_runs(self, store: Store) -> None:
        now = store.clock.now()
        assert str(now.tzinfo) == "UTC"
        assert store.clock.now() >= now
        assert store.clock.monotonic() <= store.clock.monotonic()
        with anyio.fail_after(30):
            await store.clock.sleep(0)
            await store.clock.sleep(-1)

    async def test_each_opening_finds_the_id_that_the_store_got_when_it_was_made(
        self, store: Store, opener: Opener
    ) -> None:
        async with opener() as again:
            assert store.id == again.id != ""

    async def test_the_url_has_no_password(self, store: Store) -> None:
        assert ":" in store.url
        assert "@" not in store.url or "***@" in store.url

    async def test_a_cancelled_caller_does_not_disturb_the_others(self, store: Store) -> None:
        """Many callers write at once, and some are cancelled. The others get right answers, and no write is partial."""
        jobs = await stored(store, *sample_jobs(60))
        answered: dict[str, Result] = {}
        given_up: list[anyio.CancelScope] = []

        async def move(job: Job) -> None:
            with anyio.CancelScope() as scope:
                if int(job.id[-1]) % 2:
                    given_up.append(scope)
                (answered[job.id],) = await results_of(store, to(job, next_of(job, state=JobState.EXPIRED)))

        with anyio.fail_after(60):
            for start in range(0, 60, 20):
                async with anyio.create_task_group() as group:
                    for job in jobs[start : start + 20]:
                        group.start_soon(move, job)
                    for _ in range(start // 20):
                        await anyio.lowlevel.checkpoint()
                    for scope in given_up:
                        scope.cancel()
        found = {job.id: job.state for job in await store.jobs(Listing(queue=QUEUE), now=NOW)}
        assert set(answered.values()) == {DONE}
        assert all(found[job_id] is JobState.EXPIRED for job_id in answered)
        assert all(job.id in answered for job in jobs if not int(job.id[-1]) % 2)
        assert set(found.values()) <= {JobState.QUEUED, JobState.EXPIRED}
        assert sum((await states(store)).values()) == 60

    async def test_a_store_can_be_reopened(self, opener: Opener) -> None:
        for number in range(3):
            async with opener() as store:
                await stored(store, sample_job(number))
        async with opener() as store:
            found = await store.jobs(Listing(queue=QUEUE), now=NOW)
            assert len(found) in {1, 3}  # a store in memory may end with its block


class RecordsContract(Ground):
    """Reading records, and pruning them."""

    async def test_records_of_several_namespaces_are_read_at_once(self, store: Store) -> None:
        puts = (Put("a", "1", "x", None), Put("a", "2", "y", NOW + MINUTE), Put("b", "1", "z", None))
        await results_of(store, Write(puts=puts))
        found = await store.records({"a": ["2", "none", "1"], "b": Page(), "c": ["1"]}, now=NOW)
        assert {name: list(records) for name, records in found.items()} == {
            "a": [Record("2", "y", NOW + MINUTE), Record("1", "x", None)], "b": [Record("1", "z", None)], "c": [],
        }  # fmt: skip
        assert list((await store.records({"a": ["1", "2"]}, now=NOW + MINUTE))["a"]) == [Record("1", "x", None)]

    async def test_a_group_is_read_whole_or_by_its_members(self, store: Store) -> None:
        members = (put("g", "1", NOW + MINUTE, member="x"), put("g"), put("g", "2", member="y"))
        await results_of(store, Write(puts=(*members, put("gg"), put("", member="x"))))
        whole = [Record("g", "v", None), Record("g", "1", NOW + MINUTE, "x"), Record("g", "2", None, "y")]
        found = await store.records({"n": [("g", "y"), ("g", "z"), "none", "g", ("", "x"), ("gg", "")]}, now=NOW)
        assert list(found["n"]) == [whole[2], *whole, Record("", "v", None, "x"), Record("gg", "v", None)]
        assert list((await store.records({"n": ["g"]}, now=NOW + MINUTE))["n"]) == [whole[0], whole[2]]
        drops = (Drop("n", "g", None, "x"), Drop("n", "gg", None))
        await results_of(store, Write(puts=(put("g", "3", member="y"),), drops=drops))
        assert await held(store) == {" x": "v", "g": "v", "g y": "3"}

    async def test_a_page_goes_on_after_a_record(self, store: Store) -> None:
        members = (put("p", str(n), member=f"m{n}") for n in range(5))
        await results_of(store, Write(puts=(*members, put("q"), put("o"), put(""), put("p x"))))

        async def page(group: str | None, after: tuple[str, str] | None, limit: int) -> list[str]:
            found = await store.records({"n": Page(group, after, limit)}, now=NOW)
            return [f"{record.group} {record.member}" for record in found["n"]]

        assert await page("p", None, 2) == ["p m0", "p m1"]
        assert await page("p", ("p", "m1"), 9) == ["p m2", "p m3", "p m4"]
        assert await page("p", ("p", "m"), 1) == ["p m0"]
        assert await page(None, ("p", "m3"), 9) == ["p m4", "p x ", "q "]
        assert await page(None, ("o", ""), 1) == ["p m0"]
        assert await page(None, None, 9) == [" ", "o ", *(f"p m{n}" for n in range(5)), "p x ", "q "]
        assert await page("", None, 9) == [" "]
        assert await page("p", None, 0) == []

    async def test_any_text_can_be_kept(self, store: Store) -> None:
        texts = (
            "", " ", "|", "\n\x01", "é\U0001f600", '"', "{}", "[]", "123456789012345678901234567890", "x" * 300_000,
            "'; -- %_*?[",
        )  # fmt: skip
        await results_of(store, Write(puts=tuple(Put("any", f"k{text[:100]}", text, None) for text in texts)))
        found = await store.records({"any": [f"k{text[:100]}" for text in texts]}, now=NOW)
        assert [record.value for record in found["any"]] == list(texts)

    @pytest.mark.parametrize("last", ["z", "%", "\x01", "\x7f", "\ud7ff", "\uffff", "\U0010ffff"], ids=ascii)
    async def test_a_group_may_end_in_any_character(self, store: Store, last: str) -> None:
        group, members = f"p{last}", sorted({"", "\x01", last, "\U0010ffff"})
        others = ["o", "p", "P", f"{group}\x01", f"{group}\U0010ffff{last}", "q"]
        mine = (put(group, member=member) for member in members)
        await results_of(store, Write(puts=(*(put(other, member=last) for other in others), *mine)))
        for wanted in (Page(group), [group]):
            found = await store.records({"n": wanted}, now=NOW)
            assert [record.member for record in found["n"]] == members
        assert await results_of(store, Write(conditions=(AtMost("n", (group,), len(members)),))) == [DONE]

    async def test_thousands_of_records_are_written_and_read_at_once(self, store: Store) -> None:
        keys = [f"+65{number:08d}" for number in range(3000)]
        await results_of(store, Write(puts=tuple(map(put, reversed(keys)))))
        found = await store.records({"n": keys}, now=NOW)
        assert [record.group for record in found["n"]] == keys
        page = await store.records({"n": Page(after=(keys[99], ""), limit=2000)}, now=NOW)
        assert [record.group for record in page["n"]] == keys[100:2100]

    async def test_what_is_over_is_pruned_in_slices(self, store: Store) -> None:
        ended = sample_job(unique_key="k", state=JobState.COMPLETED)
        await stored(store, ended)
        gone = Write(changes=(Delete(ended, NOW + MINUTE, tally_change(ended, None)),), events=(told(ended),))
        await results_of(
            store, gone, Write(puts=(put("a", ends_at=NOW + MINUTE), put("b", ends_at=NOW + DAY), put("c")))
        )
        assert await store.prune(QUEUE, now=NOW, events_before=NOW, limit=10) == 0
        assert await store.prune(QUEUE, now=NOW + MINUTE, events_before=NOW + MINUTE, limit=2) == 2
        assert await store.prune(QUEUE, now=NOW + MINUTE, events_before=NOW + MINUTE, limit=2) == 1
        assert await held(store) == {"b": "v", "c": "v"}
        assert list(await store.events(QUEUE)) == []
        assert await results_of(store, new(sample_job(2, unique_key="k"))) == [DONE]

    async def test_events_of_one_queue_are_pruned_and_what_is_not_over_stays(self, store: Store) -> None:
        for queue in (QUEUE, "reminders"):
            for number, at in ((1, NOW - DAY), (2, NOW)):
                job = sample_job(number, queue=queue, state=JobState.COMPLETED, unique_key=f"k{number}")
                await stored(store, job)
                event = replace(told(job), at=at)
                gone = Write(changes=(Delete(job, at, tally_change(job, None)),), events=(event,))
                assert await results_of(store, gone, now=NOW - DAY) == [DONE]
        await results_of(store, Write(puts=(put("a", ends_at=NOW),)), now=NOW - DAY)
        just_before = NOW - MICROSECOND
        assert await store.prune("reminders", now=just_before, events_before=just_before, limit=10) >= 2
        assert await store.prune("reminders", now=just_before, events_before=just_before, limit=10) == 0
        assert [event.at for event in await store.events("reminders")] == [NOW]
        assert len(await store.events(QUEUE)) == 2
        for queue in (QUEUE, "reminders"):
            assert await results_of(store, new(sample_job(3, unique_key="k2", queue=queue)), now=just_before) == [
                EXISTS
            ]
        assert await store.prune("reminders", now=NOW, events_before=NOW, limit=10) >= 2, "a key, and the record"
        assert [event.at for event in await store.events("reminders")] == [NOW]
        assert await store.prune(QUEUE, now=NOW, events_before=NOW + DAY, limit=10) >= 2
        assert list(await store.events(QUEUE)) == []

    async def test_an_opened_gate_is_forgotten_after_a_while(self, store: Store) -> None:
        await results_of(store, gated(GateState.HELD), gated(GateState.OPEN))
        assert len(await held(store, namespace=GATES)) == 1
        assert await store.prune(QUEUE, now=NOW + OPEN_STAYS, events_before=NOW, limit=10) == 1
        assert list((await store.records({GATES: [QUEUE]}, now=NOW))[GATES]) == []


class EventsContract(Ground):
    """The outbox."""

    async def test_events_are_read_in_order_by_queue(self, store: Store) -> None:
        jobs = await stored(store, sample_job(1), sample_job(2, queue="reminders"))
        ended = [next_of(job, state=JobState.EXPIRED) for job in jobs]
        events = [
            tuple(replace(told(job, kind), post=3, at=NOW + MICROSECOND) for kind in list(EventKind)[:2])
            for job in ended
        ]
        for job, end, some in zip(jobs, ended, events, strict=True):
            await results_of(store, to(job, end, events=some))
        first, second = await store.events("reminders")
        assert (replace(first, sequence=0), replace(second, sequence=0)) == events[1]
        assert 0 < first.sequence < second.sequence
        assert list(await store.events("reminders", after=first.sequence)) == [second]
        assert list(await store.events("reminders", limit=1)) == [first]

    async def test_no_sequence_is_given_twice_though_events_are_pruned(self, store: Store) -> None:
        job = (await stored(store, sample_job()))[0]
        ended = next_of(job, state=JobState.EXPIRED)
        await results_of(store, to(job, ended, events=(told(ended),)))
        (first,) = await store.events(QUEUE)
        assert await store.prune(QUEUE, now=NOW, events_before=NOW + MINUTE, limit=10) == 1
        again = next_of(ended, state=JobState.QUEUED)
        await results_of(store, to(ended, again, events=(told(again),)))
        (second,) = await store.events(QUEUE)
        assert second.sequence > first.sequence

    async def test_no_two_events_of_a_store_have_the_same_sequence(self, store: Store) -> None:
        jobs = await stored(store, *(sample_job(number, queue=f"q{number % 3}") for number in range(1, 10)))
        for job in jobs:
            ended = next_of(job, state=JobState.EXPIRED)
            await results_of(store, to(job, ended, events=(told(ended),)))
        sequences = [event.sequence for queue in ("q0", "q1", "q2") for event in await store.events(queue)]
        assert len(set(sequences)) == len(sequences) == 9
