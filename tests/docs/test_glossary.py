"""The glossary is in order, and every home that it names exists."""

from __future__ import annotations

from itertools import pairwise

from tests.docs.class_table import in_order
from tests.docs.pages import DOCS, ROOT, table_rows

TEXT = (DOCS / "glossary.md").read_text(encoding="utf-8")
TERMS = table_rows(TEXT, under="term")
CLASSES = table_rows(TEXT, under="class")


def test_every_term_has_one_line_and_one_home() -> None:
    assert all(len(row) == 3 and all(row) for row in TERMS)


def test_every_home_exists() -> None:
    homes = {row[-1].strip("`") for row in TERMS + CLASSES}
    missing = {home for home in homes if not any((base / home).exists() for base in (ROOT, ROOT / "voiceflow_worker"))}
    assert not missing


def test_the_terms_are_in_alphabetical_order() -> None:
    terms = [row[0].replace("`", "").casefold() for row in TERMS]
    late = [(before, term) for before, term in pairwise(terms) if before >= term]
    assert not late, "each of these pairs is out of order"


def test_every_public_class_is_in_the_table() -> None:
    listed = [(row[0].strip("`"), row[-1].strip("`")) for row in CLASSES]
    assert listed == [(name, home) for name, _, home in in_order()], "the table is stale: ./dev picture"
