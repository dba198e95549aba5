"""Each alert leads to a section of the runbooks, and the commands there run, on a store with all that they speak of."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from tests.cli.eight_by_eight import running
from tests.cli.stored import enqueued, in_doubt, url_of
from tests.docs.pages import DOCS, blocks
from tests.support.commands import assembled_once
from voiceflow_worker.cli.program import run
from voiceflow_worker.sandbox import Sandbox

__all__ = ["assembled_once"]

PAGE = DOCS / "runbooks.md"
CALL = "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T"
DOCTOR = "voiceflow doctor"
OF_THE_MACHINE = ("systemctl", "journalctl", "timedatectl", "df", "du")
"""Programs of a machine that is run by systemd. Here they only note that they were called."""


def sections() -> dict[str, str]:
    """The text below each heading of the runbooks, by its anchor."""
    found: dict[str, str] = {}
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        found[re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")] = text
    return found


def test_each_alert_links_its_section_and_is_below_its_heading() -> None:
    (group,) = yaml.safe_load((DOCS / "deploy" / "alerts.yml").read_text("utf-8"))["groups"]
    first = {anchor: text.strip().partition("\n")[0] for anchor, text in sections().items()}
    assert all(re.search(r"`Voiceflow\w+`|\"", line) for line in first.values()), "an alert, or a sentence in quotes"
    rows = {alert: anchor for anchor, line in first.items() for alert in re.findall(r"`(Voiceflow\w+)`", line)}
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in group["rules"]}
    linked = {alert: url.partition("docs/runbooks.md#")[2] for alert, url in urls.items()}
    assert linked == rows
    texts = "".join(
        [*(str(rule["annotations"]) for rule in group["rules"]), *(sections()[anchor] for anchor in linked.values())]
    )
    assert not re.search(r"voiceflow hold(?! --for)", texts), "a hold without an end, where the queue has held itself"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store with the batch march, and a call in doubt, which is yielded; a sandbox; programs of a machine."""
    enqueued(tmp_path, 2, batch="march")
    call = in_doubt(tmp_path).id
    for name in OF_THE_MACHINE:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VOICEFLOW_STORE", url_of(tmp_path))
    monkeypatch.setenv("VOICEFLOW_WAIT_FOR_STORE", "0")
    with running(Sandbox(api_key="key-1", sub_accounts=["acme"])) as eight:
        eight.settings(monkeypatch)
        yield call
    structlog.reset_defaults()


def carried_out(line: str, stage: str, capfd: pytest.CaptureFixture[str]) -> None:
    command, _, otherwise = line.replace(CALL, stage).partition(" || ")
    if not command.startswith("voiceflow "):
        subprocess.run(["sh", "-euc", command], check=True)
        return
    code = run(shlex.split(command)[1:])
    printed = capfd.readouterr()
    # The doctor finds what is wrong with this stage, such as a webhook that is not registered.
    assert code in ({0, 1} if otherwise or command == DOCTOR else {0}), (line, printed.out, printed.err)


def commands() -> Iterator[Any]:
    """The commands of each section that has others than that of the doctor."""
    printed = blocks(PAGE, language="sh")
    for anchor, text in sections().items():
        lines = [line for block in printed if block.text in text for line in block.text.splitlines() if line.strip()]
        if others := [line for line in lines if line != DOCTOR]:
            yield pytest.param(others, id=anchor)


@pytest.mark.parametrize("lines", list(commands()))
def test_the_commands_of_a_section_run(lines: list[str], stage: str, capfd: pytest.CaptureFixture[str]) -> None:
    for line in lines:
        carried_out(line, stage, capfd)


def test_the_doctor_runs(stage: str, capfd: pytest.CaptureFixture[str]) -> None:
    carried_out(DOCTOR, stage, capfd)
