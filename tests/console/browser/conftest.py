"""A Chromium of the system, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import Stage, stage

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,900", "--no-proxy-server",
    "--disable-dev-shm-usage",  # containers give 64 MB there, which is too little for a page
)  # fmt: skip


@contextmanager
def chromium_in(folder: Path) -> Iterator[webdriver.Chrome]:
    """A Chromium with a profile of its own, which keeps its console."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("there is no Chromium to test the pages in (on Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        driver = webdriver.Chrome(options=options, service=Service(DRIVER, env={**os.environ, "HOME": str(folder)}))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="session")
def _chromium_starts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips, with Chromium's own words, where it is installed and cannot run."""
    try:
        with chromium_in(tmp_path_factory.mktemp("first")) as driver:
            driver.get("about:blank")
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start here: {error.msg}")


@pytest.fixture
def reader(tmp_path: Path, _chromium_starts: None) -> Iterator[Reader]:
    """Somebody in front of a browser."""
    with chromium_in(tmp_path / "profile") as driver:
        yield Reader(driver)


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Stage]:
    """A receiver with pages, a sandbox and their store."""
    with stage(tmp_path, ui_secret=READERS, ui_operator_secret=OPERATORS) as stage_of_it:
        yield stage_of_it
