"""Small cases from people's own files, for each way in which a campaign is started: what is heard, or what is told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from voiceflow_worker import Job

ONE, TWO, THREE, FOUR = (f"+658765432{place}" for place in range(1, 5))
US, UTC = "+1212555012", "T00:00:00.000Z"
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
        "is data and does not affect",
    ),
    "rows that are left out": Case(
        f"destination,name,Do Not Call\n{ONE},Ana,TRUE\n{TWO},Ben,FALSE\n", {**HELLO, "leave_out": "Do Not Call=yes"},
        ["Hello Ben."], "so this row is left out",
    ),
    "many rows with one number": Case(
        f"destination,name,unique_key\n{ONE},Ana,1\n{ONE},Ben,2\n{ONE},Cik,3\n", HELLO,
        ["Hello Ana.", "Hello Ben.", "Hello Cik."], f"3 rows call {ONE}. Such",
    ),
    "the footer of an export": Case(
        f"destination,name\n{ONE},Ana\nTotal: 1,\n", HELLO, told="looks like the footer",
    ),
    "a column of days, as midnight in UTC": Case(
        f"destination,day\n{US}1,2030-04-03{UTC}\n{US}2,2030-04-04{UTC}\n{US}3,2030-04-05{UTC}\n",
        {"say": "On {{day|date(language='en')}}, or {{day}}."},
        [f"On April {day}, 2030, or 2030-04-0{day}." for day in (3, 4, 5)], "so it is a column of days",
    ),
    "a day in UTC, or an evening": Case(
        f"destination,day\n{US}1,2030-04-03{UTC}\n{US}2,2030-04-04{UTC}\n", {"say": "On {{day|date}}."},
        told="may be the day 2030-04-03 of a program, or the time 2030-04-02 20:00",
    ),
    "a time of day with a day of 1899": Case(
        f"destination,at\n{ONE},1899-12-30T10:30:00.000Z\n", {"say": "At {{at|time(language='en')}}."},
        ["At 10:30 AM."],
    ),
    "a time of 1899 by a program's clock": Case(
        f"destination,at\n{ONE},1899-12-30T05:30:00-05:00\n", {"say": "At {{at|time}}."},
        told="so it is a time of day, by the clock of a program",
    ),
    "seconds of a day": Case(
        f"destination,at\n{ONE},37800\n", {"say": "At {{at|time}}."}, told="'37800' is not a time of day",
    ),
    "a name of HL7": Case(
        f"destination,name\n{ONE},TAN^ANA^LI\n", HELLO, ["Hello TAN^ANA^LI."], "the sign that HL7 has",
    ),
    "a visit that is over": Case(
        f"destination,visit\n{ONE},2020-03-01 10:30\n{TWO},2020-03-01 11:30\n",
        {"say": "At {{visit|time(language='en')}}."},
        ["At 10:30 AM.", "At 11:30 AM."], "is over before the call can ring in 2 rows",
    ),
    "a holiday of a part of a country": Case(
        "destination,name\n+441212345678,Ana\n",
        {**HELLO, "window": "09:00-20:00", "holidays": "GB", "not_before": "2030-04-18T09:00:00Z", "valid_for": "8d"},
        ["Hello Ana."], "a holiday of some of its parts alone",
    ),
    "a number of no length, and one of a new range": Case(
        f"destination,name\n+266696687,Ana\n{ONE},Ben\n", HELLO, told="the numbering plan of LS",
    ),
    "a number of a new range": Case(
        "destination,name\n+6599000001,Ana\n", HELLO, ["Hello Ana."], "does not have: new, or a slip",
    ),
    "the labels of numbers": Case(
        f"name,Phone 1 - Label,Phone 1 - Value\nAna,Work Fax,{ONE}\nBen,Mobile,{TWO}\nCik,Mobile,{THREE}\n",
        {**HELLO, "columns": "destination=Phone 1 - Value", "leave_out": "Phone 1 - Label=Work Fax"},
        ["Hello Ben.", "Hello Cik."], "Work Fax",
    ),
    "an offset that no clock has": Case(
        f"destination,not_before\n{ONE},2099-01-31T09:00:00+06:55\n", {"say": "Hello."}, told="+06:55",
    ),
    "an hour that is skipped": Case(
        f"destination,not_before\n{US}1,2030-03-10 02:30\n", {"say": "Hello.", "time_zone": "America/New_York"},
        told="02:30",
    ),
    "no rows": Case("destination,name\n", HELLO, told="the list has no rows: nobody is called"),
    "whole lines in quotes": Case(
        f'destination,name\n{ONE},Ana\n"{TWO},Ben"\n', HELLO, told="the whole line stands in quotes", is_of_files=True,
    ),
}  # fmt: skip
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
    "other words, again": (PLAIN, PLAIN, {**OTHER, "again": "yes"}, {"open": 4}, ""),
    "a visit that moved": (AT_9, AT_15, {}, {"open": 1}, "waits for this row with another not_before"),
    "a visit that moved, changed": (AT_9, AT_15, {"replace": "yes"}, {"open": 1}, ""),
    "with keys": (PLAIN, KEYED, {}, {"open": 2}, ""),
    "without keys": (KEYED, PLAIN, {}, {"open": 2}, ""),
    "a visit without its key": (AT_9, AT_9.replace("unique_key;", "").replace("v-77;", ""), {}, {"open": 1}, ""),
    "with keys and other words": (PLAIN, KEYED, OTHER, {"open": 2}, "waits for this row with another text"),
    "with keys, changed": (PLAIN, KEYED, {**OTHER, "replace": "yes"}, {"open": 2}, ""),
    "a cell repaired": (PLAIN.replace("8765 4322", "12"), PLAIN, MENDED, {"open": 2}, ""),
    "off the list": (PLAIN, PLAIN[:-14], {"remove_missing": "yes"}, {"open": 1, "cancelled": 1}, ""),
}
"""Two lists of one batch, what is ordered with the second one, what becomes of all calls, and what is told."""
