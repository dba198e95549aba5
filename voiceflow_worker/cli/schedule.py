"""`voiceflow schedule`, which starts campaigns by cron expressions, and `voiceflow schedules`, for orders to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.cli.opening import misspelt_settings, opened_queue, signals_to
from voiceflow_worker.cli.options import AsOption, Flag, NoteOption, QueueOptions, YesOption
from voiceflow_worker.cli.output import ExitCode, Output, keep_stdout
from voiceflow_worker.errors import InvalidInputError

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.schedules import ScheduledRun
    from voiceflow_worker.queue import CallQueue
    from voiceflow_worker.service.schedule import Scheduler, ScheduleStatus
    from voiceflow_worker.settings import Settings


async def schedule(
    *files: Annotated[Path, Parameter(name="FILE", required=True, help="A TOML file of options with cron.")],
    once: Annotated[bool, Flag] = False,
    list_: Annotated[bool, Flag, Parameter(name="--list")] = False,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Start campaigns by cron expressions.

    Each FILE has the options of a campaign, and `cron = "0 9 * * mon-fri"`, `time_zone = "Asia/Singapore"` and perhaps `misfire = "15m"` and `skip_bad = "5 %"`. Each run is a batch of its own. It starts once, however many processes run this command, and never later than misfire.

    Args:
        once: Start what is due now, then end: for a timer that runs this command every few minutes.
        list_: Show the next runs of each file, and what became of the last one. Nothing is started.

    Examples:
        voiceflow schedule reminder.toml survey.toml
        voiceflow schedule reminder.toml --once
        voiceflow schedule reminder.toml --list
    """  # noqa: E501 (the help breaks its lines where the source does)
    from voiceflow_worker.campaigns.schedules import RunState
    from voiceflow_worker.core.audit import Interface
    from voiceflow_worker.model.copying import replace
    from voiceflow_worker.service.schedule import Scheduler

    if once and list_:
        raise InvalidInputError("--once and --list exclude each other: give one of them")
    settings = common.settings()
    output = common.output(masks=settings.log_mask and not list_)
    if list_ and (path := file_of(settings.store)) is not None and not path.exists():
        settings = replace(settings, store="memory://")  # nothing was started yet
    async with opened_queue(settings, makes=not list_) as calls:
        told: list[ScheduledRun] = []

        def tell(run: ScheduledRun) -> None:
            told.append(run)
            output.result(run.as_json(), run.in_words())

        scheduler = Scheduler(calls, files, settings=settings, on=Interface.COMMAND, tell=tell)
        statuses = await scheduler.statuses()
        if list_:
            _tell(output, statuses)
        problems = [each.problem for each in statuses if each.problem is not None]
        if list_ or len(problems) == len(statuses):
            return _told(output, problems)
        _told(output, problems)
        if not once:
            await _run(scheduler, output, calls, settings, statuses)
            return ExitCode.DONE
        async with signals_to(lambda _: scheduler.stop(grace=settings.shutdown_grace.total_seconds())):
            settled = await scheduler.once()
        for run in settled:
            if run.state is RunState.HELD and run not in told:  # for the reason that an earlier command has told
                tell(run)
        if scheduler.problems or any(each.state is RunState.HELD for each in settled):
            return ExitCode.BAD_INPUT
        return ExitCode.UNDONE if any(each.is_undone for each in settled) else ExitCode.DONE


async def _run(
    scheduler: Scheduler, output: Output, calls: CallQueue, settings: Settings, statuses: Sequence[ScheduleStatus]
) -> None:
    keep_stdout()
    grace = settings.shutdown_grace.total_seconds()

    def stop(count: int) -> None:
        if count == 1:
            output.note(f"stopping: a run that was begun is completed, for {grace:g} s at most")
        scheduler.stop(grace=grace if count == 1 else 0.0)

    async with signals_to(stop):
        for misspelt in misspelt_settings():
            output.note(misspelt)
        output.note(f"voiceflow schedule starts campaigns in queue {calls.name} of {calls.store.url}")
        for each in statuses:
            if each.recurrence is not None and each.next_at:
                output.note(f"{each.name}: {each.recurrence.in_words()}; next {_at(each, 0)}")
        await scheduler.run()
    output.note("stopped")


def _told(output: Output, problems: Sequence[str]) -> ExitCode:
    for problem in problems:
        output.note(f"error: {problem}")
    return ExitCode.BAD_INPUT if problems else ExitCode.DONE


def _tell(output: Output, statuses: Sequence[ScheduleStatus]) -> None:
    for each in statuses:
        output.document(each.as_json())
        if output.as_json:
            continue
        known = each.recurrence
        output.say(
            f"{each.name or each.file}{f': {known.in_words()} ({known.cron}, {known.zone.key})' if known else ''}"
        )
        for place in range(len(each.next_at)):
            output.say(f"  next {_at(each, place)}")
        if each.last is not None:
            output.say(f"  last {each.last.in_words()}")


def _at(status: ScheduleStatus, place: int) -> str:
    from voiceflow_worker.model.text.wording import in_words

    at, zone = status.next_at[place], None if status.recurrence is None else status.recurrence.zone
    return f"{at.astimezone(zone):%A} {in_words(at, zone)} ({in_words(at)})"


ScheduleName = Annotated[str, Parameter(name="NAME", help="The name of the schedule, as `schedules list` has it.")]


async def list_schedules(*, common: QueueOptions = QueueOptions()) -> None:
    """List the schedules of a queue, with last and next runs.

    Those whose file a `voiceflow schedule` has seen. With --json, one per line.

    Examples:
        voiceflow schedules list
    """
    from voiceflow_worker.campaigns.schedules import read_schedules

    output = common.output()
    async with common.opened() as calls:
        found = await read_schedules(calls.store, calls.name)
    for each in found:
        output.result(each.as_json(), each.last.in_words(), f"  {each.later_in_words()}")
    if not found:
        output.note(f"no `voiceflow schedule` has seen a schedule of queue {calls.name}")


async def run_now(
    name: ScheduleName,
    /,
    *,
    note: NoteOption = None,
    yes: YesOption = False,
    as_: AsOption = None,
    common: QueueOptions = QueueOptions(),
) -> ExitCode:
    """Run a schedule now, beside its other runs.

    The `voiceflow schedule` that has its file starts it within seconds; with `--once`, when it comes, within misfire.

    Examples:
        voiceflow schedules run reminder --as Ana
    """
    from voiceflow_worker.service.schedule_actions import RunNow

    return await common.ordered(partial(RunNow, schedule=name, note=note), as_, yes=yes)
