"""The page `/ui/campaign`: a file of people is uploaded, looked at, previewed, tried on one's own phone, and called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import unquote

import anyio
import orjson
import structlog
from babel.core import get_global
from phonenumbers import SUPPORTED_REGIONS
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.actions import ActionRefusedError, Operator, active_holds
from voiceflow_worker.campaigns.called_before import TRIAL
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import menu_puts
from voiceflow_worker.campaigns.calls.values import range_text
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import DESTINATION, NO_ROLES, ColumnRoles, row_name
from voiceflow_worker.campaigns.files.spreadsheet import in_ranges
from voiceflow_worker.campaigns.options_file import loaded_options, saved_options
from voiceflow_worker.campaigns.preview import Preview
from voiceflow_worker.campaigns.reading import Group, Of, row, row_ranges
from voiceflow_worker.campaigns.recordings import hear
from voiceflow_worker.campaigns.row_list import RowList
from voiceflow_worker.console.acting import ActionDone, page_of
from voiceflow_worker.console.columns import FURTHER, ROWS_A_PAGE, TAKEN_FOR, FoundColumns, FoundRow, look
from voiceflow_worker.console.language import (
    LOCALE,
    ZONE,
    countries,
    moment,
    number,
    span,
    translated,
    translated_count,
)
from voiceflow_worker.console.questions import PREFIX, fields_of_menu, menu_in, shown_questions
from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sessions import FormRefusedError, PageForm, PageSession, checked_form
from voiceflow_worker.core.admission import CallRequest, CheckedCall
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.errors import (
    CampaignFileError,
    ChangedSinceError,
    InvalidInputError,
    MissingExtraError,
    PhoneNumberError,
    VoiceflowError,
)
from voiceflow_worker.finding import Finding, Message, message_of
from voiceflow_worker.gateway.client import TIMEOUT, VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.ivr.rehearsal import Chart
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.reading import read_number
from voiceflow_worker.model.text.names_of_the_world import VOICES, at_odds
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, count_of
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.service.other_process import OtherProcess
from voiceflow_worker.service.uploads import FOUND, KEPT_FOR, Upload, Uploads, plain_name, uploading

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


_OF_PAGE = {name: each for name, each in fields_of(Of.CAMPAIGN).items() if each.label}
"""The fields of a campaign that the page has. Its template draws some itself: the words, and the files."""
_DRAWN = frozenset({"columns", "file", "header_row", "ivr", "leave_out_rows", "menu", "prices", "say", "sheet"})
_STEPS = {"people": "People", "words": "Words", "hours": "Hours", "check": "Check", "ready": "Start"}
"""The steps of the form, in their order."""
_STEP_OF = {Group.WHO: "people", Group.TEXT: "words"}
"""The steps with the fields of these groups. Those of the others are in that of the hours."""
_DIGITS = 9
"""The digits that the number of a row is shorter than."""
_SHOWN_ROW, _CALLED_ROW = "shown row ", "call row "
"""The prefixes of what a row was when it was shown, called or not, and of its box, which is ticked if it is called."""
_VALUES = re.compile(r"'[^']*'|\+?\d+")
"""What is different in findings with the same cause."""
_TAKEN, _IGNORED = "taken ", "-"
"""The prefix of the choices what a column is taken for, by its name in percent-encoding, because browsers change quotes
and line breaks in the names of fields; and the choice not to read it."""
_SECTIONS = {
    group.name.lower(): [each for name, each in _OF_PAGE.items() if each.group is group and name not in _DRAWN]
    for group in Group
}
_LABELS = {name: each.label for name, each in _OF_PAGE.items()}
_KEPT_FOR_BACK = {"Cache-Control": "private, no-cache"}
"""The browser keeps this page for its back button alone, so that what was typed is there again."""
_UPLOADS = {"file": "upload", "prices": "price_list"}
"""The fields of files that are kept between two forms, each with the field that then names it."""
_TICKS = ("skip_bad", "again")
"""What answers the findings of a preview: it may be ticked between a preview and the start."""
_REPAIRS = ("country", "voice_profile")
"""The fields that one button of the check fills in."""
_TEXTS = (*(name for name in _LABELS if name not in _UPLOADS), "queue")
_LABELS_SEEN = {**_LABELS, "queue": "Queue"}


class _Kept(NamedTuple):
    """The files of a form, as this request has them: the people's, and the price list, if there is one.

    The people's is the `upload`; `prices_seen` is the digest of the price list.
    """

    file: InputFile
    upload: Upload
    prices: InputFile | None
    prices_seen: str


_DOCUMENTED = {"voices": [(code, f"{language}, {gender}") for code, _, language, gender in VOICES]}


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
            "voices": [(v.code, ", ".join(filter(None, [v.language or v.locale, v.gender]))) for v in voices],
            "numbers": [(f"+{n.msisdn.lstrip('+')}", ", ".join(filter(None, [n.country, n.status]))) for n in numbers],
        }


MOST_HEARD = 20
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
        self._columns = json_records(operator.store, FOUND, FoundColumns, keep_for=KEPT_FOR, durable=False)

    async def open(self, asked: PageRequest, session: PageSession) -> Page:
        """The form with the file alone; with `?batch=&queue=`, with what a campaign said that made a batch."""
        values: dict[str, str] = {}
        batch, queue = asked.asked("batch"), asked.asked("queue") or DEFAULT_QUEUE
        if batch is None:
            return await self._page(values, session)
        try:
            self._operator.queue(queue)
            text = await RowList(self._operator.store, queue, batch).definition()
            if not text:
                raise InvalidInputError(f"what batch {batch} said is not kept, or no more: fill in the form anew")
            self._fill(text, values, name=f"batch {batch}")
        except InvalidInputError as error:
            return await self._page({}, session, said=message_of(error))
        values["queue"] = queue if queue != self._queue else ""
        told = translated("This has the words, hours and voices of batch %(batch)s: choose the new file.")
        return await self._page(values, session, told=told % {"batch": batch})

    async def answer(self, scope: Scope, receive: Receive, session: PageSession) -> Answer | ActionDone:
        """The columns of the file in a form, the preview of the campaign, or the result of its start."""
        try:
            form = await checked_form(scope, receive, session, longest=LONGEST_FORM)
        except FormRefusedError as error:
            if error.form is None:
                return problem(403, "Nothing was enqueued", sentence(error), back=SECTION)
            return replace(await self.ask(error.form, session, said=sentence(error)), status=403)
        return await self._answered(form, session)

    async def ask(self, typed: PageForm, session: PageSession, *, said: str = "") -> Page:
        """The form with what was typed in one of an earlier sign-in. Raises StoreError."""
        form = PageForm([*typed.but("do", "token"), ("do", "look")])
        page = cast("Page", await self._answered(form, session))
        said = said or (
            "your file is not kept over a sign-in: choose it again, with the rows to leave out, and you see all else "
            "that you have typed"
        )
        return replace(page, shown={**page.shown, "said": said})

    async def _answered(self, form: PageForm, session: PageSession) -> Answer | ActionDone:
        do, _, more = form.one("do").partition(" ")
        values = {
            name: form.one(name)
            for name in (*_TEXTS, *_TICKS, *_UPLOADS.values(), "number", "seen", "step", "rows_from")
        }
        if do == "rows":  # behind so many
            values["rows_from"], do, more = more, "look", ""
        values["step"] = do if do in _STEPS else values["step"]
        values["more"] = more if do == "look" else ""
        values["say"] = values["say"].replace("\r\n", "\n")
        values |= form.under(PREFIX)
        kept: _Kept | None = None
        found: FoundColumns | None = None
        with uploading() as folder:
            try:
                self._load(form, values)
                kept = await self._kept(form, values, session, folder)
                if "saved" not in form.files:  # which says itself what columns are
                    _take_choices(form, values)
                    _take_ticks(form, values)
                if do in _REPAIRS:
                    values[do] = more
                if do == "save":
                    return self._saved(values)
                if kept is None:
                    values["leave_out_rows"] = ""  # which another file may have other people in
                    said = "choose the file of the people to call: none was uploaded, or it has been deleted since"
                    return await self._page(values, session, said=said)
                is_other = "file" in form.files or values["sheet"] != form.one("shown_sheet")
                if is_other and form.one("upload"):  # what was said of the rows before
                    values |= {"leave_out_rows": "", "header_row": "", "rows_from": ""}
                if "saved" in form.files and values["header_row"]:  # which was that of another file
                    with suppress(CampaignFileError):
                        await self._found(kept, values)
                found = await self._found(kept, values)
                if is_other and not values["leave_out_rows"]:
                    values["leave_out_rows"] = ",".join(str(row.number) for row in found.rows if row.is_struck)
                if "file" in form.files and form.under(_TAKEN):  # which was chosen for the file before
                    _keep_choices(values, {row_name(each.name) for each in found.columns})
                if do in {"look", "words", "hours"} or not found.columns:
                    return await self._page(values, session, kept=kept, found=found)
                return await self._previewed(values, session, kept, found, do)
            except (InvalidInputError, ActionRefusedError) as error:
                values["step"] = _step_of(error, values)
                return await self._page(values, session, said=message_of(error), kept=kept, found=found)

    def _load(self, form: PageForm, values: dict[str, str]) -> None:
        """Fill in what a saved campaign says. No file is read, and no module imported."""
        name, content = form.files.get("saved", ("", b""))
        if not content:
            return
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInputError("the saved campaign is not a text in UTF-8; save it again") from None
        self._fill(text, values, name=name or "the saved campaign")

    def _fill(self, text: str, values: dict[str, str], *, name: str) -> None:
        """Fill in what a TOML file of options says. Raises InvalidInputError."""
        found, menu = loaded_options(text, name=name)
        if lost := [each for each in found if each not in _TEXTS]:
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
            values |= fields_of_menu({**menu, "languages": languages})
        values |= found

    async def _kept(self, form: PageForm, values: dict[str, str], session: PageSession, folder: Path) -> _Kept | None:
        """The files that come with the form, or that it names, in a folder. None without a file of people."""
        found: dict[str, tuple[InputFile, Upload]] = {}
        for sent, named in _UPLOADS.items():
            upload: Upload | None
            content: bytes | None
            if sent in form.files:
                name, content = form.files[sent]
                upload = await self._uploads.keep(content, name=plain_name(name), owner=session.id)
            elif (before := await self._uploads.find(values[named], owner=session.id)) is not None:
                upload, content = before, await self._uploads.content(before)
            else:
                upload, content = None, None
            values[named] = ""
            if upload is not None and content is not None:
                path = folder / sent / upload.name
                await anyio.Path(path.parent).mkdir()
                await anyio.Path(path).write_bytes(content)
                shown = upload.name if sent == "file" else "the price list"
                found[sent], values[named] = (InputFile(path, shown=shown), upload), upload.id
        if "file" not in found:
            return None
        prices, table = found.get("prices", (None, None))
        return _Kept(*found["file"], prices, "" if table is None else table.digest)

    async def _found(self, kept: _Kept, values: dict[str, str]) -> FoundColumns:
        """The columns of the file. What is certain about them is filled in, where the form is empty."""
        skipped = int(place) if (place := values["rows_from"]).isdecimal() and len(place) < _DIGITS else 0
        key = f"sheet {values['sheet']} {values['header_row']} {skipped}"
        columns = self._columns.within(kept.upload.id)
        found = (await columns.get([key])).get(key)
        if found is None:
            try:
                header_row = row(values["header_row"]) if values["header_row"] else None
            except ValueError as error:
                raise InvalidInputError(f"{_LABELS['header_row']}: {error}") from None
            values["header_row"] = ""  # so that a wrong one can be mended
            found = await self._process.run(look, kept.file, values["sheet"] or None, header_row, skipped=skipped)
            values["header_row"] = str(header_row or "")
            await columns.put({key: found})
        roles = _roles(values["columns"])
        values["header_row"] = values["header_row"] or str(found.header_row or "")
        if not roles.numbers and found.numbers is not None and row_name(found.numbers) != DESTINATION:
            roles = replace(roles, numbers=(found.numbers,))
        if not values["country"] and roles.country is None:
            roles = replace(roles, country=found.countries)
        values["columns"] = roles.as_text()
        if found.date_orders is not None and len(found.date_orders) == 1:
            values["date_order"] = values["date_order"] or found.date_orders[0].value
        return found

    def _saved(self, values: Mapping[str, str]) -> Response:
        content = saved_options({name: values[name] for name in _TEXTS if name != "queue"}, menu_in(values))
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", values["batch"]).strip("-") or "campaign"
        return Response(
            content,
            headers={
                "Content-Type": "application/toml; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{name}.toml"',
            },
        )

    async def _heard(self, report: EnqueueReport) -> EnqueueReport:
        """The report with its recordings fetched and heard, if they are few and this receiver can decode them."""
        preview = report.preview
        if preview is None or len(preview.files) > MOST_HEARD:
            return report
        network, sandbox = Network.of(self._settings), self._settings.calls_a_sandbox
        try:
            heard, found = await hear(preview, network=network, file=None, private=sandbox)
        except MissingExtraError as error:
            _log.info("recordings are not checked", reason=str(error))
            return report
        return replace(report, preview=heard, findings=(*report.findings, *found))

    async def _previewed(
        self, values: dict[str, str], session: PageSession, kept: _Kept, found: FoundColumns, do: str
    ) -> Answer | ActionDone:
        name = values["queue"] or self._queue
        self._operator.queue(name)
        campaign, policy = self._campaign(values, kept), self._operator.policy
        before = values.pop("seen")
        values["step"] = "ready" if do in {"try", "ready"} else "check"
        changed = _changed(before, seen := _seen(values, kept))
        said, told = "", ""
        report: EnqueueReport | None = None
        if do == "start" and not changed:
            shown = _shown_in(before)
            try:
                by = _actor(session)
                done = await self._process.run_on(campaign.start, name, policy=policy, by=by, expected_version=shown)
            except ChangedSinceError as error:
                done, said = None, str(error)
            if done is not None and not done.refused:
                _log.info("somebody began a campaign", name=session.name, batch=done.batch_id, enqueued=done.enqueued)
                where = PageForm([("batch", done.batch_id), ("queue", name)])
                kinds = {"ended", "ended_or_cancelled"}
                ended = [str(each.message) for each in done.findings if each.told.kind in kinds]
                return ActionDone("; ".join([f"{count_of(done.enqueued, 'call')} enqueued", *ended]), page_of(where))
            if done is not None:
                said, report = f"nothing was enqueued: {_why_refused(done)}", done
        if report is None:
            report = await self._heard(await self._process.run_on(campaign.preview, name, policy=policy))
        if do == "try":
            told = await self._tried(values["number"], campaign, kept, queue_name=name, by=_actor(session))
        elif do == "start" and changed:
            said = f"changed since the preview: {changed}. Check the preview below, then start"
        return await self._page(
            values | {"seen": f"{seen} {_REPORT}:{report.version}"},
            session,
            said=said,
            told=told,
            kept=kept,
            found=found,
            report=report,
            in_short=_in_short(report.preview, campaign.options, now=self._operator.store.clock.now()),
        )

    def _campaign(self, values: dict[str, str], kept: _Kept) -> Campaign:
        """The campaign in a form. Raises InvalidInputError, with the labels of the form."""
        values["step"] = "words"
        menu = menu_in(values)
        if not values["ivr"] and not values["say"] and menu is None:
            raise InvalidInputError("write the text to say, ask a question, or choose a menu")
        given: dict[str, object] = {name: values[name] or None for name in (*_TEXTS, *_TICKS) if name != "queue"}
        if menu is not None and values["menu"]:
            raise InvalidInputError("ask questions, or name a menu that another receiver answers with, not both")
        if menu is not None:
            given["menu"] = menu
        campaign = Campaign.of(
            {**given, "file": kept.file, "prices": kept.prices},
            settings=self._settings,
            menus=self._menus,
            now=self._operator.store.clock.now(),
            named=lambda name: translated(_LABELS.get(name, name)),
            foreign=True,
            zone=ZONE.get(),
        )
        values["step"] = "check"
        return campaign.without_handlers()

    async def _tried(self, own: str, campaign: Campaign, kept: _Kept, *, queue_name: str, by: Actor) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        now = self._operator.store.clock.now()
        options = replace(campaign.options, not_before=None, window=None)
        call = await self._process.run(_first_call, kept.file, options)
        if call is None:
            raise InvalidInputError("no row of the file can be called; correct it first")
        number = read_number(own, campaign.options.country or country_of(call.destination))
        body = orjson.loads(call.body)
        body["callflow"][0]["params"]["destination"] = number.e164
        body.pop("validUntil", None)
        batch_id = f"{(call.batch_id or kept.file.stem or 'campaign')[:40]}-trial"
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
        values: Mapping[str, str],
        session: PageSession,
        *,
        said: str = "",
        told: str = "",
        kept: _Kept | None = None,
        found: FoundColumns | None = None,
        report: EnqueueReport | None = None,
        in_short: str = "",
    ) -> Page:
        findings = _by_cause(report.findings) if report is not None else []
        lists = {"numbers": (), **await self._account.lists(), **_offered()} if kept is not None else {}
        asked = {name: value for name, value in values.items() if name.startswith(PREFIX)}
        menu_form = shown_questions(asked, values.get("more", ""))
        asked[f"{PREFIX}languages"] = ", ".join(filter(None, menu_form.languages))
        taken: dict[str, str] = {}
        with suppress(InvalidInputError):  # which the page tells already
            taken = _taken_in(_roles(values.get("columns", "")))
        others = [(name, name) for name in taken.values() if name not in {*dict(TAKEN_FOR), _IGNORED}]
        shown = {
            "form": {name: values.get(name, "") for name in (*_TEXTS, *_TICKS, "number", "seen")} | asked,
            "menu_form": menu_form,
            "menus": list(self._menus),
            "chart": self._chart(values),
            "sections": _SECTIONS,
            "queue": self._queue,
            "step": values.get("step") or "people",
            "steps": _STEPS,
            "rows_a_page": ROWS_A_PAGE,
            "called": _called(found.rows if found else (), values.get("leave_out_rows", "")),
            "token": session.token,
            "said": said,
            "done": told,
            "uploads": {name: values[name] for name in _UPLOADS.values()} if kept is not None else {},
            "file_name": kept.file.name if kept is not None else "",
            "found": found,
            "taken": taken,
            "choices": (
                *((name, translated(words)) for name, words in TAKEN_FOR),
                *others,
                (_IGNORED, translated("nothing: it is not read")),
            ),
            "lists": lists,
            "repairs": self._repairs(values, found, report, lists) if found and report else [],
            "report": report,
            "in_short": in_short,
            "findings": findings[:_MOST_FINDINGS],
            "more": sum(len(each) for each, _ in findings[_MOST_FINDINGS:]),
        }
        return Page(template="campaign.html", shown=shown, status=409 if said else 200, headers=_KEPT_FOR_BACK)

    def _chart(self, values: Mapping[str, str]) -> Chart | None:
        """The menu of a form as a picture; None without one that can be read."""
        menu = self._menus.get(values.get("ivr", ""))
        with suppress(InvalidInputError):
            given = menu_in(values)
            menu = menu if given is None else read_menu(given, voice_profile="any")
            return None if menu is None else Chart.of(menu)
        return None

    def _repairs(
        self,
        values: Mapping[str, str],
        found: FoundColumns,
        report: EnqueueReport,
        lists: Mapping[str, Sequence[tuple[str, str]]],
    ) -> list[tuple[str, str]]:
        """What one button repairs: a field with its value, and the words of the button."""
        first = {each.name: each.first for each in found.columns}
        numbers = [
            number
            for column in dict.fromkeys(each.column for each in report.findings if _lacks_country(each))
            for number in first.get(column or "", ())
        ]
        repairs: list[tuple[str, str]] = []
        if numbers and (country := _country_of(numbers, values["source"] or self._settings.source or "")):
            words = translated("They are numbers of %(country)s") % {"country": countries().get(country, country)}
            repairs.append((f"country {country}", words))
        named = _roles(values["columns"]).language
        spoken = {
            value for each in found.columns if each.name == named or each.variable == "language" for value in each.first
        }
        voice = values["voice_profile"] or self._settings.voice_profile or ""
        if menu_in(values) is None and not values["ivr"] and spoken and all(at_odds(voice, each) for each in spoken):
            fitting = (code for code, _ in lists.get("voices", ()) if not any(at_odds(code, each) for each in spoken))
            if (code := next(fitting, None)) is not None:
                repairs.append((f"voice_profile {code}", translated("Speak with %(voice)s") % {"voice": code}))
        return repairs


def _in_short(preview: Preview | None, options: CampaignOptions, *, now: datetime) -> str:
    """A campaign before its start: how many people, from when on, until when, and how long it takes."""
    if preview is None or preview.course.first is None or preview.ends_at is None:
        return ""
    count, first = preview.calls, preview.course.first
    people = translated_count("%(number)s person", "%(number)s people", count) % {"number": number(count)}
    begin = translated("now") if first - now < timedelta(minutes=1) else moment(first, "said")
    until = options.valid_until if isinstance(options.valid_until, datetime) else None
    until = now + options.valid_for if options.valid_for is not None else until
    words = translated("%(people)s, %(begin)s until %(until)s, about %(time)s")
    if until is None:
        words = translated("%(people)s, %(begin)s, about %(time)s")
    lasts = span(preview.ends_at - first)
    return words % {"people": people, "begin": begin, "until": until and moment(until, "said"), "time": lasts}


def _offered() -> dict[str, list[tuple[str, str]]]:
    """What people may take into fields, in their language: pairs of a value and its words."""
    names = countries()
    return {
        "countries": sorted(((code, names[code]) for code in SUPPORTED_REGIONS if code in names), key=itemgetter(1)),
        "days": [
            ("mon-fri", translated("Monday to Friday")),
            ("mon-sat", translated("Monday to Saturday")),
            ("sat,sun", translated("Saturday and Sunday")),
        ],
        "outcomes": [
            ("busy,no_answer", translated("busy, or nobody answers")),
            ("busy", translated("busy")),
            ("no_answer", translated("no answer")),
            ("unreached", translated("nobody was reached, for any reason")),
        ],
    }


def _lacks_country(finding: Finding) -> bool:
    return finding.is_error and finding.told.kind == "no_country"


def _country_of(numbers: Sequence[str], source: str) -> str | None:
    """The country of which most of these are numbers: that of the source, of the page's zone, or of its language."""
    places: Mapping[str, str] = get_global("zone_territories")
    usual = (country_of(source), places.get(ZONE.get().key), LOCALE.get().territory)
    counts = Counter[str]()
    for country in dict.fromkeys(filter(None, usual)):
        for each in numbers:
            with suppress(PhoneNumberError):
                counts[country] += bool(read_number(each, country))
    found, count = next(iter(counts.most_common(1)), (None, 0))
    return found if 2 * count >= len(numbers) else None


