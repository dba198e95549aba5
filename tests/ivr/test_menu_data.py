"""Menus that are written as data: the same menus as in code, what is refused, and calls in them on two receivers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, blocks
from tests.ivr.asking import SECRET, Line, Receiver
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import (
    CallQueue,
    Campaign,
    InvalidInputError,
    Job,
    Menu,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    load_settings,
)
from voiceflow_worker import Receiver as WholeReceiver
from voiceflow_worker.asgi import serving
from voiceflow_worker.campaigns.enqueue_report import RowsRefusedError
from voiceflow_worker.cli.program import run
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.ivr import End, SimulatedCall
from voiceflow_worker.ivr.loading import load_menus
from voiceflow_worker.ivr.menu_data import read_menu
from voiceflow_worker.reporting.report import build_report
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH

pytestmark = pytest.mark.anyio

TOML = """
source = "+6531234567"

[menu]
languages = ["de", "fr"]
voice_profile = { de = "de-DE-KatjaNeural", fr = "fr-FR-DeniseNeural" }
retry_text = { de = "Diese Taste gibt es nicht.", fr = "Cette touche n'existe pas." }
goodbye = { de = "Auf Wiederhören.", fr = "Au revoir." }

[[menu.questions]]
id = "visit"
text = { de = "Guten Tag {{name}}, Ihr Termin ist am {{day|date}}.", fr = "Bonjour {{name}}, venez le {{day|date}}." }

[menu.questions.keys]
1 = { answer = "confirmed", say = { de = "Danke, {{name}}.", fr = "Merci, {{name}}." } }
2 = { next = "move", say = { de = "Gern.", fr = "Volontiers." } }
3 = { answer = "call me back", say = { de = "Bis später.", fr = "À plus tard." } }
9 = { next = "do_not_call_again", say = { de = "Keine Anrufe ab {{day|date}}.", fr = "Plus d'appels." } }

[[menu.questions]]
id = "move"
text = { de = "Vormittags 1, zurück Stern.", fr = "Le matin 1, retour étoile." }

