"""Statements in files: each has a name and a sentence, is used, and is written once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from voiceflow_worker.backends import sqlite, store_url
from voiceflow_worker.backends.sqlite.connection import SQL
from voiceflow_worker.backends.store_url import statements

FOLDER = Path(sqlite.__file__).parent
FILES = sorted(each.name for each in FOLDER.glob("*.sql") if each.name != "schema.sql")


def used_in(text: str) -> Iterator[str]:
    """The names of the statements that a module uses."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "SQL":
            names = [each.value for each in ast.walk(node.slice) if isinstance(each, ast.Constant) and each.value]
            assert names, f"its name cannot be read: {ast.unparse(node)}"
            yield from map(str, names)


def test_every_statement_is_used_and_what_is_used_is_there() -> None:
    used = {name for each in FOLDER.glob("*.py") for name in used_in(each.read_text("utf-8"))}
    assert used == set(SQL) == set(statements(sqlite.__name__, *FILES))


@pytest.mark.parametrize("file", FILES)
def test_over_every_statement_stands_a_sentence(file: str) -> None:
    text = (FOLDER / file).read_text("utf-8")
    found = re.findall(r"^-- name: \w+\n-- [A-Z][^\n]*(?:\n-- [^\n]*)*\n(?=[A-Z])(?:.+\n)*.+;$", text, re.MULTILINE)
    assert len(found) == len(statements(sqlite.__name__, file)) > 0
    assert all(re.search(r"\.\n(?!--)", each) for each in found), "the sentence ends"


def test_a_statement_comes_without_comments_and_semicolon(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "a.sql": "-- A file.\n\n-- name: one\n-- The first.\nSELECT 1\n-- (or 2)\nLIMIT 1;\n\n\n-- A part.\n\n"
        "-- name: two\n-- Of two\n-- lines.\nSELECT 2;\n",
        "b.sql": "-- name: two\n-- Again.\nSELECT 3;\n",
    }
    monkeypatch.setattr(store_url, "sql_file", lambda _, name: texts[name])
    assert statements("here", "a.sql") == {"one": "SELECT 1\nLIMIT 1", "two": "SELECT 2"}
    with pytest.raises(ValueError, match=r"b\.sql has a second statement with the name two"):
        statements("here", "a.sql", "b.sql")
