"""The page `/ui/campaign`: a file of people is uploaded, previewed, tried on one's own phone, and called."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, NamedTuple
from weakref import finalize

import orjson
from anyio.to_thread import run_sync
from starlette.types import Receive, Scope

from voiceflow_worker.acts import Operator
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import texts_of
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.console.acting import ActionDone, page_of
from voiceflow_worker.console.desk import Desk
from voiceflow_worker.console.routes.page import DEFAULT_QUEUE, Answer, Page, problem, sentence
from voiceflow_worker.console.sessions import FormRefusedError, PageForm, PageSession, checked_form
from voiceflow_worker.core.admission import CallRequest, CheckedCall
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

ROOM = "campaign"
CAMPAIGN_LIMIT = timedelta(minutes=5)
LONGEST_FORM = 20_000_000
"""The largest form in bytes, with its file. A larger file is enqueued by the command."""
MOST_UPLOADS = 16
KEPT_FOR = timedelta(hours=1)
_TRIAL_LASTS = timedelta(minutes=10)
_MOST_FINDINGS = 30


class Field(NamedTuple):
    """A field of the form. It has the name of the campaign's field; `options` are what may be chosen."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    options: tuple[tuple[str, str], ...] = ()


_ORDERS = (("dmy", "31/1/2030"), ("mdy", "1/31/2030"), ("ymd", "2030/1/31"))
_SECTIONS = {
    "words": (
        Field("voice_profile", "Voice", "Such as en-US-JennyNeural. Empty: the menu's, the column's, or the setting."),
        Field("source", "Number to call from", "Of the account. Empty: the column source, or the setting.", "tel"),
        Field("number_column", "Column of the numbers", "Empty: destination."),
        Field("country", "Country of national numbers", "Such as SG, or international."),
        Field("date_order", "Dates of the file look like", "2030-01-31", options=_ORDERS),
        Field("sheet", "Sheet of the workbook", "Needed if several have rows."),
    ),
    "when": (
        Field("time_zone", "Time zone", "Such as Asia/Singapore."),
        Field("window", "Hours in which phones may ring", "Such as 09:00-18:00. Empty: at any time."),
        Field("days", "Days", "Such as mon-fri. Empty: every day."),
        Field("holidays", "Not on public holidays of", "Such as SG or DE-BY. Empty: holidays are days like others."),
        Field("not_before", "Not before", "Such as tomorrow 09:00. Empty: at once."),
        Field("valid_for", "For so long", "Such as 2h, counted from now or from Not before."),
        Field("valid_until", "Not after", "Such as tomorrow 18:00, in place of a length of time."),
    ),
    "more": (
        Field("redial_on", "Call again after", "Such as busy,no_answer. Empty: the setting."),
        Field("redial_max", "Call again at most", "A number of times. Empty: the setting."),
        Field("redial_after", "Wait before calling again", "Such as 30m. Empty: the setting."),
        Field("stop_after_refused", "Stop after refusals in a row", "For their voice or source. Empty: 10; 0: never."),
        Field("stop_after_cost", "Stop at a cost of", "Such as 50, in one currency."),
        Field("stop_if_answer_rate_below", "Stop if few answer", "Such as 5%/200: below 5 % after 200 calls."),
        Field("priority", "Priority", "A larger number is called first. Empty: 0."),
        Field("rate", "Calls per second in the preview", "Empty: the queue's rate, or the setting."),
        Field("batch", "Name of the batch", "Empty: the name of the file."),
    ),
}  # fmt: skip
_LABELS = {each.name: each.label for section in _SECTIONS.values() for each in section} | {
    "say": "Text to say", "ivr": "Menu", "file": "File of the people to call",
}  # fmt: skip
_TICKS = ("skip_bad", "again")
"""What answers the findings of a preview: it may be ticked between a preview and the start."""
_TEXTS = (*_LABELS, "queue")


@dataclass(frozen=True, slots=True)
class _Upload:
    session: str
    path: Path
    at: datetime


