"""Read golden frames and write them again, with the standard library alone: `python golden_frames.py FOLDER` compares.

The folder is named as its version. Run by any Python that a sandbox's image may have: nothing here is newer than 3.9.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox_runtime import wire

KINDS = {each.kind: each for each in wire.FROM_BROKER | wire.FROM_SANDBOX}


def rewritten(path: Path) -> bytes:
    """The file as the reader understands it and the writer puts it."""
    reader, writer = wire.Reader(frozenset({KINDS[path.stem]})), wire.Writer(int(path.parent.name))
    return b"".join(writer.line(message, run) for run, message in reader.feed(path.read_bytes()))


def main(folder: Path) -> int:
    paths = sorted(folder.glob("*.jsonl"))
    differing = [path.name for path in paths if rewritten(path) != path.read_bytes()]
    print("%d files; differing: %s" % (len(paths), differing))  # noqa: UP031  # the same words on every Python
    return int(bool(differing) or not paths)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
