"""Files that people and programs upload.

The list of a campaign that is being prepared is in the store, so that every receiver has it: packed, in pieces, for
seven days, or until newer files need its room. What a request works on is in a folder of its own, which is locked, and
ends with the request; the folders of a killed process are not locked any more, and are deleted by others.
"""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from secrets import token_urlsafe
from shutil import rmtree
from tempfile import TemporaryDirectory, gettempdir

from anyio.to_thread import run_sync

from voiceflow_worker.core.base.record_set import RecordSet, json_records
from voiceflow_worker.core.ports import Store

UPLOADS, PIECES = "upload", "upload-piece"
"""Namespaces of uploads, by their ids, and of their pieces, in the group of the upload."""
KEPT_FOR = timedelta(days=7)
MOST_STORED = 64_000_000
"""The most characters of all uploads in a store: two of the largest, if they cannot be packed. The oldest go first."""
_PIECE, _AT_ONCE = 250_000, 4
"""The characters of a piece, and the pieces that are read in one trip."""
_PREFIX = "voiceflow-upload-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file in the store; `stored` is its size there, in characters."""

    id: str
    name: str
    at: datetime
    stored: int


class Uploads:
    """The uploaded files of a store. Methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._uploads = json_records(store, UPLOADS, Upload, keep_for=KEPT_FOR, durable=False)
        self._pieces: RecordSet[str] = RecordSet(
            store, PIECES, write=str, read=lambda _, text: text, keep_for=KEPT_FOR, durable=False
        )

    async def keep(self, content: bytes, *, name: str) -> Upload:
        """Store a file. If all uploads are erased meanwhile, it is too, and nobody finds it."""
        text = await run_sync(_packed, content)
        upload = Upload(id=token_urlsafe(12), name=name, at=self._clock.now(), stored=len(text))
        kept = sorted(await self._uploads.values(), key=lambda each: each.at)
        while kept and sum(each.stored for each in kept) + len(text) > MOST_STORED:
            await self._drop(kept.pop(0))
        await self._uploads.put({upload.id: upload})
        for key, start in zip(_keys(upload), range(0, len(text), _PIECE), strict=True):
            await self._pieces.within(upload.id).put({key: text[start : start + _PIECE]})
        if await self.find(upload.id) is None:
            await self._drop(upload)
        return upload

    async def find(self, upload_id: str) -> Upload | None:
        """Return the upload with this id; None if there is none, or not any more."""
        return (await self._uploads.get([upload_id])).get(upload_id)

    async def remove(self, upload_id: str) -> None:
        """Erase an upload."""
        if (upload := await self.find(upload_id)) is not None:
            await self._drop(upload)

    async def content(self, upload: Upload) -> bytes | None:
        """Return the content of an upload; None if it is not kept any more."""
        pieces, texts, last = self._pieces.within(upload.id), list[str](), ""
        while page := await pieces.page(after=last, limit=_AT_ONCE):
            texts += [text or "" for _, text in page]
            last = page[-1][0]
        if sum(map(len, texts)) != upload.stored:
            return None
        return await run_sync(_unpacked, texts)

    async def clear(self) -> None:
        """Erase all uploads: a person in one of them has been erased."""
        for upload in await self._uploads.values():
            await self._drop(upload)

    async def _drop(self, upload: Upload) -> None:
        await self._uploads.remove([upload.id])
        await self._pieces.within(upload.id).remove(_keys(upload))


def _keys(upload: Upload) -> list[str]:
    return [f"{start // _PIECE:04}" for start in range(0, upload.stored, _PIECE)]


def _packed(content: bytes) -> str:
    """Return a file as text for a store."""
    return base64.b64encode(zlib.compress(content, 1)).decode()


def _unpacked(texts: list[str]) -> bytes:
    return zlib.decompress(base64.b64decode("".join(texts)))


def plain_name(name: str) -> str:
    """Return the name of a file as people gave it, without a folder. Its ending is that of its format."""
    return re.sub(r"[^\w.-]+", "-", name.replace("\\", "/").rpartition("/")[2])[-80:].lstrip(".-") or "people.csv"


@contextmanager
def uploading() -> Generator[Path]:
    """Give a folder for the uploads of one request, which only its user can read, and delete it after the block."""
    with TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder, _locked(folder):
        yield Path(folder)


def delete_left_over() -> None:
    """Delete the folders of killed processes of this host: those that nobody keeps locked."""
    for path in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(path):
            rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: str | Path) -> Generator[None]:
    """Lock a folder while the block lasts; the lock ends with the process. Raises OSError if another one has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        yield
    finally:
        os.close(descriptor)
