"""What a coding agent works on."""

from __future__ import annotations

import io
import tarfile


def repository() -> bytes:
    """One with a mistake in it, and a test that finds it."""
    files = {
        "repository/adding.py": b"def add(a, b):\n    return a - b\n",
        "repository/test_adding.py": b"import adding, unittest\nclass T(unittest.TestCase):\n"
        b"    def test(self):\n        self.assertEqual(adding.add(1, 2), 3)\n",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
