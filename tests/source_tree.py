"""The project's own Python files and what they import, read without running them: the ground under the laws' tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Where a package's name does not say in which folder it lives.
HOMES = {"sandbox_runtime": ROOT / "sandbox-runtime", "code_interpreter_client": ROOT / "client"}


class Import(NamedTuple):
    """One imported name: `from pool import lease` is ("pool", "lease"), `import os.path` is ("os.path", None)."""

    module: str
    name: str | None
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def is_within(self, *packages: str) -> bool:
        return any(self.module == package or self.module.startswith(f"{package}.") for package in packages)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def python_files(*folders: str) -> list[Path]:
    # A law over a folder that was renamed would hold for ever.
    assert all((ROOT / folder).is_dir() for folder in folders), folders
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    """Return the dotted name under which a file is imported."""
    home = next((home for home in HOMES.values() if path.is_relative_to(home)), ROOT)
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_file(name: str) -> Path | None:
    """Return the file of one of our modules; None for a package and for whatever is not ours."""
    path = HOMES.get(name.partition(".")[0], ROOT).joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def imports(path: Path, typing_too: bool = True) -> Iterator[Import]:
    """Yield every import of a file, wherever it stands, with relative ones made absolute.

    Without `typing_too` those below `if TYPE_CHECKING:` are left out: they do not happen when the file runs.
    """
    for node in _walk(parsed(path), typing_too):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(path, node)
            yield from (Import(source, alias.name, node.lineno) for alias in node.names)


def _walk(node: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    yield node
    is_for_typing = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    inside = (
        node.orelse if isinstance(node, ast.If) and is_for_typing and not typing_too else ast.iter_child_nodes(node)
    )
    for child in inside:
        yield from _walk(child, typing_too)


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, node.module] if node.module else package)


def own_modules(path: Path) -> Iterator[Path]:
    """Yield the files of ours that a file imports. Packages are left out: their __init__ is a list of names."""
    for found in imports(path, typing_too=False):
        for name in (found.module, f"{found.module}.{found.name}"):
            if (target := module_file(name)) is not None:
                yield target


def public_names(package: str) -> set[str]:
    """Return the __all__ of a package, as its __init__.py spells it out."""
    for node in parsed(ROOT.joinpath(*package.split("."), "__init__.py")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()
