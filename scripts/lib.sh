# shellcheck shell=bash
# What the scripts share. Sourced, never run.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tidings"
# shellcheck disable=SC2034 # used by those who source this
target_dir="${CARGO_TARGET_DIR:-$root/target}"

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The folder with initdb and pg_ctl of the newest PostgreSQL on this machine, or nothing.
find_postgres() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -rV) \
        "$(dirname "$(command -v initdb 2>/dev/null)")"; do
        if [[ -x $folder/initdb && -x $folder/pg_ctl ]]; then
            echo "$folder"
            return
        fi
    done
}

# The browser the tests drive: TEST_CHROMIUM, or the first of the usual names, or nothing.
find_chromium() {
    local name
    for name in "${TEST_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [[ -n $name ]] && command -v "$name"; then
            return
        fi
    done
}

# The environment's folder is named by what is installed in it, so that a change of requirements makes a new one.
python_environment() {
    echo "$cache/python-$(sha256sum "$root/tests/python/requirements.txt" | cut -c1-16)"
}
