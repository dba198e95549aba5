from __future__ import annotations

import pytest

from voiceflow_worker.campaigns.files import rows as file_findings
from voiceflow_worker.finding import Finding, Severity


def test_what_is_too_much_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_findings, "MOST", {Severity.ERROR: 2, Severity.WARNING: 1})
    findings = file_findings.Findings()
    findings.add(Finding(message=f"error {n}") for n in range(5))
    findings.add(Finding(message=f"warning {n}", severity=Severity.WARNING) for n in range(3))
    assert [found.message for found in findings.all(file="f")] == [
        "error 0",
        "error 1",
        "warning 0",
        "5 more findings are not listed",
    ]
