"""The judge of a campaign: every figure of its report, and every ring, held against the ledger of the sandbox."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.acceptance.campaign.desk import Desk
from tests.acceptance.campaign.people import CLOSED, CLOSES, OPENS, Hours, People
from voiceflow_worker.model.numbers import phone

ANSWERS = {"1": "confirmed", "2": "another day", "9": "do not call"}
"""What the menu names its keys."""

CAP = 2
"""Attempts per person."""
REACHED, UNREACHED = "completed", "unreached"
STATES = {"COMPLETED": REACHED, "BUSY": UNREACHED, "NO_ANSWER": UNREACHED, "FAILED": "failed", "ERROR": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A campaign that has ended."""

    people: People
    hours: Hours
    ledger: list[dict[str, Any]]
    added: str
    """The number that was put on the list in the course of it."""
    placed: frozenset[str]
    """Numbers of which a person found that they were called; 8x8 never told how it ended."""
    batch: str
    desk: Desk

    def rows(self) -> Iterator[dict[str, str]]:
        """The rows of the report's CSV."""
        with (self.desk.folder / "report.csv").open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)


def judge(ended: Ended) -> dict[str, Any]:
    """Compare everything; gives the figures. Raises AssertionError for the first that differs."""
    sessions: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in ended.ledger:
        if entry["rang"]:
            sessions[entry["client_request_id"].rpartition(".")[0]].append(entry)
    calls = {row["job_id"]: row for row in ended.rows()}
    told: dict[str, Any] = json.loads(ended.desk.quietly(f"voiceflow report --batch {ended.batch} --json"))
    assert sessions.keys() <= calls.keys(), "a phone rang for a call that the report does not have"
    _judge_rings(ended, sessions, calls)
    _judge_states(ended, sessions, calls)
    figures = _figures(ended, sessions, calls)
    differ = {name: (told[name], figures[name]) for name in figures if told[name] != figures[name]}
    assert not differ, f"the report differs from the ledger: {differ}"
    _judge_rows(ended, sessions, calls)
    opted_out = {entry["destination"] for entry in ended.ledger if "9" in entry["pressed"]}
    return {**figures, "rings": sum(map(len, sessions.values())), "people who pressed 9": len(opted_out)}


def _rings_of(ended: Ended) -> Counter[str]:
    return Counter(each["destination"] for entry in ended.ledger for each in entry["rings"])


def _judge_rings(ended: Ended, sessions: dict[str, list[dict[str, Any]]], calls: dict[str, dict[str, str]]) -> None:
    """No ring outside its window, above the cap, to a suppressed number, or again without a redial."""
    people, rings = ended.people, _rings_of(ended)
    assert rings.keys() <= people.zones.keys(), "a number rang that is in no good row"
    assert max(rings.values()) <= CAP
    assert not rings.keys() & people.suppressed
    assert ended.added not in rings
    in_time = {zone.name: [0, 0] for zone in people.zones.values()}
    for entry in (each for entries in sessions.values() for each in entries):
        zone = people.zones[entry["destination"]]
        at = datetime.fromtimestamp(entry["at_seconds"], UTC)
        assert ended.hours.are_open(at, zone), f"{entry['destination']} rang at {at}, outside {ended.hours}"
        in_time[zone.name][at >= ended.hours.moment] += 1
    assert in_time[OPENS.name][0] == 0
    assert in_time[OPENS.name][1] > 0
    assert in_time[CLOSES.name][0] > 0
    assert in_time[CLOSES.name][1] == 0
    assert in_time.get(CLOSED.name, [0, 0]) == [0, 0]
    _judge_opt_outs(ended)
    for job_id, entries in sessions.items():
        outcomes = [entry["outcome"] for entry in entries]
        assert entries[0]["destination"] == calls[job_id]["destination"]
        # A redial follows only a busy line (by the policy, once), or no answer (by the operator, once).
        assert all(outcome in {"BUSY", "NO_ANSWER"} for outcome in outcomes[:-1]), outcomes
        assert max(Counter(outcomes[:-1]).values(), default=0) <= 1, outcomes


def _judge_opt_outs(ended: Ended) -> None:
    """Who pressed 9 is on the list, and does not ring after that."""
    listed = {
        entry["number"]: datetime.fromisoformat(entry["since"])
        for entry in map(json.loads, ended.desk.quietly("voiceflow suppress list --limit 0 --json").splitlines())
    }
    pressed = {entry["destination"] for entry in ended.ledger if "9" in entry["pressed"]}
    assert pressed
    assert listed.keys() == pressed | ended.people.suppressed | {ended.added}
    for entry in ended.ledger:
        if entry["rang"] and entry["destination"] in listed:
            assert datetime.fromtimestamp(entry["at_seconds"], UTC) < listed[entry["destination"]]


