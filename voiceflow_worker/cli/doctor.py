"""`voiceflow doctor`: checks of everything that calls depend on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import Flag, JsonOption, QueueOption, StoreOption
from voiceflow_worker.cli.output import Output
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.counting import count_of

if TYPE_CHECKING:
    from voiceflow_worker.cli.checks.diagnosis import Diagnosis
    from voiceflow_worker.settings import Settings

EXAMPLES = """Examples:
  voiceflow doctor
  voiceflow doctor --call +6581234567
  voiceflow doctor --json | jq -r 'select(.level == "failure") | .check'"""


WITHOUT_OUTCOME = frozenset({"webhook", "webhook secret", "receiver"})
"""Checks that a call does not need whose outcome nobody listens to."""
SEEN_BY_CALLING = frozenset({"webhook address", "call actions"})
"""A call is made in spite of these: 8x8 may reach what this machine does not, and nothing asks a menu."""


async def doctor(
    *,
    call: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    without_outcome: Annotated[bool, Flag] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    queue: QueueOption = None,
) -> ExitCode:
    """Check everything that calls depend on: settings, store, clock, credentials, numbers, webhook, workers, doubts.

    Each line is ok, a warning or a failure, and says what to do. Exit 1 when there is a failure; warnings exit 0.
    Without --call nobody is called, and nothing is changed, here or at 8x8.

    Args:
        call: Then call this number, your own, and print each step as it happens. Exit 0 if the call was answered.
            Write the number with a plus and its country code.
        without_outcome: With --call: call even if no receiver is running. The outcome stays unknown: exit code 1.
    """
    from voiceflow_worker.cli.checks.all_checks import examine
    from voiceflow_worker.cli.checks.diagnosis import Level
    from voiceflow_worker.cli.own_phone import number_to_call

    if without_outcome and call is None:
        raise InvalidInputError("--without-outcome is for --call NUMBER: alone it changes nothing")
    number = None if call is None else number_to_call(call)
    output = Output(as_json=json)
    found: list[Diagnosis] = []

    def tell(line: Diagnosis) -> None:
        found.append(line)
        output.document(line.as_json())

    load = partial(settings_from, store=store, queue=queue)
    await examine(load, tell)
    if not json:
        _show(output, found, all_of_them=number is None)
    failures = [line.check for line in found if line.level is Level.FAILURE]
    if number is None:
        return ExitCode.UNDONE if failures else ExitCode.DONE
    ignored = SEEN_BY_CALLING | WITHOUT_OUTCOME if without_outcome else SEEN_BY_CALLING
    stopping = [check for check in failures if check not in ignored]
    return await _call(output, load, number, stopping=stopping, checks=len(found), without_outcome=without_outcome)


async def _call(
    output: Output,
    load: Callable[[], Settings],
    number: str,
    *,
    stopping: Sequence[str],
    checks: int,
    without_outcome: bool,
) -> ExitCode:
    from voiceflow_worker.cli.call_steps import Step, failed
    from voiceflow_worker.cli.own_phone import call_own_phone

    def tell(step: Step) -> None:
        output.document(step.as_json())
        if not output.as_json:
            output.say(step.as_line())
            sys.stdout.flush()  # into a pipe too, each step is printed when it happens

    now = datetime.now(UTC)
    if stopping:
        tell(failed("not called", now, f"correct these first: {', '.join(stopping)}"))
        return ExitCode.UNDONE
    tell(Step(name="checked", at=now, message=f"{count_of(checks, 'check')}, and calls can be sent"))
    reached = await call_own_phone(load(), number, tell=tell, without_outcome=without_outcome)
    return ExitCode.DONE if reached else ExitCode.UNDONE


def _show(output: Output, found: Sequence[Diagnosis], *, all_of_them: bool) -> None:
    """What was found, for people: all of it, or what is not well."""
    from voiceflow_worker.cli.checks.diagnosis import Level

    looked = [line for line in found if line.waits_for is None]
    shown = [line for line in looked if all_of_them or line.level is not Level.OK]
    if shown:
        output.table(("level", "check", "what was found, and what to do"), [_row(line) for line in shown])
    for cause in dict.fromkeys(line.waits_for for line in found if line.waits_for is not None):
        waiting = ", ".join(line.check for line in found if line.waits_for == cause)
        output.say(f"not looked at before `{cause}` is well: {waiting}")
    failures = sum(line.level is Level.FAILURE for line in looked)
    warnings = sum(line.level is Level.WARNING for line in looked)
    output.say(f"{count_of(failures, 'failure')}, {count_of(warnings, 'warning')}")


def _row(line: Diagnosis) -> tuple[str, str, str]:
    remedy = f"\n-> {line.remedy}" if line.remedy else ""
    return line.level.value, line.check, f"{line.message}{remedy}"