def _actor(session: PageSession) -> Actor:
    return Actor(on=Interface.PAGES, name=session.name, login=session.login)


def _take_choices(form: PageForm, values: dict[str, str]) -> None:
    """Take what a person has chosen for columns into the fields that say so, in place of what these said of them.

    Raises InvalidInputError.
    """
    chosen = {unquote(name.removeprefix(_TAKEN)): taken for name, taken in form.under(_TAKEN).items()}
    if not chosen:
        return
    if (shown := form.under("shown_columns")) and values["columns"] not in shown.values():
        return  # a person has typed it, since it was shown
    kept, named = _roles(values["columns"]), set(map(row_name, chosen))
    before = _taken_in(kept)
    table: dict[str, list[str]] = {
        name: [each for each in _listed(columns) if row_name(each) not in named]
        for name, columns in kept.as_table().items()
    }
    several: dict[str, list[str]] = {FURTHER: [], _IGNORED: []}
    for column, name in chosen.items():
        if name in several:
            several[name].append(column)
        elif name:
            table.setdefault(name, []).append(column)
    for name, columns in table.items():
        new = [each for each in columns if before.get(row_name(each)) != name]
        if len(new) > 1:
            words = translated(dict(TAKEN_FOR).get(name, name))
            raise InvalidInputError(f"{new[0]} and {new[1]} are both taken for {words}")
        table[name] = new or columns  # what is chosen now goes before what was chosen or found
    table[DESTINATION] = [*table.get(DESTINATION, []), *several[FURTHER]]
    values["columns"] = ColumnRoles.of({**table, "ignore": several[_IGNORED]}).as_text()


