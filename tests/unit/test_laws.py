"""What may import what (ARCHITECTURE.md): each law is one test, and each test reads the source and runs none of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import source_tree as tree

RUNTIME = "sandbox-runtime"
COMMANDS = "client/code_interpreter_client/command_line"
LAUNCHER = "pool/local/launcher"
PURE = [
    "broker/digest.py",
    "broker/errors.py",
    "broker/output_log.py",
    "broker/schemas.py",
    "client/code_interpreter_client/retrying.py",
    "client/code_interpreter_client/values.py",
    "pool/errors.py",
    "pool/kube/channels.py",
    "pool/kube/mirror.py",
    "pool/kube/manifest.py",
    "pool/kube/pods.py",
    "pool/kube/session_key.py",
    "pool/kube/session_pods.py",
    "pool/kube/witness.py",
    "pool/ledger.py",
    "pool/local/policy.py",
    "pool/policy.py",
    "pool/shared_session.py",
    "pool/snapshot.py",
    "pool/states.py",
    "pool/transcript.py",
    "sandbox-runtime/sandbox_runtime/wire.py",
]
# What does I/O, reads a clock, rolls dice or starts a task.
# fmt: off
IMPURE = {
    "aiohttp", "anyio", "asyncio", "click", "concurrent", "ctypes", "datetime", "fcntl", "glob", "http",
    "kubernetes_asyncio", "logging", "mmap", "multiprocessing", "obstore", "os", "pathlib", "prometheus_client",
    "queue", "random", "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "starlette",
    "structlog", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "uvicorn", "uvloop",
}
# fmt: on
WRITTEN = {".py", ".md", ".yaml", ".yml", ".tpl", ".toml", ".sh"}
READS_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
WRITES_ENVIRONMENT = {"clear", "pop", "update"}


def offenders(folder: str, *allowed: str) -> list[str]:
    """Return what a folder's files import at run time beside the standard library and the packages allowed."""
    return [
        f"{tree.shown(path)}:{found.line} imports {found.module}"
        for path in tree.python_files(folder)
        for found in tree.imports(path, typing_too=False)
        if found.top not in sys.stdlib_module_names and not found.is_within(*allowed)
    ]


def importers(top: str, *folders: str) -> list[str]:
    files = tree.python_files(*folders)
    return [tree.shown(path) for path in files if any(found.is_within(top) for found in tree.imports(path))]


def test_the_runtime_needs_only_the_standard_library():
    # It must run in any image that has a Python >= 3.9.
    assert offenders(f"{RUNTIME}/sandbox_runtime", "sandbox_runtime") == []


def test_the_client_needs_httpx_and_nothing_of_the_service():
    # Whoever calls the service must not have to install it. anyio comes with httpx.
    assert offenders("client", "code_interpreter_client", "httpx", "anyio", "click") == []
    assert [user for user in importers("click", "client") if not user.startswith(f"{COMMANDS}/")] == []


def test_whoever_imports_the_client_does_not_load_its_command_line():
    inside = importers("code_interpreter_client.command_line", "client")
    assert [user for user in inside if not user.startswith(f"{COMMANDS}/")] == []


def test_the_launcher_needs_only_the_standard_library_and_the_runtime():
    # Its templates are forked by the hundred and run what programs import: none of the service may come along.
    # It is loaded as `launcher`, by its folder (start.py), and imports itself by that name or relatively.
    assert offenders(LAUNCHER, "sandbox_runtime", "launcher", "pool.local.launcher") == []


def closure(path: Path, seen: set[Path]) -> set[Path]:
    """Return a file and every module of ours that it imports, however far down."""
    if path not in seen:
        seen.add(path)
        for target in tree.own_modules(path):
            closure(target, seen)
    return seen


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_touches_nothing(name):
    assert (tree.ROOT / name).is_file()
    touched = [
        f"{tree.shown(path)}:{found.line} imports {found.module}"
        for path in closure(tree.ROOT / name, set())
        for found in tree.imports(path, typing_too=False)
        if found.top in IMPURE
    ]
    assert touched == []


