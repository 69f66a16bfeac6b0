"""Entry of the launcher's two programs: `python start.py keeper|science RUNTIME FACTS LEFT_OUT [CONTROL]`.

RUNTIME is the folder of `sandbox_runtime`, FACTS and LEFT_OUT are JSON (`pool/local/launch.py`). Our packages are
loaded by their folders and nothing is put on `sys.path`: beside an installed `sandbox_runtime` lie the service's
packages, which are not the programs'. This module's is the last frame of ours when a program starts.
"""

import sys

BARE_MODULES = frozenset(sys.modules)  # before anything is imported

import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name: str, folder: str) -> None:
    place = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, place, submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is not there: the installation is broken")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


sys.path[:] = [path for path in sys.path if path != HERE]
load("sandbox_runtime", sys.argv[2])
load("launcher", HERE)

from launcher import keeper, science  # type: ignore[import-not-found]  # noqa: E402  # there only now

from sandbox_runtime import program  # noqa: E402

facts, left_out = json.loads(sys.argv[3]), frozenset(json.loads(sys.argv[4]))
if sys.argv[1] == "keeper":
    keeper.main(facts, left_out)
to_run = science.main(int(sys.argv[5]), facts, left_out, BARE_MODULES)
program.run_when_the_stack_is_empty(to_run)
del to_run
