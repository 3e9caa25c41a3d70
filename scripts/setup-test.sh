#!/usr/bin/env bash
# Installs what the tests need and is missing: PostgreSQL's server, Chromium, compilers for C and C++, Python packages,
# Node packages.
# Quick when all is there. System packages come by apt-get, when root or with sudo that asks for no password.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root"

missing=()
need() { missing+=("$1"); }

[[ -n $(find_postgres) ]] || need postgresql
[[ -n $(find_chromium) ]] || need chromium
python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
command -v node >/dev/null || need nodejs
command -v npm >/dev/null || need npm
{ command -v cc && command -v c++; } >/dev/null || need build-essential

if ((${#missing[@]})); then
    as_root=()
    if ((EUID != 0)); then
        as_root=(sudo -n --preserve-env=DEBIAN_FRONTEND)
        sudo -n true 2>/dev/null || as_root=()
    fi
    if ! command -v apt-get >/dev/null || ((EUID != 0 && ${#as_root[@]} == 0)); then
        fail "The tests need these packages, which this script may not install: ${missing[*]}" \
            "Install them, on Debian and Ubuntu with:" \
            "    sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" \
            "(where there is no package chromium, set TEST_CHROMIUM to any Chromium or Chrome), then try again."
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

python="$(python_environment)"
if [[ ! -e $python/ready ]]; then
    say "installing the Python packages of tests/python/requirements.txt"
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r tests/python/requirements.txt
    touch "$python/ready"
fi

if ! cmp -s tests/browser/package-lock.json tests/browser/node_modules/.installed-lock; then
    say "installing the Node packages of tests/browser/package-lock.json"
    npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error
    cp tests/browser/package-lock.json tests/browser/node_modules/.installed-lock
fi
