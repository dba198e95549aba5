"""The console in German: every text has one, and numbers and times are written as the locale writes them."""

# pyright: reportPrivateUsage=false

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.checkers import python_format
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from jinja2 import Environment

import voiceflow_worker.console
from tests.console.signing_in import HOST, browser, receiver, signed_in
from tests.support.flows import flow, number
from voiceflow_worker import CallQueue, CallRequest
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.preview import Preview
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.campaigns.row_list import LISTED
from voiceflow_worker.console import columns, form, language
from voiceflow_worker.console.routes import batches, calls, charts
from voiceflow_worker.console.routes.batches import funnel
from voiceflow_worker.console.sessions import PageRole
from voiceflow_worker.core.call_filter import STATES
from voiceflow_worker.core.ports import Store
from voiceflow_worker.ivr.menu_data import BUILT_IN
from voiceflow_worker.model.jobs.call_json import CallResult
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.reporting.breakdown import TimeFigures

pytestmark = pytest.mark.anyio
CONSOLE = Path(voiceflow_worker.console.__file__).parent
SAYS = {"problem", "_form", "FormField"}
KINDS = {"line", "lines", "choice", "ticks", "tick", "file"}
RESULTS = ("bad", "left out", "duplicate", "not called", "deleted")
"""What a row is in the list of them, beside the results of calls."""
GERMAN = CONSOLE / "locale/de/LC_MESSAGES/console.po"


def of_sources() -> Iterator[Any]:
    """The texts that templates and functions ask for; one for a count is a pair."""
    for path in sorted(CONSOLE.rglob("*.html")):
        found = extract("jinja2.ext:babel_extract", BytesIO(path.read_bytes()), options={"trimmed": "true"})
        yield from (message for _, message, _, _ in found)
    for path in sorted(CONSOLE.rglob("*.py")):
        for _, message, _, _ in extract(
            "python", BytesIO(path.read_bytes()), {"translated": None, "translated_count": (1, 2)}
        ):
            yield message
        yield from _of_calls(ast.parse(path.read_bytes()))


def _of_calls(module: ast.Module) -> Iterator[str]:
    """What problems, the form to sign in and the fields of actions say."""
    given: list[ast.AST | None]
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAYS:
            given = [*node.args[1:], *(each.value for each in node.keywords if each.arg in {"said", "help", "options"})]
            given = [part for each in given for part in (ast.walk(each) if isinstance(each, ast.Tuple) else [each])]
        else:
            continue
        for each in given:
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value not in KINDS:
                yield each.value


def of_labels() -> Iterator[str]:
    """The words of fields, states and outcomes, which templates translate by their value."""
    for each in fields_of(Of.CAMPAIGN).values():
        if each.label:
            yield from (each.label, each.hint, *(words for _, words in each.choices))
    yield from (charts.tone_of(name).label for name in charts._TONES)
    yield from (each.replace("_", " ") for each in [*STATES, *CallResult] if each is not CallResult.OPEN)
    yield from (*PageRole, *charts._KINDS.values(), *calls._DUE.values(), *BUILT_IN.values())
    yield from (words for words, _ in calls._TIMES.values())
    yield from (name.replace("_", " ") for name in LISTED)
    yield from (*form.STEPS.values(), *batches._ENDS.values(), *columns.ROLE_WORDS.values(), *columns.LOOKS)
    yield from ("all", *RESULTS)
    yield from _of_previews()
    yield from _of_actions()


def _of_previews() -> Iterator[str]:
    """The names under which a preview tells things: the first of pairs with a text."""
    for name in ("in_words", "_nights"):
        for node in ast.walk(ast.parse(dedent(inspect.getsource(getattr(Preview, name))))):
            match node:
                case ast.Tuple(elts=[ast.Constant(value=str(label)), _]):
                    yield label
                case _:
                    pass


def _of_actions() -> Iterator[str]:
    """The buttons of questions, as far as they have no values."""
    modules = CONSOLE.parent.glob("service/*_actions.py")
    for path in sorted([*modules, *CONSOLE.glob("*.py"), *CONSOLE.parent.glob("actions/*.py")]):
        for node in ast.walk(ast.parse(path.read_bytes())):
            given: ast.AST | None = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Question":
                given = next((each.value for each in node.keywords if each.arg == "button"), None)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "button":
                given = node.value
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield given.value


def wanted() -> Catalog:
    catalog = Catalog()
    for message in [*of_sources(), *of_labels()]:
        if message:
            catalog.add(message)
    return catalog


def test_every_text_has_a_german_one_with_the_same_placeholders() -> None:
    german, texts = read_po(BytesIO(GERMAN.read_bytes()), locale="de"), wanted()
    for message in texts:
        if message.id:
            found = german.get(message.id)
            assert found is not None, f"{GERMAN} has no text for {message.id!r}"
            assert all(found.string if isinstance(found.string, tuple) else (found.string,)), message.id
            assert not found.fuzzy, message.id
            python_format(german, found)
    assert len(german) == len(texts), f"texts of nothing: {[each.id for each in german if each.id not in texts]}"
    assert not german.obsolete


