"""Small cases from people's own files, for each way in which a campaign is started: what is heard, or what is told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.campaigns import blocks
from voiceflow_worker import Job


class Case(NamedTuple):
    """A file of people, the fields of a campaign, the texts that are heard, and words of what is told.

    Nobody is called if nothing is `heard`.
    """

    table: str
    fields: Mapping[str, str]
    heard: Sequence[str] = ()
    told: str = ""
    is_of_files: bool = False
    """Whether the case is about the form of a file."""

    @property
    def people(self) -> list[dict[str, str]]:
        """The rows as a program gives them."""
        return [dict(each) for each in csv.DictReader(io.StringIO(self.table))]


def _case_of(block: blocks.Case) -> Case:
    fields = {name: str(each) for name, each in block.fields.items() if name not in {"is of files", "told"}}
    heard = [each[2:] for each in block.told]
    table = "\n".join([*block.lines, ""])
    return Case(table, fields, heard, block.fields.get("told", ""), "is of files" in block.fields)


FIELD_CASES: Mapping[str, Case] = {
    each.name: _case_of(each) for each in blocks.cases_of(Path(__file__).with_suffix(".txt"))
}
"""The cases by what they are about."""


def texts_of(jobs: Iterable[Job]) -> list[str]:
    """The texts that calls speak."""
    return sorted(json.loads(job.body)["callflow"][1]["params"]["text"] for job in jobs)


PLAIN, MENDED = "Mobile;name\n8765 4321;Ana\n8765 4322;Ben\n", {"skip_bad": "yes"}
KEYED = "Mobile;name;unique_key\n8765 4321;Ana;v-1\n8765 4322;Ben;v-2\n"
AT_9, AT_15 = (f"Mobile;unique_key;not_before\n8765 4321;v-77;2099-12-05 {hour}:00\n" for hour in (9, 15))
OTHER = {"say": "Good day."}
GIVEN_AGAIN: dict[str, tuple[str, str, Mapping[str, str], Mapping[str, int], str]] = {
    "other words": (PLAIN, PLAIN, OTHER, {"open": 2}, "waits for this row with another text"),
    "other words, changed": (PLAIN, PLAIN, {**OTHER, "replace": "yes"}, {"open": 2}, ""),
    "other words, again": (
        PLAIN,
        PLAIN,
        {**OTHER, "again": "all"},
        {"open": 2},
        "waits for this row with another text",
    ),
    "a visit that moved": (AT_9, AT_15, {}, {"open": 1}, "waits for this row with another not_before"),
    "a visit that moved, changed": (AT_9, AT_15, {"replace": "yes"}, {"open": 1}, ""),
    "with keys": (PLAIN, KEYED, {}, {"open": 2}, "distinguishes rows by their number"),
    "without keys": (KEYED, PLAIN, {}, {"open": 2}, "distinguishes rows by the column unique_key"),
    "a cell repaired": (PLAIN.replace("8765 4322", "12"), PLAIN, MENDED, {"open": 2}, ""),
    "off the list": (PLAIN, PLAIN[:-14], {"remove_missing": "yes"}, {"open": 1, "cancelled": 1}, ""),
}
"""Two lists of one batch, what is ordered with the second one, what becomes of all calls, and what is told."""