def _listed(columns: str | Sequence[str]) -> Sequence[str]:
    return [columns] if isinstance(columns, str) else columns


def _taken_in(roles: ColumnRoles) -> dict[str, str]:
    """What the columns are taken for, by their names in rows."""
    taken = {DESTINATION: roles.numbers[:1], FURTHER: roles.numbers[1:], _IGNORED: roles.ignored}
    one = {"country": roles.country, "language": roles.language, **roles.names}
    found = {row_name(column): name for name, columns in taken.items() for column in columns}
    return found | {row_name(column): name for name, column in one.items() if column is not None}


def _keep_choices(values: dict[str, str], present: Collection[str]) -> None:
    """Keep what a person has chosen for these columns alone."""
    table = _roles(values["columns"]).as_table()
    kept = {name: [each for each in _listed(columns) if row_name(each) in present] for name, columns in table.items()}
    values["columns"] = ColumnRoles.of(kept).as_text()


def _take_ticks(form: PageForm, values: dict[str, str]) -> None:
    """Take the boxes of rows that a person has changed into the rows that are left out."""
    with suppress(ValueError):  # which is told when the campaign is read
        ranges = list(row_ranges(values["leave_out_rows"])) if values["leave_out_rows"] else []
        for name, before in form.under(_SHOWN_ROW).items():
            at = row(name.removeprefix(_SHOWN_ROW))
            if (now := form.one(f"{_CALLED_ROW}{at}")) == before:
                continue
            parts = [
                part for first, last in ranges for part in ((first, min(last, at - 1)), (max(first, at + 1), last))
            ]
            ranges = [*(part for part in parts if part[0] <= part[1]), *([] if now else [(at, at)])]
        values["leave_out_rows"] = ",".join(range_text(*each) for each in sorted(ranges))


