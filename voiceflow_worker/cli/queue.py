"""Commands on a queue: `status`, `batches`, `hold`, `resume` and `rate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import (
    AsOption,
    BatchOption,
    DurationOption,
    Flag,
    LimitOption,
    NoteOption,
    QueueOptions,
    YesOption,
    rate_given,
)
from voiceflow_worker.cli.output import ExitCode, Output
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.wording import count_of, duration_in_words, rate_in_words

if TYPE_CHECKING:
    from voiceflow_worker.reporting.batches import BatchProgress
    from voiceflow_worker.service.whole_queue import WholeQueue


async def status(
    *,
    all_: Annotated[bool, Flag, Parameter(name="--all")] = False,
    common: QueueOptions = QueueOptions(),
) -> None:
    """Show a queue: calls by state, rate, holds, doubts.

    Args:
        all_: List all queues of the store, with their progress. With --json, one per line.

    Examples:
        voiceflow status
        voiceflow status --all --json | jq '{queue, done, total}'
    """
    await (_queues if all_ else _one_queue)(common)


async def _one_queue(common: QueueOptions) -> None:
    from voiceflow_worker.service.whole_queue import read_queue

    output = common.output()
    async with common.opened() as calls:
        whole = await read_queue(calls)
        found = whole.status
        url = calls.store.url
    output.document(whole.as_json())
    if output.as_json:
        return
    output.say(f"queue {found.queue} in {url}: {count_of(found.total, 'call')}")
    if found.total:
        output.table(("state", "#calls"), [(state.value, count) for state, count in found.states.items() if count])
    output.say(_rate_of(whole))
    if found.due:
        oldest = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
        output.say(f"due: {found.due}; the oldest has waited {oldest}")
    if found.next_call is not None:
        output.say(f"the next call may begin at {found.next_call.in_words()}")
    waiting = found.waiting.in_words()
    if waiting:
        output.say(f"waiting: {waiting}")
    for each in whole.conditions:
        output.say(f"{each.message}; {each.remedy}" if each.remedy else each.message)
    for order in whole.status.ordered[:3]:
        output.say(f"ordered: {order.in_words()}")


def _rate_of(whole: WholeQueue) -> str:
    from voiceflow_worker.core.set_rate import UNREADABLE

    found = whole.status
    now = f"now {found.rate_now:g} calls/s, by {count_of(found.workers, 'worker')}"
    if whole.unheard is not None and not found.workers:
        now = "now unknown, because workers cannot be heard"
    if found.limits is None:
        return f"rate: not set yet; {now}"
    if found.limits.are_unreadable:
        return f"rate: {UNREADABLE}; {now}"
    most = found.limits.max_active
    limit = "" if most is None else f", at most {count_of(most, 'open call')}"
    return f"rate: {rate_in_words(found.limits.rate)}{limit}; {now}"


async def batches(*, limit: LimitOption = 50, common: QueueOptions = QueueOptions()) -> None:
    """List the batches of a queue, the newest first.

    Progress, rate, remaining time, holds and doubts stand beside it. With --json, one per line.

    Examples:
        voiceflow batches
        voiceflow batches --limit 0
        voiceflow batches --json | jq -r 'select(.doubts > 0).batch_id'
    """
    from voiceflow_worker.reporting.batches import BATCHES_A_PAGE, read_batches

    output = common.output()
    found: list[BatchProgress] = []
    after: str | None = ""
    async with common.opened() as calls:
        while after is not None and (not limit or len(found) < limit):
            size = min(limit - len(found), BATCHES_A_PAGE) if limit else BATCHES_A_PAGE
            page = await read_batches(calls.store, [calls.name], after=after, limit=size)
            found += page.batches
            after = page.after
        url = calls.store.url
    _tell(output, found, column="batch", name=lambda each: each.batch_id or "")
    if after is not None:
        output.note(f"these are the newest {len(found)}; --limit 0 lists all")
    if not found:
        output.note(f"queue {calls.name} of {url} has no batches; `voiceflow enqueue` makes a batch of each file")


async def _queues(common: QueueOptions) -> None:
    from voiceflow_worker.reporting.batches import read_queues

    output = common.output()
    async with common.opened() as calls:
        found = await read_queues(calls.store, also=calls.name)
    _tell(output, found, column="queue", name=lambda each: each.queue)


def _tell(output: Output, found: Sequence[BatchProgress], *, column: str, name: Callable[[BatchProgress], str]) -> None:
    from voiceflow_worker.reporting.gates import closed_in_words

    for each in found:
        output.document(each.as_json())
    if output.as_json or not found:
        return
    columns = (column, "#calls", "#done", "#%", "#calls/s", "#remaining", "#in doubt")
    output.table(columns, [(name(each), *_figures(each)) for each in found])
    for each in found:
        if each.next_call is not None and each.hold is None:
            output.say(f"{name(each)}: the next call may begin at {each.next_call.in_words()}")
    for gate in dict.fromkeys(each.hold for each in found if each.hold is not None):
        output.say(closed_in_words(gate))


def _figures(each: BatchProgress) -> tuple[object, ...]:
    share = f"{each.done / each.total:.0%}" if each.total else ""
    left = "" if each.ends_at is None else str(timedelta(seconds=round((each.ends_at - each.at).total_seconds())))
    rate = f"{each.rate_now:g}" if each.rate_now else ""
    return each.total, each.done, share, rate, left, each.doubts or ""


async def hold(
    *,
    batch: BatchOption = None,
    note: NoteOption = None,
    for_: Annotated[DurationOption, Parameter(name="--for", help="Resume after this time, such as 10m or 2h.")] = None,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Hold a queue or a batch: no more calls are sent.

    Calls in flight finish. An existing hold that lasts longer is not shortened.

    Examples:
        voiceflow hold --note "the text has a wrong date"
        voiceflow hold --batch march --for 10m
    """
    from voiceflow_worker.actions.queues import Hold

    return await common.ordered(partial(Hold, batch=batch, note=note, lasts=for_), as_)


