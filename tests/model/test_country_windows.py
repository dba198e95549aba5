"""Calling windows by the country of the number called."""

from __future__ import annotations

import pytest

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.model.window import CallWindow

BERLIN, PARIS, SINGAPORE, VIENNA, MILAN = "+493012345678", "+33142685300", "+6587654321", "+4315123456", "+390269812345"


def to(windows: CountryWindows, number: str) -> str:
    return str(windows.to([number]))


def test_each_calendar_is_for_the_numbers_of_its_country() -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays="DE-BE,FR,SG,DE-BY")
    assert to(windows, BERLIN) == "09:00-20:00 mon-sun DE-BE,DE-BY"
    assert to(windows, PARIS) == "09:00-20:00 mon-sun FR"
    assert to(windows, SINGAPORE) == "09:00-20:00 mon-sun SG"
    assert to(windows, MILAN) == "09:00-20:00 mon-sun"
    # A window that a program made for everybody is read in the same way.
    union = CountryWindows.of(CallWindow.parse("09:00-20:00", holidays="DE-BE,FR,SG,DE-BY"))
    assert all(to(union, each) == to(windows, each) for each in (BERLIN, PARIS, SINGAPORE, MILAN))


def test_own_days_are_closed_for_everybody() -> None:
    closed = "2026-12-24..2027-01-01"
    for text, berlin, milan in (
        (f"DE-BE,{closed}", f"DE-BE,{closed}", closed), (f"number,{closed}", f"DE,{closed}", f"IT,{closed}"),
        (f"number,DE-BY,{closed}", f"DE-BY,{closed}", f"IT,{closed}"), (closed, closed, closed),
    ):  # fmt: skip
        windows = CountryWindows.parse(holidays=text)
        shown = [to(windows, each).removeprefix("00:00-24:00 mon-sun").strip() for each in (BERLIN, MILAN)]
        assert shown == [berlin, milan], text
        assert all(str(CallWindow.recalled(to(windows, each))) == to(windows, each) for each in (BERLIN, MILAN))


def test_number_is_the_calendar_of_each_numbers_country() -> None:
    windows = CountryWindows.parse(holidays="number")
    assert [to(windows, each) for each in (BERLIN, PARIS, SINGAPORE)] == [
        "00:00-24:00 mon-sun DE", "00:00-24:00 mon-sun FR", "00:00-24:00 mon-sun SG",
    ]  # fmt: skip
    assert to(windows, "+80012345678") == "00:00-24:00 mon-sun"
    with pytest.raises(InvalidInputError, match=r"holidays of AC, the country of \+247\d+, are not known.*as DE,FR"):
        to(windows, "+24762889")


def test_a_number_of_a_country_that_is_not_named_has_no_window() -> None:
    with pytest.raises(InvalidInputError) as caught:
        to(CountryWindows.parse("DE=09:00-18:00,SG=10:00-20:00"), PARIS)
    assert str(caught.value) == (
        f"there is no calling window for {PARIS}, which is a number of FR: there are hours for DE, SG; add FR=… or *=…"
    )


def test_a_territory_that_is_dialled_as_in_its_country_has_the_hours_of_that() -> None:
    windows = CountryWindows.parse("GB=09:00-18:00,IT=10:00-19:00,JE=11:00-12:00,US=08:00-09:00,*=00:00-24:00")
    found = [windows.to([number]) for number in ("+441481230000", "+390669812345", "+441534230000")]
    spans = [str(each.spans[0]) for each in found if each is not None]
    assert spans == ["09:00-18:00", "10:00-19:00", "11:00-12:00"]
    assert to(windows, "+18767654321").startswith("00:00"), "Jamaica is no part of the United States"
    sources = read_sources("GB=+442079460000,*=+6531234567")
    assert [sources.to(number) for number in ("+441481230000", "+390669812345")] == ["+442079460000", "+6531234567"]


def test_the_numbers_of_a_person_have_one_window() -> None:
    windows = CountryWindows.parse("DE=09:00-18:00,*=10:00-20:00")
    assert str(windows.to([PARIS, MILAN])) == "10:00-20:00 mon-sun"
    with pytest.raises(InvalidInputError, match="give the numbers a row each"):
        windows.to([BERLIN, VIENNA])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hours": "ZZ=09:00-18:00"}, "'ZZ' is not a country"),
        ({"hours": "international=09:00-18:00"}, "is no country with its hours"),
        ({"hours": "DE="}, "is no country with its hours"),
        ({"hours": "DE=nine"}, "is not a calling window"),
        ({"days": "DE=mon"}, "not a day"),
        ({"holidays": "DE=DE-BE"}, "'DE=DE-BE' is not a calendar"),
        ({"time_zone": "Mars"}, "is not a time zone"),
    ],
)
def test_what_is_no_table_is_refused(given: dict[str, str], message: str) -> None:
    hours = given.pop("hours", None)
    with pytest.raises(InvalidInputError, match=message):
        CountryWindows.parse(hours, **given)


def test_a_window_that_was_moved_keeps_its_zone() -> None:
    window = CountryWindows.parse("09:00-20:00", holidays="SG", time_zone="Europe/Berlin").to([SINGAPORE])
    assert str(window) == "09:00-20:00 mon-sun SG in Europe/Berlin"
    assert CallWindow.recalled(str(window)) == window
    assert str(window.zone_for("Asia/Singapore")) == "Europe/Berlin"
    assert str(CallWindow.parse("09:00-20:00").zone_for("Asia/Singapore")) == "Asia/Singapore"
