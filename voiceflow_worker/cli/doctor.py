"""`voiceflow doctor` and `voiceflow config`: checks of everything that calls depend on, and the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.backends.registry import opened_in_time
from voiceflow_worker.cli.opening import settings_from
from voiceflow_worker.cli.options import Flag, JsonOption, QueueOption, StoreOption
from voiceflow_worker.cli.output import ExitCode, Output, with_remedies
from voiceflow_worker.model.text.wording import count_of

if TYPE_CHECKING:
    from voiceflow_worker.finding import Diagnosis
    from voiceflow_worker.settings import Settings


TEST_TEXT = "This is a test call of voiceflow worker. If you hear this, your calls work. Goodbye."
SEEN_BY_CALLING = frozenset({"webhook address", "call actions"})
"""Checks whose failure never stops the test call. The call has no menu, so it needs no call actions. 8x8 may reach a
webhook address that this machine cannot reach."""


async def doctor(
    *,
    call: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    make: Annotated[bool, Flag] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    queue: QueueOption = None,
) -> ExitCode:
    """Check everything that calls depend on.

    Settings, store, clock, credentials, numbers, webhook, workers and doubts. Each warning and each failure has a
    remedy. Exit 1 if there is a failure. The checks call nobody and change nothing.

    Args:
        call: After the checks, call this number, your own, and print each step. Exit 0 if the call was answered.
        make: Make the store if there is none, and print what other roles need: for a PostgreSQL store, by the owner of
            its schema. Write down the sub-account of the queue.

    Examples:
        voiceflow doctor
        voiceflow doctor --make --store postgresql://owner@db/calls
        voiceflow doctor --call +6581234567
        voiceflow doctor --json | jq -r 'select(.level == "failure") | .check'
    """
    if make:
        return await _make(Output(as_json=json), settings_from(store=store, queue=queue))
    from voiceflow_worker.cli.calls import placed, reporting
    from voiceflow_worker.finding import Level, failure, ok
    from voiceflow_worker.service.doctor import examine
    from voiceflow_worker.service.one_call import Progress, TestCall, number_to_call

    number = None if call is None else number_to_call(call, place="--call")
    output = Output(as_json=json)
    found: list[Diagnosis] = []

    def tell(line: Diagnosis) -> None:
        line = replace(line, message=with_remedies(line.message), remedy=line.remedy and with_remedies(line.remedy))
        found.append(line)
        output.document(line.as_json())

    tell_step = reporting(output)
    load = partial(settings_from, store=store, queue=queue)
    await examine(load, tell)
    if not json:
        _show(output, found, all_of_them=number is None)
    failures = [line.check for line in found if line.level is Level.FAILURE]
    if number is None:
        return ExitCode.UNDONE if failures else ExitCode.DONE
    stopping = [check for check in failures if check not in SEEN_BY_CALLING]
    now = datetime.now(UTC)
    if stopping:
        tell_step(Progress("not called", now, failure(f"correct these first: {', '.join(stopping)}")))
        return ExitCode.UNDONE
    tell_step(Progress("checked", now, ok(f"{count_of(len(found), 'check')} made; calls can be sent")))
    test = TestCall(number=number, text=TEST_TEXT, batch="doctor", command="voiceflow doctor --call")
    return await placed(load(), test, report=tell_step)


async def _make(output: Output, settings: Settings) -> ExitCode:
    """Make the store."""
    from voiceflow_worker.core.queue_account import QueueAccount
    from voiceflow_worker.gateway.client import VoiceClient

    within, report = settings.wait_for_store, output.note
    async with opened_in_time(settings.store, within=within, report=report, writes=False) as store:
        if not settings.missing_for_calls():
            own = VoiceClient.from_settings(settings).account
            await QueueAccount(store, settings.queue).replace(own)
        output.result({"store": store.url}, f"the store {store.url} is there")
    return ExitCode.DONE


def _show(output: Output, found: Sequence[Diagnosis], *, all_of_them: bool) -> None:
    """Print the diagnoses, the failures last: all of them, or only warnings and failures."""
    from voiceflow_worker.finding import Level

    looked = [line for line in found if line.waits_for is None]
    shown = [line for line in looked if all_of_them or line.level is not Level.OK]
    shown.sort(key=lambda line: list(Level).index(line.level))
    if shown:
        output.table(("level", "check", "result, and remedy"), [_row(line) for line in shown])
    for cause in dict.fromkeys(line.waits_for for line in found if line.waits_for is not None):
        waiting = ", ".join(line.check for line in found if line.waits_for == cause)
        output.say(f"skipped until `{cause}` is ok: {waiting}")
    failures = sum(line.level is Level.FAILURE for line in looked)
    warnings = sum(line.level is Level.WARNING for line in looked)
    output.say(f"{count_of(failures, 'failure')}, {count_of(warnings, 'warning')}")


def _row(line: Diagnosis) -> tuple[str, str, str]:
    remedy = f"\n-> {line.remedy}" if line.remedy else ""
    return line.level.value, line.check, f"{line.message}{remedy}"


def show(*, all_: Annotated[bool, Flag, Parameter(name="--all")] = False, json: JsonOption = False) -> None:
    """Show the settings that differ from their defaults.

    Each is shown with its origin. Secrets are hidden.

    Args:
        all_: Show every setting, the advanced ones last.

    Examples:
        voiceflow config show
        voiceflow config show --all --json | jq 'select(.setting == "VOICEFLOW_RATE")'
    """
    from voiceflow_worker.settings import DEFAULT, unknown_variables

    output = Output(as_json=json)
    shown = [each for each in settings_from().shown() if all_ or each.place != DEFAULT]
    for title, advanced in ((None, False), ("Advanced", True)):
        rows = [
            {"setting": each.variable, "value": each.value, "from": each.place}
            for each in shown
            if each.is_advanced is advanced
        ]
        output.records(rows, title=title)
    if not shown:
        output.note("all settings have their defaults; --all shows them")
    for unknown in unknown_variables():
        output.note(unknown.in_words())
