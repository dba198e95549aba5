"""`voiceflow kept`: what came to the receiver and could not be understood."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue, settings_from
from voiceflow_worker.cli.options import STORE_GROUP, JsonOption, StoreOption, WaitOption
from voiceflow_worker.cli.output import Output, count_of
from voiceflow_worker.cli.registering import add_command
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.records.call_json import rfc3339
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

AnyQueue = Annotated[
    str | None,
    Parameter(
        name="--queue", metavar="NAME", group=STORE_GROUP, help="Changes nothing here: events are kept for a store."
    ),
]
EventId = Annotated[str, Parameter(name="ID", help="The id of the event, as `list` tells it.")]


def kept_group() -> App:
    """`kept` with its commands."""
    group = App(name="kept", help="Look at webhook events that the receiver could not understand.")
    add_command(group, list_kept, name="list", examples=LIST_EXAMPLES)
    add_command(group, show, examples=SHOW_EXAMPLES)
    add_command(group, clear, examples=CLEAR_EXAMPLES)
    return group


async def list_kept(
    *,
    limit: int = 100,
    json: JsonOption = False,
    store: StoreOption = None,
    wait_for_store: WaitOption = None,
    queue: AnyQueue = None,
) -> ExitCode:
    """List the events that were kept, the newest first: broken, foreign, and new ones.

    A receiver keeps the newest 1,000, for seven days. With --json, one event a line.

    Args:
        limit: At most so many; 0 is all.
    """
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    if limit < 0:
        raise InvalidInputError(f"--limit {limit}: give a number of events, or 0 for all")
    output = Output(as_json=json)
    async with opened_queue(settings_from(store=store, queue=queue, wait_for_store=wait_for_store)) as calls:
        labels = await KeptEvents(calls.store).newest(limit or None)
    if json:
        for label in labels:
            output.document(_as_json(label))
    elif labels:
        output.table(
            ("id", "at", "reason", "#answered", "#bytes", "type", "from"),
            [
                (each.id, in_words(each.at), each.reason, each.answered, each.size, each.event_type, each.sender)
                for each in labels
            ],
        )
    else:
        output.say("no events were kept")
    return ExitCode.DONE


async def show(
    event_id: EventId,
    /,
    *,
    json: JsonOption = False,
    store: StoreOption = None,
    wait_for_store: WaitOption = None,
    queue: AnyQueue = None,
) -> ExitCode:
    """Show one event as it came. Of its body, the first 16 KB were kept; of its headers, only the content type."""
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = Output(as_json=json)
    async with opened_queue(settings_from(store=store, queue=queue, wait_for_store=wait_for_store)) as calls:
        kept = await KeptEvents(calls.store).get(event_id)
    if kept is None:
        raise InvalidInputError(f"no event {event_id} is kept; `voiceflow kept list` tells which are")
    label, text = kept.label, _text(kept)
    output.document({**_as_json(label), "cut": kept.is_cut, **_body_as_json(kept, text)})
    if not json:
        output.say(f"{label.id}, {in_words(label.at)}: {label.reason}, answered with {label.answered}")
        for name, value in (("type", label.event_type), ("from", label.sender), ("content type", label.content_type)):
            if value is not None:
                output.say(f"  {name}: {value}")
        cut = f", of which the first {len(kept.body)} are here" if kept.is_cut else ""
        output.say(f"  {count_of(label.size, 'byte')}{cut}")
        output.say()
        output.say(kept.body.decode(errors="backslashreplace") if text is None else text)
    return ExitCode.DONE


async def clear(
    *, json: JsonOption = False, store: StoreOption = None, wait_for_store: WaitOption = None, queue: AnyQueue = None
) -> ExitCode:
    """Forget all events that were kept."""
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = Output(as_json=json)
    async with opened_queue(settings_from(store=store, queue=queue, wait_for_store=wait_for_store)) as calls:
        count = await KeptEvents(calls.store).clear()
    output.document({"cleared": count})
    if not json:
        output.say(f"{count_of(count, 'event')} forgotten")
    return ExitCode.DONE


def _as_json(label: KeptLabel) -> dict[str, object]:
    return {**asdict(label), "at": rfc3339(label.at)}


def _body_as_json(kept: KeptEvent, text: str | None) -> dict[str, object]:
    if text is not None:
        return {"body": text}
    return {"body_base64": base64.b64encode(kept.body).decode()}


def _text(kept: KeptEvent) -> str | None:
    """The body as text; None when it is none. A letter that was cut in two at its end does not make it none."""
    for length in range(len(kept.body), len(kept.body) - (4 if kept.is_cut else 1), -1):
        try:
            return kept.body[:length].decode()
        except UnicodeDecodeError:
            continue
    return None