class _Uploads:
    """The files that operators look at, in a folder of this process, each for an hour or until 16 newer ones came."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Upload] = OrderedDict()
        self._folder: Path | None = None

    def keep(self, session: PageSession, name: str, content: bytes, *, now: datetime) -> str:
        """Keep a file, and return its id."""
        if self._folder is None:
            self._folder = Path(mkdtemp(prefix="voiceflow-uploads-"))
            finalize(self, rmtree, self._folder, ignore_errors=True)
        for old, kept in list(self._kept.items()):
            if now - kept.at > KEPT_FOR or len(self._kept) >= MOST_UPLOADS:
                self._kept.pop(old).path.unlink(missing_ok=True)
        upload = token_urlsafe(12)
        # The name is that of the batch by default, and its ending tells the format.
        plain = re.sub(r"[^\w.-]+", "-", name.replace("\\", "/").rpartition("/")[2])[-80:].lstrip(".-") or "people.csv"
        path = self._folder / upload / plain
        path.parent.mkdir()
        path.write_bytes(content)
        self._kept[upload] = _Upload(session.id, path, now)
        return upload

    def path(self, session: PageSession, upload: str) -> Path | None:
        """The file that a session has uploaded; None if it is not kept any more."""
        kept = self._kept.get(upload)
        return kept.path if kept is not None and kept.session == session.id else None


class CampaignPage:
    """The page on which an operator begins a campaign. It does what `voiceflow enqueue` does, with the same findings.

    `menus` are those that the receiver answers with. The `settings` fill what the form leaves empty. Methods raise
    StoreError.
    """

    def __init__(
        self, operator: Operator, desk: Desk, *, menus: Sequence[Menu] = (), settings: Settings | None = None
    ) -> None:
        self._operator = operator
        self._desk = desk
        self._settings = settings
        self._queue = settings.queue if settings is not None else DEFAULT_QUEUE
        self._menus = {menu.name: menu for menu in menus}
        self._uploads = _Uploads()

    def open(self, session: PageSession) -> Page:
        """The empty form."""
        return self._page(PageForm(()), session)

    async def answer(self, scope: Scope, receive: Receive, session: PageSession) -> Answer | ActionDone:
        """The preview of the campaign in a form, or the result of its start."""
        try:
            form = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except FormRefusedError as error:
            return problem(403, "Nothing was enqueued", sentence(error), back=ROOM)
        upload = form.one("upload")
        if form.file:
            now = self._operator.store.clock.now()
            upload = await run_sync(lambda: self._uploads.keep(session, form.file_name, form.file or b"", now=now))
        path = self._uploads.path(session, upload)
        if path is None:
            return self._page(form, session, said="choose the file of the people to call; it is not here any more")
        try:
            return await self._previewed(form, session, path, upload)
        except InvalidInputError as error:
            said = str(error).replace(str(path), path.name)
            return self._page(form, session, said=said, upload=upload, file=path.name)

    async def _previewed(self, form: PageForm, session: PageSession, path: Path, upload: str) -> Answer | ActionDone:
        name = form.one("queue") or self._queue
        self._operator.queue(name)
        campaign = self._campaign(form, path)
        report = await self._desk.run(_previewed, campaign, name, self._operator.policy)
        seen = sha256(repr([upload, *form.some(*_TEXTS)]).encode("utf-8", "replace")).hexdigest()
        said, told = "", ""
        if form.one("do") == "try":
            told = await self._tried(form, campaign, path, queue_name=name)
        elif form.one("do") == "start" and form.one("seen") != seen:
            said = "something was changed after the preview; look at this one, then start"
        elif form.one("do") == "start":
            done = await self._desk.run(_started, campaign, name, self._operator.policy, by=session.name)
            if not done.refused:
                where = PageForm([("batch", done.batch_id), ("queue", name)])
                return ActionDone(f"{count_of(done.enqueued, 'call')} enqueued", page_of(where))
            said, report = "nothing was enqueued: the findings say why", done
        return self._page(form, session, said=said, told=told, upload=upload, file=path.name, report=report, seen=seen)

    def _campaign(self, form: PageForm, path: Path) -> Campaign:
        """The campaign in a form. Raises InvalidInputError, with the labels of the form."""
        if not form.one("ivr") and not form.one("say"):
            raise InvalidInputError("write the text to say, or choose a menu")
        given = {name: form.one(name) or None for name in (*_LABELS, *_TICKS)}
        campaign = Campaign.of(
            {**given, "file": path},
            settings=self._settings,
            menus=self._menus,
            now=self._operator.store.clock.now(),
            named=lambda name: _LABELS.get(name, name),
        )
        # The texts of a menu can go to another process. Its handlers cannot, and files need none.
        options = campaign.options
        return replace(campaign, options=replace(options, menu=texts_of(options) or options.menu))

    async def _tried(self, form: PageForm, campaign: Campaign, path: Path, *, queue_name: str) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        number = read_number(form.one("number"), campaign.options.country)
        now = self._operator.store.clock.now()
        call = await self._desk.run(_first_call, path, replace(campaign.options, not_before=None, window=None))
        if call is None:
            raise InvalidInputError("no row of the file can be called; correct it first")
        body = orjson.loads(call.body)
        body["callflow"][0]["params"]["destination"] = number.e164
        body.pop("validUntil", None)
        request = CallRequest(
            flow=CallFlow.parse(body),
            unique_key=f"trial-{token_urlsafe(9)}",
            batch_id=f"{(call.batch_id or path.stem)[:40]}-trial",
            valid_until=now + _TRIAL_LASTS,
            data=call.data,
            menu=call.menu,
        )
        await self._operator.queue(queue_name).enqueue_many([request])
        return f"{number.e164} is called with the words of the first row, within ten minutes if a worker runs"

    def _page(
        self,
        form: PageForm,
        session: PageSession,
        *,
        said: str = "",
        told: str = "",
        upload: str = "",
        file: str = "",
        report: EnqueueReport | None = None,
        seen: str = "",
    ) -> Page:
        shown = {
            "form": {name: form.one(name) for name in (*_TEXTS, *_TICKS, "number")},
            "menus": list(self._menus),
            "sections": _SECTIONS,
            "queue": self._queue,
            "token": session.token,
            "said": said,
            "done": told,
            "upload": upload,
            "file": file,
            "report": report,
            "preview": report.preview.in_words() if report is not None and report.preview is not None else [],
            "findings": report.findings[:_MOST_FINDINGS] if report is not None else (),
            "more": max(0, len(report.findings) - _MOST_FINDINGS) if report is not None else 0,
            "seen": seen,
        }
        return Page(template="campaign.html", shown=shown, status=409 if said else 200)


async def _previewed(store: Store, campaign: Campaign, queue: str, policy: CallPolicy) -> EnqueueReport:
    return await campaign.preview(CallQueue(store, queue, policy=policy))


async def _started(store: Store, campaign: Campaign, queue: str, policy: CallPolicy, *, by: str) -> EnqueueReport:
    return await campaign.start(CallQueue(store, queue, policy=policy), by=by)


async def _first_call(store: Store, path: Path, options: CampaignOptions) -> CheckedCall | None:
    """The call of the first row that can be called."""
    opened = open_campaign(path, options, now=store.clock.now())
    return next((row.call for row in opened if row.call is not None), None)
