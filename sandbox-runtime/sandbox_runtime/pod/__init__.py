"""The runtime in a container: zygote and supervisor are started by others, and find each other by name."""

from __future__ import annotations

ZYGOTE_NAME = "\0code-interpreter/zygote"
SUPERVISOR_NAME = "\0code-interpreter/supervisor"
"""Abstract: a name that is bound cannot be taken, and a path in /tmp can. They live in the pod's network namespace."""

TITLE = "code-interpreter"
FOLDER = "/opt/code-interpreter"
FONT_LISTS = FOLDER + "/matplotlib"
