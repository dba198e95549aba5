"""`voiceflow schedule`: what is due now, what comes next, and a stop in order."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from tests.cli.running import Program, Spawned
from tests.docs.pages import DOCS, ROOT, section
from tests.support.schedules import keep_runs
from voiceflow_worker import CallQueue, Job, open_store
from voiceflow_worker.campaigns.schedules import read_schedule

REMINDER = """
file = "people.csv"
say = "Hello {{name}}"
source = "+6531234567"
voice_profile = "en-US-JennyNeural"
cron = "CRON"
time_zone = "Asia/Kolkata"
"""


def people(reminder: Path, number: str) -> None:
    """One person to call, in a file that stands still."""
    file = reminder.parent / "people.csv"
    file.write_text(f"destination,name\n{number},Ann\n")
    os.utime(file, (0, 0))


@pytest.fixture
def reminder(folder: Path) -> Path:
    """A schedule that is due each minute, in a folder of its own with its people."""
    path = folder / "campaigns" / "reminder.toml"
    path.parent.mkdir()
    people(path, "+6591234567")
    path.write_text(REMINDER.replace("CRON", "* * * * *"))
    return path


def since(folder: Path, at: datetime) -> None:
    """The schedule was first seen at this time."""

    async def work() -> None:
        async with open_store(f"sqlite:///{folder / 'voiceflow.db'}") as store:
            known = await read_schedule(store, "default", "reminder")
            assert known is not None
            await keep_runs(store, replace(known.times, at=at))

    asyncio.run(work())


def test_what_is_due_starts_once_and_is_listed(voiceflow: Program, reminder: Path) -> None:
    listed = voiceflow("schedule", reminder, "--list", "--json").document
    assert (listed["schedule"], listed["last"], listed["problem"]) == ("reminder", None, None)
    assert not list(voiceflow.folder.glob("*.db")), "a list makes no store"
    begun = datetime.now(UTC)
    assert voiceflow("schedule", reminder, "--once", "--json").lines == [], "no start before it was first seen"
    since(voiceflow.folder, datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(seconds=1))
    ended = voiceflow("schedule", reminder, "--once", "--json")
    started = ended.lines[-1]
    assert (ended.code, started["state"]) == (0 if len(ended.lines) == 1 else 1, "started"), "a minute may have passed"
    assert started["message"] == "1 enqueued, 0 duplicates, 0 bad"
    assert begun - datetime.fromisoformat(started["at"]) <= timedelta(minutes=1)
    local = datetime.fromisoformat(started["local"])
    assert local.utcoffset() == timedelta(hours=5, minutes=30)
    assert started["batch_id"] == f"reminder-{local:%Y-%m-%d-%H%M}"
    assert [each["batch_id"] for each in voiceflow("batches", "--json").lines] == [started["batch_id"]]
    listed = voiceflow("schedule", reminder, "--list", "--json").document
    assert listed["last"] == started
    coming = [datetime.fromisoformat(each["at"]) for each in listed["next"]]
    assert [later - each for each, later in pairwise(coming)] == [timedelta(minutes=1)] * 4
    shown = voiceflow("schedule", reminder, "--list")
    assert "Asia/Kolkata" in shown.out
    assert "started: 1 enqueued, 0 duplicates, 0 bad" in shown.out
    assert "schedules" in voiceflow("doctor").out


def test_a_service_shows_no_whole_number_if_logs_are_masked(
    voiceflow: Program, reminder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voiceflow("schedule", reminder, "--once")
    since(voiceflow.folder, datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(seconds=1))
    people(reminder, "+65912345678901234567")
    monkeypatch.setenv("VOICEFLOW_LOG_MASK", "yes")
    for more in ((), ("--json",)):
        ended = voiceflow("schedule", reminder, "--once", *more)
        assert "+65" in ended.out, ended
        assert "912345678901" not in ended.out + ended.err
    monkeypatch.setenv("VOICEFLOW_LOG_MASK", "no")
    assert "+65912345678901234567" in voiceflow("schedule", reminder, "--once").out, "what a person asks for is whole"


def test_the_days_of_a_schedule_are_listed_in_words_with_the_next_dates(voiceflow: Program, reminder: Path) -> None:
    reminder.write_text(REMINDER.replace("CRON", "0 9 1-7 * mon"))
    told, *coming = voiceflow("schedule", reminder, "--list").out.splitlines()
    assert "at 09:00 on every day of month from 1 through 7 and on Monday" in told
    dates = [each.split()[1:3] for each in coming]
    assert len(dates) == 5
    assert all(int(day[8:10]) <= 7 or weekday == "Monday" for weekday, day in dates), dates
    assert voiceflow("schedule", reminder, "--list", "--json").document["days"] in told


def test_what_cannot_start_is_told_and_is_bad_input(voiceflow: Program, reminder: Path) -> None:
    (reminder.parent / "people.csv").unlink()
    voiceflow("schedule", reminder, "--once")
    since(voiceflow.folder, datetime.now(UTC) - timedelta(minutes=1))
    ended = voiceflow("schedule", reminder, "--once")
    assert ended.code == 2
    why = ended.out.partition("held: ")[2]
    assert "people.csv cannot be read" in why
    again = voiceflow("schedule", reminder, "--once")  # in the next minute, it is of the next run
    assert (again.code, again.out.partition("held: ")[2]) == (2, why), "the second pass says it too"
    (told,) = [each for each in voiceflow("doctor", "--json").lines if each["check"] == "schedules"]
    assert (told["level"], "people.csv cannot be read" in told["message"]) == ("failure", True)
    assert voiceflow("status", "--json").document["total"] == 0


@pytest.mark.parametrize("how", [(), ("--once",), ("--list",)])
def test_a_wrong_definition_is_bad_input(voiceflow: Program, reminder: Path, how: tuple[str, ...]) -> None:
    reminder.write_text(REMINDER.replace("CRON", "* * * *"))
    ended = voiceflow("schedule", reminder, *how)
    assert ended.code == 2
    assert ended.err.count("cron: '* * * *' is not a cron expression") == 1


def test_the_same_file_serves_a_person_who_is_told_that_its_times_do_not_count(
    voiceflow: Program, reminder: Path
) -> None:
    people = reminder.parent / "people.csv"
    ended = voiceflow("enqueue", people, "--campaign", reminder, "--json")
    assert (ended.code, ended.document["enqueued"]) == (0, 1)
    (told,) = ended.document["findings"]
    assert (told["severity"], told["message"][:41]) == ("warning", "cron and misfire apply only to `voiceflow")


@pytest.mark.slow
def test_it_runs_until_it_is_told_to_stop(voiceflow: Program, folder: Path, reminder: Path) -> None:
    voiceflow("schedule", reminder, "--once")
    since(folder, datetime.now(UTC) - timedelta(minutes=1))
    with Spawned(["schedule", reminder], folder, {"VOICEFLOW_LOGFORMAT": "json"}) as running:
        running.wait_for("started: 1 enqueued, 0 duplicates, 0 bad")  # while it runs, and not when it has ended
        ended = running.stop(signal.SIGTERM)
    assert ended.code == 0
    assert "stopped" in ended.err
    assert "did you mean VOICEFLOW_LOG_FORMAT?" in ended.err


def test_a_run_is_skipped_by_its_batch_and_another_is_ordered_for_the_next_timer(
    voiceflow: Program, reminder: Path
) -> None:
    reminder.write_text(REMINDER.replace("CRON", "0 9 29 2 *"))
    assert voiceflow("schedule", reminder, "--once").code == 0
    coming = datetime.fromisoformat(voiceflow("schedules", "list", "--json").document["next_at"])
    batch = f"reminder-{coming.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d-%H%M}"
    wrong = voiceflow("calls", "cancel", "--batch", batch.replace("0900", "0930"), "--yes", "--as", "Ana")
    assert (wrong.code, "has no calls" in wrong.err) == (1, True)
    skipped = voiceflow("calls", "cancel", "--batch", batch, "--note", "a holiday", "--yes", "--as", "Ana")
    assert (skipped.code, "is skipped: nobody is called by it" in skipped.out) == (0, True)
    (listed,) = voiceflow("schedules", "list", "--json").lines
    assert (listed["state"], "a holiday (by Ana)" in listed["skipped"]) == ("seen", True)
    assert listed["next_at"][:4] == str(coming.year + 4)
    document = voiceflow("schedule", reminder, "--list", "--json").document
    assert coming.year not in {datetime.fromisoformat(each["at"]).year for each in document["next"]}
    done = voiceflow("schedules", "run", "reminder", "--yes", "--as", "Ana", "--json")
    assert "the next `voiceflow schedule` with its file starts it" in done.err
    ordered = done.document
    assert (ordered["state"], ordered["ordered_by"]) == ("starting", "ordered by Ana")
    (started,) = voiceflow("schedule", reminder, "--once", "--json").lines
    assert (started["state"], started["batch_id"], started["at"]) == ("started", ordered["batch_id"], ordered["at"])
    assert voiceflow("schedule", reminder, "--once", "--json").lines == []


BERLIN = ZoneInfo("Europe/Berlin")


def test_the_reminder_rings_the_day_before_at_the_hour_of_the_visit(voiceflow: Program) -> None:
    page = section((DOCS / "examples.md").read_text("utf-8"), "Remind people the day before")
    for name in ("visits.csv", "visits.toml"):
        text = (ROOT / "examples" / name).read_text("utf-8")
        assert name.endswith("csv") or text in page
        (voiceflow.folder / name).write_text(text, encoding="utf-8")
    (command,) = (line for line in page.splitlines() if line.startswith("voiceflow enqueue"))
    ended = voiceflow(*shlex.split(command)[1:])
    assert ended.code == 0, ended.err
    assert "warning" not in ended.err

    async def found() -> list[Job]:
        async with open_store(f"sqlite:///{voiceflow.folder / 'voiceflow.db'}") as store:
            return sorted(await CallQueue(store).find(), key=lambda job: job.destination)

    jobs = anyio.run(found)
    times = [(job.due_at, job.valid_until) for job in jobs]
    assert [tuple(f"{at.astimezone(BERLIN):%d.%m. %H:%M}" for at in each if at is not None) for each in times] == [
        ("28.03. 10:30", "29.03. 08:30"),
        ("30.03. 10:30", "31.03. 08:30"),  # the clocks go forward in the night between
        ("31.03. 16:00", "01.04. 14:00"),
    ]
    assert {str(job.window) for job in jobs} == {"09:00-20:00 mon-sun"}
