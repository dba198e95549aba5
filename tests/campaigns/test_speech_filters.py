"""Template filters for speech, and the clocks by which times are spoken, in every format and interface."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from babel.numbers import get_currency_name
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.campaigns.reading import NOW, filled, read_all
from voiceflow_worker import CallQueue, Menu, load_settings
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.ivr.caller import Caller, render
from voiceflow_worker.ivr.speech_filters import ZONE, money
from voiceflow_worker.model.times import PersonZone
from voiceflow_worker.service.named_call import NamedCall


def speak(text: str, value: object, voice: str | None = "en-US-JennyNeural") -> object:
    return filled(FlowTemplate.speaking(text), {"x": value, "voice_profile": voice})["callflow"][1]["params"]["text"]


def test_each_text_has_the_language_of_its_own_voice() -> None:
    voices: list[dict[str, str]] = [{"voiceProfile": "de-DE-KatjaNeural"}, {"voiceProfile": "{{ other }}"}, {}]
    says = [{"action": "say", "params": {"text": "{{x|date}}", **each}} for each in voices]
    template = FlowTemplate.parse({"callflow": [{"action": "makeCall"}, *says]}, name="")
    values = {"x": "2030-01-31", "other": "fr-FR-DeniseNeural", "voice_profile": "en-US-JennyNeural"}
    texts = [entry["params"]["text"] for entry in filled(template, values)["callflow"][1:]]
    assert texts == ["31. Januar 2030", "31 janvier 2030", "January 31, 2030"]


@pytest.mark.slow  # five seconds: babel reads the data of 300 languages
def test_a_whole_amount_is_spoken_alike_with_and_without_decimals_in_every_language() -> None:
    # One locale for each language and script; territories have the plurals of their language.
    names = {locale.language + (locale.script or ""): locale for locale in map(Locale.parse, locale_identifiers())}
    assert len(names) > 250
    named = {name: locale for name, locale in names.items() if get_currency_name("USD", locale=locale) != "USD"}
    assert len(named) > 200
    differ = [
        (name, amount)
        for name, locale in named.items()
        for amount in ("1", "2", "5", "21")
        if len({money(f"{amount}{decimals}", locale, "USD") for decimals in ("", ".00")}) != 1
    ]
    assert differ == []


@given(st.times())
def test_a_time_is_spoken_so_that_it_is_understood(moment: time) -> None:
    text = moment.isoformat(timespec="minutes")
    assert str(speak("{{x|time}}", text)).split() == [f"{moment.hour % 12 or 12}:{moment:%M}", f"{moment:%p}"]
    assert speak("{{x|time(language='de')}}", text) == f"{moment:%H:%M}"


# -- a time with a zone of its own is spoken as the clocks of the person show it ---------------------------------------

ANA = "+6587654321"
VISIT = "{{visit|date}} at {{visit|time}}"
INSTANT = "2030-01-30T23:00:00Z"
SINGAPORE = "January 31, 2030 at 7:00 AM"
MOBILE = "+61412345678"
"""An Australian mobile, which may be in several time zones."""
ENGLISH = "en-US-JennyNeural"


@given(
    since_1970=st.integers(24 * 60, 120 * 365 * 24 * 60),
    person=st.sampled_from(["Asia/Singapore", "America/New_York", "Europe/London", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_what_is_spoken_is_what_the_clocks_of_the_person_show(since_1970: int, person: str) -> None:
    aware = datetime.fromtimestamp(60 * since_1970, UTC)
    local = aware.astimezone(ZoneInfo(person))
    assume(aware.time() != time() or local.date() == aware.date())  # which may be the day of a program
    values = {"x": aware.isoformat(), ZONE: PersonZone(person, ())}
    said = filled(FlowTemplate.speaking("{{x|date('short', language='de')}} {{x|time(language='de')}}"), values)
    assert said["callflow"][1]["params"]["text"] == f"{local:%d.%m.%y %H:%M}"


# -- menus, whose later texts are spoken when a key was pressed --------------------------------------------------------


def visit_menu() -> Menu:
    menu = Menu("visit", prompt=f"Hello. {VISIT}. Press 1.", voice_profile=ENGLISH)
    menu.on("1", goto=f"Again: {VISIT}.")
    return menu


@pytest.mark.anyio
async def test_later_texts_of_a_menu_are_spoken_in_the_zone_of_the_first(queue: CallQueue) -> None:
    options = CampaignOptions(menu=visit_menu(), source="+6531234567", window="any", batch_id="b")
    for number, zone, first in [(ANA, None, SINGAPORE), (MOBILE, "Europe/Berlin", "January 31, 2030 at 12:00 AM")]:
        rows = [{"destination": number, "visit": INSTANT}]
        campaign = open_campaign(rows, replace(options, time_zone=zone), now=NOW)
        (row,) = campaign
        assert row.call is not None
        assert first in row.call.body
        assert [text for _, text in campaign.later_texts(row)] == [f"Again: {first}."]
        await queue.admitter.admit_all([row.call])
        (job,) = await queue.find(destination=number)
        caller = Caller(now=NOW, number=number, job=job, data=job.data or {})
        assert render(f"Again: {VISIT}.", caller, ENGLISH) == f"Again: {first}."
    found = read_all([{"destination": MOBILE, "visit": INSTANT}], options).findings
    assert {each.column for each in found if each.is_error} == {"visit"}


def test_a_menu_speaks_in_the_zone_of_the_number_that_it_calls() -> None:
    flow = visit_menu().call(ANA, source="+6531234567", data={"visit": INSTANT})
    assert SINGAPORE in str(flow.to_body())
    with pytest.raises(InvalidInputError, match="that of the person is not known"):
        visit_menu().call(MOBILE, source="+6531234567", data={"visit": INSTANT})


# -- one call, as programs ask for it ----------------------------------------------------------------------------------


def test_the_data_of_one_call_is_spoken_alike() -> None:
    def asked(**fields: object) -> str:
        given = {"to": ANA, "say": VISIT, "data": {"visit": INSTANT}, **fields}
        return NamedCall(given, key="1").checked(settings=settings, now=NOW).body

    settings = load_settings(source="+6531234567", voice_profile=ENGLISH)
    assert SINGAPORE in asked()
    assert SINGAPORE in asked(time_zone="Europe/Berlin")
    assert "January 31, 2030 at 12:00 AM" in asked(to=MOBILE, time_zone="Europe/Berlin")
    clinic: dict[str, object] = {"data": {"visit": "2030-01-31T08:00:00+09:00"}}
    with pytest.raises(CallFlowError, match="by its own clock, and 07:00 in Asia/Singapore"):
        asked(**clinic)
    with pytest.raises(CallFlowError, match="that of the person is not known"):
        asked(to=MOBILE)
