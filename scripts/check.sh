#!/usr/bin/env bash
# Everything that is judged without running the tests. (Stale generated files are found by a test.)
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root"
export PATH="$cache/bin:$PATH"

say "formatting"
cargo fmt --check
cargo fmt --check --manifest-path fuzz/Cargo.toml

say "lints"
cargo clippy --locked --all-targets -- -D warnings

say "documentation"
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --document-private-items

say "licences and dependencies"
if ! command -v cargo-deny >/dev/null; then
    echo "installing cargo-deny into $cache, once, in about three minutes"
    cargo install --quiet --locked cargo-deny --version 0.20.2 --root "$cache"
fi
# Advisories come from a database on the network: `cargo deny check advisories` where it can be reached.
cargo deny --locked --log-level error check --hide-inclusion-graph licenses bans sources

say "shell scripts"
if command -v shellcheck >/dev/null; then
    shellcheck --external-sources --source-path=SCRIPTDIR .ci/run scripts/*.sh
else
    echo "NOT CHECKED: shellcheck is not installed"
fi
