"""Pages, messages, docstrings and names use the field's terms: a private word for a thing does not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import DOCS, ROOT

INSTEAD = {
    r"doors?": "HTTP API", r"pages for people": "web console", r"ladders?|climb(s|ing)?": "escalation, step",
    r"set-backs?|store (that )?(was|is|were) set back": "rolled back, rollback", r"witness(ed)?": "local journal",
    r"(un)?vetted|withheld": "verified", r"departures?|departs?": "send slot", r"heed(s|ed)?": "follow, apply",
    r"deeds?|happenings?": "action", r"parked summar(y|ies)": "early summary",
    r"laborator(y|ies)|sabotage": "fault-injection tests, seeded defect", r"patience": "timeout",
    r"under way": "in progress", r"steers no": "does not affect",
    r"is asked for with this key|asked for with this key before": "already created with this key",
    r"no store is asked": "the store is not read", r"that are typed go before": "override",
    r"(was|is|are|were|and|not) given again": "imported again, carried out again",
    r"(stays?|is|are) staged|staged calls?": "held until the import ends",
}  # fmt: skip
"""Private words, as patterns, and the field's terms for the same."""
NOWHERE = {
    "told": "reported, logged; message",
    "tells": "says, reports",
    "stands": "is, is stored, applies",
    "whoever": "who, the one that",
    "anew": "again",
    "in vain": "without success",
}
"""Words that are in no page, and nowhere in a package: neither in docstrings and comments nor in names and messages."""
_NOWHERE = re.compile(rf"(?<![A-Za-z])({'|'.join(NOWHERE)})(?![A-Za-z])", re.IGNORECASE)
_PRIVATE = re.compile("|".join(rf"\b(?:{words})\b" for words in INSTEAD), re.IGNORECASE)
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]
TEMPLATES = [path for path in (ROOT / "voiceflow_worker").rglob("*") if path.suffix in {".html", ".js", ".sql", ".lua"}]
SOURCES = [path for package in ("voiceflow_worker", "airflow_provider") for path in (ROOT / package).rglob("*.py")]


def test_a_page_has_no_private_word() -> None:
    for page in PAGES:
        assert not list(private_in(page.read_text(encoding="utf-8"))), page


def test_a_page_and_a_package_have_none_of_the_words_of_nowhere() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[1]!r}: write {NOWHERE[match[1].lower()]!r}"
        for path in (*PAGES, *SOURCES, *TEMPLATES)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in _NOWHERE.finditer(line)
    ]
    assert not found, "\n".join(found)


def test_no_message_has_a_private_word() -> None:
    """Help and messages: texts of the source with a blank in them. Docstrings of commands are their help."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in SOURCES
        if _PRIVATE.search(path.read_text(encoding="utf-8"))
        for line, text in texts(path)
        for word in private_in(text)
    ]
    assert not found, "\n".join(found)


def test_the_list_finds_what_it_is_for() -> None:
    assert list(private_in("Doubts at the HTTP door.")) == ["'door': write 'HTTP API'"]
    assert _NOWHERE.findall("def told_before(): Whoever stands in vain") == ["told", "Whoever", "stands", "in vain"]
    assert not list(private_in("The clock was set back. Sandboxes answer indoors; foretold."))


def private_in(text: str) -> Iterator[str]:
    """The private words in a text, each with what to write instead."""
    for match in _PRIVATE.finditer(text):
        instead = next(term for words, term in INSTEAD.items() if re.fullmatch(words, match[0], re.IGNORECASE))
        yield f"{match[0]!r}: write {instead!r}"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts that people may read, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    is_command = path.parent.name == "cli"
    comments = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not is_command
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in comments:
            continue
        if isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
