"""What a template loads before a request comes: what an operator asked for is there, or the start says why not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from pool.errors import SandboxStartFailed
from pool.local import USUAL_PRELOAD, ProgramEnvironment, find_environment, local_backend
from pool.local.policy import UpkeepPolicy
from pool.settings import RunLimits
from tests.local_backends import Dialogue, eventually, keepers, output_of, sandbox_of, templates
from tests.local_backends import local_backend as running
from tests.sandboxes import PROGRAMS

MODULES = {
    "fine": "VALUE = 42",
    "threaded": """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    """,
    "raising": "raise ValueError('not today')",
    "leaving": "import sys; sys.exit('goodbye')",
    "crashing": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "lacking": "import something_that_is_not_there",
    "hanging": """
        import threading
        threading.Event().wait()
    """,
    "moody": """
        import os, sys, threading
        if os.path.exists(os.path.join(sys.prefix, "be moody")):
            threading.Event().wait()
    """,
    "x" * 65: "",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> ProgramEnvironment:
    """A small one, with modules that do what modules do."""
    folder = tmp_path_factory.mktemp("programs")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name, source in MODULES.items():
        packages.joinpath(f"{name}.py").write_text(textwrap.dedent(source))
    return find_environment(str(folder))


async def refusal(environment: ProgramEnvironment, *preload: str, policy: UpkeepPolicy | None = None) -> str:
    """Why a backend with these modules does not start; nothing is left of it."""
    changed = {"environment": environment, "policy": policy or UpkeepPolicy()}
    with pytest.raises(SandboxStartFailed) as refused:
        async with running(preload=preload, changed=changed):
            pass
    assert keepers() == []
    return str(refused.value)


async def test_what_was_asked_for_is_loaded_and_told_in_the_hello(environment: ProgramEnvironment):
    async with (
        running(preload=["fine", "json.tool"], changed={"environment": environment}) as backend,
        sandbox_of(backend) as sandbox,
    ):
        hello = await Dialogue(sandbox.channel).hello()
    assert hello.preloaded == ["fine", "json.tool"]


async def test_what_is_loaded_is_loaded_in_a_program(environment: ProgramEnvironment):
    async with (
        running(preload=["fine"], changed={"environment": environment}) as backend,
        sandbox_of(backend) as sandbox,
    ):
        assert await output_of(sandbox, "import sys, fine; print(fine.VALUE)") == "42\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nunpy", "nunpy cannot be preloaded: No module named 'nunpy'"),
        ("lacking", "lacking cannot be preloaded: No module named 'something_that_is_not_there'"),
        ("raising", "raising cannot be preloaded: ValueError: not today"),
        ("leaving", "leaving cannot be preloaded: SystemExit: goodbye"),
        ("threaded", "threaded starts threads (2 run): a fork takes only one along, so it cannot be preloaded"),
        ("crashing", "the template has ended"),
        ("fine.no", "fine.no cannot be preloaded: No module named 'fine.no'; 'fine' is not a package"),
        (".fine", ".fine cannot be preloaded: TypeError"),
        ("x" * 65, "at most 64 modules of 64 characters each can be preloaded"),
    ],
    ids=lambda text: text[:12],
)
async def test_a_module_that_cannot_be_loaded_stops_the_start_and_is_named(
    environment: ProgramEnvironment, name: str, reason: str
):
    assert reason in await refusal(environment, "fine", name)


async def test_a_module_that_hangs_stops_the_start_too(environment: ProgramEnvironment):
    said = await refusal(environment, "hanging", policy=UpkeepPolicy(load_seconds=0.5))
    assert said == "the template gave no answer within 0.5 s"


async def test_the_usual_ones_may_be_absent_and_the_hello_tells(environment: ProgramEnvironment):
    changed = {"environment": environment, "preload_if_there": ("numpy", "fine", "lacking")}
    async with running(changed=changed) as backend, sandbox_of(backend) as sandbox:
        hello = await Dialogue(sandbox.channel).hello()
    assert hello.preloaded == ["fine"]


async def test_a_usual_one_that_is_broken_stops_the_start(environment: ProgramEnvironment):
    with pytest.raises(SandboxStartFailed, match="raising cannot be preloaded"):
        async with running(changed={"environment": environment, "preload_if_there": ("raising",)}):
            pass


@pytest.mark.parametrize(
    ("preload", "needed", "if_there"),
    [(USUAL_PRELOAD, (), USUAL_PRELOAD), (("numpy",), ("numpy",), ()), ((), (), ())],
)
def test_only_what_nobody_asked_for_may_be_absent(
    preload: tuple[str, ...], needed: tuple[str, ...], if_there: tuple[str, ...]
):
    backend = local_backend(
        environment=find_environment(PROGRAMS), preload=preload, limits=RunLimits(), allow_no_isolation=True
    )
    assert (backend._plan.preload, backend._plan.preload_if_there) == (needed, if_there)


async def test_a_new_template_that_hangs_is_ended_and_the_old_one_goes_on(environment: ProgramEnvironment):
    mood = Path(environment.trees[0], "be moody")
    policy = UpkeepPolicy(load_seconds=0.3, renew_forks=1, first_pause_seconds=0.01)
    async with running(preload=["moody"], changed={"environment": environment, "policy": policy}) as backend:
        (older,) = templates()
        await anyio.Path(mood).touch()
        async with sandbox_of(backend) as sandbox:
            await eventually(lambda: len(templates()) == 2)
            await eventually(lambda: templates() == [older])
            assert await output_of(sandbox, "print(1)") == "1\n"
        assert backend.generation() == 1
        await anyio.Path(mood).unlink()
        await eventually(lambda: backend.generation() == 2)
