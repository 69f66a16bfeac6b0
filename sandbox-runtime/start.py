"""Entry of the runtime in an image: `start.py zygote FACTS` is a container's command, `start.py supervisor` is exec'd.

FACTS are JSON (`pool/kube/manifest.py`). Our package is loaded by its folder and nothing is put on `sys.path`. This
module's is the last frame of ours when a program starts.
"""

import sys

BARE_MODULES = frozenset(sys.modules)  # before anything is imported

import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name: str) -> None:
    folder = os.path.join(HERE, name)
    place = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, place, submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is not there: the runtime was not copied whole into this image")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


sys.path[:] = [path for path in sys.path if path != HERE]
load("sandbox_runtime")

from sandbox_runtime import program, rlimits, variables  # noqa: E402

role = sys.argv[1]
if role == "supervisor":
    from sandbox_runtime.pod import supervisor

    supervisor.main()
if role == "zygote":
    from sandbox_runtime import search_paths

    if refusal := search_paths.refusal(os.environ):
        sys.exit(refusal)  # the kubelet keeps it as the container's last word
    # What the image and the cluster put into the environment is not the programs' business, and /proc would show it.
    rlimits.limit_stack(rlimits.THREAD_STACK_BYTES)
    command = [sys.executable, os.path.abspath(__file__), "loading", sys.argv[2]]
    os.execve(sys.executable, command, variables.of_programs(sys.executable))  # noqa: S606  # no shell, our own words

from sandbox_runtime.pod import zygote  # noqa: E402

to_run = zygote.main(json.loads(sys.argv[2]), BARE_MODULES)
program.run_when_the_stack_is_empty(to_run)
del to_run
