"""The folder for files: ours, or refused with a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.setting_values import SettingsError
from broker.storage import open_storage


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_storage(None, str(folder))
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "data", folder / "meta")] == [0o700] * 3


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp, where anybody can make what they like."""
    tmp_path.chmod(0o1777)
    return tmp_path


def test_in_a_shared_place_a_link_or_a_folder_that_others_may_write_is_refused(shared: Path) -> None:
    real, link = shared / "real", shared / "link"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    with pytest.raises(SettingsError, match="link"):
        open_storage(None, str(link))
    real.chmod(0o777)
    with pytest.raises(SettingsError, match="others may write"):
        open_storage(None, str(real))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_in_a_shared_place_another_users_folder_is_refused(shared: Path) -> None:
    folder = shared / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(SettingsError, match="12345"):
        open_storage(None, str(folder))


def test_a_mounted_volume_may_belong_to_a_group(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o2775)
    assert open_storage(None, str(folder)).folder == folder


@pytest.mark.parametrize("path", ["/proc/x", "/dev/null"])
def test_what_can_be_no_folder_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=f"FILE_STORAGE_DIR={path}"):
        open_storage(None, path)


def test_an_url_without_a_bucket_is_refused() -> None:
    with pytest.raises(SettingsError, match="BROKER_FILE_STORAGE_URL"):
        open_storage("s3://", "unused")
