"""Each command that prints for people, without `--json`, once: it ends as it should, and breaks on no kind of call."""

from __future__ import annotations

import pytest

from tests.cli.eight_by_eight import running
from tests.cli.running import Program
from tests.cli.stored import completed, enqueued, in_doubt, unreached, url_of
from tests.cli.test_check import written
from tests.cli.test_enqueue import BAD, GOOD, SAY
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox


def test_what_people_read_is_printed_for_every_kind_of_call(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = voiceflow.folder
    done, busy, doubt = completed(folder, batch_id="a"), unreached(folder, SessionStatus.BUSY), in_doubt(folder)
    (waits,) = enqueued(folder, 1, batch_id="b")
    good, bad = written(folder, "good.csv", GOOD), written(folder, "bad.csv", BAD)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(folder))
    commands: list[tuple[int, tuple[object, ...]]] = [
        *((0, ("calls", "show", job.id)) for job in (done, busy, doubt, waits)),
        (0, ("calls", "list")), (0, ("calls", "list", "--number", "81234567")), (0, ("calls", "list", "--limit", "1")),
        (0, ("status",)), (0, ("queues",)), (0, ("batches",)), (0, ("report",)), (0, ("rate", "5")), (0, ("rate",)),
        (0, ("rate", "--reset")), (0, ("hold", "--batch", "b")), (0, ("hold", "--for", "1m")), (1, ("doctor",)),
        (0, ("status",)), (0, ("batches",)), (0, ("resume",)), (1, ("calls", "redial", done.id)),
        (0, ("suppress", "add", "+6587654321", "--for", "30d")), (0, ("suppress", "list")),
        (0, ("suppress", "remove", "+6587654321")), (0, ("suppress", "import", good)),
        (2, ("check", bad, *SAY)), (2, ("enqueue", bad, *SAY)), (0, ("enqueue", good, *SAY, "--dry-run")),
        (0, ("calls", "cancel", waits.id)), (1, ("calls", "cancel", done.id)), (0, ("config", "show")),
        (2, ("backup", ".")), (2, ("backup", "x.db", "--store", "redis://127.0.0.1:1/0")),
    ]  # fmt: skip
    for code, command in commands:
        ended = voiceflow(*command)
        assert (ended.code, bool(ended.out or ended.err)) == (code, True), (command, ended)


def test_the_account_and_a_drain_are_printed_for_people(voiceflow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueued(voiceflow.folder, 2)
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(voiceflow.folder))
    with running(Sandbox(api_key="key-1", sub_accounts=["acme"])) as eight:
        for name, value in eight.environment.items():
            monkeypatch.setenv(name, value)
        for command in (["account", "profiles", "--locale", "en"], ["worker", "--drain"], ["reconcile"], ["status"]):
            ended = voiceflow(*command)
            assert (ended.code, bool(ended.out)) == (0, True), ended
