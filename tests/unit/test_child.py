"""What a child does before its request comes. All else: tests/contract and tests/hostile."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import pytest

from sandbox_runtime import child
from tests.unit import confined


def test_openssl_is_given_new_randomness_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch):
    """SECURITY: it would not notice a fork whose pid is the template's, and all children would draw the same."""
    given: list[tuple[bytes, float]] = []
    monkeypatch.setitem(sys.modules, "ssl", SimpleNamespace(RAND_add=lambda *words: given.append(words)))

    child._forget_the_past()
    child._forget_the_past()

    assert [(len(seed), entropy) for seed, entropy in given] == [(32, 32), (32, 32)]
    assert given[0][0] != given[1][0]


DRAWN_BY_FORKS = """
import ssl
from sandbox_runtime import child
def drawn():
    "By a fork that is the first of a PID namespace, as this process is."
    reading, writing = os.pipe()
    if (between := os.fork()) == 0:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        if os.fork() == 0:
            if arguments[0]:
                child._forget_the_past()
            os.write(writing, ssl.RAND_bytes(8))
        else:
            os.wait()
        os._exit(0)
    os.waitpid(between, 0)
    return os.read(reading, 8).hex()
namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWPID)
if os.fork() == 0:
    ssl.RAND_bytes(1)
    answer(len({drawn() for _ in range(3)}))
    os._exit(0)
os.wait()
"""


def test_forks_with_the_pid_of_their_template_draw_anew():
    """SECURITY: a sandbox's first child may have the number that the template had where that was forked."""
    alike, anew = [confined.answer_of(DRAWN_BY_FORKS, forget) for forget in (False, True)]

    assert (alike, anew) == (1, 3)


def test_where_it_is_not_loaded_it_stays_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "ssl", raising=False)

    child._forget_the_past()

    assert "ssl" not in sys.modules


def test_random_draws_anew():
    random.seed(1)
    before = random.getrandbits(64)

    random.seed(1)
    child._forget_the_past()

    assert random.getrandbits(64) != before
