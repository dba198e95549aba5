"""The definition of a campaign: what each field means in each form, what is refused, and that it can be started."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.reading import NOW, file_of, filled
from voiceflow_worker import (
    CallQueue,
    CallWindow,
    Campaign,
    InvalidInputError,
    Menu,
    SessionStatus,
    Store,
    load_settings,
)
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.copying import replace as copied
from voiceflow_worker.model.jobs.job import RedialPolicy

pytestmark = pytest.mark.anyio

SAY = {"say": "Hello {{name}}.", "voice_profile": "en-US-JennyNeural", "window": "any", "source": "+6531234567"}
PEOPLE = "destination,name\n+6587654301,Ana\n+6587654302,Ben\n"
ASK = Menu("ask", prompt="Press 1.", voice_profile="en-US-JennyNeural")
ASK.on("1", goto="Thank you.")
IN_SPRING = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return file_of(tmp_path, PEOPLE, "people.csv")


def of(given: Mapping[str, object]) -> Campaign:
    return Campaign.of(given, now=NOW)


def whole(campaign: Campaign) -> tuple[object, ...]:
    """Everything in a campaign. Templates are equal if they say the same."""
    template = campaign.options.template
    said = filled(template, {}) if template is not None else None
    return said, replace(campaign, options=replace(campaign.options, template=None, menu=None))


KINDS: list[tuple[str, str, tuple[object, ...]]] = [
    ("priority", "7", (7, (7.0).__int__(), Decimal(7))), ("priority", "-7", (-7,)),
    ("valid_for", "2h", (timedelta(hours=2), "120m")),
    ("valid_until", "2026-04-01T01:00:00Z", (IN_SPRING, "2026-04-01 09:00+08:00")),
    ("not_before", "2026-04-01T01:00:00Z", (IN_SPRING,)),
    ("window", "09:00-18:00", (["09:00-18:00"], CallWindow.parse("09:00-18:00"))),
    ("days", "mon,wed", (["mon", "wed"], ("wed", "mon"))), ("holidays", "SG,MY", (["SG", "MY"],)),
    ("skip_bad", "yes", (True, "true", "Yes")),
    ("again", "cancelled,expired", (["expired", "cancelled"], "Expired, cancelled")), ("date_order", "dmy", ("DMY",)),
]  # fmt: skip


def test_a_field_means_the_same_in_each_form() -> None:
    for name, typed, others in KINDS:
        expected = whole(of({name: typed}))
        for other in others:
            assert whole(of({name: other})) == expected, other


def refusal_of(given: Mapping[str, object], **more: Any) -> str:
    """Why the fields are refused."""
    with pytest.raises(InvalidInputError) as raised:
        Campaign.of(given, now=NOW, **more)
    return str(raised.value)


def test_local_times_of_a_toml_file_are_those_of_the_time_zone() -> None:
    zone = {"time_zone": "Asia/Singapore"}
    given: object
    for given in ("2026-04-01 09:00", datetime(2026, 4, 1, 9, 0)):  # noqa: DTZ001 (a local time)
        assert of({"not_before": given, **zone}).options.not_before == IN_SPRING
    assert of({"not_before": "tomorrow 09:00", **zone}).options.not_before == datetime(2026, 3, 3, 1, 0, tzinfo=UTC)
    for given in (date(2026, 4, 1), time(9, 0)):
        assert re.search(r"not_before: .* is not a time", refusal_of({"not_before": given, **zone}))


WRONG: dict[str, object] = {
    "priority": "high", "valid_for": 7200, "valid_until": "2020-01-01T00:00:00Z", "not_before": "2026-04-01 09:00",
    "time_zone": "SGT", "window": "9 to 5", "days": ["someday"], "holidays": "XX", "redial_on": "COMPLETED",
    "redial_max": -1, "redial_after": 30,
    "skip_bad": "perhaps", "again": 1, "date_order": "mydate",
    "country": "Atlantis", "source": "somebody", "batch": "a" * 51, "sheet": True, "voice_profile": ["a", "b"],
    "columns": {"a": 1}, "say": ["Hello", "you"], "menu": "  ", "rows": "people", "data": "name",
}  # fmt: skip


def test_columns_are_said_in_one_field_as_a_table_a_text_or_a_list() -> None:
    said = {"destination": ["Mobile", "Phone"], "country": "Land", "name": "Last, first", "ignore": ["A", "B"]}
    for given in (
        said,
        'destination=Mobile,destination=Phone,country=Land,"name=Last, first",ignore=A,ignore=B',
        ["destination=Mobile", "destination=Phone", "country=Land", "name=Last, first", "ignore=A", "ignore=B"],
    ):
        assert Campaign.of({"rows": [], "batch": "b", "columns": given}).options.columns == said, given


def test_columns_that_are_given_replace_those_of_the_file_of_options(tmp_path: Path) -> None:
    file = file_of(tmp_path, '[columns]\ndestination = "Mobile"\ncountry = "Land"\n', "options.toml")
    given: dict[str, object] = {"rows": [], "batch": "b", "campaign": file, "columns": "destination=Phone"}
    assert Campaign.of(given).options.columns == {"destination": "Phone"}
    said = refusal_of({**given, "columns": "country=Land", "country": "SG"})
    assert "country and the column of the countries exclude each other" in said


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('[source]\nSG = "+6531234567"\n"*" = "+12025550123"\n', {"source": "SG=+6531234567,*=+12025550123"}),
        ('redial_on = ["busy"]\n[redial-after]\nbusy = "5m"\n', {"redial_on": "busy", "redial_after": "busy=5m"}),
        ('days = ["mon", "tue"]\nholidays = ["SG", "MY"]\n', {"days": "mon,tue", "holidays": "SG,MY"}),
        ('[columns]\na = "b"\nignore = ["c", "d"]\n', {"columns": "a=b,ignore=c,ignore=d"}),
    ],
)
def test_lists_and_tables_of_a_file_are_read_as_they_are_typed(
    tmp_path: Path, content: str, texts: dict[str, str]
) -> None:
    assert of({"campaign": file_of(tmp_path, content, "options.toml")}) == of(texts)


def test_a_text_is_no_list_and_no_table(tmp_path: Path) -> None:
    for content in ('say = ["Hello", "you"]\n', '[voice_profile]\na = "b"\n'):
        said = "not a text; write it as a text"
        assert said in refusal_of({"campaign": file_of(tmp_path, content, "options.toml")})


def test_what_is_wrong_is_refused_by_the_name_that_the_interface_uses() -> None:
    for name, value in WRONG.items():
        assert refusal_of({name: value}, named=lambda each: f"<{each}>").startswith(f"<{name}>: ")


def test_each_wrong_field_has_a_finding_of_its_own() -> None:
    with pytest.raises(InvalidInputError) as unknown:
        of({**WRONG, "vaild_for": "2h"})
    assert any(each.column == "vaild_for" and "did you mean" in each.message for each in unknown.value.findings)
    assert {each.column for each in unknown.value.findings} >= {"vaild_for", "days", "window"}
    with pytest.raises(InvalidInputError) as refused:
        of({**WRONG, "valid_until": "2h"})
    assert {each.column for each in refused.value.findings} >= WRONG.keys()


SEEN: list[str] = []
CANARY = "canary_of_this_test"


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in {"open", "import", "os.listdir", "os.scandir"} and CANARY in str(arguments[0]):
        SEEN.append(f"{event} {arguments[0]}")


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file and a module that nothing may read. An audit hook of the interpreter tells who tries."""
    if not hasattr(sys, CANARY):
        sys.addaudithook(_note)  # there is no way to remove it
        setattr(sys, CANARY, True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path, "destination\n+6587654321\n", f"{CANARY}.csv")
    file_of(tmp_path, '{"callflow": [{"action": "makeCall"}, {"action": "hangup"}]}', f"{CANARY}.json")
    file_of(tmp_path, "priority = 3\n", f"{CANARY}.toml")
    return file_of(tmp_path, "ask = 1\n", f"{CANARY}.py")


