"""What a drain has left of a queue, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping

from voiceflow_worker.core.drain import DrainResult
from voiceflow_worker.core.heartbeats import NO_RECEIVER
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.reporting.gates import closed_in_words, gate_as_json, resume_of
from voiceflow_worker.reporting.status import QueueStatus


def states_in_words(counts: Mapping[JobState, int], *states: JobState) -> str:
    """Return the counts of these states, such as `3 sending, 12 submitted`. Counts of 0 are left out."""
    return ", ".join(f"{counts[state]} {state.value}" for state in states if counts[state])


def drained_as_json(status: QueueStatus, result: DrainResult) -> dict[str, object]:
    """Return the result of a drain as JSON, with the status of the queue after it."""
    return {
        "queue": status.queue,
        "states": {state.value: status.states[state] for state in JobState},
        "sent": result.sent,
        "later": result.later,
        "held": result.held,
        "holds": [gate_as_json(gate) for gate in result.holds],
        "doubts": result.doubts,
        "submitted": result.submitted,
        "total": status.total,
    }


def drained_lines(status: QueueStatus, result: DrainResult, *, stopped: bool, receiver: bool) -> list[str]:
    """Return a line with the end of the drain and the states of all calls, and one for each kind of call that is left.

    `stopped` is True if a person stopped the worker, and `receiver` if a receiver runs.
    """
    end = "is drained of what is due now" if result.later else "is drained"
    end = "is not drained, because of a hold" if result.stopped_by_hold else end
    end = "is not drained, because the worker was stopped" if stopped else end
    lines = [f"queue {status.queue} {end}: {states_in_words(status.states, *JobState) or 'no calls'}"]
    if result.later:
        words = [] if status.next_call is None else [f"the next may begin at {status.next_call.in_words()}"]
        words += [f"waiting: {waiting}"] if (waiting := status.waiting.in_words()) else []
        why = f" ({'; '.join(words)})" if words else ""
        lines.append(f"left in the queue for later: {count_of(result.later, 'call')}{why}; run this command again then")
    if result.submitted:
        without = f"{count_of(result.submitted, 'call')} accepted by 8x8 without a summary yet"
        lines.append(
            f"{without}; the receiver that is running stores the summaries when they come"
            if receiver
            else f"{NO_RECEIVER}: {without}; run `voiceflow serve`, or set VOICEFLOW_OUTCOMES=none"
        )
    if result.stopped_by_hold:
        opening = " and ".join(map(resume_of, result.holds))
        lines += [closed_in_words(gate) for gate in result.holds]
        lines.append(
            f"waiting behind a hold: {count_of(result.held, 'call')}; correct the cause, then {opening}, and run this "
            "command again"
        )
    if result.doubts:
        lines.append(
            f"in doubt: {count_of(result.doubts, 'call')} may have been placed and will not be sent again without "
            "evidence; see `voiceflow calls list --state in_doubt` and `voiceflow calls resolve`"
        )
    return lines
