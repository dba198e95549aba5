"""The pages say what the program is: its names, errors, settings, metrics, statuses, commands and options."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.docs.command_page import command_page, commands, write
from tests.docs.pages import DOCS, ROOT, section
from tests.support.plain_jobs import NOW, POLICY, a_job
from voiceflow_worker import errors
from voiceflow_worker.cli.program import described, program, sections
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.evidence import summarised
from voiceflow_worker.model.jobs.job import JobState, Post
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SESSION_STATUSES
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.text.wording import read_duration
from voiceflow_worker.service import metrics
from voiceflow_worker.settings import PREFIX, defaults

REFERENCE, SETTINGS = DOCS / "reference.md", DOCS / "settings.md"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GROUPS = ("calls", "suppress", "ivr", "account")
"""Words that only begin the name of a command."""
METRIC = re.compile(r"`(voiceflow_(?!worker\b|default\b)\w+)[`{…]")


def test_each_error_is_public_and_documented() -> None:
    declared = {
        name: each
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.VoiceflowError)
    }
    assert all(each.__doc__ for each in declared.values())
    page = (DOCS / "in-your-service.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+Error)`", page)) <= declared.keys()


def test_the_site_finds_every_public_module_and_page() -> None:
    """Signatures come from the source: only the modules are named, and the navigation has every page."""
    text = REFERENCE.read_text(encoding="utf-8")
    for module in re.findall(r"automodule:: (\S+)", text):
        assert importlib.import_module(module).__doc__, module
    site = runpy.run_path(str(DOCS / "conf.py"))
    listed = [page for pages in site["CHAPTERS"].values() for page in pages]
    there = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    assert sorted([*listed, "index"]) == sorted([*there, "cli", "fields"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    source, made = shutil.copytree(DOCS, tmp_path / "source"), tmp_path / "made"
    write(source)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(made)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "enqueue_many" in (made / "reference.html").read_text(encoding="utf-8")


def documented() -> list[tuple[str, str]]:
    """(variable, default) of every setting of the page's two lists."""
    found = re.findall(r"^- `(VOICEFLOW_\w+)`(?: \[`(.+?)`\])?: ", SETTINGS.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, default) for name, default in found]


def test_the_page_lists_every_setting_once_in_the_order_of_the_class() -> None:
    assert [name for name, _ in documented()] == [PREFIX + name.upper() for name in defaults()]


def test_the_default_on_the_page_is_the_default() -> None:
    for variable, said in documented():
        default = defaults()[variable.removeprefix(PREFIX).lower()]
        match default:
            case None | ():
                assert not said
            case bool():
                assert said == ("yes" if default else "no")
            case timedelta():
                assert read_duration(said) == default
            case float():
                assert float(said) == default
            case _:
                assert said == str(default)


def test_each_metric_that_a_page_names_exists() -> None:
    names = {each.name for each in vars(metrics).values() if isinstance(each, metrics.MetricOf)}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {each for each in METRIC.findall(text) if not each.endswith("_")} <= names
    for beginning in (each for each in METRIC.findall(text) if each.endswith("_")):
        assert any(name.startswith(beginning) for name in names), beginning


def test_no_name_of_a_metric_is_anywhere_else() -> None:
    name = re.compile(r"voiceflow_(?:queue|store|worker|webhook|ivr|hook|api|on_call)_\w+")
    sources = [path for path in (ROOT / "voiceflow_worker").rglob("*.py") if path.name != "metrics.py"]
    assert not {path.name: found for path in sources if (found := name.findall(path.read_text("utf-8")))}


def test_the_table_of_ends_says_what_becomes_of_each_status() -> None:
    post = Post(number=1, client_request_id="q.1.1", began_at=NOW, valid_until=NOW, verdict=VerdictKind.CREATED)
    job = a_job(JobState.SUBMITTED, post_count=1, posts=(post,))
    text = section((DOCS / "states.md").read_text(encoding="utf-8"), "How calls end")
    rows = [re.split(r" \| ", line) for line in text.splitlines() if line.startswith("| ")]
    for status in SESSION_STATUSES:
        ended = summarised(job, 1, Outcome(status=status, status_text=status.value), at=NOW, policy=POLICY)
        row = next(each for each in rows if re.search(rf"\b{status.value}\b", each[1]))
        assert f"`{ended.state.value}`" in row[2], status
        assert f"`{result_of(ended)}`" in row[3], status


def test_the_table_of_states_has_each_state_once() -> None:
    text = section((DOCS / "states.md").read_text(encoding="utf-8"), "The states")
    states = [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(states) == sorted(each.value for each in JobState)


def test_the_page_of_the_commands_has_each_command_and_each_option_once() -> None:
    page = command_page()
    assert re.findall(r"^## (voiceflow .+)$", page, re.MULTILINE) == [path for path, _ in commands(program())]
    assert page.count("- `--force`: Replace FILE if it exists.\n") == 1
    assert re.findall(r"^- `(--as NAME)`", page, re.MULTILINE) == ["--as NAME"]


def test_each_command_has_one_line_in_a_panel_of_the_help() -> None:
    code = "import sys; from voiceflow_worker.cli.program import run; sys.exit(run(['--help']))"
    environment = {"COLUMNS": "80", "NO_COLOR": "1", "PATH": ""}
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert re.findall(r"^╭─ (.+?) ─", printed, re.MULTILINE) == ["Every day", "More"]
    lines = re.findall(r"^│ (\S*) ", printed, re.MULTILINE)
    assert "" not in lines, "a summary takes a second line"
    assert {path.split()[1] for path, _ in commands(program())} == {name for name in lines if not name.startswith("-")}


def test_each_command_has_a_summary_of_one_line_and_an_example() -> None:
    for path, app in commands(program()):
        function = app.default_command
        assert callable(function)
        assert len(described(function).partition("\n")[0]) <= 60
        assert f"    {path}" in f"    {sections(function)['Examples']}"


def test_every_command_and_option_that_a_page_names_exists() -> None:
    known = {
        path.removeprefix("voiceflow "): {name for each in app.assemble_argument_collection() for name in each.names}
        for path, app in commands(program())
    }
    text = "\n".join(re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8")) for page in PAGES)
    for line in re.findall(r"(?:^|[`&(] ?|^ +)voiceflow ([a-z][^`\n|#&]*)", text, re.MULTILINE):
        two = " ".join(line.split()[:2])
        path = two if two in known else line.split()[0]
        if path in GROUPS:
            continue
        assert path in known, f"there is no command {path!r}: {line}"
        unknown = set(re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", line)) - known[path] - {"--help"}
        assert not unknown, f"voiceflow {path} has no option {', '.join(unknown)}: {line}"
