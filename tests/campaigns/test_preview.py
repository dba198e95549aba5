"""The preview of a campaign: counts, texts, course and cost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.reading import NOW, OPTIONS, Row, file_of
from tests.campaigns.workbooks import workbook
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns import course
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.course import CallTimes, simulated
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.preview import Preview, PreviewOptions, PriceTable, speech_of
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.flows.actions import speech_seconds
from voiceflow_worker.model.window import CallWindow

TABLE = """destination,name
+6587654321,Ana
+6587654321,Ana
+6281234567890,Budi
none,Ben
+6587654322,a man with a long name
+6587654323,Cleo
"""


def previewed(given: Path | Sequence[Row], options: PreviewOptions | None = None, **more: object) -> Preview:
    chosen, assumed = replace(OPTIONS, batch_id="b", **more), options or PreviewOptions()  # type: ignore[arg-type]
    if isinstance(given, Path):
        report = asyncio.run(check_file(given, chosen, now=NOW, assumptions=assumed))
    else:
        report = asyncio.run(enqueue_rows(None, given, chosen, now=NOW, dry_run=True, assumptions=assumed))
    assert report.preview is not None
    return report.preview


def people(*numbers: str, **more: object) -> list[Row]:
    return [{"destination": number, "name": f"N{place}", **more} for place, number in enumerate(numbers)]


HUNDRED = people(*(f"+65{87650000 + 3 * n}" for n in range(100)))


def test_calls_are_counted_and_the_first_texts_and_the_longest_are_as_they_will_be_spoken(tmp_path: Path) -> None:
    path = file_of(tmp_path, TABLE)
    found = previewed(path)
    assert (found.calls, dict(found.countries)) == (4, {"SG": 3, "ID": 1})
    assert dict(found.sources) == {"+6531234567": 4}
    by_country = previewed(path, source="SG=+6531234567,*=+12025550123")
    assert ("called from", "4: +6531234567 3, +12025550123 1") in by_country.in_words()
    assert (found.duplicates, found.bad) == (1, 1)
    assert [(each.row, each.speech.text) for each in found.texts] == [
        (2, "Hello Ana."), (4, "Hello Budi."), (6, "Hello a man with a long name."),
    ]  # fmt: skip
    assert found.longest == found.texts[2]
    assert found.texts[0].speech.voice_profile == "en-IE-EmilyNeural"


@pytest.mark.anyio
async def test_a_dry_run_leaves_out_suppressed_numbers_and_earlier_calls(tmp_path: Path, queue: CallQueue) -> None:
    await SuppressionList(queue.store).add("+6587654323", reason="asked for it")
    path = file_of(tmp_path, TABLE)
    await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True)
    more = file_of(tmp_path, TABLE + "+6587654329,Dee\n", "more.csv")
    options = replace(OPTIONS, batch_id="visits")
    report = await enqueue_file(queue, more, options, now=NOW, dry_run=True, assumptions=PreviewOptions())
    assert report.preview is not None
    assert report.preview.calls == 1
    assert (report.preview.duplicates, report.preview.suppressed, report.preview.bad) == (4, 1, 1)
    assert (await enqueue_file(queue, path, OPTIONS, now=NOW, dry_run=True)).preview is None, "it was not asked for"
    offline = await check_file(more, options, now=NOW, assumptions=PreviewOptions())
    assert offline.preview is not None
    assert (report.preview.as_json()["suppressed"], offline.preview.as_json()["suppressed"]) == (1, None)


def test_without_a_window_calls_leave_at_the_rate() -> None:
    twenty = FlowTemplate.speaking("a " * 150)
    found = previewed(HUNDRED, PreviewOptions(rate=10), template=twenty)
    assert (found.course.first, found.course.last) == (NOW, NOW + timedelta(seconds=9.9))
    assert found.ends_at == NOW + timedelta(seconds=9.9 + 15 + 20)
    slow = previewed(HUNDRED, PreviewOptions(rate=10, max_active=7), template=twenty)
    assert slow.rate == pytest.approx(7 / 35), "seven calls of 35 seconds at a time"
    assert previewed(HUNDRED, PreviewOptions(rate=None)).course.last == NOW
    late = previewed(HUNDRED, PreviewOptions(rate=1), valid_for=timedelta(minutes=1))
    assert (late.course.expired, late.course.last) == (40, NOW + timedelta(seconds=59))


def test_calls_outside_their_window_are_counted(tmp_path: Path) -> None:
    window = CallWindow.parse("18:00-20:00")
    found = previewed(file_of(tmp_path, TABLE), window=window)
    assert (found.course.later, found.course.opens_at) == (3, datetime(2026, 3, 2, 10, 0, tzinfo=UTC))
    assert found.bad == 2, "a mobile phone of Indonesia may be in three zones"


TIMES = st.builds(
    CallTimes,
    priority=st.sampled_from([0, 0, 1]),
    not_before=st.none() | st.integers(0, 300).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    valid_until=st.none() | st.integers(1, 3000).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    window=st.sampled_from([None, CallWindow.parse("09:00-09:05"), CallWindow.parse("10:00-12:00,17:00-17:03")]),
    time_zone=st.sampled_from(["Asia/Singapore", "Europe/London"]),
)


@given(rows=st.lists(TIMES, min_size=1, max_size=100), step=st.sampled_from([1, 60, 7, 240]))
def test_the_course_is_that_of_calls_taken_one_by_one(rows: Sequence[CallTimes], step: int) -> None:
    """The queue's rules, call by call: priority, due time, the first of equal times in the file.

    A closed window makes it due later.
    """
    rows = [CallTimes.of(call(row)) for row in rows]  # equal ones leave together
    found = simulated(Counter(rows), NOW, rate=1 / step)
    expired, last, now = 0, None, NOW
    jobs = [(-row.priority, opens, rows.index(row), row) for row in rows if (opens := row.opens(NOW))]
    while jobs:
        now = max(now, min(due for _, due, _, _ in jobs))
        job = min(job for job in jobs if job[1] <= now)
        jobs.remove(job)
        row = job[-1]
        opens = row.opens(now)
        if opens is None or opens >= (row.valid_until or opens + timedelta(1)):
            expired += 1
        elif opens > now:
            jobs.append((job[0], opens, *job[2:]))
        else:
            last, now = now, now + timedelta(seconds=step)
    assert (found.last, found.expired) == (last, expired)


def call(times: CallTimes, number: str = "+6587654321") -> CheckedCall:
    given = {name: getattr(times, name) for name in ("priority", "not_before", "valid_until", "window", "time_zone")}
    return CheckedCall(source="+6531234567", destination=number, body="{}", digest="", **given)


@pytest.mark.parametrize("window", [None, CallWindow.parse("09:00-18:00")])
def test_at_a_tiny_rate_the_course_has_an_end(window: CallWindow | None) -> None:
    calls = {CallTimes(0, None, None, window, "Asia/Singapore"): 30_000}
    last = simulated(calls, NOW, rate=1e-6).last
    assert last is not None
    assert NOW + course.LONGEST_COURSE <= last + timedelta(days=12) <= NOW + course.LONGEST_COURSE + timedelta(days=24)


def test_memory_does_not_grow_with_the_rows() -> None:
    one = call(CallTimes(0, None, None, CallWindow.parse("09:00-18:00"), "Asia/Singapore"))
    calls = Counter(CallTimes.of(one) for _ in range(100_000))
    assert len(calls) == 1
    assert simulated(calls, NOW, rate=None).last == NOW


def test_the_cost_is_that_of_the_longest_first_digits_else_of_the_country(tmp_path: Path) -> None:
    prices = file_of(
        tmp_path,
        "Country,Prefix,Currency,Per Minute,Per call\nSG,,usd,0.06,\n,+65876,USD,9,\n,+658765,USD,0.12,0.01\n",
        "prices.csv",
    )
    table = PriceTable.load(prices)
    rows: list[Sequence[Any]] = [
        ["Country", "Prefix", "Currency", "Per Minute", "Per call"],
        ["SG", None, "usd", 0.06, None],
    ]
    rows += [[None, "+65876", "USD", 9, None], [None, "+658765", "USD", 0.12, 0.01]]
    lines = "".join(
        json.dumps({k: v for k, v in zip(rows[0], row, strict=True) if v is not None}) + "\n" for row in rows[1:]
    )
    for other in (workbook(tmp_path, rows), file_of(tmp_path, lines, "prices.jsonl")):
        same = PriceTable.load(other)
        assert (same.prefixes, same.countries) == (table.prefixes, table.countries), other
    options = PreviewOptions(prices=table)
    called, thirty = people("+6587654321", "+6591234567", "+6281234567890"), FlowTemplate.speaking("a " * 225)
    found = previewed(called, options, template=thirty)
    assert {currency: float(amount) for currency, amount in found.cost.items()} == {"USD": pytest.approx(0.03 + 0.07)}
    assert dict(found.unpriced) == {"ID": 1}


def test_a_bad_price_table_is_refused(tmp_path: Path) -> None:
    per_minute = "country,currency,per_minute\n"
    for content, sentence in [
        ("country,price\nSG,1\n", "it has no column per_minute or per_call, no column currency"),
        (f"{per_minute}SG,USD,x\n", "line 2 has the price 'x'; write a number such as 0.045"),
        (f"{per_minute}SG,USD,-1\n", "line 2 has the price '-1'"),
        (per_minute, "has no prices"),
        (f"{per_minute}Singapore,USD,1\n", "line 2 has the country 'Singapore'; write two letters"),
        ("prefix,currency,per_minute\n65a,USD,1\n", "line 2 has the prefix '65a'"),
        ("prefix,currency,per_minute\n65,USD,1\n+65,USD,2\n", "line 3 gives a second price for +65"),
        (f"{per_minute}SG,$,1\n", "line 2 has no currency of three letters"),
        ("country,currency,per_minute,per_call\nSG,USD,,\n", "line 2 has no price: give per_minute or per_call"),
    ]:
        with pytest.raises(CampaignFileError) as raised:
            PriceTable.load(file_of(tmp_path, content, "prices.csv"))
        assert sentence in str(raised.value)


def test_the_length_of_a_call_is_that_of_its_texts() -> None:
    makes = {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}}
    long = {"action": "say", "params": {"text": "x" * 30, "voiceProfile": "en", "repetition": 2}}
    short = {"action": "say", "params": {"text": "你好", "voiceProfile": "zh"}}
    speech = speech_of(json.dumps({"callflow": [makes, long, short]}))
    assert speech.seconds == pytest.approx(4 + 2 / 4.5)
    assert speech.text == f"{'x' * 30} 你好"
    assert speech_seconds("") == 0


def test_a_mere_offset_does_not_hide_that_it_is_night_at_the_number() -> None:
    """A sign that is taken the wrong way round: Etc/GMT+8 is eight hours behind, and it is 01:00 in Singapore."""
    night = datetime(2026, 3, 1, 17, tzinfo=UTC)
    for zone, number, at_night in [
        ("Etc/GMT+8", "+6587654321", 3), ("Etc/GMT-8", "+6587654321", 3), ("UTC", "+6587654321", 3),
        ("America/Los_Angeles", "+6587654321", 0), ("Etc/GMT+8", "+800123456789", 0),
    ]:  # fmt: skip
        assert nights(call(CallTimes(0, None, None, None, zone), number), 3, night, rate=1) == at_night, zone


def test_calls_that_would_begin_at_night_are_told() -> None:
    singapore, california = "+6587654321", "+16502530000"
    of_london = ": the window is in the time zone Europe/London, not in that of the number; remove its time zone"
    more: Any
    for number, more, remedy in [
        (singapore, {}, None),  # 17:00 in Singapore
        (california, {}, "; give a calling window"),  # 01:00 in California
        (california, {"time_zone": "Asia/Singapore"}, "; give a calling window"),  # reads times, and no more
        (singapore, {"time_zone": "America/Los_Angeles"}, None),
        (california, {"window": CallWindow.parse("00:00-24:00")}, ""),
        (california, {"window": CallWindow.parse("09:00-18:00")}, None),
        (california, {"window": CallWindow.parse("09:00-18:00", time_zone="Europe/London")}, of_london),
        (singapore, {"not_before": NOW.replace(hour=20)}, "; give a calling window"),  # 04:00
    ]:  # fmt: skip
        found = previewed(people(number, number), **more)
        assert found.as_json()["at_night"] == (0 if remedy is None else 2)
        said = dict(found.in_words()).get("at night", "")
        assert said.startswith("2 calls begin outside 8 to 21 o'clock at the number, the first at 0") is bool(said)
        assert said.endswith(remedy or "")
        assert bool(said) is (remedy is not None)
    found = previewed(people("+61412345678", "+80012345678", "+6587654321"))
    assert (found.as_json()["at_night"], found.as_json()["unknown_hour"]) == (0, 1), "it is day all over Australia"
    assert dict(found.in_words())["unknown hour"] == (
        "1 call whose local hour is not known: the numbers do not tell their time zones"
    )


@given(rate=st.sampled_from([0.001, 0.01, 0.3]), calls=st.integers(1, 200), hour=st.integers(0, 23))
def test_calls_at_night_are_counted_by_the_times_at_which_they_leave(rate: float, calls: int, hour: int) -> None:
    zone, begin, step = ZoneInfo("Asia/Singapore"), NOW.replace(hour=hour), timedelta(seconds=1 / rate)
    one = call(CallTimes(0, None, None, None, zone.key))
    leave = [(begin + each * step).astimezone(zone) for each in range(calls)]
    assert nights(one, calls, begin, rate=rate) == sum(not 8 <= at.hour < 21 for at in leave)


def nights(one: CheckedCall, calls: int, begin: datetime, *, rate: float) -> int:
    return simulated({CallTimes.of(one): calls}, begin, rate=rate).at_night


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("readable", [1, 99, 100, 101, 250])
async def test_the_rows_before_one_that_ends_the_reading_are_reported(readable: int, tmp_path: Path) -> None:
    path = tmp_path / "campaign.csv"
    rows = [f"none,Customer {row}" for row in range(readable)]
    path.write_bytes("\n".join(["destination,name", *rows, ""]).encode() + b"+6587654321,\xff\n")
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.rows, report.rejected) == (readable, readable)
    assert "is not UTF-8" in report.findings[-1].message


async def test_without_a_template_the_numbers_and_reserved_columns_of_a_csv_are_judged(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,priority\nnone,Ana,\n+6587654321,Ben,high\n+6587654321,Cleo,\n")
    report = await check_file(path, now=NOW)
    assert [(found.row, found.column, found.is_error) for found in report.findings] == [
        (1, None, False), (2, "destination", True), (3, "priority", True), (3, "priority", False),
    ]  # fmt: skip
    assert report.findings[3].message.startswith("is a reserved name: the order of the calls")
    assert report.findings[0].message.startswith("only numbers and reserved columns are checked")


async def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = file_of(tmp_path, "phone,name\n+6587654321,Ana\n")
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.is_valid, report.rows) == (False, 0)
    (found,) = report.findings
    assert (found.file, found.row, found.is_error) == (str(path), None, True)
    assert found.message.startswith("has no column destination; rename 'phone' to destination")
    assert Remedy.NAME_COLUMN in found.message


async def test_a_column_that_is_missing_is_told_beside_the_columns_as_the_file_has_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, "Mobile,First Name\n+6587654321,Ana\n")
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{nmae}}."), columns={"destination": "mobile"})
    (found,) = (await check_file(path, options, now=NOW)).findings
    assert (found.column, "columns found: Mobile, First Name" in found.message) == ("nmae", True)


async def test_a_call_flow_template_is_judged_by_what_is_fixed_in_it(tmp_path: Path) -> None:
    call = {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}}
    for repetition, wrong in ((2, []), (5, [("$.callflow[1].params.repetition", -1009)])):
        say = {"action": "say", "params": {"text": "Hello {{name}}.", "repetition": repetition}}
        path = file_of(tmp_path, json.dumps({"callflow": [call, say]}), "flow.json")
        report = await check_file(path, now=NOW)
        assert [(found.path, found.code) for found in report.findings] == wrong
        assert {found.file for found in report.findings} <= {str(path)}
        assert report.is_valid is not bool(wrong)


async def test_a_wrong_option_is_not_a_finding_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'Mars' is not a country"):
        await check_file(file_of(tmp_path, "destination\n1\n"), CampaignOptions(country="Mars"), now=NOW)
