"""A campaign from its file to its report, by commands and pages alone, as docs/console.md tells it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By

from tests.acceptance.campaign.desk import Desk
from tests.acceptance.campaign.files import MENU, OPERATORS, PRICES, SETTINGS
from tests.acceptance.campaign.judge import Ended, judge
from tests.acceptance.campaign.people import BAD, OPENS, ZONES, Hours, People, write_people
from tests.acceptance.campaign.progress import WITHIN, Progress
from tests.console.browser.conftest import chromium_in
from tests.console.browser.reader import Reader
from tests.support.processes import Process
from tests.support.waiting import wait_until

BATCH = "people"
PLACED, NOT_PLACED = 3, 2
"""How many doubts the sandbox makes of calls that rang, and of calls that did not."""
WHO = "Mary Tan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the campaign is, and how fast it goes."""

    rows: int
    rate: int
    speed: int
    ahead: timedelta
    """From the choice of the window to its moment: time to enqueue, to start workers, and to send some calls."""
    redial_after: str
    hold_before: timedelta
    """How long before this moment the campaign is held at the earliest."""
    pause: timedelta
    """Time before the operator redials. By the sandbox's summaries, whose times run as people on the phone hear them,
    a call that was not answered ends up to 45 s later than by the clock; those are not redialled yet."""


SHORT = Plan(
    rows=1000,
    rate=5,  # so low that some calls of the zone that closes are left at its moment, however late the hold comes
    speed=100,
    ahead=timedelta(seconds=60),
    redial_after="5s",
    hold_before=timedelta(minutes=5),
    pause=timedelta(),
)
WHOLE = Plan(
    rows=50_000,
    rate=150,
    speed=60,
    ahead=timedelta(seconds=240),
    redial_after="30s",
    hold_before=timedelta(seconds=20),
    pause=timedelta(seconds=50),
)


