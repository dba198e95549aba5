"""`voiceflow ivr`, and the options that name menus."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.support.commands import assembled_once
from voiceflow_worker import CallQueue, Job, open_store
from voiceflow_worker.cli.program import run

__all__ = ["assembled_once"]

MENUS = """
from voiceflow_worker import CallFlow, Menu
from voiceflow_worker.ivr import Retry, Caller, End

confirm = Menu(
    "confirm", prompt="Hello {{name}}. To confirm press 1, to speak to us press 2.",
    voice_profile="en-US-BenjaminRUS", fallback="Goodbye.",
)
confirm.on("1", result="confirmed", goto=End("Thank you, {{name}}."))
confirm.on("2", goto=CallFlow.bridge(source="+6531234567", destination="+6587654322"))
made = Menu("made", prompt="Hm.", voice_profile="v", fallback=End("Bye."))
made.on("1", goto=End())
wrong = Menu("wrong", prompt="Hm.")


@made.on("2")
def fails(caller: Caller) -> End:
    raise LookupError("no table")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of menus, as the current one."""
    (tmp_path / "menus_of_test.py").write_text(MENUS)
    (tmp_path / "broken_module.py").write_text("import nothing_like_this\n")
    (tmp_path / "raising_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("menus_of_test", "broken_module", "raising_module"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("menus_of_test:nothing", "nothing is no menu of menus_of_test, which has confirm, made, wrong"),
        ("menus_of_test:__name__", "__name__ is no menu of menus_of_test"),
        ("menus_of_test", "write MODULE:MENU"),
        ("menus_of_test.py:confirm", "write MODULE:MENU"),
        ("no_such_module:menu", "no_such_module cannot be imported from"),
        ("broken_module:menu", "No module named 'nothing_like_this'"),
        ("raising_module:menu", "ZeroDivisionError"),
        ("nothing.toml", "nothing.toml cannot be read: No such file or directory"),
        ("reminder.toml:menu", "cannot be imported from"),
    ],
)
def test_a_menu_that_cannot_be_had_is_reported_with_a_remedy(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert run(["ivr", "check", name]) == 2
    assert said in capfd.readouterr().err


def test_play_goes_through_a_call(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ivr", "play", "menus_of_test:confirm", "--data", "name=Ana", "--keys", "7,,1"]) == 0
    shown = capfd.readouterr()
    asks = "asks: Hello Ana. To confirm press 1, to speak to us press 2."
    lines = [asks, "presses: 7", asks, "presses: (nothing)", asks, "presses: 1", "says: Thank you, Ana.", "hangs up"]
    assert [line.strip() for line in shown.out.splitlines()] == [*lines, "", "answer: confirmed"]
    assert run(["ivr", "play", "menus_of_test:confirm", "--data", "name=Ana", "--keys", "2"]) == 0
    assert "connects to +6587654322" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ValueError('no such day')", "ValueError: no such day\n"),
        ("ExceptionGroup('two', [ValueError('a')])", "ExceptionGroup: two (1 sub-exception)\n"),
    ],
)
@pytest.mark.parametrize(("kind", "secret"), [("def", False), ("async def", True)])
def test_play_shows_type_message_and_line_of_what_a_handler_raises(
    folder: Path, capfd: pytest.CaptureFixture[str], *, raised: str, said: str, kind: str, secret: bool
) -> None:
    (folder / "menus_of_test.py").write_text(
        "from voiceflow_worker import CallFlow, InvalidInputError, Menu\nfrom voiceflow_worker.ivr import End\n"
        f"pin = Menu('pin', prompt='Hm.', voice_profile='v', fallback=End('Bye.'), secret={secret})\n"
        f"@pin.on('2')\n{kind} fails(caller):\n    raise {raised}\n"
    )
    assert run(["ivr", "play", "menus_of_test:pin", "--keys", "2"]) == 1
    shown = capfd.readouterr().err
    assert said in shown
    assert f'File "{folder}/menus_of_test.py", line 6, in fails' in shown


def test_play_says_what_went_wrong_and_exits_1(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ivr", "play", "menus_of_test:made", "--keys", "2"]) == 1
    assert "says: Bye." in capfd.readouterr().out
    assert run(["ivr", "play", "menus_of_test:made", "--keys", "7"]) == 1
    assert "--keys has no more keys" in capfd.readouterr().err
    assert run(["ivr", "play", "menus_of_test:made", "--keys", "1 2"]) == 2
    assert "--keys: write 0-9, * and #, with a comma between questions" in capfd.readouterr().err
    assert run(["ivr", "play", "menus_of_test:confirm"]) == 1  # its prompt lacks a value
    assert (
        "confirm: {{name}} has no value, because the call has no data; the fallback follows" in capfd.readouterr().err
    )
    assert run(["ivr", "play", "menus_of_test:confirm", "--data", "day=Monday"]) == 1
    assert "{{name}} has no value, because the data of the call has only day;" in capfd.readouterr().err
    assert run(["ivr", "play", "menus_of_test:confirm", "--data", "name"]) == 2


def test_check_exits_2_only_for_errors(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ivr", "check", "menus_of_test:confirm"]) == 0
    shown = capfd.readouterr().out
    assert "1 menu; 0 errors, 0 warnings" in shown
    assert run(["ivr", "check", "menus_of_test:wrong", "--json"]) == 2
    findings = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {"wrong", "wrong prompt"} <= {found["path"] for found in findings if found["severity"] == "error"}
    assert {found["file"] for found in findings} == {"menus_of_test:wrong"}


async def jobs(url: str) -> list[Job]:
    async with open_store(url) as store:
        return list(await CallQueue(store).find())


def test_enqueue_begins_the_calls_of_a_file_with_a_menu(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "people.csv").write_text("destination,name\n+6587654321,Ana\n+6587654322,Ben\n")
    common = ["--source", "+6531234567", "--store", "sqlite:///calls.db"]
    assert run(["enqueue", "people.csv", "--ivr", "menus_of_test:confirm", *common]) == 0
    made = anyio.run(jobs, "sqlite:///calls.db")
    assert [(job.menu, job.data) for job in made] == [("confirm", {"name": "Ana"}), ("confirm", {"name": "Ben"})]
    assert "Hello Ana. To confirm press 1" in made[0].body
    assert '"sayAndCapture"' in made[0].body
    asks = {"promptMessage": "Press 1.", "voiceProfile": "v"}
    flow = [{"action": "makeCall"}, {"action": "sayAndCapture", "params": asks}]
    (folder / "asks.json").write_text(json.dumps({"callflow": flow}))
    (folder / "asks.toml").write_text('template = "asks.json"\nmenu = "confirm"\n')
    assert run(["enqueue", "people.csv", "--campaign", "asks.toml", "--batch", "other", *common]) == 0
    assert [job.menu for job in anyio.run(jobs, "sqlite:///calls.db")] == ["confirm"] * 4


def test_serve_refuses_menus_with_errors(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--ivr", "menus_of_test:wrong", "--store", "sqlite:///calls.db"]) == 2
    assert "no key leads to a next step" in capfd.readouterr().err
