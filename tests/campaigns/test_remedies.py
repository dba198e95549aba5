"""Remedies as they are printed: once they are typed, the list is right, or the next fault is another one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.blocks import NONE, Case, cases_of
from tests.campaigns.reading import NOW, file_of, read_all
from voiceflow_worker import CallQueue, Campaign, Store
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.cli.output import with_remedies
from voiceflow_worker.errors import CampaignFileError, InvalidInputError

SAID: Mapping[str, Any] = {
    "say": "Hello.", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", "batch": "b", "country": "SG",
    "window": "any",
}  # fmt: skip


FAULTS: Mapping[str, Case] = {each.name: each for each in cases_of(Path(__file__).parent / "faults.txt")}


def table_of(fault: Case) -> str:
    return "\n".join([*fault.lines, ""])


def fields_of(fault: Case) -> dict[str, Any]:
    """The fields that the campaign has at first."""
    return {name: each for name, each in fault.fields.items() if name not in {"told", "cell", "typed", "then"}}


@pytest.mark.parametrize("name", FAULTS)
def test_a_remedy_that_is_typed_gives_a_list_that_is_right(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    table, given, told = table_of(fault), fields_of(fault), fault.fields["told"]
    path = file_of(tmp_path, table)
    before = wrong_in(path, given)
    found = [with_remedies(each) for each in before]
    assert [each for each in found if told in each], found
    if "cell" in fault.fields:
        path = file_of(tmp_path, table.replace(*fault.fields["cell"].split(" → ")))
    else:
        option, value = shlex.split(fault.fields.get("typed", told))
        given |= {option.removeprefix("--").replace("-", "_"): value}
    after = wrong_in(path, given)
    assert not {*after} & {*before}
    assert [each for each in after if "then" not in fault.fields or fault.fields["then"] not in each] == []


def wrong_in(path: Path, given: Mapping[str, Any]) -> Sequence[str]:
    """What is wrong in a list, and what is told of it with a remedy."""
    try:
        reading = read_all(path, Campaign.of({name: each for name, each in given.items() if each != NONE}).options)
    except (CampaignFileError, InvalidInputError) as error:
        return [str(error)]
    return [each.message for each in reading.findings if each.is_error or each.fields]


@pytest.mark.anyio
async def test_a_check_of_a_file_that_cannot_be_read_keeps_what_to_type(tmp_path: Path) -> None:
    path = file_of(tmp_path, table_of(FAULTS["another name of the numbers"]))
    report = await check_file(path, Campaign.of({**SAID, "rows": []}).options, now=NOW)
    (found,) = report.findings
    assert "(`--columns destination=Mobile`)" in with_remedies(found.message)


@pytest.mark.anyio
async def test_a_list_that_was_refused_as_a_whole_says_so_in_words(memory: Store) -> None:
    rows = [{"destination": f"+658123456{at}", "DNC": "x" if at else ""} for at in range(3)]
    campaign = Campaign.of({**SAID, "rows": rows, "most": 1})
    with pytest.raises(CampaignFileError) as caught:
        await campaign.start(CallQueue(memory))
    (undecided,) = (each for each in caught.value.findings if each.kind == "undecided")
    assert undecided.fields == ("leave_out", "columns")
    assert re.search(r"object at 0x|\w+\(\w+=", str(caught.value)) is None, "no object of ours"
