#!/usr/bin/env bash
# Runs all tests: Rust's, on SQLite and on a PostgreSQL that lives only as long as this script, then the browser's, then
# the fuzzers for some seconds. With arguments, which are the Rust test runner's (such as a part of a name), only those.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root"

scripts/setup-test.sh

bin="$(find_postgres)"
folder="$(mktemp -d /var/tmp/tidings-test.XXXXXX)"
# PostgreSQL refuses to run as root.
as_postgres=()
if ((EUID == 0)); then
    as_postgres=(runuser -u postgres --)
    chown postgres "$folder"
fi

clean_up() {
    "${as_postgres[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "starting a private PostgreSQL"
password="$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')"
"${as_postgres[@]}" sh -c "umask 077; printf '%s\n' '$password' >'$folder/password'"
(cd "$folder" && "${as_postgres[@]}" "$bin/initdb" --pgdata=data --username=tidings --pwfile=password \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >initdb.log 2>&1) || fail "$(cat "$folder/initdb.log")"

# A free port may be taken by somebody else before the server has it, so one that does not start tries the next.
# fsync stays on: durability is one of the things under test.
for attempt in 1 2 3 4 5; do
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    if (cd "$folder" && "${as_postgres[@]}" "$bin/pg_ctl" -D data -l server.log -w -t 60 start \
        -o "-h 127.0.0.1 -p $port -c unix_socket_directories='' -c max_connections=400" >/dev/null); then
        break
    fi
    ((attempt < 5)) || fail "PostgreSQL does not start:" "$(cat "$folder/server.log")"
done

export TEST_POSTGRES_URL="postgres://tidings:$password@127.0.0.1:$port/postgres"
TEST_PYTHON="$(python_environment)/bin/python"
TEST_CHROMIUM="$(find_chromium)"
export TEST_PYTHON TEST_CHROMIUM

# The first part that fails is the last one, so that what failed is the last thing printed.
say "Rust tests"
cargo test --locked --no-fail-fast -- "$@" || fail "" "FAILED: the Rust tests"

if (($# == 0)); then
    say "browser tests"
    export TEST_TIDINGS="$target_dir/debug/tidings"
    node --test tests/browser/*.test.mjs || fail "" "FAILED: the browser tests"

    scripts/fuzz.sh
fi
say "all tests passed"
