"""What says whom not to call: columns by their names, in both senses, and the remarks beside people's names."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

from voiceflow_worker.ivr.meanings import meaning_of, stands_for_nothing
from voiceflow_worker.model.flows.values import is_missing


class _Words(NamedTuple):
    """What the lists of no_call.tsv find in names of columns and in cells, in lower case."""

    must_not: re.Pattern[str]
    may: re.Pattern[str]
    consent_alone: re.Pattern[str]
    phone: re.Pattern[str]
    other_subject: re.Pattern[str]
    other_matter: re.Pattern[str]
    other_way: re.Pattern[str]
    remark: re.Pattern[str]
    refused: re.Pattern[str]
    in_name: re.Pattern[str]
    in_remark: re.Pattern[str]


@cache
def _words() -> _Words:
    text = resources.files("voiceflow_worker.campaigns.files").joinpath("no_call.tsv").read_text(encoding="utf-8")
    lists: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _languages, words = line.split("\t")
            lists[name] = "|".join(filter(None, (lists.get(name), words.replace(" ", " ?"))))
    no_call, dead, consent, phone = lists["not called"], lists["dead"], lists["consent"], lists["phone"]
    return _Words(
        must_not=re.compile(f"{no_call}|{dead}|{lists['named']}"),
        may=re.compile(f"{lists['may']}|(?:{consent}).*(?:{phone})|(?:{phone}).*(?:{consent})"),
        consent_alone=re.compile(lists["consent alone"]),
        phone=re.compile(phone),
        other_subject=re.compile(lists["other subject"]),
        other_matter=re.compile(lists["other matter"]),
        other_way=re.compile(lists["other way"]),
        remark=re.compile(lists["remark"]),
        refused=re.compile(lists["refused"]),
        in_name=re.compile(
            rf"\b(?=[^\W\d])(?:{no_call}|{dead}|opt(?:ed)? ?out\b|gesperrt|dnc\b)|"  # half as long as without (?=
            r"[(\[](?:dnd|c?tps)[)\]]|[\u2020\u271d]"
        ),
        in_remark=re.compile(rf"\b(?:{no_call}|dnc)\w*\s*(?:$|[.!;,)\]/|])|^\W*(?:{dead}|[\u2020\u271d])\W*$"),
    )


_CHECKED = re.compile(r"(?:check|screen|scrub|wash)(?:ed| date| on| at|ed .*)$|date.*(?:check|screen|scrub|wash)")
"""When a register was asked."""
_CLEARED = re.compile(r"(?:all )?(?:clear(?:ed)?|clean|ok(?:ay)?|pass(?:ed)?|allowed|callable|permitted|alive|living)")
_NEGATED = re.compile(r"(?:no|not|non|none|nicht|never|nunca|jamais|niet|ej|inte|ikke|nie|не)\b")
_NOT_LISTED = re.compile(r"not? (?:on|in|listed|registered|found|match)")


LONGEST_REMARK = 200
"""The characters of a remark, or of the name of a column, that are looked at."""


def told_not_to_call(name: str, cell: object) -> str | None:
    """By what a cell of a column says that its person is not to be called, if it does."""
    sense = sense_of(name)
    if sense is None or cell is None or cell == "":
        return None
    text = str(cell)
    words = text.casefold()
    if sense == "remark":
        return sense if _words().in_remark.search(words, 0, LONGEST_REMARK) else None
    meant = meaning_of(cell)
    if sense == "may" and meant == 0:
        return sense
    if not meant or is_missing(cell) or stands_for_nothing(text):
        return None
    is_told = _words().must_not.search(_in_words(text)) is not None
    is_no = meaning_of(words.split()[0].strip(",;:-")) is False
    if sense == "may":
        return sense if is_told or is_no or _words().refused.match(words) else None
    if _CLEARED.fullmatch(words.strip(" .!")) or _NOT_LISTED.match(words):
        return None
    return None if (is_no or _NEGATED.match(words)) and not _words().phone.search(words) else sense


def told_beside(name: object) -> str | None:
    """Whether the name of a person has a remark that says not to call."""
    return "remark" if _words().in_name.search(str(name).casefold(), 0, LONGEST_REMARK) else None


@lru_cache(maxsize=1024)
def sense_of(name: str) -> str | None:
    """What a column is by its name, such as `Do Not Call`, `Deceased`, `May we call?` or `Remarks`; None for others."""
    words, lists = _in_words(name), _words()
    if lists.other_way.search(words) and not lists.phone.search(words):
        return None
    if lists.must_not.search(words):
        return None if _CHECKED.search(words) or lists.other_matter.search(words) else "must_not"
    if lists.consent_alone.fullmatch(words.strip()) or (
        lists.may.search(words) and not lists.other_subject.search(words)
    ):
        return "may"
    return "remark" if lists.remark.search(words) else None


def _in_words(name: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name[:LONGEST_REMARK]))
    return re.sub(r"[\s_\-'\u2019.?()/:]+", " ", apart).casefold()
