"""Exit codes and error messages of the command line."""

from __future__ import annotations

import errno
from enum import IntEnum
from pathlib import PurePath

from voiceflow_worker.cli.findings import typed
from voiceflow_worker.cli.remedies import with_remedies
from voiceflow_worker.errors import (
    CallLogUnavailableError,
    CallNotSentError,
    CampaignFileError,
    InvalidInputError,
    JobError,
    RequestFailedError,
    StoreError,
    UnknownBackendError,
    VoiceError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.model.text.file_remedy import file_remedy


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
        case JobError() | VoiceError() | OSError():
            return ExitCode.UNDONE, str(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, ""
        case _:
            return None
