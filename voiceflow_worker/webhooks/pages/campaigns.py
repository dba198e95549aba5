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
from weakref import finalize

import orjson
import structlog
from anyio.to_thread import run_sync
from starlette.types import Receive, Scope

from voiceflow_worker.acts import Operator
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.times import DateOrder, read_time, read_zone
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport, enqueue_file
from voiceflow_worker.campaigns.preview import PreviewOptions
from voiceflow_worker.core.admission import CallRequest
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.webhooks.pages.actions import ActionDone, page_of
from voiceflow_worker.webhooks.pages.routes.page import DEFAULT_QUEUE, Answer, Page, problem, sentence
from voiceflow_worker.webhooks.pages.sessions import FormRefusedError, PageForm, PageSession, checked_form

ROOM = "campaign"
CAMPAIGN_LIMIT = timedelta(minutes=5)
LONGEST_FORM = 20_000_000
"""The largest form in bytes, with its file. A larger file is enqueued by the command."""
MOST_UPLOADS = 16
KEPT_FOR = timedelta(hours=1)
_TRIAL_LASTS = timedelta(minutes=10)
_MOST_FINDINGS = 30
_TEXTS = (
    "say", "menu", "voice_profile", "source", "number_column", "country", "date_order", "time_zone", "window", "days",
    "not_before", "valid_until", "batch", "queue", "skip_bad", "again",
)  # fmt: skip

_log = structlog.get_logger("voiceflow.webhooks")


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

    `menus` are those that the receiver answers with. Methods raise StoreError.
    """

    def __init__(self, operator: Operator, *, menus: Sequence[Menu] = ()) -> None:
        self._operator = operator
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
        name = form.one("queue") or DEFAULT_QUEUE
        queue, options = replace(self._operator, name=session.name).queue(name), self._options(form)
        limits = await limits_of(self._operator.store, name)
        assumed = PreviewOptions(
            rate=limits.rate if limits is not None else PreviewOptions().rate,
            max_active=limits.max_active if limits is not None else None,
            time_zone=options.time_zone,
        )
        skip_bad, again = form.one("skip_bad") == "yes", form.one("again") == "yes"
        report = await enqueue_file(
            queue, path, options, skip_bad=skip_bad, again=again, dry_run=True, assumptions=assumed
        )
        seen = sha256(repr([upload, *form.some(*_TEXTS)]).encode("utf-8", "replace")).hexdigest()
        said, told = "", ""
        if form.one("do") == "try":
            told = await self._tried(form, options, path, queue_name=name)
        elif form.one("do") == "start" and form.one("seen") != seen:
            said = "something was changed after the preview; look at this one, then start"
        elif form.one("do") == "start":
            done = await enqueue_file(queue, path, options, skip_bad=skip_bad, again=again)
            if not done.refused:
                _log.info("somebody began a campaign on the pages", name=session.name, batch=done.batch_id)
                where = PageForm([("batch", done.batch_id), ("queue", name)])
                return ActionDone(f"{count_of(done.enqueued, 'call')} enqueued", page_of(where))
            said, report = "nothing was enqueued: the findings say why", done
        return self._page(form, session, said=said, told=told, upload=upload, file=path.name, report=report, seen=seen)

    def _options(self, form: PageForm) -> CampaignOptions:
        """The options in a form. Raises InvalidInputError."""
        menu = self._menus.get(form.one("menu"))
        if menu is None and not form.one("say"):
            raise InvalidInputError("write the text to say, or choose a menu")
        window, days = form.one("window") or None, form.one("days") or None
        order, zone = form.one("date_order"), form.one("time_zone") or None
        if order and order not in set(DateOrder):
            raise InvalidInputError(f"{order[:20]!r} is not an order of dates; choose one of the list")
        return CampaignOptions(
            template=FlowTemplate.speaking(form.one("say")) if form.one("say") else None,
            menu=menu,
            voice_profile=form.one("voice_profile") or None,
            source=form.one("source") or None,
            country=form.one("country") or None,
            batch_id=form.one("batch") or None,
            number_column=form.one("number_column") or None,
            date_order=DateOrder(order) if order else None,
            time_zone=zone,
            window=CallWindow.parse(window, days=days) if window or days else None,
            not_before=self._time(form, "not_before", zone),
            valid_until=self._time(form, "valid_until", zone),
        )

    def _time(self, form: PageForm, name: str, zone: str | None) -> datetime | None:
        text = form.one(name)
        try:
            read_in = read_zone(zone) if zone is not None else None
            return read_time(text, zone=read_in, now=self._operator.store.clock.now()) if text else None
        except ValueError as error:
            raise InvalidInputError(str(error)) from None

    async def _tried(self, form: PageForm, options: CampaignOptions, path: Path, *, queue_name: str) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        number = read_number(form.one("number"), options.country)
        now = self._operator.store.clock.now()
        opened = open_campaign(path, replace(options, not_before=None, window=None), now=now)
        call = next((row.call for row in opened if row.call is not None), None)
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
            "form": {name: form.one(name) for name in (*_TEXTS, "number")},
            "menus": list(self._menus),
            "orders": [("dmy", "31/1/2030"), ("mdy", "1/31/2030"), ("ymd", "2030/1/31")],
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
