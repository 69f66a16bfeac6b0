"""`/docs` in a real browser: it shows the whole API, and tries a call, with nothing from elsewhere."""

from __future__ import annotations

import pytest

from broker.operations import OPERATIONS
from tests.browser.chromium import Page
from tests.http_service import Running

pytestmark = pytest.mark.slow


async def test_every_operation_is_shown_with_its_answers(page: Page, service: Running) -> None:
    await page.open(f"{service.url}/docs")
    shown = await page.run("[...document.querySelectorAll('article')].map((each) => each.id)")
    assert shown == [each.name for each in OPERATIONS]
    text = await page.run("document.getElementById('execute').textContent")
    for word in ("pool_saturated", "Retry-After", "timeout_ms", "at most 60000", "timings_ms"):
        assert word in text


async def test_a_call_can_be_tried(page: Page, service: Running) -> None:
    await page.open(f"{service.url}/docs")
    await page.run("document.querySelector('#execute details').open = true")
    await page.run("document.querySelector('#execute form').requestSubmit()")
    answer = "document.querySelector('#execute .answer').textContent"
    await page.until(f"{answer}.includes('2432902008176640000')")
    assert (await page.run(answer)).startswith("200 OK")


async def test_it_needs_nothing_from_elsewhere_and_breaks_no_rule_of_its_own(page: Page, service: Running) -> None:
    for path in ("/docs", "/"):
        await page.open(f"{service.url}{path}")
    assert [url for url in page.requested() if not url.startswith((service.url, "about:", "data:"))] == []
    assert page.troubles() == []


@pytest.mark.parametrize("width", [1400, 390])
async def test_it_is_not_wider_than_the_screen(page: Page, service: Running, width: int) -> None:
    await page.look(dark=False, width=width, height=900)
    await page.open(f"{service.url}/docs")
    assert await page.run("document.documentElement.scrollWidth") <= width


def test_it_says_what_there_is_without_a_script(service: Running) -> None:
    text = service.client.get("/docs").text
    assert all(each.path in text for each in OPERATIONS)
    assert "{{" not in text


@pytest.mark.parametrize("path", ["/docs", "/", "/pages/playground.js"])
def test_a_page_forbids_what_it_does_not_need(service: Running, path: str) -> None:
    headers = service.client.get(path).headers
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "nothing.js", "docs.html", "README.md"])
def test_only_files_of_the_pages_are_served(service: Running, name: str) -> None:
    assert service.client.get(f"/pages/{name}").status_code == 404
