"""A headless Chromium, driven over its own debugging protocol: opens a page, runs code in it, takes pictures of it."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS_TO_COME_UP = 120  # on a machine with a cold disk and busy cores
TROUBLE = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class NotUp(RuntimeError):
    """A Chromium that is there but cannot be used."""


def find_chromium() -> str | None:
    """Where Chromium is, as $CHROMIUM or on the path."""
    return os.environ.get("CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One open page; `messages` holds what its console said, and its errors."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self.number = 0
        self.messages: list[str] = []

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """One command, and what it returns."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": values}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self.note(answer)

    def note(self, event: dict[str, Any]) -> None:
        if event.get("method") in TROUBLE:
            self.messages.append(json.dumps(event["params"])[:500])

    def open(self, file: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Load a file as a screen of a width shows it, and wait until it stands."""
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=file.resolve().as_uri())
        for _ in range(100):
            if self.run("document.readyState") == "complete" and self.run("location.protocol") == "file:":
                return
            time.sleep(0.1)
        raise TimeoutError(f"{file} did not load")

    def run(self, code: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def point_at(self, selector: str) -> None:
        """Scroll an element into view and move the mouse to its middle."""
        code = "const box = document.querySelector(SELECTOR); box.scrollIntoView({behavior: 'instant', block: 'center'}); const {x, y, width, height} = box.getBoundingClientRect(); [x + width / 2, y + height / 2]"
        x, y = self.run(f"{{ {code.replace('SELECTOR', json.dumps(selector))} }}")
        for step in (0, 1):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)

    def wait_for(self, code: str) -> bool:
        """Whether an expression becomes true within some seconds."""
        for _ in range(60):
            if self.run(code):
                return True
            time.sleep(0.1)
        return False

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def printed(self, file: Path) -> None:
        """The page on paper, as PDF."""
        file.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """A page of a fresh Chromium, which is closed at the end.

    Raises:
        NotUp: it ended or did not listen in time; what it printed last.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
        ]
        command = [program, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        with (Path(profile) / "printed").open("w") as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=printed)
        try:
            yield Page(page_address(Path(profile), process))
        finally:
            process.terminate()
            process.wait(timeout=20)


def page_address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the page listens; Chromium writes its port into its profile once it is up."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    given_up = time.monotonic() + SECONDS_TO_COME_UP
    while process.poll() is None and time.monotonic() < given_up:
        try:
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            with direct.open(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
                return next(str(target["webSocketDebuggerUrl"]) for target in json.load(answer) if target["type"] == "page")
        except (OSError, IndexError, StopIteration):
            time.sleep(0.1)
    raise NotUp(f"Chromium did not come up: {(profile / 'printed').read_text(errors='replace')[-300:]}")
