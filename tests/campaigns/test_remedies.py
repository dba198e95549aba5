"""Remedies as they are printed: once they are typed, the list is right, or the next fault is another one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.campaigns.reading import NOW, file_of, read_all
from voiceflow_worker import CallQueue, Campaign, Store
from voiceflow_worker.campaigns.calls.filters import parts_of
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Message, Remedy, message_of

SAID: Mapping[str, Any] = {
    "say": "Hello.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b", "country": "SG",
}  # fmt: skip


class Fault(NamedTuple):
    """A list with a fault, what is told of it, and the cell that its remedy asks for; none if it is an option.

    `given` are fields that the campaign has otherwise. What is printed with a name to put in is `typed` with it.
    """

    table: str
    told: str
    cell: tuple[str, str] = ("", "")
    say: str | None = "Hello."
    given: Mapping[str, Any] = {}
    typed: str = ""
    then: str = ""
    """What is told of the list as it is then, if that is not right yet."""


IN_FULL, MASKED = (
    "write the number in full, in digits",
    ("+65 \u2022\u2022\u2022\u2022 4567", "*******4567", "+65 812# ####"),
)
NUMBER = "destination\n{}\n"
LONE, VISITS = NUMBER.format("81234567"), "destination,Visit\n81234567,2020-03-20 10:00\n81234568,2031-03-20 10:00\n"
FAULTS: Mapping[str, Fault] = {
    **{f"masked: {each}": Fault(NUMBER.format(each), IN_FULL, (each, "+6581234567")) for each in MASKED},
    "two times": Fault(
        "destination,when\n81234567,10:30 - 11:00\n", "has several times; write the one that is meant, such as 10:30",
        ("10:30 - 11:00", "10:30"), "At {{when|time}}.",
    ),
    "a zone in words": Fault(
        "destination,when\n81234567,2030-01-31 10:30 CST\n", "write its zone as an offset, such as +08:00",
        ("10:30 CST", "10:30+08:00"), "At {{when|time}}.",
    ),
    "a weekday of another day": Fault(
        "destination,day\n81234567,Fri 31 Jan 2030\n",
        "has another weekday than that day, which is a Thursday: correct the one that is wrong", ("Fri", "Thu"),
        "On {{day|date}}.",
    ),
    "whom not to call": Fault("destination,Do not call!\n81234567,\n81234568,x\n", "--leave-out 'Do not call!=x'"),
    "an opt-out date": Fault(
        "destination,Opt-out date\n81234567,\n81234568,2026-03-12\n81234569,2026-05-14\n",
        "--leave-out 'Opt-out date!='",
    ),
    "a name with a remark": Fault("destination,name\n81234567,Ana\n81234568,Bo (do not call)\n", "--leave-out-rows 3"),
    "an end in another spelling": Fault("destination,Valid Until\n81234567,\n", "--columns 'valid_until=Valid Until'"),
    "a country beside": Fault("destination,Country\n81234567,US\n", "--columns ignore=Country"),
    "another name of the numbers": Fault("Ref,Mobile\n1,81234567\n", "--columns destination=Mobile"),
    "a name that says nothing": Fault("Ref,Who to ring\n1,81234567\n", "--columns 'destination=Who to ring'"),
    "titles": Fault("The list of March\ndestination,name\n81234567,Ana\n", "--header-row 2"),
    "a country that is not said": Fault(LONE, "--country SG", given={"country": None}),
    "the country of each row": Fault(
        "destination,Land\n81234567,SG\n", "--columns country=NAME",
        given={"country": None}, typed="--columns country=Land"
    ),
    "digits that begin with their country": Fault(
        NUMBER.format("6581234567"), "--country international", given={"country": None}
    ),
    "no text": Fault(LONE, "--say TEXT", say=None, typed="--say Hello."),
    "no source": Fault(LONE, "--source", given={"source": None}, typed="--source +6531234567"),
    "no voice": Fault(
        LONE, "--voice-profile", given={"voice_profile": None}, typed="--voice-profile en-IE-EmilyNeural"
    ),
    "the order of dates": Fault("destination,Day\n81234567,03/04/2030\n", "--date-order dmy", say="On {{Day|date}}."),
    "rows of one person that differ": Fault(
        "id,destination,name\n1,81234567,Ana\n1,81234568,Bo\n2,81234569,Cy\n", "--leave-out-rows 2-3",
        say="Hello {{name}}.", given={"columns": "person=id"},
    ),
    "a time that is over": Fault(VISITS, "--leave-out-rows 2", say="At {{Visit|time}}."),
    "a time that is over, as the end": Fault(VISITS, "--columns valid_until=Visit", say="At {{Visit|time}}.",
        then="is read as valid_until, as columns say: write {{valid_until}} in the text"),
    "a reserved name": Fault("destination,priority\n81234567,Gold\n", "--columns ignore=priority"),
    "a validity that ends before the window": Fault(
        LONE, "--valid-for", given={"window": "09:00-09:30", "valid_for": "1s"}, typed="--valid-for 24h"
    ),
    "redials after nothing": Fault(
        LONE, "--redial-on busy,no_answer", given={"redial_max": 2},
    ),
    "a key of two rows": Fault(
        "unique_key,destination\n7,81234567\n7,81234568\n", "--columns person=NAME", typed="--columns person=unique_key"
    ),
    "a window by states": Fault(
        "destination,State\n+18005550123,FL\n", "--columns region=NAME", typed="--columns region=State",
        given={"window": "US-CA=08:00-20:00,US-TX=08:00-20:00,US=09:00-21:00", "window_time_zone": "America/Chicago"},
    ),
    "a number in several zones": Fault(
        "destination\n+61412345678\n", "--window-time-zone", given={"window": "09:00-18:00"},
        typed="--window-time-zone Australia/Sydney",
    ),
    "a time of a person whose clock is not known": Fault(
        "destination,at\n+61412345678,2031-03-20T10:00:00Z\n", "--time-zone", say="At {{at|time}}.",
        typed="--time-zone Australia/Sydney",
    ),
    "redials that are not meant": Fault(LONE, "--redial-max 0", given={"redial_max": 2}),
}  # fmt: skip


ELSEWHERE: Mapping[str, Sequence[Remedy]] = {
    "of settings and connections": (
        Remedy.ALLOW_PLAIN_HTTP, Remedy.CHECK_API_KEY, Remedy.CHECK_BASE_URL, Remedy.CHECK_SUB_ACCOUNT, Remedy.RESTORE,
        Remedy.SET_STATE_DIR,
    ),
    "of calls that a store has, and of hours": (
        Remedy.GIVE_HOURS,
        Remedy.CALL_AGAIN, Remedy.CALL_ENDED, Remedy.DECIDE_STAGED, Remedy.FORCE_REDIAL, Remedy.OTHER_BATCH,
        Remedy.REMOVE_MISSING, Remedy.REPLACE, Remedy.UNSUPPRESS,
    ),
    "of workbooks": (Remedy.CALL_STRUCK, Remedy.NAME_SHEET),
    "of menus and bodies": (Remedy.GIVE_TEMPLATE, Remedy.NAME_LANGUAGES),
    "of lists of numbers, of single numbers and of rows without a file": (
        Remedy.NAME_BATCH, Remedy.NAME_COLUMNS, Remedy.NAME_COUNTRY,
    ),
}  # fmt: skip
"""The remedies that none of these lists needs."""


def test_each_remedy_is_of_one_of_these_lists_or_told_elsewhere(tmp_path: Path) -> None:
    told = set[Remedy]()
    for fault in FAULTS.values():
        given: dict[str, Any] = {**SAID, "rows": [], "say": fault.say, **fault.given}
        told |= {need for each in wrong_in(file_of(tmp_path, fault.table), given) for need in each.needs}
    elsewhere = [each for remedies in ELSEWHERE.values() for each in remedies]
    assert sorted([*told, *elsewhere]) == sorted(Remedy)


@pytest.mark.parametrize("name", FAULTS)
def test_a_remedy_that_is_typed_gives_a_list_that_is_right(tmp_path: Path, name: str) -> None:
    table, told, (was, now), say, more, typed, then = FAULTS[name]
    path = file_of(tmp_path, table)
    given: dict[str, Any] = {**SAID, "rows": [], "say": say, **more}
    before = wrong_in(path, given)
    found = [with_remedies(each) for each in before]
    assert [each for each in found if told in each], found
    if was:
        path = file_of(tmp_path, table.replace(was, now))
    else:
        option, value = shlex.split(typed or told)
        given |= {option.removeprefix("--").replace("-", "_"): value}
    after = wrong_in(path, given)
    assert not {*after} & {*before}
    assert [each for each in after if not then or then not in each] == []


def wrong_in(path: Path, given: Mapping[str, Any]) -> Sequence[Message]:
    """What is wrong in a list, and what is told of it with a remedy."""
    try:
        reading = read_all(path, Campaign.of({name: each for name, each in given.items() if each is not None}).options)
    except (CampaignFileError, InvalidInputError) as error:
        return [message_of(error)]
    return [each.told for each in reading.findings if each.is_error or each.told.needs]


@pytest.mark.anyio
async def test_a_check_of_a_file_that_cannot_be_read_keeps_what_to_type(tmp_path: Path) -> None:
    path = file_of(tmp_path, FAULTS["another name of the numbers"].table)
    report = await check_file(path, Campaign.of({**SAID, "rows": []}).options, now=NOW)
    (found,) = report.findings
    assert with_remedies(found.told).endswith("columns found: Ref, Mobile (--columns destination=Mobile)")


@pytest.mark.anyio
async def test_a_list_that_was_refused_as_a_whole_says_so_in_words(memory: Store) -> None:
    rows = [{"destination": f"+658123456{at}", "DNC": "x" if at else ""} for at in range(3)]
    campaign = Campaign.of({**SAID, "country": None, "rows": rows, "most": 1})
    with pytest.raises(CampaignFileError) as caught:
        await campaign.start(CallQueue(memory))
    (undecided,) = (each for each in caught.value.findings if each.told.kind == "undecided")
    assert parts_of(undecided.as_json()["remedy"]["leave_out"])[0].column == "DNC"  # type: ignore[index, union-attr]
    assert re.search(r"object at 0x|\w+\(\w+=", str(caught.value)) is None, "no object of ours"
