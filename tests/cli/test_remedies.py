"""Commands that remedies name exist."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import voiceflow_worker
from tests.cli.running import Program
from tests.cli.stored import empty
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.cli.program import program
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Message, Remedy, message_of, names_in, sentences, tell

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


def test_what_to_type_for_a_remedy_is_told_once_behind_a_message_that_needs_it_and_never_by_its_words() -> None:
    for remedy in Remedy:
        typed = f" ({remedy.typed})" if remedy.typed else ""
        assert (
            with_remedies(Message(f"it is wrong. {remedy.sentence}", remedy))
            == f"it is wrong. {remedy.sentence}{typed}"
        )
        assert with_remedies(InvalidInputError(f"or {remedy}").needing(remedy)) == f"or {remedy}{typed}"
        assert with_remedies(f"somebody wrote: {remedy}") == f"somebody wrote: {remedy}"
    both = Message("one or the other", Message("", Remedy.GIVE_VOICE), InvalidInputError().needing(Remedy.GIVE_SOURCE))
    assert with_remedies(both) == "one or the other (--voice-profile; --source)", "of each part"


def test_each_sentence_is_told_somewhere_and_keeps_its_data_on_its_way_through_another_process() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for kind in sentences():
        assert f'"{kind}"' in source, f"nothing tells {kind}"
        values: dict[str, object] = {name: f"<{name}>" for name in names_in(kind) if name not in Remedy.__members__}
        error = CampaignFileError(tell(kind, **values | ({"remedy": Remedy.CALL_AGAIN} if "remedy" in values else {})))
        values.pop("remedy", None)
        made, told = message_of(pickle.loads(pickle.dumps(error))), message_of(error)
        assert (made, made.kind, made.values, made.needs) == (told, kind, values, told.needs)
        assert all(need in made or need.sentence in made for need in made.needs), "words for each remedy"
        assert all(str(value) in made for value in values.values()), made
    assert set(re.findall(r"""\btell\(\s*"(\w+)\"""", source)) <= sentences().keys()
