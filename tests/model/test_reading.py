"""A number that had to be interpreted is certain, or refused; a + and digits are taken at their word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.model.written_numbers import slips, spelt
from voiceflow_worker import read_number
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.numbers.phone import normalise, telephone_of, usual_form
from voiceflow_worker.model.numbers.plans import country_named, dialled_alike
from voiceflow_worker.model.numbers.reading import every_reading, read_country

FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in "+6587654321")
WRITE = r"write it with \+"
DATE = f"looks like a date; if it is a number, {WRITE}"
MANY = "201XXXXXXX|201-XXX-XXXX|(201) xxx xxxx|+1201XXXXXXX|+1201*|1201%|+49 151 234xxxxx|0151####"


def test_what_people_write_is_read() -> None:
    for texts, country, e164 in [
        (
            "+6587654321|(+65) 8765 4321|0065 8765 4321|'+6587654321|\u202a+65\u00a08765\u20114321\u202c",
            None,
            "+6587654321",
        ),
        (FULL_WIDTH, None, "+6587654321"),
        ("+65-8765-4321", "PH", "+6587654321"),
        ("  (65) 8765 4321 |0065 8765 4321|8765 4321|6587654321|٦٥٨٧٦٥٤٣٢١", "SG", "+6587654321"),
        ("6587654321", "international", "+6587654321"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("44 020 7946 0958", "uk", "+442079460958"),
        ("+44 (0)20 7946 0958|+44 (020) 7946 0958", None, "+442079460958"),
        ("030/1234567", "DE", "+49301234567"),
        ("+49/30/1234567", None, "+49301234567"),
        ("01 42 68 53 00", "FR", "+33142685300"),
        ("06151/16-0", "DE", "+496151160"),
        ("05632/1234", "AT", "+4356321234"),
        ("06 1234567", "IT", "+39061234567"),
        ("8 (495) 123-45-67", "RU", "+74951234567"),
        ("011 15 1234-5678", "AR", "+5491112345678"),
        # The 0 in brackets stays where the plan has it.
        ("+39 (0)6 1234 5678", None, "+390612345678"),
        ("+378 (0)549 886377", None, "+3780549886377"),
        ("+225 (0)1 01 23 45 67", None, "+2250101234567"),
        ("+229 (0)1 97 12 34 56", None, "+2290197123456"),
        # Each country's own codes for calls abroad, beside 00.
        ("011 65 8765 4321", "US", "+6587654321"),
        ("001 60 3 2345 6789", "TH", "+60323456789"),
        ("007 65 8765 4321", "ID", "+6587654321"),
        ("0011 65 8765 4321", "AU", "+6587654321"),
        ("00700 65 8765 4321", "KR", "+6587654321"),
        ("0021 65 8765 4321", "BR", "+6587654321"),
        ("002 65 8765 4321", "TW", "+6587654321"),
        ("009 65 8765 4321", "CO", "+6587654321"),
        ("010 65 8765 4321", "JP", "+6587654321"),
        ("8~10 65 8765 4321", "RU", "+6587654321"),
        ("001 60 3 2345 6789", "SG", "+60323456789"),
        ("0043 1 2345678", "DE", "+4312345678"),
    ]:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(e164))
        for number in (read_number(text, country) for text in texts.split("|")):
            assert (number, number.e164, number.country_code, number.warnings) == (e164, e164, region, ())


def test_what_is_not_certain_is_refused_with_the_reason() -> None:
    for texts, country, code, reason in [
        ("", None, -1017, "is empty"),
        ("n/a", None, -1017, "letters"),
        ("81234567|6587654321|087654321|(02) 1234 5678|011 65 8765 4321", None, -1017, f"not say its country.*{WRITE}"),
        ("6.59E+09|1.5e10", "SG", -1017, "damaged by a spreadsheet"),
        (MANY, "US", -1017, "stands for many numbers; give each number"),
        ("0812345678.5|812345678,25|+62812345678.50", "ID", -1017, "has decimals, as an amount has"),
        ("31.12.2030|31/12/2030|31/01/2573|2573-01-31|31/12/9999", "SG", -1017, DATE),
        ("2030-02-01|2024.5.6|12-31-1990|06.05.2024", "DE", -1017, DATE),
        ("2030/12/31", None, -1017, DATE),
        # Digits were left out, or cut off.
        ("+49 30 123…456|+49301234567…|030 123 ... 4567|(030) 1234567..", "DE", -1017, "left out"),
        # The mark of a footnote, or of a list, is no digit.
        ("+49 30 1234567²", None, -1017, "'²'"),
        ("030 1234567¹", "DE", -1017, "'¹'"),
        ("①030 1234567", "DE", -1017, "'①'"),
        ("-6587654321", None, -1017, "'-'"),
        # A spreadsheet has computed +65-81234567 and 030-1234567.
        ("-81234502", "SG", -1017, "took the number for a sum.*write the number again"),
        ("-81234502.0|-81,234,502|\u22121234537", "SG", -1017, "took the number for a sum"),
        # The digit for an outside line was stored.
        ("0 0151 23456789", "DE", -1017, rf"\+15123456789 \(US\).*\+4915123456789 \(DE\).*{WRITE}"),
        ("0 (0151) 23456789|0-0151-23456789|00151 23456789|00151/23456789|0015123456789|00 151 23456789", "DE", -1017,
         r"\+15123456789 \(US\) or \+4915123456789"),
        ("9 08-12 73 79", "SE", -1017, r"\+46908127379 \(SE\) or \+468127379 \(SE\)"),
        ("9 (022) 19105", "IE", -1017, r"\+353902219105 \(IE\) or \+3532219105"),
        ("0 312 941 0893", "IT", -1017, r"\+3903129410893 \(IT\) or \+393129410893"),
        ("0 0151 23456789", None, -1017, "does not say its country"),
        ("0 0151 23456789", "IT", -1017, r"could only be \+15123456789 \(US\), with its country code, or the 00"),
        ("(0) 0151 23456789", "PL", -1017, "the 00 before it, in two pieces"),
        ("(0) 0151 23456789", "international", -1017, "does not say its country"),
        ("9 0151 23456789", "DE", -1017, r"could only be \+4915123456789 \(DE\), behind a digit for an outside line"),
        ("9 6123 4567", "SG", -1017, r"could only be \+6561234567"),
        # A program has dropped the zero that belongs to the number.
        ("331123456|331 123456", "IT", -1017, r"\+39331123456 \(IT\) or \+390331123456 \(IT\)"),
        ("331123456", "VA", -1017, r"\+39331123456 \(IT\) or \+390331123456"),
        ("+6587654321, +6587654322", None, -1011, "several numbers"),
        ("87654321 / 87654322", "SG", -1011, "several numbers"),
        ("12345", "SG", -1017, "too few digits|too short"),
        ("+65 1234 5678 9012 3456", None, -1017, "too many"),
        ("123", "SG", -1017, "is no number of SG"),
        ("+49 (30 123456", None, -1017, "bracket"),
        # Two numbers, or an extension.
        ("+49 30 123456/78|+49 30 123456/789|+43 1 2345/6789|+62 21 520123/4", None, -1011, WRITE),
        ("030 123456/78|030/123456/78", "DE", -1011, WRITE),
        ("+43 1 2345678 (12)|+43 1 2345678 (12) 345", None, -1011, WRITE),
        ("+49 89 123456\n7|+49 89 123456\r\n7|+49 89\u2028123456", None, -1011, WRITE),
        ("+65 6123 4567/8", None, -1017, WRITE),
        ("6123 4567 ext 8|6123 4567 x8", "SG", -1017, "extensions"),
        # No reading leaves the named country.
        ("(310) 555-0123 12", "US", -1017, f"too long for the numbering plan of US.*{WRITE}"),
        ("(636) 205-58411", "US", -1017, "too long"),
        ("822-219-2772", "US", -1017, "not assigned in the numbering plan of US"),
        ("416 555 0123", "US", -1017, "one of CA"),
        ("00 7 800 123 45 67", "KZ", -1017, r"\+78001234567 is a toll-free number in RU"),
        ("66 2 234 5678", "SG", -1017, WRITE),
        ("+1 (310) 555-0123 12", None, -1017, "too long"),
        # Two readings that both exist.
        ("001 60 4 262 1234", "SG", -1017, rf"\+16042621234 \(CA\).*\+6042621234 \(MY\).*{WRITE}"),
        ("001 66 2 234 5678", "SG", -1017, r"\+6622345678 \(TH\)"),
        ("001 64 9 241 2345", "SG", -1017, r"\+6492412345 \(NZ\)"),
        ("001 60 4 262 1234", None, -1017, r"\+6042621234 \(MY\)"),
        ("00 656 123 4567", "MX", -1017, r"\+6561234567 \(SG\).*\+526561234567 \(MX\)"),
        ("004312345678", "DE", -1017, r"\+494312345678 \(DE\)"),
        ("0066812045672", "JP", -1017, r"\+810066812045672 \(JP\) or \+66812045672 \(TH\)"),
        ("0596 30 12 34|05 96 30 12 34|09 76 12 34 56", "FR", -1017, r"could be \+33\d+ \(FR\) or \+59\d+"),
        ("+39 (0)35 1234567", None, -1017, r"\+390351234567 .*\+39351234567"),
        # What a plan does not know, once it was interpreted.
        ("1234 5678", "SG", -1017, "not assigned in the numbering plan of SG"),
        ("6512345678", "international", -1017, "not assigned"),
    ]:  # fmt: skip
        for text in texts.split("|"):
            with pytest.raises(PhoneNumberError, match=reason) as caught:
                read_number(text, country)
            assert caught.value.code == code
            assert (Remedy.NAME_COUNTRY in str(caught.value)) == ("not say its country" in reason)


@settings(deadline=None)
@given(
    st.sampled_from(["SG", "MY", "US", "GB", "DE", "AU", "ID", "JP", "KR"]),
    st.from_regex(r"(?!00)[0-9]{3,14}", fullmatch=True),
)
@example("SG", "0123456789")
@example("SG", "0171123456")
@example("US", "6581234567")
@example("US", "8001234567")
def test_a_refusal_of_national_digits_speaks_of_the_named_country_first(country: str, digits: str) -> None:
    """And of another one only if the digits have the code for calls abroad, and could be a number of that country."""
    try:
        read_number(digits, country)
    except PhoneNumberError as error:
        first, *others = re.split(", and behind ", str(error))
        assert set(re.findall(r"numbering plan of (\w+)", first)) <= {country}
        assert "too short" not in "".join(others)


@pytest.mark.parametrize("text", ["+6512345678", "+1 310 555 0123 12", "+999 123 4567"])
def test_a_plus_and_digits_are_the_users_word(text: str) -> None:
    number = read_number(text, "SG")
    assert number == text.replace(" ", "")
    assert number.warnings
    assert number.messages[0].startswith(number)


def test_a_decimal_is_read_and_doubted() -> None:
    number = read_number("6587654321.0", "SG")
    assert number == "+6587654321"
    assert "decimal" in number.warnings[0]


@pytest.mark.parametrize(
    ("text", "country"),
    [
        (" sg ", "SG"), ("Singapore", "SG"), ("UK", "GB"), ("united kingdom", "GB"), ("Hong Kong", "HK"), ("65", "SG"),
        ("+62", "ID"), ("International", "international"), ("44", None), ("+1", None), ("999", None), ("Sg.", None),
        ("²", None), ("", None), ("World", None), ("001", None), ("XX", None), ("Atlantis", None),
    ],
)  # fmt: skip
def test_the_country_in_a_cell_is_certain_or_refused(text: str, country: str | None) -> None:
    if country is not None:
        assert read_country(text) == country
        return
    with pytest.raises(InvalidInputError, match=r"two letters.* name"):
        read_country(text)
    with pytest.raises(InvalidInputError, match="two letters"):
        read_number("+6587654321", text)


@settings(deadline=None)
@given(
    text=st.text() | st.from_regex(r"[+0-9 ().\-/e,\n~]{0,25}", fullmatch=True),
    country=st.sampled_from([None, "international", "SG", "US", "DE", "IT", "AR", "RU"]),
)
def test_any_text_is_one_number_or_refused(text: str, country: str | None) -> None:
    try:
        number = read_number(text, country)
    except PhoneNumberError as error:
        assert error.code in {-1011, -1017}  # noqa: PT017 - some texts are numbers
        return
    assert usual_form(normalise(number.e164)) == number.e164
    if not number.messages:
        assert phonenumbers.is_valid_number(phonenumbers.parse(number.e164))


def test_a_number_that_is_no_date_is_read_as_before() -> None:
    for text, country in (("030/123456", "DE"), ("+20 12 2030 01", None), ("31.22.20.30", "SG"), ("20-30-1990", "DK")):
        assert read_number(text, country)
    assert every_reading("31.12.2030", "SG"), "a list of numbers not to call takes it"


def test_a_list_of_numbers_not_to_call_takes_every_reading() -> None:
    for text, country, numbers in [
        ("+39 (0)6 1234 5678", None, {"+390612345678"}),
        ("001 60 4 262 1234", "SG", {"+16042621234", "+6042621234"}),
        ("+49 30 123456/78", None, {"+4930123456", "+493012345678", "+4930123478"}),
        ("87654321 / 8765 4322", "SG", {"+6587654321", "+6587654322"}),
        ("+6587654321, 87654322", None, {"+6587654321", "+6587654322"}),
        ("+65 6123 4567\n+65 6123 4568", None, {"+6561234567", "+6561234568"}),
        ("6123 4567 ext 12", "SG", {"+6561234567"}),
        ("Office: 6123 4567", "SG", {"+6561234567"}),
        ("+43 1 2345678 (12)", None, {"+4312345678", "+431234567812"}),
        ("(310) 555-0123 12", "US", {"+13105550123"}),
        ("1234 5678", "SG", {"+6512345678"}),
        ("0 0151 23456789", "DE", {"+15123456789", "+4915123456789"}),
        ("9 0151 23456789", "DE", {"+4915123456789"}),
        ("00612345678", "FR", {"+33612345678"}),
        ("9-202-555-0123", "US", {"+12025550123"}),
        ("(9) 07400 123456", "GB", {"+447400123456"}),
        ("913812345678", "CN", {"+8613812345678"}),
        ("0 4915123456789", "international", {"+4915123456789"}),
        ("331123456", "IT", {"+39331123456", "+390331123456"}),
    ]:
        found = every_reading(text, country)
        assert set(found) >= numbers
        assert len(found) == 1 or all("is not certain" in number.warnings[0] for number in found)


def national_numbers() -> Iterator[tuple[str, str, str]]:
    """Numbers of all regions: the region, the number as it is written within it, and in E.164 form."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
            found = phonenumbers.example_number_for_type(region, kind)
            if found is not None:
                written = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.NATIONAL)
                yield region, written, phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)


