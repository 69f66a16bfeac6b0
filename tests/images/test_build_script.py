"""What `images/build.sh` asks docker or buildah to do, told by programs of those names that only take notes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.source_tree import ROOT

SCRIPT = ROOT / "images" / "build.sh"
TAKES_NOTES = '#!/bin/sh\n[ "$1" != version ] || exit {status}\necho "{name} $*" >>"$NOTES"\n'


class Builders:
    """A PATH with docker, whose engine answers or does not, or buildah, or both."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._notes = folder / "bin", folder / "notes"
        self._folder.mkdir()
        for tool in ("sh", "sed", "awk", "dirname"):
            (self._folder / tool).symlink_to(f"/usr/bin/{tool}")

    def have(self, name: str, engine: bool = True) -> None:
        path = self._folder / name
        path.write_text(TAKES_NOTES.format(name=name, status=0 if engine else 1))
        path.chmod(0o755)

    def build(self, *images: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self._folder), "NOTES": str(self._notes), **variables}
        return subprocess.run([SCRIPT, *images], env=environment, capture_output=True, text=True, timeout=20)

    def told(self) -> list[str]:
        """The builds; what was asked about sizes is of no interest."""
        return [line for line in self._notes.read_text().splitlines() if " build " in line]


@pytest.fixture
def builders(tmp_path: Path) -> Builders:
    if not all(os.path.exists(f"/usr/bin/{tool}") for tool in ("sh", "sed", "awk", "dirname")):
        pytest.skip("this machine gives no /usr/bin/sh")
    return Builders(tmp_path)


def test_builds_both_with_docker(builders: Builders):
    builders.have("docker")
    builders.have("buildah")
    assert builders.build().returncode == 0
    service, executor = builders.told()
    assert service.startswith("docker build ")
    assert "--tag code-interpreter/service:0.1.0 --file Dockerfile ." in service
    assert "--tag code-interpreter/executor:0.1.0 --file sandbox-runtime/Dockerfile ." in executor
    assert "BASE" not in service
    assert "secret" not in service


def test_docker_without_an_engine_does_not_count(builders: Builders):
    builders.have("docker", engine=False)
    builders.have("buildah")
    assert builders.build("service").returncode == 0
    [service] = builders.told()
    assert service.startswith("buildah build ")


def test_without_a_builder_it_says_so(builders: Builders):
    builders.have("docker", engine=False)
    done = builders.build()
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install buildah" in done.stderr


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_hands_on_what_it_was_told(builders: Builders, builder: str):
    builders.have(builder)
    done = builders.build(
        "executor",
        BASE="mirror/python:3.12",
        REPOSITORY="mine",
        TAG="7",
        CA="/ca file.pem",
        BUILD_ARGS="--pull --no-cache",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine/executor:7 ")
    [executor] = builders.told()
    for words in ("--build-arg BASE=mirror/python:3.12", "--secret id=ca,src=/ca file.pem", "--pull --no-cache"):
        assert f" {words} " in executor


@pytest.mark.parametrize(("arguments", "builder", "status"), [(["sidecar"], "docker", 2), (["service"], "podman", 1)])
def test_a_wrong_word_is_a_sentence(builders: Builders, arguments: list[str], builder: str, status: int):
    builders.have("docker")
    done = builders.build(*arguments, BUILDER=builder)
    assert done.returncode == status
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().endswith((".", "buildah"))
