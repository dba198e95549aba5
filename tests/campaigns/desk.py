"""Somebody who gives lists of people and hears whose phones ring."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.reports.status import SessionStatus

NUMBERS = {name: f"+658123900{place}" for place, name in enumerate(("Ana", "Bob", "Cat", "Dan"), 1)}
FIELDS = {
    "say": "Hello {{name}}, at {{hour}}.",
    "window": "any",
    "source": "+6531234567",
    "voice_profile": "en-US-JennyNeural",
}
Row = Mapping[str, object]
Deed = Callable[["Desk"], Awaitable[object]]


def row(name: str, hour: str = "9:30", **more: object) -> dict[str, object]:
    return {"destination": NUMBERS.get(name, ""), "name": name, "hour": hour, "status": "Booked", **more}


class Desk:
    """Somebody who gives lists, and hears what rings."""

    def __init__(self, store: Store) -> None:
        self.voice = ScriptedVoice()
        self.engine = Engine(store, self.voice)
        self.queue: CallQueue = self.engine.queue

    def campaign(self, rows: Sequence[Row], *, batch: str = "b1", **more: Any) -> Campaign:
        now = more.pop("now", None)
        return Campaign.of({**FIELDS, "batch": batch, "rows": list(rows), **more}, now=now)

    async def give(self, rows: Sequence[Row], **more: Any) -> EnqueueReport:
        """Give a list; its preview says the same."""
        campaign = self.campaign(rows, **more)
        shown = await campaign.preview(self.queue)
        try:
            done = await campaign.start(self.queue)
        except RowsRefusedError as error:
            done = error.report
        assert shown.plan == done.plan, "shown before, and obeyed after"
        assert shown.stays == done.stays, "and so are the calls that stay because rows are bad"
        return done

    async def heard(self) -> dict[str, str]:
        """Who rings from now on, and the hour that each hears."""
        before = len(self.voice.placed)
        while await self.engine.send():
            pass
        bodies = [placement.body for _, placement in self.voice.placed[before:]]
        return {each.split("Hello ")[1].split(",")[0]: each.split(" at ")[1].split(".")[0] for each in bodies}

    async def cancel(self, name: str) -> None:
        for job in await self.queue.find(destination=NUMBERS[name]):
            await self.queue.cancel(job.id)

    async def busy(self, name: str) -> None:
        """The call of somebody is answered as busy; it waits for its redial."""
        for job in await self.engine.send(limit=1):
            assert job.destination == NUMBERS[name]
            await self.engine.summarise(job, SessionStatus.BUSY)


async def nothing(_: Desk) -> None:
    return
