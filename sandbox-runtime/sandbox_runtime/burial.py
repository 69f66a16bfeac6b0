"""The death of a program's modules, as at the end of the interpreter (`finalize_modules`, Python/pylifecycle.c).

What `__del__` does then is done, and files that were left open are written. The zygote's modules stay: they hold
nothing of the program's, as a rule, and to take them down takes longer than most programs run.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without the enums, which cost 100 us
import builtins
import contextlib
import errno
import functools
import gc
import io
import itertools
import posix  # and not `os`, whose functions programs replace to shut doors (`os.kill = None`)
import sys
import types
import weakref

from sandbox_runtime import frameless

_GONE_FIRST = ("path", "argv", "ps1", "ps2", "last_type", "last_value", "last_traceback", "last_exc", "path_hooks",
               "path_importer_cache", "meta_path", "__interactivehook__")  # fmt: skip
"""Attributes of `sys` that die before the modules (`finalize_modules_delete_special`)."""

_HOOKS = ("excepthook", "unraisablehook", "displayhook", "breakpointhook")
_LASTING = (type, types.FunctionType, types.ModuleType)

FIRST_DESCRIPTOR = 3
"""The lowest that a file can have while the standard streams are open."""


class Burial:
    """Modules of one program. No reference of ours may keep alive what is to die."""

    def __init__(self, folder: str) -> None:
        """`folder` is where the program's own modules come from."""
        self._folder = folder
        self._modules_before = 0
        self._gone: dict[str, None] = {}
        self._loaders: list[weakref.ref[object]] = []

    def begin(self) -> None:
        """The modules that are there now are not the program's."""
        self._modules_before = len(sys.modules)

    def steps(self) -> tuple[frameless.Step, ...]:
        """For C to call: a `__del__` that warns, or looks at its stack, finds no frame of ours."""
        forget = functools.partial(sys.modules.update, self._gone)
        return gc.collect, self._prepare, forget, gc.collect, self._clear_survivors, flush_open_files

    def _prepare(self) -> None:
        gc.callbacks.clear()  # not called any more at this stage
        vars(builtins).pop("open", None)  # `finalize_restore_builtins_dict`
        _reset_signal_handlers()
        for name in _GONE_FIRST:
            setattr(sys, name, None)
        for name in ("stdin", "stdout", "stderr"):
            setattr(sys, name, getattr(sys, f"__{name}__", None))
        sys.is_finalizing = frameless.DONE  # `__del__` methods ask
        own = self._own_modules()
        # Without `io` tracebacks show no source lines, as is right at this stage.
        self._gone.update(dict.fromkeys([*own, "io"]))
        loaders = [module.__dict__.get("__loader__") for module in own.values()]
        self._loaders = [weakref.ref(loader) for loader in loaders if loader is not None]

    def _own_modules(self) -> dict[str, types.ModuleType]:
        """`__main__` and what came from the workspace, by name.

        Only modules imported since the fork are looked at: touching each of the zygote's 1 500 copies the page
        that it is on, 3 ms in all.
        """
        later = max(0, len(sys.modules) - self._modules_before)
        latest = [*itertools.islice(reversed(sys.modules.items()), later)]
        modules = dict([("__main__", sys.modules.get("__main__")), *reversed(latest)])
        found = {name: module for name, module in modules.items() if isinstance(module, types.ModuleType)}
        return {name: module for name, module in found.items() if name == "__main__" or self._is_own(module)}

    def _is_own(self, module: types.ModuleType) -> bool:
        return str(module.__dict__.get("__file__")).startswith(self._folder)

    def _clear_survivors(self) -> None:
        """Clear the modules that something still holds: a hook, or a function put into a module of the zygote's."""
        if any(reference() is not None for reference in self._loaders):
            _drop_hooks()
        for loader in filter(None, [reference() for reference in self._loaders]):
            for namespace in gc.get_referrers(loader):
                if isinstance(namespace, dict) and namespace.get("__loader__") is loader:
                    _clear(namespace)
        gc.collect()


def _reset_signal_handlers() -> None:
    """`_PySignal_Fini`: what handlers hold dies with the rest."""
    for number in range(1, _signal.NSIG):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)


def _drop_hooks() -> None:
    """`sys` dies last, and with it what its hooks hold, when nothing can be printed any more."""
    changed = [name for name in _HOOKS if getattr(sys, name, None) is not getattr(sys, f"__{name}__", None)]
    if changed:
        sys.stdout = sys.stderr = None
        for name in changed:
            setattr(sys, name, None)
        gc.collect()


def _clear(namespace: dict[str, object]) -> None:
    """Let the values go, last of all what a `__del__` may need: functions, classes, modules."""
    names = [name for name in namespace if name != "__builtins__"]
    for name in sorted(names, key=lambda name: isinstance(namespace[name], _LASTING)):
        namespace[name] = None


def flush_open_files() -> None:
    """Write out what files hold that something of the zygote's keeps from dying."""
    if lowest_free_descriptor() == FIRST_DESCRIPTOR:
        return
    for kind in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
        for file in gc.get_objects():
            if isinstance(file, kind):
                with contextlib.suppress(Exception):
                    file.flush()


def lowest_free_descriptor() -> int | None:
    """None when there is none. A pipe is asked for, as no audit hook of the program's hears of it."""
    try:
        ends = posix.pipe()
    except OSError as failed:
        return None if failed.errno == errno.EMFILE else FIRST_DESCRIPTOR
    for descriptor in ends:
        posix.close(descriptor)
    return min(ends)
