"""A campaign to people of the whole world under one window: what rings by the sandbox's ledger, and what was previewed.

Time passes from one opening to the next, in the store and in the sandbox alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import holidays
import phonenumbers
import pytest

from tests.acceptance.then import LeapingClock, SandboxOfThen
from voiceflow_worker import (
    CallQueue,
    Campaign,
    JobState,
    VoiceClient,
    Worker,
    WorkerOptions,
    load_settings,
    open_store,
)
from voiceflow_worker.model.times import zone_of_number

pytestmark = pytest.mark.anyio

ZONES = 48
BEGIN = datetime(2030, 4, 30, 16, tzinfo=UTC)
"""A Tuesday, 18:00 in Berlin. The next day is a holiday in many countries, and not in others."""
SPANS = ((9, 12), (14, 18))
IN_SEVERAL_ZONES = "+6141234567"
IN_TOWNS = (
    ("BR", "+5581991234567", "America/Recife"), ("AU", "+61740001234", "Australia/Brisbane"),
    ("MX", "+526141234567", "America/Chihuahua"), ("RU", "+78452123456", "Europe/Saratov"),
    ("US", "+16892345678", "America/New_York"), ("CA", "+12507742222", "America/Fort_Nelson"),
)  # fmt: skip
"""Numbers of towns that `phonenumbers` has in another zone."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


AUSTRALIA = ("Australia/Perth", "Australia/Adelaide", "Australia/Sydney")


class Person(NamedTuple):
    country: str
    number: str
    zone: str
    column: str = ""


@cache
def people() -> list[Person]:
    """Two people in each of many zones, of as many countries; and some whose numbers do not tell where they are."""
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    found: dict[str, list[Person]] = {}
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for number in (phonenumbers.example_number_for_type(region, kind) for kind in kinds):
            text = "" if number is None else phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            if text and (zone := zone_of_number(text).zone) and region not in {"AC", "TA"}:  # nobody has their holidays
                found.setdefault(zone, []).extend(
                    Person(region, f"{text[:-1]}{last}", zone) for last in "01" if len(found.get(zone, ())) < 2
                )
    zones = sorted(found)
    chosen = [person for zone in zones[:: len(zones) // ZONES][:ZONES] for person in found[zone]]
    towns = [Person(*each) for each in IN_TOWNS]
    return [
        *chosen,
        *towns,
        *(Person("AU", f"{IN_SEVERAL_ZONES}{last}", zone, zone) for last, zone in enumerate(AUSTRALIA)),
    ]


def is_open(person: Person, at: datetime) -> bool:
    """Whether this person may be called, as the rules of the page say it: not as the library computes it."""
    local = at.astimezone(ZoneInfo(person.zone))
    day = local.date()
    return (
        any(begin <= local.hour < end for begin, end in SPANS)
        and local.weekday() < 5
        and day not in holidays.country_holidays(person.country, years=day.year)
    )


async def rung(fields: Mapping[str, object], clock: LeapingClock) -> tuple[Mapping[str, datetime], dict[str, object]]:
    """When each number rang by the ledger, and what the preview had said."""
    rows = [{"destination": each.number, "time_zone": each.column or None} for each in people()]
    given = {"rows": rows, "say": "Hello.", "batch": "world", "source": "+6531234567", **fields}
    settings = load_settings(voice_profile="en-US-JennyNeural", outcomes="none", rate="unlimited")
    policy = settings.policy()
    sandbox = SandboxOfThen(speed=1000)
    sandbox.clock = clock
    found: dict[str, datetime] = {}
    async with open_store("memory://", clock=clock) as store, sandbox.running() as url:
        queue = CallQueue(store, policy=policy)
        campaign = Campaign.of(given, settings=settings, now=clock.now())
        report = await campaign.preview(queue)
        assert report.preview is not None, report.findings
        assert (await campaign.start(queue)).enqueued == len(people())
        async with VoiceClient("any", "demo", base_url=url) as voice:
            while waiting := await queue.find(states=[JobState.QUEUED], limit=None):
                clock.leap(min(job.due_at for job in waiting))
                await Worker(store, voice, rate=None, options=WorkerOptions(policy=policy)).drain()
                for entry in sandbox.ledger:
                    if entry.rang and entry.destination is not None and entry.destination not in found:
                        found[entry.destination] = datetime.fromtimestamp(entry.at, UTC) + clock.ahead
    return found, report.preview.as_json()


SCENES: Sequence[tuple[str, Mapping[str, object]]] = (
    ("at the number", {"window": "09:00-12:00,14:00-18:00", "days": "mon-fri", "holidays": "number"}),
    ("in Singapore", {"window": "09:00-18:00", "window_time_zone": "Asia/Singapore"}),
    ("at any hour", {"window": "any"}),
)


@pytest.mark.parametrize(("hours", "fields"), SCENES, ids=[name for name, _ in SCENES])
async def test_nobody_rings_outside_the_window(hours: str, fields: Mapping[str, object]) -> None:
    assert len({person.zone for person in people()}) >= ZONES
    assert len({person.country for person in people()}) >= 40
    clock = LeapingClock(BEGIN)
    reading = {"time_zone": "Europe/Berlin", "not_before": "2030-04-30 18:30"}  # reads this time, and moves nobody
    found, preview = await rung({**fields, **reading}, clock)
    assert found.keys() == {person.number for person in people()}, "everybody rings, once the window opens"
    begin = BEGIN + timedelta(minutes=30)
    if hours == "at the number":
        assert [person for person in people() if not is_open(person, found[person.number])] == []
        assert max(found.values()) > BEGIN + timedelta(days=1), "a holiday was waited for"
    elif hours == "in Singapore":
        assert {f"{at.astimezone(ZoneInfo('Asia/Singapore')):%d %H:%M}" for at in found.values()} == {"01 09:00"}
    else:
        assert max(found.values()) < begin + timedelta(minutes=1)
    assert preview["countries"] == Counter(person.country for person in people())
    assert preview["outside_window"] == sum(at > BEGIN + timedelta(minutes=1) for at in found.values())
    shown = {name: datetime.fromisoformat(str(preview[name])) for name in ("window_opens_at", "starts_at")}
    for name, at in shown.items():
        assert timedelta() <= min(found.values()) - at < timedelta(minutes=1), name
    assert (
        timedelta()
        <= max(found.values()) - datetime.fromisoformat(str(preview["ends_at"])) + timedelta(minutes=1)
        < timedelta(minutes=2)
    )
