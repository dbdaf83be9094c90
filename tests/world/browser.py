"""Debian's Chromium, headless, for the tests that look at pages: driven over a pipe, ended by its own process id."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.world.stack import wait_until


def installed() -> str | None:
    """Where it is; None where it is not."""
    return shutil.which("chromium")


class Page:
    """The one page of a browser. Commands are those of the DevTools protocol, each awaited."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out = to_browser
        self._in = os.fdopen(from_browser, "rb")
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []

    def attach(self) -> None:
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                return dict(told["result"])
            self.events.append(told)

    def _next(self) -> dict[str, Any]:
        read = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has ended"
            read += byte
        return dict(json.loads(read))

    def open(self, url: str) -> None:
        """Go there; again where interfaces of this machine came or went meanwhile, at which Chromium gives up."""
        for _ in range(10):
            self.do("Page.navigate", url="about:blank")
            self.events.clear()
            self.do("Page.navigate", url=url)
            wait_until(lambda: self.ask("document.readyState + location.protocol") not in {"", "completeabout:"})
            wait_until(lambda: self.ask("document.readyState") == "complete")
            if "ERR_NETWORK_CHANGED" not in json.dumps(self.events):
                return

    def ask(self, expression: str) -> Any:
        """What a piece of JavaScript says, run as a person would at the console."""
        told = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def look(self, *, width: int = 1200, height: int = 900, dark: bool = False, media: str = "") -> None:
        """The screen: its size, its colours, and the medium, `print` or the screen's own."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("Emulation.setEmulatedMedia", media=media, features=scheme)
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def picture(self, path: Path) -> Path:
        shot = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(shot))
        return path

    def complaints(self) -> list[str]:
        """What the console, the network and the content policy had to say."""
        self.ask("0")
        found = [json.dumps(told) for told in self.events if told.get("method") == "Log.entryAdded"]
        return found + [json.dumps(told) for told in self.events if told.get("method") == "Runtime.exceptionThrown"]

    def requests(self) -> list[str]:
        """The addresses that were asked for, the page's own first."""
        told = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in told]


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    program = installed()
    assert program is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(prefix="pipeline-browser-", ignore_cleanup_errors=True) as home:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"]
        command += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
        # Nothing but this machine: luigid's page asks for fonts from elsewhere.
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={home}"]
        # The protocol is spoken on descriptors 3 and 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium", *command]
        process = subprocess.Popen(
            shell,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        page = Page(ours_out, ours_in)
        try:
            page.attach()
            yield page
        finally:
            os.close(ours_out)  # with its pipe the browser ends
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait(10)
            page._in.close()
