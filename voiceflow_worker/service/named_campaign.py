"""A campaign that a program starts under a key: the same key with the same campaign again starts it once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from voiceflow_worker.campaigns.called_before import calls_of
from voiceflow_worker.campaigns.calls.options import CampaignOptions, dated
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.imports import none_begun
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.idempotency import NamedStart
from voiceflow_worker.errors import OvertakenError, RequestInProgressError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.values import canonical_json
from voiceflow_worker.model.jobs.job import NoteKind, ReasonKind
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.lists.input_file import InputFile
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

_COUNTS: Final = ("enqueued", "replaced", "removed", "duplicates", "suppressed", "left_out", "rejected", "rows")
_PLAIN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ID_CHARACTERS - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCampaign:
    """A campaign as a program asks for it: its `fields`, the `files` that it uploaded, by field, and their `digests`.

    No text in the fields is a path or a module; see `Campaign.of`.
    """

    fields: Mapping[str, Any]
    files: Mapping[str, InputFile]
    digests: Mapping[str, str]

    async def preview(
        self, queue: CallQueue, process: OtherProcess, *, key: str | None, settings: Settings, menus: Mapping[str, Menu]
    ) -> EnqueueReport:
        """What a start would do. Raises the errors of `Campaign.preview`."""
        batch = "preview" if key is None else batch_of_key(key)
        campaign = await self._campaign(batch, settings=settings, menus=menus, now=queue.store.clock.now())
        return await process.run_on(campaign.preview, queue.name, policy=settings.policy())

    async def start(
        self,
        queue: CallQueue,
        process: OtherProcess,
        *,
        key: str,
        by: Actor,
        settings: Settings,
        menus: Mapping[str, Menu],
    ) -> tuple[EnqueueReport, bool]:
        """Start the campaign, and say whether this was its first start: all of its calls are stored, or none.

        Asked for again, it adds nothing, or what is missing after a start that was cut (`NamedStart`). What depends on
        the time, such as `tomorrow`, means what it meant at first, and so do the source and the voice of the settings:
        others would make other calls of the rows, and ring the same people again.

        Raises OtherRequestError if the key belongs to another campaign, RequestInProgressError if another request has
        begun it meanwhile, OvertakenError if a later list has changed or ended its calls, CampaignFileError with the
        findings of bad rows, and the errors of `Campaign.of` and `Campaign.start`.
        """
        digest = await to_thread.run_sync(self._digest)
        begin = partial(
            NamedStart.of, queue.store, key, group=queue.name, digest=digest, keep_for=settings.key_retention,
            batch=str(self.fields.get("batch") or batch_of_key(key)), source=settings.source,
            voice_profile=settings.voice_profile,
        )  # fmt: skip
        start = await begin()
        then = dict(start.begun.taken)
        batch = then.pop("batch")
        if start.begun.result is not None:
            zone = self.fields.get("time_zone")
            batch = str(dated(CampaignOptions(batch_id=batch, time_zone=zone), start.begun.at).batch_id)
            await _require_last(queue, batch, start.begun.result)
            return _repeated(batch, start.begun.result), False
        as_then = settings.model_copy(update=then)
        campaign = await self._campaign(batch, settings=as_then, menus=menus, now=start.begun.at)
        batch = campaign.batch_id
        try:
            report = await process.run_on(
                campaign.start, queue.name, policy=settings.policy(), by=replace(by, claim=start.claim),
                now=start.begun.at,
            )  # fmt: skip
        except RowsRefusedError:
            if (await begin()).standing != start.standing:  # perhaps because of what that request has stored
                raise RequestInProgressError from None
            raise
        ended = {"at": queue.store.clock.now().isoformat(), "import": await _last_import(queue, batch)}
        await start.finish(queue.store, {**ended, **{name: getattr(report, name) for name in _COUNTS}})
        return report, start.is_new

    def _digest(self) -> str:
        document = {"fields": dict(self.fields), "files": dict(self.digests)}
        return hashlib.sha256(canonical_json(document).encode()).hexdigest()[:32]

    async def _campaign(self, batch: str, *, settings: Settings, menus: Mapping[str, Menu], now: datetime) -> Campaign:
        said = {name: value for name, value in self.fields.items() if value is not None}
        given = {"batch": batch, **self.files, **said}  # a field that names a file is refused, beside an upload too
        how: dict[str, Any] = {"settings": settings, "menus": menus, "now": now, "foreign": True}
        # In a thread, because 8x8 waits while a large template is read.
        made = await to_thread.run_sync(partial(Campaign.of, given, **how))
        return made.without_handlers()


def batch_of_key(key: str) -> str:
    """The batch of a campaign that names none: its key, if that can be a batch id as it stands, else a digest of it."""
    return key if _PLAIN.fullmatch(key) else f"key-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


async def _last_import(queue: CallQueue, batch: str) -> str | None:
    return (await none_begun(queue, [batch]))[0].value


async def _require_last(queue: CallQueue, batch: str, result: Mapping[str, Any]) -> None:
    """Raise OvertakenError if a list that came after a start with this result has changed or ended calls of it."""
    if (at := result.get("at")) is None or result.get("import") == await _last_import(queue, batch):
        return
    since = datetime.fromisoformat(at)
    async with aclosing(calls_of(queue, batch, ended=True)) as jobs:
        async for job in jobs:
            newer = {note.kind for note in job.notes if note.at > since >= job.created_at}
            is_removed = job.reason_kind is ReasonKind.REMOVED and NoteKind.CANCELLED in newer
            if is_removed or NoteKind.CHANGED in newer:
                raise OvertakenError(
                    f"the campaign was started at {in_words(since)}, and has been overtaken: a later list has changed "
                    f"or ended calls of batch {batch}, such as {job.id}. Nothing was changed"
                )


def _repeated(batch: str, counts: Mapping[str, Any]) -> EnqueueReport:
    """The report of a start that has nothing to do: each call that was stored is known."""
    told: dict[str, Any] = {name: count for name, count in counts.items() if name in _COUNTS}
    known = told.pop("enqueued") + told.pop("replaced", 0) + told.pop("duplicates")
    return EnqueueReport(batch_id=batch, duplicates=known, dry_run=False, **told)
