"""Columns that by their names say whom not to call, or who may be called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources


@cache
def _words() -> Mapping[str, re.Pattern[str]]:
    """Return the patterns of the lists of forbidden.tsv, for names of columns in lower case."""
    text = resources.files("voiceflow_worker.campaigns.lists").joinpath("forbidden.tsv").read_text(encoding="utf-8")
    lists: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _languages, words = line.split("\t")
            lists[name] = "|".join(filter(None, (lists.get(name), words.replace(" ", " ?"))))
    no_call, dead, consent, phone = lists["not called"], lists["dead"], lists["consent"], lists["phone"]
    as_they_are = ("consent alone", "phone", "other subject", "other matter", "other way")
    found = {name: lists[name] for name in as_they_are} | {
        "must not": f"{no_call}|{dead}|{lists['named']}",
        "may": f"{lists['may']}|(?:{consent}).*(?:{phone})|(?:{phone}).*(?:{consent})",
    }
    return {name: re.compile(words) for name, words in found.items()}


_CHECKED = re.compile(r"(?:check|screen|scrub|wash)(?:ed| date| on| at|ed .*)$|date.*(?:check|screen|scrub|wash)")
"""When a register was asked."""
_LONGEST_NAME = 200
"""The characters of the name of a column that are looked at."""


def forbids_calls(column: str) -> bool:
    """Return whether a column by its name says whom not to call, or who may be called."""
    return sense_of(column) is not None


def is_consent(column: str) -> bool:
    """Return whether a column by its name says who may be called, so that an empty cell forbids the call."""
    return sense_of(column) == "may"


@lru_cache(maxsize=1024)
def sense_of(name: str) -> str | None:
    """Return `must_not` for names such as `Do Not Call` and `Deceased`, `may` for `May we call?`, None for others."""
    words, lists = _in_words(name), _words()
    if lists["other way"].search(words) and not lists["phone"].search(words):
        return None
    if lists["must not"].search(words):
        return None if _CHECKED.search(words) or lists["other matter"].search(words) else "must_not"
    if lists["consent alone"].fullmatch(words.strip()) or (
        lists["may"].search(words) and not lists["other subject"].search(words)
    ):
        return "may"
    return None


def _in_words(name: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name[:_LONGEST_NAME]))
    return re.sub(r"[\s_\-'\u2019.?()/:]+", " ", apart).casefold()
