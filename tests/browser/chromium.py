"""A real browser without a window, driven over the Chrome DevTools protocol: Debian's chromium and aiohttp, no more."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
START_SECONDS = 60.0
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]


class PageError(AssertionError):
    """A script of the test's threw."""


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.said: list[dict[str, Any]] = []
        """Events of the protocol, as they came: requests, errors of scripts, what the policy refused."""

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self.said.append(message)

    async def prepare(self) -> None:
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.documentElement?.dataset.ready === 'yes'")

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise's when it is kept."""
        found = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            # What a test tries must meet the page's own policy.
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in found:
            raise PageError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    async def until(self, script: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true; fail with what the page says when it does not become so."""
        with anyio.move_on_after(seconds):
            while not await self.run(f"Boolean({script})"):  # noqa: ASYNC110  # a page tells of nothing
                await anyio.sleep(0.02)
            return
        raise PageError(
            f"not within {seconds:.0f} s: {script}; the page says: {await self.run('document.body.innerText')}"
        )

    async def press(self, key: str, *, text: str = "", control: bool = False, shift: bool = False) -> None:
        modifiers = 2 * control + 8 * shift
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **fields)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def write(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def look(self, *, dark: bool, width: int, height: int) -> None:
        scheme = "dark" if dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def screenshot(self) -> bytes:
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def requested(self) -> list[str]:
        sent = [each["params"] for each in self.said if each["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]

    def troubles(self) -> list[str]:
        """What the browser complained about: errors of scripts, breaches of the policy, files that were not there."""
        thrown = [each for each in self.said if each["method"] == "Runtime.exceptionThrown"]
        logged = [each for each in self.said if each["method"] == "Log.entryAdded"]
        return [json.dumps(each)[:600] for each in (*thrown, *logged)]


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Page]:
    """A browser with a profile of its own, which ends with the context."""
    assert PROGRAM
    profile = folder / "profile"
    process = await anyio.open_process(
        [PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(folder),
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (tab,) = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.prepare()
                yield page
    finally:
        # Its own group: renderers and helpers go with it.
        os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


def _environment(folder: Path) -> dict[str, str]:
    """No proxy, no settings and no session of whoever runs the tests."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}


async def _port(told: Path) -> str:
    """The one that it took: it writes the number to a file, and below it a path."""
    file, text = anyio.Path(told), ""
    with anyio.fail_after(START_SECONDS):
        while "\n" not in text:
            await anyio.sleep(0.02)
            text = await file.read_text() if await file.exists() else ""
    return text.splitlines()[0]