def test_a_digit_that_stands_before_a_number_of_any_country_calls_nobody_else() -> None:
    """It is read as if it were not there, as the country's own prefix is, or refused."""
    read = 0
    for region, written, e164 in national_numbers():
        if written.startswith("(0") or written[0] in "0(":
            texts = [f"{digit}{mark}{written}" for digit in "0189" for mark in " -"]
            for text in [*texts, f"0{written}"] if written[0] == "0" else texts:
                try:
                    number = read_number(text, region)
                except PhoneNumberError:
                    continue
                read += 1
                assert telephone_of(number) == telephone_of(e164), (region, text)
    assert read, "1 (202) 555-0143 in the United States, 8 (495) … in Russia"
    for text, region, e164 in (
        ("1 (202) 555-0143", "US", "+12025550143"),
        ("8 (495) 123-45-67", "RU", "+74951234567"),
        ("7 (495) 123-45-67", "RU", "+74951234567"),
        ("0 (30) 123456", "DE", "+4930123456"),
        ("9 (11) 4321-1234", "AR", "+5491143211234"),
        ("0 312 941 08 93", "TR", "+903129410893"),
    ):
        assert (read_number(text, region), len(every_reading(text, region))) == (e164, 1)


def test_a_zero_that_belongs_to_a_number_is_missed_wherever_another_number_is_left() -> None:
    random, alike = Random(1), set[tuple[str, int, str]]()
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        country = country_named(region)
        for length in range(5, 12):
            for _ in range(20):
                digits = str(random.randint(10 ** (length - 1), 10**length - 1))
                if digits in country.numbers(digits) and f"0{digits}" in country.numbers(f"0{digits}"):
                    try:
                        if f"+{country.code}0{digits}" != read_number(digits, region):
                            alike.add((region, length, digits[0]))
                    except PhoneNumberError:
                        continue
    assert alike <= {(region, 10, first) for region in ("IT", "VA") for first in "3458"} | {
        (region, length, "8") for region in ("IT", "VA") for length in (6, 9)  # toll-free: 800, 803
    } | {("AC", 5, first) for first in "23467"}  # fmt: skip
    assert read_number("331 1234567", "IT") == "+393311234567"
    assert read_number("0331 123456", "IT") == "+390331123456"
    assert read_number("+39 331 123456") == "+39331123456"


