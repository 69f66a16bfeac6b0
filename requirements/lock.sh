#!/bin/sh
# Renew the lock files: every pin for CPython >= 3.11 on x86_64 and aarch64, with hashes and without URLs.
# Arguments go to the resolver: `--upgrade` takes the newest versions, `--upgrade-package NAME` one of them.
set -eu
cd "$(dirname "$0")/.."

python=$(sh requirements/choose-python.sh)
[ -x .lock-venv/bin/uv ] || { "$python" -m venv .lock-venv && .lock-venv/bin/python -m pip install --quiet uv; }

lock() {
    .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header "$@"
}

lock "$@" --extra server --constraints requirements/constraints.in pyproject.toml requirements/build.in --output-file requirements/server.lock
# Whoever installs the client alone gets the versions that the tests ran with.
lock "$@" --constraints requirements/server.lock pyproject.toml --output-file requirements/client.lock
# The constraint keeps the tests on the versions that are served.
lock "$@" --extra server --extra dev --constraints requirements/server.lock \
    pyproject.toml requirements/build.in --output-file requirements/dev.lock
lock "$@" requirements/programs.in --output-file requirements/programs.lock
