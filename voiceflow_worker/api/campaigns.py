"""Campaigns: preview one, start one."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.datastructures import FormData, UploadFile

from voiceflow_worker.api.asked import Asked, Calls, answer, told_in
from voiceflow_worker.api.models import Json, KeyOfStart, Told
from voiceflow_worker.api.problems import MISSING, UNREADABLE, FindingTold, ProblemError, finding_of, refused, told
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.service.named_campaign import NamedCampaign
from voiceflow_worker.service.uploads import uploading

LONGEST_FILE: Final = 20_000_000
_LONGEST_PART: Final = 1_000_000
_ENDING: Final = re.compile(r"(?:\.[a-z0-9]{1,8})?$")
_CAMPAIGN: Final = {
    **schema_of(Of.CAMPAIGN, without=("campaign", "file", "rejects")),
    "description": "The fields of a campaign. What is left out comes from the settings of the server. Without `rows`, "
    "upload a file.",
}
_FILE: Final = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "description": "The people. The ending of its filename tells the format.",
}
_BODY: Final = {
    "required": True,
    "content": {
        "application/json": {"schema": _CAMPAIGN},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["definition"],
                "properties": {"definition": _CAMPAIGN, "file": _FILE},
            },
            "encoding": {"definition": {"contentType": "application/json"}},
        },
    },
}
routes: Final = APIRouter()


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


@routes.post(
    "/v1/campaigns",
    status_code=201,
    response_model=Enqueued,
    responses={200: {"model": Enqueued}},
    openapi_extra={"requestBody": _BODY},
)
async def begin(
    asked: Calls,
    *,
    key: KeyOfStart = None,
    dry_run: Annotated[bool, Query(description="1: a preview, which changes nothing.")] = False,
) -> Any:
    """Start a campaign: all of its calls, or none. 200 is a preview, or the campaign of this key, started before."""
    if key is None and not dry_run:
        raise refused([FindingTold(code=MISSING, parameter="Idempotency-Key", detail="is missing")])
    server, queue = asked.server, asked.queue()
    how: dict[str, Any] = {"settings": server.settings, "menus": server.menus}
    async with _received(asked) as campaign:
        with told_in(campaign.fields, _CAMPAIGN, asked.request.query_params):
            if key is None or dry_run:
                report, is_new = await campaign.preview(queue, server.process, key=key, **how), False
            else:
                by = asked.actor(key)
                report, is_new = await campaign.start(queue, server.process, key=key, by=by, **how)
        document = _document(report, campaign.fields)
    if dry_run or not (report.enqueued or report.replaced or report.duplicates):  # nothing was made
        return answer(document)
    return asked.made(document, f"/v1/batches/{quote(report.batch_id, safe='')}", is_new=is_new)


def _document(report: EnqueueReport, fields: Mapping[str, Any]) -> dict[str, object]:
    found = [finding_of(each, body=fields, schema=_CAMPAIGN) for each in report.findings]
    return replace(report, findings=()).as_json() | {"findings": told(found)}


@asynccontextmanager
async def _received(asked: Asked) -> AsyncGenerator[NamedCampaign]:
    """Give the campaign in the body of a request, with its file in a folder. Raises ProblemError."""
    request = asked.request
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with asked.aside():
            content = await request.body()
        yield NamedCampaign(fields=_fields_in(content), files={}, digests={})
        return
    async with _form(asked) as form:
        fields, file = _fields_in(await _definition(form)), form.get("file")
        if file is None:
            yield NamedCampaign(fields=fields, files={}, digests={})
            return
        if not isinstance(file, UploadFile) or len(form.getlist("file")) > 1:
            raise refused([FindingTold(parameter="file", detail="give one file, whose ending tells the format")])
        if (file.size or 0) > LONGEST_FILE:
            raise ProblemError(413, f"the file is longer than {LONGEST_FILE} bytes; use `voiceflow enqueue`")
        content = await file.read()
    with uploading() as folder:
        # The name tells the format, and nothing else of it is used.
        ending = _ENDING.search((file.filename or "").lower())
        shown = f"file{ending[0] if ending else ''}"
        await anyio.Path(path := folder / shown).write_bytes(content)
        digest = f"{shown} {sha256(content).hexdigest()}"
        yield NamedCampaign(fields=fields, files={"file": InputFile(path, shown=shown)}, digests={"file": digest})


@asynccontextmanager
async def _form(asked: Asked) -> AsyncGenerator[FormData]:
    """Give the form in the body of a request. Raises ProblemError."""
    async with AsyncExitStack() as stack:
        try:
            async with asked.aside():
                sent = asked.request.form(max_part_size=_LONGEST_PART, max_files=2, max_fields=2)
                form = await stack.enter_async_context(sent)
        except (ValueError, LookupError) as error:  # of an odd charset
            detail = f"the form cannot be read: {str(error)[:200]}"
            raise refused([FindingTold(code=UNREADABLE, detail=detail)], 400) from None
        yield form


async def _definition(form: FormData) -> bytes:
    """Return the part of a form with the JSON. Raises ProblemError."""
    value = form.get("definition")
    if value is None or len(form.multi_items()) > len({"definition", "file"} & {*form}):
        raise refused([FindingTold(detail="give the fields as one JSON object in the part definition, and one file")])
    return value.encode() if isinstance(value, str) else await value.read()


def _fields_in(content: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises ProblemError."""
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise refused([FindingTold(code=UNREADABLE, detail=f"the body is not JSON: {str(error)[:200]}")], 400) from None
    if not isinstance(found, dict):
        raise refused([FindingTold(pointer="", detail="the body is not a JSON object")])
    return found
