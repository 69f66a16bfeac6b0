#!/usr/bin/env bash
# Run the sandbox and HTTP parts of the suite as an ordinary user. Called by `make test` when that runs as root.
#
# The user gets a copy of the checkout and builds its environments itself, with the same make targets and a Python that it may
# execute. The copy is made anew each time; the environments stay in PLACE, so that only the first run pays for them.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."

readonly PLACE=/var/tmp/code-interpreter-as-user
readonly USER_ID=65100 # neither 65532 (a sandbox) nor 65534 (what an unmapped uid looks like)

folders=()
for folder in tests/contract tests/hostile tests/integration; do
    [ -z "$(find "$folder" -name 'test_*.py' -print -quit 2>/dev/null)" ] || folders+=("$folder")
done
# The edge, its clients and the store are the same whoever runs them.
left_out=()
for name in base_install client command_line command_line_files command_line_sessions every_answer flood s3; do
    left_out+=("--ignore=tests/integration/test_$name.py")
done

[ ${#folders[@]} -gt 0 ] || { echo "as_user: no tests in tests/contract, tests/hostile or tests/integration yet"; exit 0; }

# SECURITY: /var/tmp is everybody's. A folder that somebody else put there under our name is not used.
mkdir -m 755 "$PLACE" 2>/dev/null || true
if [ -L "$PLACE" ] || [ ! -O "$PLACE" ]; then
    echo "as_user: $PLACE belongs to somebody else; remove it" >&2
    exit 1
fi

exec 9>"$PLACE/lock"
flock --nonblock 9 || { echo "as_user: waiting for another run in $PLACE"; flock 9; }

# SECURITY: root writes nothing below the two folders that the user owns: a link planted there would lead it elsewhere.
for folder in home checkout; do
    [ -d "$PLACE/$folder" ] || install -d -o "$USER_ID" -g "$USER_ID" -m 755 "$PLACE/$folder"
done

as_user() {
    env --chdir="$PLACE/checkout" \
        -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u PYTHONPATH -u VIRTUAL_ENV -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_RUNTIME_DIR \
        CODE_INTERPRETER_RESIDUE_RUNS=100 HOME="$PLACE/home" USER=ordinary LOGNAME=ordinary \
        setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --inh-caps=-all "$@" 9>&-
}

echo "as_user: copying the checkout to $PLACE/checkout"
as_user find . -mindepth 1 -maxdepth 1 ! -name .venv ! -name .programs -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard | sort -zu |
    tar --create --null --files-from - --ignore-failed-read --warning=no-failed-read |
    as_user tar --extract --no-same-owner --file -

as_user make --no-print-directory environments
echo "as_user: ${folders[*]} as uid $USER_ID"
as_user .venv/bin/python -m pytest "$@" "${left_out[@]}" "${folders[@]}"
