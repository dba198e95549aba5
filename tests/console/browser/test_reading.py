"""The pages in a real browser: the zone of times, and what stays while a page follows the store."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.console.browser.reader import Reader
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

ZONE = "Asia/Singapore"


def in_zone(reader: Reader, zone: str) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})


def test_times_are_in_the_zone_of_the_browser_or_the_one_that_is_chosen(on: Stage, reader: Reader) -> None:
    on.campaign(3)
    in_zone(reader, ZONE)
    reader.sign_in(on.receiver)
    for place, zone in enumerate((ZONE, "UTC", ZONE)):
        if place:
            page = reader.driver.find_element(By.TAG_NAME, "html")
            Select(reader.driver.find_element(By.CSS_SELECTOR, "[data-zones] select")).select_by_value(zone)
            reader.leave(page)
        reader.open(f"{on.receiver}/ui/calls")
        reader.sees(f"Times: {zone}")
        shown = reader.driver.find_element(By.CSS_SELECTOR, "main time")
        at = datetime.fromisoformat(shown.get_attribute("datetime") or "").astimezone(ZoneInfo(zone))
        assert f"{at:%H:%M}" in shown.text or f"{at:%I:%M}" in shown.text, (at, shown.text)
    reader.open(f"{on.receiver}/ui/act/suppress")
    reader.sees(f"Times: {ZONE}")
    assert not reader.driver.find_elements(By.CSS_SELECTOR, "[data-zones] select"), "a choice would lose what is typed"


def test_a_page_follows_the_store_but_leaves_what_is_used_as_it_is(on: Stage, reader: Reader) -> None:
    on.campaign(400)
    reader.sign_in(on.receiver)
    reader.open(f"{on.receiver}/ui/batches/campaign?queue=default")
    reader.sees("400 wait: no worker of queue default runs", "Live")
    reader.script("window.opened = performance.timeOrigin")
    with on.worker("--rate", "20"):
        reader.sees("being called")
        reader.sees("answered")
        assert reader.script("return performance.timeOrigin === window.opened"), "the page was not loaded again"
        link = reader.driver.find_element(By.PARTIAL_LINK_TEXT, "waiting")
        reader.script("arguments[0].focus(); window.before = arguments[0]", link)
        rang = len(on.rang())
        wait_until(lambda: len(on.rang()) > rang + 60, "some seconds")
        assert reader.script("return document.activeElement === window.before"), "the focus stays where it was"
    reader.script("document.activeElement.blur()")
    reader.driver.delete_all_cookies()
    reader.sees("Your sign-in has ended")
    assert "No answer from the receiver" not in reader.text
