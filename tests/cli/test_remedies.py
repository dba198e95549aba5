"""Commands that remedies name exist."""

from __future__ import annotations

import re
from pathlib import Path

import voiceflow_worker
from tests.cli.running import Program
from tests.cli.stored import empty
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.cli.program import program
from voiceflow_worker.finding import Remedy

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


def test_what_people_wrote_is_printed_as_they_wrote_it(voiceflow: Program) -> None:
    """It may have the words of a remedy."""
    file, said = "name the batch.csv", "first restore a backup"
    (voiceflow.folder / file).write_text("destination\n6322 2222\n", encoding="utf-8")
    text = ("--say", "Hello", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567")
    assert voiceflow("check", file, *text, "--json").lines[0]["file"] == file
    assert file in voiceflow("check", file, *text).out
    store = ("--store", empty(voiceflow.folder))
    assert voiceflow("hold", "--note", said, "--json", *store).document["reason"] == said
    assert said in voiceflow("status", *store).out


def test_a_command_that_a_message_names_exists_with_its_options() -> None:
    everything = program()
    for command in said():
        words, app = command.split()[1:], everything
        while words and (words[0] in list(app) or app is everything or app.default_command is None):
            if (name := words.pop(0)).startswith("{"):  # filled in when it is told
                break
            assert name in list(app), f"`{command}`: there is no {name}"
            app = app[name]
        else:
            groups = app.default_command is None  # it is named as such
            known = set() if groups else {name for each in app.assemble_argument_collection() for name in each.names}
            assert set(OPTION.findall(command)) <= known | {"--help"}, command


def test_each_remedy_is_known_by_its_words_wherever_they_stand_in_a_message() -> None:
    for remedy in Remedy:
        for words in (remedy, remedy.sentence):
            assert with_remedies(f"it is wrong. {words}, please") == f"it is wrong. {words}, please ({remedy.typed})"
    both = f"{Remedy.GIVE_VOICE}; or {Remedy.GIVE_SOURCE}"
    assert with_remedies(both) == f"{both} (--voice-profile; --source)"
    assert with_remedies("correct the row") == "correct the row"
    assert with_remedies("check the API key (VOICEFLOW_API_KEY)") == "check the API key (VOICEFLOW_API_KEY)"
