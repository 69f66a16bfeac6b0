"""Where the image's environment has programs and libraries looked for. Pure, but for links that are followed.

SECURITY: a channel to a session is a Python that is exec'd beside living guests, with that environment, and its first
words are the session's token. What it loads from a place where a guest can write runs as the guest likes
(tests/unit/test_search_paths.py).
"""

from __future__ import annotations

import os
import re

from sandbox_runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FOLDERS = {"PATH": ":", "LD_LIBRARY_PATH": "[:;]"}
"""With what stands between their elements. An empty element is the working directory."""

_FILES = {"LD_PRELOAD": "[: ]", "LD_AUDIT": ":"}
"""Here an empty element is none, and a bare name is looked for in the folders."""


def refusal(environment: Mapping[str, str]) -> str | None:
    """Why no sandbox is made of this image, for whoever has built it; None where all is well."""
    for name, element in _elements(environment):
        if not os.path.isabs(element):
            return f"{name} of the image has the element {element!r}, which is no absolute path: {_WHY}"
        if _is_writable(os.path.normpath(element)) or _is_writable(os.path.realpath(element)):
            return f"{name} of the image has the element {element!r}, where programs can write: {_WHY}"
    return None


_WHY = "what a program leaves there would be run by the service's own processes. Set it otherwise."


def _elements(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, between in _FOLDERS.items():
        if environment.get(name):
            yield from ((name, each) for each in re.split(between, environment[name]))
    for name, between in _FILES.items():
        yield from ((name, each) for each in re.split(between, environment.get(name, "")) if "/" in each)


def _is_writable(path: str) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places.WRITABLE)
