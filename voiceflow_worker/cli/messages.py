"""What commands say of errors, findings and remedies, and their exit codes."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import PurePath

from voiceflow_worker.cli.output import Output, UndoneError
from voiceflow_worker.errors import (
    CallLogUnavailableError,
    CallNotSentError,
    CampaignFileError,
    InvalidInputError,
    RequestFailedError,
    StoreError,
    UnknownBackendError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.text.file_remedy import file_remedy
from voiceflow_worker.model.text.printable import printable, without_secrets_in
from voiceflow_worker.model.text.wording import count_of


class ExitCode(IntEnum):
    """The exit code of a command."""

    DONE = 0
    UNDONE = 1
    """Something failed, or was left undone."""
    BAD_INPUT = 2
    """Bad usage or bad input."""
    OUT_OF_REACH = 3
    """The store or 8x8 cannot be reached or used."""
    INTERRUPTED = 130
    """Ctrl-C: the exit code of a command that SIGINT ended (128 + 2)."""


_OF_ADDRESSES = {
    errno.EADDRINUSE: "stop the program that uses this port, or give another port",
    errno.EADDRNOTAVAIL: "give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all its addresses",
}
"""The remedies if the program cannot listen on an address."""


def explained(error: BaseException) -> tuple[ExitCode, str] | None:
    """The exit code and the message of an expected error; None for an unexpected one.

    The message says what to type for the remedies of the error. For an exception group of expected errors, the error
    with the highest exit code counts.
    """
    found = _explained(error)
    if found is None or not isinstance(error, VoiceflowError):
        return found
    code, message = found
    return code, with_remedies(message, error.remedies)


def _explained(error: BaseException) -> tuple[ExitCode, str] | None:
    match error:
        case BaseExceptionGroup():
            found = [explained(each) for each in error.exceptions]
            known = [each for each in found if each is not None]
            return max(known, key=lambda each: each[0]) if len(known) == len(found) else None
        case CampaignFileError():
            untold = typed(found for found in error.findings if found.message not in str(error))
            remaining = [f"  {found}" for found in untold]
            return ExitCode.BAD_INPUT, "\n".join([str(error), *remaining])
        case UnknownBackendError() | InvalidInputError():
            return ExitCode.BAD_INPUT, str(error)
        case StoreError():
            return ExitCode.OUT_OF_REACH, f"the store cannot be used: {error}"
        case CallNotSentError() | CallLogUnavailableError() | VoiceUnavailableError():
            return ExitCode.OUT_OF_REACH, str(error)
        case RequestFailedError(status=401 | 403):
            return ExitCode.OUT_OF_REACH, str(error)
        case OSError(errno=int(number)) if number in _OF_ADDRESSES:
            return ExitCode.UNDONE, f"{error.strerror}; {_OF_ADDRESSES[number]}"
        case OSError(filename=None, strerror=str(reason)):
            return ExitCode.UNDONE, reason
        case OSError(filename=str() | PurePath() as file, strerror=str(reason)):
            return ExitCode.UNDONE, f"{file}: {reason}{file_remedy(error)}"
        case UndoneError() | VoiceflowError() | OSError():
            return ExitCode.UNDONE, str(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, ""
        case _:
            return None


_TYPED: Mapping[Remedy, str] = {
    Remedy.ALLOW_PLAIN_HTTP: "VOICEFLOW_ALLOW_PLAIN_HTTP=yes",
    Remedy.CALL_AGAIN: "--again; another store: --store URL, or VOICEFLOW_STORE",
    Remedy.CHECK_API_KEY: "VOICEFLOW_API_KEY",
    Remedy.CHECK_BASE_URL: "VOICEFLOW_BASE_URL",
    Remedy.CHECK_SUB_ACCOUNT: "VOICEFLOW_SUB_ACCOUNT",
    Remedy.FORCE_REDIAL: "--force",
    Remedy.GIVE_SOURCE: "--source",
    Remedy.GIVE_TEMPLATE: "--template FLOW.json",
    Remedy.GIVE_TEXT: "--template FLOW.json, or --say TEXT",
    Remedy.GIVE_VALIDITY: "--valid-for",
    Remedy.GIVE_VOICE: "--voice-profile",
    Remedy.MAKE_BACKUP: "`voiceflow backup FILE`",
    Remedy.NAME_BATCH: "--batch",
    Remedy.NAME_COLUMN: "--number-column NAME",
    Remedy.NAME_COUNTRY: "--country SG, or --country international",
    Remedy.NAME_DATE_ORDER: "--date-order dmy",
    Remedy.NAME_OUTCOMES: "--redial-on busy,no_answer, or --redial-max 0",
    Remedy.NAME_SHEET: "--sheet NAME",
    Remedy.NAME_TIME_ZONE: "--time-zone, or a column time_zone",
    Remedy.OTHER_BATCH: "--batch",
    Remedy.RESTORE: "`voiceflow restore FILE`",
    Remedy.SET_STATE_DIR: "VOICEFLOW_STATE_DIR",
    Remedy.SHORTEN_RETENTION: "VOICEFLOW_RETENTION",
    Remedy.UNSUPPRESS: "`voiceflow suppress remove NUMBER`",
}


def with_remedies(message: str, remedies: Iterable[Remedy | None]) -> str:
    """The message, followed by what to type for its remedies. The message itself stays as it is."""
    what = "; ".join(_TYPED[each] for each in remedies if each is not None)
    return f"{message} ({what})" if what else message


def error_line(message: str) -> str:
    """An error message for printing, without secrets and control characters."""
    return f"voiceflow: {printable(without_secrets_in(message))}"


_FIRST_ROWS = 3
MOST_WARNINGS = 20
"""The largest number of different warnings in a table."""


def typed(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each with what to type for its remedy in its message."""
    return [replace(each, message=with_remedies(each.message, [each.remedy]), remedy=None) for each in findings]


def tell_findings(output: Output, findings: Sequence[Finding], *, title: str | None = None) -> None:
    """Print a table of findings: all errors, then the first warnings. Those that differ only in their row share a line.

    Nothing is printed if there are none.
    """
    alike: dict[Finding, list[int]] = {}
    for each in findings:
        rows_of = alike.setdefault(replace(each, row=None), [])
        if each.row is not None:
            rows_of.append(each.row)
    errors = [each for each in alike if each.is_error]
    warnings = [each for each in alike if not each.is_error]
    all_errors = {each.severity for each in findings} == {Severity.ERROR}
    rows = [
        {
            "row": _in_short(alike[each]),
            "column": each.column or each.path,
            "level": None if all_errors else each.severity.value,
            "what is wrong": each.message,
            "code": each.code,
        }
        for each in (*errors, *warnings[:MOST_WARNINGS])
    ]
    output.records(rows, title=title)


def _in_short(rows: Sequence[int]) -> str | int | None:
    """The first row numbers, and the count of all of them if there are more."""
    if len(rows) < 2:
        return rows[0] if rows else None
    first = ", ".join(map(str, rows[:_FIRST_ROWS]))
    return first if len(rows) <= _FIRST_ROWS else f"{first} and {len(rows) - _FIRST_ROWS} more"


def in_words(*, errors: int, warnings: int) -> str:
    """The two counts in words, such as `3 errors, 1 warning`."""
    return f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"


def resume_of(gate: Gate) -> str:
    """The command that opens this gate, in backquotes."""
    if gate.scope is GateScope.BATCH:
        return f"`voiceflow resume --batch {gate.name}`"
    return "`voiceflow resume`" if gate.name == "default" else f"`voiceflow resume --queue {gate.name}`"
