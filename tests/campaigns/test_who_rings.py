"""Who rings when a list is imported again: each way in which a call ends, by each way to give its row again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.desk import NUMBERS, Deed, Desk, nothing, row
from tests.support.started import report_of
from tests.support.voices import refused, unknown
from voiceflow_worker import InvalidInputError, SuppressionList, open_store
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.imports import Import
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


async def suppressed(desk: Desk) -> None:
    await SuppressionList(desk.queue.store).add(NUMBERS["Ana"])
    await desk.engine.send()


async def suppressed_once(desk: Desk) -> None:
    await suppressed(desk)
    await SuppressionList(desk.queue.store).remove(NUMBERS["Ana"])


async def expired(desk: Desk) -> None:
    desk.queue.store.clock.advance(timedelta(hours=3))  # type: ignore[attr-defined]
    await desk.engine.sweeper.sweep()


async def by_list(desk: Desk) -> None:
    await desk.give([row("Bob")], replace=True, remove_missing=True)


async def answered(desk: Desk) -> None:
    (job,) = await desk.engine.send()
    await desk.engine.summarise(job, SessionStatus.COMPLETED)


async def not_reached(desk: Desk) -> None:
    (job,) = await desk.engine.send()
    await desk.engine.summarise(job, SessionStatus.BUSY)


async def refused_by_8x8(desk: Desk) -> None:
    desk.voice.answers.append(refused(-1002))
    await desk.engine.send()


async def in_doubt(desk: Desk) -> None:
    desk.voice.answers.append(unknown())
    await desk.engine.send()


async def stopped(desk: Desk) -> None:
    ids = [job.id for job in await desk.queue.find()]
    await desk.queue.cancel_many(ids, reason="its task was stopped", for_good=False)


async def discarded(desk: Desk) -> None:
    await desk.queue.discard_staged("b1")


ENDS: Mapping[str, Deed] = {
    "waits": nothing, "by hand": lambda desk: desk.cancel("Ana"),
    "by batch": lambda desk: desk.queue.cancel_batch("b1"), "by list": by_list, "suppressed": suppressed,
    "suppressed once": suppressed_once, "expired": expired, "refused": refused_by_8x8, "answered": answered,
    "not reached": not_reached, "in doubt": in_doubt, "discarded": discarded, "stopped": stopped,
}  # fmt: skip
GIVEN: Mapping[str, Mapping[str, Any]] = {
    "the same": {}, "changed": {"hour": "10", "replace": True}, "again": {"again": True},
    "again, changed": {"again": True, "hour": "10", "replace": True},
    "ended ones": {"again": "cancelled,expired,failed"},
    "ended ones, changed": {"again": "cancelled,expired,failed", "hour": "10", "replace": True},
    "another batch": {"batch": "b2"}, "another batch, changed": {"batch": "b2", "hour": "10", "replace": True},
}  # fmt: skip


COME_AGAIN = {"by list", "discarded", "stopped"}
"""The ends after which whoever is in a list again is called."""


def model(end: str, how: str, *, keyed: bool) -> str:
    """The hour that is heard: each call rings once, and one that a person cancelled, or that is over, stays so."""
    words = "10" if how.endswith("changed") else "9:30"
    is_found = keyed or not how.startswith("another batch")
    if end in {"suppressed", "in doubt"}:
        return ""
    if end == "waits":
        return words if is_found and (keyed or how != "again, changed") else "9:30"
    if end in COME_AGAIN:
        return words
    if end in {"answered", "not reached"}:
        return words if not keyed and how in {"again, changed", "another batch, changed"} else ""
    if not is_found:
        return words
    if how.startswith("ended ones"):
        return "" if end == "by batch" else words
    return words if not keyed and how == "again, changed" and end != "by batch" else ""


async def give(desk: Desk, how: Mapping[str, Any], key: Mapping[str, str]) -> None:
    """Give the row of Ana again; it ends as one word."""
    fields = {"hour": "9:30", **how}
    hour = fields.pop("hour")
    with suppress(InvalidInputError):  # of a batch that was cancelled as a whole
        report = await report_of(desk.campaign([row("Ana", hour, **key)], valid_for="2h", **fields).start(desk.queue))
        ends = {**report.plan, "suppressed": report.suppressed, End.IN_NO_ROW: 0}
        assert sum(ends.values()) == report.rows or report.refused, ends


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("keyed", [False, True])
async def test_who_rings_when_a_row_comes_again(
    clock: StillClock, monkeypatch: pytest.MonkeyPatch, end: str, *, keyed: bool
) -> None:
    key = {"unique_key": "ana-1"} if keyed else {}
    for how, fields in GIVEN.items():
        async with open_store("memory://", clock=clock) as store:
            desk = Desk(store)
            campaign = desk.campaign([row("Ana", **key)], valid_for="2h")
            if end == "discarded":
                with monkeypatch.context() as patched:
                    patched.setattr(Import, "end", cut)
                    with pytest.raises(ZeroDivisionError):
                        await campaign.start(desk.queue)
            else:
                await campaign.start(desk.queue)
            await ENDS[end](desk)
            await give(desk, fields, key)
            assert (await desk.heard()).get("Ana", "") == model(end, how, keyed=keyed), how


async def cut(*_: object) -> None:
    raise ZeroDivisionError
