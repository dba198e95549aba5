"""The page `/ui/campaign`: a file of people is uploaded, looked at, previewed, tried on one's own phone, and called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, cast

import anyio
import orjson
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.actions import ActionRefusedError, Operator, active_holds
from voiceflow_worker.campaigns.called_before import TRIAL
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import menu_puts
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.fields import WHEN
from voiceflow_worker.campaigns.lists.columns import COUNTRY, DESTINATION, row_name
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.options_file import loaded_options, saved_options
from voiceflow_worker.console.acting import ActionDone, page_of
from voiceflow_worker.console.campaign_steps import CampaignSteps, StepInput, faults_of, step_of, texts_of
from voiceflow_worker.console.form import (
    COUNTS,
    FIELDS,
    LIST,
    PARTS,
    PROPOSED,
    STEPS,
    TEXTS,
    TICKS,
    YES,
    CampaignForm,
)
from voiceflow_worker.console.formats import ZONE, label_of, moment
from voiceflow_worker.console.questions import fields_of_menu, menu_in
from voiceflow_worker.console.routes.page import Answer, Page, problem, sentence
from voiceflow_worker.console.sessions import (
    CAMPAIGN,
    FormRefusedError,
    OtherSignInError,
    PageForm,
    PageSession,
    checked_form,
)
from voiceflow_worker.console.start_words import Choice, why_refused
from voiceflow_worker.core.admission import CallRequest, CheckedCall
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.errors import CampaignFileError, ChangedSinceError, InvalidInputError
from voiceflow_worker.finding import message_of
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.zones import zone_named
from voiceflow_worker.service.other_process import OtherProcess
from voiceflow_worker.service.uploads import Upload, Uploads, plain_name, uploading

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

LONGEST_FORM = 20_000_000
"""The largest form in bytes, with its files. A larger file is enqueued by the command."""
_TRIAL_LASTS = timedelta(minutes=10)
_STARTED_FOR = timedelta(days=1)
"""How long a form that was started is known as such."""

_log = structlog.get_logger("voiceflow.console")

_KEPT_FOR_BACK = {"Cache-Control": "private, no-cache"}
"""The browser keeps this page for its back button alone, so that what was typed is there again."""
_PLACES = {step: place for place, step in enumerate(STEPS)}
_FILLED_IN = ("people", "words", "hours")
"""The steps that a person fills in; what is wrong with one is told before the next."""
_REPAIRS = ("country", "date_order", "voice_profile", "leave_out")
"""The fields that one button fills in, or adds to."""


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
        self._steps = CampaignSteps(operator, process, menus=self._menus, settings=settings)
        self._uploads = Uploads(operator.store)
        self._starts = text_records(operator.store, "campaign-form-started", keep_for=_STARTED_FOR)
        self._starting: dict[str, anyio.Lock] = {}
        """The forms that are being started, each until that has ended."""
        self._key = keyed_digest(operator.store.id, "the form of a campaign")

    async def open(self, session: PageSession) -> Page:
        """Return the form with the file alone."""
        return await self._page(CampaignForm({}), session)

    async def answer(self, scope: Scope, receive: Receive, session: PageSession) -> Answer | ActionDone:
        """The next step of a form, the preview of the campaign, or the result of its start."""
        try:
            sent = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except OtherSignInError as error:
            return await self.resumed(error.form, session)
        except FormRefusedError as error:
            return problem(403, "Nothing was enqueued", sentence(error), back=CAMPAIGN)
        return await self._answered(sent, session)

    async def resumed(self, sent: PageForm, session: PageSession) -> Page:
        """The step at which the sign-in of a person ended, with what she has typed; anybody else begins anew."""
        form = CampaignForm.opened(sent.one("campaign"), key=self._key)
        if form.get("owner") != session.owner:
            said = "that form was of another sign-in: begin anew"
            return replace(await self._page(CampaignForm({}), session, said=said), status=403)
        pressed = PageForm([*sent.but("do"), ("do", "" if form.get("upload") else "look")], files=sent.files)
        page = cast("Page", await self._stepped(pressed, session))  # none of these buttons starts or saves anything
        told = "you have signed in again: here is what you had typed, and nothing was started"
        return replace(page, shown={**page.shown, "done": told})

    async def _answered(self, sent: PageForm, session: PageSession) -> Answer | ActionDone:
        """The answer to a form. One that has been started, by another click or before, leads to its batch."""
        if not sent.one("do").startswith("start"):
            return await self._stepped(sent, session)
        key = keyed_digest(self._key, sent.one("campaign"))
        lock = self._starting.setdefault(key, anyio.Lock())
        try:
            async with lock:
                if (known := (await self._starts.get([key])).get(key)) is not None:
                    said, back = json.loads(known)
                    return ActionDone(said, back)
                done = await self._stepped(sent, session)
                if isinstance(done, ActionDone):
                    at = moment(self._operator.store.clock.now(), "said")
                    await self._starts.put({key: json.dumps([f"started at {at}: {done.message}", done.back])})
                return done
        finally:
            if not lock.statistics().tasks_waiting:
                self._starting.pop(key, None)

    async def _stepped(self, sent: PageForm, session: PageSession) -> Answer | ActionDone:
        form = CampaignForm.opened(sent.one("campaign"), key=self._key)
        ZONE.set(zone_named(form.values.setdefault("zone", ZONE.get().key)) or ZONE.get())
        do, _, more = sent.one("do").partition(" ")
        left = form.get("step")
        step = do if do in STEPS else {"preview": "check", "start": "ready", "try": "ready"}.get(do, left)
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
                    form.values[do] = f"{form.get(do)},{more}".strip(",") if do == "leave_out" else more
                if do == "save":
                    return self._saved(form)
                if kept is None:
                    form.values["upload"] = ""
                    said = "choose the file of the people to call: none was uploaded, or it has been deleted since"
                    return await self._page(form, session, said=said)
                form.values["rows_from"] = more if do == "rows" else form.get("rows_from")
                is_new = _has_list(sent) or "saved" in sent.files
                if is_new or any(form.get(name) != before.get(name) for name in ("sheet", "header_row", "encoding")):
                    is_other = _has_list(sent) and bool(before.get("upload"))
                    is_first = not any(before.get(name) for name in (*TEXTS, "upload")) and "saved" not in sent.files
                    if is_first and not any(map(form.get, WHEN)):
                        form.values["window"] = self._settings.window or ""
                    await self._begin(form, kept, is_new=is_new, is_other=is_other)
                elif do in STEPS and left in _FILLED_IN and _PLACES[left] < _PLACES[do]:
                    form.values["step"] = left
                    faults = await self._steps.faults(left, StepInput(form=form, kept=kept))
                    if faults:
                        return await self._page(form, session, kept=kept, faults=faults)
                    form.values["step"] = do
                if form.get("step") in {"check", "ready"}:
                    anew = do not in STEPS or do == left
                    return await self._previewed(form, before, session, kept, f"{do} {more}".strip(), anew=anew)
                return await self._page(form, session, kept=kept, more=more)
            except (InvalidInputError, ActionRefusedError) as error:
                faults = faults_of(error) if isinstance(error, InvalidInputError) else {}
                form.values["step"] = step_of(faults, error) or form.get("step").replace("ready", "check")
                return await self._page(form, session, said=message_of(error), kept=kept, faults=faults)

    async def _begin(self, form: CampaignForm, kept: InputFile, *, is_new: bool, is_other: bool) -> None:
        """Begin with a file, a sheet or a header: what is certain about it is filled in, where the form is empty.

        If it `is_other` than the file before, what was said of the columns of that one alone is forgotten.
        """
        form.values |= dict.fromkeys(("rows_from", LIST, PROPOSED), "")
        if is_other:
            form.values["header_row"] = form.values["encoding"] = ""
        found, is_of_another = None, is_new and bool(form.get("header_row"))
        try:
            found = await self._steps.found(form, kept)
        except CampaignFileError:
            if not is_of_another:
                raise
        if found is None or (is_of_another and len(found.columns) == 1):  # a title
            form.values["header_row"] = ""
            found = await self._steps.found(form, kept)
        if is_other:
            form.keep_columns(each.name for each in found.columns)
        named, is_said = form.roles.as_table(), bool(form.get("country"))
        for role, column in found.roles.items():
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

    def _fill(self, text: str, form: CampaignForm, *, name: str) -> None:
        """Fill in what a TOML file of options says. Raises InvalidInputError."""
        found, menu = loaded_options(text, name=name)
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
        if _has_list(sent):
            now = self._operator.store.clock.now().astimezone(ZONE.get())
            pasted = f"{sent.one('list_name') or f'list-{now:%Y-%m-%d-%H%M}'}.csv", sent.exactly("pasted").encode()
            name, content = sent.files.get("file", pasted)
            upload = await self._uploads.keep(content, name=plain_name(name), owner=session.owner)
        elif (upload := await self._uploads.find(form.get("upload"), owner=session.owner)) is not None:
            content = await self._uploads.content(upload)
        if upload is None or content is None:
            form.values["upload"] = ""
            return None
        form.values["upload"] = upload.id
        path = folder / upload.name
        await anyio.Path(path).write_bytes(content)
        return InputFile(path, shown=upload.name)

    def _saved(self, form: CampaignForm) -> Response:
        content = saved_options({name: form.get(name) for name in FIELDS}, menu_in(form.values))
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", form.get("batch")).strip("-") or "campaign"
        as_file = {"Content-Disposition": f'attachment; filename="{name}.toml"'}
        return Response(content, headers={"Content-Type": "application/toml; charset=utf-8", **as_file})

    async def _previewed(
        self, form: CampaignForm, before: CampaignForm, session: PageSession, kept: InputFile, do: str, *, anew: bool
    ) -> Answer | ActionDone:
        name = form.get("queue") or self._queue
        self._operator.queue(name)
        campaign = self._steps.campaign(form, kept)
        said, told = "", ""
        if do.startswith("start"):
            changed = [name for name in FIELDS if form.part(name) != before.part(name) and name not in TICKS]
            shown = before.get("version")
            if do == "start skip_bad":  # as its button says
                form.values["skip_bad"] = YES
                campaign = self._steps.campaign(form, kept)
            if changed or not shown:
                what = ", ".join(map(label_of, changed)) if shown else "everything: there was no preview"
                said = f"changed since the preview: {what}. Check the preview below, then start"
            else:
                done = await self._started(campaign, name, shown, session)
                if isinstance(done, ActionDone):
                    return done
                said = done
        report = await self._steps.preview(campaign, form, name, anew=anew)
        if form.proposes(COUNTS if Choice.of(report).is_safe else ""):
            campaign = self._steps.campaign(form, kept)
            report = await self._steps.preview(campaign, form, name, anew=anew)
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

    async def _tried(self, own: str, campaign: Campaign, kept: InputFile, *, queue_name: str, by: Actor) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        now = self._operator.store.clock.now()
        options = replace(campaign.options, not_before=None, window=None)
        call = await self._process.run(_first_call, kept, options)
        if call is None:
            raise InvalidInputError("no row of the file can be called; correct it first")
        number = read_number(own, campaign.options.country or country_of(call.destination))
        body = orjson.loads(call.body)
        body["callflow"][0]["params"]["destination"] = number
        body.pop("validUntil", None)
        batch_id = f"{(call.batch_id or kept.stem or 'campaign')[:40]}-trial"
        request = CallRequest(
            CallFlow.parse(body),
            unique_key=f"{TRIAL}{token_urlsafe(9)}",
            batch=batch_id,
            valid_until=now + _TRIAL_LASTS,
            time_zone=call.time_zone or zone_of_number(call.destination).zone,  # as the first row's person hears it
            data=call.data,
            menu=call.menu,
        )
        if puts := menu_puts(campaign.options):
            await self._operator.store.write(BulkWrite(writes=(Write(puts=puts),)), now=now)
        async with self._operator.queue(queue_name).ordered(by) as queue:
            await queue.enqueue_many([request])
        told = f"{number} is called with the text of the first row, within ten minutes if a worker runs."
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
        faults: Mapping[str, str] | None = None,
        report: EnqueueReport | None = None,
        campaign: Campaign | None = None,
    ) -> Page:
        """The page of a step, or that of the upload if there is no file."""
        form.values["owner"] = session.owner
        step, faults = form.get("step") or "people", {**(faults or {})}
        names: Mapping[str, object] = {}
        if kept is not None:
            given = StepInput(form=form, kept=kept, more=more, faults=faults, report=report, campaign=campaign)
            names = await self._steps.shown(step, given)
        said = said or faults.pop("", "")
        shown = {
            "state": form.signed(key=self._key),
            "form": texts_of(form),
            "shows": form.shown,
            "fields": FIELDS,
            "steps": STEPS,
            "step": step if kept is not None else "upload",
            "token": session.token,
            "said": said,
            "done": told,
            "faults": faults,
            "parted": [*PARTS, "source", "voice_profile"],
            "file_name": str(kept or ""),
            **names,
        }
        template = f"{shown['step']}.html"
        status = 409 if said or faults else 200
        return Page(template=template, shown=shown, status=status, headers=_KEPT_FOR_BACK)


def _has_list(sent: PageForm) -> bool:
    """Whether a form brings a list of people: a file, or what was pasted."""
    return "file" in sent.files or bool(sent.one("pasted"))


def _actor(session: PageSession) -> Actor:
    return Actor(on=Interface.PAGES, name=session.name, login=session.login)


async def _first_call(store: Store, file: InputFile, options: CampaignOptions) -> CheckedCall | None:
    """The call of the first row that can be called."""
    opened = open_campaign(file, options, now=store.clock.now())
    return next((row.call for row in opened if row.call is not None), None)