def _judge_states(ended: Ended, sessions: dict[str, list[dict[str, Any]]], calls: dict[str, dict[str, str]]) -> None:
    """Each call is in the state that the ledger, the window, the cap and the list give it."""
    people, rings = ended.people, _rings_of(ended)
    assert Counter(row["destination"] for row in calls.values()) == people.calls
    silenced = {entry["destination"] for entry in ended.ledger if "9" in entry["pressed"]} | {ended.added}
    left: Counter[str] = Counter()
    for job_id, row in calls.items():
        number, state = row["destination"], row["state"]
        zone, entries = people.zones[number], sessions.get(job_id, [])
        if number in ended.placed:
            assert state == "accepted", row
        elif entries and state != "queued":
            assert state == STATES[entries[-1]["outcome"]], row
        elif entries:
            # Its redial waits: for the cap, or for a window that has closed.
            assert entries[-1]["outcome"] in {"BUSY", "NO_ANSWER"}, row
            assert rings[number] == CAP or zone is CLOSES, row
        elif number in silenced:
            # It ends when its turn comes; where the window has closed, that is on another day.
            assert state == "cancelled" or (state == "queued" and zone is CLOSES), row
        elif state == "queued":
            assert zone in {CLOSED, CLOSES} or rings[number] == CAP, row
            left[zone.name] += 1
        else:
            raise AssertionError(f"a call that never rang has ended: {row}")
    assert left[CLOSES.name], "the window closed on nobody"


def _figures(
    ended: Ended, sessions: dict[str, list[dict[str, Any]]], calls: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """The figures of the report, as the ledger gives them."""
    told = {job_id: entries for job_id, entries in sessions.items() if entries[0]["destination"] not in ended.placed}
    last = [entries[-1] for entries in told.values()]
    digits: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for entries in told.values():
        keys = [",".join(filter(None, entry["pressed"])) for entry in entries]
        digits.update([key for key in keys if key][-1:])
        answers.update([ANSWERS[key] for entry in entries for key in entry["pressed"] if key in ANSWERS][-1:])
    # The prices of a call are read once it has ended.
    priced = [entries for job_id, entries in told.items() if calls[job_id]["state"] != "queued"]
    cost = sum((Decimal(entry["price"]) for entries in priced for entry in entries), Decimal(0))
    answered = [entry for entry in last if entry["outcome"] == "COMPLETED"]
    countries = Counter(phone.country_of(entries[0]["destination"]) for entries in told.values())
    assert None not in countries
    return {
        "total": sum(ended.people.calls.values()),
        "states": _with_zeros(Counter(row["state"] for row in calls.values())),
        "outcomes": dict(Counter(entry["outcome"] for entry in last)),
        "answered": len(answered),
        "answer_rate": round(len(answered) / len(last), 4),
        "digits": dict(digits),
        "answers": dict(answers),
        "other_keys": digits.total() - answers.total(),
        "seconds": round(sum(round(entry["seconds"] * 1000) for each in told.values() for entry in each) / 1000, 3),
        "answered_seconds": round(sum(round(entry["seconds"] * 1000) for entry in answered) / 1000, 3),
        "cost": {"USD": float(cost)},
        "placed": len(sessions),
        "priced": len(priced),
    }


def _with_zeros(states: Counter[str]) -> dict[str, int]:
    names = (
        "queued", "leased", "sending", "submitted", "in_doubt", "completed", "unreached", "failed", "expired",
        "cancelled", "accepted",
    )  # fmt: skip
    return {name: states[name] for name in names}


def _judge_rows(ended: Ended, sessions: dict[str, list[dict[str, Any]]], calls: dict[str, dict[str, str]]) -> None:
    """Each row of the CSV says of its call what the ledger says."""
    for job_id, row in calls.items():
        entries = sessions.get(job_id, [])
        assert int(row["attempt"]) == len(entries), row
        if not entries or row["destination"] in ended.placed:
            assert (row["outcome"], row["price"]) == ("", ""), row
            continue
        assert row["outcome"] == entries[-1]["outcome"], row
        assert row["state"] == "queued" or Decimal(row["price"]) == sum(Decimal(entry["price"]) for entry in entries), (
            row
        )
