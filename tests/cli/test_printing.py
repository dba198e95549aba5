"""What is printed and logged: text of strangers, secrets, calls, requests."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
from structlog.typing import Processor

import voiceflow_worker
from tests.cli.running import Program
from voiceflow_worker.cli.opening import log_to_stderr
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.cli.program import program
from voiceflow_worker.core.logs import mask_logs

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\x08\u202eevil\u2066\u2069\u2028"
"""A window title, a cleared screen, a colour in its 8-bit form, overwriting, and a line turned around."""
UNWANTED = frozenset(STEERING) - set("]0;owned[2J31mevil")


SECRET = 'QZ"QZ\\QZ'


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_log_line_steers_nothing_and_shows_no_secret_and_no_value_of_an_exception(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    def fail(pressed: str) -> None:
        raise ValueError(f"{len(pressed)} keys, {STEERING}, {SECRET} and amqp://me:QZ@host")

    log_to_stderr(form=form, level="warning", secrets=[SECRET])
    ours, theirs = structlog.get_logger("voiceflow.worker"), logging.getLogger("somebody")
    ours.info("below the level")
    ours.warning(f"event {STEERING}", error=f"{STEERING}\nforged line", url="redis://me:QZ/QZ@host", more=[SECRET])
    theirs.warning("theirs %s and http://QZ@host", f"{STEERING}\nforged line {SECRET}")
    try:
        fail("47" + "11")
    except ValueError:
        ours.exception("a bug")
        theirs.exception("their bug")
    out, err = capsys.readouterr()
    assert not UNWANTED & set(err)
    assert not any(line.startswith("forged") for line in err.splitlines())
    assert (out, "owned" in err, "4 keys" in err) == ("", True, True)
    assert not re.search("QZ|4711|below", err), "local variables hold numbers, data and keys pressed"
    if form == "json":
        lines = [json.loads(line) for line in err.splitlines()]
        assert [line["level"] for line in lines] == ["warning", "warning", "error", "error"]
        assert lines[0]["error"] == f"{STEERING}\nforged line"
        assert all("timestamp" in line for line in lines)


# The Redis client leaves streams of connections that it could not make to the garbage collector.


def test_the_log_of_a_command_hides_the_secrets_of_its_settings(
    voiceflow: Program, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("QZ-from-a-file\n")
    monkeypatch.setenv("VOICEFLOW_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_SECRET", "Bearer QZ-webhook")
    assert voiceflow("config", "show").code == 0
    logging.getLogger("somebody").warning("Authorization: Bearer QZ-from-a-file, Bearer QZ-webhook")
    assert "QZ" not in capfd.readouterr().err


PACKAGE = Path(voiceflow_worker.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def said() -> list[str]:
    """Every command in backquotes, in every message and docstring of the package."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        # A message that goes on in the next line is one string to Python.
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        found.update(match[1] for match in re.finditer(r"`(voiceflow [^`]*)`", text))
    return sorted(found)


def test_a_command_that_a_message_names_exists_with_its_options() -> None:
    everything = program()
    for command in said():
        words, app = command.split()[1:], everything
        while (
            words and words[0][0] != "-" and (words[0] in list(app) or app is everything or app.default_command is None)
        ):
            if (name := words.pop(0)).startswith("{"):  # filled in when it is told
                break
            assert name in list(app), f"`{command}`: there is no {name}"
            app = app[name]
        else:
            groups = app.default_command is None  # it is named as such
            known: set[str] = (
                set() if groups else {name for each in app.assemble_argument_collection() for name in each.names}
            )
            assert set(OPTION.findall(command)) <= known | {"--help"}, command


def test_a_message_has_the_options_of_the_fields_that_it_tells_to_change() -> None:
    assert with_remedies("Set `country` (such as SG).") == "Set `--country` (such as SG)."


# -- what the logs of a service tell of one call, of a store that is away, and of requests -----------------------------

ROOT = Path(__file__).parents[2]
NUMBER, OF_WEBHOOKS = "+6581234567", "Bearer of-news-of-calls-1"


