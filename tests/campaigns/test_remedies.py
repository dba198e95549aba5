"""Remedies as they are printed: once they are typed, the list is right, or the next fault is another one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.campaigns.reading import file_of, read_all
from voiceflow_worker import CallQueue, Campaign, Store
from voiceflow_worker.campaigns.calls.filters import parts_of
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

SAID: Mapping[str, Any] = {
    "say": "Hello.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b", "country": "SG",
}  # fmt: skip


class Fault(NamedTuple):
    """A list with a fault, what is told of it, and the cell that its remedy asks for; none if it is an option."""

    table: str
    told: str
    cell: tuple[str, str] = ("", "")
    say: str = "Hello."


IN_FULL, MASKED = (
    "write the number in full, in digits",
    ("+65 \u2022\u2022\u2022\u2022 4567", "*******4567", "+65 812# ####"),
)
NUMBER = "destination\n{}\n"
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
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_remedy_that_is_typed_gives_a_list_that_is_right(tmp_path: Path, name: str) -> None:
    table, told, (was, now), say = FAULTS[name]
    path, given = file_of(tmp_path, table), {**SAID, "rows": [], "say": say}
    before = wrong_in(path, given)
    found = [with_remedies(each.message) for each in before]
    assert [each for each in found if told in each], found
    if was:
        path = file_of(tmp_path, table.replace(was, now))
    else:
        option, value = shlex.split(told)
        given |= {option.removeprefix("--").replace("-", "_"): value}
    after = wrong_in(path, given)
    assert not {each.message for each in after} & {each.message for each in before}, after
    assert after == []


def wrong_in(path: Path, given: Mapping[str, Any]) -> Sequence[Finding]:
    """The errors in a list, and the remarks in it that say not to call."""
    reading = read_all(path, Campaign.of(given).options)
    return [each for each in reading.findings if each.is_error or each.told.kind == "remark"]


@pytest.mark.anyio
async def test_a_list_that_was_refused_as_a_whole_says_so_in_words(memory: Store) -> None:
    rows = [{"destination": f"+658123456{at}", "DNC": "x" if at else ""} for at in range(3)]
    campaign = Campaign.of({**SAID, "country": None, "rows": rows, "most": 1})
    with pytest.raises(CampaignFileError) as caught:
        await campaign.start(CallQueue(memory))
    (undecided,) = (each for each in caught.value.findings if each.told.kind == "undecided")
    assert parts_of(undecided.as_json()["remedy"]["leave_out"])[0].column == "DNC"  # type: ignore[index, union-attr]
    assert re.search(r"object at 0x|\w+\(\w+=", str(caught.value)) is None, "no object of ours"
