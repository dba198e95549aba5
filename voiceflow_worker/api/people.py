"""What concerns people, for programs: their erasure, and who ordered what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from voiceflow_worker.api.answers import Answer
from voiceflow_worker.api.exchange import Asked, Route
from voiceflow_worker.api.openapi import OBJECT, in_path, in_query, one_of, operation, ref
from voiceflow_worker.api.steering import done
from voiceflow_worker.backends.local_journal import journal_files
from voiceflow_worker.core.audit import Interface, read_page
from voiceflow_worker.service.forget import Forget

MOST_LISTED = 1000


async def show_audit(asked: Asked) -> Answer:
    """`GET /v1/audit`."""
    query = asked.known_query("after", "limit")
    limit = asked.number("limit", least=1, most=MOST_LISTED, default=100)
    found = await read_page(asked.desk.store, after=query.get("after", ""), limit=limit)
    after = found[-1].id if len(found) == limit else None
    return Answer({"entries": [entry.as_json() for entry in found], "after": after})


async def forget(asked: Asked) -> Answer:
    """`DELETE /v1/people/{number}`."""
    country = asked.known_query("country").get("country")
    desk = asked.desk
    files = journal_files(desk.settings, desk.store)
    return await done(Forget(operator=asked.operator, number=asked.parts["number"], country=country, files=files), None)


ROUTES: Final = (
    Route(
        method="DELETE",
        path="/v1/people/{number}",
        handle=forget,
        doc=operation(
            "Erase a person, in every queue.",
            parameters=[
                in_path("number", "A phone number, such as +6587654321."),
                in_query("country", "The country of a national number, such as SG."),
            ],
            problems=[409],
            answers={200: ("What was erased, without the number.", ref("Receipt"))},
        ),
    ),
    Route(
        method="GET",
        path="/v1/audit",
        handle=show_audit,
        doc=operation(
            "Who ordered what, the newest first.",
            parameters=[
                in_query("after", "Continue behind the entry with this id: the `after` of the last page."),
                in_query(
                    "limit",
                    "The most entries of a page.",
                    {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 100},
                ),
            ],
            answers={200: ("One page of the audit log.", ref("Audit"))},
        ),
    ),
)

_TEXT_OR_NULL: Mapping[str, object] = {"type": ["string", "null"]}
SCHEMAS: Final[Mapping[str, object]] = {
    "Receipt": {
        "type": "object",
        "required": ["receipt", "at", "erased", "cancelled", "kept", "not_ours"],
        "properties": {
            "receipt": {"type": "string"},
            "at": {"type": "string", "format": "date-time"},
            "erased": {"type": "object", "additionalProperties": {"type": "integer"}},
            "cancelled": {"type": "integer", "description": "Waiting calls that are never made."},
            "kept": OBJECT,
            "not_ours": {"type": "string", "description": "Where else to look."},
        },
    },
    "Audit": {
        "type": "object",
        "required": ["entries", "after"],
        "properties": {
            "entries": {"type": "array", "items": ref("AuditEntry")},
            "after": {**_TEXT_OR_NULL, "description": "What continues the list; null at its end."},
        },
    },
    "AuditEntry": {
        "type": "object",
        "required": ["id", "at", "action", "on", "by", "as", "queue", "batch_id", "call_id", "note", "result"],
        "properties": {
            "id": {"type": "string"},
            "at": {"type": "string", "format": "date-time"},
            "action": {"type": "string"},
            "on": one_of(interface.value for interface in Interface),
            "by": {**_TEXT_OR_NULL, "description": "The login, the name of the API secret, or the DAG and its run."},
            "as": {**_TEXT_OR_NULL, "description": "The name that the person gave."},
            "queue": _TEXT_OR_NULL,
            "batch_id": _TEXT_OR_NULL,
            "call_id": _TEXT_OR_NULL,
            "numbers": {"type": "array", "items": {"type": "string"}},
            "note": _TEXT_OR_NULL,
            "result": {**_TEXT_OR_NULL, "description": "null: the process died before it was known."},
        },
    },
}
