"""Somebody in front of a browser."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.console.signing_in import OPERATORS
from tests.support.waiting import wait_until

PHONE = 375


def _is_gone(page: WebElement) -> bool:
    try:
        page.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:
        # Said while the next page takes the place of this one.
        if "does not belong to the document" in (error.msg or ""):
            return True
        raise
    return False


@dataclass
class Reader:
    """Somebody who opens pages, fills in forms, and reads."""

    driver: webdriver.Chrome

    def open(self, address: str) -> None:
        self.driver.get(address)

    @property
    def text(self) -> str:
        """All that is to be read, with what is folded away."""
        return " ".join(str(self.script("return document.body.textContent")).split())

    def script(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def sees(self, *texts: str) -> None:
        """Wait until the page shows these texts: it may be on its way, or follow the store by itself."""
        wait_until(lambda: all(text in self.text for text in texts), lambda: f"{texts} in {self.text}", within=60)

    def fill(self, **typed: str) -> None:
        for name, text in typed.items():
            field = self.field(name)
            self.script(
                "for (let at = arguments[0]; (at = at.parentElement.closest('details')); ) at.open = true", field
            )
            if field.tag_name == "select":
                Select(field).select_by_value(text)
            else:
                field.clear()
                field.send_keys(text)

    def link(self, text: str) -> WebElement:
        return self.driver.find_element(By.XPATH, f"//main//a[normalize-space()='{text}']")

    def more(self) -> None:
        """Open what is rare among the actions of a page."""
        self.click(self.driver.find_element(By.CSS_SELECTOR, "details.rare > summary"))

    def click(self, element: WebElement) -> None:
        """Click what may lie below the window, or behind the bar of a phone."""
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def go(self, element: WebElement) -> None:
        """Click, and wait for the page behind it."""
        page = self.driver.find_element(By.TAG_NAME, "html")
        self.click(element)
        self.leave(page)

    def press(self, text: str) -> None:
        """Press the button of a form, and wait for the page behind it."""
        self.go(self.driver.find_element(By.XPATH, f"//main//form//button[normalize-space()='{text}']"))

    def send(self, value: str) -> None:
        """Press that button of the form of a campaign which is seen, and wait for the page behind it."""
        found = self.driver.find_elements(By.CSS_SELECTOR, f"button[name=do][value={value}]:not(.unseen)")
        self.go(next(each for each in found if each.is_displayed()))

    def field(self, name: str) -> WebElement:
        """The field with this name that a person can see."""
        return self.driver.find_element(By.CSS_SELECTOR, f"[name='{name}']:not([type=hidden])")

    def leave(self, page: WebElement) -> None:
        """Wait until another page is there."""
        wait = WebDriverWait(self.driver, 60, poll_frequency=0.02)
        wait.until(lambda _: _is_gone(page))
        wait.until(lambda _: self.script("return document.readyState === 'complete'"))

    def sign_in(self, address: str, *, secret: str = OPERATORS, name: str = "Mary Tan") -> None:
        self.open(f"{address}/ui")
        self.fill(name=name, secret=secret)
        self.press("Sign in")
        self.console()  # that the first page asked for the sign-in (401) stands there

    def console(self) -> list[str]:
        """What the console says that is wrong, since it was last read."""
        logs: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [each["message"] for each in logs if each["level"] in {"SEVERE", "WARNING"}]

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, text: str) -> None:
        """Press the tabulator until a link, a button or a field with this text or name has the focus, and is seen."""
        seen: list[str] = []
        for _ in range(60):
            self.keys(Keys.TAB)
            focused = self.driver.switch_to.active_element
            words = "" if focused.tag_name == "select" else " ".join(focused.text.split())
            seen.append(words or focused.get_dom_attribute("name") or "")
            if seen[-1] == text:
                outline = focused.value_of_css_property("outline-style")
                assert outline != "none", f"{text} has the focus, and nothing shows it"
                return
        raise AssertionError(f"the tabulator never came to {text!r}, but to {seen}")

    def as_on_a_phone(self) -> None:
        self.shown_as(theme="light", width=PHONE)

    def shown_as(self, *, theme: str, width: int) -> None:
        """Show all that follows in light or dark, in a window of this width; a narrow one is a phone's."""
        is_phone = width < 600
        size = {"width": width, "height": 740 if is_phone else 900, "deviceScaleFactor": 1 + is_phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "mobile": is_phone})
        scheme = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    @property
    def width(self) -> int:
        """How wide the page is, in pixels: more than the window makes people scroll sideways."""
        return int(self.script("return document.documentElement.scrollWidth"))


AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(reader: Reader) -> dict[str, list[str]]:
    """What axe-core finds on the page that is open, by its rule: the elements."""
    reader.script("window.fetch = () => new Promise(() => {})")  # the page stands still while it is looked at
    reader.driver.set_script_timeout(300)
    reader.script(AXE)
    found: dict[str, Any] = reader.driver.execute_async_script(
        "axe.run(document).then(arguments[arguments.length - 1])"
    )
    assert {"html-has-lang", "color-contrast"} <= {each["id"] for each in found["passes"] + found["violations"]}
    return {
        f"{each['id']} ({each['impact']})": [node["html"][:160] for node in each["nodes"]]
        for each in found["violations"]
    }
