"""Texts: secrets that are hidden, addresses of pages, and durations as people write them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.text.printable import SHORTEST_HIDDEN, without_secrets, without_secrets_in
from voiceflow_worker.model.text.web_address import is_this_machine, why_not_from_outside
from voiceflow_worker.model.text.wording import name_columns, read_duration, write_duration


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("phone,First Name,Last Name", "First Name,Last Name"),
        ("Nachname,Vorname,Telefon", "Vorname,Nachname"),
        ("Telefon,Name des Patienten,Name des Arztes", "Name des Patienten"),
        ("nom,prénom", "prénom,nom"),
        ("Cognome,Nome", "Nome,Cognome"),
        ("apellidos,nombre", "nombre,apellidos"),
        ("Firmenname,Kundenname,Ort", "Kundenname"),
        ("username,file_name,Doctor Name,phone", ""),
        ("氏名,電話", "氏名"),
        ("Фамилия,Имя", "Имя,Фамилия"),
        ("name,surname", "name"),
    ],
)
def test_the_names_of_people_are_in_the_columns_that_say_so(columns: str, names: str) -> None:
    assert ",".join(name_columns(columns.split(","))) == names


def test_a_password_is_never_shown() -> None:
    for url, shown in [
        ("redis://me:geheim@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://:ge@heim@host", "redis://:***@host"),
        ("redis://me:ge/heim@host:6379/0", "redis://me:***@host:6379/0"),
        ("redis://me:ge?heim@host/0", "redis://***"),
        ("redis://me:ge#heim@host/0", "redis://***"),
        ("redis://me:12?heim@host/0", "redis://***"),
        ("redis://ge/heim:x@host/0", "redis://***:***@host/0"),
        ("redis://geheim@host/0", "redis://***@host/0"),
        ("redis://host/0?sentinel_password=geheim", "redis://host/0"),
        ("redis://host/0?sentinel_password=ge@heim", "redis://***"),
        ("redis://me:geheim@[::1", "redis://me:***@[::1"),
        ("me:geheim@host/0", "me:***@host/0"),
        ("me:geheim", "***"),
        ("me:12?heim@host", "***"),
        ("127.0.0.1:8088", "127.0.0.1:8088"),
        ("calls.db", "calls.db"),
        ("sqlite:///calls@home.db", "sqlite:///calls@home.db"),
        ("sqlite:////var/lib/calls#1.db?key=geheim", "sqlite:////var/lib/calls#1.db"),
        ("sqlite:calls.db", "sqlite:calls.db"),
        ("sqlite://me:geheim@host/calls.db", "sqlite://me:***@host/calls.db"),
        ("memory://", "memory://"),
    ]:
        assert without_secrets(url) == shown


def test_options_that_hold_no_secret_can_be_shown() -> None:
    url = "redis+sentinel://s1/calls?durability=best-effort&sentinel_password=ge&heim&replicas=1&prefix=GeHeim"
    assert without_secrets(url, options=True) == "redis+sentinel://s1/calls?durability=best-effort&***&replicas=1"


PIECES = st.text("Q/@:%#?&=[] é\u2100", min_size=1, max_size=8)


@given(
    before=PIECES, after=PIECES, form=st.sampled_from(["{}://me:{}@host:6379/0", "{}://:{}@host", "{}://me:{}@h,i/n"])
)
def test_no_letter_of_any_password_is_shown(before: str, after: str, form: str) -> None:
    url = form.format("redis", f"QQ{before}Q{after}QQ")
    assert "Q" not in without_secrets(url)
    assert "Q" not in without_secrets(url, options=True)
    assert "Q" not in without_secrets(
        form.format("redis", "x") + f"?sentinel_password=QQ{before}Q{after}QQ", options=True
    )


def test_passwords_and_known_secrets_are_hidden_in_a_text() -> None:
    text = "cannot reach redis://me:ge/heim@host/0, sqlite:////a@b.db; the key k-1 was sent by ann@example.com"
    assert without_secrets_in(text, known=["k-1"]) == (
        "cannot reach redis://***@host/0, sqlite:////a@b.db; the key *** was sent by ann@example.com"
    )


PASSWORDS = st.text("Q,:;\"'\\}]{[/ab", min_size=1, max_size=8).map(lambda text: f"Q{text}Q")


@given(
    fields=st.dictionaries(
        st.sampled_from("abcd"),
        st.sampled_from(["https://h/i", "x@y.z", 'a"b@c', "redis://h\\", ["redis://h", "@"], {"@": "http://a"}]),
    ),
    password=PASSWORDS,
)
def test_a_line_of_json_stays_one_without_the_passwords_of_its_urls(fields: dict[str, Any], password: str) -> None:
    event = {**fields, "error": f"no way to redis://me:{password}@host", "last": "ann@example.com"}
    for separators in ((",", ":"), (", ", ": ")):
        line = without_secrets_in(json.dumps(event, separators=separators))
        assert json.loads(line) == {**event, "error": "no way to redis://***@host"}


@given(st.text("abcxyz", min_size=1, max_size=SHORTEST_HIDDEN - 1), st.text("abcxyz", min_size=1, max_size=3))
def test_a_short_secret_is_hidden_as_a_word_and_not_inside_words(secret: str, part: str) -> None:
    told = f"{part}{secret} {secret}{part} the key ({secret}), k={secret}."
    assert without_secrets_in(told, known=[secret]) == f"{part}{secret} {secret}{part} the key (***), k=***."


@pytest.mark.parametrize(
    "url",
    [
        "https://calls.example.com/webhooks/8x8",
        "https://calls.example.com:8443/webhooks/8x8",
        "https://8.8.8.8/webhooks/8x8",
        "https://[2001:4860:4860::8888]/webhooks/8x8",
        "HTTPS://Calls.Example.Com./",
    ],
)
def test_a_public_https_address_can_be_reached_from_outside(url: str) -> None:
    assert why_not_from_outside(url) is None


def test_what_keeps_others_from_reaching_an_address_is_reported() -> None:
    for url, why in [
        ("http://calls.example.com/webhooks/8x8", "it is http"),
        ("http://127.0.0.1:8080/webhooks/8x8", "127.0.0.1 is this machine"),
        ("https://localhost/webhooks/8x8", "localhost is this machine"),
        ("https://[::1]/", "::1 is this machine"),
        ("https://[::ffff:127.0.0.1]/", "this machine"),
        ("https://10.1.2.3/", "10.1.2.3 is not a public address"),
        ("https://100.64.0.1/", "100.64.0.1 is not a public address"),
        ("https://[fd00::1]/", "fd00::1 is not a public address"),
        ("https://[::ffff:10.0.0.1]/", "is not a public address"),
        ("https://receiver/webhooks/8x8", "receiver is not a public host name"),
        ("https://calls.internal/", "calls.internal is not a public host name"),
        ("https://calls.test/", "calls.test is not a public host name"),
    ]:
        assert why in (why_not_from_outside(url) or "")


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8088", True),
        ("http://localhost:8088", True),
        ("https://voice.8x8.com", False),
        ("http://10.0.0.7:8088", False),
    ],
)
def test_a_sandbox_on_this_machine_is_known_by_its_address(url: str, is_here: bool) -> None:
    assert is_this_machine(url) is is_here


def test_a_duration_is_written_as_people_write_it() -> None:
    for text in ["30d", "400d", "2h", "30m", "120s", "60s", "10s", "500ms", "1500ms", "0s", "90s", "36h"]:
        assert write_duration(read_duration(text)) == text
    assert [read_duration(text) for text in ("1.5h", " 2 H ")] == [timedelta(minutes=90), timedelta(hours=2)]


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1000)))
def test_what_is_written_is_read_as_the_same(duration: timedelta) -> None:
    text = write_duration(duration)
    assert "e" not in text
    assert abs(read_duration(text) - duration) <= timedelta(microseconds=1)


@pytest.mark.parametrize("number", ["1", "30", "1.5", "3600", " 30 "])
def test_a_number_needs_a_unit_except_in_timeouts(number: str) -> None:
    with pytest.raises(ValueError, match=f"no unit; write {number.strip()}m for minutes, or {number.strip()}s"):
        read_duration(number)
    assert read_duration(number, in_seconds=True) == timedelta(seconds=float(number))
    assert read_duration("0") == timedelta()


def test_anything_else_is_not_a_duration() -> None:
    for text in ["", "soon", "-1s", "1w", "2 weeks", "1h30m", "nan", "1e3s", "999999999999d", "36501d"]:
        with pytest.raises(ValueError, match="give"):
            read_duration(text)
