"""The page of a campaign: a list is uploaded or pasted, described on one page, checked, and called.

What was typed is a draft in the store, with an address of its own, so that it outlasts a reload, another tab and a
sign-in. A second start of a draft leads to its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import orjson
import structlog
from anyio.to_thread import run_sync
from babel import Locale
from phonenumbers import SUPPORTED_REGIONS
from starlette.requests import Request
from starlette.responses import Response

from voiceflow_worker.actions import ActionRefusedError, Operator, active_holds
from voiceflow_worker.campaigns.calls.row_reader import menu_puts
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.file_preview import ListPreview, preview_list
from voiceflow_worker.campaigns.lists.columns import COUNTRY, DESTINATION, row_name
from voiceflow_worker.campaigns.lists.filters import Filter
from voiceflow_worker.campaigns.lists.input_file import LARGEST_FILE, InputFile
from voiceflow_worker.campaigns.plan import TRIAL
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.console.orders import ActionDone, batch_page
from voiceflow_worker.console.page import Answer, Page, PageRequest, problem
from voiceflow_worker.console.rendering import ZONE, label_of
from voiceflow_worker.console.sign_in import PageForm, Person, read_form
from voiceflow_worker.core.admission import CallRequest, CheckedCall
from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.errors import ChangedSinceError, IntakeError, InvalidInputError, VoiceflowError
from voiceflow_worker.gateway.client import TIMEOUT, VoiceClient
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.country_windows import AT_ANY_HOUR
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.reading import INTERNATIONAL, read_number
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.window import Weekday
from voiceflow_worker.model.zones import zone_named
from voiceflow_worker.service.uploads import Uploads, plain_name, uploading

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

NEW, SECTION = "campaign", "campaigns"
KEYS = ("1", "2", "3")
ACCOUNT_FOR = timedelta(minutes=10)
"""How long the voices and numbers of the account are kept, before 8x8 is asked again."""
_DAYS = tuple(each.name.lower() for each in Weekday)
_ROLES = (DESTINATION, "name", "unique_key")
_PLAIN = ("country", "sheet", "header_row", "date_order", "encoding", "leave_out", "batch", "voice_profile", "source")
"""The fields of a campaign that the page has as they are."""
_TEXTS = (
    *_PLAIN, "say", "ivr", "after", "from", "to", "not_before", "redial_max", "redial_after", "zone",
    *(f"column.{role}" for role in _ROLES), *(f"answer.{key}" for key in KEYS),
)  # fmt: skip
_TICKS = ("any", "skip_bad", "replaces", "again")
_OF_ONE_LIST = ("batch", "header_row", "encoding", "sheet", "skip_bad", "replaces", "again")
"""What the next list does not take from the one before."""
_TRIAL_LASTS = timedelta(minutes=10)
_FOLLOWED_FOR = 30.0
"""The seconds for which a second click waits for what the first one has started."""
_KEPT_FOR_BACK = {"Cache-Control": "private, no-cache"}
"""The browser keeps this page for its back button alone, so that what was typed is there again."""

_log = structlog.get_logger("voiceflow.console")


DRAFT_LASTS = timedelta(days=7)
"""How long a draft is kept after its last change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft: the uploaded file, the `fields` as they were typed, and the `version`, which each change makes larger.

    Once it is started, it has the `batch`, the `digest` of the preview that was confirmed, and an id of this `start`;
    `has_ended` says that all rows are stored.
    """

    id: str
    upload: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    version: int = 0
    is_checked: bool = False
    batch: str = ""
    digest: str = ""
    start: str = ""
    by: str = ""
    started_at: datetime | None = None
    has_ended: bool = False


class Drafts:
    """The drafts of a store, with their files. Methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._drafts = json_records(store, "campaign-draft", Draft, keep_for=DRAFT_LASTS)
        self._uploads = Uploads(store)

    async def create(self, content: bytes, *, name: str, fields: Mapping[str, str]) -> Draft:
        """Store a file, and a draft for it."""
        upload = await self._uploads.keep(content, name=name)
        draft = Draft(id=token_urlsafe(9), upload=upload.id, fields=fields)
        await self._drafts.put({draft.id: draft})
        return draft

    async def find(self, draft_id: str) -> Draft | None:
        """Return the draft with this id; None if there is none."""
        return (await self._drafts.get([draft_id])).get(draft_id)

    async def started(self) -> list[Draft]:
        """Return the drafts that became a batch, the newest first."""
        found = [each for each in await self._drafts.values() if each.batch]
        return sorted(found, key=lambda each: str(each.started_at), reverse=True)

    async def save(self, draft: Draft, fields: Mapping[str, str], *, is_checked: bool) -> Draft:
        """Store what was typed. Nothing of a draft that was started is changed."""

        def saved(found: Draft | None) -> Draft:
            found = found or draft
            if found.batch or (found.fields == fields and found.is_checked == is_checked):
                return found
            return replace(found, fields=fields, is_checked=is_checked, version=found.version + 1)

        return await self._drafts.change(draft.id, saved)

    async def take_file(self, draft: Draft, content: bytes, *, name: str) -> Draft:
        """Give a draft another file."""
        upload = await self._uploads.keep(content, name=name)

        def taken(found: Draft | None) -> Draft:
            found = found or draft
            return found if found.batch else replace(found, upload=upload.id, version=found.version + 1)

        taken_by = await self._drafts.change(draft.id, taken)
        await self._uploads.remove(draft.upload if taken_by.upload == upload.id else upload.id)
        return taken_by

    async def begin(self, draft: Draft, shown: Mapping[str, str], *, by: str) -> tuple[Draft, bool]:
        """Note that a draft becomes this batch, and return it, and whether it became it by this call.

        Who comes later gets the draft with the batch that it has. Raises ChangedSinceError if the draft has another
        version by now.
        """
        start = token_urlsafe(9)

        def begun(found: Draft | None) -> Draft:
            found = found or draft
            if found.batch:
                return found
            if str(found.version) != shown["version"]:
                raise ChangedSinceError("somebody has changed this campaign since it was shown. Check it again")
            at = self._clock.now()
            batch, digest = shown["batch_id"], shown["digest"]
            return replace(found, batch=batch, digest=digest, start=start, by=by, started_at=at)

        found = await self._drafts.change(draft.id, begun)
        return found, found.start == start

    async def undo(self, draft: Draft) -> None:
        """Note that a draft became no batch, because nothing of it was stored."""
        await self._drafts.put({draft.id: replace(draft, batch="", start="", started_at=None)})

    async def end(self, draft: Draft) -> None:
        """Note that all rows of a draft are stored, and erase its file."""
        await self._drafts.put({draft.id: replace(draft, has_ended=True)})
        await self._uploads.remove(draft.upload)

    async def file(self, draft: Draft, folder: Path) -> InputFile:
        """Return the file of a draft, in a folder. Raises InvalidInputError if it was erased."""
        upload = await self._uploads.find(draft.upload)
        content = None if upload is None else await self._uploads.content(upload)
        if upload is None or content is None:
            raise InvalidInputError("the file is not stored any more. Choose it again; the fields are as you left them")
        return await _stored(folder, upload.name, content)


