"""The pages in a real browser: the zone of times, the way back, and what stays while a page follows the store."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.console.browser.reader import Reader
from tests.support.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

ZONE = "Asia/Singapore"


def in_zone(reader: Reader, zone: str) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})


def test_times_are_in_the_zone_of_the_browser_or_the_one_that_is_chosen(on: Stage, reader: Reader) -> None:
    on.campaign(3, "--time-zone", ZONE)
    in_zone(reader, "Asia/Tokyo")
    reader.sign_in(on.receiver)
    for zone in ("Asia/Tokyo", ZONE, "UTC"):
        if zone != "Asia/Tokyo":
            page = reader.driver.find_element(By.TAG_NAME, "html")
            Select(reader.driver.find_element(By.CSS_SELECTOR, "[data-zones] select")).select_by_value(zone)
            reader.leave(page)
        reader.open(f"{on.receiver}/ui/calls")
        reader.sees(f"Times: {zone}")
        shown = reader.driver.find_element(By.CSS_SELECTOR, "main time")
        at = datetime.fromisoformat(shown.get_attribute("datetime") or "").astimezone(ZoneInfo(zone))
        assert f"{at:%H:%M}" in shown.text or f"{at:%I:%M}" in shown.text, (at, shown.text)
    reader.open(f"{on.receiver}/ui/act/suppress")
    reader.sees("Times: UTC")
    assert not reader.driver.find_elements(By.CSS_SELECTOR, "[data-zones] select"), "a choice would lose what is typed"


def test_what_a_reader_has_marked_stays_while_the_page_follows_the_store(on: Stage, reader: Reader) -> None:
    on.campaign(400)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/batches/campaign?queue=default")
    reader.sees("400 wait: no worker of queue default runs")
    link = reader.driver.find_element(By.PARTIAL_LINK_TEXT, "waiting")
    reader.script("arguments[0].focus(); window.before = arguments[0]; window.opened = performance.timeOrigin", link)
    with on.worker("--rate", "20"):
        reader.sees("being called")
        reader.sees("answered")
        assert reader.script("return performance.timeOrigin === window.opened"), "the page was not loaded again"
        assert reader.script("return document.activeElement === window.before"), "the focus stays where it was"
        assert "waiting" in link.text, "and on the same thing, beside new ones"
    reader.driver.find_element(By.XPATH, "//button[normalize-space()='Stop updates']").click()
    reader.sees("Not updated", "Update again")


def test_a_call_leads_back_to_where_one_came_from_and_an_ended_sign_in_is_named(on: Stage, reader: Reader) -> None:
    on.campaign(3)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/calls?batch=campaign&who=customer+2")
    reader.sees("Nobody is being called; 3 wait: no worker of queue default runs.")
    on.run("hold", "--note", "a wrong date")
    reader.sees("On hold: Nobody is being called; 3 wait behind the hold.")  # and the page was not loaded again
    on.run("resume")
    reader.link("+6580000002").click()
    reader.sees("This call")
    reader.link("Cancel").click()
    reader.press("Cancel the call")
    reader.sees("cancelled")
    reader.link("Back to Calls").click()
    reader.sees("Name, number, cell or answer")
    assert [each.text for each in reader.driver.find_elements(By.CSS_SELECTOR, "td.first")] == ["+6580000002"]
    reader.driver.delete_all_cookies()
    reader.sees("Your sign-in has ended. Sign in again")
    assert "No answer from the receiver" not in reader.text