def logged(told: list[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in list(told) if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


SPELLINGS = (
    "+6581234567", "6581234567", "81234567", "+65 8123 4567", "8123-4567", "(8123) 4567", "0065 8123.4567",
    "%2B6581234567", "\\u002b6581234567", "tel:+65-8123-4567",
    "\uff16\uff15\uff18\uff11\uff12\uff13\uff14\uff15\uff16\uff17",
    "65%208123%204567", "%2865%29%208123-4567", "65+8123+4567", "8123%C2%A04567", "+65  8123  4567", "[65] [8123] 4567",
    "8123\t4567", "8123\u202f4567", "8123\u2011 4567", "8123\xa04567", "8123 \u2013 4567", "6581234567x12",
    "+6581234567Ann", "8123 / 4567", "8123. 4567", "(65) - 8123 4567", "8123\u200b4567", "+65\u202a8123\u202c4567",
    "\ufeff8123\u200e 4567", "8123\r\n4567", "8123\uff0d4567", "8123\u30004567", "8123%2F4567",
    "65%2D8123%E2%80%8B4567",
)  # fmt: skip
AROUND = (
    "{}", "call to {} failed", "https://8x8.example/v1/people/{}?number={}", '{{"destination":"{}"}}', "'\\n{}\\t'",
    "rec_{}.wav", "to={}&from=%20{}", "sip:{}", "8 calls,{};{}",
)  # fmt: skip
HAS_NUMBER = re.compile(r"8\W{0,3}1\W{0,3}2\W{0,3}3\W{0,3}4\W{0,3}5\W{0,3}6\W{0,3}7")


def logged_events() -> list[tuple[str, str, tuple[str, ...]]]:
    """The level, the event and the fields of each call of a logger in the sources."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for path in (ROOT / "voiceflow_worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        attr="info" | "warning" | "error" | "exception" as level, value=ast.Name(id=name)
                    )
                ) if name.lower().strip("_") in {"log", "calls", "access"}:
                    event = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "found"
                    found.append((level, str(event), tuple(each.arg for each in node.keywords if each.arg)))
                case _:
                    pass
    return found


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_of_a_masked_log_has_a_whole_number(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    events = logged_events()
    assert len(events) > 70
    texts = [
        around.replace("{{", "{").replace("}}", "}").replace("{}", number) for number in SPELLINGS for around in AROUND
    ]
    log_to_stderr(form=form, level="info", masked=True)
    log = structlog.get_logger()
    for place, (level, event, fields) in enumerate(events):
        # Each spelling, and each place in a text, stands in an event and in an error.
        said, other = (texts[turn * place % len(texts)] for turn in (29, 67))
        error = ValueError(other)
        values = [said, error, [said], {said: {"of": (said, 1)}}, said.encode(), {"when": error}]
        given: dict[str, Any] = {name: values[(place + at) % len(values)] for at, name in enumerate(fields)}
        given |= {"error": f"{said} is wrong"} if "error" in given else {}
        given.pop("exc_info", None)
        try:
            raise RuntimeError(said) from error
        except RuntimeError:
            getattr(log, level)(f"{event} {said}", **given, exc_info=True)
            logging.getLogger(f"other.{place}").exception("place %s: %s", place, said)
    out = capsys.readouterr().err
    for line in out.splitlines():
        plain = re.sub(r"\\+([nrt]|x(?![0-7])..|ufeff|u20..|u3000)", "", unicodedata.normalize("NFKC", unquote(line)))
        assert not HAS_NUMBER.search(plain), line
    assert out.count("Traceback") >= 2 * len(events)
    if form == "json":
        for line in out.splitlines():
            assert isinstance(json.loads(line), dict), line


def test_a_masked_log_keeps_times_ids_and_small_figures(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(form="json", level="info", masked=True)
    fields = {
        "at": "2026-11-27T23:32:23.123456Z", "day": "27/11/2026", "job": "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T.1",
        "session": "1f2e3d4c-1234-4b5a-9c8d-123456abcdef", "calls": 999_999,
        "seconds": 1.23456789, "why": None, "is": True,
    }  # fmt: skip
    structlog.get_logger().info("8x8 answered", **fields, to=NUMBER, number=int(NUMBER), row={"cell": 81234567.0})
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert {name: line[name] for name in fields} == fields
    assert [line["to"], line["number"], line["row"]] == ["+65******67", "********67", {"cell": "*******7.0"}]


def test_a_log_that_a_program_has_set_up_is_masked_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    was = structlog.get_config()
    program: list[Processor] = [
        structlog.stdlib.add_log_level, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(),
    ]  # fmt: skip
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[structlog.dev.ConsoleRenderer(colors=False)]))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    try:
        structlog.configure(processors=program, cache_logger_on_first_use=True)
        log = structlog.get_logger()
        log.warning("begins")
        mask_logs()
        mask_logs()
        try:
            raise RuntimeError(f"no {NUMBER}")
        except RuntimeError as error:
            log.exception("a task failed", number=NUMBER)
            logging.getLogger("another").exception("a task to %s failed", NUMBER)
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        structlog.configure(**was)
    told = "".join(capsys.readouterr())
    assert told.count("no +65******67") == 4
    assert "81234567" not in told