def test_the_pool_knows_no_http_and_no_broker():
    tops = ("broker", "code_interpreter_client", "starlette", "prometheus_client", "uvicorn")
    assert {top: importers(top, "pool") for top in tops if importers(top, "pool")} == {}


def test_the_broker_uses_only_public_names_of_the_pool():
    public = {package: tree.public_names(package) for package in ("pool", "pool.kube", "pool.local")}
    misuses = [
        f"{tree.shown(path)}:{found.line} takes {found.name} from {found.module}"
        for path in tree.python_files("broker")
        for found in tree.imports(path)
        if found.top == "pool" and found.name not in public.get(found.module, ())
    ]
    assert misuses == []


def test_only_the_broker_imports_starlette():
    assert importers("starlette", "pool", RUNTIME) == []


def test_only_the_kubernetes_backend_imports_its_client():
    users = importers("kubernetes_asyncio", "broker", "pool", RUNTIME)
    assert [user for user in users if not user.startswith("pool/kube/")] == []


def test_a_supervisor_starts_without_what_few_become():
    # Each pod's is exec'd anew, and loads a session's modules in two milliseconds.
    words = (
        "import sys, sandbox_runtime.pod.supervisor; print([name for name in sys.modules if name.endswith('session')])"
    )
    command = [sys.executable, "-S", "-c", words]
    environment = {"PYTHONPATH": str(tree.HOMES["sandbox_runtime"])}
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"[]\n"


def written_files() -> Iterator[Path]:
    """All that people have written here: sources, documents, charts, scripts."""
    for path in tree.ROOT.iterdir():
        if not path.name.startswith("."):
            yield from path.rglob("*") if path.is_dir() else [path]


def named_tests() -> dict[str, list[str]]:
    """Test files that these name, and where."""
    found: dict[str, list[str]] = {}
    for path in written_files():
        if path.is_file() and (path.suffix in WRITTEN or path.name in ("Dockerfile", "Makefile")):
            for name in re.findall(r"\btests/[\w/]+\.py\b", path.read_text()):
                found.setdefault(name, []).append(tree.shown(path))
    return found


def test_a_test_that_is_named_exists():
    # `# SECURITY:` names the test that holds it: one that was moved or never written holds nothing.
    named = named_tests()
    assert len(named) > 50
    assert {name: places for name, places in named.items() if not (tree.ROOT / name).is_file()} == {}


def environment_uses(path: Path) -> Iterator[tuple[int, bool]]:
    """Yield the line of each use of the process's environment, and whether that use only writes."""
    parents = {child: node for node in ast.walk(tree.parsed(path)) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree.parsed(path)):
        if isinstance(node, ast.Attribute) and node.attr in READS_ENVIRONMENT and ast.unparse(node.value) == "os":
            yield node.lineno, _only_writes(parents[node])
    for found in tree.imports(path):
        if found.module == "os" and found.name in READS_ENVIRONMENT:
            yield found.line, False


def _only_writes(parent: ast.AST) -> bool:
    if isinstance(parent, ast.Subscript):
        return isinstance(parent.ctx, ast.Store | ast.Del)
    return isinstance(parent, ast.Attribute) and parent.attr in WRITES_ENVIRONMENT


def test_only_the_settings_read_the_environment():
    # Within a sandbox the environment is a thing to be made, never a source: its processes may write their own. The
    # client's commands have theirs from click (`envvar=`), as options that --help lists. The start of a container looks
    # whether its image's is safe, and throws it away.
    allowed = ("broker/settings.py", "sandbox-runtime/start.py")
    within = (f"{RUNTIME}/", f"{LAUNCHER}/")
    readers = [
        f"{tree.shown(path)}:{line}"
        for path in tree.python_files("broker", "client", "pool", RUNTIME)
        for line, only_writes in environment_uses(path)
        if tree.shown(path) not in allowed and not (only_writes and tree.shown(path).startswith(within))
    ]
    assert readers == []
