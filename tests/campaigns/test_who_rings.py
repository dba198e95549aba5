"""Who rings when a list is imported again: each state of a stored call, by each row beside it, by each order.

One word for the row (or that the list is refused), and the hour that is heard from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.desk import NUMBERS, Deed, Desk, nothing, row
from tests.support.stores import BACKENDS, url_for
from tests.support.voices import refused, unknown
from voiceflow_worker import JobState, SuppressionList, open_store
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio
REDIALS = {"redial_on": "busy", "redial_max": 1, "redial_after": "10m"}


async def _sent(desk: Desk) -> Job:
    (job,) = await desk.engine.send()
    return job


async def redial(desk: Desk) -> None:
    await desk.engine.summarise(await _sent(desk), SessionStatus.BUSY)


async def in_doubt(desk: Desk) -> None:
    desk.voice.answers.append(unknown())
    await desk.engine.send()


async def answered(desk: Desk) -> None:
    await desk.engine.summarise(await _sent(desk), SessionStatus.COMPLETED)


async def by_list(desk: Desk) -> None:
    await desk.queue.cancel_many([job.id for job in await desk.queue.find()], for_good=False)


async def expired(desk: Desk) -> None:
    desk.queue.store.clock.advance(timedelta(hours=3))  # type: ignore[attr-defined]
    await desk.engine.sweeper.sweep()


async def failed(desk: Desk) -> None:
    desk.voice.answers.append(refused(-1002))
    await desk.engine.send()


async def suppressed(desk: Desk) -> None:
    await SuppressionList(desk.queue.store).add(NUMBERS["Ana"])
    await desk.engine.send()


WAITS, LATER, OPEN, RANG, SILENT, BY_HAND = "waits", "later", "open", "rang", "silent", "by hand"
STATES: Mapping[str, tuple[str, Deed]] = {
    "waits": (WAITS, nothing), "waits for its redial": (LATER, redial), "on the way": (LATER, _sent),
    "in doubt": (OPEN, in_doubt), "answered": (RANG, answered), "by a list": (SILENT, by_list),
    "expired": (SILENT, expired), "failed": (SILENT, failed), "suppressed": (SILENT, suppressed),
    "by hand": (BY_HAND, lambda desk: desk.cancel("Ana")),
}  # fmt: skip
ORDERS: Mapping[str, Mapping[str, Any]] = {
    "none": {}, "replace": {"replace": True}, "remove missing": {"remove_missing": True}, "again": {"again": "all"},
}  # fmt: skip
ROWS: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "same": (row("Ana"),), "other": (row("Ana", "10"),), "left out": (row("Ana", status="Cancelled"),), "absent": (),
    "bad": (row("Ana", ""),),
}  # fmt: skip
RINGS = {WAITS, LATER}


def judged(kind: str, given: str, order: str) -> tuple[str, str]:
    """The word of Ana's row, or that the list is refused, and the hour that she hears."""
    stays = "9:30" if kind in RINGS else ""
    if given == "bad":
        return "refused", stays
    if given in {"left out", "absent"}:
        if kind not in {*RINGS, OPEN}:
            return "", ""
        if order == "remove missing":
            return End.IN_NO_ROW, ""
        return ("refused" if given == "left out" else End.IN_NO_ROW), stays
    if kind == BY_HAND:
        return End.BY_PERSON, ""
    words = "9:30" if given == "same" else "10"
    if kind == SILENT:
        return (End.NEW, words) if order == "again" else (End.OVER, "")
    if given == "same":
        return End.SAME, stays
    if kind == WAITS:
        return (End.CHANGED, words) if order == "replace" else ("refused", stays)
    return (End.OVER if kind == RANG else End.ON_THE_WAY), stays


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("given", ROWS)
@pytest.mark.parametrize("state", STATES)
async def test_who_rings_when_a_list_is_imported_again(
    tmp_path: Path, backend: str, state: str, given: str, *, keyed: bool
) -> None:
    (kind, deed), keys = STATES[state], {"Ana": "ana-1", "Bob": "bob-1"} if keyed else {}
    common = {"valid_for": "2h", "leave_out": "status=Cancelled", **REDIALS}
    for order, fields in ORDERS.items():
        clock, name = StillClock(), order.replace(" ", "-")
        (tmp_path / name).mkdir()
        async with open_store(url_for(backend, tmp_path / name), clock=clock) as store:
            desk = Desk(store)
            await desk.give([keyed_as(keys, row("Ana"))], **common)
            await deed(desk)
            report = await desk.give([keyed_as(keys, each) for each in (*ROWS[given], row("Bob"))], **common, **fields)
            clock.advance(timedelta(minutes=11))
            heard = await desk.heard()
            for job in await desk.queue.find(destination=NUMBERS["Ana"], states=[JobState.SUBMITTED]):
                if state == "on the way":
                    await desk.engine.summarise(job, SessionStatus.BUSY)
                    clock.advance(timedelta(minutes=11))
                    heard |= await desk.heard()
        told, hour = judged(kind, given, order)
        words = {end for end, count in report.plan.items() if count - (end == End.NEW)}
        if state == "suppressed" and told == End.NEW:
            told, hour = "", ""
            assert report.suppressed == 1
        assert report.refused == (told == "refused"), (order, report.findings)
        assert report.refused or words == ({told} if told else set()), order
        assert heard.get("Ana", "") == hour, order


def keyed_as(keys: Mapping[str, str], given: Mapping[str, object]) -> dict[str, object]:
    """A row with the key of its person, if it has one."""
    return {**given, **({"unique_key": keys[str(given["name"])]} if keys else {})}
