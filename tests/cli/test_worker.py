from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.eight_by_eight import EightByEight, running
from tests.cli.running import TIMEOUT, Program, Spawned
from tests.cli.stored import enqueued, url_of, within
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.waiting import wait_until
from voiceflow_worker import Job, JobState
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Fault, FaultKind


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[EightByEight]:
    """A sandbox that takes one key, and the settings to reach it."""
    with running(Sandbox(api_key="key-1")) as found:
        yield found.settings(monkeypatch)


# -- draining ----------------------------------------------------------------------------------------------------------


def test_a_drain_sends_everything_and_tells_the_states(voiceflow: Program, eight: EightByEight) -> None:
    jobs = enqueued(voiceflow.folder, 20)
    ended = voiceflow("worker", "--drain", "--rate", "unlimited", "--json", "--store", url_of(voiceflow.folder))
    assert ended.code == 0, ended.err
    assert ended.document == {
        "queue": "default", "states": {state.value: 20 if state is JobState.ACCEPTED else 0 for state in JobState},
        "sent": 20, "later": 0, "held": 0, "holds": [], "doubts": 0, "submitted": 0, "total": 20,
    }  # fmt: skip
    assert eight.rang == [job.destination for job in jobs]
    assert ended.err.count("8x8 answered") == 20
    assert not any(job.destination[3:] in ended.err for job in jobs), "the log has ids, and no numbers"


def test_calls_for_later_are_left_and_told(voiceflow: Program, eight: EightByEight) -> None:
    async def work(engine: Engine) -> Job:
        later = engine.store.clock.now().replace(year=2099)
        return await engine.queue.enqueue(flow(), not_before=later)

    within(voiceflow.folder, work)
    ended = voiceflow("worker", "--drain", "--json", "--store", url_of(voiceflow.folder))
    assert (ended.code, ended.document["later"]) == (0, 1)
    assert "left in the queue for later: 1 call (the next may begin at 2099-" in ended.err
    people = voiceflow("worker", "--drain", "--store", url_of(voiceflow.folder))
    assert people.out == "queue default is drained of what is due now: 1 queued\n"
    assert eight.rang == []


def test_a_hold_that_stops_a_drain_exits_1(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_API_KEY", "another-key")
    enqueued(voiceflow.folder, 3)
    ended = voiceflow("worker", "--drain", "--json", "--store", url_of(voiceflow.folder))
    assert ended.code == 1
    assert ended.document["held"] == 3
    assert [(hold["scope"], hold["state"]) for hold in ended.document["holds"]] == [("queue", "held")]
    assert "correct the cause, then `voiceflow resume`, and run this command again" in ended.err
    assert "another-key" not in ended.out + ended.err
    assert eight.rang == []


def test_a_doubt_that_is_left_exits_1(voiceflow: Program, eight: EightByEight) -> None:
    eight.sandbox.faults.add(Fault(fault=FaultKind.JUNK, destination=number(1)))
    enqueued(voiceflow.folder, 3)
    ended = voiceflow("worker", "--drain", "--json", "--store", url_of(voiceflow.folder))
    assert ended.code == 1
    assert (ended.document["doubts"], ended.document["states"]["accepted"]) == (1, 2)
    assert "voiceflow calls list --state in_doubt" in ended.err


def test_summaries_that_nobody_receives_are_reported(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_OUTCOMES", "webhook")
    enqueued(voiceflow.folder, 1)
    ended = voiceflow("worker", "--drain", "--json", "--store", url_of(voiceflow.folder))
    assert (ended.code, ended.document["submitted"]) == (0, 1)
    assert "voiceflow serve" in ended.err


# -- what it needs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["VOICEFLOW_API_KEY", "VOICEFLOW_SUB_ACCOUNT"])
def test_what_is_missing_is_reported_before_anything_is_opened(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    ended = voiceflow("worker")
    assert ended.code == 2
    assert f"set {missing}" in ended.err
    assert list(voiceflow.folder.iterdir()) == []


def test_a_misspelt_setting_is_told_at_the_start(
    voiceflow: Program, eight: EightByEight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEFLOW_MAX_ACTIV", "5")
    ended = voiceflow("worker", "--drain", "--store", url_of(voiceflow.folder))
    assert ended.code == 0
    assert "VOICEFLOW_MAX_ACTIV (the environment) is not a setting" in ended.err
    assert "did you mean VOICEFLOW_MAX_ACTIVE?" in ended.err


def workers_of(folder: Path) -> int:
    async def work(engine: Engine) -> int:
        return (await engine.queue.status()).workers

    return within(folder, work)


def wait_for_workers(folder: Path, count: int) -> None:
    wait_until(lambda: workers_of(folder) >= count, f"{count} workers")


# -- metrics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("0.0.0.0", None, "only together with --metrics-port"),
        ("no.such.host.invalid", "0", "cannot listen on no.such.host.invalid"),
        ("192.0.2.1", "0", "cannot listen on 192.0.2.1:0"),
    ],
)
def test_an_address_for_metrics_that_cannot_be_used_is_a_sentence(
    voiceflow: Program, eight: EightByEight, host: str, port: str | None, told: str
) -> None:
    ended = voiceflow("worker", "--metrics-host", host, *([] if port is None else ["--metrics-port", port]))
    assert ended.code != 0
    assert told in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_metrics_tell_where_the_queue_stands(folder: Path, eight: EightByEight) -> None:
    enqueued(folder, 2, batch="march")
    within(folder, lambda engine: engine.queue.hold(batch_id="march", reason="lunch"))
    within(folder, lambda engine: engine.enqueue("+6587654399"))
    command = ["worker", "--metrics-host", "127.0.0.2", "--metrics-port", "0", "--rate", "7", "--store", url_of(folder)]
    with Spawned(command, folder) as worker:
        url = worker.wait_for("metrics are on").split()[-1]
        assert url.startswith("http://127.0.0.2:")
        with urllib.request.urlopen(url.replace("/metrics", "/healthz"), timeout=TIMEOUT) as answer:
            assert answer.status == 200
        worker.wait_for("voiceflow worker sends")
        wait_for_workers(folder, 1)
        text = ""

        def is_counted() -> bool:
            nonlocal text
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                text = answer.read().decode()
            return 'voiceflow_worker_verdicts_total{detail="200",verdict="created"} 1.0' in text

        wait_until(is_counted, "the verdict of this worker")
        assert worker.stop().code == 0
    assert 'voiceflow_queue_jobs{queue="default",state="queued"} 2.0' in text
    assert 'voiceflow_queue_limit_calls_per_second{queue="default"} 7.0' in text
    assert 'voiceflow_queue_workers{queue="default"} 1.0' in text
    assert 'voiceflow_queue_holds{queue="default"} 1.0' in text
