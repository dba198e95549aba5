"""Small cases from people's own files, for each way in which a campaign is started: what is heard, or what is told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from voiceflow_worker import Job

ONE, TWO, THREE, FOUR = (f"+658765432{place}" for place in range(1, 5))
HELLO = {"say": "Hello {{name}}."}


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


FIELD_CASES: Mapping[str, Case] = {
    "a yes and a no": Case(
        f"destination,paid\n{ONE},TRUE\n{TWO},nein\n{THREE},FALSE\n{FOUR},0\n",
        {"say": "{% if paid %}Thanks.{% else %}Please pay.{% endif %}"},
        ["Please pay.", "Please pay.", "Please pay.", "Thanks."],
    ),
    "a placeholder of another program": Case(
        f"destination,First Name\n{ONE},Ana\n", {"say": "Hello [First Name]."},
        told="write {{ first_name }} for the value",
    ),
    "a placeholder that may be one": Case(
        f"destination,name\n{ONE},Ana\n", {"say": "Hello {{name}}, %company%."}, ["Hello Ana, %company%."],
        "in the text as %company%",
    ),
    "words for nothing": Case(
        f"destination,name\n{ONE},N/A\n{TWO},Ana\n{THREE},-\n{FOUR},False\n", {"say": "Hello {{name or 'there'}}."},
        ["Hello Ana.", "Hello there.", "Hello there.", "Hello there."],
    ),
    "a name that is reserved by chance": Case(
        f"destination,name,Source\n{ONE},Ana,Facebook\n", HELLO, ["Hello Ana."], "ignore the column",
    ),
    "a column that is ignored": Case(
        f"destination,name,Source\n{ONE},Ana,Facebook\n", {**HELLO, "columns": "ignore=source"}, ["Hello Ana."],
    ),
    "another batch than the given one": Case(
        f"destination,name,Batch ID\n{ONE},Ana,EW0150\n", {**HELLO, "batch": "recall"}, ["Hello Ana."],
        "is kept as data and does not affect",
    ),
    "rows that are left out": Case(
        f"destination,name,Do Not Call\n{ONE},Ana,TRUE\n{TWO},Ben,FALSE\n", {**HELLO, "leave_out": "Do Not Call=yes"},
        ["Hello Ben."], "so this row is left out",
    ),
    "many rows with one number": Case(
        f"destination,name,unique_key\n{ONE},Ana,1\n{ONE},Ben,2\n{ONE},Cik,3\n", HELLO,
        ["Hello Ana.", "Hello Ben.", "Hello Cik."], f"3 rows call {ONE}, with 3 names, such as Ben, Cik",
    ),
    "the footer of an export": Case(
        f"destination,name\n{ONE},Ana\nTotal: 1,\n", HELLO, told="looks like the footer",
    ),
    "whole lines in quotes": Case(
        f'destination,name\n{ONE},Ana\n"{TWO},Ben"\n', HELLO, told="the whole line stands in quotes", is_of_files=True,
    ),
}  # fmt: skip
"""The cases by what they are about."""


def texts_of(jobs: Iterable[Job]) -> list[str]:
    """The texts that calls speak."""
    return sorted(json.loads(job.body)["callflow"][1]["params"]["text"] for job in jobs)
