"""A telephone number is read in E.164 form, or as it is dialled within the country that was given; else refused."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.model.written_numbers import slips, spelt
from voiceflow_worker import read_number
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.phone import canonical_number, normalise
from voiceflow_worker.model.numbers.reading import possible_numbers, read_country

FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in "+6587654321")


def test_a_number_is_read_with_its_plus_or_as_it_is_dialled_in_its_country() -> None:
    for texts, country, e164 in [
        ("+6587654321|(+65) 8765 4321|'+6587654321|\u202a+65\u00a08765\u20114321\u202c", None, "+6587654321"),
        (FULL_WIDTH, None, "+6587654321"),
        ("+65-8765-4321", "PH", "+6587654321"),
        ("  (65) 8765 4321 |8765 4321|6587654321|٦٥٨٧٦٥٤٣٢١", "SG", "+6587654321"),
        ("6587654321", "international", "+6587654321"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("44 020 7946 0958", "uk", "+442079460958"),
        ("+44 (0)20 7946 0958|+44 (020) 7946 0958", None, "+442079460958"),
        ("030/1234567", "DE", "+49301234567"),
        ("01 42 68 53 00|0033 1 42 68 53 00", "FR", "+33142685300"),
        ("06 1234567", "IT", "+39061234567"),
        ("8 (495) 123-45-67", "RU", "+74951234567"),
        ("011 15 1234-5678", "AR", "+5491112345678"),
        ("+39 (0)6 1234 5678", None, "+390612345678"),
        ("+225 (0)1 01 23 45 67", None, "+2250101234567"),
        ("0065 9765 4321", "MY", "+6597654321"),
        ("01534 440000", "GB", "+441534440000"),
        # Digits behind a + that no plan has are the user's word, if its country has such a length.
        ("+6512345678|+65 1234 5678", "DE", "+6512345678"),
    ]:
        for text in texts.split("|"):
            assert read_number(text, country) == e164, text


def test_all_other_texts_are_refused_with_the_reason() -> None:
    for texts, country, code, reason in [
        (
            "|n/a|6.59E+09|-81234502|6123 4567 ext 8|+1201XXXXXXX|tel:+6587654321",
            "US",
            -1017,
            "is not one phone number",
        ),
        ("31.12.2030|2030-02-01|31/12/2030|6587654321.0|0812345678.5", "SG", -1017, "is not one phone number"),
        ("+49 30 123…456|+49301234567…|030 123 ... 4567", "DE", -1017, "is not one phone number"),
        # The mark of a footnote, or of a list, is no digit.
        ("+49 30 1234567²|①030 1234567|8~10 65 8765 4321", "DE", -1017, "is not one phone number"),
        (
            "+6587654321, +6587654322|87654321 or 87654322|6587654321\n6587654322",
            "SG",
            -1011,
            "is not one phone number",
        ),
        ("+49 89 123456\n7|+65 6123 4567+8", None, -1017, "is not one phone number"),
        ("81234567|6587654321|0065 8765 4321|(02) 1234 5678", None, -1017, "has no country code"),
        ("12|12345|1234 5678|66 2 234 5678|011 65 8765 4321", "SG", -1017, "is no number of SG"),
        ("(310) 555-0123 12|416 555 0123|011 65 8765 4321|0065 8765 4321", "US", -1017, "is no number of US"),
        ("+65 1234 5678 9012|+999 123 4567|+658765432|+48 (0)602 420 556", None, -1017, "any numbering plan"),
        ("6512345678", "international", -1017, "is no number of any numbering plan"),
        # The 0 for an outside line before a number of Germany, or the code of the United States behind 00.
        ("00151 23456789|0 0151 23456789|(0) 0151 23456789", "DE", -1017, "is no number of DE"),
        # A second number, or an extension.
        ("+49 30 123456/78|030 123456/78|+62 21 520123/4|+43 1 2345678 (12)", "DE", -1017, "is not one phone number"),
    ]:
        for text in texts.split("|"):
            with pytest.raises(PhoneNumberError, match=reason) as caught:
                read_number(text, country)
            assert caught.value.code == code, text


@pytest.mark.parametrize(
    ("text", "country"),
    [
        (" sg ", "SG"), ("Singapore", "SG"), ("UK", "GB"), ("united kingdom", "GB"), ("Hong Kong", "HK"),
        ("SGP", "SG"), ("International", "international"), ("65", None), ("+1", None), ("Sg.", None),
        ("²", None), ("", None), ("World", None), ("XX", None), ("Atlantis", None), ("Deutschland", None),
    ],
)  # fmt: skip
def test_the_country_in_a_cell_is_certain_or_refused(text: str, country: str | None) -> None:
    if country is not None:
        assert read_country(text) == country
        return
    for read in (read_country, lambda each: read_number("+6587654321", each)):
        with pytest.raises(InvalidInputError, match=r"two letters.* name"):
            read(text)


@settings(deadline=None)
@given(
    text=st.text() | st.from_regex(r"[+0-9 ().\-/e,\n~]{0,25}", fullmatch=True),
    country=st.sampled_from([None, "international", "SG", "US", "DE", "IT", "AR", "RU"]),
)
@example(text="+", country=None)
@example(text="(", country="SG")
def test_any_text_is_one_number_or_refused(text: str, country: str | None) -> None:
    held = possible_numbers(text, country)
    assert all(canonical_number(normalise(each)) == each for each in held)
    try:
        number = read_number(text, country)
    except PhoneNumberError as error:
        assert error.code in {-1011, -1017}  # noqa: PT017 - some texts are numbers
        return
    assert number in held
    assert canonical_number(normalise(number)) == number
    if "+" not in text:
        assert phonenumbers.is_valid_number(phonenumbers.parse(number))


def test_a_list_of_numbers_not_to_call_has_every_number_that_a_text_may_hold() -> None:
    for text, country, numbers in [
        ("8765 4321", "SG", {"+6587654321"}),
        ("001 60 4 262 1234", "SG", {"+16042621234", "+6042621234"}),
        ("+49 30 123456/78", None, {"+4930123456", "+493012345678"}),
        ("87654321 / 8765 4322", "SG", {"+6587654321", "+6587654322"}),
        ("8765 4321 8765 4322", "SG", {"+6587654321", "+6587654322"}),
        ("+65 6123 4567\n+65 6123 4568", None, {"+6561234567", "+6561234568"}),
        ("Office: 6123 4567 ext 12", "SG", {"+6561234567"}),
        ("+43 1 2345678 (12)", None, {"+4312345678", "+431234567812"}),
        ("(310) 555-0123 12", "US", {"+13105550123"}),
        ("1234 5678", "SG", {"+6512345678"}),
        ("0 0151 23456789", "DE", {"+15123456789", "+4915123456789"}),
        ("9 0151 23456789", "DE", {"+4915123456789"}),
        ("913812345678", "CN", {"+8613812345678"}),
        ("0 4915123456789", "international", {"+4915123456789"}),
        ("0065 8765 4321", None, {"+6587654321"}),
        ("31.12.2030", "SG", {"+6531122030"}),
    ]:
        assert set(possible_numbers(text, country)) >= numbers, text
    for text in ("", "n/a", "6.59E+09", "81234567", "12", "201XXXXXXX"):
        assert possible_numbers(text) == []


def judge(seed: int, count: int, *, most_others: int) -> None:
    """Read good spellings, none of them wrongly, and slips, of which at most so many are another phone's number."""
    read, others = 0, 0
    for each in spelt(seed, count):
        try:
            number = read_number(each.text, each.country)
        except PhoneNumberError:
            continue
        assert number == each.e164, each
        read += 1
    for each in slips(seed, count):
        try:
            others += read_number(each.text, each.country) != each.e164
        except PhoneNumberError:
            continue
    assert read >= 0.85 * count
    assert others <= most_others


def test_no_good_spelling_is_read_wrongly_and_few_slips_are_numbers_of_others() -> None:
    judge(7, 6000, most_others=1071)


@pytest.mark.slow
def test_no_good_spelling_of_many_is_read_wrongly() -> None:
    judge(8, 60_000, most_others=10_710)