class _Account:
    """The voices and the numbers of the account, as pairs of a value and its words; none without an answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_at = float("-inf")
        self._lists: Mapping[str, Sequence[tuple[str, str]]] = {"voices": (), "numbers": ()}

    async def lists(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return the lists `voices` and `numbers`."""
        now = anyio.current_time()
        if now - self._asked_at > ACCOUNT_FOR.total_seconds() and not self._settings.missing_for_calls():
            self._asked_at = now
            try:
                async with VoiceClient.from_settings(self._settings, timeout=TIMEOUT) as voice:
                    voices, numbers = await voice.speech_profiles(), await voice.numbers()
            except VoiceflowError as error:
                _log.warning("the voices of the account could not be listed", error=str(error))
                return self._lists
            self._lists = {
                "voices": [(v.code, ", ".join(filter(None, [v.language or v.locale, v.gender]))) for v in voices],
                "numbers": [(f"+{n.msisdn.lstrip('+')}", n.country or "") for n in numbers],
            }
        return self._lists


class CampaignPages:
    """The pages on which an operator begins a campaign. They do what `voiceflow enqueue` does, with the same findings.

    `menus` are those that the receiver answers with. The `settings` fill what a form leaves empty. One file is read at
    a time (`files`). Methods raise StoreError and FormRefusedError.
    """

    def __init__(self, operator: Operator, settings: Settings, *, menus: Sequence[Menu], files: anyio.Lock) -> None:
        self._operator = operator
        self._settings = settings
        self._menus = {menu.name: menu for menu in menus}
        self._files = files
        self._drafts = Drafts(operator.store)
        self._account = _Account(settings)

    async def begin(self, request: Request, asked: PageRequest, person: Person) -> Answer:
        """Show the form for a list; with a list, make a draft of it, and lead to its page."""
        if request.method != "POST":
            return await self._upload()
        form = await read_form(request)
        try:
            name, content = self._list_in(form)
            fields = await self._first_fields(name, content, like=form.one("like"))
        except InvalidInputError as error:
            return await self._upload(form, said=str(error))
        draft = await self._drafts.create(content, name=name, fields=fields)
        _log.info("somebody uploaded a list", name=person.name, draft=draft.id)
        return _to(asked, draft)

    async def answer(self, request: Request, asked: PageRequest, person: Person) -> Answer | ActionDone:
        """Show a draft, or take what was typed into it, and check, try or start it."""
        draft = await self._drafts.find(asked.name)
        if draft is None:
            what = "It was begun more than seven days ago, or never. Begin a new one."
            return problem(404, "No such campaign", what, back=NEW)
        if draft.has_ended:
            return Response(b"", 303, {"Location": f"{asked.home}/{batch_page(self._settings.queue, draft.batch)}"})
        if request.method != "POST":
            return await self._page(draft)
        form = await read_form(request)
        if draft.batch and form.one("do") != "resume":
            return await self._follow(draft, asked)
        try:
            return await self._changed(draft, form, asked, person)
        except (InvalidInputError, ActionRefusedError, ChangedSinceError, IntakeError) as error:
            return await self._page(await self._drafts.find(draft.id) or draft, said=str(error))

    async def _changed(self, draft: Draft, form: PageForm, asked: PageRequest, person: Person) -> Answer | ActionDone:
        do, _, more = form.one("do").partition(" ")
        if do == "resume":
            return await self._start(draft, person)
        fields = _typed_in(form, draft.fields)
        if do == "leave-out":
            fields["leave_out"] = ",".join(filter(None, [fields.get("leave_out"), more]))
        if do == "ignore":
            fields["ignore"] = "\n".join(filter(None, [fields.get("ignore"), more]))
        is_same, before = fields == dict(draft.fields), draft
        draft = await self._drafts.save(draft, fields, is_checked=True)
        if form.files.get("file") or form.one("pasted"):
            name, content = self._list_in(form)
            draft = await self._drafts.take_file(draft, content, name=name)
        elif do == "try":
            return ActionDone(await self._tried(draft, form.one("number"), person), f"{SECTION}/{draft.id}#preview")
        elif do == "start" and not (is_same and form.one("digest")):
            raise ChangedSinceError("the campaign was changed after its check. Check the new preview, then start")
        elif do == "start":
            shown = {name: form.one(name) for name in ("version", "batch_id", "digest")}
            draft, is_mine = await self._drafts.begin(before, shown, by=person.name)
            return await (self._start(draft, person) if is_mine else self._follow(draft, asked))
        return _to(asked, draft, "#preview")

    # -- the list ------------------------------------------------------------------------------------------------------

    def _list_in(self, form: PageForm) -> tuple[str, bytes]:
        """Return the name and the content of the list in a form. Raises InvalidInputError."""
        now = self._operator.store.clock.now().astimezone(ZONE.get())
        pasted = f"list-{now:%Y-%m-%d-%H%M}.csv", form.get("pasted", "").encode()
        name, content = form.files.get("file", pasted)
        if not content.strip():
            raise InvalidInputError("there is no list. Choose a file that is not empty, or paste one")
        if len(content) > LARGEST_FILE:
            raise InvalidInputError(
                f"{plain_name(name)} has {len(content):,} bytes, of at most {LARGEST_FILE:,}. Split it"
            )
        return plain_name(name), content

    async def _first_fields(self, name: str, content: bytes, *, like: str) -> Mapping[str, str]:
        """Return the fields of a new draft: those of another one, or what is certain. Raises InvalidInputError."""
        other = await self._drafts.find(like) if like else None
        with uploading() as folder:
            found = await self._found({}, await _stored(folder, name, content))
        if other is not None:
            return {each: value for each, value in other.fields.items() if each not in _OF_ONE_LIST}
        fields = {"days": ",".join(_DAYS), "zone": ZONE.get().key}
        if (column := found.number_column) is not None and row_name(column) != DESTINATION:
            fields[f"column.{DESTINATION}"] = column
        return fields

    async def _found(self, fields: Mapping[str, str], kept: InputFile) -> ListPreview:
        """Read the first rows of a list. Raises CampaignFileError."""
        row = fields.get("header_row", "")
        header_row = int(row) if row.isdecimal() and int(row[:9]) > 0 else None
        named = {name: fields.get(name) for name in ("sheet", "encoding")}
        async with self._files:
            return await run_sync(lambda: preview_list(kept, header_row=header_row, **named))

    # -- the campaign --------------------------------------------------------------------------------------------------

    def _campaign(self, draft: Draft, kept: InputFile) -> Campaign:
        """Return the campaign that a draft describes. Raises InvalidInputError, with the labels of the page."""
        typed = draft.fields
        fields: dict[str, object] = {name: typed.get(name) for name in _PLAIN}
        columns: dict[str, object] = {role: typed[f"column.{role}"] for role in _ROLES if f"column.{role}" in typed}
        if typed.get("country", "").startswith("="):
            columns[COUNTRY], fields["country"] = typed["country"][1:], None
        columns["ignore"] = typed.get("ignore", "").split("\n") if typed.get("ignore") else None
        said = {"say": typed["after"]} if "after" in typed else {}
        keys = {key: {"answer": typed[f"answer.{key}"], **said} for key in KEYS if f"answer.{key}" in typed}
        question = {"id": "question", "text": typed.get("say", ""), "keys": keys}
        hours = f"{typed.get('from', '')}-{typed.get('to', '')}"
        fields |= {
            "file": kept,
            "batch": draft.batch or fields["batch"] or kept.stem,
            "columns": {role: column for role, column in columns.items() if column} or None,
            **({"menu": {"questions": [question]}} if keys else {"say": typed.get("say")}),
            "ivr": typed.get("ivr"),
            "window": AT_ANY_HOUR if "any" in typed else hours if len(hours) > 1 else None,
            "days": None if typed.get("days") == ",".join(_DAYS) else typed.get("days", "none"),
            "not_before": typed["not_before"].replace("T", " ") if "not_before" in typed else None,
            **{name: typed.get(name) for name in ("redial_max", "redial_after", "skip_bad")},
            "again": "elsewhere" if "again" in typed else None,
            "redial_on": "busy,no_answer" if "redial_max" in typed else None,
            **dict.fromkeys(("replace", "remove_missing"), typed.get("replaces")),
        }
        if not (typed.get("say") or typed.get("ivr")):
            raise InvalidInputError(f"{label_of('say')}: write it, or choose a menu")
        return Campaign.of(
            fields,
            settings=self._settings,
            menus=self._menus,
            now=self._operator.store.clock.now(),
            named=label_of,
            foreign=True,
            zone=zone_named(typed.get("zone", "")),
        )

    async def _start(self, draft: Draft, person: Person) -> ActionDone:
        """Store the calls of a draft that became a batch. Raises InvalidInputError and ChangedSinceError."""
        queue, by = self._operator.queue(self._settings.queue), person.acting(self._operator).actor
        try:
            with uploading() as folder:
                campaign = self._campaign(draft, await self._drafts.file(draft, folder))
                async with self._files:
                    done = await campaign.start(queue, by=by, expected_version=draft.digest or None)
        except (InvalidInputError, ChangedSinceError):
            await self._drafts.undo(draft)
            raise
        await self._drafts.end(draft)
        _log.info("somebody began a campaign", name=person.name, batch=done.batch_id, enqueued=done.enqueued)
        more = [f"{count} {what}" for count, what in ((done.replaced, "changed"), (done.removed, "cancelled")) if count]
        message = "; ".join([f"{count_of(done.enqueued, 'call')} enqueued", *more])
        return ActionDone(message, batch_page(queue.name, draft.batch))

    async def _follow(self, draft: Draft, asked: PageRequest) -> Answer:
        """Lead to the batch that a draft has become, once its rows are stored."""
        found: Draft | None = draft
        with anyio.move_on_after(_FOLLOWED_FOR):
            while found is not None and found.batch and not found.has_ended:
                await anyio.sleep(0.2)
                found = await self._drafts.find(draft.id)
        return _to(asked, draft)

    async def _tried(self, draft: Draft, own: str, person: Person) -> str:
        """Call the operator's own number with the call of the first good row. Raises InvalidInputError."""
        store, queue_name = self._operator.store, self._settings.queue
        with uploading() as folder:
            campaign = self._campaign(draft, await self._drafts.file(draft, folder))
            options = replace(campaign.options, not_before=None, window=None)
            file: Any = campaign.file

            def first() -> CheckedCall | None:
                opened = open_campaign(file, options, now=store.clock.now())
                return next((row.call for row in opened if row.call is not None), None)

            async with self._files:
                call = await run_sync(first)
        if call is None:
            raise InvalidInputError("no row of the file can be called. Correct it first")
        number = read_number(own, country_of(call.destination))
        body = orjson.loads(call.body)
        body["callflow"][0]["params"]["destination"] = number
        body.pop("validUntil", None)
        batch_id = f"{campaign.batch_id[:40]}-trial"
        request = CallRequest(
            CallFlow.parse(body),
            unique_key=f"{TRIAL}{token_urlsafe(9)}",
            batch=batch_id,
            valid_until=store.clock.now() + _TRIAL_LASTS,
            time_zone=call.time_zone or zone_of_number(call.destination).zone,  # as the first row's person hears it
            data=call.data,
            menu=call.menu,
        )
        if puts := menu_puts(campaign.options):
            await store.write(BulkWrite(writes=(Write(puts=puts),)), now=store.clock.now())
        async with self._operator.queue(queue_name).ordered(person.acting(self._operator).actor) as queue:
            await queue.enqueue_many([request])
        words = f"{number} is called with the text of the first row, within ten minutes if a worker runs."
        return " ".join([words, *await active_holds(store, queue_name, batch_id)])

    # -- the pages -----------------------------------------------------------------------------------------------------

    async def _upload(self, form: PageForm | None = None, *, said: str = "") -> Page:
        started = (await self._drafts.started())[:10]
        typed = {name: form.get(name, "") if form else "" for name in ("pasted", "like")}
        shown = {"said": said, "typed": typed, "earlier": [(each.id, each.batch) for each in started]}
        return Page(template="upload.html", shown=shown, status=409 if said else 200, headers=_KEPT_FOR_BACK)

    async def _page(self, draft: Draft, *, said: str = "") -> Page:
        """Return the page of a draft, with its preview if it is to be checked."""
        name, found, report = "", None, None
        if not draft.batch:
            try:
                with uploading() as folder:
                    kept = await self._drafts.file(draft, folder)
                    name, found = str(kept), await self._found(draft.fields, kept)
                    if draft.is_checked and found.columns:
                        campaign = self._campaign(draft, kept)
                        async with self._files:
                            report = await campaign.preview(self._operator.queue(self._settings.queue))
            except InvalidInputError as error:
                said = said or str(error)
        names: Mapping[str, str] = Locale("en").territories
        values = {
            "draft": draft,
            "queue": self._settings.queue,
            "form": {**dict.fromkeys((*_TEXTS, *_TICKS, "days", "ignore"), ""), **draft.fields},
            "fields": fields_of(Of.CAMPAIGN),
            "said": said,
            "file_name": name,
            "found": found,
            "days": _DAYS,
            "countries": sorted(((c, names[c]) for c in SUPPORTED_REGIONS if c in names), key=itemgetter(1)),
            "international": INTERNATIONAL,
            "menus": [*self._menus],
            "usual_window": self._settings.window or "",
            "report": report,
            "filter_of": _filter_of,
            "orders": _orders(report, draft.fields) if report else "",
            **await self._account.lists(),
        }
        return Page(template="campaign.html", shown=values, status=409 if said else 200, headers=_KEPT_FOR_BACK)


