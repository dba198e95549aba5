"""Campaigns that are being prepared. Each is a record in the store, with what was typed and the batch it became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_urlsafe

from voiceflow_worker.core.base.record_set import json_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import ChangedSinceError
from voiceflow_worker.service.uploads import Upload, Uploads

LASTS = timedelta(days=7)
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
        self._drafts = json_records(store, "campaign-draft", Draft, keep_for=LASTS)
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
        found = [each for each in await self._drafts.values() if each.started_at is not None]
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

    async def file(self, draft: Draft) -> tuple[Upload, bytes] | None:
        """Return the file of a draft, and its content; None if it was erased."""
        upload = await self._uploads.find(draft.upload)
        content = None if upload is None else await self._uploads.content(upload)
        return None if upload is None or content is None else (upload, content)
