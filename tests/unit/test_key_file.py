"""The key file on disk: what is no start, and what a change does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from broker.key_file import MAX_BYTES, KeyFile
from broker.keys import line_for
from broker.setting_values import SettingsError


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    """As careful people and kubelets do it: the whole file at once."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines))
    new.chmod(mode)
    return new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.jsonl", line_for("search", "first"))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_its_owner_and_its_group_may_read_it(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert KeyFile(str(path)).keys.tenant_of("first") == "search"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o666, 0o601])
def test_a_file_that_others_may_read_or_write_is_no_start(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"BROKER_KEYS_FILE={path} cannot be used: others .* 0{mode:o}"):
        KeyFile(str(path))


def test_a_file_that_cannot_be_used_is_no_start(path: Path, tmp_path: Path) -> None:
    missing, empty, pipe = str(tmp_path / "missing"), write(tmp_path / "empty"), tmp_path / "pipe"
    os.mkfifo(pipe)
    large = write(tmp_path / "large", "#" * (MAX_BYTES + 1))
    for unusable, why in [
        (missing, "No such file"),
        (empty, "no key in it"),
        (tmp_path, "Is a directory|no file"),
        (pipe, "no file"),
        (large, "longer than"),
    ]:
        with pytest.raises(SettingsError, match=why):
            KeyFile(str(unusable))


async def test_a_change_holds_at_the_next_look(path: Path) -> None:
    file = KeyFile(str(path))
    write(path, line_for("search", "second"))
    await file.look()
    assert (file.keys.tenant_of("first"), file.keys.tenant_of("second"), file.trouble) == (None, "search", None)


async def test_a_link_that_is_turned_is_a_change(path: Path, tmp_path: Path) -> None:
    # As a cluster brings a Secret: ..data is a link to a folder, and is replaced.
    link, other = tmp_path / "link", write(tmp_path / "other", line_for("chat", "second"))
    link.symlink_to(path)
    file = KeyFile(str(link))
    link.unlink()
    link.symlink_to(other)
    await file.look()
    assert file.keys.tenant_of("second") == "chat"


@pytest.mark.parametrize("broken", ["{", "", "# none", '{"tenant": "x"}'])
async def test_a_file_that_breaks_keeps_the_keys_and_says_so_once(path: Path, broken: str) -> None:
    file = KeyFile(str(path))
    write(path, broken)
    with structlog.testing.capture_logs() as logs:
        await file.look()
        await file.look()
    assert file.keys.tenant_of("first") == "search"
    assert file.trouble is not None
    assert file.trouble.startswith("The key file has changed and cannot be used: ")
    assert [each["event"] for each in logs] == ["keys.broken"]


async def test_a_file_that_goes_or_opens_to_others_keeps_the_keys(path: Path) -> None:
    file = KeyFile(str(path))
    write(path, line_for("search", "second"), mode=0o644)
    await file.look()
    assert "others may read" in str(file.trouble)
    remove(path)
    await file.look()
    assert "No such file" in str(file.trouble)
    assert file.keys.tenant_of("first") == "search"


async def test_what_is_mended_is_forgotten_even_if_nothing_changed_in_the_end(path: Path) -> None:
    file = KeyFile(str(path))
    write(path, "{")
    await file.look()
    write(path, line_for("search", "first"))
    await file.look()
    assert file.trouble is None


async def test_trouble_tells_neither_the_content_nor_the_place(path: Path) -> None:
    file = KeyFile(str(path))
    write(path, line_for("search", "first"), "ci_a-key-by-mistake")
    await file.look()
    assert "mistake" not in str(file.trouble)
    assert str(path) not in str(file.trouble)