@pytest.mark.parametrize(
    "text", ["", "n/a", "6.59E+09", "-81234502", "+49 30 123…456", "81234567", "12", *MANY.split("|")]
)
def test_even_such_a_list_refuses_what_is_no_number(text: str) -> None:
    with pytest.raises(PhoneNumberError):
        every_reading(text)


def judge_slips(seed: int, count: int) -> None:
    away: list[object] = []
    for each in slips(seed, count):
        try:
            number = read_number(each.text, each.country)
        except PhoneNumberError:
            continue
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number))
        if region not in dialled_alike(each.country):
            away.append((each, number, region))
    assert not away


def judge_spellings(seed: int, count: int) -> None:
    refused: list[str] = []
    for each in spelt(seed, count):
        try:
            number = read_number(each.text, each.country)
        except PhoneNumberError as error:
            refused.append(f"{each}: {error}")
            continue
        assert number == each.e164, each
    assert len(refused) * 1000 < count or len(refused) <= 3, refused


def test_a_slip_calls_nobody_in_another_country() -> None:
    judge_slips(seed=41, count=600)


def test_good_spellings_are_read() -> None:
    judge_spellings(seed=42, count=400)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_slips_call_nobody_in_another_country(seed: int) -> None:
    judge_slips(seed, 20_000)


@pytest.mark.slow
def test_nearly_all_good_spellings_are_read() -> None:
    judge_spellings(seed=7, count=30_000)
