"""The three code tables: complete, told in words, and never in the way of a code that is new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.reports import status
from voiceflow_worker.model.reports.status import (
    SessionStatus,
    api_code,
    fold_session_status,
    session_error,
    session_status,
)


def test_people_who_asked_to_be_left_alone_are_not_to_be_called_again() -> None:
    assert {kind for kind in SessionStatus if "UNSUB" in kind.value} == status.OPT_OUTS
    assert all("not call this number again" in session_status(kind).remedy for kind in status.OPT_OUTS)


@given(code=st.integers())
def test_any_code_can_be_looked_up(code: int) -> None:
    for lookup in (api_code, session_error):
        assert lookup(code).code == code
        assert lookup(code).meaning


def test_known_spellings_are_folded_and_others_are_none() -> None:
    for spelling, kind in [
        ("COMPLETED", SessionStatus.COMPLETED),
        ("NO_ANSWER", SessionStatus.NO_ANSWER),
        ("NO ANSWER", SessionStatus.NO_ANSWER),
        ("no-answer", SessionStatus.NO_ANSWER),
        ("noAnswer", SessionStatus.NO_ANSWER),
        ("CANCELED", SessionStatus.CANCELED),
        ("CANCELLED", SessionStatus.CANCELED),
        (" Busy ", SessionStatus.BUSY),
        ("COMPLETED_UNSUB_ERROR", SessionStatus.COMPLETED_UNSUB_ERROR),
        ("UNSUBSCRIBED CONTACT", SessionStatus.UNSUBSCRIBED_CONTACT),
        ("TELEPORTED", None),
        ("", None),
        (None, None),
        (7, None),
        (["BUSY"], None),
    ]:
        assert fold_session_status(spelling) is kind
