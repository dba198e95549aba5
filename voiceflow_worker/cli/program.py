"""The program: registration of all commands, and the handling of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

from voiceflow_worker.cli.exit_codes import ExitCode, explained
from voiceflow_worker.cli.remedies import error_line

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code. Expected errors are printed as a sentence, without a traceback."""
    from cyclopts import CycloptsError

    for stream in (sys.stdout, sys.stderr):
        # A character that this terminal cannot print is escaped, and does not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result: object = program()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        print(error_line(_usage(error)), file=sys.stderr)
        return ExitCode.BAD_INPUT
    except BrokenPipeError:
        # The reader, such as `| head`, has closed the pipe. The rest of the output is dropped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.UNDONE
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        code, message = known
        if message:
            print(error_line(message), file=sys.stderr)
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def program() -> App:
    """The commands, assembled."""
    from importlib.metadata import version

    from cyclopts import App

    from voiceflow_worker.cli import (
        account,
        backup,
        call,
        calls,
        check,
        config,
        demo,
        doctor,
        enqueue,
        hold,
        ivr,
        kept,
        overview,
        rate,
        reconcile,
        recording_push,
        report,
        restore,
        sandbox,
        serve,
        status,
        suppress,
        worker,
    )
    from voiceflow_worker.cli.registering import PROGRAM, add_command, add_group

    app = App(
        name=PROGRAM,
        help="Phones people through the 8x8 Voice API, from a queue, at a set rate: "
        "never twice, never lost, never late.",
        help_format="plaintext",
        help_epilogue="`voiceflow demo` shows all of it, without an account. Each command's --help has examples.",
        version=lambda: f"voiceflow-worker {version('voiceflow-worker')}",
        suppress_keyboard_interrupt=False,
    )
    add_command(app, demo.demo)
    add_command(app, check.check)
    add_command(app, call.call)
    add_command(app, enqueue.enqueue)
    add_command(app, worker.worker)
    add_command(app, serve.serve)
    add_command(app, sandbox.sandbox)
    add_command(app, status.status)
    add_command(app, overview.queues)
    add_command(app, overview.batches)
    add_command(app, report.report)
    add_group(app, calls, calls.list_calls, calls.show, calls.cancel, calls.resolve, calls.redial)
    add_command(app, hold.hold)
    add_command(app, hold.resume)
    add_command(app, rate.rate)
    add_group(app, suppress, suppress.add, suppress.remove, suppress.list_numbers, suppress.import_file)
    add_command(app, backup.backup)
    add_command(app, restore.restore)
    add_command(app, reconcile.reconcile)
    add_command(app, doctor.doctor)
    of_account = add_group(app, account, account.profiles, account.numbers, account.webhooks, account.recordings)
    add_group(of_account, recording_push, recording_push.show, recording_push.set_server, recording_push.delete)
    add_group(app, ivr, ivr.draw, ivr.play, ivr.check)
    add_group(app, kept, kept.list_kept, kept.show, kept.clear)
    add_group(app, config, config.show)
    return app


def _usage(error: CycloptsError) -> str:
    command = " ".join(("voiceflow", *(error.command_chain or ())))
    return f"{error}\nSee: {command} --help"
