"""The console in German: every text has one, and numbers and times are written as the locale writes them."""

import ast
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from babel.messages.catalog import Catalog
from babel.messages.checkers import python_format
from babel.messages.extract import extract
from babel.messages.pofile import read_po

import voiceflow_worker.console
from tests.console.signing_in import HOST, browser, receiver, signed_in
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.console import acting
from voiceflow_worker.console.routes import charts
from voiceflow_worker.console.sessions import PageRole
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.call_json import CallResult

pytestmark = pytest.mark.anyio
CONSOLE = Path(voiceflow_worker.console.__file__).parent
GERMAN = CONSOLE / "locale/de/LC_MESSAGES/console.po"


def of_sources() -> Iterator[Any]:
    """The texts that templates and functions ask for; one for a count is a pair."""
    for path in sorted(CONSOLE.rglob("*.html")):
        found = extract("jinja2.ext:babel_extract", BytesIO(path.read_bytes()), options={"trimmed": "true"})
        yield from (message for _, message, _, _ in found)
    for path in sorted(CONSOLE.rglob("*.py")):
        for _, message, _, _ in extract("python", BytesIO(path.read_bytes()), {"translated": None}):
            yield message
        yield from _of_problems(ast.parse(path.read_bytes()))


def _of_problems(module: ast.Module) -> Iterator[str]:
    """What the pages of problems say, and the form to sign in."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"problem", "_form"}:
            given = [*node.args, *(each.value for each in node.keywords if each.arg == "said")]
            for each in given:
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    yield each.value


def of_labels() -> Iterator[str]:
    """The words of fields, states and outcomes, which templates translate by their value."""
    for each in fields_of(Of.CAMPAIGN).values():
        if each.label:
            yield from (each.label, each.hint, *(words for _, words in each.choices))
    for field in _form_fields([*vars(acting).values(), *(act.shown for act in acting.ACTS)]):
        yield from (field.label, field.help, *(words for _, words in field.options))
    for name in charts._TONES:  # pyright: ignore[reportPrivateUsage]
        yield charts.tone_of(name).label
    yield from (each.value for each in PageRole)
    yield from (each.replace("_", " ") for each in CallResult if each is not CallResult.OPEN)


def _form_fields(values: Iterable[object]) -> Iterator[acting.FormField]:
    for value in values:
        if isinstance(value, acting.FormField):
            yield value
        elif isinstance(value, tuple):
            yield from _form_fields(cast("tuple[object, ...]", value))


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
        for referer, back in ((f"{HOST}{there}", f"{HOST}{there}"), ("https://elsewhere.example/ui", "ui"), ("", "ui")):
            answer = await client.get("/ui/language?to=de", headers={"Referer": referer})
            assert (answer.status_code, answer.headers["location"].removeprefix("../")) == (303, back)
        assert '<html lang="de"' in (await client.get("/ui", headers={"Accept-Language": "en"})).text
        await client.get("/ui/language?to=<unknown>")
        assert '<html lang="en"' in (await client.get("/ui/batches", headers={"Accept-Language": "de"})).text
