"""`direct.py RUNTIME PROGRAM [ARGS…]`: runs one program as an armed child does, without a sandbox.

Any Python from 3.9 on runs this file.
"""

import os
import sys

runtime, path = sys.argv[1:3]
sys.path[0] = runtime

from sandbox_runtime import program  # noqa: E402

program.PATH, program.WORKSPACE = path, os.path.dirname(path)
sys.path[0] = program.WORKSPACE
sys.argv[:] = sys.argv[2:]
if hasattr(sys, "orig_argv"):
    sys.orig_argv = [sys.executable, *sys.argv]
with open(path, "rb") as file:
    source = file.read()


def received():
    try:
        return program.compiled(source, echo=False)
    except Exception:
        os.execv(sys.executable, [sys.executable, *sys.argv])


program.open_standard_streams()
to_run = program.Program(received, lambda status, limits: None)
for name in [name for name in sys.modules if name.startswith("sandbox_runtime")]:
    del sys.modules[name]
program.run_when_the_stack_is_empty(to_run)
del to_run
