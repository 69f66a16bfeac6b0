"""A browser, and a service for it. The browser lives for a test: what one leaves open, another does not meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import PROGRAM, Page, chromium
from tests.http_service import Running, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    if PROGRAM is None:
        pytest.skip("there is no chromium here; on Debian: apt-get install chromium")
    async with chromium(tmp_path) as found:
        yield found


class Playground:
    """What a person does there."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    async def open(self) -> None:
        await self.page.open(f"{self.url}/")

    async def program(self, code: str) -> None:
        """Typed into the editor in place of what is there."""
        await self.page.run("document.getElementById('code').focus(); document.getElementById('code').select()")
        await self.page.write(code)

    async def run(self, code: str) -> str:
        """By the keyboard. Returns the line that says how it ended."""
        await self.program(code)
        await self.page.press("Enter", control=True)
        await self.ended()
        return await self.state()

    async def ended(self) -> None:
        await self.page.until(
            "document.getElementById('stop').hidden && document.getElementById('state').textContent"
            " && document.getElementById('state').textContent !== 'Running…'"
        )

    async def state(self) -> str:
        return str(await self.page.run("document.getElementById('state').textContent"))

    async def output(self) -> str:
        return str(await self.page.run("document.getElementById('output').textContent"))

    async def value(self, script: str) -> Any:
        return await self.page.run(script)


@pytest.fixture
async def playground(page: Page, service: Running) -> Playground:
    found = Playground(page, service.url)
    await found.open()
    return found
