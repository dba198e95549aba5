"""A campaign that a program starts under a key: the same key with the same campaign again starts it once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base.round_trips import confirm
from voiceflow_worker.core.idempotency import StartKey
from voiceflow_worker.core.imports import lists_of
from voiceflow_worker.errors import OvertakenError
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.named_call import request_digest

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.lists.input_file import InputFile
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

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
        self, queue: CallQueue, *, key: str | None, settings: Settings, menus: Mapping[str, Menu]
    ) -> EnqueueReport:
        """Preview what a start would do. Raises the errors of `Campaign.preview`."""
        batch = "preview" if key is None else batch_of_key(key)
        campaign = await self._campaign(batch, settings=settings, menus=menus, now=queue.store.clock.now())
        return await campaign.preview(queue)

    async def start(
        self,
        queue: CallQueue,
        *,
        key: str,
        by: Actor,
        settings: Settings,
        menus: Mapping[str, Menu],
    ) -> tuple[EnqueueReport, bool]:
        """Start the campaign, and say whether this was its first start: all of its calls are stored, or none.

        Asked for again, it answers with the counts of the first start, or goes on with an import that was cut. What
        depends on the time, such as `tomorrow`, means what it meant at first, and so do the source and the voice of the
        settings:
        others would make other calls of the rows, and ring the same people again.

        Raises OtherRequestError if the key belongs to another campaign, OvertakenError if another list has taken its
        import over, IntakeError while one is being imported, CampaignFileError with the findings of bad rows, and the
        errors of `Campaign.of` and `Campaign.start`.
        """
        document = {"fields": dict(self.fields), "files": dict(self.digests)}
        digest = await to_thread.run_sync(request_digest, document)
        asked = await StartKey.of(
            queue.store, key, digest=digest, keep_for=settings.key_retention, queue=queue.name,
            batch=str(self.fields.get("batch") or batch_of_key(key)),
            taken={"source": settings.source, "voice_profile": settings.voice_profile},
        )  # fmt: skip
        start = asked.start
        if start.result is not None:
            await confirm(queue.store)
            return EnqueueReport(**start.result, dry_run=False), False
        campaign = await self._campaign(
            start.batch, settings=settings.model_copy(update=start.taken), menus=menus, now=start.at
        )
        if start.run is not None:
            await _require_own(queue, campaign.batch_id, start.run)
        report = await campaign.start(queue, by=by, now=start.at, key=asked)
        # The report of a request that was carried out meanwhile is the one that is kept, without a version.
        return report, asked.is_new and bool(report.version)

    async def _campaign(self, batch: str, *, settings: Settings, menus: Mapping[str, Menu], now: datetime) -> Campaign:
        said = {name: value for name, value in self.fields.items() if value is not None}
        given = {"batch": batch, **self.files, **said}  # a field that names a file is refused, beside an upload too
        how: dict[str, Any] = {"settings": settings, "menus": menus, "now": now, "foreign": True}
        # In a thread, because 8x8 waits while a large template is read.
        return await to_thread.run_sync(partial(Campaign.of, given, **how))


def batch_of_key(key: str) -> str:
    """Return the batch of a campaign that names none: its key if that can be a batch id, else a digest of it."""
    return key if _PLAIN.fullmatch(key) else f"key-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


async def _require_own(queue: CallQueue, batch: str, run: str) -> None:
    """Raise OvertakenError if another list has taken the import of a start over."""
    last = (await lists_of(queue.store, queue.name, [batch]))[batch].last or ""
    if last.partition(" ")[0] != run:
        raise OvertakenError(
            f"the import of this campaign was interrupted, and another list of batch {batch} has taken it over. "
            "Nothing was changed"
        )
