"""Errors outlive the way from one process to another, such as from the process that reads a file to that of a page."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from voiceflow_worker import actions
from voiceflow_worker.console import sign_in
from voiceflow_worker.errors import KeyConflict, SuppressedNumber, VoiceflowError
from voiceflow_worker.finding import Finding

_GIVEN: dict[str, object] = {
    "after": timedelta(seconds=5), "code": -1009, "columns": ["mobile"], "findings": [Finding(message="is empty")],
    "conflicts": [KeyConflict(0, "key", "default.1"), KeyConflict(1, "other", "default.2")], "passes": False,
    "retry_after": timedelta(seconds=7), "status": 503, "until": datetime(2030, 1, 31, tzinfo=UTC),
    "suppressed": [SuppressedNumber(0, "+6587654321", "it is listed")], "waited": timedelta(minutes=1),
}  # fmt: skip


def _kinds(root: type[VoiceflowError]) -> Iterator[type[VoiceflowError]]:
    yield root
    for each in root.__subclasses__():
        yield from _kinds(each)


KINDS = list(dict.fromkeys(_kinds(VoiceflowError)))


def _made(kind: type[VoiceflowError]) -> VoiceflowError:
    """An error with all arguments that its constructor takes."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    wanted = [each.name for each in parameters if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
    says_it_all = not parameters  # its message is always the same
    given = () if wanted or says_it_all else ("it failed",)
    error = kind(*given, **{name: _GIVEN.get(name, f"its {name}") for name in wanted})
    error.add_note("a note")
    return error


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_an_error_says_and_knows_the_same(kind: type[VoiceflowError]) -> None:
    error = _made(kind)
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(found) is kind
        assert (str(found), found.args) == (str(error), error.args)
        assert vars(found) == vars(error)


def test_errors_of_acts_and_pages_are_among_them() -> None:
    assert {actions.UnknownSubjectError, sign_in.FormRefusedError} <= set(KINDS)
