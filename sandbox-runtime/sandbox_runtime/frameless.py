"""Calls that the interpreter's C code makes: what is called finds no frame of ours below its own.

A program may look at its own stack (`inspect.stack()`, `warnings.warn(stacklevel=2)`, an `atexit` callback
that logs its caller), and what it finds there must be what `python /workspace/__main__.py` shows.
"""

from __future__ import annotations

import codecs
import functools
import io
import operator
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    Step = Callable[[], object]
    Call = functools.partial[Any]

DONE: Call = functools.partial(bool, True)
"""Ends a list of calls for `calls`."""


def calls(listed: list[Call]) -> Step:
    """Something that makes the calls in a list, as it is then, up to the first that raises or returns something true.

    The list ends with DONE: a StopIteration that comes out is then one that a call raised.
    """
    return functools.partial(next, filter(None, map(functools.partial.__call__, listed)))


def in_turn(*steps: Step) -> Step:
    """Something that calls each of the steps, whatever the others raise; it raises what they did in the end."""
    # The first is called at the least depth: it is the program, and its recursion limit is counted from there.
    return functools.reduce(lambda later, earlier: _both(earlier, later), reversed(steps))


class _Both(io.BufferedReader):
    """Its `close` is a try/finally in C: it calls `self.flush()`, puts aside what that raises, calls `raw.close()`,
    and makes the one exception the context of the other (Modules/_io/bufferedio.c, the same from 3.9 to 3.13)."""

    def __del__(self) -> None:
        """Not close, which would do everything again."""


def _both(first: Step, then: Step) -> Step:
    raw: Any = types.SimpleNamespace(closed=False, readable=DONE, close=then)
    both = _Both(raw, 1)
    both.flush = first  # type: ignore[assignment]
    return both.close


class _Net(StopIteration):
    """Raised after a step, to find what that one raised in its context. `next` drops it."""


def caught(step: Step, receive: Callable[[BaseException | None], object], *between: Step) -> Step:
    """Something that calls a step, then those between, then `receive` with what the first raised or None."""
    net = _Net()

    def hand_over() -> None:
        error, net.__context__ = net.__context__, None
        receive(error)

    # `strict_errors` is the C function that raises what it is given.
    thrown = _both(step, functools.partial(codecs.strict_errors, net))  # type: ignore[arg-type]
    return functools.partial(next, iter(functools.reduce(_both, [*between, hand_over], thrown), DONE), None)


class _Blaming(functools.partial):  # type: ignore[type-arg]
    """A call that shows itself as something else."""

    blamed: object

    def __repr__(self) -> str:
        return repr(self.blamed)


class _Dropped(tuple):  # type: ignore[type-arg]
    """Calls what it holds when it dies; what that raises is reported by the interpreter."""

    __slots__ = ()
    __del__ = property(operator.itemgetter(0))
    __bool__ = staticmethod(functools.partial(bool, False))


def unraisable(step: Step, blamed: object) -> Step:
    """Something that calls a step whose exception is only reported: "Exception ignored in: <blamed>"."""
    call = _Blaming(step)
    call.blamed = blamed
    return functools.partial(_Dropped, [call])  # what it makes is dropped at once
