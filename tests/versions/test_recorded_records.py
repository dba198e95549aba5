"""Records as the previous version wrote them: they are read, and written again letter for letter, so it reads ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from voiceflow_worker.backends.record import head_of, job_from, record_of
from voiceflow_worker.backends.redis.connection import codec
from voiceflow_worker.core.numbers import suppression
from voiceflow_worker.core.outcomes import hook_backlog
from voiceflow_worker.core.overview.heartbeat import WorkerBeat
from voiceflow_worker.core.ports import EventKind
from voiceflow_worker.core.ports.record_set import json_codec
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.records.outcome_record import outcome_from, outcome_record

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
# What the codecs of single records are called is nobody's business but theirs and this test's.
# pyright: reportPrivateUsage=false


def test_jobs() -> None:
    for name in ("job", "bare job"):
        told = RECORDED[name]
        head = tuple(told["head"])
        job = job_from(head, told["record"], told["body"])
        assert (head_of(job), record_of(job), job.body) == (head, told["record"], told["body"])


def test_tombstones_events_and_gates_of_redis() -> None:
    buried = codec.buried("default", RECORDED["grave"])
    assert (buried.unique_key, buried.body_digest) == ("key", "digest-of-the-body")
    event = codec.event_of(RECORDED["event"])
    assert (event.kind, event.post, event.sequence) == (EventKind.ENDED, 2, 7)
    gates = [codec.gate_of("default", "batch=b", text) for text in RECORDED["gates"]]
    assert [gate.state for gate in gates] == [GateState.HELD, GateState.HELD, GateState.CANCELLED]
    assert [codec.gate_text(gate) for gate in gates] == RECORDED["gates"]


def test_records() -> None:
    outcome = outcome_from(json.loads(RECORDED["parked"]))
    assert outcome_record(outcome) == json.loads(RECORDED["parked"])
    entry = suppression._entry("+6587654321", RECORDED["suppressed"])
    assert suppression._text(entry) == RECORDED["suppressed"]
    beat: WorkerBeat = json_codec(WorkerBeat).validate_json(RECORDED["heartbeat"])
    assert (beat.worker_id, beat.in_flight) == ("w", 3)
    waiting = hook_backlog._read("hook/default/7", RECORDED["hook"])
    assert hook_backlog._written(waiting) == RECORDED["hook"]
