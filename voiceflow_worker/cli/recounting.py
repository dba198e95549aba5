"""`voiceflow doctor --recount`: the counters of a queue beside a count of all its calls."""

from __future__ import annotations

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import opened_queue
from voiceflow_worker.cli.output import Output
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.settings import Settings


async def recount_queue(output: Output, settings: Settings, *, mend: bool) -> ExitCode:
    """Count the calls of the queue, report wrong counters, and set them right with `mend`. Exit 1 where some stay."""
    from voiceflow_worker.core.overview.recount import recount

    async with opened_queue(settings) as calls:
        found = await recount(calls.store, calls.name, mend=mend)
        queue = calls.name
    moving = sorted("the queue" if batch is None else f"batch {batch}" for batch in found.moving)
    lines = found.in_words()
    output.document({"queue": queue, "calls": found.jobs, "wrong": lines, "moving": moving, "mended": found.mended})
    if output.as_json:
        return ExitCode.UNDONE if (lines and not found.mended) or moving else ExitCode.DONE
    for line in lines:
        output.say(line)
    if moving:
        output.say(
            f"not proven, because calls moved while they were counted: {', '.join(moving)}. Hold the queue, or count "
            "again when fewer calls are sent"
        )
    if not lines:
        output.say(f"queue {queue}: {count_of(found.jobs, 'call')} counted; no counter is wrong")
    elif found.mended:
        output.say(f"queue {queue}: {count_of(found.jobs, 'call')} counted; the counters are right now")
    else:
        output.say(
            f"queue {queue}: {count_of(found.jobs, 'call')} counted; `voiceflow doctor --recount --mend` sets the "
            "counters right"
        )
    return ExitCode.UNDONE if (lines and not found.mended) or moving else ExitCode.DONE