def attacks(canary: Path) -> list[object]:
    texts: list[object] = []
    for kind in ("csv", "json", "toml", "py"):
        name = canary.with_suffix(f".{kind}")
        texts += [str(name), f"../{name.parent.name}/{name.name}", f"file://{name}"]
    texts += [f"{CANARY}:ask", f"{CANARY}.ask:ask", f"{canary}:ask", "os:system", "/dev/stdin", f"{CANARY}\0.csv"]
    return [*texts, [texts[0]], {"path": texts[0]}, {"SG": [texts[0]]}, [{"a": [1]}], 0, 7.5, True, [], {}]


def refusal(read: Callable[[], object]) -> InvalidInputError | None:
    try:
        read()
    except InvalidInputError as error:
        return error
    return None


FIELDS = fields_of(Of.CAMPAIGN)
PATHS = {"campaign", "file", "ivr", "rejects", "template"}


def test_from_another_computer_no_field_reads_a_path_or_imports_a_module(canary: Path) -> None:
    of({"template": str(canary.with_suffix(".json"))})
    assert SEEN.pop().startswith("open"), "the hook sees it when a file may be read"
    for name, value in product(FIELDS, attacks(canary)):
        SEEN.clear()
        given = {name: value, "batch": "march"} if name == "rows" else {name: value}
        refused = refusal(partial(Campaign.of, given, foreign=True, now=NOW))
        assert refused or name not in PATHS, (name, value)
        assert refused is None or name in {found.column for found in refused.findings}, (name, value)
        assert SEEN == [], (name, value)
    assert CANARY not in sys.modules


