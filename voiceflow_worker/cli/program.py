"""The program: registration of all commands, and the handling of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

from voiceflow_worker.cli.exit_codes import ExitCode, explained
from voiceflow_worker.cli.remedies import in_commands
from voiceflow_worker.model.text.hiding import without_secrets_in
from voiceflow_worker.model.text.printable import printable

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code. Expected errors are printed as a sentence, without a traceback."""
    from cyclopts import CycloptsError

    for stream in (sys.stdout, sys.stderr):
        # A name that this terminal cannot print must not end the command that prints it.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result: object = program()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        _tell(_usage(error))
        return ExitCode.BAD_INPUT
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.UNDONE
    except BaseException as error:
        known = explained(error)
        if known is None:
            raise
        code, message = known
        if message:
            _tell(message)
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def program() -> App:
    """The commands, assembled."""
    from importlib.metadata import version

    from cyclopts import App

    from voiceflow_worker.cli import (
        account,
        backup,
        calls,
        check,
        config,
        demo,
        doctor,
        enqueue,
        hold,
        ivr,
        kept,
        reconcile,
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
    add_command(app, demo.demo, examples=demo.EXAMPLES)
    add_command(app, check.check, examples=check.EXAMPLES, usage="[OPTIONS] FILE...")
    add_command(app, enqueue.enqueue, examples=enqueue.EXAMPLES)
    add_command(app, worker.worker, examples=worker.EXAMPLES)
    add_command(app, serve.serve, examples=serve.EXAMPLES)
    add_command(app, sandbox.sandbox, examples=sandbox.EXAMPLES)
    add_command(app, status.status, examples=status.EXAMPLES)
    add_command(app, report.report, examples=report.EXAMPLES)
    add_group(app, calls.calls_group())
    add_command(app, hold.hold, examples=hold.HOLD_EXAMPLES)
    add_command(app, hold.resume, examples=hold.RESUME_EXAMPLES)
    add_group(app, suppress.suppress_group())
    add_command(app, backup.backup, examples=backup.EXAMPLES)
    add_command(app, restore.restore, examples=restore.EXAMPLES)
    add_command(app, reconcile.reconcile, examples=reconcile.EXAMPLES)
    add_command(app, doctor.doctor, examples=doctor.EXAMPLES)
    add_group(app, account.account_group())
    add_group(app, ivr.ivr_group())
    add_group(app, kept.kept_group())
    add_group(app, config.config_group())
    return app


def _usage(error: CycloptsError) -> str:
    command = " ".join(("voiceflow", *(error.command_chain or ())))
    return f"{error}\nSee: {command} --help"


def _tell(message: str) -> None:
    print(f"voiceflow: {printable(without_secrets_in(in_commands(message)))}", file=sys.stderr)
