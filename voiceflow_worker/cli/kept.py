"""`voiceflow kept`: show webhook events that the receiver could not understand."""

from __future__ import annotations

import base64
from codecs import getincrementaldecoder
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import LimitOption, WholeStoreOptions
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.moment import in_words, rfc3339

if TYPE_CHECKING:
    from voiceflow_worker.webhooks.kept_events import KeptEvent

EventId = Annotated[str, Parameter(name="ID", help="The id of the event, as `kept list` shows it.")]


async def list_kept(*, limit: LimitOption = 100, common: WholeStoreOptions = WholeStoreOptions()) -> None:
    """List the events that a receiver could not understand and therefore kept, the newest first.

    A receiver keeps the newest such events, at most 1,000, for seven days. With --json, one event per line.

    Examples:
        voiceflow kept list
        voiceflow kept list --limit 0 --json | jq -r .reason | sort | uniq -c
    """
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = common.output()
    async with common.opened() as calls:
        found = await KeptEvents(calls.store).newest(limit or None)
    if not found:
        output.answer("no events were kept")
    shown = rfc3339 if output.as_json else in_words
    output.records(_labels(event) | {"at": shown(event.at)} for event in found)


async def show(event_id: EventId, /, *, common: WholeStoreOptions = WholeStoreOptions()) -> None:
    """Show one event as it arrived, with the first 16 KB of its body.

    Examples:
        voiceflow kept show 01jb3w8z5q7x9v2k4m6n8p0r2t
        voiceflow kept show 01jb3w8z5q7x9v2k4m6n8p0r2t --json | jq -r .body
    """
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = common.output()
    async with common.opened() as calls:
        kept = await KeptEvents(calls.store).get(event_id)
    if kept is None:
        raise InvalidInputError(f"there is no kept event {event_id}; `voiceflow kept list` lists the kept events")
    label = _labels(kept) | {"at": rfc3339(kept.at), "cut": len(kept.body) < kept.size}
    try:
        # A character that was cut in two at the end is left out.
        text = getincrementaldecoder("utf-8")().decode(kept.body, final=not label["cut"])
        output.document({**label, "body": text})
    except UnicodeDecodeError:
        text = kept.body.decode(errors="backslashreplace")
        output.document({**label, "body_base64": base64.b64encode(kept.body).decode()})
    for_people = label | {"at": in_words(kept.at)}
    output.answer(*(f"{name.replace('_', ' ')}: {value}" for name, value in for_people.items() if value is not None))
    output.answer(f"\nThe first {len(kept.body)} bytes:" if label["cut"] else "", text)


async def clear(*, common: WholeStoreOptions = WholeStoreOptions()) -> None:
    """Delete all kept events.

    Examples:
        voiceflow kept clear
    """
    from voiceflow_worker.webhooks.kept_events import KeptEvents

    output = common.output()
    async with common.opened() as calls:
        count = await KeptEvents(calls.store).clear()
    output.document({"cleared": count})
    output.answer(f"{count_of(count, 'event')} deleted")


def _labels(event: KeptEvent) -> dict[str, object]:
    return {name: each for name, each in asdict(event).items() if name != "body"}
