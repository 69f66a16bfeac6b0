"""Programs for the differential test, read from `programs/*.txt`: their format is in `programs/README.md`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "programs"


class Sample(msgspec.Struct, kw_only=True, frozen=True):
    """One program, and what it is given."""

    topic: str
    title: str
    code: str
    stdin: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return f"{self.topic}: {self.title}"


def read_all() -> list[Sample]:
    """All programs of the folder, by topic."""
    return [sample for path in sorted(FOLDER.glob("*.txt")) for sample in _samples(path)]


def _samples(path: Path) -> Iterator[Sample]:
    # Not splitlines: a form feed or U+2028 is a part of a program's line.
    for text in path.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
        title, _, rest = text.partition("\n")
        code, *parts = f"\n{rest}".split("\n--- ")
        yield _sample(path.stem, title, _trimmed(code), parts)


def _sample(topic: str, title: str, code: str, parts: list[str]) -> Sample:
    stdin: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in parts:
        head, _, text = part.partition("\n")
        kind, *words = shlex.split(head)
        if kind == "stdin":
            stdin = _trimmed(text)
        elif kind == "args":
            args += words
        elif kind == "env":
            env |= dict(word.split("=", 1) for word in words)
        else:
            files[words[0]] = _trimmed(text).encode()
    return Sample(topic=topic, title=title, code=code, stdin=stdin, args=tuple(args), env=env, files=files)


def _trimmed(text: str) -> str:
    return text.strip("\n") + "\n"
