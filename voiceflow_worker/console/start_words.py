"""What the start of a campaign does, in the words of the page: its choice, its sentence and its button."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import End, EnqueueReport
from voiceflow_worker.console.form import COUNTS, DAYS, LIST, PARTS, CampaignForm
from voiceflow_worker.console.formats import ZONE, label_of, number, span
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.text.wording import count_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is asked about a list that is imported again: whether it counts, or only adds who is new.

    If it counts, calls are `changed` and `cancelled`; `bad` rows let others in no row stay (`unsure`).
    """

    new: int
    changed: int
    cancelled: int
    stay: int
    unsure: int
    bad: int
    names: tuple[str, ...]
    is_safe: bool
    """Whether it is chosen beforehand: it cancels few of those who wait, and the list is not much shorter."""

    @classmethod
    def of(cls, report: EnqueueReport) -> Self:
        """The choice, by a preview."""
        plan, bad = report.plan, report.rejected
        in_no_row = plan[End.IN_NO_ROW]
        cancelled = plan[End.LEFT_OUT_WAITING] + (0 if bad else in_no_row)
        asks = plan[End.CHANGED] + plan[End.LEFT_OUT_WAITING] + in_no_row > 0
        return cls(
            new=plan[End.NEW],
            changed=plan[End.CHANGED],
            cancelled=cancelled,
            stay=sum(plan[each] for each in (End.SAME, End.ON_THE_WAY, End.OVER, End.BY_PERSON)),
            unsure=in_no_row if bad else 0,
            bad=bad,
            names=tuple(report.named),
            is_safe=asks and 10 * cancelled <= report.waiting <= 2 * report.rows,
        )

    @property
    def asks(self) -> bool:
        """Whether there is anything to choose."""
        return self.changed + self.cancelled + self.unsure > 0

    @property
    def counts_in_words(self) -> str:
        """What happens if the list counts."""
        said = f"This list counts: change {self.changed:,}, cancel {self.cancelled:,}, call {self.new:,}"
        because = f"; {self.unsure:,} stay because {count_of(self.bad, 'row')} {'is' if self.bad == 1 else 'are'} bad"
        return f"{said}; {self.stay:,} stay" + (because if self.unsure else "")

    @property
    def adds_in_words(self) -> str:
        """What happens if it only adds who is new."""
        count = self.changed + self.cancelled + self.unsure
        names = ", ".join(self.names) + (", …" if count > len(self.names) else "")
        these = "this one stays as it was" if count == 1 else f"these {count:,} stay as they were"
        return f"Only add who is new; {these}: {names}"


def _orders(report: EnqueueReport, form: CampaignForm) -> list[tuple[str, str]]:
    """What a start orders: the words of each order, and how many of what."""
    choice, is_new = Choice.of(report), report.plan[End.NEW]
    done = (
        ("call", count_of(is_new, "person").replace("persons", "people") if is_new else ""),
        ("change", count_of(choice.changed, "call") if choice.changed and report.replaces else ""),
        ("cancel", count_of(choice.cancelled, "call") if choice.cancelled and form.get(LIST) == COUNTS else ""),
    )
    return [(what, whom) for what, whom in done if whom]


def button_of(report: EnqueueReport, form: CampaignForm) -> tuple[str, str] | None:
    """The words of the button that starts, and what it sends; None if there is nothing to do."""
    if not (orders := _orders(report, form)) or (Choice.of(report).asks and not (form.get(LIST) or report.replaces)):
        return None
    leaves_out = bool(report.rejected and not form.get("skip_bad"))
    bad = [f"leave out {count_of(report.rejected, 'bad row')}"] if leaves_out else []
    words = ", ".join([*bad, *(f"{what} {whom}" for what, whom in orders)])
    return words[0].upper() + words[1:], "start skip_bad" if leaves_out else "start"


