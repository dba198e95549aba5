"""`voiceflow schedule`: what is due now, what comes next, and a stop in order."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cli.running import Program, Spawned
from voiceflow_worker import open_store
from voiceflow_worker.service.scheduled_run import RunState, run_records

REMINDER = """
file = "people.csv"
say = "Hello {{name}}"
source = "+6531234567"
voice_profile = "en-US-JennyNeural"
cron = "CRON"
time_zone = "Asia/Kolkata"
"""


@pytest.fixture
def reminder(folder: Path) -> Path:
    """A schedule that is due each minute, in a folder of its own with its people."""
    path = folder / "campaigns" / "reminder.toml"
    path.parent.mkdir()
    (path.parent / "people.csv").write_text("destination,name\n+6591234567,Ann\n")
    path.write_text(REMINDER.replace("CRON", "* * * * *"))
    return path


def since(folder: Path, at: datetime) -> None:
    """The schedule was first seen at this time."""

    async def work() -> None:
        async with open_store(f"sqlite:///{folder / 'voiceflow.db'}") as store:
            runs = run_records(store).within("default/reminder")
            ((key, seen),) = await runs.page()
            assert seen is not None
            assert seen.state is RunState.SEEN
            await runs.put({key: replace(seen, at=at)})

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
    (reminder.parent / "people.csv").write_text("destination,name\n+65912345678901234567,Ann\n")
    monkeypatch.setenv("VOICEFLOW_LOG_MASK", "yes")
    for more in ((), ("--json",)):
        ended = voiceflow("schedule", reminder, "--once", *more)
        assert "+65" in ended.out, ended
        assert "912345678901" not in ended.out + ended.err
    monkeypatch.setenv("VOICEFLOW_LOG_MASK", "no")
    assert "+65912345678901234567" in voiceflow("schedule", reminder, "--once").out, "what a person asks for is whole"


@pytest.mark.parametrize("how", [("--list",), ("--once",)])
def test_days_of_month_and_week_together_are_told_with_the_next_dates(
    voiceflow: Program, reminder: Path, how: tuple[str, ...]
) -> None:
    reminder.write_text(REMINDER.replace("CRON", "0 9 1-7 * mon"))
    ended = voiceflow("schedule", reminder, *how)
    told = next(line for line in (ended.out + ended.err).splitlines() if "it runs" in line)
    assert "on every day of month from 1 through 7 and on Monday" in told
    dates = [datetime.strptime(each, "%A %d %B %Y") for each in told.split("next on ")[1].split(", ")]  # noqa: DTZ007
    assert len(dates) == 5
    assert all(each.day <= 7 or each.weekday() == 0 for each in dates)
    listed = voiceflow("schedule", reminder, "--list", "--json").document
    assert listed["days"] in told


def test_what_cannot_start_is_told_and_is_bad_input(voiceflow: Program, reminder: Path) -> None:
    (reminder.parent / "people.csv").unlink()
    voiceflow("schedule", reminder, "--once")
    since(voiceflow.folder, datetime.now(UTC) - timedelta(minutes=1))
    ended = voiceflow("schedule", reminder, "--once")
    assert ended.code == 2
    assert "held: " in ended.out
    assert "people.csv cannot be read" in ended.out
    again = voiceflow("schedule", reminder, "--once")
    assert (again.code, again.out) == (2, ended.out), "the second pass says it too"
    (told,) = [each for each in voiceflow("doctor", "--json").lines if each["check"] == "schedules"]
    assert (told["level"], "people.csv cannot be read" in told["message"]) == ("failure", True)
    assert voiceflow("status", "--json").document["total"] == 0


@pytest.mark.parametrize("how", [(), ("--once",), ("--list",)])
def test_a_wrong_definition_is_bad_input(voiceflow: Program, reminder: Path, how: tuple[str, ...]) -> None:
    reminder.write_text(REMINDER.replace("CRON", "* * * *"))
    ended = voiceflow("schedule", reminder, *how)
    assert ended.code == 2
    assert "cron: '* * * *' is not a cron expression" in ended.err


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


def test_a_run_is_skipped_by_command_and_another_is_ordered_for_the_next_timer(
    voiceflow: Program, reminder: Path
) -> None:
    assert voiceflow("schedule", reminder, "--once").code == 0
    assert "the next run is at" in voiceflow("schedules", "list").out
    skipped = voiceflow("schedules", "skip", "reminder", "--note", "a holiday", "--as", "Ana")
    assert (skipped.code, "skipped: a holiday (by Ana)" in skipped.out) == (0, True)
    (listed,) = voiceflow("schedules", "list", "--json").lines
    assert (listed["state"], "a holiday (by Ana)" in listed["skipped"]) == ("seen", True)
    document = voiceflow("schedule", reminder, "--list", "--json").document
    assert skipped.out.partition(", ")[2][:16] not in {
        each["local"].replace("T", " ")[:16] for each in document["next"]
    }
    reminder.write_text(REMINDER.replace("CRON", "0 9 29 2 *"))
    assert voiceflow("schedule", reminder, "--once").code == 0
    done = voiceflow("schedules", "run", "reminder", "--yes", "--as", "Ana", "--json")
    assert "the next `voiceflow schedule` with its file starts it" in done.err
    ordered = done.document
    assert (ordered["state"], ordered["ordered_by"]) == ("starting", "ordered by Ana")
    (started,) = voiceflow("schedule", reminder, "--once", "--json").lines
    assert (started["state"], started["batch_id"], started["at"]) == ("started", ordered["batch_id"], ordered["at"])
    assert voiceflow("schedule", reminder, "--once", "--json").lines == []