@dataclass
class Campaign:
    """One run of it."""

    desk: Desk
    plan: Plan
    people: People
    store: str = ""
    figures: dict[str, Any] = field(default_factory=dict[str, Any])

    def run(self, browser: Path) -> Ended:
        """Everything from the first command to the last."""
        plan, desk = self.plan, self.desk
        desk.settings(SETTINGS + (f"VOICEFLOW_STORE={self.store}\n" if self.store else ""))
        shutil.copy(MENU, desk.folder)
        (desk.folder / "prices.csv").write_text(PRICES, encoding="utf-8")
        with ExitStack() as stack:
            serve = stack.enter_context(
                desk.starts("voiceflow serve --port 8080 --ivr delivery:delivery", ready="/webhooks/8x8")
            )
            sandbox = stack.enter_context(
                desk.starts(
                    f"voiceflow sandbox --port 8088 --speed {plan.speed} --seed 2026 "
                    "--webhook http://127.0.0.1:8080/webhooks/8x8",
                    ready="ready on",
                )
            )
            reader = Reader(stack.enter_context(chromium_in(browser)))
            hours = self._before()
            self._order_doubts()
            workers = [
                stack.enter_context(desk.starts(f"voiceflow worker --rate {plan.rate}", ready="sends queue"))
                for _ in range(2)
            ]
            began = datetime.now(UTC)
            progress = Progress(desk, BATCH)
            listed = self._during(reader, hours, progress)
            self.figures["minutes of sending"] = round((datetime.now(UTC) - began).total_seconds() / 60, 1)
            self._after(workers)
            console = reader.console()
            assert console == [], console
            ended = Ended(
                people=self.people,
                hours=hours,
                ledger=desk.ledger(),
                added=listed,
                placed=frozenset(self._doubtful[:PLACED]),
                batch=BATCH,
                desk=desk,
            )
            (desk.folder / "ledger.json").write_text(json.dumps(ended.ledger), encoding="utf-8")
            desk.stops(sandbox)
            desk.stops(serve)
        self.figures.update(judge(ended))
        return ended

    # -- before ------------------------------------------------------------------------------------------------------

    def _before(self) -> Hours:
        """From the file to the queue; gives the window."""
        desk, people, plan = self.desk, self.people, self.plan
        done = desk.types(f"voiceflow suppress import do-not-call.csv --note 'on our own list' --as '{WHO}'")
        assert f"{len(people.suppressed)} numbers added" in done.printed, done.printed
        hours = Hours.around(datetime.now(UTC), ahead=plan.ahead)
        what = "people.xlsx --ivr delivery:delivery --country international"
        call = f"{what} --window {hours} --valid-for 12h --rate {plan.rate}"
        checked = desk.types(f"voiceflow check {call} --prices prices.csv", code=2)
        assert "Preview" in checked.printed or "preview" in checked.printed.lower(), checked.printed[-3000:]
        policy = f"--redial-on busy --redial-max 1 --redial-after {plan.redial_after}"
        limits = "--stop-after-cost 5000 --stop-if-answer-rate-below 30%/500"
        done = desk.types(f"voiceflow enqueue {call} {policy} {limits} --skip-bad --rejects bad.csv")
        wanted = {
            "enqueued": sum(people.calls.values()),
            "duplicates": people.duplicates,
            "bad": sum(people.bad.values()),
            "suppressed": people.suppressed_rows,
        }
        told = ", ".join(f"{count} {name}" for name, count in wanted.items())
        assert f"batch {BATCH}: {told}" in done.printed, (told, done.printed[-3000:])
        bad = (desk.folder / "bad.csv").read_text(encoding="utf-8-sig").splitlines()
        assert len(bad) == 1 + wanted["bad"] + wanted["suppressed"]
        assert len(people.bad) == len(BAD)
        self.figures.update(rows=people.rows, **wanted)
        return hours

    def _order_doubts(self) -> None:
        """Have the sandbox lose the answers to some calls, of which the last ones are not placed either."""
        zone = ZONES[2]
        self._doubtful = self.people.of(zone)[: PLACED + NOT_PLACED]
        for place, number in enumerate(self._doubtful):
            if place < PLACED:
                self.desk.order("faults", {"fault": "reset", "destination": number})
                self.desk.order("script", {"destination": number, "outcome": "BUSY", "drop": True})
                self.desk.order("log", {"destination": number, "never": True})
            else:
                self.desk.order("faults", {"fault": "reset", "place": "before", "destination": number})
        # On a busy machine the receiver may turn events away: they come again.
        self.desk.order("script", {"retries": 100})
        self.desk.order("events", {"event": "VCA", "retries": 100})

    # -- during ------------------------------------------------------------------------------------------------------

    def _during(self, reader: Reader, hours: Hours, progress: Progress) -> str:
        """Watch, hold, decide, and resume; gives the number that is put on the list on the pages."""
        desk, plan, pages = self.desk, self.plan, f"{self.desk.receiver}/ui"
        reader.sign_in(desk.receiver, secret=OPERATORS, name=WHO)
        reader.sees("Overview", f"{WHO}, operator")
        wait_until(lambda: progress.now["doubts"] >= PLACED + NOT_PLACED, "doubts", within=WITHIN, every=0.5)
        progress.wait_for_done(self.people.rows // 20)
        at = hours.moment - plan.hold_before
        wait_until(lambda: datetime.now(UTC) > at, "a time shortly before the moment of the window", within=WITHIN)
        assert BATCH in desk.types(f"voiceflow status --batch {BATCH}").printed
        reader.open(pages)
        reader.sees("Overview", BATCH)
        page = f"{pages}/batches/{BATCH}?queue=default"
        reader.open(page)
        reader.sees("Progress", "completed")

        reader.link("Hold").click()
        reader.sees("Will be called", "Will not be called")
        reader.fill(note="the depot is closed")
        reader.press("Hold")
        held_at = datetime.now(UTC)
        reader.sees(f"{BATCH} is on hold. The depot is closed (by {WHO}).")
        self._stand_still(progress)
        rang = [each["at_seconds"] for each in desk.ledger() if each["rang"]]
        self.figures["seconds from the hold to the last ring"] = round(max(rang) - held_at.timestamp(), 1)
        desk.types("voiceflow status")
        number = self._suppress_on_the_page(reader)
        self._decide(reader)
        wait_until(lambda: datetime.now(UTC) > hours.moment, "the moment of the window", within=WITHIN)
        assert sum(each["rang"] for each in desk.ledger()) == len(rang), "nothing rings while the batch is held"
        reader.open(page)
        reader.link("Resume").click()
        reader.press("Resume")
        reader.sees("is open")
        self._settle(progress)
        rested = datetime.now(UTC)
        wait_until(lambda: datetime.now(UTC) > rested + plan.pause, "the end of a pause", within=WITHIN)
        desk.types(f"voiceflow calls redial --batch {BATCH} --outcome no_answer --yes --as '{WHO}'")
        self._settle(progress)
        reader.open(page)
        reader.sees("Progress", "completed")
        desk.picture(reader, "ended")
        return number

    def _suppress_on_the_page(self, reader: Reader) -> str:
        """Somebody in the zone that is not open yet writes that they want no call."""
        number = self.people.of(OPENS)[-1]
        reader.open(f"{self.desk.receiver}/ui/act/suppress")
        reader.fill(numbers=number, note="asked by mail")
        reader.press("Put the numbers on the list")
        reader.open(f"{self.desk.receiver}/ui/suppression")
        reader.sees("pressed 9")
        return number

    def _decide(self, reader: Reader) -> None:
        """Resolve the doubts: of those that were placed some day somebody finds the rows at 8x8."""
        placed, not_placed = self._doubtful[:PLACED], self._doubtful[PLACED:]
        pages = f"{self.desk.receiver}/ui/doubts"
        reader.open(pages)
        reader.sees(*self._doubtful)
        self._resolve(reader, placed, "placed", "seen in the portal")
        self.desk.types(f"voiceflow calls list --batch {BATCH} --state in_doubt")

        def decidable() -> bool:
            reader.open(pages)
            now = reader.driver.find_elements(
                By.XPATH, "//td[starts-with(@data-label, '“it was not placed”')][.='now']"
            )
            return len(now) == len(not_placed)

        wait_until(decidable, "a time at which 8x8 can no longer place them", within=120, every=1)
        self._resolve(reader, not_placed, "not-placed", "not in the portal")

    def _resolve(self, reader: Reader, numbers: list[str], found: str, note: str) -> None:
        reader.open(f"{self.desk.receiver}/ui/doubts")
        for number in numbers:
            reader.driver.find_element(By.XPATH, f"//tr[.//a[.='{number}']]//input").click()
        reader.press("Resolve the ticked calls")
        reader.driver.find_element(By.CSS_SELECTOR, f"input[value={found}]").click()
        reader.fill(note=note)
        reader.press("Resolve")
        reader.sees(f"{len(numbers)} calls resolved")

    def _stand_still(self, progress: Progress) -> None:
        """Wait until the calls that were under way have ended."""
        wait_until(
            lambda: not progress.is_under_way, lambda: f"calls at rest: {progress.now}", within=WITHIN, every=0.5
        )

    def _settle(self, progress: Progress) -> None:
        """Wait until nothing is under way, and what waits is due much later."""

        def is_settled() -> bool:
            if progress.is_under_way:
                return False
            later = datetime.now(UTC) + timedelta(hours=1)
            return all(datetime.fromisoformat(call["due_at"]) > later for call in self._queued())

        wait_until(is_settled, lambda: f"a campaign at rest: {progress.now}", within=WITHIN, every=1)

    def _queued(self) -> list[dict[str, Any]]:
        listed = self.desk.quietly(f"voiceflow calls list --batch {BATCH} --state queued --limit 0 --json")
        return [json.loads(line) for line in listed.splitlines()]

    # -- after -------------------------------------------------------------------------------------------------------

    def _after(self, workers: list[Process]) -> None:
        """Stop the workers, read prices, and write the report."""
        desk = self.desk
        for worker in workers:
            desk.stops(worker)
        desk.types(f"voiceflow worker --drain --rate {self.plan.rate}")
        desk.types(f"voiceflow reconcile --prices --batch {BATCH}")
        desk.types(f"voiceflow report --batch {BATCH} --csv report.csv --xlsx report.xlsx")


@contextmanager
def campaign(folder: Path, pictures: Path, plan: Plan, *, store: str = "") -> Iterator[Campaign]:
    """A campaign in an empty folder."""
    yield Campaign(Desk(folder, pictures), plan, write_people(folder, rows=plan.rows), store)
