"""`voiceflow rate`: change the rate of a queue while its workers send."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.options import Flag, QueueOptions
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.rate import rate_in_words, read_rate


async def rate(
    new: Annotated[str | None, Parameter(name="N", help="Calls per second, such as 10 or 0.5, or unlimited.")] = None,
    /,
    *,
    reset: Annotated[bool, Flag] = False,
    common: QueueOptions = QueueOptions(),
) -> None:
    """Change the rate of a queue at once, for all its workers. Without N, show the rate.

    The new rate also applies to workers that start later with another --rate, until `voiceflow rate --reset`.

    Usage: [OPTIONS] [N]

    Args:
        reset: Remove the rate set by this command. The queue gets the rate of the next worker that starts.

    Examples:
        voiceflow rate 5
        voiceflow rate unlimited --queue reminders
        voiceflow rate --reset
    """
    output = common.output()
    if reset and new is not None:
        raise InvalidInputError("N and --reset exclude each other: give one of them")
    wanted = _read(new) if new is not None else None
    async with common.opened() as calls:
        if new is not None:
            await calls.set_rate(wanted)
        was_set = await calls.reset_rate() if reset else False
        limits = await calls.store.control.limits(calls.name)
    output.document(
        {"queue": calls.name, "rate": None if limits is None else limits.rate, "is_set": limits is not None}
    )
    if reset:
        done = "gets the rate of the next worker that starts" if was_set else "had no rate set by hand"
        output.answer(f"queue {calls.name} {done}")
    elif limits is None:
        output.answer(f"queue {calls.name} has no rate yet: the first worker that starts sets it")
    else:
        output.answer(f"the rate of queue {calls.name} is {rate_in_words(limits.rate)} for all its workers")


def _read(text: str) -> float | None:
    try:
        return read_rate(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a rate: {error}") from None
