"""`voiceflow status`: show the state of a queue."""

from __future__ import annotations

from datetime import timedelta

from voiceflow_worker.cli.options import QueueOptions
from voiceflow_worker.core.overview.gate_story import closed_in_words
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.counting import count_of
from voiceflow_worker.model.text.duration import duration_in_words
from voiceflow_worker.model.text.rate import rate_in_words


async def status(*, common: QueueOptions = QueueOptions()) -> None:
    """Show the state of a queue: calls by state, the rate, due calls, holds, doubts.

    Examples:
        voiceflow status
        voiceflow status --queue reminders --json | jq .states
    """
    output = common.output()
    async with common.opened() as calls:
        found = await calls.status()
        url = calls.store.url
    output.document(found.as_json())
    if output.as_json:
        return
    output.say(f"queue {found.queue} in {url}: {count_of(found.total, 'call')}")
    if found.total:
        output.table(("state", "#calls"), [(state.value, count) for state, count in found.states.items() if count])
    limit = "not set yet" if found.limits is None else rate_in_words(found.limits.rate)
    if found.limits is not None and found.limits.max_active is not None:
        limit += f", at most {count_of(found.limits.max_active, 'open call')}"
    output.say(f"rate: {limit}; now {found.rate_now:g} calls/s, by {count_of(found.workers, 'worker')}")
    if found.due:
        oldest = duration_in_words(timedelta(seconds=found.oldest_due_seconds or 0))
        output.say(f"due: {found.due}; the oldest has waited {oldest}")
    if found.due and not found.workers:
        output.say("no worker is running: `voiceflow worker` sends due calls")
    waiting = found.waiting.in_words()
    if waiting:
        output.say(f"waiting: {waiting}")
    submitted = found.states[JobState.SUBMITTED]
    if submitted and not found.has_receiver:
        output.say(
            f"NO RECEIVER IS RUNNING: {count_of(submitted, 'call')} accepted by 8x8, without a summary; `voiceflow "
            "serve` receives summaries"
        )
    for gate in found.holds:
        output.say(closed_in_words(gate))
    if found.doubts:
        output.say(f"in doubt: {found.doubts}; see `voiceflow calls list --state in_doubt`")
    for number in found.odd_numbers:
        advice = "renew it with 8x8" if number.is_usable else "use another source for new calls"
        output.say(f"{number.in_words()}: {advice}")