def _called(rows: Sequence[FoundRow], left_out: str) -> set[int]:
    """The numbers of those rows that are not left out."""
    ranges: Sequence[tuple[int, int]] = ()
    with suppress(ValueError):
        ranges = row_ranges(left_out) if left_out else ()
    return {each.number for each in rows if not any(first <= each.number <= last for first, last in ranges)}


def _step_of(error: Exception, values: Mapping[str, str]) -> str:
    """The step of the form that has the first error."""
    if isinstance(error, CampaignFileError):
        return "people"
    wrong = {found.column for found in error.findings} if isinstance(error, InvalidInputError) else set[str | None]()
    steps = [_STEP_OF.get(each.group, "hours") for each in _OF_PAGE.values() if translated(each.label) in wrong]
    return next(iter(steps), values["step"])


def _by_cause(findings: Sequence[Finding]) -> list[tuple[list[Finding], str]]:
    """Findings by their causes, errors first; and the rows of each cause."""
    found: dict[object, list[Finding]] = {}
    for each in sorted(findings, key=lambda each: not each.is_error):
        found.setdefault((each.severity, each.column, _VALUES.sub("", each.message)), []).append(each)
    rows = ([each.row for each in alike if each.row is not None] for alike in found.values())
    return list(zip(found.values(), (in_ranges(sorted(set(each)), most=_MOST_RANGES) for each in rows), strict=True))