@pytest.mark.parametrize(
    ("accepted", "lang", "title"),
    [
        ("de", "de", "Anmelden"),
        ("de-CH,de;q=0.9,en;q=0.8", "de-CH", "Anmelden"),
        ("fr, en;q=0.5, de;q=0.7", "de", "Anmelden"),
        ("en-GB,de;q=0.9", "en-GB", "Sign in"),
        ("de;q=0, fr", "en", "Sign in"),
        ("*;q=x, ,-,xx-YY", "en", "Sign in"),
        ("", "en", "Sign in"),
    ],
)
async def test_a_page_is_in_the_language_that_the_browser_asks_for(
    memory: Store, accepted: str, lang: str, title: str
) -> None:
    async with browser(receiver(memory)) as client:
        found = await client.get("/ui", headers={"Accept-Language": accepted})
    assert f'<html lang="{lang}"' in found.text
    assert f"<h1>{title}</h1>" in found.text


async def test_a_language_that_was_chosen_is_kept(memory: Store) -> None:
    async with signed_in(receiver(memory)) as client:
        there = "/ui/calls?who=Ana+%26+Ben"
        assert 'href="../ui/language?to=de" lang="de"' in (await client.get(there)).text
        for referer, back in (
            (f"{HOST}{there}", f"{HOST}{there}"),
            ("https://elsewhere.example/ui", "ui"),
            ("http://[", "ui"),
            ("", "ui"),
        ):
            answer = await client.get("/ui/language?to=de", headers={"Referer": referer})
            assert (answer.status_code, answer.headers["location"].removeprefix("../")) == (303, back)
        assert '<html lang="de"' in (await client.get("/ui", headers={"Accept-Language": "en"})).text
        await client.get("/ui/language?to=<unknown>")
        assert '<html lang="en"' in (await client.get("/ui/batches", headers={"Accept-Language": "de"})).text


def test_templates_have_no_text_that_cannot_be_translated() -> None:
    """Outside of expressions, texts to translate, commands and the product's name, a template has no letters."""
    translated = re.compile(r"\{% trans.*?endtrans %\}", re.DOTALL)
    for path in sorted(CONSOLE.rglob("*.html")):
        tokens = Environment().lex(translated.sub("", path.read_text()))
        bare = "".join(value for _, kind, value in tokens if kind == "data")
        named = re.findall(r'(?:aria-label|placeholder|title|data-label)="[^"]*[a-zA-Z]', bare)
        texts = re.findall(r"[^\W\d_]{2,}", re.sub(r"<code>.*?</code>|<[^>]*>|/\w\S*|voiceflow|POST", "", bare))
        assert not [*named, *texts], path


def test_a_result_of_our_own_is_in_german_and_the_name_of_an_answer_as_it_was_given() -> None:
    token = language.LOCALE.set(Locale("de"))
    live = {"state:completed": 3, "answered": 3, "answer:call_back_not_possible": 1, "answer:call id": 2}
    named = [bar.name for bar, _ in funnel(Totals(live=live))]
    language.LOCALE.reset(token)
    assert named[3:] == ["call id", "Rückruf nicht möglich"]


def test_charts_name_days_as_the_locale_writes_them() -> None:
    days = [
        TimeFigures(at=datetime(2026, 10, 9 + each, tzinfo=ZoneInfo("Asia/Singapore")), attempts=1, answered=0)
        for each in (0, 1)
    ]
    named = {}
    for name in ("en", "de"):
        token = language.LOCALE.set(Locale(name))
        named[name] = [each.label for each in charts.columns_of_time(days)]
        language.LOCALE.reset(token)
    assert named == {"en": ["Oct 9", "Oct 10"], "de": ["9. Okt.", "10. Okt."]}


async def test_pages_are_german_with_german_numbers_and_times(memory: Store) -> None:
    at = memory.clock.now()
    requests = [CallRequest(flow=flow(number(place))) for place in range(1000)]
    job = (await CallQueue(memory).enqueue_many(requests))[0].job
    async with signed_in(receiver(memory)) as client:
        client.headers["Accept-Language"] = "de"
        front = (await client.get("/ui")).text
        one = (await client.get(f"/ui/calls/{job.id}")).text
    assert '0 <span class="muted">von 1.000</span>' in front
    assert "wartet auf Sendung" in one
    hours = {f"{each.astimezone(ZoneInfo('Asia/Singapore')):%Y, %H:%M}" for each in (at, at + timedelta(minutes=1))}
    assert any(each in one for each in hours)
    assert f"{at.astimezone(ZoneInfo('Asia/Singapore')).day}. " in one
