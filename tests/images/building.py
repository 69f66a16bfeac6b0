"""Builds images as `make images` does, and loads them into the node, each unless that has been done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.harness import BASE_IMAGE, CACHE, STATE, Cluster, base_image
from tests.source_tree import ROOT

REPOSITORY = "localhost/code-interpreter"
TAG = "test"
# The tests run in containers too: no file system over another, no namespaces within others.
BUILDAH = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
SHARED_SOURCES = ["images", ".dockerignore", "pyproject.toml", "requirements", "sandbox-runtime"]
SOURCES = {
    "service": [*SHARED_SOURCES, "Dockerfile", "LICENSE", "broker", "client", "pool"],
    "executor": SHARED_SOURCES,
}
LABEL = "built-from"
MARK = "authorities-of-the-machine-that-built-this"


class Images(NamedTuple):
    service: str
    executor: str


IMAGES = Images(f"{REPOSITORY}/service:{TAG}", f"{REPOSITORY}/executor:{TAG}")


def built_and_loaded(cluster: Cluster) -> Images:
    images = built()
    for name in images:
        load(cluster, name)
    return images


@cache
def built() -> Images:
    with alone():
        base_image()
        for kind, name in IMAGES._asdict().items():
            # buildah finds the layers by itself, and takes five seconds to see that there is nothing to do.
            digest = digest_of(SOURCES[kind])
            if inspected(name, f'{{{{index .OCIv1.Config.Labels "{LABEL}"}}}}') != digest:
                build(kind, digest)
    return IMAGES


def build(kind: str, digest: str) -> None:
    with marked_authorities() as file:
        environment = {"BUILDER": "buildah", "BASE": BASE_IMAGE, "REPOSITORY": REPOSITORY, "TAG": TAG, "CA": file}
        run([str(ROOT / "images" / "build.sh"), kind], {**environment, "BUILD_ARGS": f"--label {LABEL}={digest}"})


def build_from(dockerfile: str, name: str, folder: Path) -> None:
    """Build an image that needs nothing but other images."""
    (folder / "Dockerfile").write_text(dockerfile)
    with alone():
        run(["buildah", "build", "--quiet", "--layers", "--tag", name, str(folder)])


def authorities() -> Path | None:
    """Whom this machine trusts: its way to a package index may lead through an authority of its own."""
    named = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    found = Path(named) if named else SYSTEM_AUTHORITIES
    return found if found.is_file() else None


@contextmanager
def marked_authorities() -> Iterator[str]:
    """The same as a file that would be known again; text between certificates is nothing."""
    found = authorities()
    if found is None:
        yield ""
        return
    with tempfile.NamedTemporaryFile("w", prefix="authorities-") as file:
        file.write(f"{found.read_text()}\n{MARK}\n")
        file.flush()
        yield file.name


def digest_of(sources: list[str]) -> str:
    digest = hashlib.sha256(inspected(BASE_IMAGE).encode())
    for top in (ROOT / source for source in sources):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode:o} {content}\n".encode())
    return digest.hexdigest()


def inspected(name: str, what: str = "{{.FromImageID}}") -> str:
    """Nothing when there is no such image."""
    command = ["buildah", "inspect", "--type", "image", "--format", what, name]
    done = subprocess.run(command, env={**os.environ, **BUILDAH}, capture_output=True, text=True)
    return done.stdout.strip()


def load(cluster: Cluster, name: str) -> None:
    """Import an image into the node, unless it has been since the cluster started."""
    with alone():
        identity = inspected(name)
        note = STATE / "loaded" / name.replace("/", "_")
        if note.exists() and note.read_text() == identity:
            return
        with archive_of(name) as archive:
            cluster.load_image(archive)
        note.parent.mkdir(exist_ok=True)
        note.write_text(identity)


@contextmanager
def archive_of(name: str) -> Iterator[Path]:
    archive = CACHE / "images" / "loading.tar"
    try:
        run(["buildah", "push", "--quiet", name, f"oci-archive:{archive}:{name}"])
        yield archive
    finally:
        archive.unlink(missing_ok=True)


@contextmanager
def files_of(name: str) -> Iterator[Path]:
    """The image's root as a folder."""
    container = run(["buildah", "from", name]).strip()
    try:
        yield Path(run(["buildah", "mount", container]).strip())
    finally:
        run(["buildah", "rm", container])


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **BUILDAH, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout


@contextmanager
def alone() -> Iterator[None]:
    """Two sessions at once would build the same layers twice, and write one archive."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "building-images.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
