"""What the calls of a batch that can be changed have in common, as the fields of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from voiceflow_worker.campaigns.called_before import WAITING, calls_of
from voiceflow_worker.campaigns.preview import speech_of
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.wording import rfc3339, write_duration
from voiceflow_worker.model.window import EVERY_DAY, days_in_words
from voiceflow_worker.queue import CallQueue


async def stored_fields(queue: CallQueue, batch_id: str) -> dict[str, str | None]:
    """The fields of the calls of a batch that wait, each as a text that a form takes; empty where they have none.

    It is None for a field in which the calls differ, such as a text with names. If no call waits, there are no fields.
    Raises StoreError.
    """
    common: dict[str, str | None] = {}
    async with aclosing(calls_of(queue, batch_id, states=WAITING)) as jobs:
        async for job in jobs:
            own = _fields_of(job)
            common = {name: value if common.get(name, value) == value else None for name, value in own.items()}
    return common


def _fields_of(job: Job) -> Mapping[str, str]:
    window, redial = job.window, job.redial
    hours = {
        "window": "" if window is None else ",".join(map(str, window.spans)),
        "days": "" if window is None or window.days == EVERY_DAY else days_in_words(window.days),
        "holidays": "" if window is None else ",".join(window.holidays),
        "window_time_zone": "" if window is None else window.time_zone or "",
    }
    waits = {} if redial is None else {each: redial.wait(each) for each in sorted(redial.on)}
    every = {write_duration(wait) for wait in waits.values()}
    apart = ",".join(f"{each.lower()}={write_duration(wait)}" for each, wait in waits.items())
    return {
        "say": speech_of(job.body).text, **hours, "not_before": rfc3339(job.not_before) or "",
        "valid_until": rfc3339(job.valid_until) or "", "redial_on": ",".join(each.lower() for each in waits),
        "redial_max": "" if redial is None else str(redial.limit),
        "redial_after": every.pop() if len(every) == 1 else apart,
    }  # fmt: skip