def test_uploads_and_the_menus_of_the_server_are_used_from_another_computer(tmp_path: Path) -> None:
    people = InputFile(file_of(tmp_path, PEOPLE, "people.csv"), shown="people.csv")
    flow = {"callflow": [{"action": "makeCall"}, {"action": "hangup"}]}
    found = Campaign.of({"file": people, "template": flow}, foreign=True, menus={"ask": ASK}, now=NOW)
    assert (str(found.file), found.batch_id) == ("people.csv", "people")
    assert Campaign.of({"ivr": "ask"}, foreign=True, menus={"ask": ASK}).options.menu is ASK
    assert "is not one of the menus: there are none" in refusal_of({"ivr": "ask"}, foreign=True)


def test_an_empty_text_is_not_taken_for_nothing() -> None:
    for name in sorted(set(FIELDS) - {"rows", "data"}):
        assert "empty" in refusal_of({name: " "})


def test_everything_that_is_wrong_is_told_at_once() -> None:
    said = refusal_of({"priority": "high", "window": "9 to 5", "valid_for": "2h", "valid_until": IN_SPRING})
    for told in ("priority: ", "window: ", "valid_for and valid_until exclude each other"):
        assert told in said
    said = refusal_of({"vaild_for": "2h"})
    assert "vaild_for is not an option of a campaign; did you mean valid_for" in said


@pytest.mark.parametrize(
    "given",
    [
        {"say": "a", "template": {"callflow": [{"action": "makeCall"}]}}, {"ivr": ASK, "menu": "ask"},
        {"valid_for": "2h", "valid_until": IN_SPRING}, {"file": "people.csv", "rows": [], "batch": "march"},
        {"rejects": "bad.csv", "rows": [], "batch": "march"},
    ],
    ids=" and ".join,
)  # fmt: skip
def test_fields_that_exclude_each_other(given: Mapping[str, object]) -> None:
    said = refusal_of(given)
    assert "exclude each other" in said
    assert all(name in said for name in given if name != "batch")


