"""The playground in a real browser: what a person does there, with and without a mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import to_thread

from tests.browser.chromium import Page
from tests.browser.conftest import Playground
from tests.fakes.supervisor import shut
from tests.http_service import Running, faulty, running

pytestmark = pytest.mark.slow
LOW_CONTRAST = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  const light = (text) => channels(text).slice(0, 3).map((c) => linear(c / 255))
    .reduce((sum, c, index) => sum + c * [.2126, .7152, .0722][index], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (channels(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (one, other) => (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
  return [...document.querySelectorAll("body *")]
    .filter((each) => each.checkVisibility() && each.innerText?.trim() && !each.disabled && !each.closest(":disabled"))
    .filter((each) => contrast(light(getComputedStyle(each).color), light(ground(each))) < 4.5)
    .map((each) => `${each.tagName}.${each.className} ${each.innerText.slice(0, 30)}`);
})()
"""
EDITOR = "document.getElementById('code').value"


async def test_a_program_runs_and_its_output_is_shown(playground: Playground) -> None:
    assert await playground.run("print('hello'); 1/0") == "Exited with 1 after 1.0 ms"
    assert await playground.output() == "hello\nZeroDivisionError: division by zero\n"
    assert await playground.value("document.querySelector('#output .stderr').textContent.startsWith('ZeroDivision')")


async def test_timings_name_each_phase(playground: Playground) -> None:
    await playground.run("print(1)")
    parts = await playground.value("[...document.querySelectorAll('#legend span')].map((each) => each.textContent)")
    assert [part.split()[0] for part in parts] == ["queue", "lease", "stage", "run", "collect"]
    assert all(part.endswith(" ms") for part in parts)


async def test_the_pool_is_shown_live(playground: Playground) -> None:
    text = "document.getElementById('pool-text').textContent"
    await playground.page.until(f"{text}.startsWith('2 ready · 0 running · 0 waiting')")
    assert await playground.value("document.querySelectorAll('#slots .ready').length") == 2


async def test_a_file_that_a_program_made_can_be_given_to_the_next(playground: Playground) -> None:
    await playground.run("f = open('table.csv', 'w'); f.write('a,b'); f.close()")
    await playground.value("document.querySelector('#outputs button:last-child').click()")
    assert "table.csv" in await playground.value("document.getElementById('inputs').textContent")
    await playground.run("print(open('table.csv').read())")
    assert await playground.output() == "a,b\n"


async def test_a_file_is_uploaded(playground: Playground) -> None:
    await playground.value(
        "(() => { const all = new DataTransfer(); all.items.add(new File(['seven'], 'in.txt'));"
        " const input = document.getElementById('upload'); input.files = all.files;"
        " input.dispatchEvent(new Event('change')); })()"
    )
    await playground.page.until("document.querySelectorAll('#inputs li').length === 1")
    await playground.run("print(open('in.txt').read())")
    assert await playground.output() == "seven\n"


async def test_standard_input_reaches_the_program(playground: Playground) -> None:
    await playground.value("document.getElementById('stdin').value = 'typed\\n'")
    await playground.run("print(input())")
    assert await playground.output() == "typed\n"


async def test_a_refusal_is_a_sentence(playground: Playground) -> None:
    await playground.value(
        "document.getElementById('timeout').append(Object.assign(document.createElement('option'), {value: '99999'}))"
    )
    await playground.value("document.getElementById('timeout').value = '99999'")
    assert await playground.run("print(1)") == "422: timeout_ms exceeds maximum of 60000 ms"


@pytest.fixture
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose programs do not end by themselves."""
    with running(tmp_path_factory.mktemp("endless"), faulty(shut)) as found:
        yield found


async def test_stop_ends_the_run_and_its_sandbox(endless: Running, page: Page) -> None:
    playground = Playground(page, endless.url)
    await playground.open()
    await playground.program("print(1)")
    await page.press("Enter", control=True)
    await page.until("!document.getElementById('stop').hidden")
    await to_thread.run_sync(endless.until, lambda: endless.service.pool.snapshot().in_flight == 1)
    await page.run("document.getElementById('stop').click()")
    await playground.ended()
    assert (await playground.state()).startswith("Stopped")
    await to_thread.run_sync(endless.until_idle)


# --- by keyboard ----------------------------------------------------------------------------


async def test_tab_indents_and_enter_keeps_the_indentation(playground: Playground) -> None:
    await playground.program("if True:")
    await playground.page.press("Enter")
    await playground.page.write("x = 1")
    await playground.page.press("Enter")
    await playground.page.press("Tab")
    await playground.page.write("y")
    assert await playground.value(EDITOR) == "if True:\n    x = 1\n        y"
    await playground.page.press("Tab", shift=True)
    assert await playground.value(EDITOR) == "if True:\n    x = 1\n    y"
    assert await playground.value("document.getElementById('numbers').textContent") == "1\n2\n3"


async def test_numbers_stand_beside_their_lines(playground: Playground) -> None:
    await playground.program("\n".join("line" for _ in range(200)))
    await playground.value("document.getElementById('code').scrollTop = 900")
    await playground.page.until("document.getElementById('numbers').scrollTop === 900")
    styles = [
        await playground.value(
            f"(({{fontFamily, fontSize, lineHeight, paddingTop}}) => [fontFamily, fontSize, lineHeight,"
            f" paddingTop])(getComputedStyle(document.getElementById('{name}')))"
        )
        for name in ("code", "numbers")
    ]
    assert styles[0] == styles[1]
    assert "monospace" in styles[0][0]


async def test_selected_lines_are_indented_together_and_undo_takes_it_back(playground: Playground) -> None:
    await playground.program("a\n\nb")
    await playground.value("document.getElementById('code').select()")
    await playground.page.press("Tab")
    assert await playground.value(EDITOR) == "    a\n\n    b"
    await playground.value("document.execCommand('undo')")
    assert await playground.value(EDITOR) == "a\n\nb"


async def test_the_keyboard_is_not_caught_in_the_editor(playground: Playground) -> None:
    await playground.program("x")
    await playground.page.press("Escape")
    await playground.page.press("Tab")
    assert await playground.value("document.activeElement.id") == "choose"
    assert await playground.value(EDITOR) == "x"


async def test_every_control_has_a_name(playground: Playground) -> None:
    unnamed = await playground.value(
        "[...document.querySelectorAll('button, select, textarea, input')].filter((each) => each.type !== 'file'"
        " && !each.labels?.length && !each.ariaLabel && !each.textContent.trim()).map((each) => each.outerHTML)"
    )
    assert unnamed == []


# --- where it is allowed --------------------------------------------------------------------


@pytest.mark.parametrize(("width", "dark"), [(1400, True), (1400, False), (390, True), (390, False)])
async def test_nothing_is_wider_than_the_screen_and_text_can_be_read(
    playground: Playground, width: int, dark: bool
) -> None:
    await playground.page.look(dark=dark, width=width, height=900)
    await playground.run("print('x' * 500)")
    assert await playground.value("document.documentElement.scrollWidth") <= width
    assert await playground.value(LOW_CONTRAST) == []


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"playground": "off"}, 404),
        ({"host": "0.0.0.0"}, 404),
        ({"host": "0.0.0.0", "playground": "on"}, 200),
    ],
)
def test_it_is_there_on_a_loopback_address_and_where_it_is_asked_for(
    tmp_path: Path, changed: dict[str, str], status: int
) -> None:
    with running(tmp_path, **changed) as found:
        assert found.client.get("/").status_code == status
        # The other page leads there only if there is something.
        assert ("Playground" in found.client.get("/docs").text) == (status == 200)
