"""What a command's end means to the shell, and the one place where errors become exit codes and sentences."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import IntEnum
from typing import cast

from voiceflow_worker.errors import (
    CallLogUnavailableError,
    CallNotSentError,
    CampaignFileError,
    InvalidInputError,
    JobError,
    RequestFailedError,
    StoreError,
    StoreUnavailableError,
    UnknownBackendError,
    VoiceError,
    VoiceUnavailableError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    UNDONE = 1
    """Something failed, or is left undone."""
    BAD_INPUT = 2
    """Bad usage or bad input."""
    OUT_OF_REACH = 3
    """The store or 8x8 cannot be reached or used."""
    INTERRUPTED = 130
    """Ctrl-C where there is nothing to end in order: what shells say of a command that SIGINT ended (128 + 2)."""


def explained(error: BaseException) -> tuple[ExitCode, str] | None:
    """The exit code of an error that a user may meet, and what to tell; None for one that is a bug of ours.

    Task groups wrap what went wrong in them: the worst error of a group that holds only such errors speaks for all.
    """
    found = [_explained(leaf) for leaf in _leaves(error)]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    return max(known, key=lambda each: each[0])


def _explained(error: BaseException) -> tuple[ExitCode, str] | None:
    match error:
        case CampaignFileError():
            untold = [f"  {finding}" for finding in error.findings if finding.message not in str(error)]
            return ExitCode.BAD_INPUT, "\n".join([str(error), *untold])
        case UnknownBackendError() | InvalidInputError():
            return ExitCode.BAD_INPUT, str(error)
        case JobError():
            return ExitCode.UNDONE, str(error)
        case StoreUnavailableError():
            return ExitCode.OUT_OF_REACH, f"the store cannot be reached: {error}"
        case StoreError():
            return ExitCode.OUT_OF_REACH, f"the store cannot be used: {error}"
        case CallNotSentError() | CallLogUnavailableError():
            return ExitCode.OUT_OF_REACH, str(error)
        case VoiceUnavailableError() | RequestFailedError(status=401 | 403):
            return ExitCode.OUT_OF_REACH, str(error)
        case OSError(errno=errno.EADDRINUSE):
            return ExitCode.UNDONE, f"{error.strerror}; stop what listens there, or give another port"
        case OSError(filename=None, strerror=str(reason)):
            return ExitCode.UNDONE, reason
        case VoiceError() | OSError():
            return ExitCode.UNDONE, str(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, ""
        case _:
            return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        inner: tuple[BaseException, ...] = cast("BaseExceptionGroup[BaseException]", error).exceptions
        for each in inner:
            yield from _leaves(each)
    else:
        yield error
