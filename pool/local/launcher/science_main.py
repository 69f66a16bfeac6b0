"""Entry of the science template, run as a script: `python science_main.py RUNTIME FACTS LEFT_OUT CONTROL`.

The only module of ours whose frame a program could ever find below its own; see `program.py`.
"""

import json
import os
import sys

sys.path[0:1] = own_paths = [sys.argv[1], os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from launcher import science  # noqa: E402  # importable only now

from sandbox_runtime import program  # noqa: E402

to_run = science.start(sys.argv[2], own_paths, json.loads(sys.argv[3]))
if to_run is None:
    os._exit(0)
program.run_when_the_stack_is_empty(to_run)
del to_run