async def _stored(folder: Path, name: str, content: bytes) -> InputFile:
    path = folder / name
    await anyio.Path(path).write_bytes(content)
    return InputFile(path, shown=name)


def _to(asked: PageRequest, draft: Draft, place: str = "") -> Response:
    return Response(b"", 303, {"Location": f"{asked.home}/{SECTION}/{quote(draft.id)}{place}"})


def _typed_in(form: PageForm, before: Mapping[str, str]) -> dict[str, str]:
    """Return what was typed into the page, by the names of its controls; of those that it had not, what was before."""
    found = {name: form.one(name) if name in form else before.get(name, "") for name in _TEXTS}
    found |= {name: form.one(name) for name in _TICKS} | {"say": form.one("say").replace("\r\n", "\n")}
    found |= {"days": ",".join(form.all("days")), "ignore": "\n".join(form.all("ignore"))}
    return {name: value for name, value in found.items() if value}


def _filter_of(column: str, value: str = "", *, is_not: bool = False) -> str:
    """Return the text of a filter, as it is typed."""
    return str(Filter(column, value, is_not))


def _orders(report: EnqueueReport, fields: Mapping[str, str]) -> str:
    """Return what a start does, in the words of its button; empty if there is nothing to do, or it is refused."""
    if report.refused or (report.again and "again" not in fields):
        return ""
    plan, replaces = report.plan, "replaces" in fields
    people, changed = plan["new"], plan["changed"] if replaces else 0
    cancelled = plan["in_no_row"] - report.stays if replaces else 0
    words = [
        f"call {count_of(people, 'person').replace('persons', 'people')}" if people else "",
        f"change {count_of(changed, 'call')}" if changed else "",
        f"cancel {count_of(cancelled, 'call')}" if cancelled else "",
    ]
    return ", ".join(filter(None, words)).capitalize()
