"""Campaigns and batches: preview one, start one, look at it, wait for its end, hold, resume and cancel it."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import file_digest
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any, Final
from urllib.parse import quote

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import FormData, UploadFile

from voiceflow_worker.actions import UnknownSubjectError
from voiceflow_worker.actions.edits import EditBatch
from voiceflow_worker.actions.imports import DiscardStaged, ReleaseStaged
from voiceflow_worker.actions.queues import CancelBatch, Hold, Resume
from voiceflow_worker.api.answers import JSON, Answer, ProblemError, etag, shortened
from voiceflow_worker.api.exchange import LONGEST_BODY, LONGEST_WAIT, MOST_CAMPAIGNS, Asked, Route, texts_in
from voiceflow_worker.api.openapi import (
    IF_MATCH,
    KEY,
    OBJECT,
    OBJECT_OR_NULL,
    in_path,
    in_query,
    one_of,
    operation,
    ref,
)
from voiceflow_worker.api.steering import done, duration_in, of_gate
from voiceflow_worker.campaigns.enqueue import EnqueueReport
from voiceflow_worker.campaigns.fields import EDITED, properties_of, schema_of
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.outcomes.batch_ends import is_open
from voiceflow_worker.core.ports.names import BatchNames
from voiceflow_worker.core.reporting.batches import read_batch
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.service.named_campaign import NamedCampaign
from voiceflow_worker.service.uploads import uploading

MULTIPART: Final = "multipart/form-data"
LONGEST_FILE: Final = 20_000_000
UPLOAD_LIMIT: Final = 60.0
CAMPAIGN_LIMIT: Final = 300.0
"""The most seconds for the reading of an upload, and for a preview or a start."""
_FILES: Final = ("file", "prices")
_DEFINITION: Final = "definition"
_ENDING = re.compile(r"(?:\.[a-z0-9]{1,8})?(?:\.gz)?$")


async def begin(asked: Asked) -> Answer:
    """`POST /v1/campaigns`: start a campaign, or preview it."""
    is_preview = _says_yes(asked.known_query("dry_run").get("dry_run"))
    key = asked.key if not is_preview or "idempotency-key" in asked.headers else None
    desk = asked.desk
    how: dict[str, Any] = {"settings": desk.settings, "menus": desk.menus}
    with (
        _turn(desk.campaigns),
        uploading() as folder,
        anyio.move_on_after(CAMPAIGN_LIMIT),
    ):
        campaign = await _received(asked, folder)
        asked.step_aside()  # it has a turn of its own, and others are answered meanwhile
        if is_preview:
            report = await campaign.preview(desk.queue, desk.process, key=key, **how)
            return Answer(_bounded(report), headers=etag(report.seen))
        by = asked.operator.actor
        with asked.alone(asked.key):
            report, is_new = await campaign.start(
                desk.queue, desk.process, key=asked.key, by=by, seen=asked.seen, **how
            )
        where = {"Location": f"/v1/batches/{quote(report.batch_id, safe='')}"}
        return Answer(_bounded(report), 201 if is_new else 200, where)
    raise ProblemError(
        503,
        f"the campaign took longer than {CAMPAIGN_LIMIT:.0f} seconds, and nobody rings before its last call is stored. "
        "Ask again with the same key, which adds what is missing, or enqueue a large file by the command",
        headers={"Retry-After": "5"},
    )


def _says_yes(text: str | None) -> bool:
    if text not in {None, "1", "true", "yes", "0", "false", "no"}:
        raise InvalidInputError(f"dry_run is {str(text)[:40]!r}; give 1 for a preview, or leave it out")
    return text in {"1", "true", "yes"}


@contextmanager
def _turn(free: anyio.Semaphore) -> Generator[None]:
    """A place among the campaigns that are read at once. Raises ProblemError if there is none."""
    try:
        free.acquire_nowait()
    except anyio.WouldBlock:
        raise ProblemError(
            429, f"{MOST_CAMPAIGNS} campaigns are being read; try again in a moment", headers={"Retry-After": "5"}
        ) from None
    try:
        yield
    finally:
        free.release()


def _bounded(report: EnqueueReport) -> dict[str, object]:
    return replace(report, findings=shortened(report.findings)).as_json()


async def _received(asked: Asked, folder: Path) -> NamedCampaign:
    """The campaign in the body of a request, with its files in a folder. Raises ProblemError, InvalidInputError."""
    if asked.media_type != MULTIPART:
        return NamedCampaign(fields=await asked.json(), files={}, digests={})
    longest = LONGEST_FILE + LONGEST_BODY
    async with asked.form(longest=longest, longest_text=LONGEST_BODY, within=UPLOAD_LIMIT) as form:
        definition = await asked.json_object(await _definition(form))
        files: dict[str, InputFile] = {}
        digests: dict[str, str] = {}
        for name in _FILES:
            parts = form.getlist(name)
            if not parts:
                continue
            if len(parts) > 1 or not isinstance(parts[0], UploadFile):
                raise InvalidInputError(f"{name} must be one part, with a filename; its ending tells the format")
            if (parts[0].size or 0) > LONGEST_FILE:
                raise ProblemError(413, f"{name} is longer than {LONGEST_FILE} bytes; enqueue it by the command")
            # The name tells the format, and nothing else of it is used.
            ending = _ENDING.search((parts[0].filename or "").lower())
            shown = f"{name}{ending[0] if ending else ''}"
            path = folder / shown
            digests[name] = f"{shown} {await run_sync(_kept, parts[0].file, path)}"
            files[name] = InputFile(path, shown=shown)
    return NamedCampaign(fields=definition, files=files, digests=digests)


async def _definition(form: FormData) -> bytes:
    """The part with the definition, whatever its name. Raises InvalidInputError without one, or with several."""
    others = [(name, value) for name, value in form.multi_items() if name not in _FILES]
    if len(others) != 1:
        names = ", ".join(name[:40] for name, _ in others) or "none"
        raise InvalidInputError(
            f"the form has {len(others)} parts beside the files ({names}); give the fields of the campaign as one JSON "
            f"object, in the part {_DEFINITION}"
        )
    ((_, value),) = others
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if (value.size or 0) > LONGEST_BODY:
        raise ProblemError(413, f"the definition is longer than {LONGEST_BODY} bytes; send many rows as a file")
    return await value.read()


def _kept(sent: IO[bytes], path: Path) -> str:
    """Copy an upload to a file of its own, and return the digest of its content."""
    sent.seek(0)
    with path.open("xb") as file:
        copyfileobj(sent, file)
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


async def show(asked: Asked) -> Answer:
    """`GET /v1/batches/{id}`, which may wait for its end."""
    asked.known_query("wait")
    wait = asked.number("wait", most=LONGEST_WAIT, default=0)
    queue, batch = asked.desk.queue, asked.parts["id"]
    if (unknown := await BatchNames(queue.store, queue.name).why_unknown(batch)) is not None:
        raise UnknownSubjectError(unknown)
    if wait and await is_open(queue.store, queue.name, batch):
        await asked.until(partial(queue.wait_for_batch, batch), within=wait)
    progress, report = await read_batch(queue.store, queue.name, batch), await queue.report(batch, totals_only=True)
    ended = not await is_open(queue.store, queue.name, batch)
    seen = await Hold(**_of(asked)).gate_seen()
    return Answer({**report.as_json(), **progress.as_json(), "ended": ended}, headers=etag(seen))


async def hold(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/hold`."""
    asked.known_query()
    given = texts_in(await asked.json(or_nothing=True), "note", "for")
    return await done(Hold(**_of(asked), note=given["note"], lasts=duration_in(given, "for")), of_gate(asked.seen))


