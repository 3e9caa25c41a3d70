#!/usr/bin/env bash
# Fuzzes each target for some seconds, 12 unless the first argument says otherwise, from the corpus that is checked in;
# further arguments name the targets. What is found is printed so that it can be tried again, and nothing is kept.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root"
export PATH="$cache/bin:$PATH"

seconds="${1:-12}"
targets=("${@:2}")
((${#targets[@]})) || targets=(frames commands tokens sources settings search)

if ! command -v cargo-fuzz >/dev/null; then
    echo "installing cargo-fuzz into $cache, once, in about two minutes"
    cargo install --quiet --locked cargo-fuzz --version 0.13.2 --root "$cache"
fi

folder="$(mktemp -d /var/tmp/tidings-fuzz.XXXXXX)"
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# There is no unsafe code for a sanitizer to watch, and without one a stable toolchain does.
build=(--dev --sanitizer none)
triple="$(rustc -vV | sed -n 's/^host: //p')"
say "building the fuzzers"
# cargo-fuzz itself can't be told to keep to the lock file.
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
cargo fuzz build "${build[@]}" --target "$triple" --target-dir "$target_dir"

# Fuzzes one target in a folder of its own, which the server of `commands` has its database in as well.
fuzz() {
    mkdir "$folder/$1"
    cp -r "fuzz/corpus/$1" "$folder/$1/corpus"
    TMPDIR="$folder/$1" "$target_dir/$triple/debug/$1" -max_total_time="$seconds" -timeout=60 \
        -artifact_prefix="$folder/$1/" "$folder/$1/corpus" >"$folder/$1/log" 2>&1
}

failed=()
for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds s"
    if fuzz "$target"; then
        tail -n 1 "$folder/$target/log"
        continue
    fi
    failed+=("$target")
    grep -a -A 5 panicked "$folder/$target/log" || tail -n 30 "$folder/$target/log"
    for input in "$folder/$target"/{crash,timeout,oom,leak}-*; do
        [[ -e $input ]] || continue
        printf '\n%s fails on: %q\nTo try it again:\n' "$target" "$(tr -d '\0' <"$input")"
        printf "    echo '%s' | base64 -d >input\n" "$(base64 -w 0 "$input")"
        printf '    cargo fuzz run %s %s input\n' "${build[*]}" "$target"
    done
done
((${#failed[@]} == 0)) || fail "" "FAILED: ${failed[*]}"
