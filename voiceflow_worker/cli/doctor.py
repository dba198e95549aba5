"""`voiceflow doctor`: whether everything that the promise depends on is in order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from voiceflow_worker.cli.exit_codes import ExitCode
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import JsonOption, QueueOption, StoreOption
from voiceflow_worker.cli.output import Output, count_of

if TYPE_CHECKING:
    from voiceflow_worker.cli.checks.diagnosis import Diagnosis

EXAMPLES = """Examples:
  voiceflow doctor
  voiceflow doctor --json | jq -r 'select(.level == "failure") | .check'"""


async def doctor(*, json: JsonOption = False, store: StoreOption = None, queue: QueueOption = None) -> ExitCode:
    """Look at everything that calls depend on: settings, store, clock, credentials, numbers, webhook, workers, doubts.

    Each line is ok, a warning or a failure, and says what to do. Exit 1 when there is a failure; warnings exit 0.
    Nobody is called, and nothing is changed, here or at 8x8.
    """
    from voiceflow_worker.cli.checks.diagnosis import Level
    from voiceflow_worker.cli.checks.examination import examine

    output = Output(as_json=json)
    found: list[Diagnosis] = []

    def tell(line: Diagnosis) -> None:
        found.append(line)
        output.document(line.as_json())

    await examine(partial(settings_from, store=store, queue=queue), tell)
    failures = sum(line.level is Level.FAILURE for line in found)
    if not json:
        looked = [line for line in found if line.waits_for is None]
        output.table(("level", "check", "what was found, and what to do"), [_row(line) for line in looked])
        for cause in dict.fromkeys(line.waits_for for line in found if line.waits_for is not None):
            waiting = ", ".join(line.check for line in found if line.waits_for == cause)
            output.say(f"not looked at before `{cause}` is well: {waiting}")
        warnings = sum(line.level is Level.WARNING for line in looked)
        output.say(f"{count_of(failures, 'failure')}, {count_of(warnings, 'warning')}")
    return ExitCode.UNDONE if failures else ExitCode.DONE


def _row(line: Diagnosis) -> tuple[str, str, str]:
    remedy = f"\n-> {line.remedy}" if line.remedy else ""
    return line.level.value, line.check, f"{line.message}{remedy}"
