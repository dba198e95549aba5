"""What says whom not to call: columns by their names, in both senses, and the remarks beside people's names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources

from voiceflow_worker.ivr.meanings import meaning_of, stands_for_nothing
from voiceflow_worker.model.flows.values import is_missing, is_object


@cache
def _words() -> Mapping[str, re.Pattern[str]]:
    """What the lists of no_call.tsv find in names of columns and in cells, in lower case."""
    text = resources.files("voiceflow_worker.campaigns.files").joinpath("no_call.tsv").read_text(encoding="utf-8")
    lists: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _languages, words = line.split("\t")
            lists[name] = "|".join(filter(None, (lists.get(name), words.replace(" ", " ?"))))
    no_call, dead, consent, phone = lists["not called"], lists["dead"], lists["consent"], lists["phone"]
    as_they_are = ("consent alone", "phone", "other subject", "other matter", "other way", "remark", "refused")
    found = {name: lists[name] for name in as_they_are} | {
        "must not": f"{no_call}|{dead}|{lists['named']}",
        "may": f"{lists['may']}|(?:{consent}).*(?:{phone})|(?:{phone}).*(?:{consent})",
        # half as long as without (?=
        "in name": rf"\b(?=[^\W\d])(?:{no_call}|{dead}|opt(?:ed)? ?out\b|gesperrt|dnc\b)|"
        r"[(\[](?:dnd|c?tps)[)\]]|[\u2020\u271d]",
        "in remark": rf"\b(?:{no_call}|dnc)\w*\s*(?:$|[.!;,)\]/|])|^\W*(?:{dead}|[\u2020\u271d])\W*$",
    }
    return {name: re.compile(words) for name, words in found.items()}


_CHECKED = re.compile(r"(?:check|screen|scrub|wash)(?:ed| date| on| at|ed .*)$|date.*(?:check|screen|scrub|wash)")
"""When a register was asked."""
_CLEARED = re.compile(r"(?:all )?(?:clear(?:ed)?|clean|ok(?:ay)?|pass(?:ed)?|allowed|callable|permitted|alive|living)")
_NEGATED = re.compile(r"(?:no|not|non|none|nicht|never|nunca|jamais|niet|ej|inte|ikke|nie|не)\b")
_NOT_LISTED = re.compile(r"not? (?:on|in|listed|registered|found|match)")


LONGEST_REMARK = 200
"""The characters of a remark, or of the name of a column, that are looked at."""


def forbids_calls(column: str) -> bool:
    """Whether a column says by its name whom not to call."""
    return sense_of(column) in FORBIDS


def told_not_to_call(name: str, cell: object) -> str | None:
    """By what a cell of a column says that its person is not to be called, if it does."""
    sense = sense_of(name)
    if sense is None or cell is None or cell == "" or is_object(cell):  # its parts say it
        return None
    text = str(cell)
    words = text.casefold()
    if sense == "remark":
        return sense if _words()["in remark"].search(words, 0, LONGEST_REMARK) else None
    meant = meaning_of(cell)
    if sense == "may" and meant == 0:
        return sense
    if not meant or is_missing(cell) or stands_for_nothing(text):
        return None
    is_told = _words()["must not"].search(_in_words(text)) is not None
    is_no = meaning_of(words.split()[0].strip(",;:-")) is False
    if sense == "may":
        return sense if is_told or is_no or _words()["refused"].match(words) else None
    if _CLEARED.fullmatch(words.strip(" .!")) or _NOT_LISTED.match(words):
        return None
    return None if (is_no or _NEGATED.match(words)) and not _words()["phone"].search(words) else sense


def told_beside(name: object) -> str | None:
    """Whether the name of a person has a remark that says not to call."""
    return "remark" if _words()["in name"].search(str(name).casefold(), 0, LONGEST_REMARK) else None


@lru_cache(maxsize=1024)
def sense_of(name: str) -> str | None:
    """What a column is by its name, such as `Do Not Call`, `Deceased`, `May we call?` or `Remarks`; None for others."""
    words, lists = _in_words(name), _words()
    if lists["other way"].search(words) and not lists["phone"].search(words):
        return None
    if lists["must not"].search(words):
        return None if _CHECKED.search(words) or lists["other matter"].search(words) else "must_not"
    if lists["consent alone"].fullmatch(words.strip()) or (
        lists["may"].search(words) and not lists["other subject"].search(words)
    ):
        return "may"
    return "remark" if lists["remark"].search(words) else None


FORBIDS = frozenset({"must_not", "may"})
"""The senses in which a column says whom not to call, in each of its cells."""


def with_parts(row: Mapping[str, object]) -> Mapping[str, object]:
    """A row of JSON, in which what an object says of whom not to call is a column too: `contact.do_not_call`."""
    found, left = dict[str, object](), [(name, value) for name, value in row.items() if is_object(value)]
    while left:
        path, of = left.pop()
        for name, value in of.items():
            if is_object(value):
                left.append((f"{path}.{name}", value))
            elif sense_of(f"{path}.{name}") in FORBIDS:
                found[f"{path}.{name}"] = value
    return {**found, **row} if found else row


def _in_words(name: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name[:LONGEST_REMARK]))
    return re.sub(r"[\s_\-'\u2019.?()/:]+", " ", apart).casefold()
