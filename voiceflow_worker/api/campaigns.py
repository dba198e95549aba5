"""Campaigns: preview one, start one."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any, Final
from urllib.parse import quote

import anyio
from anyio.to_thread import run_sync
from pydantic import Field
from starlette.datastructures import UploadFile

from voiceflow_worker.api.answers import Answer, ProblemError, shortened, unfit
from voiceflow_worker.api.exchange import LONGEST_FILE, MOST_CAMPAIGNS, Asked, among
from voiceflow_worker.api.operations import Fields, FindingTold, Json, Preview, Routes, Told
from voiceflow_worker.asgi import limits
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.service.named_campaign import NamedCampaign
from voiceflow_worker.service.uploads import uploading

_FILES: Final = {"file": "The people. The ending of its filename tells the format."}
_ENDING = re.compile(r"(?:\.[a-z0-9]{1,8})?(?:\.gz)?$")
routes: Final = Routes()


_CAMPAIGN = schema_of(Of.CAMPAIGN, without=("campaign", "file", "rejects"))


class Campaign(Fields, table=_CAMPAIGN):
    """The fields of a campaign: texts as one types them, or numbers, true and false, lists, and objects of names.

    What is left out comes from the settings of the server. Without `rows`, upload a file.
    """


class Enqueued(Told):
    """What was enqueued, as `voiceflow enqueue --json` prints it; a `preview` is that of --dry-run."""

    batch_id: str
    enqueued: int
    duplicates: int
    replaced: int = 0
    removed: int = 0
    changed: int = Field(0, description="Rows whose call differs and waits: `replaced`, or nothing is enqueued.")
    in_progress: int = Field(0, description="Rows whose call differs, and is in progress or over: nothing is done.")
    missing: int = Field(0, description="Calls of the batch that can still ring and are in no row.")
    plan: dict[str, int] = Field({}, description="How many rows end in each way, and calls that are in no row.")
    suppressed: int = 0
    left_out: int = 0
    rejected: int
    rows: int = 0
    valid: int = 0
    again: int = 0
    ended: dict[str, int] = Field({}, description="Duplicates whose calls ended before they were sent, by state.")
    dry_run: bool = False
    findings: list[FindingTold]
    unread: list[Json] = Field([], description="Columns that nobody reads: their values, and how many rows have each.")
    partly_filled: list[Json] = Field([], description="Columns that nobody reads, filled in some rows.")
    preview: Json | None = None


_STARTED = {
    200: ("The preview; or the campaign of this key, to which at most what was missing was added.", [Enqueued]),
    201: ("The campaign was started.", [Enqueued]),
}


@routes.on("POST", "/v1/campaigns", _STARTED, files=_FILES, keyed=None)
async def begin(asked: Asked, query: Preview, body: Campaign) -> Answer:
    """Start a campaign: all of its calls, or none. With dry_run=1, preview it: nobody is called."""
    context = asked.context
    how: dict[str, Any] = {"settings": context.settings, "menus": context.menus}
    crowded = f"{MOST_CAMPAIGNS} campaigns are being read; try again in a moment"
    with (
        among(context.campaigns, asked, told=crowded, after="5"),
        uploading() as folder,
        anyio.move_on_after(limits.WORK.total_seconds()),
    ):
        campaign = await _received(asked, body, folder)
        await asked.leave_line()  # it has a turn of its own, and others are answered meanwhile
        if query.dry_run:
            report = await campaign.preview(context.queue, context.process, key=asked.key or None, **how)
            return Answer(_told(asked, report))
        by = asked.actor
        with asked.alone():
            report, is_new = await campaign.start(context.queue, context.process, key=asked.key, by=by, **how)
        where = f"/v1/batches/{quote(report.batch_id, safe='')}"
        if not (report.enqueued or report.replaced or report.duplicates):  # nothing was made, so nothing is there
            return Answer(_told(asked, report))
        return Answer(_told(asked, report), 201 if is_new else 200, location=where)
    seconds = limits.WORK.total_seconds()
    raise ProblemError(
        503,
        f"the campaign took longer than {seconds:.0f} seconds, and nobody is called before its last call is stored. "
        "Repeat the request with the same key, which adds what is missing, or enqueue a large file with `voiceflow "
        "enqueue`",
        headers={"Retry-After": "5"},
    )


def _told(asked: Asked, report: EnqueueReport) -> dict[str, object]:
    found = asked.faults_of(report.findings)
    return replace(report, findings=()).as_json() | {"findings": [each.as_json() for each in shortened(found)]}


async def _received(asked: Asked, body: Campaign, folder: Path) -> NamedCampaign:
    """The campaign in the body of a request, with its files in a folder. Raises ProblemError."""
    files: dict[str, InputFile] = {}
    digests: dict[str, str] = {}
    for name in _FILES if asked.upload is not None else ():
        parts = [] if asked.upload is None else asked.upload.getlist(name)
        if not parts:
            continue
        if len(parts) > 1 or not isinstance(parts[0], UploadFile):
            raise unfit(f"{name} must be one part, with a filename; its ending tells the format", parameter=name)
        if (parts[0].size or 0) > LONGEST_FILE:
            raise ProblemError(413, f"{name} is longer than {LONGEST_FILE} bytes; enqueue it with `voiceflow enqueue`")
        # The name tells the format, and nothing else of it is used.
        ending = _ENDING.search((parts[0].filename or "").lower())
        shown = f"{name}{ending[0] if ending else ''}"
        path = folder / shown
        digests[name] = f"{shown} {await run_sync(_kept, parts[0].file, path)}"
        files[name] = InputFile(path, shown=shown)
    return NamedCampaign(fields=body.root, files=files, digests=digests)


def _kept(sent: IO[bytes], path: Path) -> str:
    """Copy an upload to a file of its own, and return the digest of its content."""
    sent.seek(0)
    with path.open("xb") as file:
        copyfileobj(sent, file)
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
