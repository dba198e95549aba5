"""`voiceflow hold` and `voiceflow resume`: pause and resume a queue or a batch."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.batches import why_unknown
from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.options import AsOption, BatchOption, DurationOption, QueueOptions
from voiceflow_worker.core.overview.gate_story import closed_in_words, gate_as_json
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.text.who import by_person


async def hold(
    *,
    batch: BatchOption = None,
    reason: str | None = None,
    for_: Annotated[DurationOption, Parameter(name="--for", help="Resume after this time, such as 10m or 2h.")] = None,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Hold a queue, or one batch of it: no more calls are sent, and calls in flight finish.

    An existing hold that lasts longer is not shortened. If both the old and the new hold have no end, both reasons are
    shown.

    Args:
        reason: The reason. It is shown by `voiceflow status`.

    Examples:
        voiceflow hold --reason "the text has a wrong date"
        voiceflow hold --batch march --for 10m
    """
    output = common.output()
    if for_ is not None and for_ <= timedelta():
        raise InvalidInputError("--for 0 holds nothing: give a duration such as 10m, or leave out --for")
    async with common.opened() as calls:
        unknown = await why_unknown(calls, batch)
        if unknown is not None:
            output.note(f"nothing was held: {unknown}")
            return ExitCode.UNDONE
        until = calls.store.clock.now() + for_ if for_ is not None else None
        before = await calls.store.control.gates(calls.name)
        gate = await calls.hold(batch_id=batch, until=until, reason=by_person(as_, reason, "held"))
    if gate in before:
        output.note("nothing was changed: an earlier hold lasts longer, or as long")
    output.document(gate_as_json(gate))
    output.answer(closed_in_words(gate))
    return ExitCode.DONE


async def resume(*, batch: BatchOption = None, common: QueueOptions = QueueOptions()) -> ExitCode:
    """Open a held queue or batch again. A cancelled batch stays cancelled, and the exit code is 1.

    Examples:
        voiceflow resume
        voiceflow resume --batch march
    """
    output = common.output()
    async with common.opened() as calls:
        unknown = await why_unknown(calls, batch)
        if unknown is not None:
            await calls.resume(batch_id=batch)  # a batch without calls may be held
            output.note(unknown)
            return ExitCode.UNDONE
        gate = await calls.resume(batch_id=batch)
    output.document(gate_as_json(gate))
    if gate.state is not GateState.OPEN:
        output.note(f"{gate.scope.value} {gate.name} stays {gate.state.value}: enqueue its calls as a new batch")
        return ExitCode.UNDONE
    output.answer(f"{gate.scope.value} {gate.name} is open")
    return ExitCode.DONE
