"""A headless Chromium for tests of the dashboard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WAIT_S = 15.0


class Chromium:
    """A browser with one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def look_like(self, width: int, height: int, theme: str = "light", scale: int = 1) -> None:
        """Take a screen's size, in CSS pixels of `scale` pixels each, and its "light" or "dark" theme."""
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        wanted = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def cut_off(self, *patterns: str) -> None:
        """Fail every request whose address matches, as if the server were gone; none: fail no more."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": list(patterns)})

    def run(self, script: str, *arguments: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def fill(self, selector: str, text: str) -> None:
        box = self.driver.find_element(By.CSS_SELECTOR, selector)
        box.clear()
        box.send_keys(text)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def wait(self, is_true: Callable[[], object], what: str) -> None:
        """Wait until it is true; fail saying what was awaited, and what the page shows."""
        end = time.monotonic() + _WAIT_S
        while not is_true():
            if time.monotonic() > end:
                pytest.fail(f"{what} within {_WAIT_S:g} s; the page shows:\n{self.text('body')}\n{self.complaints()}")
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A started browser; fails the test, saying what to install, where there is none."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.fail("this test needs Chromium and chromedriver; run tests/browser/install.sh, or install both by hand")
    options = Options()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Chromium(started)
    finally:
        started.quit()