def test_settings_fill_what_is_not_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    voice, busy = "en-IE-EmilyNeural", frozenset({SessionStatus.BUSY})
    settings = load_settings(
        source="+6531111111", voice_profile=voice, rate=3, max_active=8, redial_on="busy", redial_max=4
    )
    filled = Campaign.of({}, settings=settings)
    said = Campaign.of({**SAY, "redial_max": 0}, settings=settings)
    alone = Campaign.of({**SAY, "redial_max": 2}).options.redial
    assert alone == RedialPolicy(
        on=frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), limit=2, after=timedelta(minutes=30)
    )
    redial = RedialPolicy(on=busy, limit=4, after=timedelta(minutes=30))
    for campaign, source, profile, limit in (
        (filled, "+6531111111", voice, 4), (said, SAY["source"], SAY["voice_profile"], 0),
    ):  # fmt: skip
        assert (campaign.options.source, campaign.options.voice_profile) == (source, profile)
        assert (campaign.assumptions.rate, campaign.assumptions.max_active) == (3, 8)
        assert campaign.options.redial == copied(redial, limit=limit)
    assert of({}).options.redial is None
    assert of({"redial_on": "busy"}).options.redial == copied(redial, limit=1)
    national = load_settings(source="3123 4567")
    wrong = "VOICEFLOW_SOURCE: '3123 4567' has no country code"
    assert wrong in refusal_of({}, settings=national)
    for given, source in (({"country": "SG"}, "3123 4567"), ({"source": SAY["source"]}, SAY["source"])):
        assert Campaign.of(given, settings=national).options.source == source


def test_a_menu_is_one_of_the_given_ones_or_of_a_module(tmp_path: Path) -> None:
    assert Campaign.of({"ivr": "ask"}, menus={"ask": ASK}).options.menu is ASK
    assert of({"ivr": ASK}).options.template is not None
    assert "ivr: 'other' is not one of the menus: ask" in refusal_of({"ivr": "other"}, menus={"ask": ASK})
    menu = 'ask = Menu("beside", prompt="Hi.", voice_profile="v")\nask.on("1", goto="Bye.")\n'
    file_of(tmp_path, f"from voiceflow_worker import Menu\n{menu}", "menus_beside_a_toml.py")
    options = file_of(tmp_path, 'ivr = "menus_beside_a_toml:ask"\n', "ask.toml")
    # In a process of its own, because a module is loaded once.
    read = "Campaign.of({'campaign': sys.argv[1]})"
    code = f"import sys; from voiceflow_worker import Campaign; print({read}.options.menu.name)"
    ran = subprocess.run([sys.executable, "-c", code, str(options)], capture_output=True, text=True, check=True)
    assert ran.stdout == "beside\n"


def test_a_menu_may_be_written_in_a_file_of_options_or_given_as_data(tmp_path: Path) -> None:
    table = '[menu]\n[[menu.questions]]\nid = "ask"\ntext = "Hello {{name}}, press 1."\nkeys.1.answer = "yes"\n'
    options = file_of(tmp_path, f'voice-profile = "v"\n{table}', "ask.toml")
    data = {"questions": [{"id": "ask", "text": "Hello {{name}}, press 1.", "keys": {"1": {"answer": "yes"}}}]}
    forms = [of(each) for each in ({"campaign": options}, {"ivr": str(options)}, {"menu": data, "voice_profile": "v"})]
    assert len({each.options.menu.name for each in forms if isinstance(each.options.menu, Menu)}) == 1
    assert all(each.options.template is not None for each in forms)
    assert of({"campaign": options, "ivr": ASK}).options.menu is ASK
    said = refusal_of({"campaign": file_of(tmp_path, table.replace("keys.1", "keys.10"), "wrong.toml")})
    assert "wrong.toml: menu: question ask, key 10: is not one key of a phone" in said


def test_given_fields_go_before_a_file_of_options(tmp_path: Path) -> None:
    file_of(tmp_path, '{"callflow": [{"action": "makeCall"}, {"action": "hangup"}]}', "flow.json")
    options = file_of(
        tmp_path,
        '\ufefftemplate = "flow.json"\nfile = "people.csv"\npriority = 3\n'
        'valid-until = 2026-04-01T09:00:00+08:00\nredial_on = ["busy"]\n',
        "kept.toml",
    )
    kept = of({"campaign": options})
    assert (kept.file, kept.options.valid_until, kept.options.priority) == (tmp_path / "people.csv", IN_SPRING, 3)
    said = of({"campaign": options, "say": "Hello.", "valid_for": "2h", "priority": 0, "rows": [], "batch": "march"})
    assert (said.file, said.options.valid_until, said.options.priority) == (None, None, 0)
    assert whole(said)[0] == whole(of({"say": "Hello."}))[0]