def in_short(report: EnqueueReport, form: CampaignForm, campaign: Campaign, *, now: datetime) -> str:
    """What a start does, in a sentence: whom it calls, from when and how long, again when, and who is not called."""
    preview, options = report.preview, campaign.options
    orders = [f"{what} {whom}" for what, whom in _orders(report, form)]
    calls = next((each for each in orders if each.startswith("call ")), "")
    others = [each for each in orders if each != calls]
    is_wrong = report.refused and not report.rejected  # as a whole
    if is_wrong or not orders:
        return ""
    parts = [calls] if calls else []
    if preview is not None and preview.starts_at is not None and preview.ends_at is not None and calls:
        first = preview.starts_at
        begins = "now" if first - now < timedelta(minutes=1) else f"from {_moment_in_words(first, now)}"
        parts = [f"{calls} {begins} ({_place(ZONE.get())})", span(preview.ends_at - first)]
        until = options.valid_until if isinstance(options.valid_until, datetime) else None
        until = now + options.valid_for if options.valid_for is not None else until
        parts += [f"until {_moment_in_words(until, now)} at the latest"] if until is not None else []
        parts += filter(None, [_hours_in_words(form)])
    said = [", ".join(parts), _again_in_words(options.redial), ", ".join(others)]
    stay = Choice.of(report).stay
    said += [f"{number(stay)} {'stays as it was' if stay == 1 else 'stay as they were'}" if others and stay else ""]
    words = "; ".join(filter(None, [*said, left_in_words(report)]))
    return f"{words[0].upper()}{words[1:]}"


def _moment_in_words(at: datetime, now: datetime) -> str:
    """A time in the zone of the page: its day only if it is another one."""
    local, today = at.astimezone(ZONE.get()), now.astimezone(ZONE.get()).date()
    days = {today: "", today + timedelta(days=1): "tomorrow "}
    day = days.get(local.date(), f"{local:%A} {local.day} {local:%B} ")
    return f"{day}{local.hour}:{local:%M}"


def _place(zone: ZoneInfo) -> str:
    """The place of a zone, for people: Singapore for Asia/Singapore."""
    return zone.key.rpartition("/")[2].replace("_", " ")


_ENDS = {SessionStatus.BUSY: "busy", SessionStatus.NO_ANSWER: "not answered", SessionStatus.CANCELED: "rejected"}


def _again_in_words(policy: RedialPolicy | None) -> str:
    """When people are called again."""
    if policy is None or not policy.limit:
        return ""
    waits = dict[timedelta, list[str]]()
    for status in sorted(policy.on):
        waits.setdefault(policy.wait(status), []).append(_ENDS.get(status, status.value.lower()))
    said = (f"after {span(wait)} if {' or '.join(each)}" for wait, each in waits.items())
    often = "" if policy.limit == 1 else f", {policy.limit} times at most"
    return f"again {', '.join(said)}{often}"


def left_in_words(report: EnqueueReport, *, bad: bool = True) -> str:
    """Who is not called, by why, with the bad rows or without."""
    counts = {
        "bad": report.rejected if bad else 0,
        "left out": report.left_out,
        "suppressed": report.suppressed,
        "duplicate" if report.duplicates == 1 else "duplicates": report.duplicates,
    }
    return ", ".join(f"{number(count)} {words}" for words, count in counts.items() if count)


def _hours_in_words(form: CampaignForm) -> str:
    """The days and hours of a campaign that has the same for all countries."""
    window, days = PARTS["window"].split(form.get("window")), PARTS["days"].split(form.get("days"))
    if not (form.get("window") or form.get("days")) or window is None or days is None:
        return "at the hours that it says" if form.get("window") or form.get("days") else ""
    names = calendar.day_name
    ticked = [place for place, name in enumerate(DAYS) if days[name]]
    is_row = len(ticked) > 2 and ticked == list(range(ticked[0], ticked[-1] + 1))
    between = f"{names[ticked[0]]} to {names[ticked[-1]]}"
    said = [] if len(ticked) == len(DAYS) else [between if is_row else ", ".join(names[each] for each in ticked)]
    if window["any"]:
        said.append("at any hour")
    if window["from"]:
        said.append(f"{window['from']} to {window['to']}")
    own = form.get("window_time_zone")
    return " ".join([*said, (own and f"({own})") or "at their own clock"])


def why_refused(done: EnqueueReport) -> str:
    """Why nothing was enqueued, and what to choose."""
    said: list[str] = []
    if done.rejected:
        tick = f"Tick “{label_of('skip_bad')}”, or correct what the findings name"
        said.append(f"{count_of(done.rejected, 'row')} cannot be called. {tick}")
    if done.again:
        said.append(
            f"{count_of(done.again, 'call')} would go to people who were called before. Choose whom to call again, or "
            "take their rows out of the file"
        )
    if done.changed + done.left_out_waiting and not said:
        said.append("Calls that wait would change or are left out: choose whether this list counts")
    return ". ".join(said) or "the findings say why"
