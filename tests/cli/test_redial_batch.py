from __future__ import annotations

import pytest

from tests.cli.running import Program
from tests.cli.stored import empty, unreached
from voiceflow_worker.model.reports.status import SessionStatus


@pytest.fixture
def redial(voiceflow: Program) -> tuple[str, ...]:
    return ("calls", "redial", "--store", empty(voiceflow.folder))


Redial = tuple[str, ...]


def test_a_batch_is_redialled_once(voiceflow: Program, redial: Redial) -> None:
    missed = [unreached(voiceflow.folder, SessionStatus.NO_ANSWER, batch_id="march") for _ in range(2)]
    unreached(voiceflow.folder, SessionStatus.BUSY, batch_id="march")
    command = (*redial, "--batch", "march", "--outcome", "no_answer", "--yes")
    ended = voiceflow(*command, "--json")
    assert (ended.code, ended.document) == (0, {"batch_id": "march", "redialled": 2, "left_out": {}})
    ended = voiceflow(*command)
    assert (ended.code, ended.out) == (0, "redialled: 0 calls of batch march\n")
    waiting = voiceflow("calls", "list", "--state", "queued", "--json", *redial[2:]).lines
    assert [line["id"] for line in waiting] == [job.id for job in missed]


def test_a_person_is_asked_first_and_told_how_many(
    voiceflow: Program, redial: Redial, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        unreached(voiceflow.folder, SessionStatus.NO_ANSWER, batch_id="march")
    command = (*redial, "--batch", "march", "--outcome", "no_answer")
    ended = voiceflow(*command)
    question = "Redial 2 calls of batch march?"
    assert (ended.code, ended.out) == (2, "")
    assert f"{question} Input is not a terminal, so nobody can confirm: give --yes" in ended.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("no\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin.readline", lambda answer=answer: answer, raising=False)
        ended = voiceflow(*command)
        assert (ended.code, question in ended.err) == (code, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name the calls to redial: give either their ids, or --batch and --outcome"),
        (("default.1", "--batch", "march"), "name the calls to redial"),
        (("--batch", "march"), "--batch needs --outcome"),
        (("default.1", "--outcome", "busy"), "--outcome and --times need --batch"),
        (("default.1", "--times", "2"), "--outcome and --times need --batch"),
        (("--batch", "march", "--outcome", "busy", "--force"), "--force works only with the ids"),
        (("--batch", "march", "--outcome", "completed"), "COMPLETED cannot be redialled"),
        (("--batch", "march", "--outcome", "nobody"), "is not an outcome that can be redialled"),
        (("--batch", "march", "--outcome", "busy", "--times", "0"), "times is 0, so nobody would be redialled"),
    ],
)
def test_orders_without_a_meaning_are_refused(
    voiceflow: Program, redial: Redial, options: tuple[str, ...], message: str
) -> None:
    ended = voiceflow(*redial, *options)
    assert (ended.code, message in ended.err) == (2, True)
