from __future__ import annotations

from datetime import UTC, datetime

import pytest

from voiceflow_worker.cli.output import ExitCode, explained
from voiceflow_worker.errors import (
    CallNotSentError,
    CallRefusedError,
    CampaignFileError,
    InvalidInputError,
    JobNotFoundError,
    SettingsError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreVersionError,
    TooEarlyError,
    TooLateError,
    UnknownBackendError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("x"), 2),
        (SettingsError("x"), 2),
        (CampaignFileError("x"), 2),
        (UnknownBackendError("x"), 2),
        (JobNotFoundError("default.1"), 1),
        (TooLateError("default.1", state="sending", move="be cancelled"), 1),
        (TooEarlyError("default.1", state="in_doubt", until=datetime(2026, 1, 1, tzinfo=UTC)), 1),
        (StoreUnavailableError("x"), 3),
        (StoreReadOnlyError("x"), 3),
        (StoreCorruptError("x"), 3),
        (StoreVersionError("x"), 3),
        (CallNotSentError("x"), 3),
        (CallRefusedError("x", code=-1014), 1),
        (OSError(98, "Address already in use"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_expected_error_has_its_exit_code(error: BaseException, code: int) -> None:
    told = explained(error)
    assert told is not None
    assert told[0] == code


def test_an_error_nobody_expects_has_none() -> None:
    assert explained(ZeroDivisionError()) is None


def test_the_worst_of_a_group_speaks_for_all() -> None:
    group = BaseExceptionGroup("x", [JobNotFoundError("default.1"), ExceptionGroup("y", [StoreUnavailableError("z")])])
    assert explained(group) == (ExitCode.OUT_OF_REACH, "the store cannot be used: z")


def test_a_group_with_a_bug_in_it_is_a_bug() -> None:
    assert explained(ExceptionGroup("x", [StoreUnavailableError("z"), ZeroDivisionError()])) is None
