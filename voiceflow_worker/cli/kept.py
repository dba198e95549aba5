"""`voiceflow kept`: webhook events that the receiver could not understand."""

from __future__ import annotations

import base64
from codecs import getincrementaldecoder
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.options import JsonOption, LimitOption, WholeStoreOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.registering import add_command
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.records.call_json import rfc3339
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.moment import in_words

if TYPE_CHECKING:
    from voiceflow_worker.webhooks.kept_events import KeptEvent, KeptLabel

LIST_EXAMPLES = """Examples:
  voiceflow kept list
  voiceflow kept list --limit 0 --json | jq -r .reason | sort | uniq -c"""
SHOW_EXAMPLES = """Examples:
  voiceflow kept show 01jb3w8z5q7x9v2k4m6n8p0r2t
  voiceflow kept show 01jb3w8z5q7x9v2k4m6n8p0r2t --json | jq -r .body"""
CLEAR_EXAMPLES = """Example:
  voiceflow kept clear"""

EventId = Annotated[str, Parameter(name="ID", help="The id of the event, as `kept list` shows it.")]


def kept_group() -> App:
    """`kept` with its commands."""
    group = App(name="kept", help="Inspect webhook events that the receiver could not understand.")
    add_command(group, list_kept, name="list", examples=LIST_EXAMPLES)
    add_command(group, show, examples=SHOW_EXAMPLES)
    add_command(group, clear, examples=CLEAR_EXAMPLES)
    return group


async def list_kept(
    *, limit: LimitOption = 100, json: JsonOption = False, where: WholeStoreOptions | None = None
) -> ExitCode:
    """List the events that were kept, the newest first: broken, foreign and unknown ones.

    A receiver keeps the newest 1,000, for seven days. With --json, one event per line.
    """
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        labels = await KeptEvents(calls.store).newest(limit or None)
    for label in labels:
        output.document(_as_json(label))
    if not labels:
        output.answer("no events were kept")
    elif not json:
        rows = [
            (each.id, in_words(each.at), each.reason, each.answered, each.size, each.event_type, each.sender)
            for each in labels
        ]
        output.table(("id", "at", "reason", "#answered", "#bytes", "type", "from"), rows)
    return ExitCode.DONE


async def show(event_id: EventId, /, *, json: JsonOption = False, where: WholeStoreOptions | None = None) -> ExitCode:
    """Show one event as it came: the first 16 KB of its body, and its content type."""
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        kept = await KeptEvents(calls.store).get(event_id)
    if kept is None:
        raise InvalidInputError(f"event {event_id} is not kept; `voiceflow kept list` lists the events that are")
    label, text = kept.label, _text(kept)
    body = {"body_base64": base64.b64encode(kept.body).decode()} if text is None else {"body": text}
    output.document({**_as_json(label), "cut": kept.is_cut, **body})
    origin = (("type", label.event_type), ("from", label.sender), ("content type", label.content_type))
    cut = f", of which the first {len(kept.body)} are here" if kept.is_cut else ""
    output.answer(
        f"{label.id}, {in_words(label.at)}: {label.reason}, answered with {label.answered}",
        *(f"  {name}: {value}" for name, value in origin if value is not None),
        f"  {count_of(label.size, 'byte')}{cut}",
        "",
        kept.body.decode(errors="backslashreplace") if text is None else text,
    )
    return ExitCode.DONE


async def clear(*, json: JsonOption = False, where: WholeStoreOptions | None = None) -> ExitCode:
    """Delete all events that were kept."""
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = Output(as_json=json)
    async with opened_queue(settings_from(where)) as calls:
        count = await KeptEvents(calls.store).clear()
    output.document({"cleared": count})
    output.answer(f"{count_of(count, 'event')} deleted")
    return ExitCode.DONE


def _as_json(label: KeptLabel) -> dict[str, object]:
    return {**asdict(label), "at": rfc3339(label.at)}


def _text(kept: KeptEvent) -> str | None:
    """The body as text; None if it is not UTF-8. A character that was cut at the end is left out."""
    try:
        return getincrementaldecoder("utf-8")().decode(kept.body, final=not kept.is_cut)
    except UnicodeDecodeError:
        return None
