"""Takes the pictures of the dashboard in docs: python -m tests.browser.pictures BUNDLE"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.browser.chromium import Chromium, chromium
from tests.server.running_server import running_server

DOCS = Path(__file__).parents[2] / "docs"
# Longer than the page takes to ask, draw, and draw again after a change of its size.
_SETTLE_S = 2.5


def take(browser: Chromium, name: str, width: int, theme: str, height: int | None = None, scale: int = 1) -> None:
    """Write one picture. height: of its upper part alone; None = the whole page. scale: pixels per CSS pixel"""
    browser.look_like(width, 900, theme)
    time.sleep(_SETTLE_S)
    tall = height or browser.run("return document.documentElement.scrollHeight")
    browser.look_like(width, tall, theme, scale)
    time.sleep(_SETTLE_S)
    picture = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    (DOCS / name).write_bytes(base64.b64decode(picture))


def main(bundle: str) -> None:
    """Serve the bundle, make a load, and take all pictures."""
    with running_server(bundle) as server, chromium() as browser, tempfile.TemporaryDirectory() as out:

        def load(connections: int, seconds: float) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "ridgeline_bench", server.url, "--no-plot", "--out", out]
            load = ["--concurrency", str(connections), "--duration", str(seconds)]
            return subprocess.Popen([*command, *load], stdout=subprocess.DEVNULL)

        browser.look_like(1280, 900)
        browser.driver.get(server.url)
        steady = load(6, 50)
        time.sleep(8)
        peak = load(20, 10)
        time.sleep(20)
        browser.click("#trial button")
        take(browser, "dashboard-light.png", 1280, "light")
        take(browser, "dashboard-dark.png", 1280, "dark")
        take(browser, "dashboard-phone.png", 360, "light", height=1180, scale=2)
        assert (peak.wait(), steady.wait()) == (0, 0)


if __name__ == "__main__":
    main(sys.argv[1])