async def resume(
    *,
    batch: BatchOption = None,
    unread_files: Annotated[bool, Flag] = False,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Open a held queue or batch again.

    A cancelled batch stays cancelled, and the exit code is 1. A batch whose import has not ended stays held.

    Args:
        unread_files: Also open a queue that is held because journal files could not be read.
        yes: Do not ask for confirmation. Without a terminal, nobody is asked.

    Examples:
        voiceflow resume
        voiceflow resume --batch march
    """
    from voiceflow_worker.actions.queues import Resume

    act = partial(Resume, batch=batch, note=note, unread_files=unread_files)
    return await common.ordered(act, as_, yes=yes, asks=sys.stdin.isatty())


async def rate(
    new: Annotated[str | None, Parameter(name="N", help="Calls per second, such as 10 or 0.5, or unlimited.")] = None,
    /,
    *,
    reset: Annotated[bool, Flag] = False,
    note: NoteOption = None,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Show or change the rate of a queue.

    The change applies at once, to all its workers, also to those that start later with another --rate, until `voiceflow
    rate --reset`. Without N, the rate is shown.

    Args:
        reset: Remove the rate set by this command. Running workers take the rate of their settings within a second.

    Examples:
        voiceflow rate 5
        voiceflow rate unlimited --queue reminders
        voiceflow rate --reset
    """
    from voiceflow_worker.actions.queues import Rate

    output = common.output()
    if reset and new is not None:
        raise InvalidInputError("N and --reset exclude each other: give one of them")
    wanted = rate_given(new) if new is not None else None
    if reset or new is not None:
        return await common.ordered(partial(Rate, rate=wanted, resets=reset, note=note), as_)
    async with common.opened() as calls:
        limits = await limits_of(calls.store, calls.name)
    rate_now = None if limits is None else limits.rate
    output.document({"queue": calls.name, "rate": rate_now, "is_set": limits is not None})
    if limits is None:
        output.answer(f"queue {calls.name} has no rate yet: the first worker that starts sets it")
    else:
        output.answer(f"the rate of queue {calls.name} is {rate_in_words(limits.rate)} for all its workers")
    return ExitCode.DONE
