from __future__ import annotations

import re

import voiceflow_worker
from tests.docs.pages import DOCS, section
from voiceflow_worker import errors

PAGE = DOCS / "python.md"


def test_the_page_names_everything_that_the_front_door_has() -> None:
    text = section(PAGE.read_text(encoding="utf-8"), "All names")
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(dir(voiceflow_worker))


def test_the_page_names_every_error_but_those_of_single_backends() -> None:
    text = section(PAGE.read_text(encoding="utf-8"), "Errors")
    named = set(re.findall(r"\b[A-Z]\w+Error\b", text))
    declared = {
        name: each
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.VoiceflowError)
    }
    assert named <= declared.keys()
    assert all(issubclass(declared[name], errors.StoreError) for name in declared.keys() - named)
