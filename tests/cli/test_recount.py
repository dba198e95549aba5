"""`voiceflow doctor --recount`: counters are proven by a count, and set right where that is asked for."""

from __future__ import annotations

from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, url_of, within
from tests.support.engine import Engine
from voiceflow_worker.core.overview.recount import TURN, TURNS
from voiceflow_worker.core.ports.leader_lease import LeaderLease


async def skewed(engine: Engine) -> None:
    """Counters that are wrong by two calls of the batch, as after a fault."""
    await engine.store.jobs.adjust("default", {None: {"state:queued": 2}, "people": {"state:queued": 2}})


def test_right_counters_are_proven(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch_id="people")
    completed(voiceflow.folder, batch_id="people")
    ended = voiceflow("doctor", "--recount", *store)
    assert (ended.code, ended.out) == (0, "queue default: 4 calls counted; no counter is wrong\n")


def test_wrong_counters_are_named_and_set_right_only_when_asked(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch_id="people")
    within(voiceflow.folder, skewed)
    assert voiceflow("status", "--json", *store).document["states"]["queued"] == 5
    for _ in range(2):
        ended = voiceflow("doctor", "--recount", *store)
        assert ended.code == 1
        assert "batch people: counter state:queued is 2 too high" in ended.out
        assert "the queue: counter state:queued is 2 too high" in ended.out
        assert "--recount --mend" in ended.out
    found = voiceflow("doctor", "--recount", "--mend", "--json", *store)
    assert (found.code, found.document["calls"], found.document["mended"]) == (0, 3, True)
    assert voiceflow("status", "--json", *store).document["states"]["queued"] == 3
    assert voiceflow("doctor", "--recount", *store).code == 0


def test_while_another_process_corrects_the_counters_nothing_is_corrected_and_that_is_said(voiceflow: Program) -> None:
    store = ("--store", url_of(voiceflow.folder))
    enqueued(voiceflow.folder, 3, batch_id="people")

    async def at_work(engine: Engine) -> None:
        await skewed(engine)
        assert await LeaderLease(engine.store, "default", namespace=TURNS, length=TURN).take()

    within(voiceflow.folder, at_work)
    ended = voiceflow("doctor", "--recount", "--mend", *store)
    assert ended.code == 1
    assert "nothing was corrected, because another `voiceflow doctor --recount --mend` may be at work" in ended.out
    assert voiceflow("status", "--json", *store).document["states"]["queued"] == 5
