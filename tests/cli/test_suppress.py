from __future__ import annotations

import pytest

from tests.cli.running import Program
from tests.cli.stored import url_of, within
from tests.cli.test_enqueue import written
from tests.support.engine import Engine
from voiceflow_worker import Job
from voiceflow_worker.model.jobs.policy import write_redial_after

SAY = ("--say", "Hello {{name}}", "--source", "+6531234567", "--voice-profile", "en-IE-EmilyNeural")
PEOPLE = "destination,name\n+6587654321,Ana\n+6587654322,Ben\n"


def on_the_list(voiceflow: Program) -> list[object]:
    return [entry["number"] for entry in voiceflow("suppress", "list", "--json", "--limit", "0").lines]


def test_a_number_is_put_on_the_list_and_taken_off(voiceflow: Program) -> None:
    added = voiceflow("suppress", "add", "8765 4321", "--country", "SG", "--note", "asked by mail", "--json")
    assert added.code == 0
    (entry,) = added.lines
    assert set(entry) == {"number", "since", "until", "reason", "job_id"}
    assert (entry["number"], entry["until"], entry["reason"]) == ("+6587654321", None, "asked by mail")
    assert on_the_list(voiceflow) == ["+6587654321"]
    removed = voiceflow("suppress", "remove", "+6587654321", "+6587654322", "--json")
    assert removed.code == 1
    assert removed.lines == [
        {"number": "+6587654321", "removed": True}, {"number": "+6587654322", "removed": False},
    ]  # fmt: skip
    assert on_the_list(voiceflow) == []


def test_a_file_is_imported_all_or_nothing(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone\nAna,8765 4321\nBen,none\n")
    ended = voiceflow("suppress", "import", path, "--country", "SG", "--json")
    assert ended.code == 2
    assert "nothing is imported" in ended.err
    assert ended.document["rejected"] == 1
    assert not list(voiceflow.folder.glob("*.db")), "a file that is refused needs no store"
    again = voiceflow("suppress", "import", path, "--country", "SG", "--skip-bad", "--json")
    assert (again.code, again.document["added"], again.document["known"]) == (0, 1, 0)
    told = voiceflow("suppress", "import", path, "--country", "SG").out
    assert "1 of 2 lines is not a number; nothing is imported. Correct it, or give --skip-bad\n" in told
    assert voiceflow("suppress", "import", path, "--country", "SG", "--skip-bad", "--json").document["known"] == 1
    assert on_the_list(voiceflow) == ["+6587654321"]


def test_of_several_columns_of_numbers_each_can_be_named(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone 1,Phone 2\nAna,+6587654321,\nBen,,+6587654322\n")
    refused = voiceflow("suppress", "import", path)
    assert (refused.code, "--column NAME, once for each" in refused.err) == (2, True)
    assert voiceflow("suppress", "import", path, "--column", "Phone 1", "--column", "Phone 2").code == 0
    assert on_the_list(voiceflow) == ["+6587654321", "+6587654322"]


def test_digits_that_do_not_say_their_country_are_not_put_on_the_list(voiceflow: Program) -> None:
    path = written(voiceflow.folder, "opt-outs.csv", "Name,Phone\nAna,+6587654321\nBen,6322 2222\n")
    for command in (("add", "+6587654321", "6322 2222"), ("import", path)):
        refused = voiceflow("suppress", *command)
        told = refused.out + refused.err
        assert (refused.code, "--country SG" in told, "--country international" in told) == (2, True, True)
    voiceflow("suppress", "add", "6322 2222", "--country", "SG")
    voiceflow("suppress", "add", "6587654321", "--country", "international")
    assert on_the_list(voiceflow) == ["+6563222222", "+6587654321"]


def enqueued(voiceflow: Program, *options: str) -> Job:
    path = written(voiceflow.folder, "march.csv", "destination,name\n+6587654321,Ana\n")
    ended = voiceflow("enqueue", path, *SAY, *options, "--store", url_of(voiceflow.folder))
    assert ended.code == 0, ended.err

    async def only(engine: Engine) -> Job:
        (job,) = await engine.queue.find()
        return job

    return within(voiceflow.folder, only)


def test_a_window_is_kept_with_its_zone(voiceflow: Program) -> None:
    job = enqueued(voiceflow, "--window", "09:00-20:00", "--days", "mon-sat", "--holidays", "sg")
    assert (str(job.window), job.time_zone) == ("09:00-20:00 mon-sat SG", "Asia/Singapore")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--window", "9 to 5"], "is not a calling window"),
        (["--holidays", "XX"], "has no calendar for 'XX'"),
        (["--redial-on", "COMPLETED_UNSUBSCRIBED"], "asked not to be called"),
        (["--redial-max", "2"], "outcomes after which"),
    ],
)
def test_an_option_that_is_wrong_keeps_the_file_out(voiceflow: Program, options: list[str], told: str) -> None:
    path = written(voiceflow.folder, "march.csv", PEOPLE)
    ended = voiceflow("enqueue", path, *SAY, *options)
    assert ended.code == 2
    assert told in ended.err
    assert voiceflow("check", path, *SAY, *options).code == 2


@pytest.mark.parametrize(
    ("settings", "options", "policy"),
    [
        ("", "", None),
        (
            "",
            "--redial-on unreached --redial-max 2 --redial-after 10m",
            (["BUSY", "CANCELED", "NO_ANSWER"], 2, "10m"),
        ),
        ("REDIAL_ON=busy REDIAL_MAX=3 REDIAL_AFTER=1h", "", (["BUSY"], 3, "1h")),
        ("REDIAL_ON=busy REDIAL_MAX=3", "--redial-on failed", (["ERROR", "FAILED"], 3, "30m")),
        ("REDIAL_ON=busy", "--redial-max 0", (["BUSY"], 0, "30m")),
        ("REDIAL_ON=busy,error REDIAL_AFTER=busy=5m,failed=2h", "", (["BUSY", "ERROR"], 1, "busy=5m,error=2h")),
    ],
    ids=["none", "options", "settings", "both", "none by an option", "by outcome"],
)
def test_options_win_and_settings_fill_in(
    voiceflow: Program,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    options: str,
    policy: tuple[list[str], int, str] | None,
) -> None:
    """Which policy of redials a call is enqueued with."""
    for each in settings.split():
        monkeypatch.setenv(*f"VOICEFLOW_{each}".split("=", 1))
    redial = enqueued(voiceflow, *options.split()).redial
    found = redial and (sorted(status.value for status in redial.on), redial.limit, write_redial_after(redial.after))
    assert found == policy
