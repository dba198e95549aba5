"""Limits of priorities and times. Every store keeps values within these limits exactly, and sorts them correctly."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.job import split_key
from voiceflow_worker.model.text.arguments import LONGEST_KEY, time_problem
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.model.text.wording import in_words

PRIORITIES = range(-1_000_000, 1_000_001)
"""The valid priorities. Redis sorts by floating-point numbers and SQLite by 64-bit integers: both keep the order of
these priorities exactly."""


def priority_problem(priority: object) -> str | None:
    """Return the error message for an invalid priority; None for a valid one."""
    if type(priority) is int and priority in PRIORITIES:
        return None
    return (
        f"{priority!r} is not a priority; give a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}, "
        "such as 0 or 10: the larger goes first"
    )


def key_findings(key: str | None) -> list[Finding]:
    """Return a finding for a unique key that no call may have. None is valid: a call without a key."""
    if key is None:
        return []
    if len(key) > LONGEST_KEY:
        message = f"unique_key has {len(key)} characters; give at most {LONGEST_KEY}"
    elif not key.strip():
        remedy = "give a text with visible characters, or None for a call without a key"
        message = f"unique_key is {key[:40]!r}, which is blank; {remedy}"
    elif split_key(key)[1] > 1:
        message = (
            f"unique_key ends in {key[key.rindex('/') :]!r}, which only calls have that are made again. Shorten it"
        )
    else:
        return []
    return [Finding(message=message, column="unique_key")]


def text_findings(texts: Mapping[str, object]) -> list[Finding]:
    """Return a finding for each text that no store can keep. `texts` are by the names of their fields."""
    findings: list[Finding] = []
    for name, text in texts.items():
        if text is not None and (problem := storing_problem(text)) is not None:
            findings.append(Finding(message=f"{name} {problem}", column=name))
    return findings


def admission_findings(
    priority: object, *, not_before: datetime | None, valid_until: datetime | None, at: datetime
) -> list[Finding]:
    """Return why a call with this priority and these times cannot be enqueued at `at`."""
    findings: list[Finding] = []
    if problem := priority_problem(priority):
        findings.append(Finding(message=problem, column="priority"))
    if problem := time_problem("not_before", not_before):
        findings.append(Finding(message=problem, column="not_before"))
    if problem := time_problem("valid_until", valid_until):
        findings.append(Finding(message=problem, code=VALIDITY_EXPIRED, path="$.validUntil"))
    if findings or valid_until is None:
        return findings
    if valid_until <= at:
        passed = f"the validity period has expired: it ended at {in_words(valid_until)}; give a later time"
        findings.append(Finding(message=passed, code=VALIDITY_EXPIRED, path="$.validUntil"))
    elif not_before is not None and not_before >= valid_until:
        never = (
            f"its validity ends at {in_words(valid_until)}, but not_before is {in_words(not_before)}; "
            "give a later valid_until or an earlier not_before"
        )
        findings.append(Finding(message=never, code=VALIDITY_EXPIRED, path="$.validUntil"))
    return findings
