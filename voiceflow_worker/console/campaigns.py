"""The page `/ui/campaign`: a file of people is uploaded, looked at, previewed, tried on one's own phone, and called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING

import anyio
import orjson
import structlog
from babel.core import get_global
from phonenumbers import SUPPORTED_REGIONS
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.actions import ActionRefusedError, Operator, active_holds
from voiceflow_worker.campaigns.called_before import TRIAL
from voiceflow_worker.campaigns.calls.filters import Filter, text_of_parts
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import menu_puts
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import COUNTRY, DESTINATION, row_name
from voiceflow_worker.campaigns.options_file import loaded_options, saved_options
from voiceflow_worker.campaigns.reading import Group, row
from voiceflow_worker.campaigns.recordings import with_recordings
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.console.acting import ActionDone, page_of
from voiceflow_worker.console.columns import ROLE_WORDS, ROWS_A_PAGE, FoundColumns, look, role_in_words
from voiceflow_worker.console.form import (
    COUNTS,
    DAYS,
    FIELDS,
    FILTERS,
    LIST,
    ONLY_NEW,
    PROPOSED,
    STEP_OF,
    STEPS,
    TEXTS,
    TICKS,
    UPLOADS,
    YES,
    CampaignForm,
    tick_name,
)
from voiceflow_worker.console.formats import (
    ZONE,
    countries,
    label_of,
    span,
)
from voiceflow_worker.console.questions import PREFIX, fields_of_menu, menu_in, shown_questions
from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sessions import FormRefusedError, PageForm, PageSession, checked_form
from voiceflow_worker.console.start_words import Choice, button_of, heard_in, in_short, why_refused
from voiceflow_worker.core.admission import CallRequest, CheckedCall
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.errors import (
    CampaignFileError,
    ChangedSinceError,
    InvalidInputError,
    PhoneNumberError,
    VoiceflowError,
)
from voiceflow_worker.finding import Finding, Remedy, message_of, ranges_text
from voiceflow_worker.gateway.client import TIMEOUT, VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.reading import INTERNATIONAL, read_number
from voiceflow_worker.model.text.names_of_the_world import VOICES, at_odds
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, count_of, read_duration
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.zones import zone_named
from voiceflow_worker.service.other_process import OtherProcess
from voiceflow_worker.service.uploads import Upload, Uploads, plain_name, uploading

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

SECTION = "campaign"
LONGEST_FORM = 20_000_000
"""The largest form in bytes, with its files. A larger file is enqueued by the command."""
ACCOUNT_FOR = timedelta(minutes=10)
"""How long the voices and numbers of the account are kept, before 8x8 is asked again."""
_TRIAL_LASTS = timedelta(minutes=10)
_MOST_FINDINGS, _MOST_RANGES = 30, 12

_log = structlog.get_logger("voiceflow.console")

_DIGITS = 9
"""The digits that the number of a row is shorter than."""
_DRAWN = frozenset(
    {
        "batch",
        "columns",
        "country",
        "date_order",
        "file",
        "header_row",
        "ivr",
        "menu",
        "redial_max",
        "say",
        "sheet",
        *TICKS,
    }
)
"""The fields of which the template draws all that they can say."""
_MORE = {
    step: [each for name, each in FIELDS.items() if STEP_OF[name] == step and name not in _DRAWN] for step in STEPS
}
"""The other fields of each step, which stand as texts under More."""
_KEPT_FOR_BACK = {"Cache-Control": "private, no-cache"}
"""The browser keeps this page for its back button alone, so that what was typed is there again."""
_LEAVING_OUT = {"leave_out": Remedy.LEAVE_OUT, "leave_out_rows": Remedy.LEAVE_OUT_ROWS}
_REPAIRS = ("country", "voice_profile", *_LEAVING_OUT)
"""The fields that one button of the check fills in, or adds to."""
_WAITS = ("5m", "15m", "30m", "1h", "2h", "4h", "1d")


_DOCUMENTED = {"voices": [(code, f"{code}, {language}, {gender}") for code, _, language, gender in VOICES]}


class _Account:
    """The voices and the numbers of the account, as pairs of a value and its words, of which people may type others.

    Without an answer there are no numbers, and the voices that 8x8 documents.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_at: float | None = None
        self._lists: dict[str, list[tuple[str, str]]] = {}

    async def lists(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The lists `voices` and `numbers`."""
        now = anyio.current_time()
        if self._asked_at is None or now - self._asked_at > ACCOUNT_FOR.total_seconds():
            self._asked_at = now
            self._lists = await self._read()
        return self._lists

    async def _read(self) -> dict[str, list[tuple[str, str]]]:
        if self._settings.missing_for_calls():
            return _DOCUMENTED
        try:
            async with VoiceClient.from_settings(self._settings, timeout=TIMEOUT) as voice:
                voices, numbers = await voice.speech_profiles(), await voice.numbers()
        except VoiceflowError as error:
            _log.warning("the voices of the account could not be listed", error=str(error))
            return _DOCUMENTED
        return {
            "voices": [(v.code, ", ".join(filter(None, [v.code, v.language or v.locale, v.gender]))) for v in voices],
            "numbers": [
                (e164, ", ".join(filter(None, [e164, n.country, n.status])))
                for n in numbers
                if (e164 := f"+{n.msisdn.lstrip('+')}")
            ],
        }


MOST_RECORDINGS = 20
"""How many recordings a preview fetches."""


class CampaignPage:
    """The page on which an operator begins a campaign. It does what `voiceflow enqueue` does, with the same findings.

    Files are read in another `process`. `menus` are those that the receiver answers with. The `settings` fill what the
    form leaves empty. Methods raise StoreError.
    """

    def __init__(self, operator: Operator, process: OtherProcess, *, menus: Sequence[Menu], settings: Settings) -> None:
        self._operator = operator
        self._process = process
        self._settings = settings
        self._queue = settings.queue
        self._menus = {menu.name: menu for menu in menus}
        self._account = _Account(settings)
        self._uploads = Uploads(operator.store)
        self._key = keyed_digest(operator.store.id, "the form of a campaign")

    async def open(self, asked: PageRequest, session: PageSession) -> Page:
        """The form with the file alone; with `?batch=&queue=`, with what a campaign said that made a batch.

        With `&stored=yes`, it has the rows of the batch too, to replace the calls that wait.
        """
        form = CampaignForm({})
        batch, queue, stored = asked.asked("batch"), asked.asked("queue") or DEFAULT_QUEUE, asked.asked("stored")
        if batch is None:
            return await self._page(form, session)
        try:
            self._operator.queue(queue)
            listed = RowList(self._operator.store, queue, batch)
            text = await listed.definition()
            if not text:
                raise InvalidInputError(f"what batch {batch} said is not kept, or no more: fill in the form anew")
            newest = await listed.newest() if stored else None
            self._fill(text, form, name=f"batch {batch}", at=None if newest is None else newest.at)
            form.values["queue"] = queue if queue != self._queue else ""
            if newest is not None:
                async with aclosing(listed.called()) as parts:
                    rows = "".join([part async for part in parts]).encode()
                if len(rows) > LONGEST_FORM:
                    raise InvalidInputError(
                        f"batch {batch} is too large for this page: use `voiceflow enqueue --stored`"
                    )
                upload = await self._uploads.keep(rows, name=newest.name, owner=session.id, batch=batch)
                form.values |= {"batch": batch, "upload": upload.id, "replace": YES, "step": "hours"}
                told = f"These are the people of batch {batch}: what you change replaces the calls that wait."
                with uploading() as folder:
                    kept = await self._kept(PageForm([]), form, session, folder)
                    return await self._page(form, session, told=told, kept=kept)
        except InvalidInputError as error:
            return await self._page(CampaignForm({}), session, said=message_of(error))
        told = f"This has the words, hours and voices of batch {batch}: choose the new file."
        return await self._page(form, session, told=told)

    async def answer(self, scope: Scope, receive: Receive, session: PageSession) -> Answer | ActionDone:
        """The next step of a form, the preview of the campaign, or the result of its start."""
        try:
            sent = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except FormRefusedError as error:
            return problem(403, "Nothing was enqueued", sentence(error), back=SECTION)
        return await self._answered(sent, session)

    async def _answered(self, sent: PageForm, session: PageSession) -> Answer | ActionDone:
        form = CampaignForm.opened(sent.one("campaign"), key=self._key)
        ZONE.set(zone_named(form.values.setdefault("zone", ZONE.get().key)) or ZONE.get())
        do, _, more = sent.one("do").partition(" ")
        step = do if do in STEPS else {"preview": "check", "start": "ready", "try": "ready"}.get(do, form.get("step"))
        form.values["step"] = "people" if do in {"look", "rows"} else step or "check"
        kept: InputFile | None = None
        with uploading() as folder:
            try:
                before = CampaignForm({**form.values})
                form.take(sent)
                form.values[PROPOSED] = form.get(PROPOSED) if form.get(LIST) == before.get(LIST) else ""
                self._load(sent, form)
                kept = await self._kept(sent, form, session, folder)
                if do in _REPAIRS:
                    form.values[do] = f"{form.get(do)},{more}".strip(",") if do in _LEAVING_OUT else more
                if do == "save":
                    return self._saved(form)
                if kept is None:
                    form.values |= dict.fromkeys(
                        ("leave_out_rows", "call_struck_rows", "upload"), ""
                    )  # another file has other people
                    said = "choose the file of the people to call: none was uploaded, or it has been deleted since"
                    return await self._page(form, session, said=said)
                form.values["rows_from"] = more if do == "rows" else form.get("rows_from")
                is_new = bool({"file", "saved"} & sent.files.keys())
                if is_new or any(form.get(name) != before.get(name) for name in ("sheet", "header_row")):
                    is_other = "file" in sent.files and bool(before.get("upload"))
                    await self._begin(form, kept, is_new=is_new, is_other=is_other)
                if form.get("step") in {"check", "ready"}:
                    return await self._previewed(form, before, session, kept, f"{do} {more}".strip())
                return await self._page(form, session, kept=kept, more=more)
            except (InvalidInputError, ActionRefusedError) as error:
                form.values["step"] = _step_of(error) or form.get("step").replace("ready", "check")
                return await self._page(form, session, said=message_of(error), kept=kept)

    async def _begin(self, form: CampaignForm, kept: InputFile, *, is_new: bool, is_other: bool) -> None:
        """Begin with a file, a sheet or a header: what is certain about it is filled in, where the form is empty.

        If it `is_other` than the file before, what was said of the columns of that one alone is forgotten.
        """
        form.values |= dict.fromkeys(("leave_out_rows", "call_struck_rows", "rows_from", LIST, PROPOSED), "")
        if is_other:
            form.values["header_row"] = ""
        found, is_of_another = None, is_new and bool(form.get("header_row"))
        try:
            found = await self._found(form, kept)
        except CampaignFileError:
            if not is_of_another:
                raise
        if found is None or (is_of_another and len(found.columns) == 1):  # a title
            form.values["header_row"] = ""
            found = await self._found(form, kept)
        if is_other:
            form.keep_columns(each.name for each in found.columns)
        form.values["header_row"] = form.get("header_row") or str(found.header_row or "")
        form.values["leave_out_rows"] = found.struck
        named, is_said = form.roles.as_table(), bool(form.get("country"))
        for role, column in found.found.items():
            is_by_itself = role == DESTINATION == row_name(column)
            if not (role in named or form.role_of(column) or is_by_itself or (role == COUNTRY and is_said)):
                form.give_roles([(column, role)])
        if found.date_orders is not None and len(found.date_orders) == 1:
            form.values["date_order"] = form.get("date_order") or found.date_orders[0].value

    def _load(self, sent: PageForm, form: CampaignForm) -> None:
        """Fill in what a saved campaign says. No file is read, and no module imported."""
        name, content = sent.files.get("saved", ("", b""))
        if not content:
            return
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInputError("the saved campaign is not a text in UTF-8; save it again") from None
        self._fill(text, form, name=name or "the saved campaign")

    def _fill(self, text: str, form: CampaignForm, *, name: str, at: datetime | None = None) -> None:
        """Fill in what a TOML file of options says, or said `at` a time. Raises InvalidInputError."""
        found, menu = loaded_options(text, name=name, at=at, zone=ZONE.get().key)
        if lost := [each for each in found if each not in TEXTS]:
            raise InvalidInputError(f"this page has no field for {', '.join(lost)}: enqueue the file by the command")
        if "ivr" in found:
            name_of_menu = found["ivr"].rpartition(":")[2]
            if name_of_menu not in self._menus:
                known = ", ".join(self._menus) or "none"
                raise InvalidInputError(f"the menu {name_of_menu[:40]!r} is not one of this receiver; it has {known}")
            found["ivr"] = name_of_menu
        if menu is not None:
            read = read_menu(menu, voice_profile=found.get("voice_profile", "any"))
            languages = orjson.loads(read.definition or "{}").get("languages", [])
            form.values |= fields_of_menu({**menu, "languages": languages})
        form.values |= found

    async def _kept(self, sent: PageForm, form: CampaignForm, session: PageSession, folder: Path) -> InputFile | None:
        """The file of people that comes with the form, or that it names, in a folder."""
        upload: Upload | None
        content: bytes | None = None
        if "file" in sent.files:
            name, content = sent.files["file"]
            upload = await self._uploads.keep(content, name=plain_name(name), owner=session.id)
        elif (upload := await self._uploads.find(form.get("upload"), owner=session.id)) is not None:
            content = await self._uploads.content(upload)
        if upload is None or content is None:
            form.values["upload"] = ""
            return None
        form.values["upload"] = upload.id
        path = folder / (upload.name if upload.batch is None else "rows.jsonl")
        await anyio.Path(path).write_bytes(content)
        shown = upload.name if upload.batch is None else f"batch {upload.batch}"
        return InputFile(path, shown=shown, stands_for=upload.batch and upload.name)

    async def _found(self, form: CampaignForm, kept: InputFile, *, checks: bool = False) -> FoundColumns:
        """The columns of the file; with `checks`, with what is wrong with the rows that are shown."""
        try:
            header_row = row(form.get("header_row")) if form.get("header_row") else None
        except ValueError as error:
            raise InvalidInputError(f"{label_of('header_row')}: {error}") from None
        place = form.get("rows_from")
        skipped = int(place) if place.isdecimal() and len(place) < _DIGITS else 0
        options: CampaignOptions | None = None
        with suppress(InvalidInputError):  # which the check tells
            options = self._read(form, kept, only=Group.WHO).options if checks else None
            options = options and replace(options, leave_out=None, only=None)  # whose values are to be counted too
        look_at = (kept, form.get("sheet") or None, header_row)
        return await self._process.run(look, *look_at, skipped=skipped, options=options)

    def _saved(self, form: CampaignForm) -> Response:
        content = saved_options({name: form.get(name) for name in FIELDS}, menu_in(form.values))
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", form.get("batch")).strip("-") or "campaign"
        return Response(
            content,
            headers={
                "Content-Type": "application/toml; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{name}.toml"',
            },
        )

    async def _with_recordings(self, report: EnqueueReport) -> EnqueueReport:
        """The report with its recordings fetched, if they are few."""
        preview = report.preview
        if preview is None or len(preview.files) > MOST_RECORDINGS:
            return report
        network, sandbox = Network.of(self._settings), self._settings.calls_a_sandbox
        preview, found = await with_recordings(preview, network=network, file=None, private=sandbox)
        return replace(report, preview=preview, findings=(*report.findings, *found))

    async def _previewed(
        self, form: CampaignForm, before: CampaignForm, session: PageSession, kept: InputFile, do: str
    ) -> Answer | ActionDone:
        name = form.get("queue") or self._queue
        self._operator.queue(name)
        campaign, policy = self._campaign(form, kept), self._operator.policy
        said, told = "", ""
        if do.startswith("start"):
            changed = [name for name in FIELDS if form.part(name) != before.part(name) and name not in TICKS]
            shown = before.get("version")
            if do == "start skip_bad":  # as its button says
                form.values["skip_bad"] = YES
                campaign = self._campaign(form, kept)
            if changed or not shown:
                what = ", ".join(map(label_of, changed)) if shown else "everything: there was no preview"
                said = f"changed since the preview: {what}. Check the preview below, then start"
            else:
                done = await self._started(campaign, name, shown, session)
                if isinstance(done, ActionDone):
                    return done
                said = done
        report = await self._process.run_on(campaign.preview, name, policy=policy)
        if form.proposes(COUNTS if Choice.of(report).is_safe else ""):
            campaign = self._campaign(form, kept)
            report = await self._process.run_on(campaign.preview, name, policy=policy)
        report = await self._with_recordings(report)
        form.values |= {"version": report.version, "step": "check" if said else form.get("step")}
        if do == "try":
            try:
                told = await self._tried(form.get("number"), campaign, kept, queue_name=name, by=_actor(session))
            except (InvalidInputError, ActionRefusedError) as error:
                said = message_of(error)
        return await self._page(form, session, said=said, told=told, kept=kept, report=report, campaign=campaign)

    async def _started(self, campaign: Campaign, queue: str, shown: str, session: PageSession) -> ActionDone | str:
        """Start a campaign as its preview has shown it; else why it was not started."""
        by, policy = _actor(session), self._operator.policy
        try:
            done = await self._process.run_on(campaign.start, queue, policy=policy, by=by, expected_version=shown)
        except ChangedSinceError as error:
            return str(error)
        except RowsRefusedError as error:
            return f"nothing was enqueued: {why_refused(error.report)}"
        _log.info("somebody began a campaign", name=session.name, batch=done.batch_id, enqueued=done.enqueued)
        where = PageForm([("batch", done.batch_id), ("queue", queue)])
        ended = [str(each.message) for each in done.findings if each.told.kind in {"ended", "ended_or_cancelled"}]
        more = [f"{count} {what}" for count, what in ((done.replaced, "changed"), (done.removed, "cancelled")) if count]
        return ActionDone("; ".join([f"{count_of(done.enqueued, 'call')} enqueued", *more, *ended]), page_of(where))

    def _campaign(self, form: CampaignForm, kept: InputFile) -> Campaign:
        """The campaign in a form. Raises InvalidInputError, with the labels of the form."""
        step, form.values["step"] = form.get("step"), "words"
        menu = menu_in(form.values)
        if not form.get("ivr") and not form.get("say") and menu is None:
            raise InvalidInputError("write the text to say, ask a question, or choose a menu")
        if menu is not None and form.get("menu"):
            raise InvalidInputError("ask questions, or name a menu that another receiver answers with, not both")
        campaign = self._read(form, kept, menu=menu)
        form.values["step"] = step
        only_new = form.get(LIST) == ONLY_NEW
        return replace(campaign.without_handlers(), only_new=only_new, needs_hours=True)

    def _read(
        self,
        form: CampaignForm,
        kept: InputFile,
        *,
        menu: Mapping[str, object] | None = None,
        only: Group | None = None,
    ) -> Campaign:
        """The campaign with the fields of a form, or with those of one group. Raises InvalidInputError."""
        names = [name for name, each in FIELDS.items() if only in {None, each.group} and name not in UPLOADS]
        given: dict[str, object] = {name: form.get(name) or None for name in names}
        if form.get(LIST) == COUNTS:
            given |= {"replace": YES, "remove_missing": YES}
        given |= {"file": kept, **({"menu": menu} if menu else {})}
        return Campaign.of(
            given,
            settings=self._settings,
            menus=self._menus,
            now=self._operator.store.clock.now(),
            named=label_of,
            foreign=True,
            zone=ZONE.get(),
        )

    async def _tried(self, own: str, campaign: Campaign, kept: InputFile, *, queue_name: str, by: Actor) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        now = self._operator.store.clock.now()
        options = replace(campaign.options, not_before=None, window=None)
        call = await self._process.run(_first_call, kept, options)
        if call is None:
            raise InvalidInputError("no row of the file can be called; correct it first")
        number = read_number(own, campaign.options.country or country_of(call.destination))
        body = orjson.loads(call.body)
        body["callflow"][0]["params"]["destination"] = number.e164
        body.pop("validUntil", None)
        batch_id = f"{(call.batch_id or kept.stem or 'campaign')[:40]}-trial"
        request = CallRequest(
            CallFlow.parse(body),
            unique_key=f"{TRIAL}{token_urlsafe(9)}",
            batch_id=batch_id,
            valid_until=now + _TRIAL_LASTS,
            time_zone=call.time_zone or zone_of_number(call.destination).zone,  # as the first row's person hears it
            data=call.data,
            menu=call.menu,
        )
        if puts := menu_puts(campaign.options):
            await self._operator.store.write(BulkWrite(writes=(Write(puts=puts),)), now=now)
        async with self._operator.queue(queue_name).ordered(by) as queue:
            await queue.enqueue_many([request])
        told = f"{number.e164} is called with the text of the first row, within ten minutes if a worker runs."
        return " ".join([told, *await active_holds(self._operator.store, queue_name, batch_id)])

    async def _page(
        self,
        form: CampaignForm,
        session: PageSession,
        *,
        said: str = "",
        told: str = "",
        kept: InputFile | None = None,
        more: str = "",
        report: EnqueueReport | None = None,
        campaign: Campaign | None = None,
    ) -> Page:
        step, found, wrong = form.get("step") or "people", FoundColumns(), ""
        now = self._operator.store.clock.now()
        if kept is not None and step in {"people", "words", "check"} and more != "hear":  # which asks for texts alone
            try:
                found = await self._found(form, kept, checks=step == "people")
            except InvalidInputError as error:
                said = said or message_of(error)
                with suppress(InvalidInputError):  # to choose another sheet
                    found = FoundColumns(sheets=(await self._process.run(look, kept, None)).sheets)
        if kept is not None and step == "words" and form.get("say") + form.get("ivr"):
            report, wrong = await self._spoken(form, kept)
        asked = {name: value for name, value in form.values.items() if name.startswith(PREFIX)}
        menu_form = shown_questions(asked, more)
        asked[f"{PREFIX}languages"] = ", ".join(filter(None, menu_form.languages))
        findings = _by_cause(report.findings) if report is not None else []
        lists = {"numbers": (), **await self._account.lists(), **_offered()} if kept is not None else {}
        shown = {
            "state": form.signed(key=self._key),
            "form": {name: (form.shown if name in FILTERS else form.get)(name) for name in TEXTS} | asked,
            "shows": form.shown,
            "tick_of": tick_name,
            "left_out": partial(form.why_left_out, [each.name for each in found.columns]),
            "now": now,
            "menu_form": menu_form,
            "menus": list(self._menus),
            "fields": FIELDS,
            "further": _MORE[step],
            "queue": self._queue,
            "step": step,
            "steps": STEPS,
            "rows_a_page": ROWS_A_PAGE,
            "token": session.token,
            "said": said,
            "done": told,
            "has_file": kept is not None,
            "file_name": str(kept) if kept is not None else "",
            "found": found,
            "roles": {role: role_in_words(role) for role in ROLE_WORDS},
            "lists": lists,
            "waits": [(each, span(read_duration(each))) for each in _WAITS],
            "zone_of_times": form.get("time_zone") or ZONE.get().key,
            "days": [(name, name.title()) for name in DAYS],
            "repairs": self._repairs(form, found, report, lists) if report and step == "check" else [],
            "report": report,
            "choice": Choice.of(report) if report and not form.get("replace") else None,
            "heard": heard_in(report.preview) if report and report.preview else [],
            "wrong": wrong,
            "button": button_of(report, form) if report else None,
            "in_short": in_short(report, form, campaign, now=now) if report and campaign else "",
            "findings": findings[:_MOST_FINDINGS],
            "more": sum(len(each) for each, _ in findings[_MOST_FINDINGS:]),
        }
        return Page(template="campaign.html", shown=shown, status=409 if said else 200, headers=_KEPT_FOR_BACK)

    async def _spoken(self, form: CampaignForm, kept: InputFile) -> tuple[EnqueueReport | None, str]:
        """The preview of what people hear; else why there is none."""
        try:
            campaign = self._campaign(form, kept)
            return await self._process.run_on(campaign.preview, self._queue, policy=self._operator.policy), ""
        except InvalidInputError as error:
            return None, message_of(error)

    def _repairs(
        self,
        form: CampaignForm,
        found: FoundColumns,
        report: EnqueueReport,
        lists: Mapping[str, Sequence[tuple[str, str]]],
    ) -> list[tuple[str, str]]:
        """What one button repairs: a field with its value, and the words of the button."""
        first = {each.name: each.first for each in found.columns}
        lacking = [each.column for each in report.findings if each.is_error and each.told.kind == "no_country"]
        numbers = [number for column in dict.fromkeys(lacking) for number in first.get(column or "", ())]
        repairs: list[tuple[str, str]] = []
        if numbers and (country := _country_of(numbers, form.get("source") or self._settings.source or "")):
            words = f"They are numbers of {countries().get(country, country)}"
            repairs.append((f"country {country}", words))
        named = form.roles.language
        spoken = {
            value for each in found.columns if each.name == named or each.variable == "language" for value in each.first
        }
        voice = form.get("voice_profile") or self._settings.voice_profile or ""
        if (
            menu_in(form.values) is None
            and not form.get("ivr")
            and spoken
            and all(at_odds(voice, each) for each in spoken)
        ):
            fitting = (code for code, _ in lists.get("voices", ()) if not any(at_odds(code, each) for each in spoken))
            if (code := next(fitting, None)) is not None:
                repairs.append((f"voice_profile {code}", f"Speak with {code}"))
        for name, remedy in _LEAVING_OUT.items():
            for given in dict.fromkeys(each.told.given.get(remedy) for each in report.findings):
                if not given:
                    continue
                parts = [each for each in given if isinstance(each, Filter)]
                value = text_of_parts(parts) if parts else given
                repairs.append((f"{name} {value}", f"{label_of(name)}: {text_of_parts(parts, typed=True) or given}"))
        return repairs


def _offered() -> dict[str, list[tuple[str, str]]]:
    """What people may take into fields: pairs of a value and its words."""
    names = countries()
    known = sorted(((code, names[code]) for code in SUPPORTED_REGIONS if code in names), key=itemgetter(1))
    return {"countries": [*known, (INTERNATIONAL, "their digits begin with the country code")]}


def _country_of(numbers: Sequence[str], source: str) -> str | None:
    """The country of which most of these are numbers: that of the source, or of the page's zone."""
    places: Mapping[str, str] = get_global("zone_territories")
    usual = (country_of(source), places.get(ZONE.get().key))
    counts = Counter[str]()
    for country in dict.fromkeys(filter(None, usual)):
        for each in numbers:
            with suppress(PhoneNumberError):
                counts[country] += bool(read_number(each, country))
    found, count = next(iter(counts.most_common(1)), (None, 0))
    return found if 2 * count >= len(numbers) else None


def _actor(session: PageSession) -> Actor:
    return Actor(on=Interface.PAGES, name=session.name, login=session.login)


def _step_of(error: Exception) -> str | None:
    """The step of the form that has the first error."""
    wrong = {found.column for found in error.findings} if isinstance(error, InvalidInputError) else set[str | None]()
    if isinstance(error, CampaignFileError):  # of the columns that it names, a text speaks those that the file lacks
        return "words" if wrong - {None} else "people"
    steps = (STEP_OF[name] for name in FIELDS if label_of(name) in wrong)
    return next(steps, None)


def _by_cause(findings: Sequence[Finding]) -> list[tuple[list[Finding], str]]:
    """Findings by their causes, errors first; and the rows of each cause."""
    found: dict[object, list[Finding]] = {}
    for each in sorted(findings, key=lambda each: not each.is_error):
        found.setdefault((each.severity, each.column, each.told.cause), []).append(each)
    rows = ([each.row for each in alike if each.row is not None] for alike in found.values())
    return list(zip(found.values(), (ranges_text(sorted(set(each)), most=_MOST_RANGES) for each in rows), strict=True))


async def _first_call(store: Store, file: InputFile, options: CampaignOptions) -> CheckedCall | None:
    """The call of the first row that can be called."""
    opened = open_campaign(file, options, now=store.clock.now())
    return next((row.call for row in opened if row.call is not None), None)
