#!/bin/sh
# Print the path of the first Python >= 3.11 that can build a virtual environment; with none, say what to install.
# Arguments are the candidates. Without any, one under /usr comes first: every user may execute it, and a sandbox binds /usr already.

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

builds_environments() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

if [ $# -eq 0 ]; then
    set -- /usr/bin/python3 python3 python3.11 python3.12 python3.13 python3.14 \
        /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13 /usr/bin/python3.14
fi

without_venv=
for candidate in "$@"; do
    path=$(command -v "$candidate") || continue
    suits "$path" || continue
    if builds_environments "$path"; then
        echo "$path"
        exit 0
    fi
    without_venv=${without_venv:-$path}
done

if [ -n "$without_venv" ]; then
    echo "$without_venv cannot make virtual environments. On Debian: apt-get install python3-venv" >&2
else
    echo "No Python >= 3.11 among: $*. On Debian 12: apt-get install python3 python3-venv" >&2
fi
exit 1
