"""The progress of a call, as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

from voiceflow_worker.core.events.progress import Heard, LegState, Recording
from voiceflow_worker.model.records.call_json import rfc3339


def progress_as_json(heard: Heard) -> dict[str, object]:
    """The states of a call's legs and its recordings."""
    return {
        "progress": [{**asdict(state), "at": rfc3339(state.at)} for state in heard.states],
        "recordings": [{**asdict(each), "at": rfc3339(each.at)} for each in heard.recordings],
    }


def progress_in_words(heard: Heard) -> Iterator[tuple[datetime, str]]:
    """A line for each state and recording, with its time."""
    for state in heard.states:
        yield state.at, _state(state)
    for recording in heard.recordings:
        yield recording.at, _recording(recording)


def _state(state: LegState) -> str:
    ends = f", from {state.source} to {state.destination}" if state.source and state.destination else ""
    sip = f", SIP {state.sip_code}" if state.sip_code is not None else ""
    return f"{state.status or 'a state without a name'}{ends}{sip}"


def _recording(recording: Recording) -> str:
    name = f" {recording.recording_id}" if recording.recording_id else ""
    seconds = f", {recording.seconds:.0f} s" if recording.seconds is not None else ""
    place = f", at {recording.file_path}" if recording.file_path else ""
    return f"recording{name}: {recording.status or 'no state given'}{seconds}{place}"
