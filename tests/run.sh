#!/usr/bin/env bash
# Every test. Called by `make test`; arguments are pytest's.
#
# Tests of a cluster wait most of their time, for pods and for outages. Where one is built for them, the others run beside them
# and are shown at the end. Whoever gives arguments wants to watch: then all is one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

tests() { .venv/bin/python -m pytest "$@" tests; }

as_user() { [ "$(id -u)" != 0 ] || bash tests/as_user.sh "$@"; }

builds_a_cluster() {
    local wanted=${CODE_INTERPRETER_TEST_CLUSTER:-}
    [ -n "$wanted" ] || [ "${CI:-}" != true ] || wanted=build
    [ "$wanted" = build ] && [ "$(id -u)" = 0 ]
}

if [ $# -gt 0 ] || ! builds_a_cluster; then
    tests "$@"
    as_user "$@"
    exit
fi

tests/cluster/cluster build # uses every core: not beside tests that look at the clock

log=$(mktemp)
set -m # a process group of its own, to end with us
(tests -m "not cluster" && as_user) </dev/null >"$log" 2>&1 &
set +m
readonly beside=$! log
# shellcheck disable=SC2317 # the trap calls it
show_the_other() {
    kill -- "-$beside" 2>/dev/null || true # it has ended, where nobody interrupts
    cat "$log"
    rm -f "$log"
}
trap show_the_other EXIT

status=0
tests -m cluster || status=$?
wait $beside || status=$?
exit $status