def test_a_file_of_options_is_named_with_the_option_that_is_wrong(tmp_path: Path) -> None:
    one_run = "concerns one run, and is not an option of a campaign; remove it here"
    content: Any
    for content, told in [
        ("again = true", f"again {one_run}"), ("skip-bad = true", f"skip-bad {one_run}"),
        ('campaign = "other.toml"', "concerns one run"), ("temlate = 1", "did you mean template?"),
        ("vaild-for = '2h'", "did you mean valid-for?"), ("valid-for = 7200", "valid-for: '7200' is not a duration"),
        ("valid-for = '2h'\nvalid_for = '3h'", "valid_for and valid-for are the same option"),
        ("valid-for = '2h'\nvalid-until = 2026-04-01T01:00:00Z", "exclude each other"),
        ("[say]\ntext = 'Hello.'", "say: "), ("say = true", "say: true is a boolean, not a text"),
        ("say: Hello", "is not TOML"), (b"say = 'caf\xe9'", "is not UTF-8"),
    ]:  # fmt: skip
        said = refusal_of({"campaign": file_of(tmp_path, content, "kept.toml")})
        assert (told in said, "kept.toml" in said) == (True, True), said


async def test_a_preview_needs_no_store(people: Path) -> None:
    report = await of({"file": people, **SAY}).preview()
    assert report.preview is not None
    assert (report.preview.calls, report.preview.rate) == (2, 10)


async def test_rows_are_people_too(queue: CallQueue) -> None:
    rows = [{"destination": "+6587654301", "name": "Ana"}, {"destination": "", "name": "Ben"}]
    given = {"rows": rows, "batch": "march", **SAY, "data": {"source": "crm"}}
    with pytest.raises(
        CampaignFileError, match=r"^nothing was enqueued: 1 row of 2 cannot be called: 2:destination: "
    ) as refused:
        await of(given).start(queue)
    assert [found.row for found in refused.value.findings if found.is_error] == [2]
    assert await queue.find() == []
    assert (await of({**given, "skip_bad": True}).start(queue)).enqueued == 1
    (job,) = await queue.find(batch_id="march")
    assert (job.data or {})["name"] == "Ana"
    with pytest.raises(InvalidInputError, match="batch: rows have no file to name the batch"):
        of({"rows": rows})
    with pytest.raises(InvalidInputError, match="rows: they can be read only once"):
        of({"rows": iter(rows), "batch": "march"})
    with pytest.raises(InvalidInputError, match="no people"):
        await of(SAY).start(queue)
    with pytest.raises(CampaignFileError, match="batch id"):
        assert of({"file": "a" * 60 + ".csv"}).batch_id


async def test_a_queue_is_named_in_one_way(store: Store) -> None:
    assert CallQueue(store, queue="reminders").name == CallQueue(store, "reminders").name == "reminders"


async def test_an_order_says_how_many_calls_will_not_be_sent_in_time(memory: Store) -> None:
    queue, settings = CallQueue(memory), load_settings(source="+6531234567", voice_profile="en-US-JennyNeural")
    people = [{"destination": f"+65{87650000 + 3 * place}"} for place in range(100)]
    given = {"rows": people, "say": "Hello.", "window": "any", "valid_for": "10s", "batch": "may"}
    campaign = Campaign.of(given, settings=settings)
    await queue.set_rate(5)
    preview, report = await campaign.preview(queue), await campaign.start(queue)
    for each in (preview, report):
        (late,) = [found for found in each.findings if found.kind == "late"]
        assert str(late).startswith("50 of 100 new calls will not be sent before their validity ends: at 5 calls/s")
    assert report.enqueued == 100
    await queue.set_rate(10)
    assert not (await campaign.preview(queue)).findings, "none of them is new"
    assert not (
        await Campaign.of({**given, "batch": "june", "again": "elsewhere"}, settings=settings).preview(queue)
    ).findings