[menu.questions.keys]
1 = { answer = "morning", say = { de = "Danke.", fr = "Merci." } }
"*" = { next = "visit" }
"""
DATA: Mapping[str, Any] = tomllib.loads(TOML)["menu"]
ANA, BEN, CLEO = "+6587654321", "+6587654322", "+6587654323"
ROWS = [
    {"destination": ANA, "name": "Ana", "day": "2030-12-01", "language": "de"},
    {"destination": BEN, "name": "Ben", "day": "2030-12-01", "language": "fr"},
    {"destination": CLEO, "name": "Cléo", "day": "2030-12-01", "language": ""},
]
ASKED = {
    "de": "Guten Tag Ana, Ihr Termin ist am 1. Dezember 2030.",
    "fr": "Bonjour Ben, venez le 1 décembre 2030.",
}  # fmt: skip


def in_code() -> Menu:
    """The same menu, in code."""
    visit, move = (Menu(each["id"], prompt=each["text"]) for each in DATA["questions"])
    visit.voice_profile, visit.retry_text, visit.language = DATA["voice_profile"], DATA["retry_text"], "de"
    visit.fallback, visit.retries = End(DATA["goodbye"]), 2
    visit.on("1", result="confirmed", goto=End({"de": "Danke, {{name}}.", "fr": "Merci, {{name}}."}))
    visit.on("2", goto=move.with_text({"de": "Gern.", "fr": "Volontiers."}))
    visit.on("3", result="call me back", goto=End({"de": "Bis später.", "fr": "À plus tard."}))
    visit.on("9", result="do not call again", goto=End({"de": "Keine Anrufe ab {{day|date}}.", "fr": "Plus d'appels."}))
    move.on("1", result="morning", goto=End({"de": "Danke.", "fr": "Merci."}))
    move.on("*", goto=visit)
    return visit


WAYS = [("1",), ("2", "*", "1"), ("2", "1"), ("3",), ("9",), ("7", "", "4"), ("2", "5", "1"), ("", "", "")]


@pytest.mark.parametrize("row", ROWS[:2], ids=["de", "fr"])
@pytest.mark.parametrize("keys", WAYS, ids="-".join)
async def test_it_is_played_as_the_same_menu_in_code(keys: tuple[str, ...], row: Mapping[str, object]) -> None:
    calls = [SimulatedCall(menu, data=row) for menu in (read_menu(DATA), in_code())]
    heard = [[(await call.begin()).text, *[(await call.press(key)).text for key in keys]] for call in calls]
    assert heard[0] == heard[1]
    assert heard[0][0] == ASKED[str(row["language"])]
    assert calls[0].answer == calls[1].answer


def test_a_file_is_checked_and_played_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("visits.toml").write_text(TOML, encoding="utf-8")
    assert run(["ivr", "check", "visits.toml"]) == 0
    assert "2 menus; 0 errors, 0 warnings" in capfd.readouterr().out
    data = [f"--data={name}={value}" for name, value in ROWS[1].items()]
    assert run(["ivr", "play", "visits.toml", *data, "--keys", "9"]) == 0
    assert "says: Plus d'appels." in capfd.readouterr().out
    Path("visits.toml").write_text(TOML.replace("2 =", "1 =", 1), encoding="utf-8")
    assert run(["ivr", "check", "visits.toml"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "visits.toml is not TOML: Cannot overwrite a value (at line 16, column" in said
    assert "a name may stand only once in its table: remove one, or rename it" in said


def test_the_menus_on_the_page_are_right() -> None:
    whole, translated = (tomllib.loads(file.text)["menu"] for file in blocks(DOCS / "ivr.md", language="toml"))
    menu = read_menu(whole, voice_profile="en-US-JennyNeural")
    assert [choice.result for choice in menu.choices] == ["confirmed", None, "do not call again"]
    assert read_menu(translated).language == "de"


def changed(path: str, value: object) -> dict[str, Any]:
    """The data with another value at this path; None removes it."""
    found = deepcopy(dict(DATA))
    *above, last = path.split(".")
    at: Any = found
    for name in above:
        at = at[int(name) if isinstance(at, list) else name]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return found


GERMAN = {"de": "Hallo."}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("questions.0.keys.10", {"answer": "ten"}, "question visit, key 10: is not one key of a phone; use one of 0-9"),
        ("questions.0.keys", {1: {}, "1": {}}, "question 1, keys: has a key twice: keep one of them"),
        ("questions.0.keys", {}, "question 1, keys: has no key: give a table of keys"),
        (
            "questions.0.keys.1.next",
            "day",
            "question visit, key 1, next: 'day' is none of visit, move, do_not_call_again",
        ),
        ("retry-text", "Pardon?", "retry-text: is unknown; correct its name, or remove it"),
        ("questions.0.keys.1", "confirmed", "question 1, key 1: is no table; give one"),
        ("questions.0.keys.1.answer", 5, "question 1, key 1, answer: is no text; write it in quotes"),
        ("languages", "de", "languages: is no list; write it in [ ]"),
        ("questions.0.keys.1.goto", "move", "question 1, key 1, goto: is unknown; correct its name, or remove it"),
        ("questions.0.keys.1.answer", "/", "question visit, key 1, answer: '/' must have 1 to 50 letters"),
        (
            "questions.0.keys.1.say",
            GERMAN,
            "question visit, key 1, say: has de, but the menu speaks de, fr; give each of them",
        ),
        ("questions.0.keys.1.say", "Hallo.", "question visit, key 1, say: is one text, but the menu speaks de, fr"),
        ("questions.1.text", {**GERMAN, "fr": " "}, "question 2, text: is no text: give a text, or a table"),
        ("questions.1.text", None, "question 2, text: is missing; give it"),
        ("questions.1.text.fr", "Bonjour {{name", "{{"),
        ("questions.1.id", "visit", "question visit: two questions have this id; rename one of them"),
        ("questions.1.id", "Move it", "question Move it: an id has 1 to 20 lower-case letters"),
        ("questions.0.keys.2", None, "question move: no key leads to it; let one, by its next, or remove the question"),
        ("questions", [], "questions: List should have at least 1 item"),
        ("voice_profile", GERMAN, "voice_profile: has de, but the menu speaks de, fr"),
        ("voice_profile", None, "has no voice: set voice_profile"),
        (
            "questions.0.keys.1.answer",
            "cancelled",
            "answer 'cancelled': reports use this word for what became of a call",
        ),
        ("retries", 21, "retries: Input should be less than or equal to 20"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_a_remedy(path: str, value: object, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_menu(changed(path, value))
    assert said in str(refused.value)


def test_all_that_is_wrong_is_reported_at_once_and_the_languages_are_those_of_the_texts() -> None:
    wrong = changed("questions.0.keys", {"10": {}, "1": {"next": "x"}})
    with pytest.raises(InvalidInputError, match=r"key 10: .*; question visit, key 1, next: 'x' is none of"):
        read_menu(wrong)
    assert read_menu(changed("languages", None)).language == "de"
    keys = {1: DATA["questions"][0]["keys"]["1"], 2: {"next": "move"}}
    assert read_menu(changed("questions.0.keys", keys)).find("2") is not None, "a program's keys may be numbers"


# -- calls ------------------------------------------------------------------------------------------------------------


async def start(store: Store, menu: Mapping[str, object] = DATA, *, batch: str = "march", **more: Any) -> Any:
    given = {"rows": ROWS, "menu": menu, "batch": batch, "window": "any", "source": "+6531234567", **more}
    return await Campaign.of(given, now=store.clock.now()).start(CallQueue(store))


async def sent(store: Store, **more: Any) -> dict[str, Job]:
    """The calls of a campaign that began with the menu, by number."""
    await start(store, **more)
    engine = Engine(store, ScriptedVoice())
    for _ in ROWS:
        await engine.send()
    return {job.destination: job for job in await CallQueue(store).find()}


async def test_each_receiver_knows_the_menu_of_a_call_whatever_becomes_of_its_file(
    stores: tuple[Store, Store],
) -> None:
    jobs = await sent(stores[0])
    edited = changed("questions.0.keys.2", {"answer": "confirmed", "next": "move"})
    await start(stores[0], edited, batch="april", rows=[{**ROWS[0], "destination": "+6587654329"}])
    line = Line.of(jobs[ANA])
    assert (await line.press(Receiver.of(stores[0]), "2")).text.startswith("Gern. Vormittags 1")
    # Another process, which has menus of its own with the name of a question.
    other = Menu("move", prompt="Another.", voice_profile="v")
    other.on("1", goto=End("No."))
    assert (await line.press(Receiver.of(stores[1], other), "1")).text == "Danke."
    stored = await CallQueue(stores[1]).get(jobs[ANA].id)
    assert (stored.answer, [press.answer for press in stored.posts[0].presses]) == ("morning", [None, "morning"])
    assert len({job.menu for job in await CallQueue(stores[0]).find()}) == 2, "a menu that was edited is another one"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("x " * 2000, "characters, but at most 3000 are allowed; shorten it (visit 1)"),
        ("Ring\x07", "remove the control character U+0007 at character"),
        ("On two\nlines", None),
    ],
    ids=["long", "a control character", "two lines"],
)
async def test_a_text_after_a_key_that_8x8_would_refuse_is_found_before_the_call(
    store: Store, note: str, said: str | None
) -> None:
    menu = changed("questions.0.keys.1.say", {"de": "{{note}}", "fr": "Merci. {{note}}"})
    rows = [{**each, "note": note} for each in ROWS]
    if said is None:
        assert (await start(store, menu, rows=rows)).enqueued == 3
        return
    with pytest.raises(RowsRefusedError) as raised:
        await start(store, menu, rows=rows)
    found = [(each.column, said in each.message) for each in raised.value.findings if each.is_error]
    assert (await CallQueue(store).find(), found) == ([], [("note", True)] * 3)


async def test_files_whose_questions_have_the_same_names_are_served_together(store: Store, tmp_path: Path) -> None:
    (tmp_path / "visits.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "early.toml").write_text(TOML.replace("Vormittags", "Morgens"), encoding="utf-8")
    visits, early = load_menus(["visits.toml", "early.toml"], folder=tmp_path)
    other = changed("questions.1.text.de", "Morgens 1, zurück Stern.")
    assert read_menu(other).name == early.name
    lines = {
        said: Line.of((await sent(store, menu=menu, batch=said, rows=[{**ROWS[0], "destination": number}]))[number])
        for said, menu, number in (("Vormittags", DATA, ANA), ("Morgens", other, BEN))
    }
    for menus in ((visits, early), (early, visits), (visits, visits)):
        receiver = Receiver.of(store, *menus)
        for said, line in lines.items():
            assert (await line.press(receiver, "2")).text.startswith(f"Gern. {said} 1"), menus
            await line.press(receiver, "*")


async def test_who_presses_the_key_is_called_by_no_later_campaign(store: Store) -> None:
    jobs = await sent(store)
    assert (await Line.of(jobs[BEN]).press(Receiver.of(store), "9")).text == "Plus d'appels."
    entry = (await SuppressionList(store).find(BEN))[BEN]
    assert entry.reason == f"opted out: pressed 9 in the menu {jobs[BEN].menu}"
    report = await start(store, batch="april", again="elsewhere")
    assert (report.suppressed, report.enqueued) == (1, 2)
    assert [finding.row for finding in report.findings if "opted out" in finding.message] == [2]


async def test_all_numbers_of_the_person_are_suppressed_and_no_store_means_no_entry(store: Store) -> None:
    rows = [{**ROWS[0], "home": "+6565551234"}]
    jobs = await sent(store, rows=rows, columns={"destination": ["destination", "home"]})
    heard = await Line.of(jobs[ANA]).press(Receiver.of(store), "9")
    assert heard.text == "Keine Anrufe ab 1. Dezember 2030."
    assert set(await SuppressionList(store).find(ANA, "+6565551234")) == {ANA, "+6565551234"}
    call = SimulatedCall(read_menu(DATA), data=ROWS[0])
    await call.begin()
    assert (await call.press("9")).trouble is None


async def test_nobody_hears_of_an_opt_out_that_was_not_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no list")

    jobs = await sent(store)
    monkeypatch.setattr(SuppressionList, "add", fails)
    assert (await Line.of(jobs[ANA]).press(Receiver.of(store), "9")).text == "Auf Wiederhören."


ONE: Mapping[str, Any] = {
    "voice_profile": "en-US-JennyNeural",
    "goodbye": "Bye.",
    "questions": [
        {"id": "visit", "text": "Will {{name}} come?", "keys": {"1": {"answer": "confirmed", "say": "Fine."}}}
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_text_beside_a_menu_is_spoken_once_before_its_first_question(store: Store) -> None:
    await start(store, ONE, say="Hello {{name}}")
    receiver = WholeReceiver(load_settings(webhook_secret=SECRET), store)
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=SECRET, speed=200)
        for number in (ANA, BEN, CLEO):
            sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.COMPLETED, keys=["7", "1"]))
        async with sandbox.running() as url, VoiceClient("any", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
            heard = {str(entry.destination): list(entry.heard) for entry in sandbox.ledger}
    asked = {number: f"Will {name} come?" for number, name in ((ANA, "Ana"), (BEN, "Ben"), (CLEO, "Cléo"))}
    assert heard == {
        number: [f"Hello {asks.split()[1]}. {asks}", asks, "Fine."] for number, asks in asked.items()
    }  # fmt: skip
    assert {job.answer for job in await CallQueue(store).find()} == {"confirmed"}


async def test_a_text_that_leaves_the_question_out_is_refused(store: Store) -> None:
    flow = [{"action": "makeCall"}, {"action": "say", "params": {"text": "Hi"}}, {"action": "hangup"}]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"menu": DATA, "say": "Hallo"}, "say: is one text, but the menu speaks de, fr"),
        ({"menu": ONE, "template": {"callflow": flow}}, "template asks no question"),
        ({"menu": "visit", "say": "Hi", "voice_profile": "en-US-JennyNeural"}, "say asks no question"),
    ]
    for given, said in cases:
        with pytest.raises(InvalidInputError, match=said):
            await start(store, **given)


async def test_what_the_check_of_the_menu_warns_of_is_in_the_preview(store: Store) -> None:
    silent = {name: each for name, each in ONE.items() if name != "goodbye"}
    for menu, more, warnings in (
        (ONE, [], []),
        (silent, [], ["has no goodbye: after silence, or when a handler fails, the call is hung up without a word"]),
        (ONE, [{**ROWS[0], "language": "ta"}], []),
        (ONE, [{**ROWS[0], "language": each} for each in ("en-GB", "en")], []),
    ):
        rows = more or [{**row, "language": ""} for row in ROWS]
        given = {"rows": rows, "menu": menu, "batch": "b", "window": "any", "source": "+6531234567"}
        report = await Campaign.of(given, now=store.clock.now()).preview()
        found = [each.message for each in report.findings if "alike" not in each.message]
        assert [each.split(": choose")[0] for each in found if "same" not in each] == warnings


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_voice_that_the_account_lacks_is_refused_if_its_list_can_be_had(store: Store) -> None:
    rows = [{"destination": ANA}, {"destination": BEN, "voice_profile": "en-US-JennyNeutral"}]
    given = {
        "rows": rows,
        "batch": "b",
        "window": "any",
        "source": "+6531234567",
        "say": "Hi.",
        "voice_profile": "en-US-JennyNeural",
    }
    async with Sandbox().running() as url:
        known = load_settings(api_key="k", sub_account="demo", base_url=url)
        with pytest.raises(RowsRefusedError) as raised:
            await Campaign.of(given, settings=known, now=store.clock.now()).start(CallQueue(store))
        (found,) = [each for each in raised.value.findings if each.is_error]
        assert (found.row, found.column, found.code, found.is_error) == (2, "voice_profile", -1002, True)
        assert "no voice 'en-US-JennyNeutral'" in found.message
        assert await CallQueue(store).find() == [], "all or nothing"
    for settings in (known, load_settings()):  # the server is gone, or there is no key
        assert (await Campaign.of(given, settings=settings).preview()).findings == ()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_languages_are_heard_and_the_answers_are_in_report_and_filter(store: Store) -> None:
    await start(store, redial_on="busy", redial_after="30m")
    receiver = WholeReceiver(load_settings(webhook_secret=SECRET), store)
    keys = {ANA: ["1"], BEN: ["2", "1"], CLEO: ["9"]}
    async with receiver.running(), serving(receiver.app) as address:
        sandbox = Sandbox(webhook=address.url + PATH, webhook_secret=SECRET, speed=200)
        for number, pressed in keys.items():
            sandbox.scripts.add(Script(destination=number, outcome=SessionStatus.COMPLETED, keys=pressed))
        async with sandbox.running() as url, VoiceClient("any", "demo", base_url=url) as voice:
            await Worker(store, voice).drain()
            heard = {str(entry.destination): list(entry.heard) for entry in sandbox.ledger}
    assert heard[ANA] == [ASKED["de"], "Danke, Ana."]
    assert heard[BEN] == [ASKED["fr"], "Volontiers. Le matin 1, retour étoile.", "Merci."]
    assert heard[CLEO][1:] == ["Keine Anrufe ab 1. Dezember 2030."], "who names no language hears the first"
    answers = {job.destination: job.answer for job in await CallQueue(store).find()}
    assert answers == {ANA: "confirmed", BEN: "morning", CLEO: "do not call again"}
    report = await build_report(store, "default", "march")
    assert report.answers == {"confirmed": 1, "morning": 1, "do not call again": 1}