async def resume(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/resume`. With `staged`, it lets the staged calls of the batch ring instead."""
    asked.known_query()
    note, staged = await _staged(asked)
    return await done((ReleaseStaged if staged else Resume)(**_of(asked), note=note), _seen(asked, staged=staged))


async def cancel(asked: Asked) -> Answer:
    """`POST /v1/batches/{id}/cancel`. With `staged`, only the staged calls of the batch."""
    asked.known_query()
    note, staged = await _staged(asked)
    act = (DiscardStaged if staged else CancelBatch)(**_of(asked), note=note)
    return await done(act, _seen(asked, staged=staged))


def _seen(asked: Asked, *, staged: bool) -> str | None:
    """What a program has seen of the hold of a batch. Staged calls are no part of the ETag of a batch."""
    return None if staged else of_gate(asked.seen)


async def _staged(asked: Asked) -> tuple[str | None, bool]:
    """The note in a body, and whether the order is about staged calls. Raises InvalidInputError."""
    body = dict(await asked.json(or_nothing=True))
    staged = body.pop("staged", None)
    if staged is not None and not isinstance(staged, bool):
        raise InvalidInputError(f"staged is {str(staged)[:40]!r}; give true or false")
    return texts_in(body, "note")["note"], bool(staged)


async def edit(asked: Asked) -> Answer:
    """`PATCH /v1/batches/{id}`. With `dry_run`, what the calls would become."""
    is_preview = _says_yes(asked.known_query("dry_run").get("dry_run"))
    changes = dict(await asked.json())
    note = texts_in({"note": changes.pop("note", None)}, "note")["note"]
    act = EditBatch(**_of(asked), note=note, changes=changes)
    if not is_preview:
        return await done(act, asked.seen)
    found = await act.preview()
    return Answer(found.as_json(), headers=etag(found.at.isoformat()))


def _of(asked: Asked) -> dict[str, Any]:
    return {"operator": asked.operator, "queue": asked.desk.queue.name, "batch": asked.parts["id"]}


_ID = in_path("id", "The batch's id.")
_GATE: Mapping[int, tuple[str, Mapping[str, object]]] = {200: ("The hold of the batch, as it is now.", ref("Gate"))}


def _campaign_doc() -> dict[str, object]:
    doc: dict[str, Any] = operation(
        "Start a campaign: all of its calls, or none. With dry_run=1, preview it: nobody is called.",
        parameters=[
            {**KEY, "required": False, "description": f"{KEY['description']} Only a preview needs none."},
            {
                **IF_MATCH,
                "description": "The ETag of a preview: if the start would do anything else, the answer is 412.",
            },
            in_query("dry_run", "1: a preview.", one_of(["1", "true", "yes", "0", "false", "no"])),
        ],
        body=ref("Campaign"),
        answers={
            200: (
                "The preview; or the campaign of this key, to which at most what was missing was added.",
                ref("Enqueued"),
            ),
            201: ("The campaign was started.", ref("Enqueued")),
        },
        problems=[409, 412],
    )
    upload = {"type": "string", "contentMediaType": "application/octet-stream"}
    doc["requestBody"]["content"][MULTIPART] = {
        "schema": {
            "type": "object",
            "required": [_DEFINITION],
            "additionalProperties": False,
            "properties": {
                _DEFINITION: ref("Campaign"),
                "file": {**upload, "description": "The people. The ending of its filename tells the format."},
                "prices": {**upload, "description": "A CSV with prices, for the cost in the preview."},
            },
        },
        "encoding": {_DEFINITION: {"contentType": JSON}},
    }
    return doc


def _of_batch(method: str, path: str, handle: Any, summary: str, **doc: Any) -> Route:
    more = doc.pop("more", [IF_MATCH])
    made = operation(summary, parameters=[_ID, *more], problems=doc.pop("problems", [404, 409, 412]), **doc)
    return Route(method=method, path=f"/v1/batches/{{id}}{path}", handle=handle, doc=made)


_EITHER_RELEASED: Mapping[str, object] = {"anyOf": [ref("Gate"), ref("ReleasedCalls")]}
_EITHER_DISCARDED: Mapping[str, object] = {"anyOf": [ref("CancelledBatch"), ref("DiscardedCalls")]}
_WAIT = in_query(
    "wait",
    "The most seconds to wait until the batch has ended. It may not have ended then: look at `ended`.",
    {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
)
ROUTES: Final = (
    Route(method="POST", path="/v1/campaigns", handle=begin, doc=_campaign_doc()),
    _of_batch(
        "GET",
        "",
        show,
        "A batch: its calls by state, outcomes, answers and costs.",
        more=[_WAIT],
        problems=[404],
        answers={200: ("The batch.", ref("Batch"))},
    ),
    _of_batch(
        "PATCH", "", edit, "Change the waiting calls of a batch. Calls that were sent stay as they are.",
        more=[in_query("dry_run", "1: change nothing, and tell what would change.",
                       one_of(["1", "true", "yes", "0", "false", "no"]))],
        body=ref("BatchEdit"), answers={200: ("What became of the waiting calls.", ref("EditedBatch"))},
    ),
    _of_batch(
        "POST", "/hold", hold, "Send no more calls of a batch.",
        body=ref("HoldRequest"), body_required=False, answers=_GATE,
    ),
    _of_batch(
        "POST", "/resume", resume, "End the hold of a batch; or let its staged calls ring.",
        body=ref("StagedRequest"), body_required=False,
        answers={200: ("The hold of the batch, as it is now; or the calls that were released.", _EITHER_RELEASED)},
    ),
    _of_batch(
        "POST", "/cancel", cancel, "Cancel a batch for good: its waiting calls, and what is added to it later.",
        body=ref("StagedRequest"), body_required=False,
        answers={200: ("The calls that were cancelled.", _EITHER_DISCARDED)},
    ),
)  # fmt: skip

_TEXT: Mapping[str, object] = {"type": ["string", "null"]}
_COUNT: Mapping[str, object] = {"type": "integer"}
_COUNTS: Mapping[str, object] = {"type": "object", "additionalProperties": _COUNT}
SCHEMAS: Final[Mapping[str, object]] = {
    "Campaign": {
        **schema_of(Of.CAMPAIGN, without=("campaign", "file", "prices", "rejects")),
        "description": "The fields of a campaign: texts as one types them, or numbers, true and false, lists, and "
        "objects of names. What is left out comes from the settings of the server. Without `rows`, upload a file.",
    },
    "Enqueued": {
        "type": "object",
        "description": "As `voiceflow enqueue --json` prints it; a `preview` is that of --dry-run.",
        "required": ["batch_id", "enqueued", "duplicates", "rejected", "findings"],
        "properties": {
            "batch_id": {"type": "string"},
            **dict.fromkeys(("enqueued", "duplicates", "suppressed", "rejected", "rows", "valid", "again"), _COUNT),
            "ended": {**_COUNTS, "description": "Duplicates whose calls ended before they were sent, by state."},
            "dry_run": {"type": "boolean"},
            "findings": {"type": "array", "items": ref("Finding")},
            "preview": OBJECT,
        },
    },
    "Batch": {
        "type": "object",
        "description": "As `voiceflow batches --json` prints it, with the head of its report.",
        "required": ["batch_id", "queue", "total", "states", "done", "doubts", "ended", "outcomes", "answers"],
        "properties": {
            "batch_id": {"type": "string"},
            "queue": {"type": "string"},
            "total": _COUNT,
            "states": _COUNTS,
            "done": _COUNT,
            "doubts": _COUNT,
            "staged": {**_COUNT, "description": "Calls of an import that has not ended: nobody is called for them."},
            "ended": {"type": "boolean", "description": "No call waits, is in progress, or is in doubt."},
            "rate_now": {"type": "number"},
            "ends_at": _TEXT,
            "hold": OBJECT_OR_NULL,
            "outcomes": _COUNTS,
            "answered": _COUNT,
            "answer_rate": {"type": ["number", "null"]},
            "answers": _COUNTS,
            "seconds": {"type": "number"},
            "cost": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    },
    "BatchEdit": {
        "type": "object",
        "description": "Fields as of a campaign. What is left out stays.",
        "additionalProperties": False,
        "properties": {"note": _TEXT, **properties_of(Of.CAMPAIGN, EDITED)},
    },
    "EditedBatch": {
        "type": "object",
        "required": ["batch_id", "edited", "unchanged"],
        "properties": {
            "batch_id": {"type": "string"},
            **dict.fromkeys(("edited", "unchanged", "later", "leaving", "too_late"), _COUNT),
            "dry_run": {"type": "boolean"},
            "first_at": _TEXT,
            "last_at": _TEXT,
        },
    },
    "StagedRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "note": _TEXT,
            "staged": {
                "type": ["boolean", "null"],
                "description": "true: only the calls that an import which was cut has staged in the batch.",
            },
        },
    },
    "ReleasedCalls": {
        "type": "object",
        "required": ["batch_id", "released"],
        "properties": {"batch_id": {"type": "string"}, "released": _COUNT},
    },
    "DiscardedCalls": {
        "type": "object",
        "required": ["batch_id", "discarded"],
        "properties": {"batch_id": {"type": "string"}, "discarded": _COUNT},
    },
    "CancelledBatch": {
        "type": "object",
        "required": ["batch_id", "cancelled"],
        "properties": {"batch_id": {"type": "string"}, "cancelled": _COUNT},
    },
}
