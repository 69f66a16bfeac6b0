"""A sandbox has a /tmp of its own; an environment for programs may lie below the host's all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.sandboxes import plan, sandboxes


def test_an_environment_below_tmp_is_there_read_only():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # a sandbox has a uid of its own
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        code = (
            "import os, subprocess, sys\n"
            "print(sys.prefix, subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout)\n"
            "try: open(os.path.join(sys.prefix, 'new'), 'w')\n"
            "except OSError as error: print(error.errno)"
        )
        with sandboxes(plan(programs=folder)) as boxes:
            result = boxes.run(code)
    assert result.stdout == f"{folder} b'1\\n'\n30\n"
