"""The reminder of a visit rings the day before, at the hour of the visit, within the window, as its page says."""

from __future__ import annotations

import shlex
from zoneinfo import ZoneInfo

import anyio

from tests.cli.running import Program
from tests.docs.pages import DOCS, ROOT, section
from voiceflow_worker import CallQueue, Job, open_store

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
