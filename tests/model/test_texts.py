"""Texts: secrets that are hidden, addresses of pages, and durations as people write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.model.text.printable import (
    SHORTEST_HIDDEN,
    shown_masked,
    without_numbers,
    without_secrets,
    without_secrets_in,
)
from voiceflow_worker.model.text.speakable import speakable
from voiceflow_worker.model.text.web_address import is_this_machine, why_not_from_outside
from voiceflow_worker.model.text.wording import (
    read_duration,
    write_duration,
)


def test_a_password_is_never_shown() -> None:
    for url, shown in {
        "redis://me:geheim@host:6379/0": "redis://***@host:6379/0", "redis://:ge@heim@host": "redis://***@host",
        "redis://me:ge/heim@host:6379/0": "redis://***@host:6379/0", "redis://me:ge?heim@host/0": "redis://***",
        "redis://me:ge#heim@host/0": "redis://***@host/0", "redis://me:12?heim@host/0": "redis://***",
        "redis://host/0?password=geheim": "redis://host/0", "me:geheim@host/0": "***@host/0",
        "redis://host/0?password=ge@heim": "redis://***", "redis://me:geheim@[::1": "redis://***@[::1",
        "me:geheim": "***", "me:12?heim@host": "***", "sqlite:calls.db": "sqlite:calls.db",
        "sqlite:////var/lib/calls#1.db?key=geheim": "sqlite:////var/lib/calls#1.db",
        "sqlite://me:geheim@host/calls.db": "sqlite://***@host/calls.db",
        **{each: each for each in ("127.0.0.1:8088", "calls.db", "sqlite:///calls@home.db", "memory://")},
    }.items():  # fmt: skip
        assert without_secrets(url) == shown


def test_options_that_hold_no_secret_can_be_shown() -> None:
    url = "redis+sentinel://s1/calls?durability=best-effort&replicas=1"
    assert without_secrets(url, options=True) == url
    assert without_secrets(f"{url}&prefix=GeHeim", options=True) == "redis+sentinel://s1/calls?***"


PIECES = st.text("Q/@:%#?&=[] é\u2100", min_size=1, max_size=8)


@given(
    before=PIECES, after=PIECES, form=st.sampled_from(["{}://me:{}@host:6379/0", "{}://:{}@host", "{}://me:{}@h,i/n"])
)
def test_no_letter_of_any_password_is_shown(before: str, after: str, form: str) -> None:
    url = form.format("redis", f"QQ{before}Q{after}QQ")
    assert "Q" not in without_secrets(url)
    assert "Q" not in without_secrets(url, options=True)
    assert "Q" not in without_secrets(form.format("redis", "x") + f"?password=QQ{before}Q{after}QQ", options=True)


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


def test_what_keeps_others_from_reaching_an_address_is_reported() -> None:
    for url, why in {
        "http://calls.example.com/webhooks/8x8": "it is http", "https://[::ffff:127.0.0.1]/": "this machine",
        "http://127.0.0.1:8080/webhooks/8x8": "127.0.0.1 is this machine", "https://[::1]/": "::1 is this machine",
        "https://localhost/webhooks/8x8": "localhost is this machine",
        "https://10.1.2.3/": "10.1.2.3 is not a public address",
        "https://[fd00::1]/": "fd00::1 is not a public address",
        "https://100.64.0.1/": "100.64.0.1 is not a public address",
        "https://[::ffff:10.0.0.1]/": "is not a public address",
        "https://receiver/webhooks/8x8": "receiver is not a public host name",
        "https://calls.internal/": "calls.internal is not a public host name",
        "https://calls.test/": "calls.test is not a public host name",
    }.items():  # fmt: skip
        assert why in (why_not_from_outside(url) or "")
    for url in (
        "https://calls.example.com/webhooks/8x8", "https://calls.example.com:8443/webhooks/8x8", "https://8.8.8.8/",
        "https://[2001:4860:4860::8888]/webhooks/8x8", "HTTPS://Calls.Example.Com./",
    ):  # fmt: skip
        assert why_not_from_outside(url) is None


def test_a_sandbox_on_this_machine_is_known_by_its_address() -> None:
    urls = ("http://127.0.0.1:8088", "http://localhost:8088", "https://voice.8x8.com", "http://10.0.0.7:8088")
    assert [is_this_machine(url) for url in urls] == [True, True, False, False]


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


class TestMaskedNumbers:
    def test_no_spelling_of_a_number_is_shown(self) -> None:
        random = Random(7)
        between = " \u00a0\u2009\u3000\t\u200b\ufeff-./,;:()[]{}_|*#~'=+&!?@$%^<>\\\u2010\u2013\u2212\uff0d\u30fc"
        forms = "{}", "Tel{}", "{}ext12", "{}.0", "{}e0", "x{}x", "({})", "k0/{}", "of {} now", "2026-11-28 10:{}"
        for _ in range(4000):
            zero = random.choice("0\uff10\u0660\u06f0\u0966")
            digits = [chr(ord(zero) + random.randint(1, 9)) for _ in range(random.randint(7, 13))]
            parts = [f"{each}{''.join(random.choices(between, k=random.choice((0, 0, 0, 1, 5))))}" for each in digits]
            text = random.choice(forms).format("".join(parts).replace("*", "-"))
            shown = without_numbers(quote(text) if zero == "0" and random.random() < 0.5 else text)
            assert shown.count("*") >= len(digits) - 4, (text, shown)
            assert without_numbers(shown) == shown

    @pytest.mark.timeout(20)
    def test_a_long_text_is_masked_in_the_time_of_its_length(self) -> None:
        for unit in ("-", "1-", "f-", "12:", "+ (", "%41", "\\", "2026-01-01", "12:30-13:00,"):
            text = f"1{unit * (100_000 // len(unit))}x"
            assert len(without_numbers(text)) == len(text)

    @pytest.mark.parametrize(
        "text",
        [
            "044.668.18.00", "079.123.45.67", "22.33.44.55", "Tel91032016", "93995097ext12", "65,934,523,970",
            "6.599834563E+09", "9399      5097", "2026-11-28 10:91234567", "2026-11-28,12:30", "9123\\u20114567",
            "(2026-11-28)", "20261128", "1, 2, 3, 4, 5, 6, 7", "10.100.200.130", "65812345-6765-8123-4567-658123456712",
        ],
    )  # fmt: skip
    def test_seven_digits_in_a_row_are_a_number_whatever_stands_between_them(self, text: str) -> None:
        assert "*" in without_numbers(text)

    @pytest.mark.parametrize(
        "text",
        [
            "2026-11-28", "held since 2026-11-28 10:00 UTC, by 12", "28.11.2026 9:30", "11/28/2026", "09:00-17:00",
            "2026-11-27T23:32:23.123456Z", "2026-11-28T10:00:00+00:00", "10:00 12:30", "123 of 456", "a12b345c678d9",
            "default.01JB3W8Z5Q7X9V2K4M6N8P0R2T.1", "12345678-1234-4a34-1234-123456789012", "",
            "oncall-12345678901234567890",
        ],
    )  # fmt: skip
    def test_dates_and_times_that_stand_whole_and_ids_are_none(self, text: str) -> None:
        assert without_numbers(text) == text

    def test_the_same_digits_are_shown_of_each_spelling(self) -> None:
        for text, shown in (
            ("+6581234567", "+65******67"), ("+65 8123 4567", "+65 **** **67"), ("(8123) 45-67", "(****) **-67"),
            ("\\u002b6581234567", "\\u002b********67"), ("+65 8123 4567x12", "+65 **** **67x12"),
        ):  # fmt: skip
            assert without_numbers(text) == shown

    def test_figures_stay_figures_and_long_ones_are_masked(self) -> None:
        for value in (12, 999_999, 1.23456789, None, timedelta(days=9), datetime(2026, 11, 28, tzinfo=UTC)):
            assert shown_masked(value) is value
        assert [shown_masked(value) for value in (81234567, -6581234567.0)] == ["******67", "-*********7.0"]


# -- what a voice can speak --------------------------------------------------------------------------------------------

SPOKEN = {
    "see https://grafana.example.com:3000/d/abc?orgId=1&from=now-1h.": "see grafana.example.com.",
    "http://[2001:db8::1]:9090/graph": "2001:db8::1",
    "on db-01.example.com:9100 and 10.20.30.40:8080": "on db-01.example.com:9100 and 10.20.30.40:8080",
    "p99 is 0.9453333333333334 s": "p99 is 0.945 s",
    "44.23943737541908% of 9.453333e+08": "44.2% of 945000000",
    "0.00012345": "0.000123",
    "97.3%, 12.25 and 1.2.34567": "97.3%, 12.25 and 1.2.34567",
    "<no value>": "unknown",
    "Instance {{ $labels.instance }} down, value $value, [no value]": "Instance unknown down, value unknown, unknown",
    "CPU is 97.3% on {{ $labels.instance }} {{ $labels.zone }}.": "CPU is 97.3% on unknown.",
    "error expanding template: <error expanding template: a:1:1: at <.Foo>: nil>": "error expanding template",
    "*Disk* `/var` is **91%** full on\nnode-3": "Disk /var is 91% full on node-3",
    "2*3, a * b, $5": "2*3, a * b, $5",
    "6 alarms: disk 0. And 3 more.": "6 alarms: disk 0. And 3 more.",
}


@pytest.mark.parametrize("written", SPOKEN)
def test_a_text_of_monitoring_is_spoken_as_a_person_would_say_it(written: str) -> None:
    assert speakable(written) == SPOKEN[written]
    assert speakable(SPOKEN[written]) == SPOKEN[written], "and again"
