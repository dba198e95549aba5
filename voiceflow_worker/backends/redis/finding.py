"""The reads of jobs in Redis, page by page: each page is one run of `jobs.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from voiceflow_worker.backends.record import readable
from voiceflow_worker.backends.redis.client import RedisClient
from voiceflow_worker.backends.redis.codec import job_of_row, micros, optional
from voiceflow_worker.core.ports.reads import ById, ByKey, Due, Expired, Listing, OfNumber, Read, Waiting
from voiceflow_worker.model.jobs.job import Job, JobState

PAGE = 250
"""The most jobs that one script reads, in about three milliseconds."""
LOOKS = 1000
"""The most heads that one script examines, in about four milliseconds."""

_Rows = Sequence[Sequence[str]]


async def find(client: RedisClient, read: Read, now: datetime) -> list[Job]:
    """The jobs of a read. A job is returned as it is when its page is read."""
    match read:
        case ById(ids):
            rows = [row for page in _pages(ids) for row in (await client.run("jobs", {"ids": page}))[1:]]
            return list(map(job_of_row, rows))
        case ByKey(keys):
            asked = {"now": micros(now)}
            pages = _pages(list(map(optional, keys)))
            rows = [row for page in pages for row in (await client.run("jobs", asked | {"keys": page}))[1:]]
            return list(readable(rows, job_of_row))
        case Due() | Waiting() | Expired():
            return await _by_time(client, read)
        case OfNumber(number=number):
            return await _by_age(client, read, {"ages": f":number:{number}", "is_filtered": False})
        case Listing():
            return await _by_age(client, read, _indexes(read))


def index_of(read: Due | Expired | Waiting) -> str:
    """The end of the key of the index of a read, by time."""
    match read:
        case Due(state=state):
            return f":state:{state}"
        case Waiting(batch=batch):
            return f":batch:={batch}:queued"
        case Expired():
            return ":valid"


def latest_of(read: Due | Expired | Waiting) -> datetime | None:
    """The latest time in that index at which a job is one of the read."""
    return read.at if isinstance(read, Expired) else read.by


async def _by_time(client: RedisClient, read: Due | Expired | Waiting) -> list[Job]:
    """The jobs in an index by time. A job that was moved behind the pages before is not read again."""
    asked = {"queue": read.queue, "times": index_of(read), "latest": micros(latest_of(read))}
    found: dict[str, Job] = {}
    behind: Sequence[str] | None = None
    seen = 0
    while behind != "" and (most := min(PAGE, PAGE if read.limit is None else read.limit - seen)) > 0:
        behind, *rows = await client.run(
            "jobs", asked | {"most": most} | ({} if behind is None else {"behind": behind})
        )
        seen += len(rows)
        for job in readable(rows, job_of_row):
            found.setdefault(job.id, job)
    return list(found.values())


async def _by_age(client: RedisClient, read: OfNumber | Listing, indexes: dict[str, Any]) -> list[Job]:
    """The jobs in indexes of ids that pass their filters."""
    asked = {"queue": read.queue, "is_newest": read.newest, "checks": LOOKS, **indexes}
    found: list[Job] = []
    after = None
    while after != "" and (most := min(PAGE, PAGE if read.limit is None else read.limit - len(found))) > 0:
        place = {"after": after or read.after or "", "most": most}
        after, *rows = await client.run("jobs", asked | place)
        found += readable(rows, job_of_row)
    return found


def _indexes(read: Listing) -> dict[str, Any]:
    """The indexes of a listing, and its filters."""
    asked: dict[str, Any] = {} if read.batch is None else {"ages": f":batch:={read.batch}:ids"}
    if read.batch is None or read.states is not None:
        asked["sets"] = [f":in:{state}" for state in (JobState if read.states is None else read.states)]
    return asked | {
        "states": "" if read.states is None else f",{','.join(read.states)},",
        "outcomes": "" if read.outcomes is None else "\n".join(["", *map(optional, sorted(read.outcomes)), ""]),
        "batch": optional(read.batch),
        "is_filtered": read.outcomes is not None or None not in {read.batch, read.states},
    }


def _pages(names: Sequence[str]) -> list[Sequence[str]]:
    names = list(dict.fromkeys(names))
    return [names[start : start + PAGE] for start in range(0, len(names), PAGE)]