def _roles(text: str) -> ColumnRoles:
    try:
        return ColumnRoles.of(text) if text else NO_ROLES
    except InvalidInputError as error:
        raise InvalidInputError(Message(f"{_LABELS['columns']}: {error}", error)) from None


def _seen(values: Mapping[str, str], kept: _Kept) -> str:
    """What a preview was made of: a digest of each field that is filled in."""
    given = {name: values[name] for name in _TEXTS} | {"file": kept.upload.digest, "prices": kept.prices_seen}
    if given["not_before"] or given["valid_until"]:
        given["time_zone"] = given["time_zone"] or ZONE.get().key  # in which they are read
    given["menu"] = str(menu_in(values) or values["menu"])
    return " ".join(f"{name}:{_digest(value)}" for name, value in given.items() if value)


_REPORT = "report"


def _shown_in(seen: str) -> str:
    """The version of the preview in a form; empty if the form has none."""
    return next((part.partition(":")[2] for part in seen.split() if part.startswith(f"{_REPORT}:")), "")


def _digest(value: str) -> str:
    return sha256(value.encode("utf-8", "replace")).hexdigest()[:12]


def _why_refused(done: EnqueueReport) -> str:
    said: list[str] = []
    if done.rejected:
        label = translated_count("Leave out the bad row", "Leave out the %(number)s bad rows", done.rejected)
        tick = label % {"number": number(done.rejected)}
        said.append(
            f"{count_of(done.rejected, 'row')} cannot be called. Tick “{tick}”, or correct what the findings name"
        )
    if done.again:
        said.append(
            f"{count_of(done.again, 'call')} would go to people who were called before. Choose to call again “people "
            "who were called before”, or take their rows out of the file"
        )
    return ". ".join(said) or "the findings say why"


def _changed(before: str, now: str) -> str:
    """What is not as it was seen: the labels of its fields; empty if nothing has changed."""
    if not before:
        return "everything: there was no preview"
    names = {part.partition(":")[0] for part in {*before.split()} ^ {*now.split()}}
    return ", ".join(translated(label) for name, label in _LABELS_SEEN.items() if name in names)


async def _first_call(store: Store, file: InputFile, options: CampaignOptions) -> CheckedCall | None:
    """The call of the first row that can be called."""
    opened = open_campaign(file, options, now=store.clock.now())
    return next((row.call for row in opened if row.call is not None), None)
