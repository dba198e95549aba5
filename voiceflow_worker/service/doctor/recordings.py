"""The check of the recordings that waiting calls and their menus play: each is fetched once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress

from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.writes import MENUS
from voiceflow_worker.finding import Diagnosis, failure, ok, warning
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.recordings import Sound, examine
from voiceflow_worker.service.doctor.context import CheckContext

MOST_CALLS, MOST_FILES = 500, 100
"""The most waiting calls, by due time, and the most recordings of these that are looked at."""
_SHOWN = 5


async def recordings(context: CheckContext) -> Diagnosis | None:
    """Fetch what waiting calls play, and the menus that they begin with. None if they play nothing."""
    store, settings = context.store, context.settings
    jobs = await find_jobs(store, Due(queue=settings.queue, state=JobState.QUEUED, limit=MOST_CALLS))
    played = dict.fromkeys(address for job in jobs for address in _played(job.body))
    played |= dict.fromkeys(await _of_menus(store, {job.menu for job in jobs if job.menu is not None}))
    addresses = list(played)[:MOST_FILES]
    if not addresses:
        return None
    sounds = await examine(addresses, network=Network.of(settings), private=settings.calls_a_sandbox)
    bad = [said for address in addresses if (said := _told(address, sounds[address])) is not None]
    heard = f"{count_of(len(addresses), 'recording')} of waiting calls"
    if not bad:
        return ok(f"{heard}: all can be played")
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    remedy = "correct the files at these addresses before their calls ring; `voiceflow hold` holds the calls until then"
    told = failure if any(sound.fault is not None for sound in sounds.values()) else warning
    return told(f"of {heard}, {'; '.join(bad[:_SHOWN])}{more}", remedy=remedy)


def _told(address: str, sound: Sound) -> str | None:
    said = sound.fault or "; ".join(sound.warnings)
    return f"{address.partition('?')[0]} {said}" if said else None  # without the signature of a link


def _played(text: str) -> Iterator[str]:
    """The addresses of recordings in the JSON of a flow or a menu, without those that are filled in for each call."""
    with suppress(ValueError):
        yield from _within(json.loads(text))


def _within(value: object) -> Iterator[str]:
    if is_list(value):
        for each in value:
            yield from _within(each)
    elif is_object(value):
        for name, each in value.items():
            if name in {"fileUrl", "play"} and isinstance(each, str) and "{{" not in each:
                yield each
            else:
                yield from _within(each)


async def _of_menus(store: Store, names: Iterable[str]) -> list[str]:
    found = await store.records({MENUS: sorted(names)}, now=store.clock.now())
    return [address for record in found[MENUS] for address in _played(record.value)]
