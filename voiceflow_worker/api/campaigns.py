"""Campaigns: preview one, start one."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Query
from starlette.datastructures import UploadFile

from voiceflow_worker.api.asked import Asked, Calls, answer, findings_in
from voiceflow_worker.api.models import Enqueued, KeyOfStart
from voiceflow_worker.api.problems import MISSING, UNREADABLE, FoundProblem, ProblemError, as_json, finding_of, refused
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.fields import schema_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.model.flows.values import is_object
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
    "description": "The people. The ending of its filename names the format.",
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
        raise refused([FoundProblem(code=MISSING, parameter="Idempotency-Key", detail="is missing")])
    server, queue = asked.server, asked.queue()
    how: dict[str, Any] = {"settings": server.settings, "menus": server.menus}
    async with _received(asked) as campaign, asked.aside(), server.starting:
        with findings_in(campaign.fields, _CAMPAIGN, asked.request.query_params):
            if key is None or dry_run:
                report, is_new = await campaign.preview(queue, key=key, **how), False
            else:
                by = asked.actor(key)
                report, is_new = await campaign.start(queue, key=key, by=by, **how)
        document = _document(report, campaign.fields)
    if dry_run or not (report.enqueued or report.replaced or report.duplicates):  # nothing was made
        return answer(document)
    return asked.made(document, f"/v1/batches/{quote(report.batch_id, safe='')}", is_new=is_new)


def _document(report: EnqueueReport, fields: Mapping[str, Any]) -> dict[str, object]:
    found = [finding_of(each, body=fields, schema=_CAMPAIGN) for each in report.findings]
    return replace(report, findings=()).as_json() | {"findings": as_json(found)}


@asynccontextmanager
async def _received(asked: Asked) -> AsyncGenerator[NamedCampaign]:
    """Give the campaign in the body of a request, with its file in a folder. Raises ProblemError."""
    request = asked.request
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with asked.aside():
            content = await request.body()
        yield NamedCampaign(fields=_fields_in(content), files={}, digests={})
        return
    with uploading() as folder:
        files, digests = dict[str, InputFile](), dict[str, str]()
        try:
            async with asked.aside(), request.form(max_part_size=_LONGEST_PART) as form:
                definition, file = form.get("definition"), form.get("file")
                content = await file.read() if isinstance(file, UploadFile) else b""
        except (ValueError, LookupError) as error:  # of an odd charset
            raise _unreadable(f"the form cannot be read: {error}") from None
        if not isinstance(definition, str) or (file is not None and not isinstance(file, UploadFile)):
            why = "give the fields as a JSON object in the part definition, and a file whose ending names the format"
            raise refused([FoundProblem(detail=why)])
        if len(content) > LONGEST_FILE:
            raise ProblemError(413, f"the file is longer than {LONGEST_FILE} bytes; use `voiceflow enqueue`")
        if file is not None:  # its name names the format, and nothing else of it is used
            ending = _ENDING.search((file.filename or "").lower())
            shown = f"file{ending[0] if ending else ''}"
            await anyio.Path(path := folder / shown).write_bytes(content)
            files, digests = {"file": InputFile(path, shown=shown)}, {"file": f"{shown} {sha256(content).hexdigest()}"}
        yield NamedCampaign(fields=_fields_in(definition), files=files, digests=digests)


def _fields_in(content: bytes | str) -> dict[str, Any]:
    """Return the JSON object in a body. Raises ProblemError."""
    try:
        found: object = json.loads(content)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"the body is not JSON: {error}") from None
    if not is_object(found):
        raise refused([FoundProblem(pointer="", detail="the body is not a JSON object")])
    return dict(found)


def _unreadable(why: str) -> ProblemError:
    return refused([FoundProblem(code=UNREADABLE, detail=why[:200])], 400)
