"""A headless Chromium for tests and pictures, and access to a page's canvas, console and requests."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb"
).split()

READ_CANVAS = """
const canvas = document.querySelectorAll(arguments[0])[arguments[1]];
const copy = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height});
const context = copy.getContext('2d', {willReadFrequently: true});
context.drawImage(canvas, 0, 0);
const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
let text = '';
for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
return [canvas.width, canvas.height, btoa(text)];
"""


class Page:
    """One open page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, size: tuple[int, int] = (1280, 1000)) -> None:
        """Opens a file and waits until its first case is drawn; forgets what earlier pages logged."""
        self.console()
        self.requests()
        self.driver.set_window_size(*size)
        self.driver.get(path.as_uri())
        self.wait("return document.querySelectorAll('#words li[aria-selected=true]').length > 0")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10, poll_frequency=0.02).until(lambda driver: driver.execute_script(script))

    def text(self, css: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", css)

    def texts(self, css: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", css)

    def select(self, name: str, value: Any) -> None:
        """Chooses an option as a reader does."""
        raw = value if name in ("limits", "colours", "case", "first", "second") else json.dumps(value)
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "if (e.value !== arguments[1]) throw new Error(`no option ${arguments[1]} of ${arguments[0]}`);"
            "e.dispatchEvent(new Event('change', {bubbles: true}))",
            name,
            raw,
        )

    def click(self, css: str) -> None:
        self.driver.find_element("css selector", css).click()

    def keys(self, *keys: str) -> None:
        """Types at whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def canvas(self, css: str = "canvas.map", index: int = 0) -> np.ndarray:
        """The pixels [h w 3] of a canvas."""
        width, height, data = self.run(READ_CANVAS, css, index)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 3)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that the page requested since the last call, without data URLs."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [
            event["params"]
            for event in events
            if event["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        ]
        urls = [params["request"]["url"] if "request" in params else params["url"] for params in sent]
        return [url for url in urls if not url.startswith("data:")]

    def save(self, path: Path) -> None:
        """Saves what the window shows as a PNG."""
        with Image.open(io.BytesIO(self.driver.get_screenshot_as_png())) as shot:
            path.parent.mkdir(parents=True, exist_ok=True)
            shot.convert("RGB").save(path, "PNG", optimize=True)


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """Opens Chromium with an empty profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get("about:blank")  # ends the browser's own first page, whose requests no test must count
        yield Page(driver)
    finally:
        driver.quit()
